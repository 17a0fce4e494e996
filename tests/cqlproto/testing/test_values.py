"""Strategies return types of all kinds, and values that can be encoded."""

from __future__ import annotations

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
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
from cqlproto.testing import cql_types, values, values_of
from tests.cqlproto.testing.examples import FEW, run_examples


@pytest.mark.parametrize(
    "kind",
    [CustomType, ListType, MapType, NativeType, SetType, TupleType, UserType, VectorType],
)
def test_types_of_all_kinds_come(kind: type[CQLType]) -> None:
    assert isinstance(find(cql_types(), lambda cql_type: isinstance(cql_type, kind)), kind)


@given(st.data())
def test_values_can_be_written(data: st.DataObject) -> None:
    cql_type = data.draw(cql_types(max_leaves=3))
    value = data.draw(values_of(cql_type))
    assert decoder(cql_type)(encoder(cql_type)(value)) == value


@pytest.mark.parametrize("name", ["date", "time", "timestamp"])
def test_values_that_datetime_cannot_hold_come_too(name: str) -> None:
    found = find(values_of(NATIVE_TYPES[name]), lambda value: type(value).__module__ != "datetime")
    assert type(found).__name__.lower() == name


@pytest.mark.parametrize(
    "text", [*NATIVE_TYPES, "vector<int, 2>", "set<frozen<vector<int, 2>>>", "'com.example.Odd'"]
)
@FEW
@given(data=st.data())
def test_values_of_every_type_can_be_written(text: str, data: st.DataObject) -> None:
    cql_type = parse_type(text)
    value = data.draw(values_of(cql_type))
    assert decoder(cql_type)(encoder(cql_type)(value)) == value


def test_the_examples_run() -> None:
    run_examples(values, "cql_types", "values_of")
