"""The server's end: it reads requests, checks replies, and never replies by itself."""

from __future__ import annotations

import sys
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    ErrorCode,
    Limits,
    LocalProtocolError,
    Opcode,
    ProtocolVersion,
    RequestReceived,
    RequestUnreadable,
    ServerConnection,
    UnsupportedVersionReceived,
    handshake_reply,
)
from cqlproto.compression import compressor
from cqlproto.enums import FLAG_COMPRESSED, FLAG_PAYLOAD, FLAG_TRACING
from cqlproto.frames import HEADER_SIZE, FrameReader, write_frame
from cqlproto.messages import (
    READY,
    VOID,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Error,
    Options,
    Query,
    Startup,
    StatusChange,
    Supported,
    read_response,
)
from tests.support.core_connections import (
    AGREEMENTS,
    ONE,
    REQUESTS,
    RESPONSES,
    V3,
    V4,
    V5,
    Agreement,
    agreements,
    on_wire,
    ready_server,
    refused,
    request_frame,
    unreadable,
)

if TYPE_CHECKING:
    from cqlproto.messages import Request

HANDSHAKES: dict[str, Request] = {
    "STARTUP": Startup({"CQL_VERSION": "3.0.0"}),
    "AUTH_RESPONSE": AuthResponse(b"\0me\0secret"),
}


def asked(server: ServerConnection, message: Any, stream: int, **more: Any) -> Any:
    server.receive_data(request_frame(message, stream, **more))
    return server.next_event()


@pytest.mark.parametrize(
    "message", [*REQUESTS.values(), *HANDSHAKES.values()], ids=lambda m: type(m).__name__
)
def test_it_never_answers_by_itself(message: Any) -> None:
    server = ServerConnection()
    event = asked(server, message, 3)
    assert isinstance(event, RequestReceived)
    assert (event.stream_id, event.message) == (3, message)
    assert server.next_event() is None
    assert server.data_to_send() == b""
    assert "secret" not in repr(event)


def test_tracing_and_payload_are_told() -> None:
    prefix = bytes.fromhex("0001 0001 6b ffffffff")
    flags = FLAG_TRACING | FLAG_PAYLOAD
    event = asked(ServerConnection(), REQUESTS["QUERY"], 1, flags=flags, prefix=prefix)
    assert (event.tracing, event.payload) == (True, {"k": None})


@pytest.mark.parametrize("spoken", [tuple(ProtocolVersion), (V4,), (V3, V5)], ids=str)
@pytest.mark.parametrize("version", [0, 2, 3, 4, 5, 6, 0x7F])
def test_an_unsupported_version_is_told_and_can_be_refused(
    spoken: tuple[ProtocolVersion, ...], version: int
) -> None:
    if version in spoken:
        return
    server = ServerConnection(versions=spoken)
    assert server.versions == spoken
    server.receive_data(write_frame(version, 0xFF, 9, 0x77, b"whatever"))
    event = server.next_event()
    assert isinstance(event, UnsupportedVersionReceived)
    assert (event.stream_id, event.version) == (9, version)
    assert server.data_to_send() == b""
    server.reply(9, Error(ErrorCode.PROTOCOL_ERROR, "no"))
    assert server.data_to_send()[:4] == bytes([0x80 | max(spoken), 0, 0, 9])
    # the client may try again with another version
    for again in spoken:
        assert isinstance(asked(server, Options(), again, version=again), RequestReceived)


def test_the_version_of_a_request_is_that_of_its_answer() -> None:
    """Also if requests of another version arrived meanwhile."""
    server = ServerConnection()
    for version in ProtocolVersion:
        asked(server, Options(), 1, version=version)
        assert server.version is version
        server.reply(1, RESPONSES["SUPPORTED"])
        assert server.data_to_send()[0] == 0x80 | version
    for version in ProtocolVersion:
        asked(server, Options(), version, version=version)
    for version in ProtocolVersion:
        server.reply(version, RESPONSES["SUPPORTED"])
        assert server.data_to_send()[0] == 0x80 | version


@agreements
def test_the_version_is_that_of_startup_once_that_is_answered(agreement: Agreement) -> None:
    for version in (0, 3, 4, 5, 6, 127):
        if version == agreement.version:
            continue
        server = ready_server(agreement=agreement)
        assert server.version is agreement.version
        frame = request_frame(Options(), 1, version=version)
        refused(
            server,
            on_wire(agreement, frame),
            f"must have version v{agreement.version}, got version 0x{version:02x}",
        )


