"""The decoder of the first rows, driven by a table of the columns, before one is compiled.

It is a loop over the columns like the plain decoder, but it reads the length and the value of a
cell of fixed size together. A page that is cut off or malformed is decoded again by the plain
decoder, which raises the error. So both decoders return the same.
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

    from cqlproto.cqltypes.conversion import Decoder
    from cqlproto.messages.results import Column, Rows

__all__ = ["table_decoder"]

_length_at = Struct(">i").unpack_from

# For each kind of fixed size its struct format and the function that makes the value, if any.
_FIXED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    **{code: (code, None) for code in (*NUMBERS, "?")},
    "D": ("I", date_of.__getitem__),
    "M": ("q", timestamp_of),
    "U": ("16s", uuid_of),
    "W": ("q", time_of),
}

# The most bytes that are read past the end of a row that is cut off or ends with a null.
_PADDING = bytes(20)

_Entry = tuple[int, "Callable[[bytes, int], tuple[Any, ...]]", Any, "Decoder"]


def _entry(column: Column) -> _Entry:
    """Return the table's entry for a column.

    It has the size of the column's cells, or -2 if it varies; the function that reads a length, and
    a cell of that size; the function that makes the value, or None; and the decoder of any cell.
    """
    kind = kind_of(column.type)
    if kind in _FIXED:
        code, finish = _FIXED[kind]
        struct = Struct(f">i{code}")
        return struct.size - 4, struct.unpack_from, finish, cell_decoder(column.type)
    # the decoder of a text calls bytes.decode
    cell: Decoder = bytes.decode if kind == "T" else cell_decoder(column.type)
    return -2, _length_at, None, cell


def table_decoder(
    columns: Sequence[Column],
    make: Callable[[Any], Any],
    plain: Callable[[Rows], list[Any]],
) -> Callable[[Rows], list[Any]]:
    """Return a decoder that is cheap to make.

    Arguments:
        columns: the columns, in order.
        make: makes a row from the list of its values.
        plain: the plain decoder with the same result, for malformed pages.
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
