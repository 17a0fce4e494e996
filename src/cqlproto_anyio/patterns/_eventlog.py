"""How the event store lays out a stream: partitions, rows, and reading them in order.

A stream is cut into partitions of about ``size`` events. The append that begins after version n
goes as a whole into partition ``n // size``, so that it is one conditional batch, and may reach a
little into the versions of the next partition. So the partition of an append follows from n alone:
when the head of a partition has reached its end, nobody writes to it any more, and its head is
final. The first append to the next partition is made only by who has read that head.

Rows of a partition, beside the static columns ``head`` and ``size`` (which every program checks):

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

from cqlproto_anyio.patterns._arguments import text
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import EventsMissing, InvalidInput, SchemaMismatch
from cqlproto_anyio.patterns._schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._retry import Backoff

__all__ = ["Event", "Log", "NewEvent", "Reader"]

_MAX_BATCH = 45_000  # bytes; a server refuses batches of more than 50 KiB
_COLUMNS = (
    "stream text, bucket bigint, head bigint, size int, latest bigint, version bigint, id uuid,"
    " at bigint, type text, data blob, metadata blob, recorded_at timestamp"
)
_MOST_GAPS = 20  # polls
_ROW = 160  # bytes of an event and its mark, besides texts and payloads


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append."""

    type: str  #: the kind of event
    data: Any = None  #: what has happened, for the store's codec
    metadata: Mapping[str, Any] = field(default_factory=dict)  #: who, why, the trace, .., for JSON
    id: UUID = field(default_factory=uuid4)  #: makes the append idempotent; a new one by default


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a stream."""

    stream: str
    version: int  #: its place in the stream, from 1
    id: UUID
    type: str
    data: Any
    metadata: Mapping[str, Any]  #: empty if there was none
    recorded_at: datetime  #: when it was appended, by the clock of the program that did, in UTC


class Log:
    """The table of events, its statements, and the codec of its payloads."""

    def __init__(self, keyspace: str, table: str, codec: Codec, size: int) -> None:
        self.codec = codec
        self.size = size
        self.schema = TableSchema(
            keyspace,
            table,
            dict(each.split() for each in _COLUMNS.split(", ")),
            key=("stream", "bucket"),
            clustering=("version", "id"),
            static=("head", "size", "latest"),
        )
        name, where = self.schema.name, "WHERE stream = :stream AND bucket = :bucket"
        event = "version, id, type, data, metadata, recorded_at"
        self.begin = f"UPDATE {name} SET head = :head, size = :size {where} IF head = null"
        self.advance = f"UPDATE {name} SET head = :head {where} IF head = :before AND size = :size"
        self.insert = f"INSERT INTO {name} (stream, bucket, {event}) VALUES (:stream, :bucket,"
        self.insert += " :version, :id, :type, :data, :metadata, :recorded_at)"
        self.mark = f"INSERT INTO {name} (stream, bucket, version, id, at)"
        self.mark += " VALUES (:stream, :bucket, 0, :id, :version) IF NOT EXISTS"
        self.marks = f"SELECT head, size, version, id, at FROM {name} {where}"
        self.marks += " AND version = 0 AND id IN :ids"
        self.head = f"SELECT head, size, latest FROM {name} {where} LIMIT 1"
        self.hint = f"UPDATE {name} SET latest = :latest WHERE stream = :stream AND bucket = 0"
        self.events = f"SELECT size, {event} FROM {name} {where} AND version >= :version"

    def check(self, size: int | None) -> None:
        """Raise SchemaMismatch if the events were written with another ``partition_size``."""
        if size is not None and size != self.size:
            raise SchemaMismatch(self.schema.name, "size", f"{self.size}", f"{size}")

    def encode(
        self, stream: str, events: Sequence[NewEvent], recorded_at: datetime
    ) -> list[dict[str, Any]]:
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
            row = {"id": event.id, "type": text(f"{name}.type", event.type)}
            data = self.codec.dump(f"{name}.data", event.data)
            metadata = JSON.dump(f"{name}.metadata", dict(event.metadata))
            rows.append({**row, "data": data, "metadata": metadata, "recorded_at": recorded_at})
            names = len(stream.encode()) * 2 + len(event.type.encode())
            size += _ROW + names + len(data) + len(metadata)
        if len({row["id"] for row in rows}) < len(rows):
            raise InvalidInput("events", "events with different ids", [row["id"] for row in rows])
        if size > _MAX_BATCH or len(rows) > self.size:
            most = f"at most {self.size:,} events, and {_MAX_BATCH:,} bytes for one batch"
            what = f"{most} (they have about {size:,}): append them in parts"
            raise InvalidInput("events", what, events)
        return rows

    def decode(self, stream: str, row: Any) -> Event:
        """Return the event of a row, or raise CorruptPayload."""
        _, version, id, kind, data, metadata, recorded_at = row
        where = f"event {version} of stream {stream!r}"
        decoded = self.codec.load(where, data or b"")
        more = JSON.load(f"the metadata of {where}", metadata or b"{}")
        return Event(stream, version, id, kind, decoded, more, recorded_at)


class Reader:
    """Reads the events of a stream in order, partition after partition.

    Arguments:
        version, last: the first version to read, at least 1, and the last one, if not all.
        pauses: wait for further events at the end, with these pauses between polls.
    """

    def __init__(
        self,
        executor: Executor,
        log: Log,
        stream: str,
        version: int,
        last: int | None = None,
        pauses: Backoff | None = None,
    ) -> None:
        self._executor = executor
        self._log = log
        self._stream = stream
        self._version = version
        self._last = last
        self._pauses = pauses
        # An append that began in the partition before may have reached into this one's versions.
        self._bucket = max((version - 1) // log.size - 1, 0)
        self._pages: Any = None
        self._idle = self._gaps = 0  # polls in a row that have found nothing, or a gap
        self._checked = False

    async def fetch(self) -> list[Event] | None:
        """Return the next events; None at the end. After an error, call it again to go on.

        Raises:
            EventsMissing: a version is missing.
            CorruptPayload: a payload can't be decoded.
        """
        while self._last is None or self._version <= self._last:
            if self._pages is None:
                values = {"stream": self._stream, "bucket": self._bucket, "version": self._version}
                self._pages = self._executor.stream(self._log.events, values).pages()
            pages, self._pages = self._pages, None  # a read that fails is begun again
            try:
                events = self._decode(await anext(pages))
            except StopAsyncIteration:
                bucket = (self._version - 1) // self._log.size
                if bucket > self._bucket:
                    self._bucket = bucket
                    continue
                if not self._checked:  # no event was there to tell the size of partitions
                    place = {"stream": self._stream, "bucket": 0}
                    row = (await self._executor.execute(self._log.head, place)).first()
                    self._log.check(None if row is None else row["size"])
                    self._checked = True
                if self._pauses is None:
                    return None
            except EventsMissing:
                self._gaps += 1
                if self._pauses is None or self._gaps > _MOST_GAPS:
                    raise
                # a replica that lags will catch up
            else:
                self._pages = pages
                self._idle = self._gaps = 0
                return events
            self._idle += 1
            await anyio.sleep(self._pauses.pause(self._idle))
        return None

    def _decode(self, rows: list[Any]) -> list[Event]:
        events = []
        for version, row in enumerate(rows, self._version):
            if self._last is not None and version > self._last:
                break
            self._log.check(row[0])
            self._checked = True
            if row[1] != version:
                raise EventsMissing(self._stream, version, row[1])
            events.append(self._log.decode(self._stream, row))
        self._version += len(events)
        return events
