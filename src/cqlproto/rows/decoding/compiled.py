"""Decoders generated for one list of columns: a page at a time if possible, else row by row.

The source is made of templates and integer indexes, never of names or anything else that came from
the wire; ``python -m cqlproto.rows "int, text, uuid"`` prints it. ``shapes`` lists the kinds of
columns; ``page`` and ``row_loop`` write the two loops.

For ``int, text`` the decoder is (without the parameters of ``make_decoder``)::

    def decode(rows):
        body = rows.body
        p = rows.offset
        count = rows.row_count
        size = len(body)
        body += padding  # a run may be read past the end
        result = []
        try:
            m0, h0, m1 = head(body, p)
            for _ in range(count):
                if m0 == 4:
                    p += 12
                    v0 = h0
                    n1 = m1
                else:
                    v0, p = some0(body, p)
                    (n1,) = length_at(body, p)
                    p += 4
                if 0 <= n1 < 256:
                    v1, m0, h0, m1 = (short1[n1] or fill1(n1))(body, p)
                    p += n1
                    v1 = v1.decode()
                else:
                    if n1 < 0:
                        v1 = None
                    else:
                        v1 = body[p : p + n1].decode()
                        p += n1
                    m0, h0, m1 = run1(body, p)
                result.append((v0, v1))
        except Malformed:
            return plain(rows)
        if p > size:
            return plain(rows)  # which raises the error
        return result

``p`` is the position in the body; ``v0`` and ``v1`` are the values of a row, ``n1`` is the length
of a cell. ``m0``, ``h0`` and ``m1`` are the head of a row: the length of the int, the int, and the
length of the text. ``head`` reads the first row's head; ``short1[n]`` reads a text of ``n`` bytes
and the head of the next row in one call. ``some0`` reads the int again if its length is not 4.

A page that is cut off or malformed is decoded again by the plain loop, which raises the error. So
a compiled decoder returns what the plain one returns.

A column that is null in the first rows of a page is probably null in all of them. Sampling finds
such columns and chooses a decoder that expects nulls there. It decodes any other rows as well,
only more slowly.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from textwrap import indent
from typing import TYPE_CHECKING, Any

from cqlproto.rows.decoding.containers import cell_decoder
from cqlproto.rows.decoding.page import page_format, page_source
from cqlproto.rows.decoding.row_loop import RowLoop
from cqlproto.rows.decoding.shapes import kind_of, targets
from cqlproto.rows.decoding.support import KEPT, length_at, maker_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.cqltypes.conversion import Decoder
    from cqlproto.messages.results import Column, Rows

    Decode = Callable[[Rows], list[Any]]

__all__ = ["compiled_decoder", "decoder_source"]

# Most columns of one function: unrolled code grows with them, and gains nothing more.
MAX_COLUMNS = 250

# Pages of at most this many rows are read row by row.
SHORT_PAGE = 8

# Null sampling: rows from one sample to the next (one sample at most per page).
SAMPLE_EVERY = 64
# Null sampling: rows that a sample looks at.
SAMPLED_ROWS = 3
# Null sampling: most decoders that one column list has for columns that are null.
MAX_NULL_PATTERNS = 8

_SOURCE = """\
def make_decoder(cells, structs, short, some, unpack_page, make, plain):
{names}
    def decode(rows):
        body = rows.body
        p = rows.offset
        count = rows.row_count
{page}        size = len(body)
        body += padding  # a run may be read past the end
        result = []
        try:
{before}            for _ in range(count):
{loop}        except Malformed:
            return plain(rows)
        if p > size:
            return plain(rows)  # which raises the error
        return result

    return decode
"""


class _DecoderSource:
    """The source of the decoder for one shape.

    Arguments:
        shape: one letter per column, see :mod:`cqlproto.rows.decoding.shapes`.
        bare: whether a row is a plain tuple.

    Attributes:
        row_loop: the loop over rows in the source.
        text: the source.
    """

    def __init__(self, shape: str, *, bare: bool) -> None:
        self.row_loop = row_loop = RowLoop(shape)
        values = targets([f"v{i}" for i in range(len(shape))])
        row = values if values.startswith("(") else f"({values})"
        row = row if bare else f"make({row})"
        page = page_source(shape, row, SHORT_PAGE) if shape and not row_loop.variable else ""
        self.text = _SOURCE.format(
            names=indent(row_loop.names, " " * 4),
            page=indent(page, " " * 8),
            before=indent(row_loop.before, " " * 12),
            loop=indent(f"{row_loop.loop}result.append({row})\n", " " * 16),
        )


def decoder_source(types: Sequence[CQLType]) -> str:
    """Return the source of the function that makes a decoder for columns of these types."""
    return _DecoderSource("".join(map(kind_of, types)), bare=True).text


@lru_cache(maxsize=KEPT)
def _maker(shape: str, bare: bool) -> tuple[Callable[..., Decode], RowLoop, Any]:
    source = _DecoderSource(shape, bare=bare)
    unpack_page = None if source.row_loop.variable else Struct(page_format(shape)).iter_unpack
    return maker_of(source.text, shape), source.row_loop, unpack_page


def _decoder_of(
    shape: str,
    cells: Sequence[Decoder],
    make: Callable[[tuple[Any, ...]], Any],
    plain: Decode,
) -> Decode:
    make_decoder, row_loop, unpack_page = _maker(shape, make is tuple)
    return make_decoder(*readers_of(row_loop, cells), unpack_page, make, plain)


def _nulls(rows: Rows, width: int) -> frozenset[int]:
    """Return the columns that are null in all sampled rows; none if the body ends in them."""
    body, p = rows.body, rows.offset
    found = frozenset(range(width))
    for _ in range(min(rows.row_count, SAMPLED_ROWS)):
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
    """Return a decoder generated for these columns.

    Arguments:
        columns: the columns, in order.
        make: makes a row from the tuple of its values.
        plain: the plain decoder with the same result, for malformed pages.
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
        """Return the decoder that expects nulls where this page has them."""
        nonlocal before
        nulls = seen = _nulls(rows, width)
        if rows.row_count < SAMPLED_ROWS:
            nulls &= before  # a null in a single row says little about the rows to come
        before = seen
        decode = made.get(nulls)
        if decode is None:
            if len(made) > MAX_NULL_PATTERNS:
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
            left = SAMPLE_EVERY
            chosen = choose(rows)
        return chosen(rows)

    return decode
