"""Functions that compiled packers call, against the encoders."""

from __future__ import annotations

from array import array
from collections import deque
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import UNSET, LocalProtocolError, ValueConversionError
from cqlproto.cqltypes import NATIVE_TYPES, encoder
from cqlproto.messages import Column
from cqlproto.rows.encoding.support import (
    about_column,
    by_position,
    length_of_absent,
    length_of_null,
    missing_cell,
    write_decimal,
)

encode = encoder(NATIVE_TYPES["decimal"])


@given(st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-1000, 1000, places=3))
def test_a_decimal_is_written_as_its_encoder_writes_it(number: Decimal) -> None:
    assert write_decimal(number) == encode(number)


@pytest.mark.parametrize("text", ["1." + "2" * 38, "-" + "9" * 40, "9" * 41, "1E+3", "1.5E-9"])
def test_long_decimals_and_exponents(text: str) -> None:
    assert write_decimal(Decimal(text)) == encode(Decimal(text))


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "sNaN"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueConversionError):
        write_decimal(Decimal(text))


def test_lengths_of_what_is_not_there() -> None:
    """v4 section 3: [value]"""
    assert (length_of_absent(None), length_of_absent(UNSET)) == (-1, -2)
    assert length_of_null(None) == -1
    with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
        length_of_null(UNSET)


@pytest.mark.parametrize("values", [range(2), deque([0, 1]), array("i", [0, 1])])
def test_sequences_in_place_of_a_tuple(values: object) -> None:
    assert by_position(values) == (0, 1)


@pytest.mark.parametrize(
    "values",
    ["ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), {0, 1}, {0: 1}.keys(), iter(()), None, 1],
    ids=lambda values: type(values).__name__,
)
def test_what_is_no_sequence_of_values(values: object) -> None:
    with pytest.raises(TypeError, match=f"must be a sequence .*, got {type(values).__name__}$"):
        by_position(values)


def test_a_mapping_in_place_of_a_sequence() -> None:
    with pytest.raises(TypeError, match="got dict: arrange its values by the bind markers"):
        by_position({"a": 1})


def test_the_first_cell_that_is_missing() -> None:
    assert missing_cell({"c0": b"", "c2": b"", "v1": 1}, (0, 2, 3, 4)) == 3
    assert missing_cell({"c0": b""}, (0,)) is None


def test_an_error_about_a_column() -> None:
    column = Column("k", "t", "c", NATIVE_TYPES["int"])
    cause = ZeroDivisionError("odd")
    error = about_column(cause, column, 1)
    assert (error.column, error.cql_type, error.value, error.__cause__) == ("c", "int", 1, cause)
    assert "odd" in error.reason
    known = ValueConversionError("no", cql_type="text", value=2)
    error = about_column(known, column, 1)
    assert (error.column, error.cql_type, error.value) == ("c", "text", 2)
