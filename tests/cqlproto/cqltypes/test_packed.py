"""Encoded values: written unchanged for the type that they were encoded for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import EMPTY, ValueConversionError
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    encoder,
)
from cqlproto.cqltypes.packed import READY, PackedCell, ready_cell
from cqlproto.testing import cql_types, values_of

if TYPE_CHECKING:
    from cqlproto.cqltypes import CQLType

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
NARROW = UserType("k", "u", (("a", INT),))
WIDE = UserType("k", "u", (("renamed", INT), ("b", TEXT)))


@settings(max_examples=50)
@given(st.data())
def test_encoders_write_a_packed_cell_as_it_is(data: st.DataObject) -> None:
    cql_type = data.draw(
        cql_types(max_leaves=3).filter(lambda each: not isinstance(each, NativeType | CustomType))
    )
    encode = encoder(cql_type)
    cell = encode(data.draw(values_of(cql_type)))
    assert encode(PackedCell(cell, cql_type)) == cell
    assert encode(EMPTY) == b""
    assert {type(EMPTY), PackedCell} == READY


def around(inner: CQLType) -> list[CQLType]:
    return [
        inner,
        ListType(inner),
        SetType(inner),
        MapType(inner, INT),
        MapType(INT, inner),
        TupleType((INT, inner)),
        VectorType(inner, 2),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [*zip(around(NARROW), around(WIDE), strict=True)],
    ids=lambda each: str(each)[:3],
)
def test_a_type_may_have_got_fields_and_other_names_since(old: CQLType, new: CQLType) -> None:
    assert ready_cell(new, PackedCell(b"cell", old)) == b"cell"
    with pytest.raises(ValueConversionError, match="encoded for .*the type has changed: bind it"):
        ready_cell(old, PackedCell(b"cell", new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ListType(INT), SetType(INT)),
        (ListType(INT), ListType(TEXT)),
        (MapType(INT, INT), MapType(TEXT, INT)),
        (TupleType((INT,)), TupleType((INT, INT))),
        (VectorType(INT, 2), VectorType(INT, 3)),
        (NARROW, UserType("k", "other", NARROW.fields)),
        (NARROW, UserType("k", "u", (("a", TEXT),))),
    ],
    ids=str,
)
def test_another_type(old: CQLType, new: CQLType) -> None:
    cell = PackedCell(b"cell", old)
    assert repr(cell) == f"<4 bytes of {old}>"
    with pytest.raises(ValueConversionError, match="the type has changed"):
        encoder(new)(cell)
