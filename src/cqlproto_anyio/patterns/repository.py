"""The rows of a table as objects: dataclasses, pydantic models, msgspec structs, attrs classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from cqlproto.rows.targets.constructors import has_fields, parameters_of
from cqlproto.wire import UNSET
from cqlproto_anyio.exceptions import CQLError, InvalidQuery
from cqlproto_anyio.lwt import settle
from cqlproto_anyio.patterns._arguments import Seconds, integer, ttl_seconds
from cqlproto_anyio.patterns._errors import (
    InvalidInput,
    OutcomeUnknown,
    RecordExists,
    RecordNotFound,
    SchemaMismatch,
)
from cqlproto_anyio.patterns._identifiers import quoted
from cqlproto_anyio.patterns._keys import Key, row_key
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.patterns._retry import Attempts
from cqlproto_anyio.patterns._schema import TableSchema, is_key, shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cqlproto_anyio._execution.paging import RowStream
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.results import Result

__all__ = ["Repository"]

T = TypeVar("T")

_ATTEMPTS = 3
_GRACE = 5.0  # seconds for which nodes may still try to apply a write that gave no answer
_MOST_COLUMN = 1024  # characters of a column's name


class Repository(Generic[T]):
    """The rows of a table as objects: ``await users.create(User(..))``, ``await users.get(id)``.

    A field's column has the name of its alias, or of the field if the class gives it no alias.
    Other columns are neither read nor written. Fields that are UNSET are not written; None clears.

    Guarantee: columns are named in every statement, so that a column that is added later moves
    nothing. :meth:`create` replaces no row, and :meth:`update` makes none; each writes only the
    fields that it is told. A conditional write whose reply is lost is settled by a read.

    Not guaranteed: a row can't tell who wrote it. If the reply to :meth:`create` is lost and the
    row is there afterwards, it raises OutcomeUnknown; so does an update or a deletion that another
    writer may have overtaken. :meth:`save` has a timestamp of this program's clock, and the
    conditional writes have the nodes': let clocks agree, or use one kind of write for a row.

    Cost: one read, write or LWT for each call. A lost reply costs reads for 5 seconds, after which
    no late copy comes. The table is the caller's own; if it has another key or lacks a column, what
    the server refuses raises SchemaMismatch.

    Arguments:
        entity: the class.
        key: the columns of the primary key, all of them and in order.
    """

    def __init__(
        self, session: Executor, entity: type[T], *, keyspace: str, table: str, key: Sequence[str]
    ) -> None:
        self._session = session
        self._entity = entity
        self._fields = _fields(entity)
        self._key = tuple(key) if isinstance(key, (list, tuple)) else ()
        if not self._key or not set(self._key) <= self._fields.keys():
            raise InvalidInput("key", f"a list of some of {', '.join(self._fields)}", key)
        self._schema = TableSchema(keyspace, table, {}, self._key)
        self._table = self._schema.name
        names, markers = ", ".join(map(_column, self._fields)), ", ".join("?" * len(self._fields))
        self._where = " AND ".join(f"{_column(each)} = ?" for each in self._key)
        self._rows = f"SELECT {names} FROM {self._table}"
        self._row = f"{self._rows} WHERE {self._where}"
        self._insert = f"INSERT INTO {self._table} ({names}) VALUES ({markers})"

    async def create(self, entity: T, *, ttl: Seconds | None = None) -> None:
        """Insert a row that doesn't exist yet; one LWT.

        Arguments:
            entity: the row.
            ttl: after how long it expires: a timedelta or seconds; None for the table's default.

        Raises:
            RecordExists: there is a row with this key.
            OutcomeUnknown: the reply was lost, and there is a row with this key now.
        """
        values = self._values(entity)
        key = tuple(values[each] for each in self._key)
        statement = _with_ttl(f"{self._insert} IF NOT EXISTS", values, ttl)
        async for _ in Attempts(most=_ATTEMPTS):
            done, row, lost = await self._conditional("create", key, *statement)
            if done:
                return
            if lost is None:
                raise RecordExists(self._table, key, row or {})
            if row is not None:
                raise self._unknown("create", key, "a row can't tell who made it") from lost
        assert lost is not None
        raise lost

    async def get(self, key: Key) -> T | None:
        """Return a row; None if there is none. One read."""
        return await self._get(row_key(self._key, key))

    async def get_many(self, keys: Iterable[Key], *, concurrency: int = 32) -> list[T | None]:
        """Return the rows of many keys, in their order, ``concurrency`` at a time."""
        wanted = [row_key(self._key, key) for key in keys]
        integer("concurrency", concurrency, least=1)
        found: list[T | None] = [None] * len(wanted)

        async def read(at: int) -> None:
            found[at] = await self._get(wanted[at])

        await for_each(range(len(wanted)), read, concurrency=min(concurrency, len(wanted)))
        return found

    async def update(self, key: Key, /, **changes: Any) -> None:
        """Change fields of a row that exists: None clears one, UNSET leaves it. One LWT.

        Raises:
            RecordNotFound: there is no such row.
            OutcomeUnknown: the reply was lost, and the row has other values now.
        """
        columns = {name: column for column, name in self._fields.items()}
        new = {}
        for name, value in changes.items():
            column = columns.get(name, name)
            if column not in self._fields or column in self._key:
                others = ", ".join(self._fields.keys() - set(self._key))
                raise InvalidInput(name, f"one of the fields outside of the key: {others}", value)
            if value is not UNSET:
                new[column] = value
        if not new:
            raise InvalidInput("changes", "at least one field", changes)
        where = row_key(self._key, key)
        assigned = ", ".join(f"{_column(each)} = ?" for each in new)
        query = f"UPDATE {self._table} SET {assigned} WHERE {self._where} IF EXISTS"
        done, row, lost = await self._conditional("update", where, query, (*new.values(), *where))
        if row is not None and any(row[each] != value for each, value in new.items()):
            raise self._unknown("update", where, "another writer may have written since") from lost
        if not done and row is None:
            raise RecordNotFound(self._table, where)

    async def save(self, entity: T, *, ttl: Seconds | None = None) -> None:
        """Write a row, whether it exists or not; fields that are UNSET stay as they are.

        Arguments:
            entity: the row.
            ttl: after how long what is written expires, as for :meth:`create`.
        """
        query, values = _with_ttl(self._insert, self._values(entity), ttl)
        await self._execute(query, values, idempotent=True)

    async def delete(self, key: Key) -> bool:
        """Delete a row; False if there was none. One LWT.

        Raises:
            OutcomeUnknown: the reply was lost, and there is a row with this key yet.
        """
        where = row_key(self._key, key)
        query = f"DELETE FROM {self._table} WHERE {self._where} IF EXISTS"
        done, row, lost = await self._conditional("delete", where, query, where)
        if row is not None:
            raise self._unknown("delete", where, "another writer may have written since") from lost
        return done or lost is not None

    def stream(self) -> RowStream[T]:
        """Return all rows of the table, for ``async for``."""
        return self._session.stream(self._rows, row=self._entity)

    async def _get(self, key: tuple[Any, ...]) -> T | None:
        rows = (await self._execute(self._row, key, row=self._entity)).rows
        if len(rows) > 1:
            await self._compare()
        return rows[0] if rows else None

    async def _execute(self, query: str, values: tuple[Any, ...], **options: Any) -> Result[Any]:
        try:
            result: Result[Any] = await self._session.execute(query, values, **options)
        except InvalidQuery:
            await self._compare()
            raise
        return result

    async def _conditional(
        self, what: str, key: tuple[Any, ...], query: str, values: tuple[Any, ...]
    ) -> tuple[bool, Mapping[str, Any] | None, CQLError | None]:
        """Execute a conditional statement: whether it was applied, and what row has refused it.

        If its reply is lost: False, the row when no late copy can come any more, and the error.
        """
        try:
            result = await self._execute(query, values)
        except CQLError as error:
            if not error.maybe_applied:
                raise
            lost = error
        else:
            return result.applied, result.existing, None
        row: dict[str, Any] | None = None

        def seen(found: dict[str, Any] | None) -> bool:
            nonlocal row
            row = found
            return what == "create" and row is not None  # else a late copy may come yet

        try:
            await settle(self._session, lost, self._row, key, applied=seen, row=dict, grace=_GRACE)
        except CQLError:
            raise self._unknown(what, key, "no read succeeded") from lost
        return False, row, lost

    def _unknown(self, what: str, key: tuple[Any, ...], reason: str) -> OutcomeUnknown:
        return OutcomeUnknown(f"{what} of {key} in {self._table}", uuid4(), reason)

    def _values(self, entity: T) -> dict[str, Any]:
        """Return the value of each column."""
        if not isinstance(entity, self._entity):
            raise InvalidInput("entity", f"a {self._entity.__name__}", entity)
        values = {column: getattr(entity, name) for column, name in self._fields.items()}
        for each in self._key:
            if values[each] is None or values[each] is UNSET:
                raise InvalidInput(each, "set, as a part of the key", values[each])
        return values

    async def _compare(self) -> None:
        """Raise SchemaMismatch if the table has another key, or not all columns."""
        actual = await shape(self._session, self._schema)
        for column in {**self._fields, **actual} if actual else ():
            kind = actual.get(column)
            if kind is None:
                raise SchemaMismatch(self._table, column, "a column of any type", None)
            if is_key(kind) != (column in self._key):
                expected = f"{'no ' if is_key(kind) else ''}part of the primary key"
                raise SchemaMismatch(self._table, column, expected, kind)


def _fields(entity: Any) -> dict[str, str]:
    """Return the name of the field of each column."""
    if not isinstance(entity, type) or not has_fields(entity):
        raise InvalidInput("entity", "a dataclass, or a class of pydantic, msgspec, attrs", entity)
    fields = {}
    for each in parameters_of(entity):
        aliases = [name for name in each.keys if name != each.name]
        fields[aliases[0] if aliases else each.name] = each.name
    return fields


def _column(name: str) -> str:
    return quoted("field", name, most=_MOST_COLUMN)


def _with_ttl(
    query: str, values: Mapping[str, Any], ttl: Seconds | None
) -> tuple[str, tuple[Any, ...]]:
    if ttl is None:
        return query, tuple(values.values())
    return f"{query} USING TTL ?", (*values.values(), ttl_seconds("ttl", ttl))