@pytest.mark.parametrize("answer", [READY, RESPONSES["AUTHENTICATE"]], ids=["READY", "AUTH"])
def test_requests_of_other_versions_before_the_answer_to_startup_do_not_change_it(
    answer: Any,
) -> None:
    """STARTUP of v4, then OPTIONS of v5 and v3: the connection has v4."""
    server = ServerConnection()
    asked(server, Startup({"COMPRESSION": "lz4"}), 0, version=4)
    asked(server, Options(), 1, version=5)
    asked(server, Options(), 2, version=3)
    server.reply(0, answer)
    assert server.data_to_send()[0] == 0x84
    assert server.version is V4
    server.push(StatusChange("UP", (IPv6Address("::1"), 9042)))
    assert server.data_to_send()[0] == 0x84
    refused(
        server, request_frame(Options(), 3, version=3), "must have version v4, got version 0x03"
    )


@pytest.mark.parametrize("stream", [-1, -7])
@pytest.mark.parametrize("version", [4, 5])
def test_a_negative_stream_is_refused(stream: int, version: int) -> None:
    """v4 section 2.3"""
    frame = request_frame(Options(), stream, version=version)
    refused(ServerConnection(), frame, f"at least 0, got {stream}")


@pytest.mark.parametrize("version", [4, 5, 6])
def test_a_stream_that_is_taken_is_refused(version: int) -> None:
    server = ServerConnection()
    asked(server, REQUESTS["QUERY"], 5)
    refused(server, request_frame(Options(), 5, version=version), "5, where another one is pending")


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_no_requests(name: str) -> None:
    response = RESPONSES[name]
    body = bytearray()
    response.write_body(body, V4)
    frame = write_frame(4, 0, 1, response.opcode, bytes(body))
    refused(ServerConnection(), frame, "must be that of a request")


def test_an_answer_that_is_not_the_requests_is_refused() -> None:
    server = ServerConnection()
    asked(server, REQUESTS["QUERY"], 1)
    for answer in (READY, RESPONSES["Prepared"]):
        with pytest.raises(LocalProtocolError, match="must not answer QUERY"):
            server.reply(1, answer)
    assert server.data_to_send() == b""
    server.reply(1, VOID)
    assert len(server.data_to_send()) == HEADER_SIZE + 4


def test_nothing_was_asked() -> None:
    server = ServerConnection()
    with pytest.raises(LocalProtocolError, match="no request is pending on stream 0"):
        server.reply(0, READY)
    asked(server, REQUESTS["QUERY"], 1)
    server.reply(1, VOID)
    with pytest.raises(LocalProtocolError, match="no request is pending on stream 1"):
        server.reply(1, VOID)
    assert len(server.data_to_send()) == HEADER_SIZE + 4


def test_an_answer_that_cannot_be_written_may_be_replaced() -> None:
    server = ServerConnection()
    asked(server, REQUESTS["QUERY"], 1)
    with pytest.raises(LocalProtocolError, match="needs the field"):
        server.reply(1, Error(ErrorCode.UNAVAILABLE, "fields are missing"))
    assert server.data_to_send() == b""
    server.reply(1, VOID)
    assert server.unsent == HEADER_SIZE + 4
    assert len(server.data_to_send()) == HEADER_SIZE + 4
    assert server.unsent == 0


def test_answers_and_events_leave_in_the_order_they_were_given() -> None:
    server = ServerConnection()
    for stream in (1, 2):
        asked(server, REQUESTS["QUERY"], stream)
    server.reply(2, VOID)
    server.push(StatusChange("UP", (IPv6Address("::1"), 9042)))
    server.reply(1, VOID)
    asked(server, REQUESTS["QUERY"], 1)
    server.reply(1, RESPONSES["ERROR"])
    reader = FrameReader(max_body=1000, responses=True)
    reader.feed(server.data_to_send())
    streams = []
    while (frame := reader.read()) is not None:
        streams.append((frame.stream, frame.opcode))
    assert streams == [
        (2, Opcode.RESULT),
        (-1, Opcode.EVENT),
        (1, Opcode.RESULT),
        (1, Opcode.ERROR),
    ]


# -- compression


