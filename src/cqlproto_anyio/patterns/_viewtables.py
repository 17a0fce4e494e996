"""The tables of denormalised views, and which rows a view has for a row of the base table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import product
from typing import Any, Literal

from cqlproto.cqltypes import UNSET, CQLType, ListType, SetType, decoder, encoder, parse_type
from cqlproto.exceptions import LocalProtocolError, ValueConversionError
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._identifiers import identifier, quoted
from cqlproto_anyio.patterns._keys import row_key
from cqlproto_anyio.patterns._schema import TableSchema

__all__ = ["Base", "Table", "View", "ViewDifference"]

Values = Mapping[str, Any]
_BOOKKEEPING = {
    "views_created": "uuid",  # the edit that has created the row
    "views_edit": "uuid",  # the last edit
    "views_previous": "uuid",  # the one before
    "views_before": "frozen<map<text, blob>>",  # what it has changed, and the old cells of keys
    "views_deleted": "boolean",  # whether it deletes the row
    "views_done": "uuid",  # the last edit that the views have
}
_MOST_COLUMN = 1024  # characters
_COLLECTIONS = {"list", "set", "map"}  # have no single time of writing
_OVERHEAD = 60  # bytes of a cell in a batch, besides its value


@dataclass(frozen=True, slots=True)
class Table:
    """A base table, or a view of it.

    Attributes:
        name: the table.
        key: the columns of the partition key.
        clustering: the clustering columns, each as ``id`` or ``created desc``. Columns of the base
            table's key that a view lacks are added at the end.
        columns: of the base table: the CQL type of each column, in order; user-defined types are
            not supported. Of a view: the names of the columns that it has besides its key; None for
            all.
        each: of a view: ``{"tag": "tags"}`` makes a row for each element of the set or list
            ``tags``, in the column ``tag``.
    """

    name: str
    key: Sequence[str] = field(kw_only=True)
    clustering: Sequence[str] = field(default=(), kw_only=True)
    columns: Mapping[str, str] | Sequence[str] | None = field(default=None, kw_only=True)
    each: Mapping[str, str] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class ViewDifference:
    """A row of a view that isn't what the base table says.

    Attributes:
        view: the view.
        kind: ``missing``, ``stale`` (it should not be there) or ``different``.
        key: the columns of the view's primary key.
    """

    view: str
    kind: Literal["missing", "stale", "different"]
    key: Mapping[str, Any]


class _Keyed:
    """A table: its schema, and the cells of its key."""

    def __init__(
        self, keyspace: str, table: Table, types: Mapping[str, CQLType], more: Mapping[str, str]
    ) -> None:
        ordered = [each.partition(" ") for each in table.clustering]
        self.key = (*table.key, *(name for name, _, _ in ordered))
        for name in self.key:
            if name not in types:
                raise InvalidInput("key", f"made of columns of the base table ({table.name})", name)
        for _, _, way in ordered:
            if way.lower() not in ("", "asc", "desc"):
                raise InvalidInput("clustering", "columns, each with asc or desc or nothing", way)
        if not table.key or len(set(self.key)) < len(self.key):
            raise InvalidInput("key", f"columns, each of them once ({table.name})", self.key)
        self.name = identifier("table", table.name)
        self.types = types
        self.columns = tuple(types)
        self._encode = {name: encoder(kind) for name, kind in types.items()}
        self._partition = len(table.key)
        described = {name: str(kind) for name, kind in types.items()} | dict(more)
        self.schema = TableSchema(keyspace, self.name, described, table.key, table.clustering)
        self.where = " AND ".join(f"{_quoted(name)} = :k{at}" for at, name in enumerate(self.key))
        listed = ", ".join(map(_quoted, self.columns))
        markers = ", ".join(f":c{at}" for at in range(len(types)))
        self.insert = f"INSERT INTO {self.schema.name} ({listed}) VALUES ({markers})"
        self.select = f"SELECT {listed} FROM {self.schema.name}"
        self.read_key = f"{self.select} WHERE {self.where}"
        self.delete = f"DELETE FROM {self.schema.name} WHERE {self.where}"

    def place(self, row: Values) -> dict[str, Any]:
        """Return the parameters of ``where``."""
        return {f"k{at}": row[name] for at, name in enumerate(self.key)}

    def cells(self, row: Values) -> dict[str, Any]:
        """Return the parameters of ``insert``."""
        return {f"c{at}": row.get(name) for at, name in enumerate(self.columns)}

    def identity(self, row: Values) -> tuple[bytes, ...] | None:
        """Return the cells of a row's key; None if there can't be such a row."""
        if any(row[name] is None for name in self.key):
            return None
        cells = tuple(self.cell(name, row) for name in self.key)
        # a server refuses an empty partition key of one column
        return None if self._partition == 1 and not cells[0] else cells

    def cell(self, name: str, row: Values) -> bytes:
        """Return the cell of a column that isn't null."""
        return bytes(self._encode[name](row[name]))

    def size(self, row: Values, columns: Sequence[str] | None = None) -> int:
        """Return about how many bytes a row, or some of its columns, take in a batch."""
        names = self.columns if columns is None else columns
        cells = sum(len(self.cell(name, row)) for name in names if row[name] is not None)
        return cells + _OVERHEAD * (1 + len(names))


