"""The log of sagas: one row for each saga, and the list of open ones.

The row of a saga has its lease as well, and is written by its holder only::

    UPDATE sagas SET status = .., results = .., version = 8 .. IF fence = 3 AND version = 7

Both only grow, so a holder that has lost the lease writes nothing more, nor does a copy that comes
late. The list of open sagas may have an id that has ended, and misses none: a holder adds the id
before the saga begins, and removes it after it has ended. Its rows have the fence as timestamp, so
that what an earlier holder does late doesn't undo what a later one has done.
"""

from __future__ import annotations

import zlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from cqlproto_anyio.patterns._arguments import Clock, now
from cqlproto_anyio.patterns._errors import CorruptPayload, InvalidInput, LockLost
from cqlproto_anyio.patterns._lease import LEASE_COLUMNS, Lease
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._sagatypes import Saga, SagaRecord, SagaStatus
from cqlproto_anyio.patterns._schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._codec import Codec

__all__ = ["Row", "SagaLog", "tables"]

Row: TypeAlias = dict[str, Any]
"""The row of a saga, by column name."""

_MOST_PAYLOAD = 1 << 20  # bytes
_MOST_RESULTS = 8 << 20  # bytes of all results of a saga; a server takes mutations of 16 MiB
_SHARDS = range(16)
_COLUMNS = {
    "status": "text",
    "step": "text",
    "data": "blob",
    "results": "frozen<list<frozen<tuple<text, blob>>>>",
    "error": "text",
    "undo_error": "text",
    "compensated": "frozen<list<text>>",
    "updated_at": "timestamp",
    "version": "bigint",
    "writer": "uuid",
}


def tables(keyspace: str, table: str) -> tuple[TableSchema, TableSchema]:
    log = {"saga": "text", "id": "text", **_COLUMNS, **LEASE_COLUMNS}
    index = {"saga": "text", "shard": "int", "id": "text"}
    options = ("gc_grace_seconds = 3600",)
    return (
        TableSchema(keyspace, table, log, key=("saga", "id")),
        TableSchema(keyspace, f"{table}_open", index, ("saga", "shard"), ("id",), (), options),
    )


class SagaLog:
    """The tables of sagas."""

    def __init__(
        self, executor: Executor, keyspace: str, table: str, codec: Codec, clock: Clock
    ) -> None:
        self.tables = tables(keyspace, table)
        self._executor = executor
        self._codec = codec
        self._clock = clock
        name, index = (each.name for each in self.tables)
        where = "WHERE saga = :saga AND id = :id"
        self._read = f"SELECT saga, id, {', '.join(_COLUMNS)}, fence FROM {name} {where}"
        self._write = (
            f"UPDATE {name} SET {', '.join(f'{each} = :{each}' for each in _COLUMNS)} {where}"
            " IF fence = :fence AND version = :before"
        )
        self._open = (
            f"INSERT INTO {index} (saga, shard, id) VALUES (:saga, :shard, :id)"
            " USING TIMESTAMP :moment"
        )
        shard = "WHERE saga = :saga AND shard"
        self._close = f"DELETE FROM {index} USING TIMESTAMP :moment {shard} = :shard AND id = :id"
        self._ids = f"SELECT saga, id FROM {index} {shard} IN :shards"

    def dump(self, name: str, value: Any) -> bytes | None:
        """Return a value as a row has it; InvalidInput if the codec can't read it again."""
        if value is None:
            return None
        payload = self._codec.dump(name, value, most=_MOST_PAYLOAD)
        try:
            self._codec.load(name, payload)
        except CorruptPayload as exc:
            raise InvalidInput(name, "a value that the codec can decode as well", value) from exc
        return payload

    def new(self, saga: Saga, id: str, data: Any) -> Row:
        """Return the row of a saga that hasn't begun."""
        row = {"saga": saga.name, "id": id, "status": "running", "step": saga.steps[0].name}
        return dict.fromkeys(_COLUMNS) | row | {"data": self.dump("data", data)}

    def results(self, row: Row, step: str, result: Any) -> list[tuple[str, bytes | None]]:
        """Return the results of a saga with that of one more step, as its row has them."""
        results = [*(row["results"] or ()), (step, self.dump(f"the result of {step!r}", result))]
        size = sum(len(payload or b"") for _, payload in results)
        if size > _MOST_RESULTS:
            raise InvalidInput("results", f"at most {_MOST_RESULTS:,} bytes of all steps", size)
        return results

    def record(self, row: Row) -> SagaRecord:
        """Return what a row says; its values are decoded anew each time, so nobody shares them."""
        where = f"saga {row['saga']!r} {row['id']!r}"

        def load(what: str, payload: bytes | None) -> Any:
            return None if payload is None else self._codec.load(f"{what} of {where}", payload)

        try:
            status = SagaStatus(row["status"])
        except ValueError as exc:
            raise CorruptPayload(f"the status of {where}", exc) from exc
        steps = row["results"] or ()
        results = {step: load(f"the result of {step!r}", payload) for step, payload in steps}
        begun = row["saga"], row["id"], status, row["step"], load("the data", row["data"]), results
        undone = tuple(row["compensated"] or ())
        return SagaRecord(*begun, row["error"], undone, row["updated_at"], row["undo_error"])

    async def read(self, saga: str, id: str, *, serial: bool = False) -> Row | None:
        """Return the row of a saga, or None if the log knows nothing about it."""
        options: Options = {"consistency": serial_level(self._executor)} if serial else {}
        result = await self._executor.execute(self._read, {"saga": saga, "id": id}, **options)
        row = result.first()
        return None if row is None or row["status"] is None else row._asdict()

    async def write(self, lease: Lease, row: Row, **changes: Any) -> Row:
        """Change the row of a saga; LockLost if another holder has gone on."""
        at, writer, before = now(self._clock), uuid4(), row["version"]
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as the table keeps it
        row = {**row, **changes, "updated_at": at, "writer": writer, "version": (before or 0) + 1}

        def verdict(rows: Rows) -> Verdict:
            found = rows[0] if rows else {}
            if found.get("writer") == writer:
                return Verdict.APPLIED
            same = found.get("version") == before and found.get("fence") == lease.fence
            return Verdict.OPEN if same else Verdict.REFUSED

        values = {**row, "before": before, "fence": lease.fence}
        outcome = await conditional_write(
            self._executor,
            [bound(self._write, values)],
            operation=writer,
            read=bound(self._read, values),
            verdict=verdict,
            what=f"the log of saga {row['saga']!r} {row['id']!r}",
        )
        if not outcome.applied:
            raise LockLost(lease.name, lease.fence, "another worker has gone on")
        return row

    async def list(self, saga: str, id: str, fence: int, *, ended: bool) -> None:
        """Add a saga to the list of open ones, or remove it; for the holder of its lease."""
        shard = zlib.crc32(id.encode()) % len(_SHARDS)
        values = {"saga": saga, "shard": shard, "id": id, "moment": 2 * fence + ended}
        await self._executor.execute(self._close if ended else self._open, values, idempotent=True)

    def open(self, sagas: Iterable[str]) -> Fetched[tuple[str, str]]:
        """Iterate over the names and ids in the list of open sagas."""
        stream = partial(self._executor.stream, self._ids)
        left = [stream({"saga": saga, "shards": [*_SHARDS]}).pages() for saga in sagas]

        async def fetch() -> Any:
            while left and (page := await anext(left[0], None)) is None:
                del left[0]
            return page if left else None

        return Fetched(fetch)
