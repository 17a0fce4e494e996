"""Codecs of payloads."""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.patterns._codec import BYTES, JSON, Codec, msgspec_codec
from cqlproto_anyio.patterns._errors import CorruptPayload, InvalidInput

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_json(value: Any) -> None:
    payload = JSON.dump("value", value)
    assert type(payload) is bytes
    assert JSON.load("it", payload) == value


@dataclasses.dataclass
class Point:
    x: int
    y: int


def test_json_writes_dataclasses() -> None:
    assert JSON.load("it", JSON.dump("value", [Point(1, 2)])) == [{"x": 1, "y": 2}]


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, {1, 2}, uuid4(), b"x", object(), Point, "\ud800", endless()]
)
def test_what_json_has_no_form_for_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="data must be a value that the codec can encode"):
        JSON.dump("data", value)


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b'{"a": }'])
def test_what_is_no_json_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptPayload, match=r"event 7 can't be decoded") as info:
        JSON.load("event 7", payload)
    assert info.value.where == "event 7"


def test_nothing_is_evaluated() -> None:
    """A pickle of a hostile object is only wrong JSON."""
    hostile = b"cos\nsystem\n(S'echo'\ntR."
    with pytest.raises(CorruptPayload):
        JSON.load("it", hostile)


def test_payloads_are_bounded() -> None:
    assert JSON.dump("data", "x" * 8, most=10)
    with pytest.raises(InvalidInput, match="data must be at most 10 bytes when encoded, it has 11"):
        JSON.dump("data", "x" * 9, most=10)


def test_bytes() -> None:
    assert BYTES.load("it", BYTES.dump("data", bytearray(b"\x00\xff"))) == b"\x00\xff"
    with pytest.raises(InvalidInput, match="bytes are required, got a str"):
        BYTES.dump("data", "text")


class Order(msgspec.Struct):
    total: int
    lines: dict[str, int]


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_msgspec(format: str) -> None:
    codec = msgspec_codec(Order, format=format)
    order = Order(5, {"a": 1})
    assert codec.load("it", codec.dump("data", order)) == order
    with pytest.raises(CorruptPayload):
        codec.load("it", b"\xc1")
    with pytest.raises(InvalidInput, match="format must be"):
        msgspec_codec(format="pickle")


def test_a_codec_of_the_users() -> None:
    def broken(value: Any) -> bytes:
        raise LookupError("no")

    with pytest.raises(InvalidInput, match=r"can encode \('no'\)|can encode \(no\)"):
        Codec(broken, bytes).dump("data", 1)
    with pytest.raises(CorruptPayload):
        Codec(broken, broken).load("it", b"")
    wrong: Any = str
    with pytest.raises(InvalidInput, match="codec.encode must be a function that returns bytes"):
        Codec(wrong, bytes).dump("data", 1)
