"""Errors of the recipes that write what belongs together: sagas, stock, versions, units of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cqlproto_anyio.exceptions import UsageError
from cqlproto_anyio.patterns._errors import PatternError

__all__ = [
    "AdminNotAllowed", "CircuitOpen", "CompensationFailed", "ConditionFailed", "MergeConflict",
    "OperationConflict", "OutOfStock", "RetryExhausted", "SagaBusy", "SagaFailed",
    "TransactionError", "UnitRefused", "VersionConflict",
]  # fmt: skip


@dataclass(eq=False, repr=False)
class OperationConflict(PatternError):
    """An id was used before, for something else, or after its opposite; nothing was changed.

    Attributes:
        operation: the id.
        expected: what the call was about.
        actual: what the id was used for.
    """

    operation: str
    expected: str
    actual: str
    text = "operation {operation!r} is {actual}, expected {expected}: use a new id"


@dataclass(eq=False, repr=False)
class OutOfStock(PatternError):
    """Less is available than was asked for; nothing was reserved.

    Attributes:
        item: the item.
        wanted: the quantity that was asked for.
        available: the quantity that is neither sold nor reserved.
    """

    item: str
    wanted: int
    available: int
    text = "{wanted} of {item!r} are wanted, {available} are available"


@dataclass(eq=False, repr=False)
class SagaFailed(PatternError):
    """A step of a saga has failed, and what was done is undone.

    Attributes:
        saga, id: the saga.
        step: the step that has failed.
        cause: what its action raised; None if that was in an earlier call.
        error: the same as text: ``ValueError: no funds``.
        compensated: the steps that were undone, in this order.
    """

    saga: str
    id: str
    step: str
    cause: BaseException | None
    error: str
    compensated: tuple[str, ...]
    text = "saga {saga!r} {id!r} has failed in {step!r} ({error}); undone: {compensated}"


@dataclass(eq=False, repr=False)
class CompensationFailed(SagaFailed):
    """A step of a saga has failed, and so has an undo: the saga needs attention.

    Attributes:
        undo: the step whose undo has failed.
    """

    undo: str
    text = (
        "saga {saga!r} {id!r} has failed in {step!r} ({error}), and {undo!r} can't be undone: it"
        " needs attention; undone: {compensated}"
    )


@dataclass(eq=False, repr=False)
class SagaBusy(PatternError):
    """Another worker runs this saga.

    Attributes:
        saga, id: the saga.
        holder: the worker.
        retry_after: when its lease ends, unless it is renewed, in seconds.
    """

    saga: str
    id: str
    holder: str
    retry_after: float
    text = "saga {saga!r} {id!r} is run by {holder}: try again in {retry_after:g} s"


@dataclass(eq=False, repr=False)
class VersionConflict(PatternError):
    """The row has another version than the caller expected; nothing was written.

    Attributes:
        table: the qualified table.
        key: the values of the primary key, in order.
        expected: the version that the caller expected.
        actual: the version that the row had; None if there was no such row.
    """

    table: str
    key: tuple[Any, ...]
    expected: int
    actual: int | None
    text = "{table}: the row {key} is at version {actual}, expected {expected}: read it again"


@dataclass(eq=False, repr=False)
class RetryExhausted(VersionConflict):
    """Other writers were faster at every attempt; nothing was written.

    Attributes:
        retries: how often the update was tried again.
    """

    retries: int
    text = "{table}: other writers of the row {key} were faster {retries} times: try again later"


@dataclass(eq=False, repr=False)
class MergeConflict(PatternError):
    """Both sides have changed the same fields to different values; nothing was written.

    Attributes:
        table: the qualified table.
        key: the values of the primary key, in order.
        fields: the fields.
    """

    table: str
    key: tuple[Any, ...]
    fields: tuple[str, ...]
    text = "{table}: another writer of the row {key} has changed {fields} too: pass rules in merge="


@dataclass(eq=False, repr=False)
class UnitRefused(PatternError, UsageError):
    """A unit of work can't hold a statement, or can't be committed; nothing was written.

    Attributes:
        reason: why.
        query: the statement, or None if it is about all of them.
    """

    reason: str
    query: str | None = None
    text = "{reason}"


@dataclass(eq=False, repr=False)
class ConditionFailed(PatternError):
    """A condition (IF) of a unit of work did not hold; nothing was written.

    Attributes:
        rows: the rows that the server has returned, by column name.
    """

    rows: tuple[Mapping[str, Any], ...]
    text = "a condition of the unit did not hold, nothing was written; the rows in the way: {rows}"


@dataclass(eq=False, repr=False)
class TransactionError(PatternError, UsageError):
    """A call doesn't fit the state of the task's transaction; nothing was sent.

    Attributes:
        reason: why.
    """

    reason: str
    text = "{reason}"


@dataclass(eq=False, repr=False)
class AdminNotAllowed(PatternError, UsageError):
    """A statement changes more than rows, and the database allows no administration.

    Attributes:
        statement: its kind, such as ``DROP TABLE``.
        query: its text.
    """

    statement: str
    query: str
    text = "{statement} is refused: a Database with allow_admin=True executes it"


@dataclass(eq=False, repr=False)
class CircuitOpen(PatternError):
    """The circuit breaker is open; nothing was called.

    Attributes:
        retry_after: when the breaker lets a call through again, in seconds; 0 while one is on its
            way.
        failures: how many calls had failed in a row.
    """

    retry_after: float
    failures: int
    text = "the circuit is open after {failures} failures: try again in {retry_after:.3f} s"