class View(_Keyed):
    """A view of a base table.

    Attributes:
        sources: the columns of the base table that the key is made of.
        rest: the columns that aren't part of the key.
    """

    def __init__(self, keyspace: str, base: Base, table: Table) -> None:
        self._each = dict(table.each or {})
        types = dict(base.types)
        for name, source in self._each.items():
            kind = types.get(source)
            if not isinstance(kind, (ListType, SetType)) or name in base.types:
                raise InvalidInput("each", f"new columns of a set or list ({table.name})", source)
            types[name] = kind.element
        wanted = base.columns if table.columns is None else tuple(table.columns)
        for name in wanted:
            if name not in types:
                raise InvalidInput(f"columns of {table.name}", "columns of the base table", name)
        keys = [*table.key, *(name.partition(" ")[0] for name in table.clustering)]
        added = tuple(name for name in base.key if name not in keys)
        table = Table(table.name, key=table.key, clustering=(*table.clustering, *added))
        for name in keys:
            if name not in types:
                raise InvalidInput("key", f"columns of the base table ({table.name})", name)
        names = dict.fromkeys((*keys, *added, *wanted))
        super().__init__(keyspace, table, {name: types[name] for name in names}, {})
        self.sources = {self._each.get(name, name) for name in self.key}
        self.rest = set(self.columns) - set(self.key)
        dated = [
            _quoted(name)
            for name in self.columns
            if name not in self.key and str(types[name]).partition("<")[0] not in _COLLECTIONS
        ]
        marks = "".join(f", WRITETIME({name})" for name in dated)
        keys_only = ", ".join(map(_quoted, self.key))
        self.scan = f"SELECT {keys_only}{marks} FROM {self.schema.name}"

    def rows(self, row: Values | None) -> dict[tuple[bytes, ...], dict[str, Any]]:
        """Return the rows of the view for a row of the base table, by the cells of their keys."""
        if row is None:
            return {}
        found = {}
        for elements in product(*(row[source] or () for source in self._each.values())):
            made = {**row, **dict(zip(self._each, elements, strict=True))}
            if (identity := self.identity(made)) is not None:
                found[identity] = {name: made[name] for name in self.columns}
        return found


