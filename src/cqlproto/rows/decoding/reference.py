"""The plain decoder of rows: one loop, one cell at a time.

It is the reference for all other decoders, which property tests compare with it, and it raises the
errors for malformed rows. It is written for readability.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import decoder as cell_decoder
from cqlproto.exceptions import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Column, Rows

__all__ = ["reference_decoder"]

_length_at = Struct(">i").unpack_from


def reference_decoder(
    columns: Sequence[Column], make: Callable[[list[Any]], tuple[Any, ...]] = tuple
) -> Callable[[Rows], list[Any]]:
    """Return a function from :class:`Rows` to a list of tuples, one value per column.

    Arguments:
        columns: the columns, in order.
        make: makes the tuple, or an instance of a subclass, from a row's values.

    The rows are one [bytes] per row and column; a negative length is null (v4 section 4.2.5.2).
    Bytes after the last row are ignored (v4 section 1).

    Raises (the function returned):
        RemoteProtocolError: a cell is cut off, or malformed for its type.
    """
    cells = [cell_decoder(column.type) for column in columns]

    def decode(rows: Rows) -> list[tuple[Any, ...]]:
        body = rows.body
        position = rows.offset
        size = len(body)
        result = []
        row: list[Any] = []
        try:
            for _ in range(rows.row_count):
                row = []
                for cell in cells:
                    (length,) = _length_at(body, position)
                    position += 4
                    if length < 0:
                        row.append(None)
                        continue
                    stop = position + length
                    if stop > size:
                        raise RemoteProtocolError(
                            f"{length} bytes are announced, {size - position} are left"
                        )
                    row.append(cell(body[position:stop]))
                    position = stop
                result.append(make(row))
        except (RemoteProtocolError, StructError) as exc:
            column = columns[len(row)]
            raise RemoteProtocolError(
                f"row {len(result)}, column {column.name!r} ({column.type}): {exc}"
            ) from exc
        return result

    return decode
