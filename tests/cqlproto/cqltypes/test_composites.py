"""Tuples and user-defined types: accepted and refused values, and cells."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pydantic
import pytest

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    FrozenMap,
    UserType,
    decoder,
    encoder,
    user_value_class,
)
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from cqlproto.rows.targets.row import row_class
from tests.cqlproto.cqltypes.nested import (
    ADDRESS,
    INT,
    PAIR,
    TEXT,
    Broken,
    cell,
    check_located,
    check_raised,
    ints,
    names,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class BrokenTuple(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        yield 1
        raise ZeroDivisionError("broken")


def test_tuples_may_be_short_but_not_long() -> None:
    encode = encoder(PAIR)
    assert encode((1, "a")) == encode([1, "a"]) == cell(*ints(1), b"a")
    assert encode((1,)) == encode([1, None]) == cell(*ints(1), None)
    assert encode(()) == cell(None, None)
    with pytest.raises(ValueConversionError, match="3 elements, the type has 2"):
        encode((1, "a", 2))
    for wrong in ({1, 2}, {"a": 1}, "ab", iter((1, "a"))):
        with pytest.raises(
            ValueConversionError, match="must be a tuple, a list or an object with fields"
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
    with pytest.raises(ValueConversionError, match="must be|null"):
        encoder(ADDRESS)(value)
    with pytest.raises(ValueConversionError, match="4 values, the type has 3 fields"):
        encoder(ADDRESS)(("a", 1, None, None))


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
    """As in reading: the first field is the first element."""
    encode = encoder(names("tuple<text, int>"))
    for value in (Numbered("a", 1), Camel("a", 1), user_value_class(PAIR_OF_NAMES)(("a", 1))):
        assert encode(value) == encode(("a", 1))
    assert encode(Model(street="a")) == encode(("a",))
    nested = encoder(names("list<frozen<tuple<frozen<tuple<text, int>>, int>>>"))
    assert nested([(Numbered("a"), 2)]) == nested([(("a", 0), 2)])
    with pytest.raises(ValueConversionError, match="element 1: must be an integer, got str 'b'"):
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


@pytest.mark.parametrize(
    ("cql_type", "value", "reason"),
    [
        ("tuple<frozen<list<int>>>", ([None],), "element 0: element 0: null is not possible"),
        ("tuple<int, text>", (1, 2), "element 1: must be a str"),
        ("address", {"zip": "x"}, "field zip: must be an integer"),
    ],
)
def test_an_error_says_where(cql_type: str, value: object, reason: str) -> None:
    check_located(cql_type, value, reason)


@pytest.mark.parametrize(
    ("text", "make", "where"),
    [
        ("tuple<int, int>", lambda: BrokenTuple((1, 2)), "element 1: "),
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
        ("tuple<int, text>", cell(*ints(1), b"a", b"b")),
        ("tuple<int, text>", cell(*ints(1)) + b"\x00\x00"),
        ("tuple<int, text>", cell(*ints(1)) + HUGE),
        ("tuple<int, text>", cell(*ints(1), b"a") + b"\x00"),
        ("address", cell(b"a", None, None, None)),
    ],
)
def test_malformed_cells_are_errors(name: str, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cell of type "):
        decoder(names(name))(data)


def test_no_bytes_are_an_empty_value() -> None:
    for text in ("tuple<int, text>", "address"):
        assert encoder(names(text))(EMPTY) == b""
        assert decoder(names(text))(b"") is EMPTY
