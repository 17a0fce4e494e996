"""Encoders and decoders of all types: how they are made, nested and kept."""

from __future__ import annotations

from typing import Any

import pytest

from cqlproto.cqltypes import (
    EMPTY,
    MAX_DEPTH,
    CQLType,
    CustomType,
    FrozenMap,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    decoder,
    encoder,
    parse_type,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.nested import (
    INT,
    TEXT,
    names,
)


@pytest.mark.parametrize("first", ["list<int>", "frozen<list<int>>"])
def test_an_error_names_the_type_as_it_is_whichever_came_first(first: str) -> None:
    for text in (first, "frozen<list<int>>", "list<int>", "list<frozen<list<int>>>"):
        with pytest.raises(ValueConversionError) as caught:
            encoder(names(text))(["x"])
        assert caught.value.cql_type == text
        with pytest.raises(RemoteProtocolError) as told:
            decoder(names(text))(b"\0")
        assert f"cell of type {text}: " in str(told.value)


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
        with pytest.raises(LocalProtocolError, match="nested at most 64 deep"):
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
