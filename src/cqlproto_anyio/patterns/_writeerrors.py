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
    """An id was used before, for something else, or after its opposite; nothing was changed."""

    operation: str  #: the id
    expected: str  #: what the call was about
    actual: str  #: what the id was used for
    text = "operation {operation!r} is {actual}, expected {expected}: use a new id"


@dataclass(eq=False, repr=False)
class OutOfStock(PatternError):
    """Less is available than was asked for; nothing was reserved."""

    item: str  #: the item
    wanted: int  #: the quantity that was asked for
    available: int  #: the quantity that is neither sold nor reserved
    text = "{wanted} of {item!r} are wanted, {available} are available"


@dataclass(eq=False, repr=False)
class SagaFailed(PatternError):
    """A step of a saga has failed, and what was done is undone."""

    saga: str  #: its name
    id: str
    step: str  #: the step that has failed
    cause: BaseException | None  #: what its action raised; None if that was in an earlier call
    error: str  #: the same as text, such as ``ValueError: no funds``
    compensated: tuple[str, ...]  #: the steps that were undone, in this order
    text = "saga {saga!r} {id!r} has failed in {step!r} ({error}); undone: {compensated}"


@dataclass(eq=False, repr=False)
class CompensationFailed(SagaFailed):
    """A step of a saga has failed, and so has an undo: the saga needs attention."""

    undo: str  #: the step whose undo has failed
    text = (
        "saga {saga!r} {id!r} has failed in {step!r} ({error}), and {undo!r} can't be undone: it"
        " needs attention; undone: {compensated}"
    )


@dataclass(eq=False, repr=False)
class SagaBusy(PatternError):
    """Another worker runs this saga."""

    saga: str  #: its name
    id: str
    holder: str  #: the worker
    retry_after: float  #: seconds until its lease ends, unless it is renewed
    text = "saga {saga!r} {id!r} is run by {holder}: try again in {retry_after:g} s"


@dataclass(eq=False, repr=False)
class VersionConflict(PatternError):
    """The row has another version than the caller expected; nothing was written."""

    table: str  #: the qualified table
    key: tuple[Any, ...]  #: the values of the primary key, in order
    expected: int  #: the version that the caller expected
    actual: int | None  #: None if there was no such row
    text = "{table}: the row {key} is at version {actual}, expected {expected}: read it again"


@dataclass(eq=False, repr=False)
class RetryExhausted(VersionConflict):
    """Other writers were faster at every attempt; nothing was written."""

    retries: int  #: how often the update was tried again
    text = "{table}: other writers of the row {key} were faster {retries} times: try again later"


@dataclass(eq=False, repr=False)
class MergeConflict(PatternError):
    """Both sides have changed the same fields to different values; nothing was written."""

    table: str  #: the qualified table
    key: tuple[Any, ...]  #: the values of the primary key, in order
    fields: tuple[str, ...]  #: the fields
    text = "{table}: another writer of the row {key} has changed {fields} too: pass rules in merge="


@dataclass(eq=False, repr=False)
class UnitRefused(PatternError, UsageError):
    """A unit of work can't hold a statement, or can't be committed; nothing was written."""

    reason: str  #: why
    query: str | None = None  #: the statement, or None if it is about all of them
    text = "{reason}"


@dataclass(eq=False, repr=False)
class ConditionFailed(PatternError):
    """A condition (IF) of a unit of work did not hold; nothing was written."""

    rows: tuple[Mapping[str, Any], ...]  #: the rows that the server has returned, by column name
    text = "a condition of the unit did not hold, nothing was written; the rows in the way: {rows}"


@dataclass(eq=False, repr=False)
class TransactionError(PatternError, UsageError):
    """A call doesn't fit the state of the task's transaction; nothing was sent."""

    reason: str  #: why
    text = "{reason}"


@dataclass(eq=False, repr=False)
class AdminNotAllowed(PatternError, UsageError):
    """A statement changes more than rows, and the database allows no administration."""

    statement: str  #: its kind, such as ``DROP TABLE``
    query: str  #: its text
    text = "{statement} is refused: a Database with allow_admin=True executes it"


@dataclass(eq=False, repr=False)
class CircuitOpen(PatternError):
    """The circuit breaker is open; nothing was called."""

    retry_after: float  #: seconds until a call is let through; 0 while one is on its way
    failures: int  #: how many calls had failed in a row
    text = "the circuit is open after {failures} failures: try again in {retry_after:.3f} s"
