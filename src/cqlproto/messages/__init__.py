"""The messages of the protocol, and the table of their readers.

The body of a frame is a prefix, which the flags announce, and a message. :func:`read_prefix` and
:func:`read_response` read the body of a response, :func:`read_request_prefix` and
:func:`read_request` that of a request. They return a message or raise
:class:`~cqlproto.exceptions.RemoteProtocolError`.

Bytes after a response are ignored, since later servers may add fields (v4 section 4.2); an ERROR
keeps them in ``extra``. Bytes after a request are an error.
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


# The reader of every message by opcode and direction, except for RESULT: read_response handles it.
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
            raise RemoteProtocolError(f"opcode must be that of a {side}, got {Opcode(opcode).name}")
        raise RemoteProtocolError(f"unknown opcode {opcode:#04x}")
    reader = Reader(body, pos)
    message = read(reader, version)
    if direction is _REQUEST:
        reader.expect_end(type(message).__name__)
    return message


def read_request(opcode: int, body: bytes, pos: int, version: ProtocolVersion) -> Request:
    """Read a request (v4 section 4.1).

    Arguments:
        opcode: the opcode of the frame.
        body: the body of the frame, decompressed.
        pos: the offset of the message, after the prefix.
        version: the version of the frame.

    Raises:
        RemoteProtocolError: the opcode is unknown or that of a response, or the body is malformed.
    """
    return cast("Request", _read(opcode, _REQUEST, body, pos, version))


def read_response(
    opcode: int,
    body: bytes,
    pos: int,
    version: ProtocolVersion,
    known: ResultMetadata | None = None,
) -> Response:
    """Read a response (v4 section 4.2).

    Arguments:
        opcode: the opcode of the frame.
        body: the body of the frame, decompressed; a :class:`Rows` keeps a reference to it.
        pos: the offset of the message, after the prefix.
        version: the version of the frame.
        known: the result metadata that the request was sent with; see :func:`read_result`.

    Raises:
        RemoteProtocolError: the opcode is unknown or that of a request, or the body is malformed.
    """
    if opcode == _RESULT:
        return read_result(body, pos, version, known)
    return cast("Response", _read(opcode, _RESPONSE, body, pos, version))


_NO_PREFIX: tuple[None, tuple[()], None, int] = (None, (), None, 0)


def read_prefix(
    body: bytes, flags: int, version: ProtocolVersion
) -> tuple[UUID | None, Sequence[str], Mapping[str, bytes | None] | None, int]:
    """Read the prefix of a response (v4 section 2.2).

    Arguments:
        body: the body of the frame, decompressed.
        flags: the flags of the header.
        version: the version of the frame.

    Returns:
        The tracing id, the warnings, the custom payload, and the offset of the message.

    Raises:
        RemoteProtocolError: the prefix is malformed, or the version does not define the flags.
    """
    if not flags & (FLAG_TRACING | FLAG_WARNING | FLAG_PAYLOAD):
        return _NO_PREFIX
    if flags & (FLAG_WARNING | FLAG_PAYLOAD) and not version.has_warnings:
        raise RemoteProtocolError("warnings and custom payloads need v4")
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
    """Append the prefix of a response, and return the header flags that announce it.

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
    """Read the prefix of a request, its custom payload (v4 section 2.2).

    Returns:
        The payload, and the offset of the message. A request with the tracing flag has no id.

    Raises:
        RemoteProtocolError: the payload is malformed, or the version is v3.
    """
    if not flags & FLAG_PAYLOAD:
        return None, 0
    if not version.has_warnings:
        raise RemoteProtocolError("a custom payload needs v4")
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
