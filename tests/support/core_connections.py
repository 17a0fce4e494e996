"""Connections of the core in each state, and sample messages as frames, for tests of one end.

The options that two ends agree on are an axis of most tests: :data:`AGREEMENTS`, and
``agreements``, the mark that runs a test on each. :func:`on_wire` frames messages accordingly.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest

from cqlproto import (
    ClientConnection,
    Consistency,
    HandshakeCompleted,
    LocalProtocolError,
    ProtocolVersion,
    RemoteProtocolError,
    RequestReceived,
    RequestUnreadable,
    ResponseUnreadable,
    ServerConnection,
)
from cqlproto._state import State
from cqlproto.compression import compressor
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import RESPONSE_BIT, BatchKind, ErrorCode
from cqlproto.frames import write_frame
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    Batch,
    BatchStatement,
    BindMetadata,
    Column,
    Error,
    Event,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    QueryParameters,
    Register,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    Startup,
    StatusChange,
    Supported,
)
from cqlproto.segments import write_segments
from cqlproto.testing import linked_pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cqlproto import Limits
    from cqlproto.compression import Compressor
    from cqlproto.connection import Authenticator
    from cqlproto.messages import Request, Response
    from cqlproto.testing import LinkedPair

V3, V4, V5 = ProtocolVersion.V3, ProtocolVersion.V4, ProtocolVersion.V5


class Agreement(NamedTuple):
    """The options that the two ends of a connection agree on."""

    version: ProtocolVersion = V4
    compression: str | None = None

    def __str__(self) -> str:
        return f"v{self.version:d}-{self.compression or 'plain'}"

    @property
    def codec(self) -> Compressor | None:
        return compressor(self.compression) if self.compression else None


AGREEMENTS = [
    Agreement(version, compression)
    for version in ProtocolVersion
    for compression in (None, "lz4", "snappy")
    if compression != "snappy" or version.has_snappy
]
PLAIN = Agreement()
agreements = pytest.mark.parametrize("agreement", AGREEMENTS, ids=str)
on_v5 = pytest.mark.parametrize(
    "agreement", [one for one in AGREEMENTS if one.version is V5], ids=str
)
versions = pytest.mark.parametrize("version", ProtocolVersion, ids=str)

ONE = QueryParameters(Consistency.ONE)
COLUMNS = (
    Column("k", "t", "id", NATIVE_TYPES["int"]),
    Column("k", "t", "name", NATIVE_TYPES["text"]),
)
METADATA = ResultMetadata.of(COLUMNS, V4)
CONTENT = bytes.fromhex("00000004 00000007 00000001 61  00000004 00000008 ffffffff")
ROWS = Rows.of(METADATA, 2, CONTENT)
PREPARED = Prepared(b"id", None, BindMetadata(COLUMNS, (0,)), METADATA)
TRACE = UUID("12345678-1234-1234-1234-123456789abc")
CHANGE = SchemaChange("CREATED", "TABLE", "k", "t")

REQUESTS: Mapping[str, Request] = {
    "OPTIONS": Options(),
    "REGISTER": Register(["STATUS_CHANGE"]),
    "QUERY": Query("SELECT * FROM t", ONE),
    "PREPARE": Prepare("SELECT * FROM t"),
    "EXECUTE": Execute(b"id", ONE),
    "BATCH": Batch(BatchKind.LOGGED, [BatchStatement("INSERT", [])], Consistency.ONE),
}

RESPONSES: Mapping[str, Response] = {
    "READY": READY,
    "AUTHENTICATE": Authenticate("org.apache.cassandra.auth.PasswordAuthenticator"),
    "SUPPORTED": Supported({"COMPRESSION": ["lz4", "snappy"]}),
    "AUTH_CHALLENGE": AuthChallenge(b"?"),
    "AUTH_SUCCESS": AuthSuccess(None),
    "ERROR": Error(ErrorCode.SERVER_ERROR, "out of order"),
    "EVENT": Event(StatusChange("UP", (IPv6Address("::1"), 9042))),
    "Void": VOID,
    "Rows": ROWS,
    "SetKeyspace": SetKeyspace("k"),
    "Prepared": PREPARED,
    "SchemaChange": CHANGE,
}

# v4 section 4.1: the replies that each request may have.
LEGAL: Mapping[str, set[str]] = {
    "OPTIONS": {"SUPPORTED", "ERROR"},
    "REGISTER": {"READY", "ERROR"},
    "QUERY": {"Void", "Rows", "SetKeyspace", "SchemaChange", "ERROR"},
    "PREPARE": {"Prepared", "ERROR"},
    "EXECUTE": {"Void", "Rows", "SetKeyspace", "SchemaChange", "ERROR"},
    "BATCH": {"Void", "Rows", "ERROR"},
}


# The first bytes of peers that don't speak CQL.
GARBAGE = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "TLS alert": bytes.fromhex("15030100020228"),
    "TLS ServerHello": bytes.fromhex("160303003d020000390303") + bytes(50),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"220 mail.example.org ESMTP\r\n",
    "MySQL": bytes.fromhex("4a0000000a") + b"8.0.36\0" + bytes(67),
    "zero": b"\0",
    "a request": write_frame(4, 0, 0, 5, b""),
}


def prepared(version: ProtocolVersion) -> Prepared:
    """PREPARED, with the fields of the version."""
    indices = (0,) if version.has_primary_key_indices else ()
    metadata_id = b"of rows" if version.has_result_metadata_id else None
    return Prepared(b"id", metadata_id, BindMetadata(COLUMNS, indices), METADATA)


def execute(version: ProtocolVersion, parameters: QueryParameters = ONE) -> Execute:
    """EXECUTE of what :func:`prepared` returns."""
    return Execute(b"id", parameters, prepared(version).result_metadata_id)


def requests_in(version: ProtocolVersion) -> dict[str, Request]:
    """:data:`REQUESTS` as the version has them."""
    return {**REQUESTS, "EXECUTE": execute(version)}


def responses_in(version: ProtocolVersion) -> dict[str, Response]:
    """:data:`RESPONSES` as the version has them."""
    return {**RESPONSES, "Prepared": prepared(version)}


def cut(data: bytes, offsets: Iterable[int]) -> list[bytes]:
    """Cut the data at offsets; two equal ones leave an empty piece."""
    bounds = [0, *sorted(offset % (len(data) + 1) for offset in offsets), len(data)]
    return [data[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]


def _frame(
    message: Request | Response, stream: int, version: int, flags: int, prefix: bytes
) -> bytes:
    body = bytearray(prefix)
    spoken = version & ~RESPONSE_BIT
    message.write_body(body, ProtocolVersion(spoken) if spoken in set(ProtocolVersion) else V4)
    return write_frame(version, flags, stream, message.opcode, bytes(body))


def response_frame(
    message: Response, stream: int, *, version: int = V4, flags: int = 0, prefix: bytes = b""
) -> bytes:
    """A response as a server of the version sends it, plain."""
    return _frame(message, stream, version | RESPONSE_BIT, flags, prefix)


def request_frame(
    message: Request, stream: int, *, version: int = V4, flags: int = 0, prefix: bytes = b""
) -> bytes:
    """A request as a client of the version sends it, plain."""
    return _frame(message, stream, version, flags, prefix)


def on_wire(agreement: Agreement, *frames: bytes) -> bytes:
    """Frames as they travel once that has been agreed on."""
    if agreement.version.has_segments:
        return write_segments(frames, agreement.codec)
    return b"".join(frames)


def connected(
    version: ProtocolVersion = V4,
    compression: str | None = None,
    *,
    limits: Limits | None = None,
    authenticator: Authenticator | None = None,
    split: int | Sequence[int] | None = None,
) -> LinkedPair:
    """A pair whose handshake is done."""
    client = ClientConnection(
        version=version, compression=compression, limits=limits, authenticator=authenticator
    )
    return linked_pair(client, split=split)


# The states in which the client waits for the server.
WAITING = [State.OPTIONS_SENT, State.STARTUP_SENT, State.AUTHENTICATING]


class Recorder:
    """An authenticator that records its calls."""

    def __init__(self) -> None:
        self.asked: list[str | bytes | None] = []

    def initial_response(self, mechanism: str) -> bytes:
        self.asked.append(mechanism)
        return b"first"

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        self.asked.append(challenge)
        return b"next"


def at(state: State, version: ProtocolVersion = V4) -> ClientConnection:
    """A client whose handshake has come this far."""
    client = ClientConnection(version=version, authenticator=Recorder())
    if state is State.NEW:
        return client
    client.initiate()
    steps: dict[State, list[Response]] = {
        State.OPTIONS_SENT: [],
        State.STARTUP_SENT: [RESPONSES["SUPPORTED"]],
        State.AUTHENTICATING: [RESPONSES["SUPPORTED"], RESPONSES["AUTHENTICATE"]],
        State.FAILED: [RESPONSES["ERROR"]],
    }
    for message in steps[state]:
        client.data_to_send()
        client.receive_data(response_frame(message, 0, version=version))
        client.next_event()
    client.data_to_send()
    assert client.state is state
    return client


def ready_client(limits: Limits | None = None, agreement: Agreement = PLAIN) -> ClientConnection:
    """A client at the end of its handshake, for a server played by hand."""
    version, compression = agreement
    client = ClientConnection(version=version, compression=compression, limits=limits)
    client.initiate()
    client.data_to_send()
    offered = Supported({"COMPRESSION": ["lz4", "snappy"]})
    client.receive_data(response_frame(offered, 0, version=version))
    assert client.next_event() is None
    client.data_to_send()
    client.receive_data(response_frame(READY, 0, version=version))
    assert isinstance(client.next_event(), HandshakeCompleted)
    return client


def ready_server(limits: Limits | None = None, agreement: Agreement = PLAIN) -> ServerConnection:
    """A server at the end of its handshake, for a client played by hand."""
    server = ServerConnection(limits=limits)
    options = {"CQL_VERSION": "3.0.0"}
    if agreement.compression is not None:
        options["COMPRESSION"] = agreement.compression
    server.receive_data(request_frame(Startup(options), 0, version=agreement.version))
    assert isinstance(server.next_event(), RequestReceived)
    server.reply(0, READY)
    server.data_to_send()
    return server


def sent(client: ClientConnection, message: Request = REQUESTS["QUERY"]) -> int:
    """Send a request, and let its bytes go."""
    stream_id = client.send(message)
    assert client.data_to_send()
    return stream_id


def answered(
    client: ClientConnection,
    message: Response,
    stream: int,
    *,
    agreement: Agreement = PLAIN,
    **more: Any,
) -> Any:
    """Return the event for this answer."""
    frame = response_frame(message, stream, **{"version": agreement.version, **more})
    client.receive_data(on_wire(agreement, frame))
    return client.next_event()


def refused(
    end: ClientConnection | ServerConnection, data: bytes, match: str
) -> RemoteProtocolError:
    """The bytes are a protocol error, for good."""
    end.receive_data(data)
    with pytest.raises(RemoteProtocolError, match=match) as info:
        end.next_event()
    with pytest.raises(RemoteProtocolError) as again:
        end.next_event()
    assert again.value is info.value
    assert end.state is State.FAILED
    if isinstance(end, ClientConnection):
        with pytest.raises(LocalProtocolError, match="not ready: failed"):
            end.send(Options())
    return info.value


def unreadable(
    end: ClientConnection | ServerConnection, data: bytes, match: str
) -> RemoteProtocolError:
    """The bytes are one message that can't be read, and the connection goes on."""
    end.receive_data(data)
    event = end.next_event()
    assert isinstance(event, (ResponseUnreadable, RequestUnreadable))
    assert re.search(match, str(event.error)), event
    assert end.next_event() is None
    assert end.state is State.READY
    return event.error