@pytest.mark.parametrize("name", ["lz4", "snappy"])
@pytest.mark.parametrize("answer", [READY, Authenticate("x" * 100)], ids=["READY", "AUTHENTICATE"])
def test_compression_begins_with_the_answer_to_startup(name: str, answer: Any) -> None:
    server = ServerConnection()
    asked(server, Options(), 0)
    server.reply(0, Supported({"COMPRESSION": ["x" * 100]}))
    assert server.data_to_send()[1] == 0
    asked(server, Startup({"CQL_VERSION": "3.0.0", "COMPRESSION": name}), 0)
    server.reply(0, answer)
    data = server.data_to_send()
    assert data[1] == (FLAG_COMPRESSED if answer is not READY else 0)
    body = compressor(name).compress(b"\0\0\0\5" + b"x" * 5)
    server.receive_data(write_frame(4, FLAG_COMPRESSED, 0, Opcode.AUTH_RESPONSE, body))
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    assert event.message == AuthResponse(b"xxxxx")


def test_an_error_to_startup_is_not_compressed_and_another_startup_may_follow() -> None:
    server = ServerConnection()
    asked(server, Startup({"COMPRESSION": "lz4"}), 0)
    server.reply(0, Error(ErrorCode.PROTOCOL_ERROR, "x" * 1000))
    assert server.data_to_send()[1] == 0
    asked(server, Startup({"COMPRESSION": "snappy"}), 0)
    server.reply(0, Authenticate("x" * 1000))
    frame = server.data_to_send()
    assert frame[1] == FLAG_COMPRESSED
    assert b"x" * 1000 in compressor("snappy").decompress(frame[9:], 2000)


def test_an_answer_that_cannot_be_written_agrees_on_nothing() -> None:
    server = ServerConnection()
    asked(server, Startup({"COMPRESSION": "lz4"}), 0)
    with pytest.raises(LocalProtocolError, match="too long|65536"):
        server.reply(0, Authenticate("x" * 65_536))
    server.reply(0, Error(ErrorCode.PROTOCOL_ERROR, "x" * 1000))
    assert server.data_to_send()[1] == 0


@pytest.mark.parametrize("agreement", [one for one in AGREEMENTS if one.compression], ids=str)
def test_compressions_are_known_in_capitals_too(agreement: Agreement) -> None:
    name = agreement.compression or ""
    for spelled in (name.upper(), name.title()):
        server = ready_server(agreement=Agreement(agreement.version, spelled))
        frame = request_frame(Query("x" * 1000, ONE), 1, version=agreement.version)
        if agreement.version is not V5:
            body = compressor(name).compress(frame[9:])
            frame = write_frame(frame[0], FLAG_COMPRESSED, 1, frame[4], body)
        server.receive_data(on_wire(agreement, frame))
        assert isinstance(server.next_event(), RequestReceived)
        server.reply(1, Error(0, "y" * 1000))
        assert len(server.data_to_send()) < 100


@pytest.mark.parametrize(
    ("version", "name", "reason"),
    [
        (V3, "zstd", "must be lz4 or snappy, got 'zstd'"),
        (V4, "", "must be lz4 or snappy, got ''"),
        (V5, "deflate", "must be lz4 or snappy, got 'deflate'"),
        (V5, "snappy", "must be lz4 on v5, got snappy"),
        (V5, "SNAPPY", "must be lz4 on v5, got snappy"),
    ],
)
def test_a_compression_that_cannot_be_is_refused(
    version: ProtocolVersion, name: str, reason: str
) -> None:
    """v5 section 2.3.1: v5 supports only LZ4."""
    frame = request_frame(Startup({"COMPRESSION": name}), 0, version=version)
    refused(ServerConnection(), frame, reason)


