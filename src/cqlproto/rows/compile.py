"""Decoders written for one column list: the plain loop unrolled, neighbouring numbers read at once.

The source is made of the templates below and of integer indexes, never of names or anything else
that came from the wire; ``python -m cqlproto.rows "int, text, uuid"`` shows it. It handles the
usual page, with nulls; where a cell is cut off or malformed, the whole page is given to the plain
loop, which says what is wrong. So whatever a compiled decoder returns, the plain one returns too.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from textwrap import indent
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import decoder as cell_decoder
from cqlproto.cqltypes.scalars import SCALARS, uuid_of
from cqlproto.exceptions import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages.results import Column, Rows

__all__ = ["compiled_decoder", "decoder_source"]

# How many columns one function may have: unrolled code grows with them, and its use does not.
MAX_COLUMNS = 250

_HEAD = """\
def make_decoder(cells, structs, make, plain, length_at, uuid_of, Malformed):
{names}
    def decode(rows):
        body = rows.body{padding}
        p = rows.offset
        result = []
        try:
            for _ in range(rows.row_count):
"""

_TAIL = """\
                result.append({row})
        except Malformed:
            return plain(rows)
        if p > len(rows.body):
            return plain(rows)
        return result

    return decode
"""

# Numbers that stand next to each other: their lengths are checked at once, and cell by cell only
# where one is null or empty.
_NUMBERS = """\
                {targets} = struct{n}(body, p)
                if {check}:
                    p += {size}
                else:
{cells}
"""

_CELL = """\
                (n,) = length_at(body, p)
                p += 4
                if n < 0:
                    v{i} = None
                else:
                    v{i} = {read}
                    p += n
"""

# How the cells of a kind are read; every other kind goes through the decoder of its type.
_READ = {
    "T": "body[p : p + n].decode()",
    "U": "uuid_of(body[p : p + n]) if n == 16 else cell{i}(body[p : p + n])",
    ".": "cell{i}(body[p : p + n])",
}


class _Plan:
    """How the columns of one shape are read.

    Arguments:
        shape: per column the struct code of a number, or a kind of :data:`_READ`.
        bare: whether a row is a plain tuple.
    """

    def __init__(self, shape: str, *, bare: bool) -> None:
        self.shape = shape
        self.bare = bare
        self.formats: list[str] = []

    def runs(self) -> Iterator[tuple[int, int]]:
        """Yield (first, last + 1) of each run of numbers, and of each other column by itself."""
        start = 0
        while start < len(self.shape):
            stop = start + 1
            if self.shape[start] not in _READ:
                while stop < len(self.shape) and self.shape[stop] not in _READ:
                    stop += 1
            yield start, stop
            start = stop

    def source(self) -> str:
        """Return the source, and leave the formats of its structs in :attr:`formats`."""
        body = "".join(self._run(start, stop) for start, stop in self.runs())
        # a run is read whole although its last cells may be null: behind the last row, too
        longest = max([Struct(text).size for text in self.formats], default=0)
        padding = " + padding" if longest else ""
        names = [f"    cell{i} = cells[{i}]" for i, kind in enumerate(self.shape) if kind != "T"]
        names += [f"    struct{n} = structs[{n}]" for n in range(len(self.formats))]
        if longest:
            names.append(f"    padding = bytes({longest})")
        values = "".join(f"v{i}, " for i in range(len(self.shape)))
        row = f"({values})" if self.bare else f"make(({values}))"
        head = _HEAD.format(names="\n".join(names), padding=padding)
        return head + body + _TAIL.format(row=row)

    def _run(self, start: int, stop: int) -> str:
        if self.shape[start] in _READ:
            return self._cell(start)
        lengths = [Struct(f">{code}").size for code in self.shape[start:stop]]
        self.formats.append(">" + "".join(f"i{code}" for code in self.shape[start:stop]))
        return _NUMBERS.format(
            n=len(self.formats) - 1,
            targets=", ".join(f"n{i}, v{i}" for i in range(start, stop)),
            check=" and ".join(
                f"n{i} == {length}" for i, length in zip(range(start, stop), lengths, strict=True)
            ),
            size=sum(lengths) + 4 * len(lengths),
            cells=indent("".join(self._cell(i) for i in range(start, stop)), "    ").rstrip(),
        )

    def _cell(self, index: int) -> str:
        read = _READ.get(self.shape[index], _READ["."]).format(i=index)
        return _CELL.format(i=index, read=read)


_KINDS = {"text": "T", "uuid": "U", "timeuuid": "U"}


def _kind(cql_type: CQLType) -> str:
    name = str(cql_type)
    if name in _KINDS:
        return _KINDS[name]
    scalar = SCALARS.get(name)
    return scalar.code if scalar is not None and scalar.code else "."


def decoder_source(types: Sequence[CQLType]) -> str:
    """Return the source of the function that makes a decoder for columns of these types."""
    return _Plan("".join(map(_kind, types)), bare=True).source()


@lru_cache(maxsize=256)
def _maker(shape: str, bare: bool) -> tuple[Callable[..., Callable[[Rows], list[Any]]], list[Any]]:
    plan = _Plan(shape, bare=bare)
    space: dict[str, Any] = {}
    exec(compile(plan.source(), f"<decoder of {shape}>", "exec"), space)
    return space["make_decoder"], [Struct(text).unpack_from for text in plan.formats]


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
    if not 0 < len(columns) <= MAX_COLUMNS:
        return plain
    shape = "".join(_kind(column.type) for column in columns)
    make_decoder, structs = _maker(shape, make is tuple)
    cells = [cell_decoder(column.type) for column in columns]
    malformed = (StructError, RemoteProtocolError, UnicodeDecodeError)
    return make_decoder(cells, structs, make, plain, Struct(">i").unpack_from, uuid_of, malformed)
