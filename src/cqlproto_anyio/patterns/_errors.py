"""The errors of the recipes, in one tree under :class:`PatternError`.

    PatternError (a CQLError)
      InvalidInput         also a UsageError: an argument is wrong; nothing was sent
      OutcomeUnknown       a write may or may not have been applied
      SchemaMismatch       a table has another shape than the recipe needs
      CorruptPayload       a stored payload can't be decoded
      LockTimeout          the lock was held by others for the whole wait
      LockLost             the lease ended before the work under it did
      ConcurrencyError     the stream has another version than the caller expected
      DuplicateEvent       some events of an append are stored already, others are not
      EventsMissing        a read of a stream has found a gap

Errors of the client (``RequestTimeout``, ``Unavailable``, ..) reach the caller as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto_anyio._checks.values import shown
from cqlproto_anyio.exceptions import CQLError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

__all__ = [
    "ConcurrencyError",
    "CorruptPayload",
    "DuplicateEvent",
    "EventsMissing",
    "InvalidInput",
    "LockLost",
    "LockTimeout",
    "OutcomeUnknown",
    "PatternError",
    "SchemaMismatch",
]


class PatternError(CQLError):
    """Base of the errors that recipes raise."""


class InvalidInput(PatternError, UsageError):
    """An argument is wrong; nothing was sent.

    Attributes:
        name: the argument.
        value: what was passed.
    """

    def __init__(self, name: str, what: str, value: object) -> None:
        super().__init__(f"{name} must be {what}, got {shown(value)}")
        self.name = name
        self.value = value


class OutcomeUnknown(PatternError):
    """A write may or may not have been applied, and no read could find out.

    ``__cause__`` is the error that left it open. Repeating the call is safe only if the recipe says
    so.

    Attributes:
        operation: the id that the write has left in the table if it was applied.
    """

    maybe_applied = True

    def __init__(self, what: str, operation: UUID, reason: str) -> None:
        super().__init__(
            f"{what} may or may not have been applied ({reason}): operation {operation}"
        )
        self.operation = operation


class SchemaMismatch(PatternError):
    """A table exists with another shape than the recipe needs.

    Attributes:
        table: its qualified name.
        column: the first column that differs.
        expected: what the recipe needs, such as ``bigint static``.
        actual: what the table has; None if the column is missing.
    """

    def __init__(self, table: str, column: str, expected: str, actual: str | None) -> None:
        super().__init__(
            f"{table} has another shape than this recipe needs: column {column} must be {expected},"
            f" got {actual or 'no such column'}: pass another table name, or migrate the table"
        )
        self.table = table
        self.column = column
        self.expected = expected
        self.actual = actual


class CorruptPayload(PatternError):
    """A stored payload can't be decoded.

    Attributes:
        where: what was read, such as ``event 7 of stream 'order-7'``.
    """

    def __init__(self, where: str, reason: object) -> None:
        super().__init__(f"{where} can't be decoded: {reason}")
        self.where = where


class LockTimeout(PatternError, TimeoutError):
    """The lock was held by others for the whole wait.

    Attributes:
        name: the lock.
        waited: how long the call waited, in seconds.
        holder: the owner that was seen last, or None.
    """

    def __init__(self, name: str, waited: float, holder: str | None) -> None:
        by = "" if holder is None else f" by {holder}"
        super().__init__(f"lock {name!r} was held{by} for {waited:.3f} s")
        self.name = name
        self.waited = waited
        self.holder = holder


class LockLost(PatternError):
    """The lease ended before the work under it did; others may have begun.

    Attributes:
        name: the lock.
        fence: the fencing token of the lost lease.
    """

    def __init__(self, name: str, fence: int, reason: str) -> None:
        super().__init__(f"lock {name!r} with fence {fence} was lost: {reason}")
        self.name = name
        self.fence = fence


class ConcurrencyError(PatternError):
    """The stream has another version than the caller expected; nothing was appended.

    Attributes:
        stream: the stream.
        expected: the version that the caller expected; None if it expected none and lost every
            race for the next version.
        actual: the version that the stream had.
    """

    def __init__(self, stream: str, expected: int | None, actual: int) -> None:
        wanted = "the next version, but others won every race" if expected is None else expected
        super().__init__(f"stream {stream!r}: expected version {wanted}, the stream is at {actual}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class DuplicateEvent(PatternError):
    """Some events of an append are stored already, others are not; nothing was appended.

    Attributes:
        stream: the stream.
        ids: the ids that are stored, in the order of the append.
    """

    def __init__(self, stream: str, ids: Sequence[UUID]) -> None:
        listed = ", ".join(map(str, ids))
        super().__init__(
            f"stream {stream!r} has events {listed} already, but not the others of this append:"
            " append the new ones alone"
        )
        self.stream = stream
        self.ids = tuple(ids)


class EventsMissing(PatternError):
    """A read of a stream has found a gap: a replica that lags, or a table that somebody edited.

    Read again, at a higher consistency: ``session.using(consistency="LOCAL_QUORUM")``.

    Attributes:
        stream: the stream.
        expected: the version that should have come.
        actual: the version that came.
    """

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream!r}: version {expected} is missing before {actual}")
        self.stream = stream
        self.expected = expected
        self.actual = actual
