"""What compiled packers call for, against the encoders."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import UNSET, LocalProtocolError, ValueConversionError
from cqlproto.cqltypes import NATIVE_TYPES, encoder
from cqlproto.rows.packing import length_of_absent, length_of_null, write_decimal

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
    with pytest.raises(LocalProtocolError, match="unset before v4"):
        length_of_null(UNSET)
