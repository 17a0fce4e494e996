"""How the event store lays out a stream: partitions, rows, and reading them in order.

A stream is cut into partitions of about ``size`` events. The append that begins after version n
goes as a whole into partition ``n // size``, so that it is one conditional batch, and may reach a
little into the versions of the next partition. So the partition of an append follows from n alone:
when the head of a partition has reached its end, nobody writes to it any more, and its head is
final. The first append to the next partition is made only by who has read that head.

Rows of a partition, beside the static column ``head``:

- ``version`` 1, 2, ..: the events.
- ``version`` 0: a mark for each event, by its id, with its version in ``at``. It makes sure that an
  event is appended once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio

from cqlproto_anyio.patterns._arguments import integer, text
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import EventsMissing, InvalidInput
from cqlproto_anyio.patterns._schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._retry import Backoff

__all__ = ["Event", "Follower", "Log", "NewEvent", "Position", "Reader"]

_MAX_BATCH = 45_000  # bytes; a server refuses batches of more than 50 KiB
_MOST_GAPS = 20  # polls
_ROW = 160  # bytes of an event and its mark, besides texts and payloads


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append.

    Attributes:
        type: the kind of event.
        data: what has happened, for the store's codec.
        metadata: who, why, the trace, ..: a mapping for JSON.
        id: the id, which makes the append idempotent; a new one by default.
    """

    type: str
    data: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream.

    Attributes:
        stream: the stream.
        version: its place in the stream: 1, 2, ..
        id: its id.
        type: the kind of event.
        data: what has happened.
        metadata: the metadata; empty if there was none.
        recorded_at: when it was appended, by the clock of the program that did, in UTC.
    """

    stream: str
    version: int
    id: UUID
    type: str
    data: Any
    metadata: Mapping[str, Any]
    recorded_at: datetime


class Log:
    """The table of events, its statements, and the codec of its payloads.

    Arguments:
        keyspace, table: the table.
        codec: the codec of ``Event.data``.
        size: how many events a partition has, about.
    """

    def __init__(self, keyspace: str, table: str, codec: Codec, size: int) -> None:
        self.schema = TableSchema(
            keyspace,
            table,
            {
                "stream": "text",
                "bucket": "bigint",
                "head": "bigint",
                "latest": "bigint",
                "version": "bigint",
                "id": "uuid",
                "at": "bigint",
                "type": "text",
                "data": "blob",
                "metadata": "blob",
                "recorded_at": "timestamp",
            },
            key=("stream", "bucket"),
            clustering=("version", "id"),
            static=("head", "latest"),
        )
        self.codec = codec
        self.size = size
        name = self.schema.name
        where = "WHERE stream = :stream AND bucket = :bucket"
        self.advance = f"UPDATE {name} SET head = :head {where} IF head = :before"
        self.insert = (
            f"INSERT INTO {name} (stream, bucket, version, id, type, data, metadata, recorded_at)"
            " VALUES (:stream, :bucket, :version, :id, :type, :data, :metadata, :recorded_at)"
        )
        self.mark = (
            f"INSERT INTO {name} (stream, bucket, version, id, at)"
            " VALUES (:stream, :bucket, 0, :id, :version) IF NOT EXISTS"
        )
        self.marks = (
            f"SELECT head, version, id, at FROM {name} {where} AND version = 0 AND id IN :ids"
        )
        self.head = f"SELECT head, latest FROM {name} {where} LIMIT 1"
        self.hint = f"UPDATE {name} SET latest = :latest WHERE stream = :stream AND bucket = 0"
        self.events = (
            f"SELECT version, id, type, data, metadata, recorded_at FROM {name} {where}"
            " AND version >= :version"
        )

    def encode(self, stream: str, events: Sequence[NewEvent]) -> list[dict[str, Any]]:
        """Return the values of new events, without their versions.

        Raises:
            InvalidInput: an event is wrong, or all together are too many for one batch.
        """
        if not isinstance(events, (list, tuple)) or not events:
            raise InvalidInput("events", "a list of at least one NewEvent", events)
        rows = []
        size = 0
        for index, event in enumerate(events):
            name = f"events[{index}]"
            if not isinstance(event, NewEvent):
                raise InvalidInput(name, "a NewEvent", event)
            if not isinstance(event.id, UUID):
                raise InvalidInput(f"{name}.id", "a UUID", event.id)
            if not isinstance(event.metadata, Mapping):
                raise InvalidInput(f"{name}.metadata", "a mapping", event.metadata)
            data = self.codec.dump(f"{name}.data", event.data)
            metadata = (
                JSON.dump(f"{name}.metadata", dict(event.metadata)) if event.metadata else None
            )
            kind = text(f"{name}.type", event.type)
            rows.append({"id": event.id, "type": kind, "data": data, "metadata": metadata})
            size += _ROW + 2 * len(stream.encode()) + len(kind.encode())
            size += len(data) + len(metadata or b"")
        if len({row["id"] for row in rows}) < len(rows):
            raise InvalidInput("events", "events with different ids", [row["id"] for row in rows])
        if size > _MAX_BATCH or len(rows) > self.size:
            raise InvalidInput(
                "events",
                f"at most {self.size:,} events, and {_MAX_BATCH:,} bytes for one batch (they have"
                f" about {size:,}): append them in parts",
                events,
            )
        return rows

    def decode(self, stream: str, row: Any) -> Event:
        """Return the event of a row.

        Raises:
            CorruptPayload: a payload can't be decoded.
        """
        version, id, kind, data, metadata, recorded_at = row
        where = f"event {version} of stream {stream!r}"
        return Event(
            stream,
            version,
            id,
            kind,
            self.codec.load(where, data or b""),
            {} if metadata is None else JSON.load(f"the metadata of {where}", metadata),
            recorded_at,
        )


class Reader:
    """Reads the events of a stream in order, partition after partition.

    Arguments:
        executor: the session.
        log: the table.
        stream: the stream.
        version: the first version to read, at least 1.
        last: the last version to read; None to read to the end.

    Attributes:
        version: the version that comes next.
    """

    def __init__(
        self, executor: Executor, log: Log, stream: str, version: int, last: int | None = None
    ) -> None:
        self.version = version
        self._executor = executor
        self._log = log
        self._stream = stream
        self._last = last
        # An append that began in the partition before may have reached into this one's versions.
        self._bucket = max((version - 1) // log.size - 1, 0)
        self._pages: Any = None

    async def fetch(self) -> list[Event] | None:
        """Return the next events; None at the end of the stream.

        Raises:
            EventsMissing: a version is missing.
            CorruptPayload: a payload can't be decoded.
        """
        while self._last is None or self.version <= self._last:
            if self._pages is None:
                values = {"stream": self._stream, "bucket": self._bucket, "version": self.version}
                self._pages = self._executor.stream(self._log.events, values).pages()
            try:
                rows = await anext(self._pages)
            except StopAsyncIteration:
                self._pages = None
                bucket = (self.version - 1) // self._log.size
                if bucket <= self._bucket:
                    return None
                self._bucket = bucket
                continue
            return [self._next(row) for row in rows if self._last is None or row[0] <= self._last]
        return None

    def _next(self, row: Any) -> Event:
        if row[0] != self.version:
            raise EventsMissing(self._stream, self.version, row[0])
        event = self._log.decode(self._stream, row)
        self.version += 1
        return event


class Follower:
    """Reads a stream, and polls for new events with growing pauses.

    Arguments:
        executor: the session.
        log: the table.
        stream: the stream.
        version: the first version to read.
        pauses: the pauses between polls that find nothing.
    """

    def __init__(
        self, executor: Executor, log: Log, stream: str, version: int, pauses: Backoff
    ) -> None:
        self._reading = (executor, log, stream)
        self._version = version
        self._pauses = pauses
        self._idle = 0  # polls in a row that have found nothing
        self._gaps = 0  # polls in a row that have found a gap
        self._reader: Reader | None = None

    async def fetch(self) -> list[Event]:
        """Return the next events, as soon as there are some."""
        while True:
            reader, self._reader = self._reader, None  # a read that fails is begun again
            reader = reader or Reader(*self._reading, self._version)
            try:
                events = await reader.fetch()
            except EventsMissing:
                self._gaps += 1  # a replica that lags will catch up
                if self._gaps > _MOST_GAPS:
                    raise
                events = None
            else:
                self._reader = reader
            if events:
                self._idle = self._gaps = 0
                self._version = reader.version
                return events
            if events is None:
                self._idle += 1
                await anyio.sleep(self._pauses.pause(self._idle))


class Position:
    """How far a reader has come, by stream; it survives restarts, and never goes back.

    Saving costs one LWT, the first one of a stream two.

    Arguments:
        executor: the session.
        table: the qualified and quoted name of the table.
        name: the reader.
    """

    def __init__(self, executor: Executor, table: str, name: str) -> None:
        self._executor = executor
        self._name = name
        where = "WHERE name = :name AND stream = :stream"
        self._load = f"SELECT version FROM {table} {where}"
        self._save = f"UPDATE {table} SET version = :version {where} IF version"

    async def load(self, stream: str) -> int:
        """Return the version that was saved last; 0 if none was. One read."""
        result = await self._executor.execute(self._load, self._key(stream))
        return result.scalar(default=0) or 0

    async def save(self, stream: str, version: int) -> None:
        """Save a version, unless a later one is saved already; saving it again does no harm.

        Arguments:
            stream: the name of the stream.
            version: the version of the last event that was handled.
        """
        values = {**self._key(stream), "version": integer("version", version)}
        for condition in ("< :version", "= null"):
            result = await self._executor.execute(f"{self._save} {condition}", values)
            existing = result.existing or {}
            if result.applied or existing.get("version") is not None:
                return

    def _key(self, stream: str) -> dict[str, Any]:
        return {"name": self._name, "stream": text("stream", stream)}
