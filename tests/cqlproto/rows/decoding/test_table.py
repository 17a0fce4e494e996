"""The table-driven decoder against the plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.rows import Row, decode_rows, reference_decoder
from cqlproto.rows.decoding.table import table_decoder
from tests.support.row_pages import (
    FIXED,
    VARYING,
    Cell,
    anything,
    columns_of,
    native,
    outcome,
    packed,
    rows_of,
    tables,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto.messages import Column, Rows

Table = tuple[list["Column"], list[list[object]]]
mixed = native((*FIXED, *VARYING)) | anything
odd = st.none() | st.binary(max_size=20).map(Cell)


def both(columns: Sequence[Column], rows: Rows) -> None:
    plain = reference_decoder(columns)
    assert outcome(table_decoder(columns, tuple, plain), rows) == outcome(plain, rows)
    assert outcome(decode_rows, rows) == outcome(plain, rows)


@settings(max_examples=200)
@given(tables(mixed, odd=odd), st.binary(max_size=25), st.data())
def test_rows_whole_and_cut_off(table: Table, after: bytes, data: st.DataObject) -> None:
    columns, values = table
    content = packed(columns, values)
    both(columns, rows_of(columns, len(values), content + after))
    for _ in range(3):
        end = data.draw(st.integers(0, len(content)))
        both(columns, rows_of(columns, len(values), content[:end]))


@settings(max_examples=200)
@given(st.lists(mixed, min_size=1, max_size=5), st.integers(0, 5), st.binary(max_size=80))
def test_bytes_that_are_no_rows(types: list[str], count: int, content: bytes) -> None:
    columns = columns_of(*types)
    both(columns, rows_of(columns, count, content))


@pytest.mark.parametrize("name", [*FIXED, *VARYING])
def test_every_byte_at_which_a_row_may_end(name: str) -> None:
    columns = columns_of(name, name)
    table: list[list[object]] = [[Cell(bytes(8)), None], [Cell(b""), Cell(bytes(16))]]
    for row in table:
        content = packed(columns, [row])
        for end in range(len(content) + 1):
            both(columns, rows_of(columns, 1, content[:end]))


def test_the_rows_are_of_the_target() -> None:
    columns = columns_of("int", "text")
    rows = rows_of(columns, 1, packed(columns, [[7, "a"]]))
    [row] = decode_rows(rows)
    assert isinstance(row, Row)
    assert (row.c0, row["c1"]) == (7, "a")
    assert decode_rows(rows, dict) == [{"c0": 7, "c1": "a"}]
