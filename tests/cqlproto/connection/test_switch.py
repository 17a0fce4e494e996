"""The switch of version 5: the reply to STARTUP is a plain frame, segments follow it.

Both ends switch at the same byte, however bytes are split and whatever else is in transit (v5
section 2.3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    ErrorCode,
    HandshakeCompleted,
    PlainAuthenticator,
    PushReceived,
    RequestReceived,
    ResponseReceived,
    ServerConnection,
)
from cqlproto._state import State
from cqlproto.frames import EnvelopeReader
from cqlproto.messages import READY, AuthResponse, Error, Event, Options, Startup, Supported
from cqlproto.testing import every_split
from tests.support.core_connections import (
    GARBAGE,
    REQUESTS,
    RESPONSES,
    V4,
    V5,
    Agreement,
    Recorder,
    on_v5,
    on_wire,
    refused,
    request_frame,
    response_frame,
)

if TYPE_CHECKING:
    from cqlproto.messages import Request, Response

AUTHENTICATE, AUTH_SUCCESS = RESPONSES["AUTHENTICATE"], RESPONSES["AUTH_SUCCESS"]
QUERY = REQUESTS["QUERY"]
answers = pytest.mark.parametrize("answer", [READY, AUTHENTICATE], ids=["READY", "AUTHENTICATE"])


def pushed() -> Event:
    event = RESPONSES["EVENT"]
    assert isinstance(event, Event)
    return event


def said(message: Response, stream: int = 0) -> bytes:
    return response_frame(message, stream, version=V5)


def ask(message: Request, stream: int = 0) -> bytes:
    return request_frame(message, stream, version=V5)


def startup(agreement: Agreement) -> Startup:
    options = {"CQL_VERSION": "3.0.0"}
    if agreement.compression is not None:
        options["COMPRESSION"] = agreement.compression
    return Startup(options)


def a_client(agreement: Agreement) -> ClientConnection:
    """A client of v5 that has sent STARTUP."""
    client = ClientConnection(compression=agreement.compression, authenticator=Recorder())
    client.initiate()
    assert client.data_to_send() == ask(Options())
    client.receive_data(said(Supported({"COMPRESSION": ["lz4"]})))
    assert client.next_event() is None
    assert client.data_to_send() == ask(startup(agreement))
    return client


def a_server(agreement: Agreement) -> ServerConnection:
    """A server that has received a STARTUP of v5."""
    server = ServerConnection()
    asked(server, ask(startup(agreement)))
    return server


def asked(server: ServerConnection, data: bytes) -> Any:
    server.receive_data(data)
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    return event.message


def all_events(end: ClientConnection | ServerConnection) -> list[Any]:
    events = []
    while (event := end.next_event()) is not None:
        events.append(event)
    return events


def unwrapped(data: bytes, agreement: Agreement, *, responses: bool) -> list[bytes]:
    """Return the frames in segments."""
    reader = EnvelopeReader(max_body=1 << 20, responses=responses, compressor=agreement.codec)
    reader.feed(data)
    frames = []
    while (frame := reader.read()) is not None:
        frames.append(bytes(frame))
    assert reader.pending == 0
    return frames


# -- the client


@on_v5
@answers
def test_a_client_reads_segments_right_behind_the_answer(
    agreement: Agreement, answer: Response
) -> None:
    """At every split, with segments after the reply in the same read."""
    behind = [said(pushed(), -1), said(pushed(), -1)]
    if answer is AUTHENTICATE:
        behind.insert(0, said(AUTH_SUCCESS))
    data = said(answer) + on_wire(agreement, *behind[:1]) + on_wire(agreement, *behind[1:])
    for first, second in every_split(data):
        client = a_client(agreement)
        events = []
        for piece in (first, second):
            client.receive_data(piece)
            events += all_events(client)
        assert [type(event) for event in events] == [HandshakeCompleted, *[PushReceived] * 2]
        assert [event.event for event in events[1:]] == [pushed().event] * 2
        assert events[0].compression == agreement.compression
        assert client.state is State.READY
        sent = unwrapped(client.data_to_send(), agreement, responses=False)
        assert sent == ([ask(AuthResponse(b"first"))] if answer is AUTHENTICATE else [])
        client.send(QUERY)
        sent = unwrapped(client.data_to_send(), agreement, responses=False)
        assert sent == [ask(QUERY, 1)]


@on_v5
@answers
def test_a_client_takes_no_plain_frame_behind_the_answer(
    agreement: Agreement, answer: Response
) -> None:
    client = a_client(agreement)
    behind = said(AUTH_SUCCESS) if answer is AUTHENTICATE else said(pushed(), -1)
    client.receive_data(said(answer))
    assert len(all_events(client)) == (answer is READY)
    refused(client, behind, "checksum")


@on_v5
def test_a_client_takes_no_segment_before_the_answer(agreement: Agreement) -> None:
    client = a_client(agreement)
    data = on_wire(agreement, said(READY))
    assert data[0] < 0x80
    refused(client, data, "not a CQL response")


@on_v5
def test_an_error_does_not_switch_and_ends_the_handshake(agreement: Agreement) -> None:
    client = a_client(agreement)
    client.receive_data(said(RESPONSES["ERROR"]))
    assert len(all_events(client)) == 1
    assert client.state is State.FAILED
    refused(client, said(READY), "the handshake is at 'failed'")


@on_v5
def test_a_client_that_reads_everything_at_once_switches_between_what_it_sends(
    agreement: Agreement,
) -> None:
    """SUPPORTED and AUTHENTICATE in one read: STARTUP is a frame, AUTH_RESPONSE in a segment."""
    client = ClientConnection(
        compression=agreement.compression, authenticator=PlainAuthenticator("me", "secret")
    )
    client.initiate()
    options = client.data_to_send()
    client.receive_data(said(Supported({"COMPRESSION": ["lz4"]})) + said(AUTHENTICATE))
    assert all_events(client) == []
    plain = ask(startup(agreement))
    data = client.data_to_send()
    assert data.startswith(plain)
    sent = unwrapped(data[len(plain) :], agreement, responses=False)
    assert sent == [ask(AuthResponse(b"\0me\0secret"))]
    assert (client.data_to_send(), options) == (b"", ask(Options()))


# -- the server


@on_v5
@answers
def test_a_server_pauses_between_startup_and_its_answer(
    agreement: Agreement, answer: Response
) -> None:
    """At every split, with bytes after STARTUP in the same read."""
    data = ask(startup(agreement)) + on_wire(agreement, ask(QUERY, 1)) * 2
    stop = len(data) - len(on_wire(agreement, ask(QUERY, 1)))
    for first, second in every_split(data[:stop]):
        for answered_early in (False, True):
            server = ServerConnection()
            events = []
            for piece in (first, second):
                server.receive_data(piece)
                events += all_events(server)
                if answered_early and events and not server.unsent:
                    server.reply(0, answer)
                    events += all_events(server)
            if not answered_early:
                assert [event.message for event in events] == [startup(agreement)]
                server.reply(0, answer)
                events += all_events(server)
            assert [event.message for event in events] == [startup(agreement), QUERY]
            assert server.data_to_send() == said(answer)
            assert (server.unsent, server.version) == (0, V5)


@on_v5
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_what_comes_during_the_pause_is_read_as_the_answer_says(
    agreement: Agreement, garbage: bytes
) -> None:
    server = a_server(agreement)
    server.receive_data(garbage + bytes(20))
    for _ in range(3):
        assert server.next_event() is None
    server.reply(0, READY)
    refused(server, b"", "checksum")
    server = a_server(agreement)
    server.receive_data(ask(QUERY, 1))
    server.reply(0, READY)
    refused(server, b"", "checksum")


@on_v5
def test_an_error_to_startup_leaves_plain_and_another_startup_may_follow(
    agreement: Agreement,
) -> None:
    error = Error(ErrorCode.PROTOCOL_ERROR, "try again")
    behind = [ask(Options(), 1), ask(startup(agreement))]
    for together in (True, False):
        server = ServerConnection()
        server.receive_data(ask(startup(agreement)) + (b"".join(behind) if together else b""))
        assert len(all_events(server)) == 1
        server.reply(0, error)
        assert server.data_to_send() == said(error)
        if not together:
            server.receive_data(b"".join(behind))
        assert [event.message for event in all_events(server)] == [Options(), startup(agreement)]
        server.reply(0, READY)
        assert server.data_to_send() == said(READY)
        assert asked(server, on_wire(agreement, ask(QUERY, 2))) == QUERY


def test_after_an_error_the_next_startup_may_be_of_another_version() -> None:
    server = a_server(Agreement(V5, "lz4"))
    server.reply(0, RESPONSES["ERROR"])
    assert asked(server, request_frame(Startup({}), 0, version=V4)) == Startup({})
    server.reply(0, READY)
    assert server.data_to_send() == said(RESPONSES["ERROR"]) + response_frame(READY, 0)
    assert server.version is V4
    assert asked(server, request_frame(QUERY, 1)) == QUERY


@on_v5
def test_a_startup_after_the_switch_changes_nothing(agreement: Agreement) -> None:
    server = a_server(agreement)
    server.reply(0, READY)
    again = Startup({"COMPRESSION": "zstd"})
    assert asked(server, on_wire(agreement, ask(again))) == again
    assert asked(server, on_wire(agreement, ask(QUERY, 1))) == QUERY, "it does not pause"
    server.reply(0, READY)
    data = server.data_to_send()
    assert data.startswith(said(READY))
    rest = unwrapped(data[len(said(READY)) :], agreement, responses=True)
    assert rest == [said(READY)]


@on_v5
def test_a_client_that_goes_away_during_the_pause(agreement: Agreement) -> None:
    """Its bytes after STARTUP cannot be read, so the end is not clean."""
    behind = on_wire(agreement, ask(QUERY, 1))
    for data, clean in ((b"", True), (behind, False)):
        server = a_server(agreement)
        server.receive_data(data)
        server.receive_eof()
        ended = server.next_event()
        assert isinstance(ended, ConnectionEnded)
        assert ended.clean is clean
        assert server.next_event() is None
    server = a_server(agreement)
    server.receive_data(behind)
    server.reply(0, READY)
    server.receive_eof()
    assert [type(event) for event in all_events(server)] == [RequestReceived, ConnectionEnded]


# -- what leaves around the switch


@on_v5
@answers
def test_what_is_said_before_and_after_the_switch_leaves_at_once(
    agreement: Agreement, answer: Response
) -> None:
    supported = Supported({"COMPRESSION": ["lz4"] * 20})
    server = ServerConnection()
    for stream in (1, 2):
        assert asked(server, ask(Options(), stream)) == Options()
    assert asked(server, ask(startup(agreement))) == startup(agreement)
    server.reply(1, supported)
    server.push(pushed().event)
    server.reply(0, answer)
    server.push(pushed().event)
    server.reply(2, supported)
    plain = said(supported, 1) + said(pushed(), -1) + said(answer)
    assert server.unsent > len(plain)
    data = server.data_to_send()
    assert data.startswith(plain)
    rest = data[len(plain) :]
    assert unwrapped(rest, agreement, responses=True) == [said(pushed(), -1), said(supported, 2)]
    assert (server.data_to_send(), server.unsent) == (b"", 0)


@on_v5
def test_options_go_plain_before_startup_and_in_segments_later(agreement: Agreement) -> None:
    """v5 section 2.3.1, the note at its end"""
    server = ServerConnection()
    for _ in range(2):
        asked(server, ask(Options()))
        server.reply(0, RESPONSES["SUPPORTED"])
        assert server.data_to_send() == said(RESPONSES["SUPPORTED"])
    asked(server, ask(startup(agreement)))
    server.reply(0, READY)
    server.data_to_send()
    client = a_client(agreement)
    client.receive_data(said(READY))
    assert isinstance(client.next_event(), HandshakeCompleted)
    for _ in range(2):
        stream = client.send(Options())
        data = client.data_to_send()
        assert unwrapped(data, agreement, responses=False) == [ask(Options(), stream)]
        assert asked(server, data) == Options()
        server.reply(stream, RESPONSES["SUPPORTED"])
        data = server.data_to_send()
        assert data == on_wire(agreement, said(RESPONSES["SUPPORTED"], stream))
        client.receive_data(data)
        event = client.next_event()
        assert isinstance(event, ResponseReceived)
        assert event.message == RESPONSES["SUPPORTED"]