class Base(_Keyed):
    """The base table, with the columns that keep its views in step."""

    def __init__(self, keyspace: str, table: Table) -> None:
        if not isinstance(table.columns, Mapping) or table.each is not None:
            raise InvalidInput("columns", "the CQL type of each column of the base table", table)
        types = {}
        for name, text in table.columns.items():
            if identifier("column", name, most=_MOST_COLUMN) in _BOOKKEEPING:
                raise InvalidInput("columns", "other names than those of the bookkeeping", name)
            try:
                types[name] = parse_type(text)
            except LocalProtocolError as exc:
                raise InvalidInput(f"columns[{name!r}]", f"a CQL type ({exc})", text) from exc
            if "counter" in text:
                raise InvalidInput(f"columns[{name!r}]", "a type that can be copied", text)
        super().__init__(keyspace, table, types, _BOOKKEEPING)
        self._decode = {name: decoder(kind) for name, kind in types.items()}
        where, name = self.where, self.schema.name
        books = ", ".join(_BOOKKEEPING)
        self.names = (*self.columns, *_BOOKKEEPING, "views_at")
        books += ", WRITETIME(views_edit) AS views_at"
        self.read = self.select.replace(" FROM", f", {books} FROM", 1)
        self.read_key = f"{self.read} WHERE {where}"
        self.create = (
            self.insert.replace(") VALUES", ", views_created, views_edit) VALUES").removesuffix(")")
            + ", :operation, :operation) IF NOT EXISTS"
        )
        settable = [(at, name) for at, name in enumerate(self.columns) if name not in self.key]
        listed = "".join(f"{_quoted(name)} = :c{at}, " for at, name in settable)
        self.edit = (
            f"UPDATE {name} SET {listed}views_edit = :operation, views_previous = :previous,"
            f" views_before = :before, views_deleted = :deleted WHERE {where}"
            " IF views_edit = :previous"
        )
        self.remove = f"{self.delete} IF views_edit = :operation"
        self.done = f"UPDATE {name} SET views_done = :operation WHERE {where}"

    def named(self, record: Any) -> dict[str, Any]:
        """Return a row that ``read`` has returned, by column name."""
        return dict(zip(self.names, record, strict=True))

    def witnessed(self, row: Values) -> tuple[str, Any]:
        """Return an edit of a row that no edit has marked, and what it compares besides."""
        names = [name for name in self.columns if name not in self.key and row[name] is not None]
        if not names:
            return self.edit, None
        return f"{self.edit} AND {_quoted(names[0])} = :witness", row[names[0]]

    def checked(self, row: Any) -> dict[str, Any]:
        """Return the values of a mapping or a dataclass as a server would return them."""
        found = {}
        for name, value in _fields(row).items():
            if name not in self.types:
                raise InvalidInput("columns", f"columns of {self.name}", name)
            try:
                found[name] = value
                if value is not None:
                    found[name] = self._decode[name](self._encode[name](value))
            except ValueConversionError as exc:
                raise InvalidInput(name, f"a value of its type ({exc})", value) from exc
        return found

    def keyed(self, key: Any) -> dict[str, Any]:
        """Return the columns of a key: a value, a tuple, or a mapping by name."""
        parts = row_key(self.key, key)
        return self.checked(dict(zip(self.key, parts, strict=True)))

    def kept(self, row: Values, names: Sequence[str], keys: set[str]) -> dict[str, bytes]:
        """Return what ``views_before`` keeps of columns: their cells if views' keys need them."""
        return {
            name: b"" if row[name] is None or name not in keys else b"=" + self.cell(name, row)
            for name in names
        }

    def before(self, row: Values) -> dict[str, Any]:
        """Return a row as it was before its last edit, as far as views' keys need it."""
        old = {name: row[name] for name in self.columns}
        for name, cell in row["views_before"].items():
            old[name] = self._decode[name](cell[1:]) if cell else None
        return old


def _quoted(name: str) -> str:
    return quoted("column", name, most=_MOST_COLUMN)


def _fields(row: Any) -> dict[str, Any]:
    """Return the values of a mapping or a dataclass, without those that are UNSET."""
    if is_dataclass(row) and not isinstance(row, type):
        row = {each.name: getattr(row, each.name) for each in fields(row)}
    if not isinstance(row, Mapping):
        raise InvalidInput("row", "a mapping by column name, or a dataclass", row)
    return {name: value for name, value in row.items() if value is not UNSET}
