"""The responses of the handshake (v4 sections 4.2.2 to 4.2.4, 4.2.7, 4.2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import Opcode
from cqlproto.messages._base import Message
from cqlproto.wire import (
    read_bytes,
    read_string,
    read_string_multimap,
    write_bytes,
    write_string,
    write_string_multimap,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import Reader

__all__ = [
    "READY",
    "AuthChallenge",
    "AuthSuccess",
    "Authenticate",
    "Ready",
    "Supported",
]


class Ready(Message):
    """READY: the connection is ready, or events are registered (v4 section 4.2.2).

    Use the instance :data:`READY`; reading returns it too.
    """

    __slots__ = ()
    opcode = Opcode.READY.value

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        pass

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Ready:
        return READY


READY = Ready()


class Authenticate(Message):
    """AUTHENTICATE: the server requests authentication (v4 section 4.2.3).

    Arguments:
        authenticator: the name of its Java class, which determines the format of tokens.
    """

    __slots__ = ("authenticator",)
    opcode = Opcode.AUTHENTICATE.value

    def __init__(self, authenticator: str) -> None:
        self.authenticator = authenticator

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_string(out, self.authenticator)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_string(reader))


class Supported(Message):
    """SUPPORTED: the options that STARTUP may contain (v4 section 4.2.4).

    Arguments:
        options: the values of each option, unknown options included.
    """

    __slots__ = ("options",)
    opcode = Opcode.SUPPORTED.value

    def __init__(self, options: Mapping[str, Sequence[str]]) -> None:
        self.options = options

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_string_multimap(out, self.options)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_string_multimap(reader))


class AuthChallenge(Message):
    """AUTH_CHALLENGE: the server requests another AUTH_RESPONSE (v4 section 4.2.7).

    Arguments:
        token: the token of the authenticator; repr does not show it.
    """

    __slots__ = ("token",)
    secret = ("token",)
    opcode = Opcode.AUTH_CHALLENGE.value

    def __init__(self, token: bytes | None) -> None:
        self.token = token

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_bytes(out, self.token)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_bytes(reader))


class AuthSuccess(Message):
    """AUTH_SUCCESS: the server accepts the credentials (v4 section 4.2.8).

    Arguments:
        token: the token of the authenticator; repr does not show it.
    """

    __slots__ = ("token",)
    secret = ("token",)
    opcode = Opcode.AUTH_SUCCESS.value

    def __init__(self, token: bytes | None) -> None:
        self.token = token

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_bytes(out, self.token)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_bytes(reader))
