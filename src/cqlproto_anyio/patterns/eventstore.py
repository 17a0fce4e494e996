"""An event store: streams of events with dense versions, appended by compare and set."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from cqlproto_anyio.patterns._arguments import Clock, Seconds, integer, now, seconds, text, utc_now
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import CorruptPayload
from cqlproto_anyio.patterns._eventappend import Appender
from cqlproto_anyio.patterns._eventlog import Event, Log, NewEvent, Reader
from cqlproto_anyio.patterns._identifiers import MAX_NAME, identifier
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._retry import Backoff
from cqlproto_anyio.patterns._schema import TableSchema, create

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from cqlproto_anyio.executor import Executor

__all__ = ["Event", "EventStore", "NewEvent", "Position"]

S = TypeVar("S")


class EventStore:
    """Streams of events: ``await store.append("order-7", [NewEvent("created", {"total": 5})])``.

    Guarantee: the versions of a stream are 1, 2, .. without gaps. The events of an append are
    stored together or not at all. An append whose reply is lost is settled. An event whose id is
    stored already is not stored again: appending the same events again returns their version. That
    holds always if ``expected_version`` is the same, and otherwise for at least the latest
    ``partition_size`` events.

    Not guaranteed: an order between streams; that a reader at a low consistency sees the newest
    events. A reader that finds a gap, because a replica lags, raises EventsMissing.

    Cost: an append is one LWT for all its events, up to 45,000 bytes; one read before it if no
    version is expected and the head isn't known, or the stream has several partitions. A partition
    that begins costs up to two reads and two writes more. A refused append has cost one LWT.

    Tables: ``events`` (a row and a mark for each event; a partition for ``partition_size`` events),
    ``events_snapshots`` (a row per snapshot), ``events_positions`` (a row per reader and stream).

    Arguments:
        table: the table of the events; the other tables begin with its name. 38 characters at most.
        codec: the codec of ``data``; BYTES and ``msgspec_codec(..)`` are others.
        partition_size: how many events a partition has, about. It decides where an event is, so it
            must be the same for all programs and for ever; else SchemaMismatch is raised.
        max_retries: how often an append without expected version tries again after lost races.
        clock: the clock of ``recorded_at``.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "events",
        codec: Codec = JSON,
        partition_size: int = 10_000,
        max_retries: int = 100,
        clock: Clock = utc_now,
    ) -> None:
        integer("partition_size", partition_size, least=1)
        self._session = session
        self._clock = clock
        self._log = Log(keyspace, table, codec, partition_size)
        self._appender = Appender(session, self._log, 1 + integer("max_retries", max_retries))
        self._tables = _tables(keyspace, table, self._log)
        _, snapshots, self._positions = (each.name for each in self._tables)
        self._snapshot = f"SELECT version, state FROM {snapshots} WHERE stream = :stream LIMIT 1"
        self._save = f"INSERT INTO {snapshots} (stream, version, state)"
        self._save += " VALUES (:stream, :version, :state)"
        self._prune = f"DELETE FROM {snapshots} WHERE stream = :stream AND version < :version"

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "events") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return tuple(each.cql() for each in _tables(keyspace, table, Log(keyspace, table, JSON, 1)))

    async def create_schema(self) -> None:
        """Create the tables that don't exist, and wait until all nodes know them.

        Raises:
            SchemaMismatch: a table of such a name has another shape.
        """
        await create(self._session, self._tables)

    # -- appending

    async def append(
        self, stream: str, events: Sequence[NewEvent], *, expected_version: int | None = None
    ) -> int:
        """Append events to a stream, all of them or none.

        Arguments:
            expected_version: the version that the stream must have; 0 for a new stream. None to
                append after whatever is there.

        Returns:
            the version of the last of these events.

        Raises:
            ConcurrencyError: the stream has another version; nothing was appended.
            DuplicateEvent: some of the events are stored already, others are not.
            OutcomeUnknown: it isn't known whether the events were appended; appending the same
                events again is safe.
            InvalidInput: an argument is wrong, or the events don't fit one batch.
        """
        text("stream", stream)
        rows = self._log.encode(stream, events, now(self._clock))
        if expected_version is None:
            return await self._appender.append(stream, rows)
        version = integer("expected_version", expected_version)
        return await self._appender.append_at(stream, rows, version)

    async def version(self, stream: str) -> int:
        """Return the version of a stream, which is the number of its events; 0 for a new one."""
        return (await self._appender.head(text("stream", stream))).version

    # -- reading

    def read(
        self, stream: str, *, from_version: int = 0, to_version: int | None = None
    ) -> AsyncIterator[Event]:
        """Iterate over the events of a stream, in order, page by page.

        Both versions are included; without ``to_version`` it reads to the end.

        Raises:
            EventsMissing: a version is missing (while iterating).
            CorruptPayload: a payload can't be decoded (while iterating).
            InvalidInput: an argument is wrong.
        """
        first = max(1, integer("from_version", from_version))
        last = None if to_version is None else integer("to_version", to_version)
        return Fetched(Reader(self._session, self._log, text("stream", stream), first, last).fetch)

    def follow(
        self, stream: str, *, after: int = 0, min_delay: Seconds = 0.05, max_delay: Seconds = 2.0
    ) -> AsyncIterator[Event]:
        """Iterate over the events of a stream, and wait for new ones, until the task is cancelled.

        Polls, with pauses that grow while nothing comes. After an error, iterating may go on: the
        next event is the one that would have come.

        Arguments:
            after: begin after this version.
            min_delay, max_delay: the shortest and the longest pause: a timedelta or seconds.

        Raises:
            EventsMissing: a version is missing, and stays missing (while iterating).
            CorruptPayload: a payload can't be decoded (while iterating).
            InvalidInput: an argument is wrong.
        """
        first = 1 + integer("after", after)
        least = seconds("min_delay", min_delay, least=0.001)
        pauses = Backoff(first=least, longest=seconds("max_delay", max_delay, least=least))
        reader = Reader(self._session, self._log, text("stream", stream), first, pauses=pauses)
        return Fetched(reader.fetch)

    def position(self, name: str) -> Position:
        """Return how far a reader of this name has come in each stream."""
        return Position(self._session, self._positions, text("name", name))

    # -- snapshots

    async def load(
        self, stream: str, fold: Callable[[S, Event], S], *, initial: S, codec: Codec | None = None
    ) -> tuple[S, int]:
        """Return the state of a stream and its version, from the newest snapshot on.

        Arguments:
            fold: takes a state and the next event, and returns the next state.
            initial: the state of an empty stream.
            codec: the codec of the snapshot; by default that of the store. If it decodes a dict and
                ``initial`` is a dataclass, the dict has its fields.

        Raises:
            CorruptPayload: the snapshot, or an event, can't be decoded.
            EventsMissing: a version is missing.
        """
        text("stream", stream)
        state, version = initial, 0
        row = (await self._session.execute(self._snapshot, {"stream": stream})).first()
        if row is not None:
            version = row["version"]
            where = f"snapshot {version} of stream {stream!r}"
            state = _restored(initial, (codec or self._log.codec).load(where, row["state"]), where)
        async for event in self.read(stream, from_version=version + 1):
            state, version = fold(state, event), event.version
        return state, version

    async def save_snapshot(
        self, stream: str, version: int, state: Any, *, codec: Codec | None = None
    ) -> None:
        """Save the state of a stream at a version, and delete older snapshots.

        Load it with the same codec.
        """
        key = {"stream": text("stream", stream), "version": integer("version", version, least=1)}
        payload = (codec or self._log.codec).dump("state", state)
        await self._session.execute(self._save, {**key, "state": payload}, idempotent=True)
        await self._session.execute(self._prune, key, idempotent=True)


