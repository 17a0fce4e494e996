"""Hostile bytes, and bytes that are not CQL: they lead to events or to a protocol error.

Nothing else may happen for any bytes, split in any way, in any state, at either end, for any
version and compression. The split makes no difference, and an error is final.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    HandshakeFailed,
    LocalProtocolError,
    RemoteProtocolError,
    ResponseReceived,
    ServerConnection,
)
from cqlproto._state import State
from cqlproto.messages import READY, VOID, Options, Query, Rows, Startup
from cqlproto.rows import decode_rows
from cqlproto.testing import corrupted, every_split, noise, request_frames, response_frames, splits
from tests.support.core_connections import (
    AGREEMENTS,
    GARBAGE,
    ONE,
    RESPONSES,
    ROWS,
    V5,
    WAITING,
    Agreement,
    agreements,
    at,
    on_v5,
    on_wire,
    prepared,
    ready_client,
    ready_server,
    request_frame,
    requests_in,
    response_frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

End = ClientConnection | ServerConnection


def busy_client(agreement: Agreement) -> ClientConnection:
    """A client with a request of each kind in flight, on streams 1 to 6, and two abandoned ones."""
    client = ready_client(agreement=agreement)
    requests = [*requests_in(agreement.version).values(), Query("x", ONE), Query("y", ONE)]
    for request in requests:
        client.send(request, metadata=prepared(agreement.version).result)
    client.data_to_send()
    assert client.abandon(len(requests))
    assert client.abandon(len(requests) - 1)
    return client


def waiting_server(agreement: Agreement) -> ServerConnection:
    server = ServerConnection()
    server.receive_data(request_frame(Startup({}), 0, version=agreement.version))
    assert server.next_event() is not None
    return server


def failed_client(agreement: Agreement) -> ClientConnection:
    client = at(State.OPTIONS_SENT, agreement.version)
    client.receive_data(response_frame(RESPONSES["ERROR"], 0, version=agreement.version))
    assert isinstance(client.next_event(), HandshakeFailed)
    return client


CLIENTS: dict[str, Callable[[Agreement], End]] = {
    "new": lambda agreement: at(State.NEW, agreement.version),
    **{
        state.value: lambda agreement, state=state: at(state, agreement.version)  # type: ignore[misc]
        for state in WAITING
    },
    "busy": busy_client,
    "failed": failed_client,
}
SERVERS: dict[str, Callable[[Agreement], End]] = {
    "fresh": lambda _: ServerConnection(),
    "waiting": waiting_server,
    "ready": lambda agreement: ready_server(agreement=agreement),
}
STATES = {"client": CLIENTS, "server": SERVERS}
roles = pytest.mark.parametrize("role", STATES)


class Outcome(NamedTuple):
    """The result of a stream of bytes: the events, and the error, if any."""

    events: list[str]
    error: str | None


def outcome(end: End, pieces: Iterable[bytes], *, eof: bool = False) -> Outcome:
    events: list[str] = []
    error: RemoteProtocolError | None = None
    for piece in [*pieces, b""]:
        end.receive_data(piece)
        try:
            while (event := end.next_event()) is not None:
                assert error is None, "nothing follows an error"
                events.append(repr(event))
                if isinstance(event, ResponseReceived) and isinstance(event.message, Rows):
                    look_at(event.message)
        except RemoteProtocolError as exc:
            assert error is None or exc is error, "the same error again"
            error = exc
            assert end.state is State.FAILED
    if eof:
        end.receive_eof()
        if error is None:
            ended = end.next_event()
            assert isinstance(ended, ConnectionEnded)
            events.append(repr(ended))
            assert end.next_event() is None
        else:
            with pytest.raises(RemoteProtocolError) as info:
                end.next_event()
            assert info.value is error
    text = None if error is None else str(error)
    if text is not None and text.startswith("not a CQL"):
        text = text[:16]  # the text shows what has come
    return Outcome(events, text)


def look_at(rows: Rows) -> None:
    """Decoding rows may raise a protocol error, and nothing else."""
    if rows.metadata is not None:
        with contextlib.suppress(RemoteProtocolError):
            decode_rows(rows, tuple)


@st.composite
def streams(draw: st.DrawFn, agreement: Agreement, role: str) -> bytes:
    """What a hostile or broken peer may send: noise, or corrupted messages."""
    version = agreement.version
    codec = None if version is V5 else agreement.codec
    if role == "client":
        right: Any = response_frames(version, compressor=codec)
    else:
        right = request_frames(version, compressor=codec)
    frames = []
    for framed in draw(st.lists(right, max_size=3)):
        if framed.frame.stream != -1 or draw(st.booleans()):
            framed.frame.stream = draw(st.integers(-1, 9))
        frame = bytes(framed)
        if draw(st.integers(0, 3)) == 0:
            frame = draw(corrupted(frame))  # under checksums that are right
        frames.append(frame)
    kind = draw(st.sampled_from(["wire", "wire", "frames", "spoiled", "noise", "behind"]))
    wire = b"".join(frames) if kind == "frames" else on_wire(agreement, *frames)
    if kind == "noise":
        return draw(noise())
    if kind == "spoiled" and wire:
        return draw(corrupted(wire))
    return wire + draw(noise()) if kind == "behind" else wire


@roles
@agreements
@settings(max_examples=25)
@given(data=st.data())
def test_events_or_a_protocol_error_and_no_matter_how_it_is_cut(
    role: str, agreement: Agreement, data: st.DataObject
) -> None:
    make = STATES[role][data.draw(st.sampled_from(sorted(STATES[role])))]
    stream = data.draw(streams(agreement, role))
    eof = data.draw(st.booleans())
    whole = outcome(make(agreement), [stream], eof=eof)
    single = [stream[i : i + 1] for i in range(len(stream))]
    assert outcome(make(agreement), single, eof=eof) == whole
    assert outcome(make(agreement), data.draw(splits(stream)), eof=eof) == whole


@roles
@pytest.mark.parametrize("name", GARBAGE)
def test_who_speaks_no_cql_is_refused_in_every_state(role: str, name: str) -> None:
    """At every split; a server takes some first bytes for an unsupported version."""
    for agreement in AGREEMENTS:
        for state, make in STATES[role].items():
            stream = GARBAGE[name] + bytes(40)
            whole = outcome(make(agreement), [stream])
            for pieces in every_split(stream):
                assert outcome(make(agreement), pieces) == whole
            if role == "client":
                assert whole.error is not None
            if state == "waiting" and agreement.version is V5:
                assert whole == ([], None), "nobody knows yet how to read it"


# -- version 5 notices every wrong bit


def talk(role: str, agreement: Agreement) -> tuple[End, list[bytes]]:
    """An end and segments with three messages each for it."""
    if role == "client":
        frames = [
            response_frame(ROWS, 5, version=V5),
            response_frame(VOID, 6, version=V5),
            response_frame(RESPONSES["EVENT"], -1, version=V5),
        ]
        return busy_client(agreement), [
            on_wire(agreement, frames[2], *frames[:1], frames[2]),
            on_wire(agreement, frames[1], frames[2], frames[2]),
        ]
    server = ready_server(agreement=agreement)
    frames = [request_frame(Query("x" * 30, ONE), n, version=V5) for n in range(6)]
    return server, [on_wire(agreement, *frames[:3]), on_wire(agreement, *frames[3:])]


@roles
@on_v5
def test_every_wrong_bit_of_v5_is_a_protocol_error(role: str, agreement: Agreement) -> None:
    """Before the error, an end reports only messages that were sent, segment by segment."""
    end, segments = talk(role, agreement)
    stream = b"".join(segments)
    said = outcome(end, [stream])
    assert (len(said.events), said.error) == (6, None)
    for bit in range(8 * len(stream)):
        wrong = bytearray(stream)
        wrong[bit // 8] ^= 1 << bit % 8
        heard = outcome(talk(role, agreement)[0], [bytes(wrong), stream])
        whole = 3 if bit // 8 >= len(segments[0]) else 0
        assert heard.events == said.events[:whole]
        assert heard.error is not None
        assert "checksum" in heard.error


@roles
@on_v5
@given(data=st.data())
def test_a_spoiled_stream_of_v5_tells_nothing_that_was_not_said(
    role: str, agreement: Agreement, data: st.DataObject
) -> None:
    """Up to the first corrupted segment; the zeros after the last segment are not a segment."""
    end, segments = talk(role, agreement)
    stream = b"".join(segments)
    said = outcome(end, [stream])
    wrong = data.draw(corrupted(stream))
    heard = outcome(talk(role, agreement)[0], data.draw(splits(wrong + bytes(200))))
    assert len(heard.events) in (0, 3, 6)
    assert heard.events == said.events[: len(heard.events)]
    assert heard.error is not None


# -- work


def steps(end: End, pieces: Iterable[bytes]) -> int:
    """Return how many function calls it takes to parse the bytes."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        for piece in pieces:
            end.receive_data(piece)
            while end.next_event() is not None:
                pass
    finally:
        sys.setprofile(before)
    return count


