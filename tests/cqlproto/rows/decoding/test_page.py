"""Pages whose rows have the same size, and pages that only seem to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.rows import decoder, reference_decoder
from cqlproto.rows.decoding.page import page_format, page_source
from tests.support.row_pages import (
    FIXED,
    Cell,
    both,
    cell,
    columns_of,
    native,
    packed,
    rows_of,
    tables,
)

if TYPE_CHECKING:
    from cqlproto.messages import Column

Table = tuple[list["Column"], list[list[Any]]]


@settings(max_examples=150)
@given(tables(native(FIXED), min_rows=9), st.binary(max_size=20))
def test_pages_without_a_cell_that_is_missing(table: Table, after: bytes) -> None:
    columns, values = table
    content = packed(columns, values)
    both(columns, rows_of(columns, len(values), content + after))


@settings(max_examples=150)
@given(
    tables(native(FIXED), min_rows=9, odd=st.none() | st.binary(max_size=17).map(Cell)),
    st.data(),
)
def test_pages_with_a_cell_that_is_null_or_of_another_size(
    table: Table, data: st.DataObject
) -> None:
    columns, values = table
    content = packed(columns, values)
    both(columns, rows_of(columns, len(values), content))
    end = data.draw(st.integers(0, len(content)))
    both(columns, rows_of(columns, len(values), content[:end]))


@pytest.mark.parametrize("at", range(8))
def test_every_byte_of_every_length_counts(at: int) -> None:
    """For a page of the right total size."""
    columns = columns_of("int", "smallint")
    good = bytearray((cell(bytes(4)) + cell(bytes(2))) * 20)
    for row in range(20):
        wrong = bytearray(good)
        wrong[14 * row + (at if at < 4 else 4 + at)] ^= 1 << at
        both(columns, rows_of(columns, 20, bytes(wrong)))
    assert decoder(columns, tuple)(rows_of(columns, 20, bytes(good))) == [(0, 0)] * 20


@pytest.mark.parametrize("count", [9, 2**31 - 1])
def test_a_count_that_the_body_does_not_bear_takes_no_memory(count: int) -> None:
    columns = columns_of("int")
    both(columns, rows_of(columns, count, cell(bytes(4)) * 8))


@pytest.mark.parametrize("length", [-2, -(2**31)])
def test_other_lengths_that_mean_null(length: int) -> None:
    columns = columns_of("int", "int")
    usual = [cell(None) + cell(bytes(4))] * 12
    usual[7] = length.to_bytes(4, "big", signed=True) + cell(bytes(4))
    both(columns, rows_of(columns, 12, b"".join(usual)))


def test_numbers_need_no_loop() -> None:
    assert "for " not in page_source("iqd", "(v0, v1, v2)", 8)
    assert "map(make, " in page_source("iqd", "make((v0, v1, v2))", 8)
    assert "for v0, v1 in" in page_source("iU", "(v0, v1)", 8)
    assert page_format("iNU") == ">4xi4x4x16s"


def test_columns_that_are_null_on_the_whole_page() -> None:
    columns = columns_of("int", "text", "uuid", "list<int>")
    table: list[list[Any]] = [[None, None, Cell(bytes(range(16))), None], [None] * 4]
    for rows in (table[:1] * 20, table[1:] * 20, table * 10):
        page = rows_of(columns, 20, packed(columns, rows))
        both(columns, page)
        assert len(reference_decoder(columns)(page)) == 20
