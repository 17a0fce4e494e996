"""What collections take and refuse, their order, and what their cells may be."""

from __future__ import annotations

import dataclasses
import struct
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    EMPTY,
    MAX_DEPTH,
    NATIVE_TYPES,
    UNSET,
    CQLType,
    CustomType,
    FrozenMap,
    ListType,
    LosslessMap,
    LosslessSet,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    decoder,
    encoder,
    parse_type,
    user_value_class,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError, ValueConversionError
from cqlproto.rows.targets.resolve import row_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

INT, TEXT, DOUBLE = NATIVE_TYPES["int"], NATIVE_TYPES["text"], NATIVE_TYPES["double"]
ADDRESS = UserType("shop", "address", (("street", TEXT), ("zip", INT), ("tags", SetType(TEXT))))
PAIR = TupleType((INT, TEXT))


def cell(*parts: bytes | None) -> bytes:
    """Return parts as [bytes]."""
    lengths = [struct.pack(">i", -1 if part is None else len(part)) for part in parts]
    return b"".join(length + (part or b"") for length, part in zip(lengths, parts, strict=True))


def counted(*parts: bytes | None) -> bytes:
    return struct.pack(">i", len(parts)) + cell(*parts)


def ints(*values: int) -> list[bytes]:
    return [struct.pack(">i", value) for value in values]


def names(text: str) -> CQLType:
    return parse_type(text, "shop", {"address": ADDRESS})


# --- what they take -------------------------------------------------------------------------------


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
    with pytest.raises(ValueConversionError, match="an iterable of elements is needed"):
        encoder(kind)(value)


@pytest.mark.parametrize("value", [{"a": 1}, OrderedDict(a=1), FrozenMap({"a": 1})])
def test_maps_take_any_mapping(value: Mapping[str, int]) -> None:
    assert encoder(MapType(TEXT, INT))(value) == counted(b"a", *ints(1)).replace(b"\2", b"\1", 1)


@pytest.mark.parametrize("value", [[("a", 1)], "ab", {"a"}, None, UNSET])
def test_maps_take_nothing_else(value: object) -> None:
    with pytest.raises(ValueConversionError):
        encoder(MapType(TEXT, INT))(value)


def test_tuples_may_be_short_but_not_long() -> None:
    encode = encoder(PAIR)
    assert encode((1, "a")) == encode([1, "a"]) == cell(*ints(1), b"a")
    assert encode((1,)) == encode([1, None]) == cell(*ints(1), None)
    assert encode(()) == cell(None, None)
    with pytest.raises(ValueConversionError, match="3 elements, the type has 2"):
        encode((1, "a", 2))
    for wrong in ({1, 2}, {"a": 1}, "ab", iter((1, "a"))):
        with pytest.raises(
            ValueConversionError, match="a tuple, a list or an object with fields is needed"
        ):
            encode(wrong)


@dataclass
class Address:
    street: str
    zip: int | None = None


@dataclass
class Place(Address):
    city: str = "Ulm"


class Zipped(NamedTuple):
    zip: int
    street: str


