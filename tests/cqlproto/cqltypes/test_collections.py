"""Lists, sets and maps: accepted and refused values, order, and cells."""

from __future__ import annotations

import struct
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    EMPTY,
    UNSET,
    CQLType,
    FrozenMap,
    ListType,
    LosslessMap,
    LosslessSet,
    MapType,
    SetType,
    TupleType,
    VectorType,
    decoder,
    encoder,
)
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.nested import (
    DOUBLE,
    INT,
    PAIR,
    TEXT,
    Broken,
    BrokenIterable,
    cell,
    check_located,
    check_raised,
    counted,
    ints,
    names,
    raising,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def generate() -> Iterator[int]:
    yield from (1, 2)


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2), range(1, 3), generate, {1: 0, 2: 0}.keys(), array("i", [1, 2])]
)
@pytest.mark.parametrize("kind", [ListType, SetType])
def test_lists_and_sets_take_any_iterable(kind: Any, value: Any) -> None:
    elements = value() if callable(value) else value
    assert encoder(kind(INT))(elements) == counted(*ints(1, 2))


@pytest.mark.parametrize("value", ["ab", b"ab", bytearray(2), memoryview(b"ab"), {1: 2}, 7, object])
@pytest.mark.parametrize("kind", [ListType(INT), SetType(INT), VectorType(INT, 2)])
def test_lists_sets_and_vectors_refuse_what_is_no_collection(kind: CQLType, value: object) -> None:
    with pytest.raises(ValueConversionError, match="must be an iterable of elements"):
        encoder(kind)(value)


@pytest.mark.parametrize("value", [{"a": 1}, OrderedDict(a=1), FrozenMap({"a": 1})])
def test_maps_take_any_mapping(value: Mapping[str, int]) -> None:
    assert encoder(MapType(TEXT, INT))(value) == counted(b"a", *ints(1)).replace(b"\2", b"\1", 1)


@pytest.mark.parametrize("value", [[("a", 1)], "ab", {"a"}, None, UNSET])
def test_maps_take_nothing_else(value: object) -> None:
    with pytest.raises(ValueConversionError):
        encoder(MapType(TEXT, INT))(value)


# The server's order of some members, first to last.
IN_ORDER = {
    "int": [-(1 << 31), -1, 0, 1, 256],
    "varint": [-(1 << 70), -129, -1, 0, 127, 128, 1 << 70],
    "double": [float("-inf"), -1.5, -0.0, 5e-324, 1.5, float("inf"), float("nan")],
    "float": [float("-inf"), -1.5, -0.25, 0.0, 0.25, float("inf")],
    "boolean": [False, True],
    "text": ["", "Z", "a", "ab", "é", "\U00010000"],
    "blob": [b"", b"\x00", b"\x7f\xff", b"\x80"],
    "uuid": [
        UUID("00000000-0000-0000-0000-000000000000"),
        UUID("ffffffff-0000-1000-8080-808080808080"),
        UUID("00000000-0001-1000-8080-808080808080"),
        UUID("00000000-0000-4000-8080-808080808080"),
    ],
    "timeuuid": [
        UUID("ffffffff-0000-1000-8080-808080808080"),
        UUID("ffffffff-0000-1000-807f-808080808080"),
        UUID("00000000-0001-1000-8080-808080808080"),
        UUID("00000000-0000-1001-8080-808080808080"),
    ],
    "list<int>": [(), (-1,), (-1, 5), (2,)],
    "set<int>": [frozenset(), frozenset({-1}), frozenset({-1, 3}), frozenset({2})],
    "map<int, int>": [FrozenMap(), FrozenMap({-1: 5}), FrozenMap({-1: 6}), FrozenMap({2: 0})],
    "tuple<int, text>": [(None, None), (None, ""), (-1, None), (-1, "a"), (2, None)],
    "vector<int, 2>": [(-1, 5), (-1, 6), (2, -9)],
    "vector<text, 2>": [("a", "zz"), ("aa", "a"), ("b", "")],
}


@pytest.mark.parametrize(("name", "members"), IN_ORDER.items())
@given(data=st.data())
def test_sets_and_maps_are_written_in_the_servers_order(
    name: str, members: list[Any], data: st.DataObject
) -> None:
    element = names(name)
    shuffled = data.draw(st.permutations(members))
    expected = [encoder(element)(member) for member in members]
    assert encoder(SetType(element))(set(shuffled)) == counted(*expected)
    items = encoder(MapType(element, INT))(dict.fromkeys(shuffled, 0))
    assert items == encoder(MapType(element, INT))(LosslessMap([(member, 0) for member in members]))


def test_what_has_an_order_keeps_it() -> None:
    assert encoder(SetType(INT))([2, 1]) == counted(*ints(2, 1))
    assert encoder(SetType(DOUBLE))(LosslessSet([0.0, -0.0]))[8:16] == bytes(8)
    assert encoder(MapType(INT, INT))(LosslessMap([(2, 0), (1, 0)]))[8:12] == ints(2)[0]


