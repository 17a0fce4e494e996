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
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from cqlproto_anyio.patterns._arguments import Clock, now
from cqlproto_anyio.patterns._errors import CorruptPayload, InvalidInput, LockLost
from cqlproto_anyio.patterns._lease import LEASE_COLUMNS, Lease
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._sagatypes import Saga, SagaRecord, SagaStatus
from cqlproto_anyio.patterns._schema import TableSchema

if TYPE_CHECKING:
    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._codec import Codec

__all__ = ["Logged", "SagaLog", "tables"]

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


class Logged(NamedTuple):
    """A record, its version, and the fence of the latest lease."""

    record: SagaRecord
    version: int
    fence: int


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
        self._read = f"SELECT {', '.join(_COLUMNS)}, fence FROM {name} {where}"
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
        self._ids = f"SELECT id FROM {index} {shard} IN :shards"

    def copy(self, name: str, value: Any) -> Any:
        """Return a value as it is when it is read from the log.

        Raises:
            InvalidInput: the codec can't encode it, or it is larger than 1 MiB.
        """
        return self._load(name, self._dump(name, value))

    def results(self, record: SagaRecord, step: str, result: Any) -> dict[str, Any]:
        """Return the results of a saga and of one more step, as ``copy`` does."""
        results = {**record.results, step: self.copy(f"the result of {step!r}", result)}
        size = sum(len(self._dump(name, each) or b"") for name, each in results.items())
        if size > _MOST_RESULTS:
            raise InvalidInput("results", f"at most {_MOST_RESULTS:,} bytes of all steps", size)
        return results

    def new(self, saga: Saga, id: str, data: Any) -> SagaRecord:
        """Return the record of a saga that hasn't begun."""
        step, status = saga.steps[0].name, SagaStatus.RUNNING
        at = now(self._clock)
        return SagaRecord(saga.name, id, status, step, self.copy("data", data), {}, None, (), at)

    async def read(self, saga: str, id: str, *, serial: bool = False) -> Logged | None:
        """Return what the log says, or None if it knows nothing about the saga."""
        options: Options = {"consistency": serial_level(self._executor)} if serial else {}
        result = await self._executor.execute(self._read, {"saga": saga, "id": id}, **options)
        row = result.first()
        if row is None or row["status"] is None:
            return None
        where = f"saga {saga!r} {id!r}"
        try:
            status = SagaStatus(row["status"])
        except ValueError as exc:
            raise CorruptPayload(f"the status of {where}", exc) from exc
        results = {
            step: self._load(f"the result of {step!r} in {where}", payload)
            for step, payload in row["results"] or ()
        }
        data = self._load(f"the data of {where}", row["data"])
        facts = row["error"], tuple(row["compensated"] or ()), row["updated_at"], row["undo_error"]
        record = SagaRecord(saga, id, status, row["step"], data, results, *facts)
        return Logged(record, row["version"], row["fence"])

    async def write(
        self, lease: Lease, record: SagaRecord, before: int | None, **changes: Any
    ) -> Logged:
        """Change the record of a saga, and write it.

        Raises:
            LockLost: the lease was lost; nothing was written, or another holder has gone on.
        """
        at = now(self._clock)
        at = at.replace(microsecond=at.microsecond // 1000 * 1000)  # as the table keeps it
        record = replace(record, **changes, updated_at=at)
        writer = uuid4()

        def verdict(rows: Rows) -> Verdict:
            row = rows[0] if rows else {}
            if row.get("writer") == writer:
                return Verdict.APPLIED
            same = row.get("version") == before and row.get("fence") == lease.fence
            return Verdict.OPEN if same else Verdict.REFUSED

        version = (before or 0) + 1
        values = {name: getattr(record, name) for name in SagaRecord.__slots__}
        values |= {
            "status": record.status.value,
            "data": self._dump("data", record.data),
            "results": [(step, self._dump(step, each)) for step, each in record.results.items()],
            "compensated": list(record.compensated),
        }
        values |= {"writer": writer, "version": version, "before": before, "fence": lease.fence}
        outcome = await conditional_write(
            self._executor,
            [bound(self._write, values)],
            operation=writer,
            read=bound(self._read, values),
            verdict=verdict,
            what=f"the log of saga {record.saga!r} {record.id!r}",
        )
        if not outcome.applied:
            raise LockLost(lease.name, lease.fence, "another worker has gone on")
        return Logged(record, version, lease.fence)

    async def list_open(self, saga: str, id: str, fence: int) -> None:
        """Add a saga to the list of open ones; for the holder of its lease."""
        await self._list(self._open, saga, id, 2 * fence)

    async def list_closed(self, saga: str, id: str, fence: int) -> None:
        """Remove a saga from the list of open ones; for the holder of its lease."""
        await self._list(self._close, saga, id, 2 * fence + 1)

    def ids(self, saga: str) -> Any:
        """Return the pages of the ids of open sagas."""
        return self._executor.stream(self._ids, {"saga": saga, "shards": [*_SHARDS]}).pages()

    async def _list(self, query: str, saga: str, id: str, moment: int) -> None:
        shard = zlib.crc32(id.encode()) % len(_SHARDS)
        values = {"saga": saga, "shard": shard, "id": id, "moment": moment}
        await self._executor.execute(query, values, idempotent=True)

    def _dump(self, name: str, value: Any) -> bytes | None:
        return None if value is None else self._codec.dump(name, value, most=_MOST_PAYLOAD)

    def _load(self, where: str, payload: bytes | None) -> Any:
        return None if payload is None else self._codec.load(where, payload)
