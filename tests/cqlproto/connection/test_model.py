"""Both ends of a connection against a simple model, and the client against hostile peers."""

from __future__ import annotations

from collections import deque
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cqlproto import (
    ConnectionEnded,
    Limits,
    LocalProtocolError,
    Opcode,
    PushReceived,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
)
from cqlproto.enums import FLAG_COMPRESSED, FLAG_PAYLOAD, FLAG_TRACING, FLAG_WARNING
from cqlproto.frames import write_frame
from cqlproto.messages import (
    READY,
    VOID,
    BindMetadata,
    Error,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    QueryParameters,
    Register,
    Request,
    Response,
    Rows,
    SetKeyspace,
    TopologyChange,
)
from cqlproto.rows import Binder, decode_rows
from cqlproto.testing import responses
from tests.cqlproto.peers import (
    GARBAGE,
    METADATA,
    ONE,
    PREPARED,
    REQUESTS,
    V4,
    connected,
    cut,
    ready_client,
    response_frame,
    sent,
)

if TYPE_CHECKING:
    from cqlproto.testing import LinkedPair

STREAMS = 4
PADDING = st.sampled_from([0, 0, 400])
AMOUNT = st.none() | st.integers(0, 80)
alive = precondition(lambda machine: not machine.ended)


class Exchange(RuleBasedStateMachine):
    """Requests are numbered; a request and its answer carry the number in their text.

    Attributes:
        open: the ids that are taken, with the numbers of their requests.
        orphans: those of them that were abandoned after they had been sent.
        unsent, under_way, asked: where the requests are: with the client, in transit, with the
            server, which has to answer.
        told: what the server has said and the client not yet heard, each with the place in the
            stream of bytes where it ends.
    """

    pair: LinkedPair

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.numbers = 0
        self.open: dict[int, int] = {}
        self.orphans: set[int] = set()
        self.unsent: dict[int, Request] = {}
        self.under_way: dict[int, Request] = {}
        self.asked: dict[int, Request] = {}
        self.told: deque[tuple[int, int | TopologyChange, Response | None]] = deque()
        self.written = 0  # bytes that the server has said
        self.queued = 0  # those of them that have not left it
        self.heard = 0  # where the last message that has arrived ends

    @initialize(
        compression=st.sampled_from([None, "lz4", "snappy"]),
        split=st.none() | st.integers(1, 30) | st.lists(st.integers(0, 200), max_size=3),
    )
    def connect(self, compression: str | None, split: int | list[int] | None) -> None:
        limits = Limits(max_streams=STREAMS)
        self.pair = connected(compression=compression, limits=limits, split=split)

    # -- the client's side

    @alive
    @rule(kind=st.sampled_from(["query", "prepare", "bound", "register"]), padding=PADDING)
    def send(self, kind: str, padding: int) -> None:
        self.numbers += 1
        text = f"{self.numbers}:{'x' * padding}"
        binder = Binder(PREPARED, ONE, V4)
        requests: dict[str, Request] = {
            "query": Query(text, ONE),
            "prepare": Prepare(text),
            "register": Register([text]),
            "bound": execution(binder, [self.numbers, text]),
        }
        request = requests[kind]
        client = self.pair.client
        if len(self.open) == STREAMS:
            with pytest.raises(LocalProtocolError, match="in use"):
                client.send(request)
            return
        if kind == "bound":
            stream_id = client.send_bound(binder, [self.numbers, text])
        else:
            stream_id = client.send(request)
        assert 0 < stream_id <= STREAMS
        assert stream_id not in self.open
        self.open[stream_id] = self.numbers
        self.unsent[stream_id] = request

    @alive
    @rule(stream_id=st.integers(0, STREAMS + 1))
    def abandon(self, stream_id: int) -> None:
        assert self.pair.client.abandon(stream_id) is (stream_id not in self.unsent)
        if stream_id in self.unsent:
            del self.unsent[stream_id], self.open[stream_id]
        elif stream_id in self.open:
            self.orphans.add(stream_id)

    # -- the bytes

    @alive
    @rule(most=AMOUNT)
    def carry_to_server(self, most: int | None) -> None:
        self.under_way |= self.unsent
        self.unsent.clear()
        for event in self.pair.to_server(most):
            assert isinstance(event, RequestReceived)
            assert event.message == self.under_way.pop(event.stream_id)
            self.asked[event.stream_id] = event.message
        assert most is not None or not self.under_way

    @alive
    @rule(most=AMOUNT)
    def carry_to_client(self, most: int | None) -> None:
        heard = iter(self.pair.to_client(most))
        self.queued = 0
        arrived = self.written - self.pair.in_transit[1]
        while self.told and self.told[0][0] <= arrived:
            self.heard, what, message = self.told.popleft()
            if isinstance(what, TopologyChange):
                pushed = next(heard)
                assert isinstance(pushed, PushReceived)
                assert pushed.event == what
                continue
            del self.open[what]
            if what in self.orphans:
                self.orphans.remove(what)
                continue
            event = next(heard)
            assert isinstance(event, ResponseReceived)
            assert (event.stream_id, event.message) == (what, message)
        assert [*heard] == []
        assert most is not None or not self.told

    @alive
    @precondition(lambda machine: machine.numbers > 9)
    @rule()
    def cut(self) -> None:
        arrived = self.written - self.queued - self.pair.in_transit[1]
        [for_client], [for_server] = self.pair.cut()
        assert isinstance(for_client, ConnectionEnded)
        assert isinstance(for_server, ConnectionEnded)
        assert for_client.clean is (arrived == self.heard)
        for stream_id in [*self.open]:
            # even now it is known whether a request may have reached the server
            assert self.pair.client.abandon(stream_id) is (stream_id not in self.unsent)
        self.ended = True

    @precondition(lambda machine: machine.ended)
    @rule()
    def try_after_the_end(self) -> None:
        with pytest.raises(LocalProtocolError, match="closed"):
            self.pair.client.send(Options())
        assert (self.pair.to_server(), self.pair.to_client()) == ([], [])

    # -- the server's side

    @alive
    @precondition(lambda machine: machine.asked)
    @rule(data=st.data(), fails=st.booleans(), padding=PADDING)
    def answer(self, data: st.DataObject, fails: bool, padding: int) -> None:
        stream_id = data.draw(st.sampled_from(sorted(self.asked)))
        request = self.asked.pop(stream_id)
        text = f"{self.open[stream_id]}:{'y' * padding}"
        response: Response
        if fails:
            response = Error(0x0000, text)
        elif isinstance(request, Register):
            response = READY
        elif isinstance(request, Prepare):
            response = Prepared(text.encode(), None, BindMetadata(()), METADATA)
        elif isinstance(request, Query):
            response = SetKeyspace(text)
        else:
            cell = bytes.fromhex("00000004") + self.open[stream_id].to_bytes(4, "big")
            response = Rows.of(METADATA, 1, cell + b"\xff\xff\xff\xff")
        self.pair.server.reply(stream_id, response)
        self.say(stream_id, response)

    @alive
    @rule()
    def push(self) -> None:
        self.numbers += 1
        event = TopologyChange("NEW_NODE", (IPv6Address("::1"), self.numbers))
        self.pair.server.push(event)
        self.say(event, None)

    def say(self, what: int | TopologyChange, message: Response | None) -> None:
        self.written += self.pair.server.unsent - self.queued
        self.queued = self.pair.server.unsent
        self.told.append((self.written, what, message))

    @alive
    @rule(stream_id=st.integers(-1, STREAMS + 1))
    def answer_what_was_not_asked(self, stream_id: int) -> None:
        if stream_id not in self.asked:
            with pytest.raises(LocalProtocolError, match="nothing was asked"):
                self.pair.server.reply(stream_id, VOID)

    # -- what holds at any time

    @invariant()
    def the_client_knows_what_is_taken(self) -> None:
        if not self.ended:
            client = self.pair.client
            assert client.in_flight == len(self.open)
            assert client.orphans == len(self.orphans)
            assert client.available == STREAMS - len(self.open)

    def teardown(self) -> None:
        """In the end every request is answered, and every id free."""
        if self.ended or not hasattr(self, "pair"):
            return
        self.carry_to_server(None)
        for stream_id in [*self.asked]:
            error = Error(0x0000, "the end")
            self.pair.server.reply(stream_id, error)
            self.say(stream_id, error)
        self.carry_to_client(None)
        assert self.open == {}
        self.the_client_knows_what_is_taken()
        assert self.pair.in_transit == (0, 0)


