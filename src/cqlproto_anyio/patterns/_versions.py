"""What versioned updates take and tell: rows, outcomes, metrics and conflicts."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import RecordNotFound
from cqlproto_anyio.patterns._keys import Key
from cqlproto_anyio.patterns._writeerrors import MergeConflict, RetryExhausted, VersionConflict

if TYPE_CHECKING:
    from cqlproto_anyio.patterns._arguments import Clock

__all__ = [
    "Changes",
    "Conflict",
    "ConflictAnalysis",
    "History",
    "LockStatus",
    "Resolution",
    "RowOutcome",
    "Rule",
    "UpdateOutcome",
    "VersionedMetrics",
    "VersionedRow",
    "VersionedUpdate",
]

Changes: TypeAlias = Mapping[str, Any] | Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""New values of some columns, or a function that makes them of the row's current values."""

Merge: TypeAlias = Callable[[Any, Any, Any], Any]
Rule: TypeAlias = Merge | Literal["last_writer_wins", "keep_current", "numeric_add", "list_append"]
"""How to merge a field that both sides have changed: a function of (base, mine, theirs)."""


class Resolution(StrEnum):
    """What an update does when another writer was faster."""

    FAIL_FAST = "fail_fast"
    RETRY = "retry"
    MERGE = "merge"
    LAST_WRITER_WINS = "last_writer_wins"


class LockStatus(StrEnum):
    """What became of an update."""

    SUCCESS = "success"
    VERSION_CONFLICT = "version_conflict"
    RECORD_NOT_FOUND = "record_not_found"
    RETRY_EXHAUSTED = "retry_exhausted"
    MERGE_CONFLICT = "merge_conflict"


@dataclass(frozen=True, slots=True)
class VersionedRow:
    """A row and its version.

    Attributes:
        key: the values of the primary key, in order.
        values: all columns by name, without those of the version and the writer.
        version: the version; 0 for a row from before the versions.
    """

    key: tuple[Any, ...]
    values: Mapping[str, Any]
    version: int


@dataclass(frozen=True, slots=True)
class VersionedUpdate:
    """One update of :meth:`Versioned.update_many`; the fields are the arguments of ``update``."""

    key: Key
    changes: Changes
    expected: VersionedRow | int | None = None


@dataclass(frozen=True, slots=True)
class UpdateOutcome:
    """What became of an update.

    Attributes:
        status: SUCCESS, or why nothing was written.
        table: the qualified table.
        key: the values of the primary key, in order.
        version: the version that is now in the table; None if there is no such row.
        values: the values that are now in the table; None if they aren't known without a read.
        retries: how often the update was tried again.
        expected: the version that the caller expected, or None.
        fields: the fields of a merge conflict.
    """

    status: LockStatus
    table: str
    key: tuple[Any, ...]
    version: int | None = None
    values: Mapping[str, Any] | None = None
    retries: int = 0
    expected: int | None = None
    fields: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the row was updated."""
        return self.status is LockStatus.SUCCESS

    def raise_for_status(self) -> UpdateOutcome:
        """Return this outcome of an update that succeeded.

        Raises:
            VersionConflict, RetryExhausted, MergeConflict, RecordNotFound: it did not.
        """
        expected = self.expected or 0
        match self.status:
            case LockStatus.VERSION_CONFLICT:
                raise VersionConflict(self.table, self.key, expected, self.version)
            case LockStatus.RETRY_EXHAUSTED:
                raise RetryExhausted(self.table, self.key, expected, self.version, self.retries)
            case LockStatus.MERGE_CONFLICT:
                raise MergeConflict(self.table, self.key, self.fields)
            case LockStatus.RECORD_NOT_FOUND:
                raise RecordNotFound(self.table, self.key)
        return self


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The outcome of one update of several, or the error that it has raised."""

    key: tuple[Any, ...]
    outcome: UpdateOutcome | None
    error: CQLError | None


@dataclass(frozen=True, slots=True)
class VersionedMetrics:
    """Counts since the object was made.

    Attributes:
        total_operations: updates that have ended, also those that have raised an error.
        successful_operations: updates that were applied.
        version_conflicts: how often another writer was faster, at any attempt.
        retries_performed: attempts after the first.
        merge_conflicts: updates that ended with MERGE_CONFLICT.
        avg_retry_count: retries for each update.
        conflict_rate: version conflicts for each update.
        success_rate: the part of updates that were applied. All rates are 0 without updates.
    """

    total_operations: int
    successful_operations: int
    version_conflicts: int
    retries_performed: int
    merge_conflicts: int
    avg_retry_count: float
    conflict_rate: float
    success_rate: float


@dataclass(frozen=True, slots=True)
class Conflict:
    """An attempt that found another version.

    Attributes:
        timestamp: when, in UTC.
        table: the qualified table.
        key: the values of the primary key, in order.
        expected, actual: the version that was expected, and the one that was found.
        retries: how often the update had been tried again before.
        resolution: what the update did about it.
    """

    timestamp: datetime
    table: str
    key: tuple[Any, ...]
    expected: int
    actual: int
    retries: int
    resolution: Resolution


@dataclass(frozen=True, slots=True)
class ConflictAnalysis:
    """What the conflicts in the history have in common.

    Attributes:
        total_conflicts: how many there are.
        hotspots: the ten keys with most conflicts, and how many; most first.
        retry_distribution: how many conflicts there are for each number of retries before.
        avg_retries: retries before a conflict, on average.
        recommendations: what to do about them.
    """

    total_conflicts: int
    hotspots: tuple[tuple[tuple[Any, ...], int], ...]
    retry_distribution: Mapping[int, int]
    avg_retries: float
    recommendations: tuple[str, ...]


class History:
    """Counts of updates, and the latest conflicts.

    Arguments:
        size: how many conflicts are kept.
        clock: the time of conflicts.
    """

    def __init__(self, size: int, clock: Clock) -> None:
        self.clock = clock
        self.conflicts: deque[Conflict] = deque(maxlen=size)
        self.total = self.successes = self.version_conflicts = 0
        self.retries = self.merge_conflicts = 0

    def add(self, conflict: Conflict) -> None:
        self.version_conflicts += 1
        self.conflicts.append(conflict)

    def metrics(self) -> VersionedMetrics:
        counts = (self.successes, self.version_conflicts, self.retries, self.merge_conflicts)
        rates = (each / (self.total or 1) for each in (counts[2], counts[1], counts[0]))
        return VersionedMetrics(self.total, *counts, *rates)

    def analysis(self) -> ConflictAnalysis:
        found = list(self.conflicts)
        names = {repr(each.key): each.key for each in found}  # a key may hold a list
        hot = Counter(repr(each.key) for each in found).most_common(10)
        retries = Counter(each.retries for each in found)
        advice = []
        if hot and len(found) >= 10 and hot[0][1] * 2 > len(found):
            advice.append(
                f"most conflicts are of the row {names[hot[0][0]]}: split it into several"
            )
        if self.retries > self.total > 0:
            advice.append("updates need more than one retry on average: raise retry_delay")
        if any(each.resolution is Resolution.FAIL_FAST for each in found):
            advice.append("updates that fail fast have lost: pass a function of the row's values")
        return ConflictAnalysis(
            len(found),
            tuple((names[name], count) for name, count in hot),
            dict(sorted(retries.items())),
            sum(each.retries for each in found) / (len(found) or 1),
            tuple(advice),
        )
