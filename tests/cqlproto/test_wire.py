"""The notations of v4 section 3: round trips, limits, and truncated bytes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from cqlproto import wire
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.wire import UNSET, Reader

texts = st.text(max_size=20)
blobs = st.binary(max_size=20)


class Notation(NamedTuple):
    """A notation: its reader, its writer, and its values."""

    read: Callable[[Reader], Any]
    write: Callable[[bytearray, Any], None]
    values: SearchStrategy[Any]


addresses = st.ip_addresses()
NOTATIONS = {
    "byte": Notation(wire.read_byte, wire.write_byte, st.integers(0, 2**8 - 1)),
    "short": Notation(wire.read_short, wire.write_short, st.integers(0, 2**16 - 1)),
    "int": Notation(wire.read_int, wire.write_int, st.integers(-(2**31), 2**31 - 1)),
    "long": Notation(wire.read_long, wire.write_long, st.integers(-(2**63), 2**63 - 1)),
    "string": Notation(wire.read_string, wire.write_string, texts),
    "long string": Notation(wire.read_long_string, wire.write_long_string, texts),
    "uuid": Notation(wire.read_uuid, wire.write_uuid, st.uuids()),
    "string list": Notation(
        wire.read_string_list, wire.write_string_list, st.lists(texts, max_size=4)
    ),
    "bytes": Notation(wire.read_bytes, wire.write_bytes, st.none() | blobs),
    "value": Notation(wire.read_value, wire.write_value, st.none() | st.just(UNSET) | blobs),
    "short bytes": Notation(wire.read_short_bytes, wire.write_short_bytes, blobs),
    "inet": Notation(
        wire.read_inet, wire.write_inet, st.tuples(addresses, st.integers(0, 2**16 - 1))
    ),
    "inetaddr": Notation(wire.read_inetaddr, wire.write_inetaddr, addresses),
    "string map": Notation(
        wire.read_string_map, wire.write_string_map, st.dictionaries(texts, texts, max_size=4)
    ),
    "string multimap": Notation(
        wire.read_string_multimap,
        wire.write_string_multimap,
        st.dictionaries(texts, st.lists(texts, max_size=3), max_size=3),
    ),
    "bytes map": Notation(
        wire.read_bytes_map,
        wire.write_bytes_map,
        st.dictionaries(texts, st.none() | blobs, max_size=4),
    ),
}

notations = pytest.mark.parametrize("notation", NOTATIONS.values(), ids=NOTATIONS)


def written(write: Callable[[bytearray, Any], None], value: object) -> bytes:
    out = bytearray()
    write(out, value)
    return bytes(out)


@notations
@given(data=st.data(), before=st.binary(max_size=3), after=st.binary(max_size=3))
def test_a_value_round_trips(
    notation: Notation, data: st.DataObject, before: bytes, after: bytes
) -> None:
    value = data.draw(notation.values)
    content = written(notation.write, value)
    reader = Reader(before + content + after, len(before))
    assert notation.read(reader) == value
    assert reader.pos == len(before) + len(content)
    assert reader.remaining == len(after)


@notations
@given(data=st.data())
def test_a_value_cut_short_is_a_protocol_error(notation: Notation, data: st.DataObject) -> None:
    content = written(notation.write, data.draw(notation.values))
    for size in range(len(content)):
        with pytest.raises(RemoteProtocolError):
            notation.read(Reader(content[:size]))


@notations
@given(content=st.binary(max_size=40))
def test_random_bytes_are_a_value_or_a_protocol_error(notation: Notation, content: bytes) -> None:
    reader = Reader(content)
    try:
        notation.read(reader)
    except RemoteProtocolError:
        return
    assert 0 < reader.pos <= len(content)


@pytest.mark.parametrize(
    ("write", "value", "content"),
    [
        (wire.write_byte, 255, "ff"),
        (wire.write_short, 258, "0102"),
        (wire.write_int, -2, "fffffffe"),
        (wire.write_long, -2, "fffffffffffffffe"),
        (wire.write_string, "é", "0002c3a9"),
        (wire.write_long_string, "é", "00000002c3a9"),
        (wire.write_bytes, None, "ffffffff"),
        (wire.write_bytes, b"", "00000000"),
        (wire.write_value, None, "ffffffff"),
        (wire.write_value, UNSET, "fffffffe"),
        (wire.write_value, b"\xfe", "00000001fe"),
        (wire.write_short_bytes, b"\xca\xfe", "0002cafe"),
        (wire.write_string_list, ["a", ""], "000200016100" + "00"),
        (wire.write_string_map, {"a": "b"}, "0001" + "000161" + "000162"),
        (wire.write_string_multimap, {"a": ["b"]}, "0001" + "000161" + "0001" + "000162"),
        (wire.write_bytes_map, {"a": None}, "0001" + "000161" + "ffffffff"),
    ],
)
def test_the_bytes_are_those_of_the_specification(
    write: Callable[[bytearray, Any], None], value: object, content: str
) -> None:
    """v4 section 3"""
    assert written(write, value).hex() == content


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (wire.write_byte, -1),
        (wire.write_byte, 256),
        (wire.write_short, -1),
        (wire.write_short, 2**16),
        (wire.write_int, -(2**31) - 1),
        (wire.write_int, 2**31),
        (wire.write_long, -(2**63) - 1),
        (wire.write_long, 2**63),
        (wire.write_string, "x" * 2**16),
        (wire.write_string, "é" * 2**15),
        (wire.write_string, "\ud800"),
        (wire.write_long_string, "\ud800"),
        (wire.write_short_bytes, b"x" * 2**16),
        (wire.write_string_list, [""] * 2**16),
        (wire.write_string_map, {str(key): "" for key in range(2**16)}),
        (wire.write_string_multimap, {str(key): [] for key in range(2**16)}),
        (wire.write_bytes_map, {str(key): None for key in range(2**16)}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_value_that_does_not_fit_is_a_local_error(
    write: Callable[[bytearray, Any], None], value: object
) -> None:
    with pytest.raises(LocalProtocolError):
        written(write, value)


@pytest.mark.parametrize(
    ("write", "value"),
    [
        (wire.write_string, "x" * (2**16 - 1)),
        (wire.write_short_bytes, b"x" * (2**16 - 1)),
        (wire.write_string_list, [""] * (2**16 - 1)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_the_longest_value_fits(write: Callable[[bytearray, Any], None], value: object) -> None:
    assert written(write, value).startswith(b"\xff\xff")


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (wire.read_string, "0001ff"),
        (wire.read_string, "0003eda080"),  # a surrogate
        (wire.read_long_string, "00000001ff"),
        (wire.read_long_string, "ffffffff"),
        (wire.read_value, "fffffffd"),
        (wire.read_value, "80000000"),
        (wire.read_inetaddr, "05" + "00" * 16),
        (wire.read_inetaddr, "00"),
        (wire.read_string_map, "0001" + "0001ff" + "0000"),
    ],
)
def test_malformed_bytes_are_a_protocol_error(read: Callable[[Reader], Any], content: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read(Reader(bytes.fromhex(content)))


def test_any_negative_length_of_bytes_is_null() -> None:
    """[bytes] of v4 section 3: if n < 0, the value is null."""
    for length in ("ffffffff", "fffffffe", "80000000"):
        assert wire.read_bytes(Reader(bytes.fromhex(length))) is None


@pytest.mark.parametrize(
    "read",
    [
        wire.read_string_list,
        wire.read_string_map,
        wire.read_string_multimap,
        wire.read_bytes_map,
    ],
)
def test_a_count_is_checked_before_items_are_read(read: Callable[[Reader], Any]) -> None:
    with pytest.raises(RemoteProtocolError, match="65535 items are announced"):
        read(Reader(b"\xff\xff" + b"\0" * 100))


@given(st.binary(max_size=10), st.integers(-3, 13))
def test_take_gives_what_is_there(data: bytes, count: int) -> None:
    reader = Reader(data)
    if 0 <= count <= len(data):
        assert reader.take(count) == data[:count]
        assert reader.remaining == len(data) - count
    else:
        with pytest.raises(RemoteProtocolError):
            reader.take(count)
        assert reader.pos == 0


@given(st.integers(-3, 20), st.integers(0, 5), st.binary(max_size=20))
def test_check_count_bounds_items_by_the_bytes_left(count: int, size: int, data: bytes) -> None:
    reader = Reader(data)
    if count >= 0 and count * size <= len(data):
        assert reader.check_count(count, size) == count
    else:
        with pytest.raises(RemoteProtocolError):
            reader.check_count(count, size)


def test_expect_end_names_what_was_read() -> None:
    Reader(b"ab", 2).expect_end("x")
    with pytest.raises(RemoteProtocolError, match="2 bytes are left after a Void result"):
        Reader(b"ab").expect_end("a Void result")


def test_unset_is_one_object_and_false() -> None:
    assert repr(UNSET) == "UNSET"
    assert not UNSET
    assert copy.deepcopy(UNSET) is UNSET
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET


def test_what_the_module_exports_exists() -> None:
    for name in wire.__all__:
        assert hasattr(wire, name)
    pairs = {name for name in wire.__all__ if name.startswith(("read_", "write_"))}
    for name in pairs:
        verb, _, notation = name.partition("_")
        other = "write" if verb == "read" else "read"
        assert f"{other}_{notation}" in pairs, f"{name} has no counterpart"
