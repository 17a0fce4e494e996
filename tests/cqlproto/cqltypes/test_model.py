"""Types print as in CQL, are compared without ``frozen``, and are hashable."""

from __future__ import annotations

import pytest
from hypothesis import given

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    parse_type,
)
from cqlproto.testing import cql_types

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]


@pytest.mark.parametrize(
    ("cql_type", "text"),
    [
        (INT, "int"),
        (CustomType("com.example.It's"), "'com.example.It''s'"),
        (ListType(INT), "list<int>"),
        (ListType(INT, True), "frozen<list<int>>"),
        (SetType(TEXT), "set<text>"),
        (SetType(ListType(INT, True), True), "frozen<set<frozen<list<int>>>>"),
        (MapType(INT, TEXT), "map<int, text>"),
        (MapType(INT, TEXT, True), "frozen<map<int, text>>"),
        (TupleType((INT, TEXT)), "tuple<int, text>"),
        (VectorType(INT, 3), "vector<int, 3>"),
        (UserType("shop", "address", ()), "shop.address"),
        (UserType("Shop", 'a "b"', (), True), 'frozen<"Shop"."a ""b""">'),
        (UserType("1st", "größe", ()), '"1st"."größe"'),
    ],
)
def test_a_type_prints_as_in_cql(cql_type: CQLType, text: str) -> None:
    assert str(cql_type) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ListType(INT), ListType(INT, True)),
        (SetType(INT), SetType(INT, True)),
        (MapType(INT, TEXT), MapType(INT, TEXT, True)),
        (UserType("k", "u", (("a", INT),)), UserType("k", "u", (("a", INT),), True)),
    ],
)
def test_what_is_frozen_does_not_count(one: CQLType, other: CQLType) -> None:
    assert one == other
    assert hash(one) == hash(other)
    assert str(other) == f"frozen<{one}>"


@given(cql_types(), cql_types())
def test_types_are_equal_as_their_parts_are(one: CQLType, other: CQLType) -> None:
    assert (one == other) == (repr(thawed(one)) == repr(thawed(other)))
    if one == other:
        assert hash(one) == hash(other)


def thawed(cql_type: CQLType) -> CQLType:
    """Return the type without ``frozen``."""
    match cql_type:
        case ListType(element):
            return ListType(thawed(element))
        case SetType(element):
            return SetType(thawed(element))
        case MapType(key, value):
            return MapType(thawed(key), thawed(value))
        case TupleType(elements):
            return TupleType(tuple(map(thawed, elements)))
        case VectorType(element, dimension):
            return VectorType(thawed(element), dimension)
        case UserType(keyspace, name, fields):
            parts = tuple((field, thawed(part)) for field, part in fields)
            return UserType(keyspace, name, parts)
    return cql_type


def test_native_types_are_known_by_their_names() -> None:
    assert {name: str(cql_type) for name, cql_type in NATIVE_TYPES.items()} == {
        name: name for name in NATIVE_TYPES
    }
    assert all(parse_type(name) is cql_type for name, cql_type in NATIVE_TYPES.items())
