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

from cqlproto_anyio.exceptions import AlreadyExists, CQLError
from cqlproto_anyio.patterns._errors import SchemaMismatch
from cqlproto_anyio.patterns._identifiers import qualified, quoted
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto_anyio.executor import Executor

__all__ = ["TableSchema", "create"]

_COLUMNS = (
    "SELECT column_name, type, kind, position, clustering_order FROM system_schema.columns"
    " WHERE keyspace_name = :in_keyspace AND table_name = :of_table"
)
_LOCAL = "SELECT schema_version FROM system.local"
_PEERS = "SELECT schema_version FROM system.peers"
_AGREEMENT = 10.0  # seconds to wait for a change that another program has made
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

    @property
    def name(self) -> str:
        """``"keyspace"."table"``, quoted."""
        return qualified(self.keyspace, self.table)

    def __post_init__(self) -> None:
        qualified(self.keyspace, self.table)

    def cql(self) -> str:
        """Return the CREATE TABLE IF NOT EXISTS statement."""
        columns = [
            f"{_column(name)} {kind}{' static' if name in self.static else ''}"
            for name, kind in self.columns.items()
        ]
        ordered = [each.partition(" ") for each in self.clustering]
        partition = ", ".join(map(_column, self.key))
        key = ", ".join([f"({partition})", *(_column(name) for name, _, _ in ordered)])
        options = list(self.options)
        if any(direction for _, _, direction in ordered):
            order = (f"{_column(name)} {(way or 'asc').upper()}" for name, _, way in ordered)
            options.insert(0, f"CLUSTERING ORDER BY ({', '.join(order)})")
        text = f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(columns)}, PRIMARY KEY ({key}))"
        return f"{text} WITH {' AND '.join(options)}" if options else text

    def shape(self) -> dict[str, str]:
        """Return each column's type and place, such as ``bigint clustering 0 asc``."""
        places = {name: f" partition_key {at}" for at, name in enumerate(self.key)}
        for at, each in enumerate(self.clustering):
            name, _, way = each.partition(" ")
            places[name] = f" clustering {at} {(way or 'asc').lower()}"
        places |= dict.fromkeys(self.static, " static")
        return {name: _type(kind) + places.get(name, "") for name, kind in self.columns.items()}


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
    for table in tables:
        actual = await _shape(executor, table)
        if not actual:
            await _create(executor, table)
            actual = await _shape(executor, table)
        _compare(table, actual)


async def _create(executor: Executor, table: TableSchema) -> None:
    failure: CQLError | None = None
    async for _ in Attempts(most=_ATTEMPTS):
        try:
            result = await executor.execute(table.cql())
        except AlreadyExists:
            pass
        except CQLError as exc:
            if not may_retry(exc, idempotent=True):
                raise
            failure = exc
            continue
        else:
            if result.schema_agreed:
                return
        # another program has created it at the same time, or a node was slow
        await _agreement(executor)
        return
    assert failure is not None
    raise failure


async def _agreement(executor: Executor) -> None:
    """Wait until the nodes have one schema version; a node that is down may never have it."""
    with anyio.move_on_after(_AGREEMENT):
        async for _ in Attempts(backoff=_POLLS):
            try:
                results = [await executor.execute(query) for query in (_LOCAL, _PEERS)]
            except CQLError as exc:
                if not may_retry(exc):
                    raise
            else:
                if len({each for result in results for each in result.scalars() if each}) <= 1:
                    return


async def _shape(executor: Executor, table: TableSchema) -> dict[str, str]:
    names = {"in_keyspace": table.keyspace, "of_table": table.table}
    found = {}
    for name, kind, place, position, order in (await executor.execute(_COLUMNS, names)).rows:
        if place == "static":
            where = " static"
        elif place == "regular":
            where = ""
        else:
            where = f" {place} {position}" + (f" {order}" if place == "clustering" else "")
        found[name] = _type(kind) + where
    return found


def _compare(table: TableSchema, actual: Mapping[str, str]) -> None:
    expected = table.shape()
    for name, shape in expected.items():
        if actual.get(name) != shape:
            raise SchemaMismatch(table.name, name, shape, actual.get(name))
    for name, shape in actual.items():
        if name not in expected and (" partition_key " in shape or " clustering " in shape):
            raise SchemaMismatch(table.name, name, "no key column", shape)
