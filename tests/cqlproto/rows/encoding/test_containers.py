"""Binding encoders of collections: the same bytes as the encoder of the type."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import EMPTY, UNSET, ValueConversionError
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    ListType,
    LosslessMap,
    LosslessSet,
    MapType,
    SetType,
    encoder,
    parse_type,
)
from cqlproto.rows.encoding.containers import binding_encoder
from cqlproto.testing import cql_types, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Text(str):
    """A str that sorts in reverse."""

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


def outcome(encode: Callable[[Any], bytes], value: Any) -> object:
    try:
        return encode(value)
    except ValueConversionError as error:
        return error.reason, error.cql_type, type(error.value)


def same(cql_type: Any, value: Any) -> None:
    assert outcome(binding_encoder(cql_type), value) == outcome(encoder(cql_type), value)


scalars = st.sampled_from(list(NATIVE_TYPES.values()))
collections = st.one_of(
    st.builds(ListType, scalars), st.builds(SetType, scalars), st.builds(MapType, scalars, scalars)
)


@settings(max_examples=300)
@given(st.data())
def test_equal_for_every_type_and_value(data: st.DataObject) -> None:
    cql_type = data.draw(collections | cql_types(max_leaves=3))
    same(cql_type, data.draw(values_of(cql_type)))


ODD = [None, UNSET, EMPTY, True, -1,
       128, 1 << 31, 1 << 63, 0.5, 1e300, "", "x", "\ud800", Text("b"),
       Text("a"), b"x", UUID(int=1), str(UUID(int=2)), (1,), Decimal("NaN")]  # fmt: skip
odd = st.sampled_from(ODD)
shapes: list[Callable[[list[Any]], Any]] = [
    list, tuple, iter, dict.fromkeys, lambda some: [*some, 1], lambda some: [*some, "x"],
    lambda some: dict(zip(some, reversed(some), strict=True)),
    lambda some: dict(enumerate(some)), lambda some: {str(one): one for one in some},
    lambda some: LosslessMap(zip(some, some, strict=True)), LosslessSet, set, frozenset,
]  # fmt: skip


@settings(max_examples=500)
@given(collections, st.lists(odd, max_size=4), st.sampled_from(shapes))
def test_equal_for_odd_elements_in_odd_collections(
    cql_type: Any, some: list[Any], shape: Callable[[list[Any]], Any]
) -> None:
    expected = outcome(encoder(cql_type), shape(some))
    assert outcome(binding_encoder(cql_type), shape(some)) == expected


@pytest.mark.parametrize("name", ["tinyint", "smallint", "int", "bigint", "counter"])
@given(numbers=st.sets(st.integers(-128, 127)))
def test_sets_and_keys_of_integers_in_the_order_of_the_server(name: str, numbers: set[int]) -> None:
    number = NATIVE_TYPES[name]
    same(SetType(number), numbers)
    same(SetType(number), frozenset(numbers))
    same(MapType(number, number), {one: one for one in numbers})


@given(st.dictionaries(st.text(), st.floats() | st.text() | st.uuids()))
def test_sets_and_keys_of_texts_in_the_order_of_the_server(texts: dict[str, Any]) -> None:
    text = NATIVE_TYPES["text"]
    same(SetType(text), set(texts))
    same(SetType(text), list(texts))
    for name in ("double", "uuid", "text"):
        same(MapType(text, NATIVE_TYPES[name]), texts)


def test_what_cannot_be_compared_is_refused_as_ever() -> None:
    for cql_type in (SetType(NATIVE_TYPES["int"]), SetType(NATIVE_TYPES["text"])):
        same(cql_type, {Decimal("NaN"), 1, "x"})
        same(cql_type, {Decimal("NaN"), Decimal(1)})


def test_an_iterator_is_read_once() -> None:
    encode = binding_encoder(ListType(NATIVE_TYPES["int"]))
    assert encode(iter([1, 2])) == encode([1, 2])
    with pytest.raises(ValueConversionError, match="element 1"):
        encode(iter([1, "x"]))


def test_encoders_are_kept_and_those_of_scalars_are_the_plain_ones() -> None:
    assert binding_encoder(parse_type("list<int>")) is binding_encoder(parse_type("list<int>"))
    for name in ("int", "list<frozen<list<int>>>", "map<uuid, int>", "tuple<int>", "set<blob>"):
        assert binding_encoder(parse_type(name)) is encoder(parse_type(name))


@pytest.mark.parametrize("raised", [TypeError, OverflowError])
def test_what_an_iterator_raises_is_the_cause(raised: type[Exception]) -> None:
    def elements() -> Iterator[int]:
        yield 1
        raise raised("mine")

    with pytest.raises(ValueConversionError, match="element 1: .*mine") as info:
        binding_encoder(ListType(NATIVE_TYPES["int"]))(elements())
    assert isinstance(info.value.__cause__, raised)
