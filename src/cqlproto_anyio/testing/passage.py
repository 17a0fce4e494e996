"""A frame that passes through the proxy, as rules and answers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cqlproto.enums import Opcode, ProtocolVersion
from cqlproto.messages import read_prefix, read_request, read_request_prefix, read_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Request, Response

__all__ = ["Passage", "Side", "named"]

Side = Literal["request", "reply"]


class Passage:
    """A frame that passes through the proxy. Rules decide by its attributes.

    Attributes:
        connection: the number of the connection, counted from 1.
        side: ``"request"`` or ``"reply"``.
        version: the protocol's version.
        opcode: the opcode of the frame.
        request: the opcode of the request, or of the request that a reply answers. None for an
            event, and for a reply without a request.
        stream: the stream id.
        statements: the texts of the request's statements, as far as they are known: a BATCH has
            several; the text of a prepared statement is known if it was prepared through the proxy.
        statement_ids: the ids of the request's prepared statements.
        flags: the flags of the frame header.
    """

    __slots__ = (
        "_read_body",
        "connection",
        "flags",
        "opcode",
        "request",
        "side",
        "statement_ids",
        "statements",
        "stream",
        "version",
    )

    def __init__(
        self,
        *,
        connection: int,
        side: Side,
        version: int,
        opcode: int,
        request: int | None,
        stream: int,
        read_body: Callable[[], bytes],
        flags: int = 0,
        statements: tuple[str, ...] = (),
        statement_ids: tuple[bytes, ...] = (),
    ) -> None:
        self.connection = connection
        self.side = side
        self.version = version
        self.opcode = opcode
        self.request = request
        self.stream = stream
        self.flags = flags
        self._read_body = read_body
        self.statements = statements
        self.statement_ids = statement_ids

    @property
    def body(self) -> bytes:
        """The body of the frame; each access decompresses it.

        Raises:
            RemoteProtocolError: the body is malformed.
        """
        return self._read_body()

    @property
    def message(self) -> Request | Response:
        """The message of the frame; each access decodes it.

        Raises:
            RemoteProtocolError: the message is malformed.
            ValueError: the protocol version is unknown.
        """
        version, body = ProtocolVersion(self.version), self.body
        if self.side == "request":
            start = read_request_prefix(body, self.flags, version)[1]
            return read_request(self.opcode, body, start, version)
        start = read_prefix(body, self.flags, version)[3]
        return read_response(self.opcode, body, start, version)

    def __repr__(self) -> str:
        shown = f"{named(self.opcode)} on stream {self.stream} of connection {self.connection}"
        if self.side == "reply" and self.request is not None:
            shown = f"{shown}, to {named(self.request)}"
        if self.statements:
            shown += f", {self.statements[0]!r}"
            if len(self.statements) > 1:
                shown += f" and {len(self.statements) - 1} more"
        return f"<{shown}>"


def named(opcode: int) -> str:
    """Return the name of an opcode, or its number if it is unknown."""
    return Opcode(opcode).name if opcode in Opcode.__members__.values() else f"{opcode:#04x}"
