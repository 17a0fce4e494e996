"""Optimistic locking: each update of a row is on the condition of the row's version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns import _arguments as arguments
from cqlproto_anyio.patterns._errors import InvalidInput, RecordNotFound
from cqlproto_anyio.patterns._keys import Key, row_key
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._turns import Turns
from cqlproto_anyio.patterns._versions import (
    Conflict,
    History,
    Resolution,
    RowOutcome,
    UpdateOutcome,
)
from cqlproto_anyio.patterns._versiontable import VersionTable
from cqlproto_anyio.patterns._versionwork import Work

if TYPE_CHECKING:
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._arguments import Clock, Seconds
    from cqlproto_anyio.patterns._unit import UnitOfWork
    from cqlproto_anyio.patterns._versions import (
        Changes,
        ConflictAnalysis,
        Rule,
        VersionedMetrics,
        VersionedRow,
        VersionedUpdate,
    )

__all__ = ["Versioned"]


class Versioned:
    """Rows with a version: ``await rows.update(key, lambda row: {"total": row["total"] + 1})``.

    Guarantee: an update is applied only to the version that it was made of, so no update is lost.
    RETRY calls the function with fresh values each time. MERGE compares with the values that were
    read (``expected=``): a field that both sides have changed needs a rule. A row that was deleted
    is not revived. An update whose reply is lost is settled, and counts once.

    Not guaranteed: that others keep to it: each writer of the table has to raise the version. A key
    that is deleted and inserted again begins with version 1 again. If the reply is lost and another
    writer is faster than the read that settles it, OutcomeUnknown is raised.

    Cost: one LWT if the version is known (``expected=``), one read more if not. After a conflict
    one SERIAL read and one LWT for each retry. All is in one partition. The first call reads the
    table's columns.

    Table: one of yours, with the columns ``version bigint`` and ``writer uuid``.

    Arguments:
        session: the session, or another Executor.
        keyspace, table: the table.
        key: the columns of its primary key.
        version: the column of the version.
        writer: the column of the latest update's id. None: without one, an update whose outcome is
            in doubt raises OutcomeUnknown.
        max_retries: how often an update is tried again.
        retry_delay: the pause before the first retry, of which half is random: a timedelta or
            seconds.
        backoff: each pause is this many times the one before it.
        max_delay: the longest pause.
        history: how many conflicts are remembered.
        clock: the time of conflicts.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str,
        key: Sequence[str],
        version: str = "version",
        writer: str | None = "writer",
        max_retries: int = 5,
        retry_delay: Seconds = 0.1,
        backoff: float = 2.0,
        max_delay: Seconds = 10.0,
        history: int = 1000,
        clock: Clock = arguments.utc_now,
    ) -> None:
        if isinstance(key, str) or not isinstance(key, Sequence) or not key:
            raise InvalidInput("key", "the columns of the primary key, in a list", key)
        self._table = VersionTable(session, keyspace, table, tuple(key), version, writer)
        self._most = 1 + arguments.integer("max_retries", max_retries)
        self._backoff = Backoff(
            first=arguments.seconds("retry_delay", retry_delay),
            longest=arguments.seconds("max_delay", max_delay),
            factor=arguments.factor("backoff", backoff),
        )
        self._history = History(arguments.integer("history", history, least=1), clock)
        self._turns = Turns()

    @classmethod
    def schema_cql(
        cls, keyspace: str, *, table: str, version: str = "version", writer: str | None = "writer"
    ) -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes, if the columns are missing."""
        none: Any = None
        return VersionTable(none, keyspace, table, ("key",), version, writer).cql()

    async def create_schema(self) -> None:
        """Add the columns of the version and the writer to the table, if it has none.

        Raises:
            SchemaMismatch: there is no such table, its key is another one, or a column has another
                type.
        """
        await self._table.create()

    async def insert(self, values: Mapping[str, Any]) -> VersionedRow:
        """Insert a row with version 1. One LWT.

        Arguments:
            values: the values by column name, with all of the key.

        Raises:
            RecordExists: there is such a row already.
            OutcomeUnknown: it isn't known whether it was inserted.
            SchemaMismatch, InvalidInput: the table or an argument is wrong.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput("values", "a mapping of columns and values", values)
        names = self._table.key
        key = {name: value for name, value in values.items() if name in names}
        found = row_key(names, key)
        await self._table.check("values", values.keys() - names)
        return await self._table.insert(found, values)

    async def read(self, key: Key) -> VersionedRow:
        """Return a row and its version. One read.

        Raises:
            RecordNotFound: there is no such row.
            SchemaMismatch, InvalidInput: the table or an argument is wrong.
        """
        values = row_key(self._table.key, key)
        await self._table.check("key")
        row = await self._table.find(values, serial=False)
        if row is None:
            raise RecordNotFound(self._table.name, values)
        return row

    @overload
    async def update(
        self,
        key: Key,
        changes: Changes,
        *,
        expected: VersionedRow | int | None = None,
        unit: UnitOfWork,
    ) -> None: ...
    @overload
    async def update(
        self,
        key: Key,
        changes: Changes,
        *,
        expected: VersionedRow | int | None = None,
        resolution: Resolution | None = None,
        merge: Mapping[str, Rule] | None = None,
    ) -> UpdateOutcome: ...
    async def update(
        self,
        key: Key,
        changes: Changes,
        *,
        expected: VersionedRow | int | None = None,
        resolution: Resolution | None = None,
        merge: Mapping[str, Rule] | None = None,
        unit: UnitOfWork | None = None,
    ) -> UpdateOutcome | None:
        """Update a row that has the expected version.

        Arguments:
            key: the row's key: a value, a tuple, or a mapping by column.
            changes: new values by column, or a function that makes them of the current values. It
                may be called several times, and awaits nothing.
            expected: the row that was read, or its version.
            resolution: what to do when another writer was faster; by default RETRY for a function,
                FAIL_FAST for values.
            merge: for MERGE, the rule of each field that both sides may change: a function of
                (base, mine, theirs), or ``last_writer_wins``, ``keep_current``, ``numeric_add``
                (adds the difference), ``list_append`` (appends what was appended).
            unit: add the update to this unit instead, which must be for one partition; if it finds
                another version, nothing of the unit is written.

        Returns:
            what became of it; None if it was added to a unit.

        Raises:
            OutcomeUnknown: it isn't known whether the row was updated.
            SchemaMismatch, InvalidInput: the table or an argument is wrong.
        """
        work = Work(self._table, self._history, key, changes, expected, resolution, merge)
        await self._table.check("changes", {*work.named, *work.rules})
        if unit is not None:
            if resolution is not None or merge is not None:
                raise InvalidInput("resolution", "left out: a unit fails fast", resolution)
            await work.add(unit)
            return None
        async with self._turns.turn(repr(work.key)):
            return await work.run(Attempts(most=self._most, backoff=self._backoff))

    async def update_many(
        self,
        updates: Iterable[VersionedUpdate],
        *,
        concurrency: int = 16,
        resolution: Resolution | None = None,
        merge: Mapping[str, Rule] | None = None,
    ) -> list[RowOutcome]:
        """Make several updates at once, each by itself.

        Arguments:
            updates: the updates; those of one key are made in any order.
            concurrency: how many are made at the same time.
            resolution, merge: as for :meth:`update`.

        Returns:
            the outcome of each update, or the error that it has raised, in the order of updates.
        """
        todo = [(row_key(self._table.key, each.key), each) for each in updates]
        found: list[Any] = [None] * len(todo)

        async def one(at: int) -> None:
            key, each = todo[at]
            try:
                outcome = await self.update(
                    key, each.changes, expected=each.expected, resolution=resolution, merge=merge
                )
            except CQLError as exc:
                found[at] = RowOutcome(key, None, exc)
            else:
                found[at] = RowOutcome(key, outcome, None)

        concurrency = arguments.integer("concurrency", concurrency, least=1)
        await for_each(range(len(todo)), one, concurrency=concurrency)
        return found

    def metrics(self) -> VersionedMetrics:
        """Return the counts of this object's updates."""
        return self._history.metrics()

    def conflicts(self, limit: int = 10) -> list[Conflict]:
        """Return the latest conflicts, newest first."""
        newest = list(reversed(self._history.conflicts))
        return newest[: arguments.integer("limit", limit)]

    def analyze_conflicts(self) -> ConflictAnalysis:
        """Return what the remembered conflicts have in common."""
        return self._history.analysis()
