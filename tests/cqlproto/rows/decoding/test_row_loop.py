"""The loop over rows: adjacent columns of any size, nulls, truncated rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.rows.decoding.row_loop import RowLoop
from tests.support.row_pages import (
    FIXED,
    VARYING,
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
mixed = native((*FIXED, *VARYING, "text", "text"))


@settings(max_examples=200)
@given(tables(mixed, odd=st.none()), st.binary(max_size=20), st.data())
def test_rows_with_nulls_whole_and_cut_off(table: Table, after: bytes, data: st.DataObject) -> None:
    columns, values = table
    content = packed(columns, values)
    both(columns, rows_of(columns, len(values), content + after))
    for _ in range(3):
        end = data.draw(st.integers(0, len(content)))
        both(columns, rows_of(columns, len(values), content[:end]))


@settings(max_examples=200)
@given(tables(mixed, odd=st.binary(max_size=20).map(Cell)))
def test_cells_of_wrong_sizes_and_contents(table: Table) -> None:
    columns, values = table
    both(columns, rows_of(columns, len(values), packed(columns, values)))


@settings(max_examples=200)
@given(st.lists(mixed, min_size=1, max_size=5), st.integers(0, 5), st.binary(max_size=80))
def test_bytes_that_are_no_rows(types: list[Any], count: int, content: bytes) -> None:
    columns = columns_of(*types)
    both(columns, rows_of(columns, count, content))


LISTS = ["int", "text", "text int", "int text", "text blob", "uuid text time"]
LISTS += ["int text timestamp varint date", "ascii boolean list<text>"]


@pytest.mark.parametrize("types", [names.split() for names in LISTS])
def test_every_byte_at_which_rows_may_end(types: list[str]) -> None:
    columns = columns_of(*types)
    sizes = {"int": 4, "uuid": 16, "time": 8, "timestamp": 8, "date": 4, "boolean": 1}
    row: list[Any] = [Cell(bytes(sizes.get(name, 4))) for name in types]
    nulls: list[Any] = [None] * len(row)
    table: list[list[Any]] = [row, row, nulls, row]
    content = packed(columns, table)
    for end in range(len(content) + 1):
        both(columns, rows_of(columns, 4, content[:end]))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1_700])
@pytest.mark.parametrize("name", ["text", "ascii", "blob", "varint"])
def test_short_and_long_cells(name: str, size: int) -> None:
    columns = columns_of("int", name, "int", name)
    data = Cell(b"\x01" * size)
    table: list[list[Any]] = [
        [1, data, 2, Cell(b"\x02")],
        [1, None, None, data],
        [None, data, 2, None],
    ]
    both(columns, rows_of(columns, 3, packed(columns, table)))


@pytest.mark.parametrize("length", [-2, -255, -256, -257, -(2**31)])
def test_other_lengths_that_mean_null(length: int) -> None:
    null = length.to_bytes(4, "big", signed=True)
    columns = columns_of("text", "int", "text")
    content = null * 3 + cell(b"a") + cell(bytes(4)) + null + null + cell(bytes(4)) + cell(b"b")
    both(columns, rows_of(columns, 3, content))


def test_a_length_near_the_greatest() -> None:
    columns = columns_of("blob", "int")
    for length in (2**31 - 1, 2**31 - 9, 70_000):
        both(columns, rows_of(columns, 2, length.to_bytes(4, "big") + bytes(300)))


def test_what_reads_a_shape() -> None:
    loop = RowLoop("iTqN.")
    assert loop.head == ">iii"
    assert loop.behind == {1: ">iqii", 4: ">iii"}
    assert [(run.start, run.stop) for run in loop.runs] == [(0, 1), (2, 4)]
    assert loop.before == "m0, h0, m1 = head(body, p)\n"
    loop = RowLoop("iq")
    assert (loop.head, loop.behind, loop.before) == (">iiiq", {}, "")
    assert RowLoop("").head == ">"
