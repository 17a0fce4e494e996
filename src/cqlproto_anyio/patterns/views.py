"""Denormalised views: tables that repeat a base table's rows under other keys."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqlproto_anyio.patterns._arguments import integer
from cqlproto_anyio.patterns._errors import InvalidInput, RecordExists, RecordNotFound
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._schema import create
from cqlproto_anyio.patterns._viewedits import Edits
from cqlproto_anyio.patterns._viewtables import Base, Table, View, ViewDifference

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto_anyio.executor import Executor

__all__ = ["Rebuilt", "Table", "ViewDifference", "ViewReport", "Views"]

_AT_ONCE = 32  # rows that verify and rebuild work on at a time
_LOOKS = 3  # how often a difference is looked at: an edit may be under way
_PAUSES = Backoff(first=0.1, longest=0.5)


@dataclass(frozen=True, slots=True)
class ViewReport:
    """What ``verify`` has found.

    Attributes:
        checked: how many rows of the base table were compared.
        missing: how many rows of views are missing.
        stale: how many rows of views should not be there, or are different.
        differences: the first of them.
    """

    checked: int
    missing: int
    stale: int
    differences: tuple[ViewDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether the views have what the base table says."""
        return not self.missing and not self.stale


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many rows of a view ``rebuild`` has written, and how many it has removed."""

    view: str
    written: int
    removed: int


class Views:
    """A base table and views of it: ``await views.create(post)`` writes all of them.

    Guarantee: edits of a row are in one order. When a call returns, the base table and all views
    have the edit. The rows of views that an edit adds, changes and removes are written by one
    logged batch, with one timestamp. If a program dies before its batch, the views get the edit
    with the next edit of the row, or by :meth:`rebuild`. Edits that come late change nothing.

    Not guaranteed: that a reader sees the base table and its views change at one moment; views of
    rows that other programs write: :meth:`verify` finds them, :meth:`rebuild` repairs them.

    Cost: an edit is one LWT, one logged batch, and two reads; creating needs one of the reads,
    deleting one LWT more.

    Tables: the base table, which has six columns more for the bookkeeping (``views_edit``, ..), and
    the views. A row whose key would have a null or be empty isn't in a view.

    Arguments:
        session: the session, or another Executor.
        keyspace: the keyspace of all tables.
        base: the base table.
        views: its views.
    """

    def __init__(
        self, session: Executor, *, keyspace: str, base: Table, views: Sequence[Table]
    ) -> None:
        self._session = session
        self._base = Base(keyspace, base)
        self._views: dict[str, View] = {}
        for table in views:
            view = View(keyspace, self._base, table)
            if view.name == self._base.name or view.name in self._views:
                raise InvalidInput("views", "tables that have names of their own", view.name)
            self._views[view.name] = view
        self._schemas = [each.schema for each in (self._base, *self._views.values())]
        self._edits = Edits(session, self._base, tuple(self._views.values()))

    def schema_cql(self) -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return tuple(each.cql() for each in self._schemas)

    async def create_schema(self) -> None:
        """Create the tables that don't exist, and wait until all nodes know them.

        Raises:
            SchemaMismatch: a table of such a name has another shape.
        """
        await create(self._session, self._schemas)

    async def get(self, key: Any) -> dict[str, Any] | None:
        """Return a row of the base table, or None. One read."""
        row = await self._edits.read(self._base.keyed(key))
        return None if row is None else self._plain(row)

    async def create(self, row: Any) -> None:
        """Write a new row.

        Arguments:
            row: a mapping by column name, or a dataclass. Columns that are left out are null.

        Raises:
            RecordExists: there is a row with this key; nothing was written.
            OutcomeUnknown: it isn't known whether it was written.
            InvalidInput: the row is wrong, or too large for a batch of all its views.
        """
        values = self._base.checked(row)
        for name in self._base.key:
            if values.get(name) is None:
                raise InvalidInput("row", f"a row with the column {name} of the key", row)
        values = {name: values.get(name) for name in self._base.columns}
        existing = await self._edits.create(values)
        if existing is not None:
            key = tuple(values[name] for name in self._base.key)
            raise RecordExists(self._base.schema.name, key, self._plain(existing))

    async def update(self, key: Any, changes: Mapping[str, Any]) -> None:
        """Change columns of a row, and what its views have of them.

        Arguments:
            key: the primary key: a value, a tuple, or a mapping by name.
            changes: the new values by column name; None for null.

        Raises:
            RecordNotFound: there is no such row.
            OutcomeUnknown: it isn't known whether it was changed.
            InvalidInput: an argument is wrong, or the row gets too large.
        """
        place = self._base.keyed(key)
        if not isinstance(changes, Mapping) or not changes:
            raise InvalidInput("changes", "a mapping of at least one column", changes)
        values = self._base.checked(changes)
        if both := values.keys() & set(self._base.key):
            raise InvalidInput("changes", "columns that aren't part of the key", sorted(both)[0])
        if not await self._edits.edit(place, values):
            raise RecordNotFound(self._base.schema.name, tuple(place.values()))

    async def delete(self, key: Any) -> bool:
        """Delete a row, and what its views have of it; return whether there was such a row.

        Raises:
            OutcomeUnknown: it isn't known whether it was deleted.
        """
        return await self._edits.edit(self._base.keyed(key), None)

    async def verify(self, view: str | None = None, *, limit: int = 100) -> ViewReport:
        """Compare a view, or all, with the base table; reads all rows of both.

        Arguments:
            view: the view; None for all.
            limit: how many differences the report has at most.
        """
        integer("limit", limit, least=1)
        found: list[ViewDifference] = []
        kinds: Counter[str] = Counter()

        async def look(differences: list[ViewDifference], record: Any) -> None:
            kinds.update(each.kind for each in differences)
            found.extend(differences[: limit - len(found)])

        checked = await self._compare(self._chosen(view), look, look)
        stale = kinds["stale"] + kinds["different"]
        return ViewReport(checked, kinds["missing"], stale, tuple(found))

    async def rebuild(self, view: str) -> Rebuilt:
        """Write what a view lacks, and remove what it should not have; others may edit meanwhile.

        Reads all rows of the base table and the view. Each row that differs costs an edit.
        """
        (chosen,) = self._chosen(view)
        written = removed = 0

        async def write(differences: list[ViewDifference], row: Any) -> None:
            nonlocal written
            if await self._edits.edit({name: row[name] for name in self._base.key}, {}):
                written += len(differences)

        async def remove(differences: list[ViewDifference], at: int) -> None:
            nonlocal removed
            delete = chosen.delete, chosen.place(differences[0].key)
            await self._session.execute(*delete, timestamp=at, idempotent=True)
            removed += 1

        await self._compare([chosen], write, remove)
        return Rebuilt(chosen.name, written, removed)

    async def _compare(
        self,
        views: Sequence[View],
        differs: Callable[[list[ViewDifference], Any], Awaitable[None]],
        stale: Callable[[list[ViewDifference], Any], Awaitable[None]],
    ) -> int:
        """Compare all rows; return how many the base table has.

        ``differs`` is called with what is wrong in the views of a row, and the row; also with a row
        whose deletion may not have ended. ``stale`` is called with a row that a view should not
        have, and a timestamp that deletes it, but no later write of it.
        """
        checked = 0

        async def expected(record: Any) -> None:
            nonlocal checked
            checked += 1
            read = self._base.named(record)
            row = None if read["views_deleted"] else read
            async for number in Attempts(most=_LOOKS, backoff=_PAUSES):
                if number > 1:  # an edit may have been under way
                    row = await self._edits.read(read)
                found = [each for view in views for each in await self._edits.wrong(view, row)]
                if not found:
                    break
            if found or read["views_deleted"]:
                await differs(found, read)

        await for_each(self._session.stream(self._base.read), expected, concurrency=_AT_ONCE)
        for view in views:

            async def present(record: Any, view: View = view) -> None:
                key = dict(zip(view.key, record, strict=False))
                async for _ in Attempts(most=_LOOKS, backoff=_PAUSES):
                    now = time.time_ns() // 1000  # before the read: an edit after it is later
                    row = await self._edits.read(key)
                    if view.identity(key) in view.rows(row):
                        return
                if (await self._session.execute(view.read_key, view.place(key))).first():
                    written = [at for at in record[len(key) :] if at is not None]
                    at = max(written, default=now)  # a row of a key alone has no time of writing
                    await stale([ViewDifference(view.name, "stale", key)], at)

            await for_each(self._session.stream(view.scan), present, concurrency=_AT_ONCE)
        return checked

    def _chosen(self, view: str | None) -> list[View]:
        if view is None:
            return list(self._views.values())
        if view not in self._views:
            raise InvalidInput("view", f"one of {', '.join(self._views)}", view)
        return [self._views[view]]

    def _plain(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in self._base.columns}
