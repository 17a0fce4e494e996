"""Tables of recipes: one description gives the CQL that creates a table and the check of its shape.

``CREATE TABLE IF NOT EXISTS`` succeeds also if the table has other columns. So :func:`create`
compares the table's columns with what the recipe needs. Columns beyond these are allowed, as long
as they are not part of the key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio.exceptions import AlreadyExists, CQLError, InvalidQuery, ServerError
from cqlproto_anyio.patterns._errors import SchemaMismatch
from cqlproto_anyio.patterns._identifiers import qualified, quoted
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto_anyio.executor import Executor

__all__ = ["TableSchema", "agreement", "change", "create", "is_key", "opened", "shape"]

_COLUMNS = (
    "SELECT column_name, type, kind, position, clustering_order FROM system_schema.columns"
    " WHERE keyspace_name = :in_keyspace AND table_name = :of_table"
)
_LOCAL = "SELECT schema_version FROM system.local"
_PEERS = "SELECT schema_version FROM system.peers"
_AGREEMENT = 3.0  # seconds to wait for a change that another program has made
_ATTEMPTS = 5
_POLLS = Backoff(first=0.05, longest=0.5)
_MOST_COLUMN = 1024  # characters of a column's name


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table that a recipe needs.

    Attributes:
        keyspace, table: the names, without quotes.
        columns: the CQL type of each column, in order: ``frozen<list<uuid>>``.
        key: the columns of the partition key.
        clustering: the clustering columns, each as ``version`` or ``created desc``.
        static: the static columns.
        options: what follows ``WITH``, besides the clustering order: ``gc_grace_seconds = 3600``.
    """

    keyspace: str
    table: str
    columns: Mapping[str, str]
    key: Sequence[str]
    clustering: Sequence[str] = ()
    static: Collection[str] = ()
    options: Sequence[str] = ()

    def __post_init__(self) -> None:
        qualified(self.keyspace, self.table)

    @property
    def name(self) -> str:
        """``"keyspace"."table"``, quoted."""
        return qualified(self.keyspace, self.table)

    def cql(self) -> str:
        """Return the CREATE TABLE IF NOT EXISTS statement."""
        columns = [
            f"{_column(name)} {kind}{' static' if name in self.static else ''}"
            for name, kind in self.columns.items()
        ]
        ordered = [(_column(name), way.upper()) for name, way in self._ordered()]
        partition = ", ".join(map(_column, self.key))
        key = ", ".join([f"({partition})", *(name for name, _ in ordered)])
        options = list(self.options)
        if any(way != "ASC" for _, way in ordered):
            options.insert(0, f"CLUSTERING ORDER BY ({', '.join(map(' '.join, ordered))})")
        text = f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(columns)}, PRIMARY KEY ({key}))"
        return f"{text} WITH {' AND '.join(options)}" if options else text

    def shape(self) -> dict[str, str]:
        """Return each column's type and place, such as ``bigint clustering 0 asc``."""
        places = {name: f" partition_key {at}" for at, name in enumerate(self.key)}
        for at, (name, way) in enumerate(self._ordered()):
            places[name] = f" clustering {at} {way}"
        places |= dict.fromkeys(self.static, " static")
        return {name: _type(kind) + places.get(name, "") for name, kind in self.columns.items()}

    def _ordered(self) -> list[tuple[str, str]]:
        """Return each clustering column with its order, ``asc`` or ``desc``."""
        parts = [each.partition(" ") for each in self.clustering]
        return [(name, way.lower() or "asc") for name, _, way in parts]


def _column(name: str) -> str:
    return quoted("column", name, most=_MOST_COLUMN)


def _type(text: str) -> str:
    return text.lower().replace(" ", "").replace("varchar", "text")


async def create(executor: Executor, tables: Iterable[TableSchema]) -> None:
    """Create the tables that don't exist, and wait until all nodes know them.

    May be called at any time, from many tasks and processes at once.

    Raises:
        SchemaMismatch: a table exists with another shape.
    """
    agreed = True
    for table in tables:
        actual = await shape(executor, table)
        if existed := bool(actual):
            agreed = False  # another program may have created it just now
        else:
            agreed = await change(executor, table.cql()) and agreed
            actual = await shape(executor, table)
        expected = table.shape()
        for name in {**expected, **actual}:
            wanted, found = expected.get(name, "no key column"), actual.get(name)
            if found != wanted and (name in expected or is_key(found)):
                raise SchemaMismatch(table.name, name, wanted, found)
        if existed:
            await opened(executor, table.name, table.key)
    if not agreed:
        await agreement(executor)


async def opened(executor: Executor, table: str, columns: Iterable[str]) -> None:
    """Wait until a node can use columns of a table; system_schema has them before that."""
    query, failure = f"SELECT {', '.join(map(_column, columns))} FROM {table}", None
    async for _ in Attempts(within=_AGREEMENT, backoff=_POLLS):
        try:
            await executor.prepare(query)
            return
        except (InvalidQuery, ServerError) as exc:  # no such table or column, "Unknown CF"
            failure = exc
    assert failure is not None
    raise failure


async def change(executor: Executor, statement: str) -> bool:
    """Execute DDL that may be repeated; return whether all nodes are known to have the change."""
    attempts = Attempts(most=_ATTEMPTS)
    async for number in attempts:
        try:
            return (await executor.execute(statement)).schema_agreed is True
        except AlreadyExists:
            break  # another program has created it at the same time
        except CQLError as exc:
            if number == _ATTEMPTS or not may_retry(exc, idempotent=True):
                raise
    return False


async def agreement(executor: Executor) -> None:
    """Wait until the nodes have one schema version; a node that is down may never have it."""
    with anyio.move_on_after(_AGREEMENT):
        async for _ in Attempts(backoff=_POLLS):
            results = [await executor.execute(query) for query in (_LOCAL, _PEERS)]
            if len({each for result in results for each in result.scalars() if each}) <= 1:
                return


async def shape(executor: Executor, table: TableSchema) -> dict[str, str]:
    """Return the columns of a table as TableSchema.shape does; none if it doesn't exist."""
    names = {"in_keyspace": table.keyspace, "of_table": table.table}
    found = {}
    for name, kind, place, position, order in (await executor.execute(_COLUMNS, names)).rows:
        at = {"regular": "", "partition_key": f" partition_key {position}"}
        at |= {"static": " static", "clustering": f" clustering {position} {order}"}
        found[name] = _type(kind) + at[place]
    return found


def is_key(place: str | None) -> bool:
    """Return whether a column of this type and place is a part of the primary key."""
    return place is not None and (" partition_key " in place or " clustering " in place)