@pytest.mark.parametrize("nested", [False, True])
def test_members_that_python_would_merge_are_kept(nested: bool) -> None:
    members, pairs = LosslessSet([-0.0, 0.0]), LosslessMap([(-0.0, 1), (0.0, 2)])
    set_type: CQLType = SetType(DOUBLE)
    map_type: CQLType = MapType(DOUBLE, INT)
    if nested:
        set_type, map_type = SetType(ListType(set_type)), MapType(TupleType((map_type,)), INT)
    for cql_type, value in ((set_type, members), (map_type, pairs)):
        written = encoder(cql_type)(
            value if not nested else ([[value]] if cql_type is set_type else {(value,): 1})
        )
        again = decoder(cql_type)(written)
        assert encoder(cql_type)(again) == written
        inner = next(iter(again))[0] if nested else again
        assert repr(inner) == repr(value)


def test_nulls_and_empties_in_collections_are_read() -> None:
    one = ints(1)[0]
    assert decoder(ListType(INT))(counted(one, None, b"")) == [1, None, EMPTY]
    assert decoder(ListType(TEXT))(counted(b"a", None, b"")) == ["a", None, ""]
    assert decoder(SetType(INT))(counted(one, None, b"")) == {1, None, EMPTY}
    pairs = counted(one, None, None, one).replace(b"\4", b"\2", 1)
    assert decoder(MapType(INT, INT))(pairs) == {1: None, None: 1}
    assert decoder(PAIR)(cell(b"", b"")) == (EMPTY, "")
    assert decoder(ListType(INT))(counted(one)[:4] + b"\xff\xff\xff\xfe") == [None]


def test_null_is_an_element_of_a_list_alone() -> None:
    """For a list that is bound to IN, to a condition, or to a frozen list."""
    cell = bytes.fromhex("00000002 00000004 00000001 ffffffff")
    for text in ("list<int>", "frozen<list<int>>"):
        encode = encoder(names(text))
        assert encode([1, None]) == encode(iter((1, None))) == cell
        assert decoder(names(text))(cell) == [1, None]
        with pytest.raises(ValueConversionError, match="element 1: UNSET stands for a whole"):
            encode([None, UNSET])
    assert encoder(names("list<frozen<set<int>>>"))([None])[4:] == b"\xff" * 4


@pytest.mark.parametrize(
    ("cql_type", "value", "reason"),
    [
        ("list<int>", [1, 2, "x"], "element 2: must be an integer"),
        ("set<frozen<list<int>>>", [[1, None]], "element 0: element 1: null is not possible"),
        ("list<frozen<list<int>>>", [[1], [None]], "element 1: element 0: null is not possible"),
        ("set<int>", {None}, "element 0: null is not possible in a collection"),
        ("list<int>", [1, UNSET], "element 1: UNSET stands for a whole bound value only"),
        ("map<text, int>", {"a": 1, "b": 1 << 31}, "value 1: out of range"),
        ("map<text, int>", {"a": None}, "value 0: null is not possible in a collection"),
        ("map<text, int>", {None: 1}, "key 0: null is not possible in a collection"),
        ("map<text, list<int>>", {"a": [1, 2.5]}, "value 0: element 1: must be an integer"),
        ("list<address>", [{"zip": 1}, {"zip": "x"}], "element 1: field zip: must be an integer"),
    ],
)
def test_an_error_says_where(cql_type: str, value: object, reason: str) -> None:
    check_located(cql_type, value, reason)


@pytest.mark.parametrize(
    ("text", "make", "where"),
    [
        ("list<int>", raising, "element 1: "),
        ("list<int>", BrokenIterable, ""),
        ("set<int>", raising, "element 1: "),
        ("set<frozen<list<int>>>", lambda: [[1], raising()], "element 1: element 1: "),
        ("map<text, int>", Broken, "item 1: "),
        ("map<text, frozen<list<int>>>", lambda: {"a": raising()}, "value 0: element 1: "),
    ],
)
def test_what_a_value_raises_as_it_is_read_is_located(
    text: str, make: Callable[[], Any], where: str
) -> None:
    check_raised(text, make(), where)


HUGE = b"\x7f\xff\xff\xff"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("list<int>", b"\x00"),
        ("list<int>", HUGE),
        ("list<int>", b"\xff\xff\xff\xff"),
        ("list<int>", counted(*ints(1, 2)) + b"\x00"),
        ("list<int>", counted(*ints(1, 2))[:-1]),
        ("list<int>", struct.pack(">i", 1) + cell(*ints(1, 2))),
        ("list<int>", struct.pack(">i", 3) + cell(*ints(1, 2))),
        ("list<text>", struct.pack(">i", 1) + HUGE),
        ("list<text>", counted(b"abc")[:-1]),
        ("list<text>", counted(b"\xff")),
        ("list<int>", counted(b"abc")),
        ("set<text>", counted(b"a") + b"a"),
        ("map<text, text>", HUGE),
        ("map<text, text>", counted(b"a", b"b")),
        ("map<text, text>", b"\x40\x00\x00\x00" + cell(b"a", b"b")),
    ],
)
def test_malformed_cells_are_errors(name: str, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cell of type "):
        decoder(names(name))(data)


def test_no_bytes_are_an_empty_collection() -> None:
    for text in ("list<int>", "set<int>", "map<text, int>"):
        assert encoder(names(text))(EMPTY) == b""
        assert decoder(names(text))(b"") is EMPTY


def test_collections_within_a_key_can_be_hashed() -> None:
    key = names("tuple<list<int>, list<text>, set<int>, map<int, int>>")
    value = ((1,), ("a",), frozenset({2}), FrozenMap({3: 4}))
    cql_type = MapType(key, INT)
    assert decoder(cql_type)(encoder(cql_type)({value: 1})) == {value: 1}
