"""The measured column lists, and their values.

Values are generated from a seed, so that every worker process has the same rows; a smaller number
of rows is a prefix of a larger one. Values have types of the standard library only, because the
peers' workers don't import cqlproto; a duration is a tuple of months, days and nanoseconds.

Texts have 5 to 40 characters, one in twenty of them a letter beyond ASCII. A map has two to four
entries.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import random
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHAPES", "Shape", "rows_of", "row_to_bind"]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LETTERS = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789"
_MIXED = (
    "uuid text int bigint double boolean timestamp text int float text smallint tinyint bigint text"
    " date blob int double text"
)


class Shape(NamedTuple):
    """A column list.

    Attributes:
        title: its name in the tables.
        types: the CQL type of each column.
        nulls: the fraction of cells that are null, at random.
        absent: the indices of columns that are always null.
    """

    title: str
    types: tuple[str, ...]
    nulls: float = 0.0
    absent: frozenset[int] = frozenset()

    @property
    def names(self) -> list[str]:
        return [f"column_{index}" for index in range(len(self.types))]


_A = ("int", "bigint", "double", "timestamp", "uuid")
SHAPES: dict[str, Shape] = {
    "A": Shape("A: int, bigint, double, timestamp, uuid", _A),
    "A5": Shape("A, 5 % of the cells null", _A, nulls=0.05),
    "B": Shape(
        "B: uuid, 2 text, timestamp, map", ("uuid", "text", "text", "timestamp", "map<text, text>")
    ),
    "C": Shape("C: 20 columns of 12 types", tuple(_MIXED.split())),
    "C4": Shape("C, 4 columns null", tuple(_MIXED.split()), absent=frozenset({4, 9, 14, 17})),
    "text": Shape("5 text", ("text",) * 5),
    "int": Shape("5 int", ("int",) * 5),
    "R": Shape(
        "R: date, time, decimal, varint, inet, duration",
        ("date", "time", "decimal", "varint", "inet", "duration"),
    ),
}


def _text(roll: random.Random) -> str:
    text = "".join(roll.choices(_LETTERS, k=roll.randint(5, 40)))
    return text[:-1] + "é" if roll.random() < 0.05 else text


def _timestamp(roll: random.Random) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(milliseconds=roll.randrange(2_000_000_000_000))


def _time(roll: random.Random) -> datetime.time:
    moment = datetime.timedelta(microseconds=roll.randrange(86_400_000_000))
    return (_EPOCH + moment).time()


def _inet(roll: random.Random) -> object:
    if roll.random() < 0.5:
        return ipaddress.IPv4Address(roll.getrandbits(32))
    return ipaddress.IPv6Address(0x20010DB8 << 96 | roll.getrandbits(64))


def _map(roll: random.Random) -> dict[str, str]:
    """Return a map in the order of its keys, which is the server's order and cqlproto's."""
    pairs = [(_text(roll), _text(roll)) for _ in range(roll.randint(2, 4))]
    return dict(sorted(pairs))


_MAKERS: dict[str, Callable[[random.Random], object]] = {
    "bigint": lambda roll: roll.randrange(-(1 << 63), 1 << 63),
    "blob": lambda roll: roll.randbytes(roll.randint(16, 64)),
    "boolean": lambda roll: roll.random() < 0.5,
    "date": lambda roll: _timestamp(roll).date(),
    "decimal": lambda roll: Decimal(roll.randrange(-(10**12), 10**12)).scaleb(-roll.randrange(6)),
    "double": lambda roll: roll.uniform(-1e9, 1e9),
    "duration": lambda roll: (roll.randrange(24), roll.randrange(31), roll.randrange(10**12)),
    "float": lambda roll: roll.randrange(-(1 << 20), 1 << 20) / 8,  # exact in 32 bits
    "inet": _inet,
    "int": lambda roll: roll.randrange(-(1 << 31), 1 << 31),
    "map<text, text>": _map,
    "smallint": lambda roll: roll.randrange(-(1 << 15), 1 << 15),
    "text": _text,
    "time": _time,
    "timestamp": _timestamp,
    "tinyint": lambda roll: roll.randrange(-128, 128),
    "uuid": lambda roll: uuid.UUID(int=roll.getrandbits(128), version=4),
    "varint": lambda roll: roll.randrange(-(1 << 70), 1 << 70),
}


@functools.lru_cache(maxsize=2)
def rows_of(name: str, count: int) -> list[tuple[Any, ...]]:
    """Return the first ``count`` rows of a shape. Clear the cache before the clock runs.

    Otherwise the garbage collector would spend time on these rows during a sample.
    """
    shape = SHAPES[name]
    roll = random.Random(name)
    makers = [_MAKERS[cql_type] for cql_type in shape.types]
    rows = []
    for _ in range(count):
        row = [make(roll) for make in makers]
        for index in range(len(row)):
            if index in shape.absent or (shape.nulls and roll.random() < shape.nulls):
                row[index] = None
        rows.append(tuple(row))
    return rows


def row_to_bind(name: str) -> tuple[Any, ...]:
    """Return the row to bind: the first row with a null, if the shape has nulls."""
    rows = rows_of(name, 100)
    return next((row for row in rows if None in row), rows[0])
