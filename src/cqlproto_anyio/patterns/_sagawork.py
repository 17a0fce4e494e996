"""A worker's work on a saga: forward step by step, and back if a step fails."""

from __future__ import annotations

import reprlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._sagatypes import Saga, SagaContext, SagaRecord, SagaStatus, Step
from cqlproto_anyio.patterns._writeerrors import CompensationFailed, OperationConflict, SagaFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cqlproto_anyio.patterns._lease import Lease
    from cqlproto_anyio.patterns._sagalog import Row, SagaLog

__all__ = ["Work"]

_STEP_PAUSES = Backoff(first=0.1, longest=10.0)
_MOST_ERROR = 1000  # characters that are kept of an error


class Work:
    """A saga that is worked on, with the errors of this time, if it has failed.

    ``first`` is the row with which this run would begin the saga. OperationConflict is raised if
    the log is about other data than that, or about steps that are gone.
    """

    def __init__(self, saga: Saga, log: SagaLog, row: Row, first: Row | None) -> None:
        self._saga = saga
        self._log = log
        self._row = row
        self._cause: Exception | None = None
        self._undo_failure: Exception | None = None
        record, data = self.record, log.record(first or row).data
        known, used = [each.name for each in saga.steps], [*record.results, record.step]
        if not {*used} <= {*known, None}:
            conflict = f"run with steps {known}", f"run with steps {used}"
        elif data != record.data:
            conflict = f"run with {reprlib.repr(data)}", "run with other data"
        else:
            return
        raise OperationConflict(f"{record.saga}/{record.id}", *conflict)

    @property
    def record(self) -> SagaRecord:
        """What the log says now."""
        return self._log.record(self._row)

    def outcome(self) -> SagaRecord:
        """Return the record of a saga that is completed; raise the error of one that isn't."""
        record, cause = self.record, self._cause
        if record.status is SagaStatus.COMPLETED:
            return record
        facts = (record.saga, record.id, record.step or "", cause, record.error or "")
        if record.status is SagaStatus.COMPENSATED:
            raise SagaFailed(*facts, record.compensated) from cause
        undo = [each.name for each in self._to_undo(record)] or [""]
        error = CompensationFailed(*facts, record.compensated, undo[0])
        raise error from self._undo_failure or cause

    async def bring_to_its_end(
        self, lease: Lease, undo_attempts: int, undo_pauses: Backoff, *, again: bool
    ) -> None:
        """Do the steps that are not done, or undo those that are not undone.

        ``again`` is for a saga that needs attention, whose undo is then tried again.
        """
        if again and self._row["status"] == SagaStatus.NEEDS_ATTENTION:
            await self._write(lease, status=SagaStatus.COMPENSATING, undo_error=None)
        while self._row["status"] == SagaStatus.RUNNING:
            await self._do_one(lease)
        while self._row["status"] == SagaStatus.COMPENSATING:
            await self._undo_one(lease, undo_attempts, undo_pauses)

    async def _do_one(self, lease: Lease) -> None:
        """Do the next step."""
        record = self.record
        step, *left = [each for each in self._saga.steps if each.name not in record.results]
        try:
            context = self._context(lease, step)
            result = await _attempt(step.action, context, step.attempts, _STEP_PAUSES)
            results = self._log.results(self._row, step.name, result)
        except Exception as exc:  # whatever the action raises
            self._cause = exc
            status = _undoing(self._to_undo(replace(record, step=step.name)))
            await self._write(lease, status=status, step=step.name, error=_told(exc))
        else:
            status = SagaStatus.RUNNING if left else SagaStatus.COMPLETED
            following = left[0].name if left else None
            await self._write(lease, status=status, step=following, results=results)

    async def _undo_one(self, lease: Lease, attempts: int, pauses: Backoff) -> None:
        """Undo the latest of the steps that are not undone."""
        record = self.record
        steps = self._to_undo(record)
        undone = record.compensated
        try:
            for step in steps[:1]:  # none if its undo is no longer defined
                assert step.undo is not None
                await _attempt(step.undo, self._context(lease, step), attempts, pauses)
                undone = (*undone, step.name)
        except Exception as exc:  # whatever the undo raises
            self._undo_failure = exc
            await self._write(lease, status=SagaStatus.NEEDS_ATTENTION, undo_error=_told(exc))
        else:
            await self._write(lease, status=_undoing(steps[1:]), compensated=[*undone])

    def _to_undo(self, record: SagaRecord) -> list[Step]:
        """Return the steps that are still to be undone: the one that has failed is the first."""
        steps = {each.name: each for each in self._saga.steps if each.undo is not None}
        begun = [record.step, *reversed([*record.results])]
        return [steps[name] for name in begun if name in steps and name not in record.compensated]

    async def _write(self, lease: Lease, **changes: Any) -> None:
        self._row = await self._log.write(lease, self._row, **changes)

    def _context(self, lease: Lease, step: Step) -> SagaContext:
        told, name = self.record, step.name
        operation = f"{told.saga}/{told.id}/{name}"
        facts = told.saga, told.id, name, told.data, told.results, operation, lease.fence
        return SagaContext(*facts)


async def _attempt(
    function: Callable[[SagaContext], Awaitable[Any]],
    context: SagaContext,
    most: int,
    pauses: Backoff,
) -> Any:
    async for number in Attempts(most=most, backoff=pauses):
        try:
            return await function(context)
        except Exception:
            if number == most:
                raise
    raise AssertionError("attempts have ended without a result")


def _undoing(left: Sequence[Step]) -> SagaStatus:
    return SagaStatus.COMPENSATING if left else SagaStatus.COMPENSATED


def _told(error: Exception) -> str:
    told = f"{type(error).__name__}: {error}"[:_MOST_ERROR]
    return told.encode(errors="backslashreplace").decode()  # half a surrogate pair is no text
