"""Kinds, and the lines that make a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from cqlproto.cqltypes import CustomType, VectorType, encoder, parse_type
from cqlproto.cqltypes.constructors import uuid_of
from cqlproto.rows.decoding import shapes
from cqlproto.rows.decoding.shapes import (
    FORMATS,
    finished,
    is_fixed,
    kind_of,
    read_names,
    targets,
    width_of,
    wrapped,
)

if TYPE_CHECKING:
    from cqlproto.cqltypes import CQLType

LETTERS = {
    "ascii": "A",
    "bigint": "q",
    "blob": "B",
    "boolean": "?",
    "counter": "q",
    "date": "D",
    "decimal": ".",
    "double": "d",
    "duration": ".",
    "float": "f",
    "inet": ".",
    "int": "i",
    "smallint": "h",
    "text": "T",
    "time": "W",
    "timestamp": "M",
    "timeuuid": "U",
    "tinyint": "b",
    "uuid": "U",
    "varint": ".",
    "list<int>": ".",
    "tuple<int>": ".",
}


@pytest.mark.parametrize(("name", "letter"), LETTERS.items())
def test_every_type_has_a_letter(name: str, letter: str) -> None:
    assert kind_of(parse_type(name)) == letter


@pytest.mark.parametrize("cql_type", [CustomType("int"), VectorType(parse_type("int"), 2)])
def test_what_is_called_like_a_type_is_none(cql_type: CQLType) -> None:
    assert kind_of(cql_type) == "."


@pytest.mark.parametrize(
    ("name", "value"),
    [("int", 1), ("uuid", UUID(int=1)), ("boolean", True), ("double", 0.5), ("time", 1000)]
    + [("timestamp", 0), ("date", "2024-02-29"), ("tinyint", 1), ("float", 1), ("smallint", 2)],
)
def test_kinds_of_fixed_size_have_that_of_their_cells(name: str, value: Any) -> None:
    cql_type = parse_type(name)
    kind = kind_of(cql_type)
    assert is_fixed(kind)
    assert width_of(kind) == len(encoder(cql_type)(value))


def test_null_is_a_kind_of_no_bytes() -> None:
    assert is_fixed("N")
    assert width_of("N") == -1
    assert FORMATS["N"] == ""
    assert read_names("N", "v0") == []


def test_a_timestamp_is_read_in_parts() -> None:
    assert read_names("M", "v3") == ["v3", "v3b", "v3c", "v3d", "v3e"]
    assert read_names("q", "v3") == ["v3"]


def test_how_a_value_is_finished() -> None:
    assert finished("q", 2, "v2") == ""
    assert finished("q", 2, "h2") == "v2 = h2\n"
    assert finished("T", 2, "v2") == "v2 = v2.decode()\n"
    assert finished(".", 2, "body[p : p + n2]") == "v2 = cell2(body[p : p + n2])\n"
    assert "BlankUUID()" in finished("U", 2, "h2")


def test_without_the_short_way_to_a_uuid_it_is_called_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "BLANK_UUID", None)
    lines = finished("U", 0, "h0")
    space: dict[str, Any] = {"h0": bytes(range(16)), "uuid_of": uuid_of}
    exec(lines, space)
    assert space["v0"] == UUID(bytes=bytes(range(16)))


def test_names_to_unpack_to() -> None:
    assert [targets([]), targets(["a"]), targets(["a", "b"])] == ["()", "(a,)", "a, b"]
    many = [f"v{n}" for n in range(100)]
    space: dict[str, Any] = {"values": range(100)}
    exec(f"{targets(many)} = values", space)
    assert [space[name] for name in many] == list(range(100))
    assert max(map(len, targets(many).splitlines())) <= 72


def test_long_expressions_are_wrapped() -> None:
    assert wrapped("a and b") == "a and b"
    long = " and ".join(["True"] * 100)
    assert "\n" in wrapped(long)
    assert eval(wrapped(long)) is True
