"""What generated code calls: readers of cells, and the functions that make values of some types.

The reader of short cells of one size is made when the first such cell is read, and shared by all
decoders with the same columns after it.
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

    from cqlproto.cqltypes.conversion import Decoder
    from cqlproto.rows.decoding.row_loop import RowLoop

__all__ = ["length_at", "maker_of", "readers_of"]

# Most compiled sources, and most lists of readers of short cells, that are cached.
KEPT = 256

# Most eras that are cached: about a hundred years.
ERAS_KEPT = 1 << 10

length_at = Struct(">i").unpack_from


class _Eras(dict[int, datetime]):
    """Datetimes by the first four bytes of a timestamp: one every 50 days, an *era*.

    A timestamp counts milliseconds, and multiplying a timedelta by that count takes most of the
    time of making a datetime. So a datetime is added up from its era and from one timedelta for
    each of the other four bytes. The result is exact.
    """

    def __missing__(self, key: int) -> datetime:
        # OverflowError: a year that datetime doesn't have
        made = EPOCH + MILLISECOND * (key << 32)
        if len(self) >= ERAS_KEPT:
            self.clear()
        self[key] = made
        return made


def _spans(bits: int) -> list[timedelta]:
    """Return the timedelta for each value of a byte that is shifted left by ``bits``."""
    return [MILLISECOND * (byte << bits) for byte in range(256)]


def _late_timestamp(era: int, b: int, c: int, d: int, e: int) -> Any:
    """Return the value of a timestamp that ``datetime`` cannot hold."""
    return timestamp_of(era << 32 | b << 24 | c << 16 | d << 8 | e)


ERAS = _Eras()

# The global names of generated code.
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
    """Compile a source and return its function ``make_decoder``."""
    space: dict[str, Any] = dict(_GLOBALS)
    exec(compile(source, f"<decoder of {shape}>", "exec"), space)
    maker: Callable[..., Any] = space["make_decoder"]
    return maker


def readers_of(row_loop: RowLoop, cells: Sequence[Decoder]) -> tuple[Any, ...]:
    """Return the first arguments of ``make_decoder``: cells, structs, short and some.

    Arguments:
        row_loop: the loop in the source.
        cells: the decoders of the columns' cells.
    """
    structs = {i: Struct(behind).unpack_from for i, behind in row_loop.behind.items()}
    short = {i: _short_cells(behind[1:]) for i, behind in row_loop.behind.items()}
    some = [_some_cells(cells[run.start : run.stop]) for run in row_loop.runs]
    return cells, {"head": Struct(row_loop.head).unpack_from, **structs}, short, some


@lru_cache(maxsize=KEPT)
def _short_cells(behind: str) -> tuple[list[Any], Callable[[int], Any]]:
    """Return a list of readers by cell size, and the function that makes a missing one.

    A reader reads a cell of its size and the run after it.
    """
    readers: list[Any] = [None] * SHORT

    def fill(n: int) -> Any:
        reader = readers[n] = Struct(f">{n}s{behind}").unpack_from
        return reader

    return readers, fill


def _some_cells(cells: Sequence[Decoder]) -> Callable[[bytes, int], list[Any]]:
    """Return a function that reads these cells one by one: the values, then the position."""

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
