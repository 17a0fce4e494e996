"""Text, ascii and blob: accepted and refused values, and cells."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from cqlproto.cqltypes import (
    UNSET,
)
from cqlproto.exceptions import ValueConversionError
from tests.cqlproto.cqltypes.cells import (
    cases,
    check_cause_is_kept,
    check_malformed,
    check_read_as_written,
    check_refused,
    check_taken_as,
    encode,
)


class OddBytes(bytes):
    def __bytes__(self) -> bytes:
        raise ZeroDivisionError("odd")


# The least and the greatest of each, and what is odd about it.
CELLS: dict[str, list[Any]] = {
    "ascii": ["", "az"],
    "blob": [b"", b"\xff"],
    "text": ["", "Größe"],
}
WRONG: dict[str, list[Any]] = {
    "ascii": [b"a", 1, "é", "\ud800", None],
    "blob": ["a", 1, [1], None],
    "text": [b"a", 1, "\ud800", "a\udfff", None, UNSET],
}
ODD: dict[str, list[Any]] = {
    "blob": [OddBytes(b"x")],
}
BROKEN: dict[str, list[bytes]] = {
    "ascii": [b"\x80"],
    "text": [b"\xff", b"a\xed\xa0\x80", b"\xc3"],
}


def test_every_type_was_tried() -> None:
    assert CELLS.keys() == WRONG.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_read_as_it_was_written(name: str) -> None:
    check_read_as_written(name, CELLS[name])


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_what_a_type_does_not_take(name: str, value: object) -> None:
    check_refused(name, value)


@pytest.mark.parametrize(("name", "cell"), cases(BROKEN))
def test_a_malformed_cell_names_its_type(name: str, cell: bytes) -> None:
    check_malformed(name, cell)


@pytest.mark.parametrize("name", ODD)
def test_what_the_methods_of_a_value_raise_is_the_cause(name: str) -> None:
    check_cause_is_kept(name, ODD[name])


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("ascii", "plain", "plain"),
        ("blob", bytearray(b"\x00\xff"), b"\x00\xff"),
        ("blob", memoryview(b"abcdef")[::2], b"ace"),
    ],
)
def test_what_a_type_takes_besides(name: str, value: object, same: object) -> None:
    check_taken_as(name, value, same)


def test_a_released_memoryview_is_refused() -> None:
    released = memoryview(b"x")
    released.release()
    with pytest.raises(ValueConversionError, match="blob: .*own methods raise ValueError"):
        encode("blob", released)


class Word(enum.StrEnum):
    A = "a"

    def __str__(self) -> str:
        return "not a"


def test_a_subclass_of_str_is_its_text() -> None:
    assert encode("text", Word.A) == b"a"
