"""Requests and their stream ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    ClientConnection,
    Limits,
    LocalProtocolError,
    MessageTooLarge,
    ProtocolVersion,
    RequestReceived,
    ResponseReceived,
)
from cqlproto._state import State
from cqlproto.enums import (
    FLAG_PAYLOAD,
    FLAG_TRACING,
)
from cqlproto.frames import HEADER_SIZE
from cqlproto.messages import (
    VOID,
    AuthResponse,
    Execute,
    Options,
    Query,
    QueryParameters,
    Rows,
    Startup,
)
from cqlproto.rows import Binder
from tests.support.core_connections import (
    CONTENT,
    METADATA,
    ONE,
    PREPARED,
    REQUESTS,
    RESPONSES,
    ROWS,
    V4,
    Agreement,
    agreements,
    answered,
    at,
    connected,
    on_wire,
    prepared,
    ready_client,
    ready_server,
    request_frame,
    sent,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("count", [0, -1, 32_768])
def test_max_streams_is_what_ids_have_bits_for(count: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"max_streams must be 1 to 32767, got {count}"):
        ClientConnection(limits=Limits(max_streams=count))


def test_nothing_is_sent_before_the_handshake_is_complete() -> None:
    for state in State:
        if state not in (State.NEW, State.READY, State.CLOSED):
            with pytest.raises(LocalProtocolError, match=f"not ready: {state.value}"):
                at(state).send(Options())


def test_a_trace_and_a_payload_are_asked_for_in_the_frame() -> None:
    """v4 section 2.2; v3 has no payloads"""
    for version in ProtocolVersion:
        client = ready_client(agreement=Agreement(version))
        stream_id = client.send(Options(), trace=True)
        frame = request_frame(Options(), stream_id, version=version, flags=FLAG_TRACING)
        assert client.data_to_send() == on_wire(Agreement(version), frame)
        if version.has_warnings:
            stream_id = client.send(Options(), payload={"k": None})
            prefix = bytes.fromhex("0001 0001 6b ffffffff")
            frame = request_frame(
                Options(), stream_id, version=version, flags=FLAG_PAYLOAD, prefix=prefix
            )
            assert client.data_to_send() == on_wire(Agreement(version), frame)
        else:
            with pytest.raises(LocalProtocolError, match="payload"):
                client.send(Options(), payload={})
            assert (client.in_flight, client.data_to_send()) == (1, b"")


def test_rows_are_read_by_the_metadata_given_when_the_request_was_sent() -> None:
    client = ready_client()
    stream_id = client.send(Execute(b"id", ONE), metadata=METADATA)
    client.data_to_send()
    reply = Rows.of(METADATA, 2, CONTENT, skip_metadata=True)
    assert answered(client, reply, stream_id).message.metadata is METADATA


@pytest.mark.parametrize(
    "message", [Startup({}), AuthResponse(b""), *RESPONSES.values()], ids=lambda m: type(m).__name__
)
def test_send_refuses_handshakes_and_responses(message: Any) -> None:
    client = ready_client()
    with pytest.raises(
        LocalProtocolError, match="must not belong to the handshake|must be a request"
    ):
        client.send(message)
    assert (client.data_to_send(), client.in_flight, client.unsent) == (b"", 0, 0)
    assert client.send(Options()) == 1


# -- stream ids


@agreements
def test_ids_are_free_again_when_the_reply_has_come(agreement: Agreement) -> None:
    client = ready_client(Limits(max_streams=3), agreement=agreement)
    assert (client.in_flight, client.available) == (0, 3)
    ids = {sent(client) for _ in range(3)}
    assert ids == {1, 2, 3}
    assert (client.in_flight, client.available) == (3, 0)
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="all 3 stream ids are in use"):
            client.send(REQUESTS["QUERY"])
        binder = Binder(prepared(agreement.version), ONE, agreement.version)
        with pytest.raises(LocalProtocolError, match="all 3 stream ids are in use"):
            client.send_bound(binder, [1, "a"])
    assert client.data_to_send() == b""
    for stream_id in (2, 3, 2, 1):
        assert answered(client, VOID, stream_id, agreement=agreement).stream_id == stream_id
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


@agreements
def test_an_abandoned_id_is_taken_until_its_reply_comes(agreement: Agreement) -> None:
    client = ready_client(Limits(max_streams=2), agreement=agreement)
    first, second = sent(client), sent(client)
    assert client.abandon(first)
    assert (client.orphans, client.in_flight, client.available) == (1, 2, 0)
    assert client.abandon(first), "again"
    assert client.orphans == 1
    with pytest.raises(LocalProtocolError, match="in use"):
        client.send(Options())
    assert answered(client, ROWS, first, agreement=agreement) is None, "nobody wants it"
    assert (client.orphans, client.in_flight, client.available) == (0, 1, 1)
    assert sent(client) == first
    assert answered(client, VOID, first, agreement=agreement).stream_id == first
    assert answered(client, VOID, second, agreement=agreement).stream_id == second


@agreements
def test_an_abandoned_request_that_was_not_sent_is_dropped(agreement: Agreement) -> None:
    client = ready_client(Limits(max_streams=2), agreement=agreement)
    kept, dropped = client.send(Query("kept", ONE)), client.send(Query("dropped", ONE))
    assert client.unsent > 0
    assert not client.abandon(dropped)
    assert (client.orphans, client.in_flight) == (0, 1)
    assert client.send(Query("later", ONE)) == dropped
    data = client.data_to_send()
    server = ready_server(agreement=agreement)
    server.receive_data(data)
    asked: list[Any] = [server.next_event(), server.next_event()]
    assert [event.message.query for event in asked] == ["kept", "later"]
    assert server.next_event() is None
    assert client.data_to_send() == b""
    assert client.abandon(kept)


@agreements
def test_abandoning_what_is_not_in_flight_does_nothing(agreement: Agreement) -> None:
    client = ready_client(agreement=agreement)
    stream_id = sent(client)
    assert answered(client, VOID, stream_id, agreement=agreement).stream_id == stream_id
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


# -- limits


@agreements
def test_a_message_too_large_leaves_the_connection_usable(agreement: Agreement) -> None:
    limits = Limits(max_request=100, max_streams=1)
    pair = connected(*agreement, limits=limits)
    overhead = len(request_frame(Query("", ONE), 1, version=agreement.version))
    binder = Binder(prepared(agreement.version), ONE, agreement.version)
    fits = 100 - len(binder.frame(1, [1, ""]))
    for _ in range(3):
        with pytest.raises(MessageTooLarge) as info:
            pair.client.send(Query("x" * (101 - overhead), ONE))
        assert (info.value.size, info.value.limit) == (101, 100)
        with pytest.raises(MessageTooLarge) as info:
            pair.client.send_bound(binder, [1, "x" * (fits + 1)])
        assert (info.value.size, info.value.limit) == (101, 100)
        assert (pair.client.data_to_send(), pair.client.in_flight) == (b"", 0)
        assert pair.client.unsent == 0
    sends: list[Callable[[], int]] = [
        lambda: pair.client.send(Query("x" * (100 - overhead), ONE)),
        lambda: pair.client.send_bound(binder, [1, "x" * fits]),
    ]
    for send in sends:
        assert send() == 1
        [asked] = pair.to_server()
        assert isinstance(asked, RequestReceived)
        pair.server.reply(1, VOID)
        assert len(pair.to_client()) == 1


def test_a_message_that_cannot_be_written_leaks_nothing() -> None:
    client = ready_client(Limits(max_streams=1))
    bad = Query("x", QueryParameters(ONE.consistency, page_size=0))
    with pytest.raises(LocalProtocolError, match="page"):
        client.send(bad)
    binder = Binder(PREPARED, ONE, V4)
    for values in ([1], ["not an int", "x"], [1, object()]):
        with pytest.raises((LocalProtocolError, ValueError)):
            client.send_bound(binder, values)
    assert (client.in_flight, client.unsent, client.data_to_send()) == (0, 0, b"")
    assert sent(client) == 1
