"""The errors of the recipes, in one tree under :class:`PatternError`.

Each is a dataclass: its fields are what a program decides by, and ``text`` makes the message of
them. Errors of the client (``RequestTimeout``, ``Unavailable``, ..) reach the caller as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from cqlproto_anyio._checks.values import shown
from cqlproto_anyio.exceptions import CQLError, UsageError

__all__ = [
    "ConcurrencyError", "CorruptPayload", "DuplicateEvent", "EventsMissing", "InvalidInput",
    "LockLost", "LockTimeout", "OutcomeUnknown", "PatternError", "PointExpired", "RateLimited",
    "RecordExists", "RecordNotFound", "SchemaMismatch", "TooManySessions",
]  # fmt: skip


class PatternError(CQLError):
    """Base of the errors that recipes raise."""

    text: ClassVar[str] = ""  # the message, with the names of fields in braces

    def __str__(self) -> str:
        return self.text.format_map(vars(self)) or super().__str__()


@dataclass(eq=False, repr=False)
class InvalidInput(PatternError, UsageError):
    """An argument is wrong; nothing was sent.

    Attributes:
        name: the argument.
        what: what it must be.
        value: what was passed.
    """

    name: str
    what: str
    value: object

    def __str__(self) -> str:
        return f"{self.name} must be {self.what}, got {shown(self.value)}"


@dataclass(eq=False, repr=False)
class OutcomeUnknown(PatternError):
    """A write may or may not have been applied, and no read could find out.

    ``__cause__`` is the error that left it open. Repeating the call is safe only if the recipe says
    so.

    Attributes:
        what: the write.
        operation: the id that the write has left in the table if it was applied.
        reason: why it could not be settled.
    """

    what: str
    operation: UUID
    reason: str
    maybe_applied = True
    text = "{what} may or may not have been applied ({reason}): operation {operation}"


@dataclass(eq=False, repr=False)
class SchemaMismatch(PatternError):
    """A table exists with another shape than the recipe needs.

    Attributes:
        table: its qualified name.
        column: the first column that differs.
        expected: what the recipe needs, such as ``bigint static``.
        actual: what the table has; None if the column is missing.
    """

    table: str
    column: str
    expected: str
    actual: str | None
    text = (
        "{table} has another shape than this recipe needs: column {column} must be {expected}, got"
        " {actual}: pass another table name, or migrate the table"
    )


@dataclass(eq=False, repr=False)
class CorruptPayload(PatternError):
    """A stored payload can't be decoded.

    Attributes:
        where: what was read, such as ``event 7 of stream 'order-7'``.
        reason: what the codec said.
    """

    where: str
    reason: object
    text = "{where} can't be decoded: {reason}"


@dataclass(eq=False, repr=False)
class LockTimeout(PatternError, TimeoutError):
    """The lock was held by others for the whole wait.

    Attributes:
        name: the lock.
        waited: how long the call waited, in seconds.
        holder: the owner that was seen last, or None.
    """

    name: str
    waited: float
    holder: str | None
    text = "lock {name!r} was not free for {waited:.3f} s; its holder: {holder}"


@dataclass(eq=False, repr=False)
class LockLost(PatternError):
    """The lease ended before the work under it did; others may have begun.

    Attributes:
        name: the lock.
        fence: the fencing token of the lost lease.
        reason: how it was lost.
    """

    name: str
    fence: int
    reason: str
    text = "lock {name!r} with fence {fence} was lost: {reason}"


@dataclass(eq=False, repr=False)
class ConcurrencyError(PatternError):
    """The stream has another version than the caller expected; nothing was appended.

    Attributes:
        stream: the stream.
        expected: the version that the caller expected; None if it expected none, and lost every
            race for the next version.
        actual: the version that the stream had.
    """

    stream: str
    expected: int | None
    actual: int
    text = "stream {stream!r} is at version {actual}, expected {expected}"


@dataclass(eq=False, repr=False)
class DuplicateEvent(PatternError):
    """Some events of an append are stored already, others are not; nothing was appended.

    Attributes:
        stream: the stream.
        ids: the ids that are stored, in the order of the append.
    """

    stream: str
    ids: tuple[UUID, ...]
    text = "stream {stream!r} has {ids} already, but not the others: append the new events alone"


@dataclass(eq=False, repr=False)
class EventsMissing(PatternError):
    """A read of a stream has found a gap: a replica lags, or somebody has edited the table.

    Read again, at a higher consistency: ``session.using(consistency="LOCAL_QUORUM")``.

    Attributes:
        stream: the stream.
        expected: the version that should have come.
        actual: the version that came.
    """

    stream: str
    expected: int
    actual: int
    text = "stream {stream!r}: version {expected} is missing before {actual}"


@dataclass(eq=False, repr=False)
class RecordNotFound(PatternError):
    """There is no row with this key.

    Attributes:
        table: the qualified table.
        key: the values of the primary key, in order.
    """

    table: str
    key: tuple[Any, ...]
    text = "{table} has no row with the key {key}"


@dataclass(eq=False, repr=False)
class RecordExists(PatternError):
    """There is a row with this key already; nothing was written.

    Attributes:
        table: the qualified table.
        key: the values of the primary key, in order.
        existing: the row, by column name.
    """

    table: str
    key: tuple[Any, ...]
    existing: Mapping[str, Any]
    text = "{table} has a row with the key {key} already"


@dataclass(eq=False, repr=False)
class RateLimited(PatternError):
    """A request is over its rate limit.

    Attributes:
        key: whose limit it is.
        limit: the limit.
        retry_after: after how many seconds the request may be admitted.
    """

    key: str
    limit: int
    retry_after: float
    text = "{key!r} is over its limit of {limit}: try again in {retry_after:.3f} s"


@dataclass(eq=False, repr=False)
class TooManySessions(PatternError):
    """A registry has as many open sessions as it may have; none was opened.

    Attributes:
        limit: how many it may have.
    """

    limit: int
    text = "the registry has {limit} sessions: release one, or raise max_sessions"


@dataclass(eq=False, repr=False)
class PointExpired(PatternError, UsageError):
    """A point is past the retention of its series already; it was not written.

    Attributes:
        metric: the series.
        timestamp: the time of the point.
        retention: how long the series keeps its points.
    """

    metric: str
    timestamp: datetime
    retention: timedelta
    text = "the point of {metric!r} at {timestamp} is older than the retention of {retention}"
