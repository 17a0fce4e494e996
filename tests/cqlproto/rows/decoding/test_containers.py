"""Compiled decoders of collections against the decoders of their types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import RemoteProtocolError
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    ListType,
    LosslessMap,
    LosslessSet,
    MapType,
    SetType,
    decoder,
    encoder,
    parse_type,
)
from cqlproto.rows.decoding.containers import cell_decoder
from cqlproto.testing import cql_types, values_of
from tests.support.row_pages import cell

natives = st.sampled_from([*NATIVE_TYPES.values()])
parts = natives | cql_types(max_leaves=2)
collections: st.SearchStrategy[CQLType] = (
    st.builds(ListType, parts) | st.builds(SetType, parts) | st.builds(MapType, parts, parts)
)


def outcome(decode: Any, data: bytes) -> object:
    try:
        value = decode(data)
    except RemoteProtocolError as error:
        return str(error)
    return type(value), repr(value)


def both(cql_type: CQLType, data: bytes) -> None:
    assert outcome(cell_decoder(cql_type), data) == outcome(decoder(cql_type), data)


@settings(max_examples=300)
@given(collections, st.data())
def test_values_whole_and_cut_off(cql_type: CQLType, data: st.DataObject) -> None:
    value = data.draw(values_of(cql_type))
    content = encoder(cql_type)(value)
    assert cell_decoder(cql_type)(content) == value
    both(cql_type, content)
    both(cql_type, content + b"\0")
    both(cql_type, content[: data.draw(st.integers(0, len(content)))])


wrong = st.none() | st.binary(max_size=20)


@settings(max_examples=300)
@given(collections, st.lists(wrong, max_size=6), st.integers(-2, 2))
def test_cells_of_wrong_sizes_and_contents(
    cql_type: CQLType, cells: list[bytes | None], more: int
) -> None:
    """Also repeated cells, nulls, and a wrong count."""
    count = (len(cells) // 2 if isinstance(cql_type, MapType) else len(cells)) + more
    content = b"".join(map(cell, cells))
    both(cql_type, count.to_bytes(4, "big", signed=True) + content)


@settings(max_examples=200)
@given(collections, st.binary(max_size=60))
def test_bytes_that_are_no_value(cql_type: CQLType, data: bytes) -> None:
    both(cql_type, data)


@pytest.mark.parametrize("count", [-1, -(2**31), 2, 2**31 - 1])
@pytest.mark.parametrize("name", ["list<text>", "set<uuid>", "map<text, int>", "list<blob>"])
def test_a_count_that_is_no_count_of_what_follows(name: str, count: int) -> None:
    both(parse_type(name), count.to_bytes(4, "big", signed=True) + cell(b"a"))
    both(parse_type(name), count.to_bytes(4, "big", signed=True))


def test_members_that_python_holds_equal() -> None:
    zeros = b"\0\0\0\2" + cell(bytes(8)) + cell(b"\x80" + bytes(7))
    made = cell_decoder(parse_type("set<double>"))(zeros)
    assert type(made) is LosslessSet
    texts = b"\0\0\0\2" + (cell(b"a") + cell(b"x")) * 2
    assert type(cell_decoder(parse_type("map<text, text>"))(texts)) is LosslessMap
    assert type(cell_decoder(parse_type("set<text>"))(b"\0\0\0\2" + cell(b"a") * 2)) is LosslessSet


@pytest.mark.parametrize("name", ["int", "list<int>", "set<frozen<list<text>>>", "tuple<text>"])
def test_what_is_left_to_the_plain_decoders(name: str) -> None:
    cql_type = parse_type(name)
    assert cell_decoder(cql_type) is decoder(cql_type)


@pytest.mark.parametrize("make", [ListType, SetType])
def test_errors_name_the_type_as_it_is_frozen(make: Any) -> None:
    """Equal types may differ in that; one must not get the decoder of the other."""
    for frozen in (False, True, False):
        cql_type = make(NATIVE_TYPES["text"], frozen)
        assert f"cell of type {cql_type}: " in str(outcome(cell_decoder(cql_type), b"\0"))


def test_collections_in_collections_are_compiled_too() -> None:
    cql_type = parse_type("map<text, frozen<list<text>>>")
    value = {"a": ["b", "c"], "d": []}
    assert cell_decoder(cql_type) is not decoder(cql_type)
    assert cell_decoder(cql_type)(encoder(cql_type)(value)) == value
