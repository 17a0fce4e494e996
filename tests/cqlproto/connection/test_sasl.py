"""Authenticators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cqlproto import ClientConnection, HandshakeCompleted, HandshakeFailed, PlainAuthenticator
from cqlproto.messages import AuthResponse
from cqlproto.testing import LinkedPair
from tests.support.core_connections import (
    V4,
)

if TYPE_CHECKING:
    from cqlproto.connection import Authenticator

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def test_the_plain_authenticator() -> None:
    """RFC 4616, without an authorization identity"""
    plain = PlainAuthenticator("Jörg", "secret\N{SNOWMAN}")
    token = b"\0J\xc3\xb6rg\0secret\xe2\x98\x83"
    assert plain.initial_response("anything") == plain.evaluate_challenge(None) == token
    assert repr(plain) == "PlainAuthenticator('Jörg', ...)"


@given(names, names)
def test_the_server_can_tell_name_and_password_apart(name: str, password: str) -> None:
    plain: Authenticator = PlainAuthenticator(name, password)
    token = plain.initial_response("org.apache.cassandra.auth.PasswordAuthenticator")
    assert token is not None
    assert [part.decode() for part in token.split(b"\0")] == ["", name, password]
    assert plain.evaluate_challenge(b"?") == token


def test_a_password_is_shown_nowhere() -> None:
    plain = PlainAuthenticator("me", "secret")
    assert "secret" not in repr(plain)
    assert "secret" not in repr(AuthResponse(plain.initial_response("")))


def test_it_is_what_a_handshake_asks() -> None:
    for password, kind in (("right", HandshakeCompleted), ("wrong", HandshakeFailed)):
        client = ClientConnection(version=V4, authenticator=PlainAuthenticator("me", password))
        event = LinkedPair(client).handshake(verify=b"\0me\0right".__eq__)
        assert isinstance(event, kind)
