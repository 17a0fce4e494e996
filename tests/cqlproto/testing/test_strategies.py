from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import find, given
from hypothesis import strategies as st

import cqlproto.testing
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
)
from cqlproto.testing import cql_types, values_of


def test_nothing_imports_hypothesis_before_it_is_needed() -> None:
    program = (
        "import sys, cqlproto.cqltypes, cqlproto.testing;"
        "assert 'hypothesis' not in sys.modules;"
        "cqlproto.testing.cql_types;"
        "assert 'hypothesis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = cqlproto.testing.anything


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