@roles
@agreements
@pytest.mark.parametrize("size", [1, 100, 1 << 30], ids=["byte by byte", "in pieces", "whole"])
def test_twice_the_bytes_are_twice_the_steps(role: str, agreement: Agreement, size: int) -> None:
    def spent(count: int) -> int:
        version = agreement.version
        if role == "client":
            end: End = busy_client(agreement)
            frames = [response_frame(RESPONSES["EVENT"], -1, version=version)] * count
        else:
            end = ready_server(agreement=agreement)
            frames = [request_frame(Options(), n, version=version) for n in range(count)]
        segments = [on_wire(agreement, *frames[i : i + 5]) for i in range(0, count, 5)]
        stream = b"".join(segments)
        return steps(end, [stream[i : i + size] for i in range(0, len(stream), size)])

    assert spent(400) < 2.1 * spent(200)


@agreements
def test_a_peer_that_goes_on_after_an_error_costs_no_more_than_its_bytes(
    agreement: Agreement,
) -> None:
    client = busy_client(agreement)
    assert outcome(client, [b"\x00" * 20]).error is not None
    with pytest.raises(LocalProtocolError, match="not ready: failed"):
        client.send(Options())
    for _ in range(3):
        client.receive_data(on_wire(agreement, response_frame(READY, 2, version=4)))
        with pytest.raises(RemoteProtocolError):
            client.next_event()
