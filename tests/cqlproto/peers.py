"""What both ends say, as single frames: for tests that play one of them by hand."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    ClientConnection,
    Consistency,
    HandshakeCompleted,
    LocalProtocolError,
    Opcode,
    ProtocolVersion,
    RemoteProtocolError,
)
from cqlproto._state import State
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
    StatusChange,
    Supported,
)
from cqlproto.testing import linked_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqlproto import Limits
    from cqlproto.connection import Authenticator
    from cqlproto.messages import Request, Response
    from cqlproto.testing import LinkedPair

V4 = ProtocolVersion.V4
ONE = QueryParameters(Consistency.ONE)
COLUMNS = (
    Column("k", "t", "id", NATIVE_TYPES["int"]),
    Column("k", "t", "name", NATIVE_TYPES["text"]),
)
METADATA = ResultMetadata.of(COLUMNS, V4)
CONTENT = bytes.fromhex("00000004 00000007 00000001 61  00000004 00000008 ffffffff")
ROWS = Rows.of(METADATA, 2, CONTENT)
PREPARED = Prepared(b"id", None, BindMetadata(COLUMNS, (0,)), METADATA)
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

# v4 section 4.1: what may answer each request.
LEGAL: Mapping[str, set[str]] = {
    "OPTIONS": {"SUPPORTED", "ERROR"},
    "REGISTER": {"READY", "ERROR"},
    "QUERY": {"Void", "Rows", "SetKeyspace", "SchemaChange", "ERROR"},
    "PREPARE": {"Prepared", "ERROR"},
    "EXECUTE": {"Void", "Rows", "SetKeyspace", "SchemaChange", "ERROR"},
    "BATCH": {"Void", "Rows", "ERROR"},
}


def response_frame(
    message: Response, stream: int, *, version: int = V4, flags: int = 0, prefix: bytes = b""
) -> bytes:
    """A response as a server of the version sends it, plain."""
    body = bytearray(prefix)
    message.write_body(body, V4)
    return write_frame(version | RESPONSE_BIT, flags, stream, message.opcode, bytes(body))


def request_frame(
    message: Request, stream: int, *, version: int = V4, flags: int = 0, prefix: bytes = b""
) -> bytes:
    """A request as a client of the version sends it, plain."""
    body = bytearray(prefix)
    message.write_body(body, V4)
    return write_frame(version, flags, stream, message.opcode, bytes(body))


def connected(
    *,
    compression: str | None = None,
    limits: Limits | None = None,
    authenticator: Authenticator | None = None,
    split: int | Sequence[int] | None = None,
    version: ProtocolVersion = V4,
) -> LinkedPair:
    """A pair whose handshake is done."""
    client = ClientConnection(
        version=version, compression=compression, limits=limits, authenticator=authenticator
    )
    return linked_pair(client, split=split)


def ready_client(limits: Limits | None = None) -> ClientConnection:
    """A client at the end of its handshake, for a server played by hand."""
    client = ClientConnection(version=V4, limits=limits)
    client.initiate()
    client.data_to_send()
    client.receive_data(response_frame(RESPONSES["SUPPORTED"], 0))
    assert client.next_event() is None
    client.data_to_send()
    client.receive_data(response_frame(READY, 0))
    assert isinstance(client.next_event(), HandshakeCompleted)
    return client


def sent(client: ClientConnection, message: Request = REQUESTS["QUERY"]) -> int:
    """Send a request, and let its bytes go."""
    stream_id = client.send(message)
    assert client.data_to_send()[4] == Opcode(message.opcode)
    return stream_id


def answered(client: ClientConnection, message: Response, stream: int, **more: Any) -> Any:
    client.receive_data(response_frame(message, stream, **more))
    return client.next_event()


def refused(client: ClientConnection, data: bytes, match: str) -> RemoteProtocolError:
    """The bytes are a protocol error, for good."""
    client.receive_data(data)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=match) as info:
            client.next_event()
    assert client.state is State.FAILED
    with pytest.raises(LocalProtocolError, match="not ready: failed"):
        client.send(Options())
    return info.value
