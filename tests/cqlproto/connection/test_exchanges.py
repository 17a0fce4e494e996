"""Both ends together, for every version and compression: one receives what the other sends."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    LocalProtocolError,
    PushReceived,
    RequestReceived,
    ResponseReceived,
)
from cqlproto.enums import FLAG_COMPRESSED
from cqlproto.messages import READY, VOID, Event, Query, Rows, SetKeyspace, UnknownEvent
from cqlproto.rows import Binder, decode_rows
from cqlproto.segments import MAX_PAYLOAD
from tests.support.core_connections import (
    CONTENT,
    LEGAL,
    METADATA,
    ONE,
    REQUESTS,
    RESPONSES,
    ROWS,
    TRACE,
    Agreement,
    agreements,
    connected,
    on_v5,
    on_wire,
    prepared,
    requests_in,
    response_frame,
    responses_in,
    unreadable,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto import ProtocolVersion

SPLITS = pytest.mark.parametrize("split", [None, 1, 4, (9, 10)], ids=str)


@SPLITS
@agreements
def test_requests_are_answered(agreement: Agreement, split: Any) -> None:
    pair = connected(*agreement, split=split)
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
@agreements
def test_warnings_tracing_id_and_payload_arrive(agreement: Agreement, split: Any) -> None:
    """v4 section 2.2; v3 has tracing only"""
    pair = connected(*agreement, split=split)
    more = agreement.version.has_warnings
    payload = {"a": b"1" * 100, "b": None} if more else None
    stream_id = pair.client.send(REQUESTS["QUERY"], trace=True, payload=payload)
    [asked] = pair.to_server()
    assert isinstance(asked, RequestReceived)
    assert (asked.tracing, asked.payload) == (True, payload)
    for message in (VOID, ROWS, RESPONSES["ERROR"]):
        stream_id = pair.client.send(REQUESTS["QUERY"])
        pair.to_server()
        warnings = ["one", "two" * 100] if more else ()
        pair.server.reply(stream_id, message, warnings=warnings, tracing_id=TRACE, payload=payload)
        [event] = pair.to_client()
        assert isinstance(event, ResponseReceived)
        assert event.message == message
        assert event.warnings == warnings
        assert event.tracing_id == TRACE
        assert event.payload == payload


@agreements
def test_requests_are_compressed_where_that_makes_them_shorter(agreement: Agreement) -> None:
    """In frames up to v4, in segments since (v4 section 5, v5 section 2.2)."""
    pair = connected(*agreement)
    text = "x" * 1000
    noise = "".join(chr(33 + byte % 90) for byte in hashlib.sha512(b"noise").digest())
    binder = Binder(prepared(agreement.version), ONE, agreement.version)
    sends: list[Callable[[str], int]] = [
        lambda text: pair.client.send(Query(text, ONE)),
        lambda text: pair.client.send_bound(binder, [1, text]),
    ]
    compressed = agreement.compression is not None
    for send in sends:
        send(text)
        data = pair.client.data_to_send()
        assert (len(data) < 200) is compressed
        assert (text.encode() in data) is not compressed
        if not agreement.version.has_segments:
            assert data[1] == (FLAG_COMPRESSED if compressed else 0)
        send(noise)
        data = pair.client.data_to_send()
        assert noise.encode() in data
        if agreement.version.has_segments:
            data = data[8 if compressed else 6 :]
        assert data[:2] == bytes([agreement.version, 0])


@agreements
def test_requests_of_one_turn_are_sent_together_and_replies_read_together(
    agreement: Agreement,
) -> None:
    pair = connected(*agreement)
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


@SPLITS
@agreements
def test_events_are_pushed(agreement: Agreement, split: Any) -> None:
    """v4 section 4.2.6"""
    pair = connected(*agreement, split=split)
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


@versions
@pytest.mark.parametrize("asked", REQUESTS)
@pytest.mark.parametrize("name", RESPONSES)
def test_what_may_answer_a_request(version: ProtocolVersion, asked: str, name: str) -> None:
    """v4 section 4.1, on both sides"""
    pair = connected(version)
    request, response = requests_in(version)[asked], responses_in(version)[name]
    stream_id = pair.client.send(request)
    pair.to_server()
    if name in LEGAL[asked]:
        pair.server.reply(stream_id, response)
        [event] = pair.to_client()
        assert isinstance(event, ResponseReceived)
        assert event.message == response
    else:
        with pytest.raises(LocalProtocolError, match="must not answer"):
            pair.server.reply(stream_id, response)
        assert pair.to_client() == []
        # nothing came of it: the right answer may still follow
        pair.server.reply(stream_id, RESPONSES["ERROR"])
        assert len(pair.to_client()) == 1
        stream_id = pair.client.send(request)
        pair.to_server()
        frame = response_frame(response, stream_id, version=version)
        unreadable(pair.client, on_wire(Agreement(version), frame), f"must not answer {asked}")
        assert pair.client.in_flight == 0


# -- segments


@on_v5
@pytest.mark.parametrize("split", [None, 1000, (3, 131_070, 131_085, 262_200)], ids=str)
@pytest.mark.parametrize(
    "size", [MAX_PAYLOAD - 100, MAX_PAYLOAD, MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 1_000_000]
)
def test_long_envelopes_take_several_segments_both_ways(
    agreement: Agreement, split: Any, size: int
) -> None:
    """v5 section 2: between short envelopes, compressible and incompressible."""
    noise = hashlib.shake_256(b"noise").hexdigest(size // 2)
    pair = connected(*agreement, split=split)
    for text in (noise, "x" * size):
        texts = ["a" * 8, text, "b" * 8, "c" * 8, text]
        ids = [pair.client.send(Query(one, ONE)) for one in texts]
        asked = pair.to_server()
        assert [event.message for event in asked if isinstance(event, RequestReceived)] == [
            Query(one, ONE) for one in texts
        ]
        answers = [Rows.of(METADATA, 1, one.encode(), skip_metadata=True) for one in texts]
        for stream_id, answer in zip(ids, answers, strict=True):
            pair.server.reply(stream_id, answer)
        told = [event for event in pair.to_client() if isinstance(event, ResponseReceived)]
        assert [event.stream_id for event in told] == ids
        for event, one in zip(told, texts, strict=True):
            assert isinstance(event.message, Rows)
            assert event.message.body[event.message.offset :] == one.encode()
    assert (pair.client.in_flight, pair.in_transit) == (0, (0, 0))


@on_v5
def test_what_leaves_together_shares_a_segment_and_is_heard_together(agreement: Agreement) -> None:
    pair = connected(*agreement)
    ids = [pair.client.send(Query(str(n), ONE)) for n in range(1000)]
    assert pair.to_server(0) == []
    most = pair.in_transit[0]
    assert pair.to_server(most - 1) == [], "its checksum is not complete"
    assert len(pair.to_server(1)) == 1000
    for stream_id in ids:
        pair.server.reply(stream_id, SetKeyspace(str(stream_id)))
    assert pair.to_client(0) == []
    most = pair.in_transit[1]
    assert pair.to_client(most - 1) == []
    events = pair.to_client(1)
    assert [event.stream_id for event in events if isinstance(event, ResponseReceived)] == ids


@on_v5
def test_a_request_that_nobody_waits_for_leaves_no_gap(agreement: Agreement) -> None:
    """It is dropped before the remaining requests are put into segments."""
    pair = connected(*agreement)
    dropped = pair.client.send(Query("x" * MAX_PAYLOAD, ONE))
    kept = pair.client.send(Query("kept", ONE))
    assert not pair.client.abandon(dropped)
    [asked] = pair.to_server()
    assert isinstance(asked, RequestReceived)
    assert (asked.stream_id, asked.message) == (kept, Query("kept", ONE))


@agreements
def test_versions_without_segments_have_frames_at_once(agreement: Agreement) -> None:
    """Before v5 the first of two frames is read without the second."""
    pair = connected(*agreement)
    pair.client.send(Query("a", ONE))
    pair.to_server(0)
    first = pair.in_transit[0]
    pair.to_server()
    for _ in range(2):
        pair.client.send(Query("a", ONE))
    assert len(pair.to_server(first)) == (not agreement.version.has_segments)
    assert len(pair.to_server()) == 1 + agreement.version.has_segments
