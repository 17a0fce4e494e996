"""Sagas: steps with compensations, a log that survives crashes, and workers that go on."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import MAX_TTL, integer, seconds, text, utc_now
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import InvalidInput, PatternError, RecordNotFound
from cqlproto_anyio.patterns._held import Held
from cqlproto_anyio.patterns._lease import Lease, Leases
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._retry import Backoff
from cqlproto_anyio.patterns._sagalog import Row, SagaLog, tables
from cqlproto_anyio.patterns._sagatypes import Saga, SagaContext, SagaRecord, SagaStatus, Step
from cqlproto_anyio.patterns._sagawork import Work
from cqlproto_anyio.patterns._schema import create
from cqlproto_anyio.patterns._writeerrors import SagaBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._arguments import Clock, Seconds

__all__ = ["Saga", "SagaContext", "SagaRecord", "SagaStatus", "Sagas", "Step"]

_LONGEST_PAUSE = 30.0  # seconds, before the next attempt of an undo
_ATTENTION = SagaStatus.NEEDS_ATTENTION
_OPEN = (SagaStatus.RUNNING, SagaStatus.COMPENSATING)


class Sagas:
    """Runs sagas: ``await sagas.run("checkout", order_id, data)``.

    Guarantee: a saga that has begun ends with all of its steps done, or with all that were begun
    undone in reverse, also if programs crash: ``resume`` goes on. One worker at a time runs a
    saga; one that has lost its lease writes nothing more to the log, and is cancelled. The same id
    again returns the same outcome, and runs nothing. A saga whose undo fails for good waits for a
    person, in ``attention``.

    Not guaranteed: that an action or an undo runs once. After a crash it runs again, since nobody
    knows how far it came: make it idempotent by ``context.operation``. Sagas are not isolated:
    others see the effect of a step before the last one is done.

    Cost: n + 3 LWTs for n steps (the lease, the begin, each step, the release), three reads and two
    writes; one LWT for each undo; one LWT for each third of ``ttl``. Asking again is one read.

    Tables: ``sagas``, a row for each saga, which stays; ``sagas_open``, a row for each open one.

    Arguments:
        sagas: the sagas that this object runs and resumes.
        ttl: after how many seconds others go on with a saga if its worker has crashed.
        undo_attempts: how often an undo is tried before the saga needs attention.
        undo_delay: the pause before the second attempt of an undo, in seconds; later ones double.
        codec: the codec of data and results.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "sagas",
        sagas: Sequence[Saga],
        ttl: Seconds = 30,
        undo_attempts: int = 5,
        undo_delay: float = 0.5,
        codec: Codec = JSON,
        clock: Clock = utc_now,
    ) -> None:
        self._session = session
        self._log = SagaLog(session, keyspace, table, codec, clock)
        self._leases = Leases(session, self._log.tables[0].name, ("saga", "id"))
        self._sagas = {each.name: each for each in sagas if isinstance(each, Saga)}
        if len(self._sagas) < len(sagas):
            raise InvalidInput("sagas", "sagas with different names", sagas)
        self._ttl = seconds("ttl", ttl, least=0.05, most=MAX_TTL - 2)
        first = seconds("undo_delay", undo_delay)
        pauses = Backoff(first=first, longest=max(first, _LONGEST_PAUSE))
        self._undoing = integer("undo_attempts", undo_attempts, least=1), pauses
        self._owner = f"{socket.gethostname()}:{os.getpid()}"

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "sagas") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return tuple(each.cql() for each in tables(keyspace, table))

    async def create_schema(self) -> None:
        """Create the tables if they don't exist; SchemaMismatch if one has another shape."""
        await create(self._session, self._log.tables)

    async def run(self, saga: str, id: str, data: Any = None) -> SagaRecord:
        """Run a saga to its end, or go on with it; each id is run once.

        Returns the record of the saga, whose steps are all done. A call that is cancelled leaves
        the saga to ``resume``, or to the next call. The data has at most 1 MiB when encoded.

        Raises:
            SagaFailed: a step has failed, and what was done is undone.
            CompensationFailed: an undo has failed as well; the saga needs attention.
            SagaBusy: another worker runs it.
            OperationConflict: the id was run with other data, or with steps that are gone.
            LockLost: the lease was lost; another worker goes on.
        """
        definition = self._definition(saga, id)
        first = self._log.new(definition, id, data)
        found = await self._log.read(saga, id)
        if found is not None and found["status"] not in _OPEN:
            return Work(definition, self._log, found, first).outcome()
        work = await self._work(definition, id, first)
        assert work is not None
        return work.outcome()

    async def resume(self) -> list[SagaRecord]:
        """Go on with all sagas that no worker runs, one after the other; call it now and then.

        Returns what the log says about those that have ended, whatever their outcome. The first
        error of a saga that can't be worked on, such as CorruptPayload, is raised after the others
        were worked on.
        """
        ended: list[SagaRecord] = []
        failures: list[PatternError] = []
        async for saga, id in self._log.open(self._sagas):
            try:
                with suppress(SagaBusy):
                    ended += await self._resume(self._sagas[saga], id)
            except PatternError as exc:
                failures.append(exc)
        if failures:
            raise failures[0]
        return ended

    async def get(self, saga: str, id: str) -> SagaRecord | None:
        """Return what the log says about a saga; None if it was never run. One read."""
        self._definition(saga, id)
        found = await self._log.read(saga, id)
        return None if found is None else self._log.record(found)

    def attention(self) -> AsyncIterator[SagaRecord]:
        """Iterate over the sagas that need attention, since an undo has failed for good."""
        listed = self._log.open(self._sagas)

        async def fetch() -> list[SagaRecord] | None:
            async for saga, id in listed:
                found = await self.get(saga, id)
                if found is not None and found.status is _ATTENTION:
                    return [found]
            return None

        return Fetched(fetch)

    async def retry(self, saga: str, id: str) -> SagaRecord:
        """Try again to undo a saga that needs attention; one that had ended is left as it is.

        Raises:
            CompensationFailed: an undo has failed again.
            RecordNotFound: the saga was never run.
            SagaBusy: another worker runs it.
        """
        definition = self._definition(saga, id)
        if await self._log.read(saga, id) is None:
            raise RecordNotFound(self._log.tables[0].name, (saga, id))
        work = await self._work(definition, id, again=True)
        assert work is not None
        return work.outcome() if work.record.status is _ATTENTION else work.record

    # -- working

    def _definition(self, saga: str, id: str) -> Saga:
        if saga not in self._sagas:
            raise InvalidInput("saga", f"one of {sorted(self._sagas)}", saga)
        text("id", id)
        return self._sagas[saga]

    async def _resume(self, saga: Saga, id: str) -> list[SagaRecord]:
        row = await self._log.read(saga.name, id)
        if row is None or row["status"] in _OPEN:
            return [work.record] if (work := await self._work(saga, id)) else []
        if self._log.record(row).status is not _ATTENTION:
            await self._log.list(saga.name, id, row["fence"], ended=True)
        return []

    async def _work(
        self, saga: Saga, id: str, first: Row | None = None, *, again: bool = False
    ) -> Work | None:
        """Bring a saga to its end, under its lease; begin it with ``first``, if that is given."""
        log, work = self._log, None

        async def acquire() -> Lease:
            found = await self._leases.acquire(saga.name, id, ttl=self._ttl, owner=self._owner)
            if isinstance(found, Lease):
                return found
            raise SagaBusy(saga.name, id, found.owner, found.expires_in)

        async with Held(acquire) as lease:
            row = await log.read(saga.name, id, serial=True)
            if row is None and first is not None:
                await log.list(saga.name, id, lease.fence, ended=False)
                row = await log.write(lease, first)
            if row is not None:  # else its worker has crashed before it began
                work = Work(saga, log, row, first)
                await work.bring_to_its_end(lease, *self._undoing, again=again)
            if work is None or work.record.status is not _ATTENTION:
                with suppress(CQLError):  # resume does it later
                    await log.list(saga.name, id, lease.fence, ended=True)
        return work
