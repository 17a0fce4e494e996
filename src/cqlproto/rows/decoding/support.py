"""What generated code runs on: readers of cells, and the functions that finish a value.

Readers of short cells are made when a cell of such a size comes, and kept for all decoders that
have the same columns behind it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID

from cqlproto.cqltypes import EMPTY
from cqlproto.cqltypes.constructors import (
    BLANK_UUID,
    EPOCH,
    MILLISECOND,
    date_of,
    time_of,
    timestamp_of,
    uuid_of,
)
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.rows.decoding.row_loop import SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes.scalars import Decoder
    from cqlproto.rows.decoding.row_loop import RowPath

__all__ = ["length_at", "maker_of", "readers_of"]

# How many makers, and lists of readers of short cells, are kept of each sort.
KEPT = 256

# How many eras are kept: some hundred years of them.
ERAS_KEPT = 1 << 10

length_at = Struct(">i").unpack_from


class _Eras(dict[int, datetime]):
    """When a timestamp begins by its first four bytes: a point in time every 50 days.

    A timestamp is milliseconds, and multiplying a timedelta by them is what takes the time in
    making a datetime. So timestamps are put together from this and from tables of what the other
    four bytes stand for. All of it is exact.
    """

    def __missing__(self, key: int) -> datetime:
        # OverflowError: a year that datetime doesn't have
        made = EPOCH + MILLISECOND * (key << 32)
        if len(self) >= ERAS_KEPT:
            self.clear()
        self[key] = made
        return made


def _spans(bits: int) -> list[timedelta]:
    """What a byte of a timestamp stands for that has so many bits behind it."""
    return [MILLISECOND * (byte << bits) for byte in range(256)]


def _late_timestamp(era: int, b: int, c: int, d: int, e: int) -> Any:
    """Return a timestamp of which an era or a sum was out of range."""
    return timestamp_of(era << 32 | b << 24 | c << 16 | d << 8 | e)


ERAS = _Eras()

# What the templates use besides the arguments of the function around them.
_GLOBALS = {
    "BlankUUID": BLANK_UUID,
    "EMPTY": EMPTY,
    "ERAS": ERAS,
    "Malformed": (StructError, RemoteProtocolError, UnicodeDecodeError),
    "SPANS_0": _spans(0),
    "SPANS_16": _spans(16),
    "SPANS_24": _spans(24),
    "SPANS_8": _spans(8),
    "UUID": UUID,
    "date_of": date_of,
    "from_bytes": int.from_bytes,
    "late_timestamp": _late_timestamp,
    "length_at": length_at,
    "time_of": time_of,
    "unknown": SafeUUID.unknown,
    "uuid_of": uuid_of,
}


def maker_of(source: str, shape: str) -> Callable[..., Any]:
    """Return the function ``make_decoder`` of a source."""
    space: dict[str, Any] = dict(_GLOBALS)
    exec(compile(source, f"<decoder of {shape}>", "exec"), space)
    maker: Callable[..., Any] = space["make_decoder"]
    return maker


def readers_of(path: RowPath, cells: Sequence[Decoder]) -> tuple[Any, ...]:
    """Return the first arguments of a maker: cells, structs, short and some.

    Arguments:
        path: the row path that is in the source.
        cells: the decoders of the columns' cells.
    """
    structs = {i: Struct(behind).unpack_from for i, behind in path.behind.items()}
    short = {i: _short_cells(behind[1:]) for i, behind in path.behind.items()}
    some = [_some_cells(cells[run.start : run.stop]) for run in path.runs]
    return cells, {"head": Struct(path.head).unpack_from, **structs}, short, some


@lru_cache(maxsize=KEPT)
def _short_cells(behind: str) -> tuple[list[Any], Callable[[int], Any]]:
    """Return what reads a cell of n bytes and the run behind it, by n, and what fills the list."""
    readers: list[Any] = [None] * SHORT

    def fill(n: int) -> Any:
        reader = readers[n] = Struct(f">{n}s{behind}").unpack_from
        return reader

    return readers, fill


def _some_cells(cells: Sequence[Decoder]) -> Callable[[bytes, int], list[Any]]:
    """Return what reads these cells one by one: their values, and the position behind them."""

    def some(body: bytes, p: int) -> list[Any]:
        values: list[Any] = []
        for cell in cells:
            (n,) = length_at(body, p)
            p += 4
            if n < 0:
                values.append(None)
            else:
                values.append(cell(body[p : p + n]))
                p += n
        values.append(p)
        return values

    return some