def execution(binder: Binder, values: list[object]) -> Execute:
    parameters = QueryParameters(ONE.consistency, binder.cells(values))
    return Execute(PREPARED.statement_id, parameters)


TestExchange = Exchange.TestCase
TestExchange.settings = settings(max_examples=100, stateful_step_count=40)


@given(st.sampled_from(sorted(GARBAGE)), st.lists(st.integers(0, 100), max_size=4))
def test_garbage_after_an_answer(name: str, offsets: list[int]) -> None:
    client = ready_client()
    data = response_frame(VOID, sent(client)) + GARBAGE[name]
    events = []
    error = None
    for piece in cut(data, offsets):
        client.receive_data(piece)
        try:
            while (event := client.next_event()) is not None:
                events.append(event)
        except RemoteProtocolError as exc:
            error = exc
    assert [type(event) for event in events] == [ResponseReceived]
    with pytest.raises(RemoteProtocolError) as info:
        client.next_event()
    assert info.value is error


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0x84, 0x84, 0x84, 0x83, 0x85]),
            st.sampled_from([0, 0, FLAG_COMPRESSED, FLAG_TRACING, FLAG_PAYLOAD | FLAG_WARNING]),
            st.integers(-2, 7),
            st.sampled_from([*Opcode, 0x04, 0x7F]),
            st.binary(max_size=40) | responses(V4).map(lambda m: response_frame(m, 0)[9:]),
        ),
        max_size=8,
    ),
    st.sampled_from([None, "lz4", "snappy"]),
)
def test_nothing_but_events_and_protocol_errors(
    frames: list[tuple[int, int, int, int, bytes]], compression: str | None
) -> None:
    client = connected(compression=compression).client
    for request in REQUESTS.values():
        client.send(request)
    client.data_to_send()
    client.receive_data(b"".join(write_frame(*frame) for frame in frames))
    try:
        while (event := client.next_event()) is not None:
            assert isinstance(event, (ResponseReceived, PushReceived))
            repr(event)
            if isinstance(event, ResponseReceived) and isinstance(event.message, Rows):
                message = event.message
                if message.metadata is not None:
                    decode_rows(message, tuple)
    except RemoteProtocolError as exc:
        assert str(exc)
    assert client.in_flight <= len(REQUESTS)