@pytest.mark.parametrize(
    "value",
    [
        {"zip": 7, "street": "Main St"},
        FrozenMap({"street": "Main St", "zip": 7}),
        Address("Main St", 7),
        Zipped(7, "Main St"),
        ("Main St", 7),
        ("Main St", 7, None),
        user_value_class(ADDRESS)(("Main St", 7, None)),
        user_value_class(UserType("shop", "old", (("zip", INT), ("street", TEXT))))((7, "Main St")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_user_types_take_fields_by_name_or_in_order(value: object) -> None:
    assert encoder(ADDRESS)(value) == cell(b"Main St", *ints(7), None)


@pytest.mark.parametrize("value", [{"city": "Ulm"}, Place("Main St"), {1: 2}])
def test_user_types_refuse_unknown_fields(value: object) -> None:
    with pytest.raises(ValueConversionError, match="no field .* the type has street, zip, tags"):
        encoder(ADDRESS)(value)


@pytest.mark.parametrize("value", ["Main St", ["Main St"], {"Main St"}, 7, Address, None])
def test_user_types_refuse_the_rest(value: object) -> None:
    with pytest.raises(ValueConversionError, match="needed|null"):
        encoder(ADDRESS)(value)
    with pytest.raises(ValueConversionError, match="4 values, the type has 3 fields"):
        encoder(ADDRESS)(("a", 1, None, None))


def test_vectors_of_fixed_width_have_no_lengths() -> None:
    floats = VectorType(NATIVE_TYPES["float"], 3)
    data = struct.pack(">3f", 1.0, -2.5, 3.0)
    assert encoder(floats)([1.0, -2.5, 3.0]) == encoder(floats)((1, -2.5, 3)) == data
    assert encoder(floats)(array("f", [1.0, -2.5, 3.0])) == data
    assert decoder(floats)(data) == [1.0, -2.5, 3.0]
    nested = VectorType(VectorType(INT, 2), 2)
    assert encoder(nested)([[1, 2], [3, 4]]) == struct.pack(">4i", 1, 2, 3, 4)
    assert decoder(nested)(struct.pack(">4i", 1, 2, 3, 4)) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["smallint", "tinyint", "date", "time", "text", "varint", "inet"])
def test_vectors_of_other_types_have_lengths_as_vints(name: str) -> None:
    text = VectorType(TEXT, 2)
    data = b"\x01a" + b"\x80\xc8" + b"x" * 200
    assert encoder(text)(["a", "x" * 200]) == data
    assert decoder(text)(data) == ["a", "x" * 200]
    # The server knows no fixed width of these, though some have one.
    assert decoder(VectorType(NATIVE_TYPES[name], 1))(b"\x00") in ([EMPTY], [""])


@pytest.mark.parametrize(
    "value", [[1.0], [1.0, 2.0, 3.0], [], {1.0, 2.0}, LosslessSet([0.0, -0.0])]
)
def test_vectors_take_sequences_of_their_dimension(value: object) -> None:
    with pytest.raises(ValueConversionError, match="the type has 2|which has an order"):
        encoder(VectorType(DOUBLE, 2))(value)


@pytest.mark.parametrize(
    ("cql_type", "value", "reason"),
    [
        ("list<int>", [1, 2, "x"], "element 2: an integer is needed"),
        ("set<frozen<list<int>>>", [[1, None]], "element 0: element 1: null is not possible"),
        ("list<frozen<list<int>>>", [[1], [None]], "element 1: element 0: null is not possible"),
        ("tuple<frozen<list<int>>>", ([None],), "element 0: element 0: null is not possible"),
        ("set<int>", {None}, "element 0: null is not possible in a collection"),
        ("list<int>", [1, UNSET], "element 1: UNSET stands for a whole bound value only"),
        ("map<text, int>", {"a": 1, "b": 1 << 31}, "value 1: out of range"),
        ("map<text, int>", {"a": None}, "value 0: null is not possible in a collection"),
        ("map<text, int>", {None: 1}, "key 0: null is not possible in a collection"),
        ("map<text, list<int>>", {"a": [1, 2.5]}, "value 0: element 1: an integer is needed"),
        ("tuple<int, text>", (1, 2), "element 1: a str is needed"),
        ("list<address>", [{"zip": 1}, {"zip": "x"}], "element 1: field zip: an integer is needed"),
        ("vector<int, 2>", [1, 1 << 31], "element 1: out of range"),
        ("vector<int, 2>", [1, EMPTY], "element 1: an empty value has no place"),
        ("vector<int, 2>", [None, 1], "element 0: null is not possible"),
        ("vector<int, 2>", [1, True], "element 1: an integer, not a boolean, is needed"),
        ("vector<text, 2>", ["a", 1], "element 1: a str is needed"),
    ],
)
def test_an_error_says_where(cql_type: str, value: object, reason: str) -> None:
    parsed = names(cql_type)
    with pytest.raises(ValueConversionError) as caught:
        encoder(parsed)(value)
    assert caught.value.reason.startswith(reason)
    assert caught.value.cql_type == str(parsed)


@pytest.mark.parametrize("first", ["list<int>", "frozen<list<int>>"])
def test_an_error_names_the_type_as_it_is_whichever_came_first(first: str) -> None:
    for text in (first, "frozen<list<int>>", "list<int>", "list<frozen<list<int>>>"):
        with pytest.raises(ValueConversionError) as caught:
            encoder(names(text))(["x"])
        assert caught.value.cql_type == text


@pytest.mark.parametrize(
    "text",
    [
        *("list<int>", "list<text>", "set<int>", "map<int, int>", "tuple<int>"),
        *("vector<int, 2>", "vector<float, 2>", "vector<text, 2>"),
    ],
)
def test_no_bytes_are_empty(text: str) -> None:
    for cql_type in (parse_type(text), UserType("k", "u", (("a", parse_type(text)),))):
        assert encoder(cql_type)(EMPTY) == b""
        assert decoder(cql_type)(b"") is EMPTY


def test_custom_types_are_bytes() -> None:
    custom = CustomType("com.example.Opaque")
    assert encoder(custom)(bytearray(b"ab")) == b"ab"
    assert decoder(custom)(b"ab") == b"ab"
    with pytest.raises(ValueConversionError, match="bytes, since the class"):
        encoder(custom)("ab")


# --- order ----------------------------------------------------------------------------------------

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


# --- what they read -------------------------------------------------------------------------------


def test_python_containers_stand_for_cql_ones() -> None:
    inner = TupleType((ListType(INT), SetType(INT), MapType(INT, ListType(INT))))
    value = ([1], {2}, {3: [4]})
    again = decoder(inner)(encoder(inner)(value))
    assert again == value
    assert list(map(type, again)) == [list, set, dict]
    assert type(again[2][3]) is list


@pytest.mark.parametrize("outer", [SetType, lambda part: MapType(part, INT)])
def test_what_is_below_a_set_or_a_key_can_be_hashed(outer: Any) -> None:
    inner = TupleType(
        (ListType(INT), SetType(INT), MapType(INT, ListType(INT)), VectorType(INT, 1))
    )
    value = ((1,), frozenset({2}), FrozenMap({3: (4,)}), (5,))
    cql_type = outer(inner)
    written = encoder(cql_type)({value} if isinstance(cql_type, SetType) else {value: 0})
    (again,) = decoder(cql_type)(written)
    assert again == value
    assert list(map(type, again)) == [tuple, frozenset, FrozenMap, tuple]


def test_fields_of_a_user_type_can_be_hashed_everywhere() -> None:
    cql_type = UserType("shop", "all", (("l", ListType(INT)), ("m", MapType(INT, SetType(INT)))))
    value = decoder(cql_type)(encoder(cql_type)({"l": [1], "m": {2: {3}}}))
    assert value == ((1,), FrozenMap({2: frozenset({3})}))
    assert isinstance(hash(value), int)


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


@pytest.mark.parametrize("count", range(3))
def test_absent_parts_are_null(count: int) -> None:
    parts = [*ints(7), b"a"][:count]
    expected = (7, "a")[:count] + (None,) * (2 - count)
    if count:
        assert decoder(PAIR)(cell(*parts)) == expected
        user = UserType("ks", "pair", (("a", INT), ("b", TEXT)))
        assert decoder(user)(cell(*parts)) == expected
    else:
        assert decoder(PAIR)(b"") is EMPTY


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
        ("tuple<int, text>", cell(*ints(1), b"a", b"b")),
        ("tuple<int, text>", cell(*ints(1)) + b"\x00\x00"),
        ("tuple<int, text>", cell(*ints(1)) + HUGE),
        ("tuple<int, text>", cell(*ints(1), b"a") + b"\x00"),
        ("address", cell(b"a", None, None, None)),
        ("vector<int, 2>", bytes(7)),
        ("vector<int, 2>", bytes(9)),
        ("vector<text, 2>", b"\x01a"),
        ("vector<text, 2>", b"\x01a\x02b"),
        ("vector<text, 2>", b"\x01a\x01bc"),
        ("vector<text, 2>", b"\x00\xff" + b"\xff" * 8),
        ("vector<text, 2>", b"\x00\xc0"),
        ("vector<text, 2147483647>", bytes(9)),
    ],
)
def test_malformed_collections_are_errors(name: str, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cell of type "):
        decoder(names(name))(data)


# --- types ----------------------------------------------------------------------------------------


def nested(depth: int) -> CQLType:
    cql_type: CQLType = INT
    for _ in range(depth):
        cql_type = ListType(cql_type)
    return cql_type


def test_nesting_is_bounded() -> None:
    deepest = nested(MAX_DEPTH)
    value: Any = 7
    for _ in range(MAX_DEPTH):
        value = [value]
    assert decoder(deepest)(encoder(deepest)(value)) == value
    for make in (encoder, decoder):
        with pytest.raises(LocalProtocolError, match="nested deeper than"):
            make(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "cql_type",
    [CQLType(), NativeType("integer"), VectorType(INT, 0), VectorType(TEXT, -1)]
    + [ListType(NativeType("no")), VectorType(NativeType("no"), 1), SetType(CQLType())],
)
def test_a_type_that_is_none_is_refused(cql_type: CQLType) -> None:
    for make in (encoder, decoder):
        with pytest.raises(LocalProtocolError):
            make(cql_type)


def test_functions_are_made_once() -> None:
    assert encoder(ListType(INT)) is encoder(ListType(INT))
    assert decoder(ListType(INT)) is decoder(ListType(INT))


def test_null_is_an_element_of_a_list_alone() -> None:
    """Where the list is what is bound: to IN, in a condition, or frozen."""
    cell = bytes.fromhex("00000002 00000004 00000001 ffffffff")
    for text in ("list<int>", "frozen<list<int>>"):
        encode = encoder(names(text))
        assert encode([1, None]) == encode(iter((1, None))) == cell
        assert decoder(names(text))(cell) == [1, None]
        with pytest.raises(ValueConversionError, match="element 1: UNSET stands for a whole"):
            encode([None, UNSET])
    assert encoder(names("list<frozen<set<int>>>"))([None])[4:] == b"\xff" * 4


class Broken(dict[str, int]):
    """Raises as it is read."""

    def items(self) -> Any:
        yield "street", 1
        raise ZeroDivisionError("broken")

    def __iter__(self) -> Any:
        raise ZeroDivisionError("broken")


class BrokenTuple(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        yield 1
        raise ZeroDivisionError("broken")


class BrokenIterable:
    def __iter__(self) -> Any:
        raise ZeroDivisionError("broken")


def raising() -> Any:
    yield 1
    raise ZeroDivisionError("broken")


@pytest.mark.parametrize(
    ("text", "make", "where"),
    [
        ("list<int>", raising, "element 1: "),
        ("list<int>", BrokenIterable, ""),
        ("set<int>", raising, "element 1: "),
        ("set<frozen<list<int>>>", lambda: [[1], raising()], "element 1: element 1: "),
        ("vector<int, 2>", raising, ""),
        ("vector<int, 2>", BrokenIterable, ""),
        ("map<text, int>", Broken, "item 1: "),
        ("map<text, frozen<list<int>>>", lambda: {"a": raising()}, "value 0: element 1: "),
        ("tuple<int, int>", lambda: BrokenTuple((1, 2)), "element 1: "),
    ],
)
def test_what_a_value_raises_as_it_is_read_is_located(
    text: str, make: Callable[[], Any], where: str
) -> None:
    with pytest.raises(ValueConversionError, match=f"{where}it cannot be read, .*broken") as info:
        encoder(names(text))(make())
    assert info.value.cql_type == text
    assert info.value.reason.startswith(where)
    cause: BaseException | None = info.value
    while isinstance(cause, ValueConversionError):
        cause = cause.__cause__
    assert isinstance(cause, ZeroDivisionError)


def test_what_a_mapping_raises_that_is_bound_to_a_user_defined_type() -> None:
    user = UserType("k", "u", (("street", NATIVE_TYPES["text"]),))
    with pytest.raises(ValueConversionError, match="k.u: it cannot be read, .*broken") as info:
        encoder(user)(Broken())
    assert isinstance(info.value.__cause__, ZeroDivisionError)


PAIR_OF_NAMES = UserType(
    "k", "pair", (("street", NATIVE_TYPES["text"]), ("number", NATIVE_TYPES["int"]))
)


@dataclasses.dataclass
class Numbered:
    street: str
    number: int = 0


class Camel(msgspec.Struct, rename="camel"):
    street: str
    house_number: int = 0


class Model(pydantic.BaseModel):
    street: str

    @pydantic.computed_field
    def length(self) -> int:
        return len(self.street)


class Extra(pydantic.BaseModel, extra="allow"):
    number: int


class Unreadable(msgspec.Struct):
    number: int
    street: str = ""


def test_objects_are_bound_to_tuples_in_the_order_of_their_fields() -> None:
    """As they are read: the first field takes the first element."""
    encode = encoder(names("tuple<text, int>"))
    for value in (Numbered("a", 1), Camel("a", 1), user_value_class(PAIR_OF_NAMES)(("a", 1))):
        assert encode(value) == encode(("a", 1))
    assert encode(Model(street="a")) == encode(("a",))
    nested = encoder(names("list<frozen<tuple<frozen<tuple<text, int>>, int>>>"))
    assert nested([(Numbered("a"), 2)]) == nested([(("a", 0), 2)])
    with pytest.raises(ValueConversionError, match="element 1: an integer is needed, got str 'b'"):
        encode(Numbered("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(ValueConversionError, match="2 elements, the type has 1, got Extra"):
        encoder(names("tuple<int>"))(Extra.model_validate({"number": 1, "more": 2}))
    partly = Unreadable(1)
    del partly.street
    with pytest.raises(ValueConversionError, match="it cannot be read, .* AttributeError"):
        encode(partly)


def test_objects_are_bound_to_user_defined_types_by_name() -> None:
    text, number = NATIVE_TYPES["text"], NATIVE_TYPES["int"]
    user = encoder(UserType("k", "u", (("number", number), ("street", text))))
    cell = user({"street": "a", "number": 1})
    row = row_class(("street", "number"))(("a", 1))
    for value in (
        Numbered("a", 1),
        row,
        user_value_class(UserType("k", "old", (("street", text), ("number", number))))(("a", 1)),
    ):
        assert user(value) == cell
    assert user(Model(street="a")) == user({"street": "a"})
    camel = encoder(UserType("k", "u", (("houseNumber", number), ("street", text))))
    assert camel(Camel("a", 1)) == cell
    with pytest.raises(ValueConversionError, match="no field 'house_number', the type has number"):
        user(Camel("a", 1))
