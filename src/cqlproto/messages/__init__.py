"""The messages of the protocol, and one table that finds the reader of each.

A frame's body is a prefix, which its flags announce, and a message. :func:`read_prefix` and
:func:`read_response` read what a server sends, :func:`read_request_prefix` and :func:`read_request`
what a client sends. Either a message comes out, or
:class:`~cqlproto.exceptions.RemoteProtocolError`.

Bytes behind a response are passed over, to make room for what later servers may add (v4 section
4.2); an ERROR keeps them, in ``extra``. Behind a request they are an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, cast

from cqlproto.enums import (
    FLAG_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    Opcode,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages._base import Message
from cqlproto.messages.errors import Error
from cqlproto.messages.events import Event, ServerEvent, StatusChange, TopologyChange, UnknownEvent
from cqlproto.messages.metadata import BindMetadata, Column, ResultMetadata
from cqlproto.messages.requests import (
    AuthResponse,
    Batch,
    BatchStatement,
    Execute,
    Options,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Startup,
    Value,
    pack_parameters_around,
    read_parameters,
    write_parameters,
)
from cqlproto.messages.responses import (
    READY,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    Ready,
    Supported,
)
from cqlproto.messages.results import (
    VOID,
    Prepared,
    Result,
    Rows,
    SchemaChange,
    SetKeyspace,
    Void,
    read_result,
)
from cqlproto.wire import (
    Reader,
    read_bytes_map,
    read_string_list,
    read_uuid,
    write_bytes_map,
    write_string_list,
    write_uuid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from cqlproto.enums import ProtocolVersion

__all__ = [
    "READY",
    "VOID",
    "AuthChallenge",
    "AuthResponse",
    "AuthSuccess",
    "Authenticate",
    "Batch",
    "BatchStatement",
    "BindMetadata",
    "Column",
    "Error",
    "Event",
    "Execute",
    "Message",
    "Options",
    "Prepare",
    "Prepared",
    "Query",
    "QueryParameters",
    "Ready",
    "Register",
    "Request",
    "Response",
    "Result",
    "ResultMetadata",
    "Rows",
    "SchemaChange",
    "ServerEvent",
    "SetKeyspace",
    "Startup",
    "StatusChange",
    "Supported",
    "TopologyChange",
    "UnknownEvent",
    "Value",
    "Void",
    "pack_parameters_around",
    "read_parameters",
    "read_prefix",
    "read_request",
    "read_request_prefix",
    "read_response",
    "read_result",
    "write_parameters",
    "write_prefix",
    "write_request_prefix",
]

Request: TypeAlias = Startup | Options | Query | Prepare | Execute | Batch | Register | AuthResponse
Response: TypeAlias = (
    Ready | Authenticate | Supported | AuthChallenge | AuthSuccess | Error | Event | Result
)

_REQUEST = False
_RESPONSE = True
_RESULT = Opcode.RESULT.value


# Every message by opcode and direction, but RESULT, for which read_response has a shorter way;
# nothing else decides what may be read.
_READERS: dict[tuple[int, bool], Callable[[Reader, ProtocolVersion], Request | Response]] = {
    (Opcode.STARTUP, _REQUEST): Startup.read_body,
    (Opcode.OPTIONS, _REQUEST): Options.read_body,
    (Opcode.QUERY, _REQUEST): Query.read_body,
    (Opcode.PREPARE, _REQUEST): Prepare.read_body,
    (Opcode.EXECUTE, _REQUEST): Execute.read_body,
    (Opcode.BATCH, _REQUEST): Batch.read_body,
    (Opcode.REGISTER, _REQUEST): Register.read_body,
    (Opcode.AUTH_RESPONSE, _REQUEST): AuthResponse.read_body,
    (Opcode.ERROR, _RESPONSE): Error.read_body,
    (Opcode.READY, _RESPONSE): Ready.read_body,
    (Opcode.AUTHENTICATE, _RESPONSE): Authenticate.read_body,
    (Opcode.SUPPORTED, _RESPONSE): Supported.read_body,
    (Opcode.EVENT, _RESPONSE): Event.read_body,
    (Opcode.AUTH_CHALLENGE, _RESPONSE): AuthChallenge.read_body,
    (Opcode.AUTH_SUCCESS, _RESPONSE): AuthSuccess.read_body,
}
_OPCODES = frozenset(Opcode)


def _read(
    opcode: int, direction: bool, body: bytes, pos: int, version: ProtocolVersion
) -> Request | Response:
    read = _READERS.get((opcode, direction))
    if read is None:
        if opcode in _OPCODES:
            side = "response" if direction is _RESPONSE else "request"
            raise RemoteProtocolError(f"{Opcode(opcode).name} is no {side}")
        raise RemoteProtocolError(f"unknown opcode {opcode:#04x}")
    reader = Reader(body, pos)
    message = read(reader, version)
    if direction is _REQUEST:
        reader.expect_end(type(message).__name__)
    return message


def read_request(opcode: int, body: bytes, pos: int, version: ProtocolVersion) -> Request:
    """Read what a client says (v4 section 4.1).

    Arguments:
        opcode: of the frame.
        body: of the frame, decompressed.
        pos: where the message begins, after the prefix, in bytes.
        version: of the frame.

    Raises:
        RemoteProtocolError: an unknown opcode, that of a response, or a malformed body.
    """
    return cast("Request", _read(opcode, _REQUEST, body, pos, version))


def read_response(
    opcode: int,
    body: bytes,
    pos: int,
    version: ProtocolVersion,
    known: ResultMetadata | None = None,
) -> Response:
    """Read what a server says (v4 section 4.2).

    Arguments:
        opcode: of the frame.
        body: of the frame, decompressed; a :class:`Rows` keeps it, so it is immutable.
        pos: where the message begins, after the prefix, in bytes.
        version: of the frame.
        known: the result metadata that the request was sent with; see :func:`read_result`.

    Raises:
        RemoteProtocolError: an unknown opcode, that of a request, or a malformed body.
    """
    if opcode == _RESULT:
        return read_result(body, pos, version, known)
    return cast("Response", _read(opcode, _RESPONSE, body, pos, version))


_NO_PREFIX: tuple[None, tuple[()], None, int] = (None, (), None, 0)


def read_prefix(
    body: bytes, flags: int, version: ProtocolVersion
) -> tuple[UUID | None, Sequence[str], Mapping[str, bytes | None] | None, int]:
    """Read what stands before a response (v4 section 2.2).

    Arguments:
        body: of the frame, decompressed.
        flags: of the frame's header.
        version: of the frame.

    Returns:
        The tracing id, the warnings, the custom payload, and where the message begins, in bytes.

    Raises:
        RemoteProtocolError: a malformed prefix, or flags that the version does not define.
    """
    if not flags & (FLAG_TRACING | FLAG_WARNING | FLAG_PAYLOAD):
        return _NO_PREFIX
    if flags & (FLAG_WARNING | FLAG_PAYLOAD) and not version.has_warnings:
        raise RemoteProtocolError("warnings or a custom payload before v4")
    reader = Reader(body)
    tracing_id = read_uuid(reader) if flags & FLAG_TRACING else None
    warnings = read_string_list(reader) if flags & FLAG_WARNING else ()
    payload = read_bytes_map(reader) if flags & FLAG_PAYLOAD else None
    return tracing_id, warnings, payload, reader.pos


def write_prefix(
    out: bytearray,
    version: ProtocolVersion,
    tracing_id: UUID | None = None,
    warnings: Sequence[str] = (),
    payload: Mapping[str, bytes | None] | None = None,
) -> int:
    """Append what stands before a response, and return the header flags that announce it.

    Raises:
        LocalProtocolError: warnings or a payload on v3.
    """
    flags = 0
    if tracing_id is not None:
        write_uuid(out, tracing_id)
        flags = FLAG_TRACING
    if warnings:
        if not version.has_warnings:
            raise LocalProtocolError("warnings need v4")
        write_string_list(out, warnings)
        flags |= FLAG_WARNING
    return flags | write_request_prefix(out, version, payload)


def read_request_prefix(
    body: bytes, flags: int, version: ProtocolVersion
) -> tuple[Mapping[str, bytes | None] | None, int]:
    """Read what stands before a request: its custom payload (v4 section 2.2).

    Returns:
        The payload, and where the message begins, in bytes. A request that asks for tracing carries
        no id.

    Raises:
        RemoteProtocolError: a malformed payload, or one before v4.
    """
    if not flags & FLAG_PAYLOAD:
        return None, 0
    if not version.has_warnings:
        raise RemoteProtocolError("a custom payload before v4")
    reader = Reader(body)
    return read_bytes_map(reader), reader.pos


def write_request_prefix(
    out: bytearray, version: ProtocolVersion, payload: Mapping[str, bytes | None] | None
) -> int:
    """Append a request's custom payload, and return the header flag that announces it.

    Raises:
        LocalProtocolError: a payload on v3.
    """
    if payload is None:
        return 0
    if not version.has_warnings:
        raise LocalProtocolError("a custom payload needs v4")
    write_bytes_map(out, payload)
    return FLAG_PAYLOAD
