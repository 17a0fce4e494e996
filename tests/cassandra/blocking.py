"""A small blocking client of v3 and v4, for the launcher.

A node that accepts TCP may not serve CQL yet, and a node that serves CQL may not have its first
role yet. So the launcher connects and logs in to find out whether a node is up. Tests also prepare
keyspaces with this client: with the library under test, faults of the library would look like
faults of the server.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

_HEADER = struct.Struct(">BBhBi")
_ERROR, _STARTUP, _READY, _AUTHENTICATE, _QUERY, _RESULT = 0x00, 0x01, 0x02, 0x03, 0x07, 0x08
_AUTH_RESPONSE, _AUTH_SUCCESS = 0x0F, 0x10
_CONSISTENCY_ONE = 0x0001


class ErrorReply(Exception):
    """The server answered ERROR: its code (v4 section 9) and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"0x{code:04x} {text}")
        self.code = code


class BlockingConnection:
    """One connection, started up and logged in.

    Args:
        host: An address.
        port: The CQL port.
        tls: Encrypts with this context; None for plain TCP.
        login: User name and password, for a server that asks for them.
        timeout: Seconds that one read or write may take.
        version: Of the protocol, 3 or 4.

    Raises:
        OSError: The connection cannot be made or breaks.
        ErrorReply: The server refuses.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        timeout: float = 30.0,
        version: int = 4,
    ) -> None:
        self._version = version
        self._socket = socket.create_connection((host, port), timeout=timeout)
        try:
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            options = struct.pack(">H", 1) + _string("CQL_VERSION") + _string("3.0.0")
            opcode, _ = self._request(_STARTUP, options)
            if opcode == _AUTHENTICATE:
                user, password = login or ("", "")
                token = f"\0{user}\0{password}".encode()
                opcode, _ = self._request(_AUTH_RESPONSE, struct.pack(">i", len(token)) + token)
            if opcode not in (_READY, _AUTH_SUCCESS):
                raise ConnectionError(f"{host}:{port} answered STARTUP with opcode {opcode}")
        except BaseException:
            self._socket.close()
            raise

    def query(self, text: str) -> None:
        """Run a statement without parameters at consistency ONE, without decoding the result."""
        body = text.encode()
        parameters = struct.pack(">HB", _CONSISTENCY_ONE, 0)
        opcode, _ = self._request(_QUERY, struct.pack(">i", len(body)) + body + parameters)
        if opcode != _RESULT:
            raise ConnectionError(f"QUERY was answered with opcode {opcode}")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _request(self, opcode: int, body: bytes) -> tuple[int, bytes]:
        self._socket.sendall(_HEADER.pack(self._version, 0, 0, opcode, len(body)) + body)
        _, _, _, reply, length = _HEADER.unpack(self._read(_HEADER.size))
        payload = self._read(length)
        if reply == _ERROR:
            code, size = struct.unpack_from(">iH", payload)
            raise ErrorReply(code, payload[6 : 6 + size].decode(errors="replace"))
        return reply, payload

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the server closed the connection")
            data += chunk
        return bytes(data)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data
