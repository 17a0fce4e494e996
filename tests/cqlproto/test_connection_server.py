"""The server's end: it reads requests, checks answers, and says nothing by itself."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import (
    ConnectionEnded,
    ErrorCode,
    Limits,
    LocalProtocolError,
    Opcode,
    ProtocolVersion,
    RemoteProtocolError,
    RequestReceived,
    ServerConnection,
    UnsupportedVersionReceived,
    handshake_reply,
)
from cqlproto._state import State
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
from tests.cqlproto.messages.strategies import requests
from tests.cqlproto.peers import ONE, REQUESTS, RESPONSES, V4, connected, request_frame
from tests.cqlproto.test_frames import cut

if TYPE_CHECKING:
    from cqlproto.messages import Request

HANDSHAKES: dict[str, Request] = {
    "STARTUP": Startup({"CQL_VERSION": "3.0.0"}),
    "AUTH_RESPONSE": AuthResponse(b"\0me\0secret"),
}


def asked(server: ServerConnection, message: Any, stream: int, **more: Any) -> Any:
    server.receive_data(request_frame(message, stream, **more))
    return server.next_event()


def refused(server: ServerConnection, data: bytes, match: str) -> None:
    server.receive_data(data)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=match):
            server.next_event()
    assert server.state is State.FAILED


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


@pytest.mark.parametrize("version", [0, 3, 5, 6, 0x7F])
def test_an_unsupported_version_is_told_and_can_be_refused(version: int) -> None:
    server = ServerConnection()
    server.receive_data(write_frame(version, 0xFF, 9, 0x77, b"whatever"))
    event = server.next_event()
    assert isinstance(event, UnsupportedVersionReceived)
    assert (event.stream_id, event.version) == (9, version)
    assert server.data_to_send() == b""
    server.reply(9, Error(ErrorCode.PROTOCOL_ERROR, "no"))
    assert server.data_to_send()[:4] == bytes([0x84, 0, 0, 9])
    # the client may try again with another version
    assert isinstance(asked(server, Options(), 9), RequestReceived)


def test_the_version_of_a_request_is_that_of_its_answer() -> None:
    server = ServerConnection(versions=list(ProtocolVersion))
    assert server.versions == tuple(ProtocolVersion)
    for version in ProtocolVersion:
        asked(server, Options(), 1, version=version)
        assert server.version is version
        server.reply(1, RESPONSES["SUPPORTED"])
        assert server.data_to_send()[0] == 0x80 | version


@pytest.mark.parametrize("stream", [-1, -7])
@pytest.mark.parametrize("version", [4, 5])
def test_a_negative_stream_is_refused(stream: int, version: int) -> None:
    """v4 section 2.3"""
    frame = request_frame(Options(), stream, version=version)
    refused(ServerConnection(), frame, f"stream {stream}")


@pytest.mark.parametrize("version", [4, 5])
def test_a_stream_that_is_taken_is_refused(version: int) -> None:
    server = ServerConnection()
    asked(server, REQUESTS["QUERY"], 5)
    refused(server, request_frame(Options(), 5, version=version), "5, which is taken")


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_no_requests(name: str) -> None:
    response = RESPONSES[name]
    body = bytearray()
    response.write_body(body, V4)
    frame = write_frame(4, 0, 1, response.opcode, bytes(body))
    refused(ServerConnection(), frame, "is no request")


def test_nothing_was_asked() -> None:
    server = ServerConnection()
    with pytest.raises(LocalProtocolError, match="nothing was asked on stream 0"):
        server.reply(0, READY)
    asked(server, REQUESTS["QUERY"], 1)
    server.reply(1, VOID)
    with pytest.raises(LocalProtocolError, match="nothing was asked on stream 1"):
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


def test_an_error_to_startup_is_not_compressed() -> None:
    server = ServerConnection()
    asked(server, Startup({"COMPRESSION": "lz4"}), 0)
    server.reply(0, Error(ErrorCode.PROTOCOL_ERROR, "x" * 1000))
    assert server.data_to_send()[1] == 0


def test_an_unknown_compression_is_refused() -> None:
    refused(ServerConnection(), request_frame(Startup({"COMPRESSION": "zstd"}), 0), "zstd")


def test_a_compressed_request_before_startup_is_refused() -> None:
    frame = write_frame(4, FLAG_COMPRESSED, 0, Opcode.OPTIONS, bytes(5))
    refused(ServerConnection(), frame, "no compression was agreed on")


# -- limits and the end


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_requests_are_bounded(compression: str | None) -> None:
    """By the limit of requests, plain and as they come."""
    pair = connected(compression=compression)
    limits = Limits(max_request=1000, max_response=10)
    for length, fits in ((1000, True), (1001, False)):
        server = ServerConnection(limits=limits)
        if compression is not None:
            asked(server, Startup({"COMPRESSION": compression}), 0)
            server.reply(0, READY)
        pair.client.send(Query("x" * (length - HEADER_SIZE - 7), ONE))
        data = pair.client.data_to_send()
        assert (len(data) < 100) is (compression is not None)
        if fits:
            server.receive_data(data)
            assert isinstance(server.next_event(), RequestReceived)
        else:
            refused(server, data, "limit is 991|at most 991")


def test_the_end() -> None:
    for data, clean in ((b"", True), (b"\4", False), (request_frame(Options(), 0)[:-1], False)):
        server = ServerConnection()
        server.receive_data(data)
        server.receive_eof()
        event = server.next_event()
        assert isinstance(event, ConnectionEnded)
        assert event.clean is clean
        assert server.next_event() is None
        with pytest.raises(LocalProtocolError, match="after receive_eof"):
            server.receive_data(b"")


@given(st.lists(requests(V4), max_size=4), st.lists(st.integers(0, 300)))
def test_requests_come_whole_however_they_are_cut(messages: list[Any], offsets: list[int]) -> None:
    server = ServerConnection()
    messages = [m for m in messages if not isinstance(m, Startup) or "COMPRESSION" not in m.options]
    data = b"".join(request_frame(message, n) for n, message in enumerate(messages))
    events = []
    for piece in cut(data, offsets):
        server.receive_data(piece)
        while (event := server.next_event()) is not None:
            assert isinstance(event, RequestReceived)
            events.append((event.stream_id, event.message))
    assert events == [*enumerate(messages)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([4, 4, 4, 5, 0x84]),
            st.sampled_from([0, 0, FLAG_COMPRESSED, FLAG_PAYLOAD | FLAG_TRACING]),
            st.integers(-1, 6),
            st.sampled_from([*Opcode, 0x04, 0x7F]),
            st.binary(max_size=40) | requests(V4).map(lambda m: request_frame(m, 0)[9:]),
        ),
        max_size=8,
    ),
    st.binary(max_size=12),
)
def test_nothing_but_events_and_protocol_errors(
    frames: list[tuple[int, int, int, int, bytes]], rest: bytes
) -> None:
    server = ServerConnection()
    server.receive_data(b"".join(write_frame(*frame) for frame in frames) + rest)
    try:
        while (event := server.next_event()) is not None:
            assert isinstance(event, (RequestReceived, UnsupportedVersionReceived))
            repr(event)
    except RemoteProtocolError as exc:
        with pytest.raises(RemoteProtocolError) as info:
            server.next_event()
        assert info.value is exc
    assert server.data_to_send() == b""


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
