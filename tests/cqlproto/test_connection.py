"""The client's end once it is ready: stream ids, replies, what is refused on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from cqlproto import (
    ConnectionEnded,
    ErrorCode,
    Limits,
    LocalProtocolError,
    PushReceived,
    RequestReceived,
    ResponseReceived,
)
from cqlproto._state import State
from cqlproto.enums import (
    FLAG_BETA,
    FLAG_COMPRESSED,
    FLAG_TRACING,
    FLAG_WARNING,
    Opcode,
)
from cqlproto.frames import HEADER_SIZE, write_frame
from cqlproto.messages import (
    READY,
    VOID,
    AuthResponse,
    Error,
    Event,
    Execute,
    Options,
    Query,
    ResultMetadata,
    Rows,
    SetKeyspace,
    Startup,
    UnknownEvent,
)
from cqlproto.rows import Binder, decode_rows
from tests.cqlproto.peers import (
    COLUMNS,
    CONTENT,
    LEGAL,
    METADATA,
    ONE,
    PREPARED,
    REQUESTS,
    RESPONSES,
    ROWS,
    V4,
    answered,
    connected,
    ready_client,
    refused,
    response_frame,
    sent,
)

if TYPE_CHECKING:
    from collections.abc import Callable


TRACE = UUID("12345678-1234-1234-1234-123456789abc")
SPLITS = pytest.mark.parametrize("split", [None, 1, 4, (9, 10)], ids=str)
COMPRESSIONS = pytest.mark.parametrize("compression", [None, "lz4", "snappy"])


# -- whole exchanges


@SPLITS
@COMPRESSIONS
def test_requests_are_answered(compression: str | None, split: Any) -> None:
    pair = connected(compression=compression, split=split)
    text = "SELECT * FROM t" + " " * 1000
    stream_id = pair.client.send(Query(text, ONE))
    assert pair.client.in_flight == 1
    [asked] = pair.to_server()
    assert (pair.in_transit, pair.to_server()) == ((0, 0), [])
    assert isinstance(asked, RequestReceived)
    assert (asked.stream_id, asked.message) == (stream_id, Query(text, ONE))
    assert (asked.tracing, asked.payload) == (False, None)
    rows = Rows.of(METADATA, 200, CONTENT * 100)
    pair.server.reply(stream_id, rows)
    [event] = pair.to_client()
    assert isinstance(event, ResponseReceived)
    assert event.stream_id == stream_id
    assert event.message == rows
    assert decode_rows(rows) == [(7, "a"), (8, None)] * 100
    assert (event.tracing_id, event.warnings, event.payload) == (None, (), None)
    assert pair.client.in_flight == 0


@SPLITS
@COMPRESSIONS
def test_warnings_tracing_id_and_payload_arrive(compression: str | None, split: Any) -> None:
    """v4 section 2.2"""
    pair = connected(compression=compression, split=split)
    payload = {"a": b"1" * 100, "b": None}
    stream_id = pair.client.send(REQUESTS["QUERY"], trace=True, payload=payload)
    [asked] = pair.to_server()
    assert isinstance(asked, RequestReceived)
    assert (asked.tracing, asked.payload) == (True, payload)
    for message in (VOID, ROWS, RESPONSES["ERROR"]):
        stream_id = pair.client.send(REQUESTS["QUERY"])
        pair.to_server()
        warnings = ["one", "two" * 100]
        pair.server.reply(stream_id, message, warnings=warnings, tracing_id=TRACE, payload=payload)
        [event] = pair.to_client()
        assert isinstance(event, ResponseReceived)
        assert event.message == message
        assert event.warnings == warnings
        assert event.tracing_id == TRACE
        assert event.payload == payload


@COMPRESSIONS
def test_bodies_are_compressed_where_that_makes_them_shorter(compression: str | None) -> None:
    pair = connected(compression=compression)
    pair.client.send(Query("x" * 1000, ONE))
    compressed = compression is not None
    data = pair.client.data_to_send()
    assert (len(data) < 200) is compressed
    assert data[1] == (FLAG_COMPRESSED if compressed else 0)
    pair.client.send(Query("short", ONE))
    assert pair.client.data_to_send()[1] == 0


def test_requests_of_one_turn_are_sent_together_and_replies_read_together() -> None:
    pair = connected()
    ids = [pair.client.send(REQUESTS["QUERY"]) for _ in range(50)]
    assert len(pair.to_server()) == 50
    for stream_id in reversed(ids):
        pair.server.reply(stream_id, SetKeyspace(str(stream_id)))
    events = pair.to_client()
    assert [event.stream_id for event in events if isinstance(event, ResponseReceived)] == [
        *reversed(ids)
    ]
    for event in events:
        assert isinstance(event, ResponseReceived)
        assert event.message == SetKeyspace(str(event.stream_id))


# -- what may answer what


@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize("name", RESPONSES)
def test_what_may_answer_a_request(asked: str, name: str) -> None:
    """v4 section 4.1, on both sides"""
    pair = connected()
    stream_id = pair.client.send(REQUESTS[asked])
    pair.to_server()
    response = RESPONSES[name]
    if name in LEGAL[asked]:
        pair.server.reply(stream_id, response)
        [event] = pair.to_client()
        assert isinstance(event, ResponseReceived)
        assert event.message == response
    else:
        with pytest.raises(LocalProtocolError, match="can't answer"):
            pair.server.reply(stream_id, response)
        assert pair.to_client() == []
        # nothing came of it: the right answer may still follow
        pair.server.reply(stream_id, RESPONSES["ERROR"])
        assert len(pair.to_client()) == 1
        stream_id = pair.client.send(REQUESTS[asked])
        pair.to_server()
        refused(pair.client, response_frame(response, stream_id), f"answers {asked}")


def test_an_illegal_answer_is_refused_with_flags_too() -> None:
    client = ready_client()
    stream_id = sent(client)
    frame = response_frame(PREPARED, stream_id, flags=FLAG_TRACING, prefix=TRACE.bytes)
    refused(client, frame, "Prepared answers QUERY")


@pytest.mark.parametrize("opcode", [0x04, 0x07, 0x11, 0xFF])
def test_opcodes_that_are_no_answer_at_all(opcode: int) -> None:
    client = ready_client()
    stream_id = sent(client)
    refused(client, write_frame(0x84, 0, stream_id, opcode, b""), f"opcode 0x{opcode:02x}")


@pytest.mark.parametrize(
    "message", [Startup({}), AuthResponse(b""), *RESPONSES.values()], ids=lambda m: type(m).__name__
)
def test_send_refuses_handshakes_and_responses(message: Any) -> None:
    client = ready_client()
    with pytest.raises(LocalProtocolError, match="belongs to the handshake|is no request"):
        client.send(message)
    assert (client.data_to_send(), client.in_flight, client.unsent) == (b"", 0, 0)
    assert client.send(Options()) == 1


# -- stream ids


def test_ids_are_free_again_when_the_reply_has_come() -> None:
    client = ready_client(Limits(max_streams=3))
    assert (client.in_flight, client.available) == (0, 3)
    ids = {sent(client) for _ in range(3)}
    assert ids == {1, 2, 3}
    assert (client.in_flight, client.available) == (3, 0)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="all 3 stream ids are in use"):
            client.send(REQUESTS["QUERY"])
        binder = Binder(PREPARED, ONE, V4)
        with pytest.raises(LocalProtocolError, match="all 3 stream ids are in use"):
            client.send_bound(binder, [1, "a"])
    assert client.data_to_send() == b""
    for stream_id in (2, 3, 2, 1):
        assert answered(client, VOID, stream_id).stream_id == stream_id
        assert sent(client) == stream_id


def test_as_many_requests_as_ids_have_bits_for() -> None:
    client = ready_client()
    for stream_id in range(1, 32_768):
        assert client.send(Options()) == stream_id
    with pytest.raises(LocalProtocolError, match="all 32767 stream ids"):
        client.send(Options())
    assert client.available == 0
    assert len(client.data_to_send()) == 32_767 * HEADER_SIZE
    assert isinstance(answered(client, RESPONSES["SUPPORTED"], 32_767), ResponseReceived)
    assert client.send(Options()) == 32_767


def test_an_abandoned_id_is_taken_until_its_reply_comes() -> None:
    client = ready_client(Limits(max_streams=2))
    first, second = sent(client), sent(client)
    assert client.abandon(first)
    assert (client.orphans, client.in_flight, client.available) == (1, 2, 0)
    assert client.abandon(first), "again"
    assert client.orphans == 1
    with pytest.raises(LocalProtocolError, match="in use"):
        client.send(Options())
    assert answered(client, ROWS, first) is None, "nobody wants it"
    assert (client.orphans, client.in_flight, client.available) == (0, 1, 1)
    assert sent(client) == first
    assert answered(client, VOID, first).stream_id == first
    assert answered(client, VOID, second).stream_id == second


def test_the_reply_to_an_abandoned_request_is_not_even_read() -> None:
    client = ready_client()
    stream_id = sent(client)
    client.abandon(stream_id)
    client.receive_data(write_frame(0x84, 0xFF, stream_id, Opcode.READY, b"garbage"))
    assert client.next_event() is None
    assert client.orphans == 0


def test_an_abandoned_request_that_was_not_sent_is_dropped() -> None:
    client = ready_client(Limits(max_streams=2))
    kept, dropped = client.send(Query("kept", ONE)), client.send(Query("dropped", ONE))
    assert client.unsent > 0
    assert not client.abandon(dropped)
    assert (client.orphans, client.in_flight) == (0, 1)
    assert client.send(Query("later", ONE)) == dropped
    data = client.data_to_send()
    assert b"kept" in data
    assert b"later" in data
    assert b"dropped" not in data
    assert client.data_to_send() == b""
    assert client.abandon(kept)


def test_abandoning_what_is_not_in_flight_does_nothing() -> None:
    client = ready_client()
    stream_id = sent(client)
    assert answered(client, VOID, stream_id).stream_id == stream_id
    for number in (stream_id, 0, -1, 77):
        assert client.abandon(number)
    assert (client.orphans, client.in_flight) == (0, 0)
    assert sent(client) == stream_id


def test_unsent_bytes_are_counted_and_forgotten() -> None:
    client = ready_client()
    assert client.unsent == 0
    first, second = client.send(Query("x" * 1000, ONE)), client.send(Query("y" * 1000, ONE))
    assert client.unsent == 2000 + 2 * (HEADER_SIZE + 4 + 3)
    client.abandon(first)
    client.abandon(second)
    assert client.unsent == 0
    client.send_bound(Binder(PREPARED, ONE, V4), [1, "a"])
    assert client.unsent == len(client.data_to_send())
    assert client.unsent == 0


# -- answers to nothing


@pytest.mark.parametrize("stream", [0, 1, 5, -1, -2, 32_767])
@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_an_error_about_the_connection_ends_it_in_the_servers_words(
    stream: int, version: int
) -> None:
    client = ready_client()
    pending = [sent(client) for _ in range(3)]
    assert isinstance(answered(client, VOID, 1), ResponseReceived)
    error = Error(ErrorCode.PROTOCOL_ERROR, "I give up")
    flags = FLAG_BETA if version == 6 else 0
    frame = response_frame(error, stream, version=version, flags=flags)
    exc = refused(client, frame, r"I give up \(0x000a\)")
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


def test_a_second_answer_is_refused() -> None:
    client = ready_client()
    frame = response_frame(VOID, sent(client))
    client.receive_data(frame + frame)
    assert isinstance(client.next_event(), ResponseReceived)
    refused(client, b"", "where nothing was asked")


@pytest.mark.parametrize("version", [0, 3, 5, 127])
def test_an_answer_in_another_version_is_refused(version: int) -> None:
    client = ready_client()
    frame = response_frame(VOID, sent(client), version=version)
    refused(client, frame, f"version 0x{version | 0x80:02x}")


# -- events


@SPLITS
@COMPRESSIONS
def test_events_are_pushed(compression: str | None, split: Any) -> None:
    """v4 section 4.2.6"""
    pair = connected(compression=compression, split=split)
    pair.client.send(REQUESTS["REGISTER"])
    pair.to_server()
    pair.server.reply(1, READY)
    event = RESPONSES["EVENT"]
    assert isinstance(event, Event)
    pushed = [event.event, UnknownEvent("ODD", b"x" * 500)]
    for one in pushed:
        pair.server.push(one)
    ready, *events = pair.to_client()
    assert isinstance(ready, ResponseReceived)
    assert [one.event for one in events if isinstance(one, PushReceived)] == pushed


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


@pytest.mark.parametrize("flags", [0, FLAG_TRACING], ids=["hot", "traced"])
def test_unchanged_metadata_is_not_parsed_again_and_changed_metadata_serves(flags: int) -> None:
    client = ready_client()
    binder = Binder(PREPARED, ONE, V4)
    prefix = TRACE.bytes if flags else b""
    changed = Rows.of(ResultMetadata.of(COLUMNS[:1], V4), 1, bytes.fromhex("00000004 00000007"))
    sends: list[Callable[[], int]] = [
        lambda: client.send(Execute(b"id", ONE), metadata=METADATA),
        lambda: client.send_bound(binder, [1, "a"]),
    ]
    for send in sends:
        for reply, same in ((ROWS, True), (changed, False), (ROWS, True)):
            event = answered(client, reply, send(), flags=flags, prefix=prefix)
            assert (event.message.metadata is METADATA) is same
            assert event.message.metadata == reply.metadata
            assert decode_rows(event.message) == decode_rows(reply)


# -- the end


def test_the_end_between_frames_is_clean_and_comes_last() -> None:
    client = ready_client()
    client.receive_data(response_frame(VOID, sent(client)))
    client.receive_eof()
    assert isinstance(client.next_event(), ResponseReceived)
    ended = client.next_event()
    assert isinstance(ended, ConnectionEnded)
    assert ended.clean
    assert client.next_event() is None
    assert client.state is State.CLOSED
    with pytest.raises(LocalProtocolError, match="after receive_eof"):
        client.receive_data(b"x")
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="not ready: closed"):
            client.send(Options())
    with pytest.raises(LocalProtocolError, match="not ready: closed"):
        client.send_bound(Binder(PREPARED, ONE, V4), [1, "a"])


def test_the_end_within_a_frame_is_not_clean() -> None:
    frame = response_frame(ROWS, 1)
    for length in range(1, len(frame)):
        client = ready_client()
        sent(client)
        client.receive_data(frame[:length])
        client.receive_eof()
        ended = client.next_event()
        assert isinstance(ended, ConnectionEnded)
        assert not ended.clean
        assert client.next_event() is None
