"""The sort keys of cells: the server's order, which may differ from that of the bytes.

The tables of :data:`SORTED` are in a server's order, each cell before the next; what a real one
makes of sets and maps is tested under ``tests/cassandra``.
"""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES, CustomType, encoder, parse_type
from cqlproto.cqltypes.model import UserType
from cqlproto.cqltypes.ordering import sort_key
from cqlproto.testing import cql_types, values_of

INFINITY = float("inf")


def clock(time: int, low: int = 0) -> UUID:
    """Return a UUID of version 1 with this timestamp and lower half."""
    fields = time & 0xFFFFFFFF, time >> 32 & 0xFFFF, time >> 48 | 0x1000
    return UUID(int=fields[0] << 96 | fields[1] << 80 | fields[2] << 64 | low)


# The clock counts first, whose low bits are written first; then the lower half as signed bytes.
TIMEUUIDS = [
    *(clock(1), clock(2), clock(1 << 32), clock(1 << 48)),
    *(clock(1 << 50, 0x80 << 56), clock(1 << 50), clock(1 << 50, 0x7F << 56)),
]
UUIDS = [clock(1), clock(1 << 48), UUID(int=0x4 << 76), UUID(int=0x4 << 76 | 1 << 127)]
SORTED: dict[str, list[Any]] = {
    "ascii": ["", "A", "a", "aa"],
    "blob": [b"", b"\0", b"\x7f", b"\x80", b"\xff"],
    "int": [-(1 << 31), -1, 0, 1, (1 << 31) - 1],
    "smallint": [-256, -1, 0, 255],
    "varint": [-(1 << 70), -129, -1, 0, 128, 1 << 70],
    "decimal": [*map(Decimal, ("-1E+9", "-0.1", "0", "9", "1E+1"))],
    "double": [-INFINITY, -1.5, -0.0, 0.0, 1e-300, 1.5, INFINITY, float("nan")],
    "float": [-INFINITY, -1.5, -0.0, 0.0, 1.5, INFINITY, float("nan")],
    "boolean": [False, True],
    "timeuuid": TIMEUUIDS,
    "uuid": UUIDS,
    "list<int>": [[], [-1], [-1, 0], [0], [0, -5], [1]],
    "set<int>": [set(), {-1}, {-1, 0}, {0}],
    "map<int, text>": [{}, {-1: "b"}, {-1: "c"}, {-1: "c", 0: ""}, {0: "a"}],
    "tuple<int, text>": [(None, "z"), (-1, None), (-1, ""), (-1, "a"), (0, None)],
    "vector<int, 2>": [[-1, 5], [0, -1], [0, 0]],
    "vector<text, 2>": [["a", "z"], ["b", ""], ["b", "a"]],
    "vector<varint, 2>": [[-300, 0], [-1, 300], [5, 5]],
}


@pytest.mark.parametrize("text", SORTED)
def test_cells_sort_as_a_server_sorts_them(text: str) -> None:
    cql_type = parse_type(text)
    encode, key = encoder(cql_type), sort_key(cql_type)
    cells = [encode(value) for value in SORTED[text]]
    for one, other in pairwise(cells):
        assert key(one) < key(other)
    shuffled = list(cells)
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=key) == cells


@pytest.mark.parametrize("name", sorted(NATIVE_TYPES))
def test_an_empty_cell_comes_first(name: str) -> None:
    key = sort_key(NATIVE_TYPES[name])
    encode = encoder(NATIVE_TYPES[name])
    for value in SORTED.get(name, []):
        if value not in ("", b""):
            assert key(b"") < key(encode(value))
    assert key(b"") == key(b"")


def test_a_user_defined_type_sorts_by_its_fields() -> None:
    cql_type = UserType("k", "u", (("a", NATIVE_TYPES["int"]), ("b", NATIVE_TYPES["double"])))
    encode, key = encoder(cql_type), sort_key(cql_type)
    values = [(None, 1.0), (-1, None), (-1, -0.0), (-1, 0.0), (0, None)]
    for one, other in pairwise(map(encode, values)):
        assert key(one) < key(other)


def test_what_has_no_order_sorts_by_its_bytes() -> None:
    key = sort_key(CustomType("com.example.Odd"))
    assert sorted([b"\x80", b"", b"\x7f"], key=key) == [b"", b"\x7f", b"\x80"]


@given(st.data())
def test_cells_of_any_type_can_be_sorted(data: st.DataObject) -> None:
    cql_type = data.draw(cql_types(max_leaves=3))
    encode, key = encoder(cql_type), sort_key(cql_type)
    cells = [encode(value) for value in data.draw(st.lists(values_of(cql_type), max_size=4))]
    found = sorted(cells, key=key)
    assert all(not key(other) < key(one) for one, other in pairwise(found))
    reordered = sorted(set(cells), key=key)
    assert [key(cell) for cell in reordered] == sorted({cell: key(cell) for cell in cells}.values())
