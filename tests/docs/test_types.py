"""The tables of docs/types.md, line by line: values that bind, values read, values refused.

The lines are read from the page. Code in a table is evaluated with the names that the page's
example imports and defines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import cqlproto_anyio as cql
from cqlproto import ValueConversionError
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    LosslessSet,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    decoder,
    encoder,
    parse_type,
)
from tests.docs.pages import DOCS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.cassandra.conftest import Node

TEXT = (DOCS / "types.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NAMES: dict[str, Any] = {}
exec("\n".join(BLOCKS), NAMES)

BINDING = ["CQL", "Python", "Example", "Binds to the same"]
LOSSLESS = ["CQL", "Python", "Example", "When"]
ROUNDING = ["CQL", "Bound", "Read", "Why"]
REFUSING = ["CQL", "Value", "What the error says"]


class Line(NamedTuple):
    """The cells of a line of a table."""

    head: list[str]
    cells: list[str]

    def code(self, column: int) -> list[str]:
        """Return the code in a cell, without names such as ``__index__``."""
        found = re.findall(r"`([^`]+)`", self.cells[column])
        return [text for text in found if text not in ("__index__", "numbers.Real")]

    @property
    def type(self) -> CQLType:
        [text] = self.code(0)
        known = NAMES.get(text)
        return known if isinstance(known, CQLType) else parse_type(text)


def lines() -> Iterator[Line]:
    for table in re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE):
        rows = [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()]
        for cells in rows[2:]:
            yield Line(rows[0], cells)


def of(*heads: Sequence[str]) -> pytest.MarkDecorator:
    """Parametrize by the lines of the tables with these headers."""
    found = [line for line in lines() if line.head in heads]
    return pytest.mark.parametrize("line", found, ids=lambda line: " ".join(line.cells[:3]))


def value(text: str) -> Any:
    return eval(text, NAMES)


def shape(value: Any) -> Any:
    """Return a value as text that distinguishes types and the signs of zeros, at every level."""
    if isinstance(value, Set):
        parts: Any = sorted(repr(shape(each)) for each in value)
    elif isinstance(value, Mapping):
        parts = sorted(repr((shape(key), shape(item))) for key, item in value.items())
    elif isinstance(value, tuple | list | LosslessSet):
        parts = [shape(each) for each in value]
    else:
        parts = repr(value)
    return type(value).__name__, parts


def test_every_table_is_known() -> None:
    heads = {tuple(line.head) for line in lines()}
    assert heads == {tuple(head) for head in (BINDING, LOSSLESS, ROUNDING, REFUSING)}


def test_every_type_has_a_line() -> None:
    listed = [line.type for line in lines() if line.head == BINDING]
    assert set(NATIVE_TYPES.values()) <= set(listed)
    kinds = {ListType, SetType, MapType, TupleType, VectorType, UserType, CustomType}
    assert kinds <= set(map(type, listed))


@of(BINDING, LOSSLESS)
def test_what_is_bound_reads_as_the_example(line: Line) -> None:
    [example] = line.code(2)
    expected = value(example)
    bound = [example] + (line.code(3) if line.head == BINDING else [])
    for text in bound:
        found = decoder(line.type)(encoder(line.type)(value(text)))
        assert found == expected
        assert shape(found) == shape(expected)
        [python] = line.code(1)
        assert isinstance(found, value(python))
        if isinstance(line.type, UserType):
            hash(found)
        else:
            assert type(found) is value(python)


@of(ROUNDING)
def test_what_is_rounded(line: Line) -> None:
    [bound], [read] = line.code(1), line.code(2)
    found = decoder(line.type)(encoder(line.type)(value(bound)))
    assert repr(found) == repr(value(read))
    assert found != value(bound)


@of(REFUSING)
def test_what_is_refused(line: Line) -> None:
    [refused] = line.code(1)
    with pytest.raises(ValueConversionError, match=re.escape(line.cells[2])):
        encoder(line.type)(value(refused))


def declared(cql_type: CQLType) -> str:
    """Return the type of a column: collections are frozen, so that empty ones are not null."""
    if isinstance(cql_type, UserType):
        return f"frozen<{cql_type.name}>"
    frozen = isinstance(cql_type, ListType | SetType | MapType)
    return f"frozen<{cql_type}>" if frozen else str(cql_type)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_returns_what_the_tables_say(cassandra: Node, keyspace: str) -> None:
    """Uses one table with a column per type, without counters and unknown classes."""
    chosen = [line for line in lines() if line.head in (BINDING, LOSSLESS, ROUNDING)]
    chosen = [line for line in chosen if not isinstance(line.type, CustomType)]
    chosen = [line for line in chosen if line.type != NATIVE_TYPES["counter"]]
    names = {line.type: f"column_{number}" for number, line in enumerate(chosen)}
    columns = ", ".join(f"{name} {declared(cql_type)}" for cql_type, name in names.items())
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        await session.execute("CREATE TYPE address (street text, numbers frozen<list<int>>)")
        create = f"CREATE TABLE cells (id int PRIMARY KEY, {columns}, plain list<int>)"
        await session.execute(create, timeout=60)

        async def through(column: str, bound: object) -> Any:
            await session.execute(f"INSERT INTO cells (id, {column}) VALUES (1, ?)", (bound,))
            select = f"SELECT {column} FROM cells WHERE id = 1"
            return (await session.execute(select)).scalar()

        for line in chosen:
            bound = line.code(1) if line.head == ROUNDING else line.code(2)
            expected = value(line.code(2)[0])
            for text in bound + (line.code(3) if line.head == BINDING else []):
                assert shape(await through(names[line.type], value(text))) == shape(expected), text

        # Claims of the text around the tables.
        assert await through("plain", []) is None
        assert await through(names[parse_type("list<int>")], [1, NAMES["EMPTY"]]) == [1, None]
