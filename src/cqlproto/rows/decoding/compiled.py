"""Decoders written for one list of columns: a page at once where that can be, else row by row.

The source is made of templates and of integer indexes, never of names or anything else that came
from the wire; ``python -m cqlproto.rows "int, text, uuid"`` shows it. ``shapes`` says what there
is, ``page`` and ``row_loop`` how it is read.

What is cut off or malformed is given to the plain loop, the whole page, which says what is wrong.
So whatever a compiled decoder returns, the plain one returns too.

A column that is null in the first rows of a long page is most likely so in all of them, and there
is a decoder that expects it. The rows may still be anything: it is a matter of speed alone.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from textwrap import indent
from typing import TYPE_CHECKING, Any

from cqlproto.rows.decoding.containers import cell_decoder
from cqlproto.rows.decoding.page import page_format, page_source
from cqlproto.rows.decoding.row_loop import RowPath
from cqlproto.rows.decoding.shapes import kind_of, targets
from cqlproto.rows.decoding.support import KEPT, length_at, maker_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.cqltypes.scalars import Decoder
    from cqlproto.messages.results import Column, Rows

    Decode = Callable[[Rows], list[Any]]

__all__ = ["compiled_decoder", "decoder_source"]

# How many columns one function may have: unrolled code grows with them, and its use does not.
MAX_COLUMNS = 250

# How many rows are not enough to look at them as a page.
NO_PAGE = 8

# After how many rows, or on which longer page, it is looked what is null; in how many of its rows;
# and how many decoders there may be for that.
ROWS_TO_LOOK = 64
ROWS_LOOKED_AT = 3
MAX_PATTERNS = 8

_SOURCE = """\
def make_decoder(cells, structs, short, some, unpack_page, make, plain):
{names}
    def decode(rows):
        body = rows.body
        p = rows.offset
        count = rows.row_count
{page}        size = len(body)
        body += padding  # so that a run can be read past the end; see below
        result = []
        try:
{before}            for _ in range(count):
{loop}        except Malformed:
            return plain(rows)
        if p > size:
            return plain(rows)  # which says where the body ends too soon
        return result

    return decode
"""


class _Plan:
    """A shape's source, and the row path in it.

    Arguments:
        shape: one letter per column, see :mod:`cqlproto.rows.decoding.shapes`.
        bare: whether a row is a plain tuple.
    """

    def __init__(self, shape: str, *, bare: bool) -> None:
        self.path = path = RowPath(shape)
        values = targets([f"v{i}" for i in range(len(shape))])
        row = values if values.startswith("(") else f"({values})"
        row = row if bare else f"make({row})"
        page = page_source(shape, row, NO_PAGE) if shape and not path.variable else ""
        self.source = _SOURCE.format(
            names=indent(path.names, " " * 4),
            page=indent(page, " " * 8),
            before=indent(path.before, " " * 12),
            loop=indent(f"{path.loop}result.append({row})\n", " " * 16),
        )


def decoder_source(types: Sequence[CQLType]) -> str:
    """Return the source of the function that makes a decoder for columns of these types."""
    return _Plan("".join(map(kind_of, types)), bare=True).source


@lru_cache(maxsize=KEPT)
def _maker(shape: str, bare: bool) -> tuple[Callable[..., Decode], RowPath, Any]:
    plan = _Plan(shape, bare=bare)
    unpack_page = None if plan.path.variable else Struct(page_format(shape)).iter_unpack
    return maker_of(plan.source, shape), plan.path, unpack_page


def _decoder_of(
    shape: str,
    cells: Sequence[Decoder],
    make: Callable[[tuple[Any, ...]], Any],
    plain: Decode,
) -> Decode:
    make_decoder, path, unpack_page = _maker(shape, make is tuple)
    return make_decoder(*readers_of(path, cells), unpack_page, make, plain)


def _nulls(rows: Rows, width: int) -> frozenset[int]:
    """Return which columns are null in the first rows; none if the body ends in them."""
    body, p = rows.body, rows.offset
    found = frozenset(range(width))
    for _ in range(min(rows.row_count, ROWS_LOOKED_AT)):
        nulls = set()
        for i in range(width):
            try:
                (n,) = length_at(body, p)
            except StructError:
                return frozenset()
            p += 4
            if n < 0:
                nulls.add(i)
            else:
                p += n
        found &= nulls
        if not found:
            break
    return found


def compiled_decoder(
    columns: Sequence[Column],
    make: Callable[[tuple[Any, ...]], Any],
    plain: Callable[[Rows], list[Any]],
) -> Callable[[Rows], list[Any]]:
    """Return a decoder written for these columns.

    Arguments:
        columns: the columns, in order.
        make: makes a row of the tuple of its values.
        plain: the decoder that does the same, for what is malformed.
    """
    width = len(columns)
    if not 0 < width <= MAX_COLUMNS:
        return plain
    shape = "".join([kind_of(column.type) for column in columns])
    cells = [cell_decoder(column.type) for column in columns]
    usual = _decoder_of(shape, cells, make, plain)
    made: dict[frozenset[int], Decode] = {frozenset(): usual}
    before = frozenset(range(width))

    def choose(rows: Rows) -> Decode:
        """Return the decoder that expects what is null on this page."""
        nonlocal before
        nulls = seen = _nulls(rows, width)
        if rows.row_count < ROWS_LOOKED_AT:
            nulls &= before  # what is null in one row alone says little
        before = seen
        decode = made.get(nulls)
        if decode is None:
            if len(made) > MAX_PATTERNS:
                return usual
            kinds = ["N" if i in nulls else kind for i, kind in enumerate(shape)]
            decode = made[nulls] = _decoder_of("".join(kinds), cells, make, plain)
        return decode

    chosen = usual
    left = 0

    def decode(rows: Rows) -> list[Any]:
        nonlocal chosen, left
        left -= rows.row_count
        if left < 0:
            left = ROWS_TO_LOOK
            chosen = choose(rows)
        return chosen(rows)

    return decode
