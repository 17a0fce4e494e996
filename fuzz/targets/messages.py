"""Targets for messages: every opcode of both directions, in every version.

A message that was read can be written, unless writing refuses it, and the written bytes read as the
same message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import FLAG_PAYLOAD, FLAG_TRACING, FLAG_WARNING, Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import (
    Column,
    ResultMetadata,
    Rows,
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
    write_prefix,
    write_request_prefix,
)
from fuzz import vectors
from fuzz.checks import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.messages import Response

VERSIONS = tuple(ProtocolVersion)
REQUESTS = (
    Opcode.STARTUP,
    Opcode.OPTIONS,
    Opcode.QUERY,
    Opcode.PREPARE,
    Opcode.EXECUTE,
    Opcode.REGISTER,
    Opcode.BATCH,
    Opcode.AUTH_RESPONSE,
)
RESPONSES = (
    Opcode.ERROR,
    Opcode.READY,
    Opcode.AUTHENTICATE,
    Opcode.SUPPORTED,
    Opcode.RESULT,
    Opcode.EVENT,
    Opcode.AUTH_CHALLENGE,
    Opcode.AUTH_SUCCESS,
)
_PREFIXES = FLAG_TRACING | FLAG_PAYLOAD | FLAG_WARNING

# Column metadata that a client may already have when rows arrive.
_KNOWN = (
    None,
    ResultMetadata.of([Column("ks", "t", "a", NATIVE_TYPES["int"])], ProtocolVersion.V4),
    ResultMetadata.of(
        [Column("k", "t", "a", NATIVE_TYPES["int"]), Column("k", "u", "b", NATIVE_TYPES["text"])],
        ProtocolVersion.V4,
    ),
)


def requests(data: bytes) -> None:
    """Requests; the first byte selects opcode and version, the second the flags of the header."""
    if len(data) < 2:
        return
    version = VERSIONS[data[0] % 3]
    opcode = REQUESTS[data[0] // 3 % len(REQUESTS)]
    body = data[2:]
    try:
        payload, position = read_request_prefix(body, data[1], version)
        message = read_request(opcode, body, position, version)
    except RemoteProtocolError:
        return
    out = bytearray()
    flags = write_request_prefix(out, version, payload)
    try:
        message.write_body(out, version)
    except LocalProtocolError:
        return
    written = bytes(out)
    payload_again, position = read_request_prefix(written, flags, version)
    require(payload_again == payload, "another payload", payload, payload_again)
    again = read_request(opcode, written, position, version)
    require(again == message, "another request", message, again)


def responses(data: bytes) -> None:
    """Responses; the first byte selects opcode and version, the second the flags of the header."""
    if len(data) < 3:
        return
    version = VERSIONS[data[0] % 3]
    opcode = RESPONSES[data[0] // 3 % len(RESPONSES)]
    known = _KNOWN[data[2] % len(_KNOWN)]
    body = data[3:]
    try:
        tracing_id, warnings, payload, position = read_prefix(body, data[1], version)
    except RemoteProtocolError:
        return
    message = _read(opcode, body, position, version, None)
    if opcode is Opcode.RESULT:
        _compare(message, _read(opcode, body, position, version, known), known)
    if message is None:
        return
    out = bytearray()
    try:
        flags = write_prefix(out, version, tracing_id, warnings, payload)
        message.write_body(out, version)
    except LocalProtocolError:
        return
    written = bytes(out)
    id_again, warnings_again, payload_again, start = read_prefix(written, flags, version)
    require(id_again == tracing_id, "another tracing id", tracing_id, id_again)
    require(list(warnings_again) == list(warnings), "other warnings", warnings)
    require(payload_again == payload, "another payload", payload, payload_again)
    again = read_response(opcode, written, start, version)
    require(again == message, "another response", message, again)
    if isinstance(message, Rows) and message.metadata is not None:
        same = read_response(opcode, body, position, version, message.metadata)
        require(isinstance(same, Rows) and same == message, "other rows when known", message, same)


def _read(
    opcode: Opcode,
    body: bytes,
    position: int,
    version: ProtocolVersion,
    known: ResultMetadata | None,
) -> Response | None:
    try:
        return read_response(opcode, body, position, version, known)
    except RemoteProtocolError:
        return None


def _compare(plain: Response | None, hinted: Response | None, known: ResultMetadata | None) -> None:
    """Check that cached metadata is used only for rows that come without metadata."""
    if isinstance(plain, Rows) and plain.metadata is None and isinstance(hinted, Rows):
        fits = known is not None and known.column_count == plain.column_count
        require(hinted.metadata is (known if fits else None), "rows take on other metadata", hinted)
        hinted.metadata = None
        require(plain == hinted, "known metadata changes rows", plain, hinted)
        hinted.metadata = known
    else:
        require(plain == hinted, "known metadata changes a result", plain, hinted)


def request_seeds() -> Iterator[bytes]:
    """The requests of the vectors."""
    for frame in vectors.frames():
        if not frame.version & 0x80:
            number = REQUESTS.index(Opcode(frame.opcode)) * 3 + frame.version - 3
            yield bytes((number, frame.flags & FLAG_PAYLOAD)) + frame.body


def response_seeds() -> Iterator[bytes]:
    """The responses of the vectors, and rows without metadata whose columns are cached."""
    for index, frame in enumerate(vectors.frames()):
        if frame.version & 0x80:
            number = RESPONSES.index(Opcode(frame.opcode)) * 3 + (frame.version & 0x7F) - 3
            yield bytes((number, frame.flags & _PREFIXES, index % 3)) + frame.body
    content = b"\0\0\0\x04\0\0\0\x07\0\0\0\x04abcd"
    for index, known in enumerate(_KNOWN):
        if known is not None:
            head = bytes((RESPONSES.index(Opcode.RESULT) * 3, 0, index))
            for skip in (True, False):
                out = bytearray(head)
                rows = Rows.of(known, 2 // known.column_count, content, skip_metadata=skip)
                rows.write_body(out, ProtocolVersion.V4)
                yield bytes(out)


REQUEST_WORDS = (b"CQL_VERSION", b"3.0.0", b"COMPRESSION", b"lz4", b"snappy", b"SCHEMA_CHANGE")
RESPONSE_WORDS = (
    b"\0\x0dSCHEMA_CHANGE",
    b"\0\x0dSTATUS_CHANGE",
    b"\0\x0fTOPOLOGY_CHANGE",
    b"\0\x07CREATED",
    b"\0\x08KEYSPACE",
    b"\0\x05TABLE",
    b"\0\x04TYPE",
    b"\0\x08FUNCTION",
    b"\0\x09AGGREGATE",
    b"\0\x03CAS",
    *[code.to_bytes(4, "big") for code in (0x1000, 0x1100, 0x1200, 0x1300, 0x1400, 0x1500)],
    *[code.to_bytes(4, "big") for code in (0x1600, 0x1700, 0x2400, 0x2500)],
    *[kind.to_bytes(4, "big") for kind in range(1, 6)],
    *[option.to_bytes(2, "big") for option in (0x0000, 0x0020, 0x0021, 0x0022, 0x0030, 0x0031)],
)
