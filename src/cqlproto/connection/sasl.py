"""The client's side of authentication (v4 section 4.1.2)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Authenticator", "PlainAuthenticator"]


class Authenticator(Protocol):
    """The client's side of a SASL exchange (v4 section 4.1.2); one per connection.

    If a method raises, :meth:`ClientConnection.next_event` raises the same exception and the
    handshake has failed.
    """

    def initial_response(self, mechanism: str) -> bytes | None:
        """Return the first token, given the class name in AUTHENTICATE; None for a null token."""
        ...

    def evaluate_challenge(self, challenge: bytes | None) -> bytes | None:
        """Return the answer to the token in AUTH_CHALLENGE; None for a null token."""
        ...


class PlainAuthenticator:
    """SASL PLAIN: a user name and a password, for Cassandra's PasswordAuthenticator."""

    __slots__ = ("_password", "_username")

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password

    def __repr__(self) -> str:
        return f"PlainAuthenticator({self._username!r}, ...)"

    def initial_response(self, mechanism: str) -> bytes:
        """Return the token of RFC 4616, whatever the mechanism is called."""
        return f"\0{self._username}\0{self._password}".encode()

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        """Return the same token, as other drivers do: PLAIN has no challenge."""
        return self.initial_response("")
