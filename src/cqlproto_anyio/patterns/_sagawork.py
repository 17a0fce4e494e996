"""A worker's work on a saga: forward step by step, and back if a step fails."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto_anyio.patterns._errors import CompensationFailed, OperationConflict, SagaFailed
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._sagatypes import Saga, SagaContext, SagaRecord, SagaStatus, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from cqlproto_anyio.patterns._lease import Lease
    from cqlproto_anyio.patterns._sagalog import Logged, SagaLog

__all__ = ["Undoing", "Work"]

_STEP_PAUSES = Backoff(first=0.1, longest=10.0)
_MOST_ERROR = 1000  # characters that are kept of an error


class Undoing(NamedTuple):
    """How often an undo is tried, and the pauses between."""

    attempts: int
    pauses: Backoff


class Work:
    """A saga that is worked on, with the errors of this time, if it has failed."""

    def __init__(self, saga: Saga, logged: Logged) -> None:
        self.saga = saga
        self.logged = logged
        self.cause: Exception | None = None
        self.undo_failure: Exception | None = None

    async def bring_to_its_end(
        self, log: SagaLog, lease: Lease, undoing: Undoing, *, again: bool
    ) -> None:
        """Do the steps that are not done, or undo those that are not undone.

        Arguments:
            log, lease: the log, and the lease of the saga.
            undoing: how to try an undo.
            again: whether to undo a saga that needs attention.
        """
        if again and self.logged.record.status is SagaStatus.NEEDS_ATTENTION:
            await self._write(log, lease, status=SagaStatus.COMPENSATING, undo_error=None)
        await self._forward(log, lease)
        await self._back(log, lease, undoing)

    def check(self, first: SagaRecord | None) -> None:
        """Check that the log is about the same data, and about steps that there are."""
        record = self.logged.record
        operation = f"{record.saga}/{record.id}"
        if first is not None and first.data != record.data:
            raise OperationConflict(
                operation, f"run with {first.data!r}", f"run with {record.data!r}"
            )
        names = [each.name for each in self.saga.steps]
        logged = [*record.results, *([record.step] if record.step else [])]
        if not {*logged} <= {*names}:
            raise OperationConflict(
                operation, f"run with steps {names}", f"run with steps {logged}"
            )

    def to_undo(self, record: SagaRecord) -> list[Step]:
        """Return the steps that are still to be undone: the one that has failed is the first."""
        steps = {each.name: each for each in self.saga.steps}
        begun = [record.step, *reversed([*record.results])]
        left = [steps[name] for name in begun if name and name not in record.compensated]
        return [each for each in left if each.undo is not None]

    def outcome(self) -> SagaRecord:
        """Return the record of a saga that is completed; raise the error of one that isn't."""
        record = self.logged.record
        if record.status is SagaStatus.COMPLETED:
            return record
        facts = (record.saga, record.id, record.step or "", self.cause, record.error or "")
        if record.status is SagaStatus.COMPENSATED:
            raise SagaFailed(*facts, record.compensated) from self.cause
        undo = self.to_undo(record)[0].name
        failure = self.undo_failure or self.cause
        raise CompensationFailed(*facts, record.compensated, undo) from failure

    async def _forward(self, log: SagaLog, lease: Lease) -> None:
        """Do the steps that are not done."""
        for step in self.saga.steps:
            record = self.logged.record
            if record.status is not SagaStatus.RUNNING:
                return
            if step.name in record.results:
                continue
            try:
                context = self._context(log, lease, step)
                result = await _attempt(step.action, context, step.attempts, _STEP_PAUSES)
                result = log.copy(f"the result of {step.name!r}", result)
            except Exception as exc:  # whatever the action raises
                self.cause = exc
                failed = replace(record, status=SagaStatus.COMPENSATING, step=step.name)
                await self._write(
                    log,
                    lease,
                    status=_status(self.to_undo(failed)),
                    step=step.name,
                    error=_told(exc),
                )
            else:
                results = {**record.results, step.name: result}
                left = [each.name for each in self.saga.steps if each.name not in results]
                status = SagaStatus.RUNNING if left else SagaStatus.COMPLETED
                following = left[0] if left else None
                await self._write(log, lease, status=status, step=following, results=results)

    async def _back(self, log: SagaLog, lease: Lease, undoing: Undoing) -> None:
        """Undo the steps that are not undone, the latest first."""
        while self.logged.record.status is SagaStatus.COMPENSATING:
            record = self.logged.record
            step, *left = self.to_undo(record)
            try:
                assert step.undo is not None
                context = self._context(log, lease, step)
                await _attempt(step.undo, context, undoing.attempts, undoing.pauses)
            except Exception as exc:  # whatever the undo raises
                self.undo_failure = exc
                await self._write(
                    log, lease, status=SagaStatus.NEEDS_ATTENTION, undo_error=_told(exc)
                )
            else:
                done = (*record.compensated, step.name)
                await self._write(log, lease, status=_status(left), compensated=done)

    async def _write(self, log: SagaLog, lease: Lease, **changes: Any) -> None:
        record, version, _ = self.logged
        self.logged = await log.write(lease, record, version, **changes)

    def _context(self, log: SagaLog, lease: Lease, step: Step) -> SagaContext:
        record = self.logged.record
        copy = log.copy  # so that a step can't change the record
        return SagaContext(
            record.saga,
            record.id,
            step.name,
            copy("data", record.data),
            {name: copy(name, each) for name, each in record.results.items()},
            f"{record.saga}/{record.id}/{step.name}",
            lease.fence,
        )


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


def _status(left: Sequence[Step]) -> SagaStatus:
    return SagaStatus.COMPENSATING if left else SagaStatus.COMPENSATED


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_MOST_ERROR]
