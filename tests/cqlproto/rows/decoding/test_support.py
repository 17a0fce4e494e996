"""Functions that generated code calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES, Timestamp, decoder
from cqlproto.rows.decoding import support
from cqlproto.rows.decoding.row_loop import RowLoop
from cqlproto.rows.decoding.support import maker_of, readers_of
from tests.support.row_pages import both, columns_of, packed, rows_of

if TYPE_CHECKING:
    import pytest

FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999
EDGES = st.sampled_from([FIRST - 1, FIRST, -1, 0, LAST, LAST + 1, -(1 << 63), (1 << 63) - 1])
TIMESTAMP = NATIVE_TYPES["timestamp"]


@given(EDGES | st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(FIRST, LAST))
def test_timestamps_are_put_together_exactly(value: int) -> None:
    """In the loop over rows, and on a page."""
    columns = columns_of("timestamp")
    moment: Any = Timestamp(value)
    if FIRST <= value <= LAST:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=1) * value
    assert decoder(TIMESTAMP)(Struct(">q").pack(value)) == moment
    for count in (1, 12):
        both(columns, rows_of(columns, count, packed(columns, [[moment]]) * count))


def test_eras_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "ERAS_KEPT", 8)
    kept: Any = support.ERAS
    kept.clear()
    columns = columns_of("timestamp")
    for step in range(100):
        moment = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=50) * step
        both(columns, rows_of(columns, 1, packed(columns, [[moment]])))
        assert len(kept) <= 8


def test_short_cells_are_read_by_what_is_made_once() -> None:
    support._short_cells.cache_clear()
    row_loop = RowLoop("iTi")
    cells = [decoder(NATIVE_TYPES[name]) for name in ("int", "text", "int")]
    given_cells, structs, short, some = readers_of(row_loop, cells)
    assert given_cells is cells
    readers, fill = short[1]
    assert readers == [None] * 256
    read = fill(3)
    assert readers[3] is read
    row = b"\0\0\0\4\0\0\0\7" + b"\0\0\0\3" + b"abc" + b"\0\0\0\4\0\0\0\5"
    assert structs["head"](row) == (4, 7, 3)
    assert read(row + bytes(12), 12) == (b"abc", 4, 5, 0, 0, 0)
    assert some[0](row, 0) == [7, 8]
    assert some[1](b"\xff\xff\xff\xff", 0) == [None, 4]
    again = readers_of(RowLoop("iTi"), cells)[2]
    assert again[1][0] is readers


def test_sources_see_no_more_than_they_need() -> None:
    source = "def make_decoder():\n    return sorted(globals())\n"
    names = maker_of(source, "i")()
    assert "length_at" in names
    assert not {"support", "Struct", "os", "sys"}.intersection(names)
