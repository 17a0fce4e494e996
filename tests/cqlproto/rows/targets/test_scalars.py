"""Rows that are the value of their only column."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from cqlproto import RowMappingError
from cqlproto.cqltypes import (
    EMPTY,
    CustomType,
    Date,
    Duration,
    FrozenMap,
    LosslessSet,
    Time,
    Timestamp,
    parse_type,
)
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import decode_rows
from cqlproto.rows.targets.scalars import is_single, is_single_target, single_maker


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Enum):
    ON = True


class Name(str):
    __slots__ = ()


class Money(int):
    def __new__(cls, amount: int, cents: int = 0) -> Money:
        return super().__new__(cls, 100 * amount + cents)


class Pair(NamedTuple):
    a: int
    b: int


def columns(*types: str) -> tuple[Column, ...]:
    return tuple(Column("k", "t", f"c{n}", parse_type(each)) for n, each in enumerate(types))


def made(target: Any, cql_type: str, value: Any) -> Any:
    return single_maker(columns(cql_type), target)((value,))


@pytest.mark.parametrize(
    ("target", "types"),
    [
        (str, ("ascii", "text")),
        (int, ("tinyint", "smallint", "int", "bigint", "counter", "varint")),
        (float, ("float", "double")),
        (bool, ("boolean",)),
        (bytes, ("blob",)),
        (Decimal, ("decimal",)),
        (Duration, ("duration",)),
        (UUID, ("uuid", "timeuuid")),
        (date, ("date",)),
        (Date, ("date",)),
        (time, ("time",)),
        (Time, ("time",)),
        (datetime, ("timestamp",)),
        (Timestamp, ("timestamp",)),
        (IPv4Address, ("inet",)),
    ],
)
def test_the_value_of_the_only_column(target: type, types: tuple[str, ...]) -> None:
    something = object()
    for cql_type in types:
        assert made(target, cql_type, something) is something
        assert made(target, cql_type, None) is None


def test_rows_of_one_column() -> None:
    content = b"\0\0\0\4\0\0\0\7" + b"\xff\xff\xff\xff"
    rows = Rows.of(ResultMetadata(columns("int"), b"", True), 2, content)
    assert decode_rows(rows, int) == [7, None]


def test_classes_that_derive_from_those() -> None:
    assert made(Color, "text", "red") is Color.RED
    assert made(Level, "int", 1) is Level.LOW
    assert made(Mode, "boolean", True) is Mode.ON
    assert made(Mode, "boolean", None) is None
    name = made(Name, "text", "Ann")
    assert (type(name), name) == (Name, "Ann")
    assert made(Money, "int", 3) == 300
    assert is_single_target(Money, columns("int"))
    assert not is_single_target(Money, columns("int", "int"))
    assert is_single_target(int, columns("int", "int"))
    assert not is_single_target(Pair, columns("int"))


def test_an_enumeration_that_has_no_such_value() -> None:
    content = b"\0\0\0\4blue"
    rows = Rows.of(ResultMetadata(columns("text"), b"", True), 1, content)
    with pytest.raises(RowMappingError, match="row=Color: column 'c0' of row 0: .*'blue' is not"):
        decode_rows(rows, Color)


@pytest.mark.parametrize(
    ("target", "types", "text"),
    [
        (int, ("int", "int"), "^the row must have one column, got 2: c0, c1"),
        (int, (), r"got 0: \(none\)"),
        (int, ("text",), "^its type is text, whose values are str"),
        (str, ("int",), "is int, whose values are int"),
        (date, ("timestamp",), "whose values are datetime or Timestamp"),
        (datetime, ("date",), "whose values are date or Date"),
        (bool, ("int",), "whose values are int"),
        (int, ("boolean",), "whose values are bool"),
        (timedelta, ("duration",), "whose values are Duration"),
        (str, ("list<text>",), "whose values are list"),
        (str, ("set<text>",), "whose values are set"),
        (str, ("vector<float, 3>",), "whose values are list"),
        (str, ("map<text, int>",), "whose values are another class"),
        (Name, ("int",), "^its type is int"),
    ],
)
def test_what_does_not_fit(target: type, types: tuple[str, ...], text: str) -> None:
    with pytest.raises(RowMappingError, match=text):
        single_maker(columns(*types), target)


def test_a_custom_type_is_bytes() -> None:
    assert single_maker([Column("k", "t", "c", CustomType("a.B"))], bytes)((b"x",)) == b"x"


@pytest.mark.parametrize(
    "row",
    [1, "a", None, EMPTY, [1], {1}, frozenset(), FrozenMap({}), LosslessSet([]), Color.RED],
)
def test_what_is_a_value(row: object) -> None:
    assert is_single(row)


@pytest.mark.parametrize("row", [(1,), {}, Pair(1, 2), object()])
def test_what_is_no_value(row: object) -> None:
    assert not is_single(row)
