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
    """An argument is wrong; nothing was sent."""

    name: str  #: the argument
    what: str  #: what it must be
    value: object  #: what was passed

    def __str__(self) -> str:
        return f"{self.name} must be {self.what}, got {shown(self.value)}"


@dataclass(eq=False, repr=False)
class OutcomeUnknown(PatternError):
    """A write may or may not have been applied, and no read could find out.

    ``__cause__`` is the error that left it open. Repeating the call is safe only if the recipe says
    so.
    """

    what: str  #: the write
    operation: UUID  #: what the write has left in the table if it was applied
    reason: str  #: why it could not be settled
    maybe_applied = True
    text = "{what} may or may not have been applied ({reason}): operation {operation}"


@dataclass(eq=False, repr=False)
class SchemaMismatch(PatternError):
    """A table exists with another shape than the recipe needs."""

    table: str  #: its qualified name
    column: str  #: the first column that differs
    expected: str  #: what the recipe needs, such as ``bigint static``
    actual: str | None  #: what the table has; None if the column is missing
    text = (
        "{table} has another shape than this recipe needs: column {column} must be {expected}, got"
        " {actual}: pass another table name, or migrate the table"
    )


@dataclass(eq=False, repr=False)
class CorruptPayload(PatternError):
    """A stored payload can't be decoded."""

    where: str  #: what was read, such as ``event 7 of stream 'order-7'``
    reason: object  #: what the codec said
    text = "{where} can't be decoded: {reason}"


@dataclass(eq=False, repr=False)
class LockTimeout(PatternError, TimeoutError):
    """The lock was held by others for the whole wait."""

    name: str  #: the lock
    waited: float  #: how long the call waited, in seconds
    holder: str | None  #: the owner that was seen last
    text = "lock {name!r} was not free for {waited:.3f} s; its holder: {holder}"


@dataclass(eq=False, repr=False)
class LockLost(PatternError):
    """The lease ended before the work under it did; others may have begun."""

    name: str  #: the lock
    fence: int  #: the fencing token of the lost lease
    reason: str  #: how it was lost
    text = "lock {name!r} with fence {fence} was lost: {reason}"


@dataclass(eq=False, repr=False)
class ConcurrencyError(PatternError):
    """The stream has another version than the caller expected; nothing was appended."""

    stream: str  #: the stream
    expected: int | None  #: None if any was right, and each race was lost
    actual: int  #: the version that the stream had
    text = "stream {stream!r} is at version {actual}, expected {expected}"


@dataclass(eq=False, repr=False)
class DuplicateEvent(PatternError):
    """Some events of an append are stored already, others are not; nothing was appended."""

    stream: str  #: the stream
    ids: tuple[UUID, ...]  #: the ids that are stored, in the order of the append
    text = "stream {stream!r} has {ids} already, but not the others: append the new events alone"


@dataclass(eq=False, repr=False)
class EventsMissing(PatternError):
    """A read of a stream has found a gap: a replica lags, or somebody has edited the table.

    Read again, at a higher consistency: ``session.using(consistency="LOCAL_QUORUM")``.
    """

    stream: str  #: the stream
    expected: int  #: the version that should have come
    actual: int  #: the version that came
    text = "stream {stream!r}: version {expected} is missing before {actual}"


@dataclass(eq=False, repr=False)
class RecordNotFound(PatternError):
    """There is no row with this key."""

    table: str  #: the qualified table
    key: tuple[Any, ...]  #: the values of the primary key, in order
    text = "{table} has no row with the key {key}"


@dataclass(eq=False, repr=False)
class RecordExists(PatternError):
    """There is a row with this key already; nothing was written."""

    table: str  #: the qualified table
    key: tuple[Any, ...]  #: the values of the primary key, in order
    existing: Mapping[str, Any]  #: the row, by column name
    text = "{table} has a row with the key {key} already"


@dataclass(eq=False, repr=False)
class RateLimited(PatternError):
    """A request is over its rate limit."""

    key: str  #: whose limit it is
    limit: int  #: the limit
    retry_after: float  #: seconds until the request may be admitted
    text = "{key!r} is over its limit of {limit}: try again in {retry_after:.3f} s"


@dataclass(eq=False, repr=False)
class TooManySessions(PatternError):
    """A registry has as many open sessions as it may have; none was opened."""

    limit: int  #: how many it may have
    text = "the registry has {limit} sessions: release one, or raise max_sessions"


@dataclass(eq=False, repr=False)
class PointExpired(PatternError, UsageError):
    """A point is past the retention of its series already; it was not written."""

    metric: str  #: the series
    timestamp: datetime  #: the time of the point
    retention: timedelta  #: how long the series keeps its points
    text = "the point of {metric!r} at {timestamp} is older than the retention of {retention}"
