"""How the event store appends: one conditional batch after the head of a stream.

A head is the version of a stream, and the partition whose static column ``head`` has it. The batch
moves the head on, if it is still where it was, and inserts the events with their marks.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import ConcurrencyError, DuplicateEvent
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._turns import Turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack
    from uuid import UUID

    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._eventlog import Log

__all__ = ["Appender", "Head"]

_KNOWN = 10_000  # how many streams' heads are remembered
_RACES = Backoff(first=0.005, longest=0.25)


class Head(NamedTuple):
    """The version of a stream, and the partition whose static column ``head`` has it."""

    version: int
    bucket: int


class Appender:
    """Appends to the streams of a table, and remembers their heads.

    An append without expected version takes part in ``attempts`` races.
    """

    def __init__(self, executor: Executor, log: Log, attempts: int) -> None:
        self._executor = executor
        self._log = log
        self._attempts = attempts
        self._heads: Known[str, Head] = Known(_KNOWN)
        self._turns = Turns()

    async def append(self, stream: str, rows: list[dict[str, Any]]) -> int:
        """Append after whatever is there; return the version of the last event."""
        async with self._turns.turn(stream):
            async for _ in Attempts(most=self._attempts, backoff=_RACES):
                head = self._heads.get(stream) or await self.head(stream)
                if (bucket := head.version // self._log.size) > 0:
                    ids = [row["id"] for row in rows]
                    place = {"stream": stream, "bucket": bucket - 1, "ids": ids}
                    marks = (await self._executor.execute(self._log.marks, place)).rows
                    if marks:
                        return _stored(stream, ids, _marked(marks))
                found = await self._try(stream, rows, head)
                if isinstance(found, int):
                    return found
                self._heads.set(stream, found)
        raise ConcurrencyError(stream, None, (await self.head(stream)).version)

    async def append_at(self, stream: str, rows: list[dict[str, Any]], version: int) -> int:
        """Append if the stream has this version; return the version of the last event."""
        serial = serial_level(self._executor)
        head = self._heads.get(stream)
        if head is None or head.version != version:
            head = Head(version, version // self._log.size)
            if version and version % self._log.size == 0:  # the partition hasn't begun
                head = await self.head(stream, consistency=serial)
        for _ in range(2):
            if head.version != version:
                break
            found = await self._try(stream, rows, head)
            if isinstance(found, int):
                return found
            if found is None or found.version // self._log.size > found.bucket:
                # the partition is empty, since an earlier append has filled the one before; or it
                # is full, and the head is in a later one
                found = await self.head(stream, consistency=serial)
            head = found
        self._heads.set(stream, head)
        raise ConcurrencyError(stream, version, head.version)

    async def _try(self, stream: str, rows: list[dict[str, Any]], head: Head) -> int | Head | None:
        """Append after a head; return the version, or the head that the partition has instead."""
        log, ids = self._log, [row["id"] for row in rows]
        bucket, last = head.version // log.size, head.version + len(rows)
        before = head.version if head.version and bucket == head.bucket else None

        def verdict(found: Rows) -> Verdict:
            stored = _marked(found)
            if stored.get(ids[0]) == head.version + 1:
                return Verdict.APPLIED
            moved = bool(found) and (found[0]["head"], found[0]["size"]) != (before, log.size)
            return Verdict.REFUSED if stored or moved else Verdict.OPEN

        place = {"stream": stream, "bucket": bucket, "head": last, "before": before, "ids": ids}
        place["size"] = log.size
        statements = [bound(log.begin if before is None else log.advance, place)]
        for version, row in enumerate(rows, head.version + 1):
            values = {**place, **row, "version": version}
            statements += bound(log.insert, values), bound(log.mark, values)
        outcome = await conditional_write(
            self._executor,
            statements,
            operation=ids[0],
            read=bound(log.marks, place),
            verdict=verdict,
            what=f"append to stream {stream!r}",
            refusals_tell=True,
        )
        if outcome.applied:
            self._heads.set(stream, Head(last, bucket))
            if bucket > head.bucket:
                with suppress(CQLError):  # it only makes finding the head faster
                    await self._executor.execute(log.hint, {"stream": stream, "latest": bucket})
            return last
        if stored := _marked(outcome.rows):
            return _stored(stream, ids, stored)
        log.check(outcome.row.get("size"))
        actual = outcome.row.get("head")
        return None if actual is None else Head(actual, bucket)

    async def head(self, stream: str, **options: Unpack[Options]) -> Head:
        """Find the head: by the hint in the first partition, and from there on."""
        head, bucket = Head(0, 0), 0
        while True:
            place = {"stream": stream, "bucket": bucket}
            row = (await self._executor.execute(self._log.head, place, **options)).first()
            if row is None or row["head"] is None:
                return head
            self._log.check(row["size"])
            head = Head(row["head"], bucket)
            following = max(row["latest"] or 0, head.version // self._log.size)
            if following <= bucket:
                return head
            bucket = following


def _marked(rows: Sequence[Any]) -> dict[UUID, int]:
    """Return the version of each event that is marked as stored."""
    return {row["id"]: row["at"] for row in rows if "at" in row and row["at"] is not None}


def _stored(stream: str, ids: list[UUID], stored: dict[UUID, int]) -> int:
    """Return the version of events that are all stored already."""
    known = [id for id in ids if id in stored]
    if len(known) < len(ids):
        raise DuplicateEvent(stream, tuple(known))
    return max(stored[id] for id in known)
