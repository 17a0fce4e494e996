"""The shape of a column list: one letter, its kind, per column; and the code for each kind.

Column lists of the same shape have the same source, so the source contains only kinds and integer
indexes.

Kinds of fixed size: the format characters of ``struct`` for numbers and booleans, which need no
more code; ``U`` a UUID, ``M`` a timestamp (milliseconds), ``D`` a date, ``W`` a time of day (wall
clock); and ``N`` a column that is expected to be null. Kinds of variable size: ``T`` text, ``A``
ascii, ``B`` blob, and ``.`` for every other type, whose decoder reads the cell.
"""

from __future__ import annotations

from struct import calcsize
from textwrap import fill
from typing import TYPE_CHECKING

from cqlproto.cqltypes.constructors import BLANK_UUID
from cqlproto.cqltypes.scalars import SCALARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto.cqltypes import CQLType

__all__ = [
    "FORMATS",
    "NUMBERS",
    "finished",
    "is_fixed",
    "kind_of",
    "read_names",
    "targets",
    "width_of",
    "wrapped",
]

_KINDS = {
    "ascii": "A",
    "blob": "B",
    "boolean": "?",
    "date": "D",
    "text": "T",
    "time": "W",
    "timestamp": "M",
    "timeuuid": "U",
    "uuid": "U",
}

# Kinds that struct alone decodes.
NUMBERS = frozenset("bhiqfd")

# The struct format of each kind of fixed size.
FORMATS = {
    **{code: code for code in (*NUMBERS, "?")},
    "U": "16s",
    "M": "iBBBB",
    "D": "I",
    "W": "q",
    "N": "",
}

# The lines that make the value {v} from {read}, which struct has read; kinds without need none.
_FINISH = {
    # The constructor of UUID takes five times as long: see blank_class.
    "U": """\
value = BlankUUID()
value.int = from_bytes({read})
value.is_safe = unknown
value.__class__ = UUID
{v} = value
""",
    # Adding timedeltas takes less time than multiplying one: see _Eras.
    "M": """\
try:
    {v} = ERAS[{read}] + SPANS_24[{read}b] + SPANS_16[{read}c] + SPANS_8[{read}d] + SPANS_0[{read}e]
except OverflowError:
    {v} = late_timestamp({read}, {read}b, {read}c, {read}d, {read}e)
""",
    "D": "{v} = date_of[{read}]\n",
    "W": "{v} = time_of({read})\n",
    "N": "{v} = None\n",
    "T": "{v} = {read}.decode()\n",
    "A": '{v} = {read}.decode("ascii")\n',
}
_UUID_CALL = "{v} = uuid_of({read})\n"

_LINE = 72


def kind_of(cql_type: CQLType) -> str:
    """Return the kind of a type."""
    name = str(cql_type)
    scalar = SCALARS.get(name)
    if scalar is None:
        return "."
    return _KINDS.get(name) or scalar.code or "."


def is_fixed(kind: str) -> bool:
    """Whether all cells of a kind have the same size."""
    return kind in FORMATS


def width_of(kind: str) -> int:
    """Return the size in bytes of cells of a kind of fixed size; -1 for null, as on the wire."""
    return -1 if kind == "N" else calcsize(f">{FORMATS[kind]}")


def read_names(kind: str, name: str) -> list[str]:
    """Return the names of the values that struct reads from a cell of fixed size.

    Arguments:
        kind: the kind of the column.
        name: the first name; others are derived from it.
    """
    if kind == "M":
        return [name, *(f"{name}{part}" for part in "bcde")]
    return [] if kind == "N" else [name]


def finished(kind: str, index: int, read: str) -> str:
    """Return the lines that make the value ``v{index}`` from what was read.

    Arguments:
        kind: the kind of the column.
        index: the index of the column.
        read: the name of the value that was read, or the expression that reads a cell.
    """
    v = f"v{index}"
    if kind == ".":
        return f"{v} = cell{index}({read})\n"
    if kind in _FINISH:
        template = _UUID_CALL if kind == "U" and BLANK_UUID is None else _FINISH[kind]
        return template.format(v=v, read=read)
    return "" if read == v else f"{v} = {read}\n"


def targets(names: Sequence[str]) -> str:
    """Return names as the targets of an unpacking assignment, which is also a tuple of them."""
    if len(names) < 2:
        return f"({''.join(f'{name},' for name in names)})"
    return wrapped(", ".join(names))


def wrapped(expression: str) -> str:
    """Return an expression; a long one is put in parentheses and on several lines."""
    if len(expression) <= _LINE:
        return expression
    lines = fill(expression, _LINE, initial_indent="    ", subsequent_indent="    ")
    return f"(\n{lines}\n)"
