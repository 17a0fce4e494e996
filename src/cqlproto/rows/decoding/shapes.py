"""How generated code treats a column: one letter per kind, and the lines that finish its value.

A list of columns is boiled down to its shape, one letter per column. Two lists of the same shape
have the same source, so nothing but the letters, and integer indexes, ever gets into it.

Kinds of fixed size: the letters of ``struct`` for numbers and booleans, which need nothing more;
``U`` a UUID, ``M`` a timestamp (milliseconds), ``D`` a date, ``W`` a time of day (wall clock); and
``N`` a column that is expected to be null. The others vary in size: ``T`` text, ``A`` ascii, ``B``
blob, and ``.`` for every type whose cells are given to the decoder of the type.
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

# Those that need nothing more than struct.
NUMBERS = frozenset("bhiqfd")

# Of each kind of fixed size what struct reads it by.
FORMATS = {
    **{code: code for code in (*NUMBERS, "?")},
    "U": "16s",
    "M": "iBBBB",
    "D": "I",
    "W": "q",
    "N": "",
}

# The value {v} is made of {read}, what struct has read; only what differs from that stands here.
_FINISH = {
    # A UUID's own constructor takes five times as long: see blank_class.
    "U": """\
value = BlankUUID()
value.int = from_bytes({read})
value.is_safe = unknown
value.__class__ = UUID
{v} = value
""",
    # Adding up what its parts stand for takes less than multiplying a timedelta: see Eras.
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
    """Return the letter of a type."""
    name = str(cql_type)
    scalar = SCALARS.get(name)
    if scalar is None:
        return "."
    return _KINDS.get(name) or scalar.code or "."


def is_fixed(kind: str) -> bool:
    """Whether all cells of a kind have one size."""
    return kind in FORMATS


def width_of(kind: str) -> int:
    """Return the size of the cells of a kind of fixed size; -1, as on the wire, for null."""
    return -1 if kind == "N" else calcsize(f">{FORMATS[kind]}")


def read_names(kind: str, name: str) -> list[str]:
    """Return the names of all that struct reads of a cell of fixed size; the first is given."""
    if kind == "M":
        return [name, *(f"{name}{part}" for part in "bcde")]
    return [] if kind == "N" else [name]


def finished(kind: str, index: int, read: str) -> str:
    """Return the lines that turn what was read into the value ``v{index}``.

    Arguments:
        kind: of the column.
        index: of the column.
        read: the name of what was read, or the expression that reads it if its size varies.
    """
    v = f"v{index}"
    if kind == ".":
        return f"{v} = cell{index}({read})\n"
    if kind in _FINISH:
        template = _UUID_CALL if kind == "U" and BLANK_UUID is None else _FINISH[kind]
        return template.format(v=v, read=read)
    return "" if read == v else f"{v} = {read}\n"


def targets(names: Sequence[str]) -> str:
    """Return names as what a tuple of as many values is unpacked to, and as such a tuple."""
    if len(names) < 2:
        return f"({''.join(f'{name},' for name in names)})"
    return wrapped(", ".join(names))


def wrapped(expression: str) -> str:
    """Return an expression, within parentheses and on several lines if it is long."""
    if len(expression) <= _LINE:
        return expression
    lines = fill(expression, _LINE, initial_indent="    ", subsequent_indent="    ")
    return f"(\n{lines}\n)"
