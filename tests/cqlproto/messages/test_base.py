"""The base of messages: equality, a repr of bounded length, consistencies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import AuthSuccess, Message, Options, SetKeyspace, Supported
from cqlproto.messages._base import (
    Record,
    read_consistency,
    read_known_consistency,
    write_consistency,
)
from cqlproto.wire import Reader


class Point(Record):
    """A record with a secret and an ignored slot."""

    __slots__ = ("cache", "token", "x", "y")
    secret = ("token",)
    ignored = ("cache",)

    def __init__(self, x: int, y: object = None, token: str = "", cache: object = None) -> None:
        self.x = x
        self.y = y
        self.token = token
        self.cache = cache


def test_records_are_equal_as_their_slots_are() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) == Point(1, 2, cache="kept")
    assert Point(1, 2) != Point(1, 3)
    assert Point(1, 2, "a") != Point(1, 2, "b")
    assert Point(1) != 1
    assert SetKeyspace("x") != Options()


def test_a_repr_shows_slots_but_no_secrets() -> None:
    shown = repr(Point(1, "two", "secret", "cached"))
    assert shown == "Point(token=..., x=1, y='two')"
    assert repr(AuthSuccess(b"secret")) == "AuthSuccess(token=...)"


@pytest.mark.parametrize("size", [0, 198, 199, 10_000])
def test_a_repr_shows_so_much_of_a_field_and_no_more(size: int) -> None:
    text = "x" * size
    shown = repr(Supported({})) if size == 0 else repr(Point(1, text))
    assert len(shown) < 300
    assert (repr(text) in shown) == (0 < size < 199)
    assert shown.endswith("...)") == (size > 198)


def test_a_message_must_say_how_it_is_written() -> None:
    class Unsaid(Message):
        __slots__ = ()

    with pytest.raises(NotImplementedError):
        Unsaid().write_body(bytearray(), ProtocolVersion.V4)


@given(st.integers(0, 0xFFFF))
def test_consistencies(code: int) -> None:
    """An unknown level is kept in an ERROR, which only people read."""
    out = bytearray()
    write_consistency(out, code)
    level = read_consistency(Reader(bytes(out)))
    assert level == code
    if code in set(Consistency):
        assert isinstance(level, Consistency)
        assert read_known_consistency(Reader(bytes(out))) is level
    else:
        assert type(level) is int
        with pytest.raises(RemoteProtocolError, match="unknown consistency level"):
            read_known_consistency(Reader(bytes(out)))


@pytest.mark.parametrize("level", Consistency)
def test_every_known_consistency(level: Consistency) -> None:
    out = bytearray()
    write_consistency(out, level)
    assert read_known_consistency(Reader(bytes(out))) is level
    assert read_consistency(Reader(bytes(out))) is level


@pytest.mark.parametrize("code", [len(Consistency), 0xFFFF])
def test_an_unknown_consistency(code: int) -> None:
    assert read_consistency(Reader(code.to_bytes(2, "big"))) == code
    with pytest.raises(RemoteProtocolError):
        read_known_consistency(Reader(code.to_bytes(2, "big")))
    with pytest.raises(LocalProtocolError):
        write_consistency(bytearray(), -1)
