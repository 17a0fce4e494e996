"""Edits of a row and its views, in one order, each finished by whoever comes next.

An edit is a conditional write of the base row, and then a logged batch of what it changes in the
views::

    UPDATE posts SET .., views_edit = B, views_previous = A, views_before = .. IF views_edit = A
    BEGIN BATCH USING TIMESTAMP t  DELETE .. INSERT .. UPDATE posts SET views_done = B  APPLY BATCH

The condition puts the edits of a row in one order. ``t`` is the time that the server gave to the
conditional write, which only grows in a partition. So a batch changes nothing that a later edit has
written, however late it comes, and it may be executed again.

The batch is made of what the row says: its values, and in ``views_before`` what the edit has
changed. If ``views_done`` is another edit than ``views_edit``, the batch may be missing: whoever
reads the row to edit it executes that batch first. A row that is deleted is marked so by its last
edit, and removed after the batch.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio

from cqlproto.cqltypes import UNSET
from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.lwt import settle
from cqlproto_anyio.patterns._errors import InvalidInput, OutcomeUnknown
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry
from cqlproto_anyio.patterns._turns import Turns
from cqlproto_anyio.patterns._viewtables import Base, View, ViewDifference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from cqlproto_anyio.executor import Executor

__all__ = ["Edits"]

_MAX_BATCH = 45_000  # bytes; a server refuses batches of more than 50 KiB
_CLEAN_UP = 5.0  # seconds that clean-up may take
_BATCHES = 5  # attempts
_CREATIONS = 3  # attempts
_RACES = Backoff(first=0.005, longest=0.25)


class Edits:
    """Edits the rows of a base table, and keeps its views in step."""

    def __init__(self, session: Executor, base: Base, views: Sequence[View]) -> None:
        self._session = session
        self._base = base
        self._views = views
        self._keys = {name for view in views for name in view.sources}
        self._turns = Turns()

    async def read(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a row with its bookkeeping; None if there is none, or it is being deleted."""
        row = await self._row(key, False)
        return None if row is None or row["views_deleted"] else row

    async def create(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Create a row; return the row that is there already, if any."""
        base, operation = self._base, uuid4()
        key = {name: values[name] for name in base.key}
        self._check_size(None, values)
        insert = base.create, {**base.cells(values), "operation": operation}
        async with self._alone(key):
            async for number in Attempts(backoff=_RACES):
                try:
                    applied = (await self._session.execute(*insert)).applied
                except CQLError as exc:
                    if not exc.maybe_applied:
                        raise
                    # the condition may hold again when the row is deleted, so it isn't sent again
                    # before it is certain that it wasn't applied
                    applied = await self._created(key, operation, exc)
                    if not applied and number < _CREATIONS:
                        continue
                    if not applied:
                        raise
                if applied:
                    await self._finish(key, None)
                    return None
                row = await self._settled(key, serial=True)
                if row is not None:  # a copy of this creation may have come late
                    return None if row["views_created"] == operation else row
        raise AssertionError("attempts without a limit have ended")

    async def edit(self, key: Mapping[str, Any], changes: Mapping[str, Any] | None) -> bool:
        """Change a row; delete it (None), or write all its views again (no changes).

        Returns:
            whether there was such a row.
        """
        base, serial = self._base, False
        async with self._alone(key):
            async for _ in Attempts(backoff=_RACES):
                row = await self._settled(key, serial=serial)
                if row is None:
                    return False
                if changes:
                    self._check_size(row, {**row, **changes})
                operation, previous = uuid4(), row["views_edit"]
                names = () if changes is None else tuple(changes) or base.columns
                cells = {f"c{base.columns.index(name)}": v for name, v in (changes or {}).items()}
                values = {
                    **dict.fromkeys(base.cells(row), UNSET),
                    **base.place(key),
                    **cells,
                    "operation": operation,
                    "previous": previous,
                    "before": base.kept(row, names, self._keys),
                    "deleted": True if changes is None else None,
                }
                query = base.edit
                if previous is None:  # which the condition finds in a missing row too
                    query, values["witness"] = base.witnessed(row)
                outcome = await conditional_write(
                    self._session,
                    [bound(query, values)],
                    operation=operation,
                    read=(base.read_key, base.place(key)),
                    verdict=_verdict(operation, previous),
                    what=f"edit of {base.name} {tuple(key.values())}",
                )
                if outcome.applied:
                    await self._finish(key, previous)
                    return True
                serial = True
        raise AssertionError("attempts without a limit have ended")

    async def wrong(self, view: View, row: Mapping[str, Any] | None) -> list[ViewDifference]:
        """Return what a view lacks of a row, or has in another form."""
        found = []
        for each in view.rows(row).values():
            key = {name: each[name] for name in view.key}
            actual = (await self._session.execute(view.read_key, view.place(each))).first()
            if actual is None:
                found.append(ViewDifference(view.name, "missing", key))
            elif tuple(actual) != tuple(each.values()):
                found.append(ViewDifference(view.name, "different", key))
        return found

    def _check_size(self, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> None:
        """Refuse an edit whose batch a server would refuse."""
        views = self._views
        size = sum(view.size(each) for view in views for each in view.rows(new).values())
        size += sum(view.size(each, view.key) for view in views for each in view.rows(old).values())
        if size > _MAX_BATCH:
            what = f"smaller: a batch of all its views has {size:,} bytes, {_MAX_BATCH:,} fit"
            raise InvalidInput("row", what, dict(new))

    @asynccontextmanager
    async def _alone(self, key: Mapping[str, Any]) -> AsyncIterator[None]:
        """Let one task of this program edit the row; finish an edit that is cancelled."""
        async with self._turns.turn(self._base.identity(key)):
            try:
                yield
            except anyio.get_cancelled_exc_class():
                with (
                    anyio.CancelScope(shield=True),
                    anyio.move_on_after(_CLEAN_UP),
                    suppress(CQLError),  # the next edit of the row finishes it
                ):
                    await self._settled(key)
                raise

    async def _finish(self, key: Mapping[str, Any], previous: UUID | None) -> None:
        """Bring the views in step after an edit."""
        row = await self._row(key, False)
        behind = (row or {}).get("views_edit") == previous  # read from a replica that lags
        await self._settled(key, serial=True) if behind else await self._bring(key, row)

    async def _settled(self, key: Mapping[str, Any], serial: bool = False) -> dict[str, Any] | None:
        """Bring the views in step with a row's last edit; return the row, or None."""
        return await self._bring(key, await self._row(key, serial))

    async def _row(self, key: Mapping[str, Any], serial: bool) -> dict[str, Any] | None:
        options: Any = {"consistency": serial_level(self._session)} if serial else {}
        place = self._base.place(key)
        row = (await self._session.execute(self._base.read_key, place, **options)).first()
        return None if row is None else self._base.named(row)

    async def _bring(
        self, key: Mapping[str, Any], row: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        if row is None:
            return None
        if row["views_edit"] != row["views_done"]:
            await self._batch(row)
        if not row["views_deleted"]:
            return row
        place, operation = self._base.place(key), row["views_edit"]
        await conditional_write(
            self._session,
            [(self._base.remove, {**place, "operation": operation})],
            operation=operation,
            read=(self._base.read_key, place),
            verdict=lambda rows: (
                Verdict.OPEN if rows and rows[0]["views_edit"] == operation else Verdict.APPLIED
            ),
            what=f"deletion of {self._base.name} {tuple(key.values())}",
        )
        return None

    async def _batch(self, row: dict[str, Any]) -> None:
        """Write what a row's last edit changes in its views."""
        base, before = self._base, row["views_before"]
        new = None if row["views_deleted"] else row
        old = None if before is None else base.before(row)
        every = before is None or base.key[0] in before  # a new row, or one that is written again
        items: list[tuple[str, dict[str, Any]]] = []
        for view in self._views:
            now, then = view.rows(new), view.rows(old)
            items += [(view.delete, view.place(then[each])) for each in then.keys() - now.keys()]
            changed = every or not view.rest.isdisjoint(before)
            items += [
                (view.insert, view.cells(each))
                for identity, each in now.items()
                if changed or identity not in then
            ]
        items.append((base.done, {**base.place(row), "operation": row["views_edit"]}))
        async for number in Attempts(most=_BATCHES, backoff=_RACES):
            try:
                await self._session.batch(items, timestamp=row["views_at"], idempotent=True)
            except CQLError as exc:
                if number == _BATCHES or not may_retry(exc, idempotent=True):
                    raise
            else:
                return

    async def _created(self, key: Mapping[str, Any], operation: UUID, error: CQLError) -> bool:
        """Return whether a creation was applied that has ended in an error."""
        read = self._base.read_key, self._base.place(key)

        def created(row: Any) -> bool:
            return row is not None and bool(self._base.named(row)["views_created"] == operation)

        try:
            return await settle(self._session, error, *read, applied=created)
        except CQLError as exc:
            what = f"creation of {self._base.name} {tuple(key.values())}"
            raise OutcomeUnknown(what, operation, f"{type(exc).__name__}: {exc}") from error


def _verdict(operation: UUID, previous: UUID | None) -> Callable[[Rows], Verdict]:
    def verdict(rows: Rows) -> Verdict:
        row = rows[0] if rows else {}
        edit, before = row.get("views_edit"), row.get("views_previous")
        if operation in (edit, before):
            return Verdict.APPLIED
        if rows and edit == previous:
            return Verdict.OPEN
        # another edit came after the same one, so this one didn't
        return Verdict.REFUSED if rows and before == previous else Verdict.UNKNOWN

    return verdict
