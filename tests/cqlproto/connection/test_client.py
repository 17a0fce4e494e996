"""The client's end: what it receives once it is ready, and what it refuses."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    ErrorCode,
    HandshakeCompleted,
    HandshakeFailed,
    Limits,
    LocalProtocolError,
    ProtocolVersion,
    ResponseReceived,
    ResponseTooLarge,
    ResponseUnreadable,
    write_segment,
)
from cqlproto._state import HANDSHAKE, State
from cqlproto.enums import (
    FLAG_BETA,
    FLAG_COMPRESSED,
    FLAG_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    RESPONSE_BIT,
    Opcode,
)
from cqlproto.frames import write_frame
from cqlproto.messages import (
    VOID,
    Error,
    Event,
    Execute,
    Options,
    ResultMetadata,
    Rows,
)
from cqlproto.rows import Binder, decode_rows
from tests.support.core_connections import (
    COLUMNS,
    CONTENT,
    METADATA,
    ONE,
    REQUESTS,
    RESPONSES,
    ROWS,
    TRACE,
    V3,
    V4,
    V5,
    WAITING,
    Agreement,
    agreements,
    answered,
    at,
    connected,
    execute,
    on_v5,
    on_wire,
    prepared,
    ready_client,
    refused,
    response_frame,
    responses_in,
    sent,
    unreadable,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable


# -- what it refuses to be


def test_initiate_only_once_and_nothing_but_that_before() -> None:
    client = ClientConnection(version=V4)
    with pytest.raises(LocalProtocolError, match="not ready: new"):
        client.send(Options())
    client.initiate()
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="called before"):
            client.initiate()
    for state in (State.OPTIONS_SENT, State.STARTUP_SENT, State.AUTHENTICATING, State.FAILED):
        client = at(state)
        for message in REQUESTS.values():
            with pytest.raises(LocalProtocolError, match=f"not ready: {state.value}"):
                client.send(message)
        assert client.data_to_send() == b""


@pytest.mark.parametrize("version", [0, 2, 6, 66])
def test_a_version_that_is_not_spoken(version: Any) -> None:
    with pytest.raises(LocalProtocolError, match=f"version must be v3 to v5, got {version}"):
        ClientConnection(version=version)


def test_arguments_that_cannot_be() -> None:
    with pytest.raises(LocalProtocolError, match="zstd"):
        ClientConnection(version=V4, compression="zstd")
    for name in ("snappy", "SNAPPY"):
        with pytest.raises(
            LocalProtocolError, match="compression must be lz4 on v5|compression must be one of"
        ):
            ClientConnection(version=V5, compression=name)


# -- what may answer what


@agreements
def test_an_illegal_answer_is_refused_with_flags_and_without(agreement: Agreement) -> None:
    response, version = prepared(agreement.version), agreement.version
    for flags, prefix in ((0, b""), (FLAG_BETA, b""), (FLAG_TRACING, TRACE.bytes)):
        client = ready_client(agreement=agreement)
        frame = response_frame(response, sent(client), version=version, flags=flags, prefix=prefix)
        unreadable(client, on_wire(agreement, frame), "Prepared must not answer QUERY")
        assert client.in_flight == 0


def test_flags_that_say_nothing_of_a_reply_are_passed_over() -> None:
    client = ready_client()
    event = answered(client, ROWS, sent(client), flags=FLAG_BETA)
    assert event.message == ROWS


@pytest.mark.parametrize("opcode", [0x04, 0x07, 0x11, 0xFF])
def test_opcodes_that_are_no_answer_at_all(opcode: int) -> None:
    client = ready_client()
    stream_id = sent(client)
    unreadable(client, write_frame(0x84, 0, stream_id, opcode, b""), f"opcode 0x{opcode:02x}")
    assert sent(client) == stream_id, "the id is free"


# What may be wrong with a reply whose frame is whole: flags, opcode, body.
MALFORMED: dict[str, tuple[int, int, bytes]] = {
    "no kind of result": (0, Opcode.RESULT, b"\0\0"),
    "an unknown kind of result": (0, Opcode.RESULT, b"\0\0\0\x09"),
    "rows that end early": (0, Opcode.RESULT, b"\0\0\0\x02\0\0\0\1\0\0\0\1"),
    "an unknown type": (
        0,
        Opcode.RESULT,
        bytes.fromhex("00000002 00000001 00000001 0001 6b 0001 74 0001 61 7777 00000000"),
    ),
    "an error without text": (0, Opcode.ERROR, b"\0\0\x22\0"),
    "warnings that end early": (FLAG_WARNING, Opcode.RESULT, b"\0\x09\0\x01w"),
    "half a tracing id": (FLAG_TRACING, Opcode.RESULT, b"12345678"),
    "a payload that ends early": (FLAG_PAYLOAD, Opcode.RESULT, b"\0\x01\0\x01k"),
    "compressed, by nobody": (FLAG_COMPRESSED, Opcode.RESULT, bytes(9)),
}


@agreements
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_reply_in_a_whole_frame_fails_its_request_alone(
    agreement: Agreement, name: str
) -> None:
    client = ready_client(agreement=agreement)
    first, second = sent(client), sent(client)
    flags, opcode, body = MALFORMED[name]
    frame = write_frame(agreement.version | RESPONSE_BIT, flags, first, opcode, body)
    error = unreadable(client, on_wire(agreement, frame), "")
    assert error.__traceback__ is None, "it must not keep the reply alive"
    assert client.in_flight == 1
    assert answered(client, VOID, second, agreement=agreement).message == VOID
    assert sent(client) in (first, second)


# -- replies that are too long


def too_long(agreement: Agreement, stream_id: int, size: int) -> bytes:
    """Return the bytes of a response that exceeds the limit."""
    body = bytes.fromhex("00000003") + bytes(size - 4)
    frame = write_frame(agreement.version | RESPONSE_BIT, 0, stream_id, Opcode.RESULT, body)
    return on_wire(agreement, frame)


@agreements
@pytest.mark.parametrize("size", [101, 70_000, 400_000])
@pytest.mark.parametrize("step", [1 << 30, 65_536, 999])
def test_a_reply_that_is_too_long_fails_its_request_alone(
    agreement: Agreement, size: int, step: int
) -> None:
    client = ready_client(Limits(max_response=100), agreement=agreement)
    first, second = sent(client), sent(client)
    after = on_wire(agreement, response_frame(VOID, second, version=agreement.version))
    stream = too_long(agreement, first, size) + after
    events: list[Any] = []
    for begin in range(0, len(stream), step):
        client.receive_data(stream[begin : begin + step])
        while (event := client.next_event()) is not None:
            events.append(event)
            if len(events) == 1:
                assert client.orphans == 1, "until all of it has come"
    refusal, reply = events
    assert isinstance(refusal, ResponseUnreadable)
    assert isinstance(refusal.error, ResponseTooLarge)
    assert (refusal.stream_id, refusal.error.size, refusal.error.limit) == (first, size, 100)
    assert "lower page_size" in str(refusal.error)
    assert (reply.stream_id, reply.message) == (second, VOID)
    assert (client.orphans, client.in_flight, client.unread) == (0, 0, 0)
    for _ in range(2):
        assert answered(client, VOID, sent(client), agreement=agreement).message == VOID


@agreements
def test_nothing_is_kept_of_a_reply_that_is_too_long(agreement: Agreement) -> None:
    client = ready_client(Limits(max_response=100), agreement=agreement)
    stream = too_long(agreement, sent(client), 2_000_000)
    pieces = [stream[begin : begin + 10_000] for begin in range(0, len(stream), 10_000)]
    tracemalloc.start()
    try:
        for piece in pieces:
            client.receive_data(piece)
            while client.next_event() is not None:
                pass
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert (client.in_flight, client.unread) == (0, 0)


@agreements
def test_the_reply_that_is_too_long_is_told_by_its_header(agreement: Agreement) -> None:
    """The rest may arrive late or never; then the end is not clean."""
    client = ready_client(Limits(max_response=100), agreement=agreement)
    stream_id = sent(client)
    stream = too_long(agreement, stream_id, 300_000)
    client.receive_data(stream[: len(stream) * 7 // 10])
    event = client.next_event()
    assert isinstance(event, ResponseUnreadable)
    assert (client.orphans, client.in_flight) == (1, 1)
    assert client.abandon(stream_id), "again"
    assert client.next_event() is None
    assert client.unread > 100_000
    client.receive_eof()
    ended = client.next_event()
    assert isinstance(ended, ConnectionEnded)
    assert not ended.clean


@agreements
def test_a_reply_that_is_too_long_and_that_nobody_wants_is_passed_over(
    agreement: Agreement,
) -> None:
    client = ready_client(Limits(max_response=100), agreement=agreement)
    stream_id = sent(client)
    client.abandon(stream_id)
    client.receive_data(too_long(agreement, stream_id, 200_000))
    assert client.next_event() is None
    assert (client.orphans, client.in_flight) == (0, 0)


@agreements
@pytest.mark.parametrize("what", ["stream", "event", "opcode", "version"])
def test_what_is_too_long_and_answers_nothing_is_no_frame(agreement: Agreement, what: str) -> None:
    """Otherwise a corrupted length would be trusted."""
    client = ready_client(Limits(max_response=100), agreement=agreement)
    stream_id = {"stream": 77, "event": -1}.get(what, sent(client))
    opcode = Opcode.SUPPORTED if what == "opcode" else Opcode.RESULT
    version = 3 if agreement.version is not V3 else 4
    if what != "version":
        version = agreement.version
    frame = write_frame(version | RESPONSE_BIT, 0, stream_id, opcode, bytes(200))
    refused(client, on_wire(agreement, frame), "the header announces 200")


@on_v5
def test_a_long_envelope_that_is_skipped_must_end_with_its_segment(agreement: Agreement) -> None:
    codec = agreement.codec
    client = ready_client(Limits(max_response=100), agreement=agreement)
    frame = write_frame(V5 | RESPONSE_BIT, 0, sent(client), Opcode.RESULT, bytes(200))
    for cut in (len(frame), 150):
        client = ready_client(Limits(max_response=100), agreement=agreement)
        sent(client)
        parts = (frame + b"\x85")[:cut], (frame + b"\x85")[cut:]
        for part in parts:
            client.receive_data(write_segment(part, self_contained=False, compressor=codec))
        assert isinstance(client.next_event(), ResponseUnreadable)
        if cut == len(frame):  # the byte behind it begins another one
            assert client.next_event() is None
        else:
            refused(client, b"", "more than one envelope")
    client = ready_client(Limits(max_response=100), agreement=agreement)
    sent(client)
    whole = write_segment(frame + b"\x85", self_contained=False, compressor=codec)
    client.receive_data(whole)
    assert isinstance(client.next_event(), ResponseUnreadable)
    refused(client, b"", "more than one envelope")


@pytest.mark.parametrize("name", ["lz4", "snappy"])
def test_a_reply_that_would_be_too_long_when_decompressed(name: str) -> None:
    pair = connected(compression=name, limits=Limits(max_response=2000))
    first, second = pair.client.send(REQUESTS["QUERY"]), pair.client.send(REQUESTS["QUERY"])
    pair.to_server()
    pair.server.reply(first, Rows.of(METADATA, 400, (b"\xff" * 8) * 400))
    pair.server.reply(second, VOID)
    refusal, reply = pair.to_client()
    assert isinstance(refusal, ResponseUnreadable)
    assert isinstance(refusal.error, ResponseTooLarge)
    assert refusal.error.size > 3200
    assert refusal.error.limit == 2000
    assert isinstance(reply, ResponseReceived)
    assert pair.client.in_flight == 0


def test_a_handshake_that_is_too_long_fails() -> None:
    client = ClientConnection(version=V4, limits=Limits(max_response=100))
    client.initiate()
    client.data_to_send()
    refused(
        client, write_frame(0x84, 0, 0, Opcode.SUPPORTED, bytes(200)), "the header announces 200"
    )


def test_what_the_server_supports() -> None:
    assert ClientConnection(version=V4).supported == {}
    assert isinstance(ready_client().supported, dict)


def test_the_reply_to_an_abandoned_request_is_not_even_read() -> None:
    client = ready_client()
    stream_id = sent(client)
    client.abandon(stream_id)
    client.receive_data(write_frame(0x84, 0xFF, stream_id, Opcode.READY, b"garbage"))
    assert client.next_event() is None
    assert client.orphans == 0


# -- answers to nothing


@agreements
@pytest.mark.parametrize("stream", [0, 1, 5, -1, -2, 32_767])
@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_an_error_about_the_connection_ends_it_in_the_servers_words(
    agreement: Agreement, stream: int, version: int
) -> None:
    client = ready_client(agreement=agreement)
    pending = [sent(client) for _ in range(3)]
    assert isinstance(answered(client, VOID, 1, agreement=agreement), ResponseReceived)
    error = Error(ErrorCode.PROTOCOL_ERROR, "I give up")
    flags = FLAG_BETA if version == 6 else 0
    frame = response_frame(error, stream, version=version, flags=flags)
    exc = refused(client, on_wire(agreement, frame), r"I give up \(0x000a\)")
    assert exc.error == error
    assert all(client.abandon(stream_id) for stream_id in pending)


def test_such_an_error_may_come_with_warnings_and_compressed() -> None:
    pair = connected(compression="lz4")
    body = bytearray(bytes.fromhex("0001 0001 77"))
    Error(ErrorCode.OVERLOADED, "x" * 99).write_body(body, V4)
    packed = bytes(4) + b"\x6a"  # a body that can't be unpacked
    frame = write_frame(0x84, FLAG_WARNING, 0, Opcode.ERROR, bytes(body))
    assert refused(pair.client, frame, "x" * 99).error is not None
    pair = connected(compression="lz4")
    frame = write_frame(0x84, FLAG_COMPRESSED, 0, Opcode.ERROR, packed)
    assert refused(pair.client, frame, "LZ4").error is None


@pytest.mark.parametrize("name", sorted(RESPONSES.keys() - {"ERROR"}))
@pytest.mark.parametrize("stream", [0, 1, 2, -2])
def test_any_other_answer_to_nothing_is_refused(name: str, stream: int) -> None:
    client = ready_client()
    assert isinstance(answered(client, VOID, sent(client)), ResponseReceived)
    exc = refused(client, response_frame(RESPONSES[name], stream), f"on stream {stream}, where")
    assert exc.error is None


@agreements
def test_a_second_answer_is_refused(agreement: Agreement) -> None:
    client = ready_client(agreement=agreement)
    frame = response_frame(VOID, sent(client), version=agreement.version)
    client.receive_data(on_wire(agreement, frame, frame))
    assert isinstance(client.next_event(), ResponseReceived)
    refused(client, b"", "where no request is in flight")


@agreements
@pytest.mark.parametrize("version", [0, 3, 4, 5, 127])
def test_an_answer_in_another_version_is_refused(agreement: Agreement, version: int) -> None:
    client = ready_client(agreement=agreement)
    if version != agreement.version:
        frame = response_frame(VOID, sent(client), version=version)
        refused(client, on_wire(agreement, frame), f"version 0x{version | 0x80:02x}")


# -- events


def test_an_event_with_warnings_is_read_behind_them() -> None:
    client = ready_client()
    event = RESPONSES["EVENT"]
    prefix = bytes.fromhex("0001 0001 77")
    pushed = answered(client, event, -1, flags=FLAG_WARNING, prefix=prefix)
    assert isinstance(event, Event)
    assert pushed.event == event.event


@pytest.mark.parametrize("stream", [-2, 0, 1])
def test_an_event_on_another_stream_is_refused(stream: int) -> None:
    refused(ready_client(), response_frame(RESPONSES["EVENT"], stream), f"on stream {stream}")


# -- metadata


def test_metadata_captured_when_sent_describes_rows_that_come_without() -> None:
    client = ready_client()
    first = client.send(Execute(b"id", ONE), metadata=METADATA)
    other = ResultMetadata.of(COLUMNS[::-1], V4)
    second = client.send(Execute(b"id", ONE), metadata=other)
    third = client.send(Execute(b"id", ONE))
    client.data_to_send()
    bare = Rows.of(METADATA, 2, CONTENT, skip_metadata=True)
    for stream_id, known in ((second, other), (first, METADATA), (third, None)):
        event = answered(client, bare, stream_id)
        assert event.message.metadata is known


@agreements
@pytest.mark.parametrize("flags", [0, FLAG_TRACING], ids=["hot", "traced"])
def test_unchanged_metadata_is_not_parsed_again_and_changed_metadata_serves(
    agreement: Agreement, flags: int
) -> None:
    client = ready_client(agreement=agreement)
    version = agreement.version
    known = prepared(version)
    binder = Binder(known, ONE, version)
    prefix = TRACE.bytes if flags else b""
    changed = Rows.of(ResultMetadata.of(COLUMNS[:1], V4), 1, bytes.fromhex("00000004 00000007"))
    sends: list[Callable[[], int]] = [
        lambda: client.send(execute(version), metadata=known.result),
        lambda: client.send_bound(binder, [1, "a"]),
    ]
    for send in sends:
        for reply, same in ((ROWS, True), (changed, False), (ROWS, True)):
            event = answered(client, reply, send(), agreement=agreement, flags=flags, prefix=prefix)
            assert (event.message.metadata is known.result) is same
            assert event.message.metadata == reply.metadata
            assert decode_rows(event.message) == decode_rows(reply)


# -- the handshake, as far as frames go


@pytest.mark.parametrize("state", WAITING)
@versions
def test_only_two_replies_of_a_handshake_may_have_another_version(
    state: State, version: ProtocolVersion
) -> None:
    """ERROR and SUPPORTED have the same layout in all versions."""
    other = V4 if version is not V4 else V5
    for name, response in responses_in(other).items():
        client = at(state, version)
        frame = response_frame(response, 0, version=other)
        expected = (state, Opcode(response.opcode)) in HANDSHAKE
        if version is V5 and state is State.AUTHENTICATING:
            frame = on_wire(Agreement(V5), frame)
        if name == "ERROR":
            client.receive_data(frame)
            assert isinstance(client.next_event(), HandshakeFailed)
        elif name == "SUPPORTED":
            client.receive_data(frame)
            if expected:
                assert client.next_event() is None
                assert client.state is State.STARTUP_SENT
            else:
                refused(client, b"", "the handshake is at")
        else:
            refused(client, frame, f"must have version v{version}, got version 0x8{other}")


@agreements
def test_the_handshake_by_hand(agreement: Agreement) -> None:
    client = ready_client(agreement=agreement)
    assert (client.version, client.state) == (agreement.version, State.READY)
    assert (client.in_flight, client.orphans, client.unsent) == (0, 0, 0)
    client = at(State.AUTHENTICATING, agreement.version)
    frame = response_frame(RESPONSES["AUTH_SUCCESS"], 0, version=agreement.version)
    client.receive_data(on_wire(Agreement(agreement.version), frame))
    assert isinstance(client.next_event(), HandshakeCompleted)