@pytest.mark.parametrize("agreement", [one for one in AGREEMENTS if one.compression], ids=str)
def test_a_codec_that_is_not_installed(
    agreement: Agreement, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply is refused, nothing is queued, and an ERROR can be sent instead."""
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    monkeypatch.setitem(sys.modules, "cramjam", None)
    server = ServerConnection()
    startup = Startup({"COMPRESSION": agreement.compression or ""})
    asked(server, startup, 0, version=agreement.version)
    for answer in (READY, RESPONSES["AUTHENTICATE"]):
        with pytest.raises(LocalProtocolError, match="pip install"):
            server.reply(0, answer)
        assert (server.data_to_send(), server.unsent) == (b"", 0)
    server.reply(0, Error(ErrorCode.PROTOCOL_ERROR, "x" * 1000))
    assert server.data_to_send()[:2] == bytes([0x80 | agreement.version, 0])
    # without compression it works, on the same connection
    asked(server, Startup({}), 0, version=agreement.version)
    server.reply(0, READY)
    assert server.data_to_send()[4] == Opcode.READY


# -- requests that can't be read


@agreements
def test_a_malformed_request_can_be_answered(agreement: Agreement) -> None:
    reasons = {Opcode.QUERY: "", Opcode.RESULT: "must be that of a request", 0x77: "unknown"}
    for opcode, match in reasons.items():
        server = ready_server(agreement=agreement)
        frame = write_frame(agreement.version, 0, 3, opcode, b"\0")
        error = unreadable(server, on_wire(agreement, frame), match)
        assert error.__traceback__ is None
        server.reply(3, Error(ErrorCode.PROTOCOL_ERROR, str(error)))
        assert server.data_to_send()
        again = request_frame(REQUESTS["QUERY"], 3, version=agreement.version)
        server.receive_data(on_wire(agreement, again))
        assert isinstance(server.next_event(), RequestReceived)


@agreements
@pytest.mark.parametrize("size", [200, 300_000])
def test_a_request_that_is_too_long_can_be_answered(agreement: Agreement, size: int) -> None:
    server = ready_server(Limits(max_request=100), agreement)
    frame = write_frame(agreement.version, 0, 3, Opcode.QUERY, bytes(size))
    data = on_wire(agreement, frame)
    events = []
    for begin in range(0, len(data), 70_000):
        server.receive_data(data[begin : begin + 70_000])
        while (event := server.next_event()) is not None:
            events.append(event)
            assert isinstance(event, RequestUnreadable)
            assert f"at most 91 bytes, got {size:,}" in str(event.error)
            server.reply(event.stream_id, Error(ErrorCode.INVALID, str(event.error)))
    assert len(events) == 1
    again = request_frame(Options(), 3, version=agreement.version)
    server.receive_data(on_wire(agreement, again))
    assert isinstance(server.next_event(), RequestReceived)


@pytest.mark.parametrize("opcode", [Opcode.OPTIONS, Opcode.STARTUP])
def test_a_request_that_is_too_long_before_the_handshake_is_refused(opcode: Opcode) -> None:
    """The bytes may not be CQL."""
    server = ServerConnection(limits=Limits(max_request=100))
    refused(server, write_frame(4, 0, 0, opcode, bytes(200)), "got 200")


def test_a_compressed_request_before_startup_is_refused() -> None:
    frame = write_frame(4, FLAG_COMPRESSED, 0, Opcode.OPTIONS, bytes(5))
    refused(ServerConnection(), frame, "no compression was negotiated")


# -- what an ordinary server says


def test_the_ordinary_answers_of_a_handshake() -> None:
    options = {"COMPRESSION": ("lz4",)}
    assert handshake_reply(Options(), supported=options) == Supported({"COMPRESSION": ["lz4"]})
    assert handshake_reply(HANDSHAKES["STARTUP"], supported={}) == READY
    asks = handshake_reply(HANDSHAKES["STARTUP"], supported={}, verify=lambda _: True)
    assert isinstance(asks, Authenticate)
    assert asks.authenticator.startswith("org.apache.cassandra.")
    tokens: list[bytes] = []

    def verify(token: bytes) -> bool:
        tokens.append(token)
        return len(tokens) == 1

    answers = [
        handshake_reply(AuthResponse(token), supported={}, verify=verify) for token in (b"a", None)
    ]
    assert answers[0] == AuthSuccess(None)
    assert isinstance(answers[1], Error)
    assert answers[1].code == ErrorCode.BAD_CREDENTIALS
    assert tokens == [b"a", b""]
    unasked = handshake_reply(AuthResponse(b"a"), supported={})
    assert isinstance(unasked, Error)


@pytest.mark.parametrize("name", sorted(REQUESTS.keys() - {"OPTIONS"}))
def test_other_requests_are_not_for_the_handshake(name: str) -> None:
    assert handshake_reply(REQUESTS[name], supported={}) is None


def test_every_answer_of_the_handshake_can_be_read_by_a_client() -> None:
    for request in (Options(), *HANDSHAKES.values()):
        server = ServerConnection()
        asked(server, request, 0)
        answer = handshake_reply(request, supported={"A": ["b"]}, verify=lambda _: True)
        assert answer is not None
        server.reply(0, answer)
        data = server.data_to_send()
        assert read_response(data[4], data[9:], 0, V4) == answer