def _tables(keyspace: str, table: str, log: Log) -> tuple[TableSchema, ...]:
    identifier("table", table, most=MAX_NAME - len("_snapshots"))
    snapshots = {"stream": "text", "version": "bigint", "state": "blob"}
    positions = {"name": "text", "stream": "text", "version": "bigint"}
    return (
        log.schema,
        TableSchema(
            keyspace, f"{table}_snapshots", snapshots, key=("stream",), clustering=("version desc",)
        ),
        TableSchema(keyspace, f"{table}_positions", positions, key=("name", "stream")),
    )


def _restored(initial: S, state: Any, where: str) -> S:
    if isinstance(state, dict) and dataclasses.is_dataclass(initial):
        make: Any = type(initial)
        try:
            state = make(**state)
        except TypeError as exc:
            raise CorruptPayload(where, exc) from exc
    restored: S = state
    return restored


class Position:
    """How far a reader has come, by stream; it survives restarts, and never goes back.

    Saving costs one LWT, the first one of a stream two. Saving again does no harm.
    """

    def __init__(self, executor: Executor, table: str, name: str) -> None:
        self._executor = executor
        self._name = name
        where = "WHERE name = :name AND stream = :stream"
        self._load = f"SELECT version FROM {table} {where}"
        self._save = f"UPDATE {table} SET version = :version {where} IF version"

    async def load(self, stream: str) -> int:
        """Return the version that was saved last; 0 if none was. One read."""
        values = {"name": self._name, "stream": text("stream", stream)}
        return (await self._executor.execute(self._load, values)).scalar(default=0) or 0

    async def save(self, stream: str, version: int) -> None:
        """Save the version of the last event that was handled, unless a later one is saved."""
        values: dict[str, Any] = {"name": self._name, "stream": text("stream", stream)}
        values["version"] = integer("version", version)
        for condition in ("< :version", "= null"):
            result = await self._executor.execute(f"{self._save} {condition}", values)
            if result.applied or (result.existing or {}).get("version") is not None:
                return
