"""What a versioned update has to do: its arguments, and the changes of each attempt."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cqlproto_anyio.patterns._arguments import integer, now
from cqlproto_anyio.patterns._errors import InvalidInput, RecordNotFound
from cqlproto_anyio.patterns._keys import Key, row_key
from cqlproto_anyio.patterns._unit import UnitOfWork, require
from cqlproto_anyio.patterns._versions import (
    Conflict,
    History,
    LockStatus,
    Resolution,
    UpdateOutcome,
    VersionedRow,
)

if TYPE_CHECKING:
    from cqlproto_anyio.patterns._retry import Attempts
    from cqlproto_anyio.patterns._versions import Changes, Merge, Rule
    from cqlproto_anyio.patterns._versiontable import VersionTable
    from cqlproto_anyio.patterns._writeerrors import VersionConflict

__all__ = ["Work", "check_rules", "merged"]


class Work:
    """The checked arguments of an update.

    Attributes:
        key: the values of the key.
        changes: the new values, or the function that makes them.
        named: the columns of the new values, as far as they are known.
        row: the row that the caller has read, or None.
        version: the version that the caller expects, or None.
        resolution, rules: what to do about conflicts.
    """

    def __init__(
        self,
        table: VersionTable,
        history: History,
        key: Key,
        changes: Changes,
        expected: VersionedRow | int | None,
        resolution: Resolution | None,
        merge: Mapping[str, Rule] | None,
    ) -> None:
        self.key = row_key(table.key, key)
        self._table, self._history = table, history
        self.changes = changes
        function = callable(changes) and not inspect.iscoroutinefunction(changes)
        if not function and not (isinstance(changes, Mapping) and changes):
            what = "a mapping with a column, or a function that awaits nothing"
            raise InvalidInput("changes", what, changes)
        self.named = () if callable(changes) else tuple(changes)
        self.row = expected if isinstance(expected, VersionedRow) else None
        version = expected.version if isinstance(expected, VersionedRow) else expected
        if self.row is not None and self.row.key != self.key:
            raise InvalidInput("expected", f"the row with the key {self.key}", expected)
        self.version = None if expected is None else integer("expected", version)
        if resolution is None:
            resolution = Resolution.RETRY if function else Resolution.FAIL_FAST
        if not isinstance(resolution, Resolution):
            raise InvalidInput("resolution", "a Resolution", resolution)
        self.resolution = resolution
        self._check(function)
        if merge is not None and resolution is not Resolution.MERGE:
            raise InvalidInput("merge", "left out, unless resolution is MERGE", merge)
        self.rules = check_rules(merge)
        self._first = True

    def _check(self, function: bool) -> None:
        """Raise InvalidInput for a resolution that would lose the update of another writer."""
        if self.resolution is Resolution.MERGE and self.row is None:
            raise InvalidInput("expected", "the row that was read: MERGE compares with it", None)
        if function or self.resolution is Resolution.MERGE:
            return
        if self.resolution is Resolution.RETRY:
            what = "a function of the row's values: values that are sent again are out of date"
            raise InvalidInput("changes", what, self.changes)
        if self.version is None and self.resolution is Resolution.FAIL_FAST:
            raise InvalidInput("expected", "the row that the values were made of", None)

    async def run(self, attempts: Attempts) -> UpdateOutcome:
        """Try until the row is updated, or the resolution says that it can't be."""
        history = self._history
        try:
            outcome = await self._run(attempts)
            history.successes += outcome.ok
            history.merge_conflicts += outcome.status is LockStatus.MERGE_CONFLICT
            return outcome
        finally:
            history.total += 1

    async def _run(self, attempts: Attempts) -> UpdateOutcome:
        row, version = self.row, self.version
        fails_fast = self.resolution is Resolution.FAIL_FAST
        async for number in attempts:
            retries = number - 1
            self._history.retries += retries > 0
            if version is None or (row is None and (version == 0 or callable(self.changes))):
                row = await self._table.find(self.key, serial=retries > 0)
                if row is None:
                    return self._outcome(LockStatus.RECORD_NOT_FOUND, None, retries)
            changes: Mapping[str, Any] = {}
            if row is None or version in (None, row.version):
                version = row.version if row is not None else version or 0
                changes, fields = self._make(row)
                if fields:
                    return self._outcome(LockStatus.MERGE_CONFLICT, row, retries, fields)
                if not changes:  # the rules have kept what is there
                    return self._outcome(LockStatus.SUCCESS, row, retries)
                await self._table.check("changes", changes)
                written = await self._table.write(self.key, version, changes, row)
                if written.applied:
                    values = None if row is None else {**row.values, **changes}
                    return self._outcome(LockStatus.SUCCESS, None, retries, (), version + 1, values)
                if not written.rows:
                    return self._outcome(LockStatus.RECORD_NOT_FOUND, None, retries)
                actual = written.row[self._table.version] or 0
            else:
                actual = row.version
            assert version is not None
            self._conflict(version, actual, retries)
            row, version = None, None
            if fails_fast:
                break
        row = await self._table.find(self.key)
        status = LockStatus.VERSION_CONFLICT if fails_fast else LockStatus.RETRY_EXHAUSTED
        if row is None:
            status = LockStatus.RECORD_NOT_FOUND
        return self._outcome(status, row, attempts.number - 1)

    async def add(self, unit: UnitOfWork) -> None:
        """Add the update to a unit of work."""
        row, version = self.row, self.version
        if row is None and (not version or callable(self.changes)):
            row = await self._table.find(self.key, serial=False)
            if row is None:
                raise RecordNotFound(self._table.name, self.key)
        if version is None:
            version = 0 if row is None else row.version
        changes, _ = self._make(row)
        await self._table.check("changes", changes)

        def ended(applied: bool, refused: VersionConflict | None) -> None:
            self._history.total += 1
            self._history.successes += applied
            if refused is not None and refused.actual is not None:
                self._conflict(refused.expected, refused.actual, 0)

        require(unit, *self._table.update(self.key, version, changes, row, ended))

    def _conflict(self, expected: int, actual: int, retries: int) -> None:
        history = self._history
        place = now(history.clock), self._table.name, self.key
        history.add(Conflict(*place, expected, actual, retries, self.resolution))

    def _make(self, row: VersionedRow | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return the changes for the next attempt, and the fields that can't be merged.

        Arguments:
            row: the row as it is now; None if only its version is known.
        """
        merges = self.resolution is Resolution.MERGE
        base = self.row if merges else row
        mine = self.changes
        if callable(mine):
            assert base is not None
            mine = mine(dict(base.values))
            if not isinstance(mine, Mapping) or not mine:
                raise InvalidInput("changes", "a function that returns a mapping", mine)
        first, self._first = self._first, False
        if first or not merges:
            return mine, ()
        assert base is not None and row is not None
        return merged(base.values, mine, row.values, self.rules)

    def _outcome(
        self,
        status: LockStatus,
        row: VersionedRow | None,
        retries: int,
        fields: tuple[str, ...] = (),
        version: int | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> UpdateOutcome:
        if row is not None:
            version, values = row.version, row.values
        return UpdateOutcome(
            status, self._table.name, self.key, version, values, retries, self.version, fields
        )


class _NoMerge(Exception):
    """There is no rule, or it doesn't fit what was changed."""


def _no_rule(base: Any, mine: Any, theirs: Any) -> Any:
    raise _NoMerge


def _numeric_add(base: Any, mine: Any, theirs: Any) -> Any:
    try:
        return (theirs or 0) + ((mine or 0) - (base or 0))
    except TypeError:
        raise InvalidInput("merge", "a rule that fits: numeric_add takes numbers", mine) from None


def _list_append(base: Any, mine: Any, theirs: Any) -> Any:
    base, mine, theirs = (list(each or ()) for each in (base, mine, theirs))
    if mine[: len(base)] != base:
        raise _NoMerge
    return theirs + mine[len(base) :]


_RULES: Mapping[str, Merge] = {
    "last_writer_wins": lambda _base, mine, _theirs: mine,
    "keep_current": lambda _base, _mine, theirs: theirs,
    "numeric_add": _numeric_add,
    "list_append": _list_append,
}


def check_rules(rules: Mapping[str, Rule] | None) -> dict[str, Merge]:
    """Return the functions of merge rules; raises InvalidInput for what is no rule."""
    found: dict[str, Merge] = {}
    for field, rule in (rules or {}).items():
        if not callable(rule) and not (isinstance(rule, str) and rule in _RULES):
            raise InvalidInput(f"merge[{field!r}]", f"a function, or of {', '.join(_RULES)}", rule)
        found[field] = rule if callable(rule) else _RULES[rule]
    return found


def merged(
    base: Mapping[str, Any],
    mine: Mapping[str, Any],
    theirs: Mapping[str, Any],
    rules: Mapping[str, Merge],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Merge the changes of two sides.

    Arguments:
        base: the values that both sides started from.
        mine: the new values of one side.
        theirs: all values of the other side.
        rules: the rule of each field that both sides may change.

    Returns:
        the changes to make to ``theirs``; the fields without a rule, or with one that doesn't fit.
    """
    changes, conflicts = {}, []
    for field, value in mine.items():
        before, now = base.get(field), theirs.get(field)
        if value in (before, now):
            continue
        if now != before:
            try:
                value = rules.get(field, _no_rule)(before, value, now)
            except _NoMerge:
                conflicts.append(field)
                continue
        if value != now:
            changes[field] = value
    return changes, tuple(conflicts)
