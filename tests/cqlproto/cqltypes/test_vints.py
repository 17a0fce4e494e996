"""Integers of variable length (v5 section 3): short, long and truncated ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes.vints import (
    read_unsigned_vint,
    write_unsigned_vint,
    write_vint,
)

BOUNDS = [0, (1 << 64) - 1, *(1 << 7 * n for n in range(1, 9)), *((1 << 7 * n) - 1 for n in (1, 8))]


def length_of(value: int) -> int:
    """Seven bits per byte, and nine bytes for more than 56 bits."""
    return next((size for size in range(1, 9) if value < 1 << 7 * size), 9)


@given(st.integers(0, (1 << 64) - 1) | st.sampled_from(BOUNDS), st.binary(max_size=3))
def test_unsigned(value: int, around: bytes) -> None:
    data = write_unsigned_vint(value)
    assert len(data) == length_of(value)
    start = len(around)
    assert read_unsigned_vint(around + data + around, start) == (value, start + len(data))


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_signed(value: int) -> None:
    data = write_vint(value)
    zigzag, end = read_unsigned_vint(data, 0)
    assert (zigzag >> 1 ^ -(zigzag & 1), end) == (value, len(data))
    assert len(data) == length_of(2 * abs(value) - (value < 0))


@pytest.mark.parametrize("value", BOUNDS)
def test_what_ends_early_is_refused(value: int) -> None:
    data = write_unsigned_vint(value)
    for size in range(len(data)):
        with pytest.raises(ValueError, match="it ends"):
            read_unsigned_vint(data[:size], 0)


@given(st.binary(min_size=1, max_size=12))
def test_any_bytes_are_a_number_or_refused(data: bytes) -> None:
    try:
        value, pos = read_unsigned_vint(data, 0)
    except ValueError:
        assert len(data) < 9
    else:
        assert 0 <= value < 1 << 64
        assert 0 < pos <= len(data)
