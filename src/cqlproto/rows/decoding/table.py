"""The decoder of the first rows: from a table, until enough have come to compile one.

One loop over the columns, as in the plain decoder, but the length and the value of a cell of fixed
size are read together, and what is cut off or malformed is given to the plain decoder, the whole
page. So whatever this returns, the plain one returns too.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import decoder as cell_decoder
from cqlproto.cqltypes.constructors import date_of, time_of, timestamp_of, uuid_of
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.rows.decoding.shapes import NUMBERS, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes.scalars import Decoder
    from cqlproto.messages.results import Column, Rows

__all__ = ["early_decoder"]

_length_at = Struct(">i").unpack_from

# Per kind what struct reads and what finishes that, if it is no number as it is.
_FIXED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    **{code: (code, None) for code in (*NUMBERS, "?")},
    "D": ("I", date_of.__getitem__),
    "M": ("q", timestamp_of),
    "U": ("16s", uuid_of),
    "W": ("q", time_of),
}

# Reading goes so far past the end of a row that is cut off, or has a null at its end.
_PADDING = bytes(20)

_Entry = tuple[int, "Callable[[bytes, int], tuple[Any, ...]]", Any, "Decoder"]


def _entry(column: Column) -> _Entry:
    """Return what a column is read by.

    That is the size of its cells or -2, what reads a length and a cell of that size, what finishes
    the cell if need be, and the decoder of any cell.
    """
    kind = kind_of(column.type)
    if kind in _FIXED:
        code, finish = _FIXED[kind]
        struct = Struct(f">i{code}")
        return struct.size - 4, struct.unpack_from, finish, cell_decoder(column.type)
    # bytes.decode is what the decoder of a text calls
    cell: Decoder = bytes.decode if kind == "T" else cell_decoder(column.type)
    return -2, _length_at, None, cell


def early_decoder(
    columns: Sequence[Column],
    make: Callable[[Any], Any],
    plain: Callable[[Rows], list[Any]],
) -> Callable[[Rows], list[Any]]:
    """Return a decoder that needs little to be made.

    Arguments:
        columns: the columns, in order.
        make: makes a row of the list of its values.
        plain: the decoder that does the same, for what is malformed.
    """
    table = [_entry(column) for column in columns]
    length_at = _length_at

    def decode(rows: Rows) -> list[Any]:
        body = rows.body + _PADDING
        p = rows.offset
        result = []
        try:
            for _ in range(rows.row_count):
                row: list[Any] = []
                for size, read, finish, cell in table:
                    if size > 0:
                        n, value = read(body, p)
                        if n == size:
                            row.append(value if finish is None else finish(value))
                            p += 4 + size
                            continue
                    else:
                        (n,) = length_at(body, p)
                    p += 4
                    if n < 0:
                        row.append(None)
                    else:
                        row.append(cell(body[p : p + n]))
                        p += n
                result.append(make(row))
        except (StructError, RemoteProtocolError, UnicodeDecodeError):
            return plain(rows)
        if p > len(rows.body):
            return plain(rows)
        return result

    return decode
