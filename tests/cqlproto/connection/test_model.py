"""Both ends of a connection against a simple model, for every version and compression.

A second model corrupts the bytes at some point, after which other rules hold.
"""

from __future__ import annotations

from collections import deque
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cqlproto import (
    Binder,
    ClientConnection,
    ConnectionEnded,
    Event,
    Limits,
    LocalProtocolError,
    PushReceived,
    RemoteProtocolError,
    RequestReceived,
    RequestUnreadable,
    ResponseReceived,
    ResponseUnreadable,
    ServerConnection,
)
from cqlproto._state import State
from cqlproto.messages import (
    READY,
    VOID,
    BindMetadata,
    Error,
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
from cqlproto.testing import LinkedPair, linked_pair, noise
from tests.support.core_connections import (
    AGREEMENTS,
    METADATA,
    ONE,
    Agreement,
    execute,
    prepared,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqlproto import Event
    from cqlproto.testing import LinkedPair

STREAMS = 4
PADDING = st.sampled_from([0, 0, 400])
AMOUNT = st.none() | st.integers(0, 80)
# Behind these, whatever stands before them is refused on v5.
ZEROS = bytes(1000)
Fault = tuple[str, int, bytes]
FAULTS = st.tuples(st.sampled_from(["flip", "insert", "cut"]), st.integers(0, 5000), noise())
alive = precondition(lambda machine: not machine.ended)


def with_fault(data: bytes, fault: Fault) -> bytes:
    """Return the bytes with an error somewhere."""
    kind, place, other = fault
    if not data:
        return other
    if kind == "flip":
        spoiled = bytearray(data)
        spoiled[place % len(data)] ^= 1 << place % 8
        return bytes(spoiled)
    at = place % (len(data) + 1)
    return data[:at] + other + (data[at:] if kind == "insert" else b"")


class FaultyClient(ClientConnection):
    """Corrupts its output once."""

    fault: Fault | None = None

    def data_to_send(self) -> bytes:
        data = super().data_to_send()
        fault, self.fault = self.fault, None
        return data if fault is None else with_fault(data, fault)


class FaultyServer(ServerConnection):
    """Corrupts its output once."""

    fault: Fault | None = None

    def data_to_send(self) -> bytes:
        data = super().data_to_send()
        fault, self.fault = self.fault, None
        return data if fault is None else with_fault(data, fault)


class Told(NamedTuple):
    """A message that the server has sent.

    Attributes:
        what: an event, or the stream of a response.
        message: the response.
        size: how many bytes its frame has.
    """

    what: int | TopologyChange
    message: Response | None
    size: int


def matches(one: Told, event: Event) -> bool:
    """Whether the event reports this message."""
    if isinstance(event, PushReceived):
        return event.event == one.what
    assert isinstance(event, ResponseReceived)
    return (event.stream_id, event.message) == (one.what, one.message)


class Exchange(RuleBasedStateMachine):
    """Requests are numbered; a request and its answer carry the number in their text.

    Attributes:
        open: the ids that are taken, with the numbers of their requests.
        orphans: those of them that were abandoned after they had been sent.
        unsent, under_way, asked: where the requests are: with the client, in transit, with the
            server, which has to answer.
        queued: what the server has said and still holds.
        told: what has left it and the client not yet heard, each with the place in the stream of
            bytes where it can be heard: the end of its frame, or on v5 of its segment.
    """

    pair: LinkedPair
    client: FaultyClient
    server: FaultyServer

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.numbers = 0
        self.open: dict[int, int] = {}
        self.orphans: set[int] = set()
        self.unsent: dict[int, Request] = {}
        self.under_way: dict[int, Request] = {}
        self.asked: dict[int, Request] = {}
        self.queued: list[Told] = []
        self.told: deque[tuple[int, Told]] = deque()
        self.written = 0  # bytes that have left the server
        self.heard = 0  # the place of the last message that has arrived

    @initialize(
        agreement=st.sampled_from(AGREEMENTS),
        split=st.none() | st.integers(1, 30) | st.lists(st.integers(0, 200), max_size=3),
    )
    def connect(self, agreement: Agreement, split: int | list[int] | None) -> None:
        self.version = agreement.version
        self.client = FaultyClient(
            version=agreement.version,
            compression=agreement.compression,
            limits=Limits(max_streams=STREAMS),
        )
        self.server = FaultyServer()
        self.pair = linked_pair(self.client, self.server, split=split)
        self.prepared = prepared(self.version)
        self.binder = Binder(self.prepared, ONE, self.version)

    # -- the client's side

    @alive
    @rule(kind=st.sampled_from(["query", "prepare", "bound", "register"]), padding=PADDING)
    def send(self, kind: str, padding: int) -> None:
        self.numbers += 1
        text = f"{self.numbers}:{'x' * padding}"
        values = [self.numbers, text]
        requests: dict[str, Request] = {
            "query": Query(text, ONE),
            "prepare": Prepare(text),
            "register": Register([text]),
            "bound": execute(
                self.version, QueryParameters(ONE.consistency, self.binder.cells(values))
            ),
        }
        request = requests[kind]
        if len(self.open) == STREAMS:
            with pytest.raises(LocalProtocolError, match="in use"):
                self.client.send(request)
            with pytest.raises(LocalProtocolError, match="in use"):
                self.client.send_bound(self.binder, values)
            return
        if kind == "bound":
            stream_id = self.client.send_bound(self.binder, values)
        else:
            stream_id = self.client.send(request)
        assert 0 < stream_id <= STREAMS
        assert stream_id not in self.open
        self.open[stream_id] = self.numbers
        self.unsent[stream_id] = request

    @alive
    @rule(stream_id=st.integers(0, STREAMS + 1))
    def abandon(self, stream_id: int) -> None:
        assert self.client.abandon(stream_id) is (stream_id not in self.unsent)
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
        self.hear_requests(self.pair.to_server(most))
        assert most is not None or not self.under_way

    def hear_requests(self, events: list[Event]) -> None:
        for event in events:
            assert isinstance(event, RequestReceived)
            assert event.message == self.under_way.pop(event.stream_id)
            self.asked[event.stream_id] = event.message

    @alive
    @rule(most=AMOUNT)
    def carry_to_client(self, most: int | None) -> None:
        self.let_leave()
        heard = iter(self.pair.to_client(most))
        arrived = self.written - self.pair.in_transit[1]
        while self.told and self.told[0][0] <= arrived:
            self.heard, one = self.told.popleft()
            self.hear(one, heard)
        assert [*heard] == []
        assert most is not None or not self.told

    def let_leave(self) -> None:
        """Record where in the stream each sent message ends."""
        before = self.pair.in_transit[1]
        assert self.pair.to_client(0) == []
        left = self.pair.in_transit[1] - before
        if self.version.has_segments:
            self.told += [(self.written + left, one) for one in self.queued]
        else:
            place = self.written
            for one in self.queued:
                place += one.size
                self.told.append((place, one))
            assert place == self.written + left
        assert (left > 0) is (len(self.queued) > 0)
        self.written += left
        self.queued.clear()

    def hear(self, one: Told, heard: Iterator[Event]) -> None:
        """A message has arrived: unless it was abandoned, it is the next event."""
        if self.is_wanted(one):
            assert matches(one, next(heard))
        if isinstance(one.what, int):
            del self.open[one.what]
            self.orphans.discard(one.what)

    def is_wanted(self, one: Told) -> bool:
        return not isinstance(one.what, int) or one.what not in self.orphans

    @alive
    @precondition(lambda machine: machine.numbers > 9)
    @rule()
    def cut(self) -> None:
        arrived = self.written - self.pair.in_transit[1]
        [for_client], [for_server] = self.pair.cut()
        assert isinstance(for_client, ConnectionEnded)
        assert isinstance(for_server, ConnectionEnded)
        assert for_client.clean is (arrived == self.heard)
        for stream_id in [*self.open]:
            # even now it is known whether a request may have reached the server
            assert self.client.abandon(stream_id) is (stream_id not in self.unsent)
        self.ended = True

    @precondition(lambda machine: machine.ended)
    @rule()
    def try_after_the_end(self) -> None:
        with pytest.raises(LocalProtocolError, match="closed|failed"):
            self.client.send(Options())

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
            metadata_id = self.prepared.result_metadata_id
            response = Prepared(text.encode(), metadata_id, BindMetadata(()), METADATA)
        elif isinstance(request, Query):
            response = SetKeyspace(text)
        else:
            cell = bytes.fromhex("00000004") + self.open[stream_id].to_bytes(4, "big")
            response = Rows.of(METADATA, 1, cell + b"\xff\xff\xff\xff")
        before = self.server.unsent
        self.server.reply(stream_id, response)
        self.queued.append(Told(stream_id, response, self.server.unsent - before))

    @alive
    @rule()
    def push(self) -> None:
        self.numbers += 1
        event = TopologyChange("NEW_NODE", (IPv6Address("::1"), self.numbers))
        before = self.server.unsent
        self.server.push(event)
        self.queued.append(Told(event, None, self.server.unsent - before))

    @alive
    @rule(stream_id=st.integers(-1, STREAMS + 1))
    def answer_what_was_not_asked(self, stream_id: int) -> None:
        if stream_id not in self.asked:
            with pytest.raises(LocalProtocolError, match="no request is pending"):
                self.server.reply(stream_id, VOID)

    # -- what holds at any time

    @invariant()
    def the_client_knows_what_is_taken(self) -> None:
        if not self.ended:
            assert self.client.in_flight == len(self.open)
            assert self.client.orphans == len(self.orphans)
            assert self.client.available == STREAMS - len(self.open)

    def teardown(self) -> None:
        """At the end every request has a reply and every id is free."""
        if self.ended or not hasattr(self, "pair"):
            return
        self.carry_to_server(None)
        for stream_id in [*self.asked]:
            error = Error(0x0000, "the end")
            before = self.server.unsent
            self.server.reply(stream_id, error)
            self.queued.append(Told(stream_id, error, self.server.unsent - before))
        self.carry_to_client(None)
        assert self.open == {}
        self.the_client_knows_what_is_taken()
        assert self.pair.in_transit == (0, 0)


class Spoiled(Exchange):
    """At some point the bytes from one end are corrupted, and nothing follows them.

    On v5 only messages that were sent may be reported then, and an error must follow. Before v5
    corrupted bytes may be frames: it is enough that nothing else is raised.
    """

    @alive
    @precondition(lambda machine: machine.numbers > 2)
    @rule(fault=FAULTS)
    def spoil_what_the_server_says(self, fault: Fault) -> None:
        sure = len(self.told)
        self.told += [(0, one) for one in self.queued]
        self.server.fault = fault
        heard = self.listen(self.pair.to_client, self.client)
        if self.version.has_segments:
            wanted = [one for _, one in self.told if self.is_wanted(one)]
            assert all(map(matches, wanted, heard))
            assert sum(self.is_wanted(one) for _, one in [*self.told][:sure]) <= len(heard)
            assert len(heard) <= len(wanted)
        self.end_both()

    @alive
    @precondition(lambda machine: machine.numbers > 2)
    @rule(fault=FAULTS)
    def spoil_what_the_client_says(self, fault: Fault) -> None:
        sure = {**self.under_way}
        self.under_way |= self.unsent
        self.client.fault = fault
        heard = self.listen(self.pair.to_server, self.server)
        if self.version.has_segments:
            self.hear_requests(heard)
            assert not sure.keys() & self.under_way.keys()
        self.end_both()

    def listen(
        self, carry: Callable[[], list[Event]], end: ClientConnection | ServerConnection
    ) -> list[Event]:
        """Return an end's events for all transferred bytes and the zeros after them."""
        heard: list[Event] = []
        errors: list[RemoteProtocolError] = []
        for data in (b"", ZEROS, b""):
            end.receive_data(data)
            try:
                heard += carry()
                heard += carry()
            except RemoteProtocolError as exc:
                errors.append(exc)
        assert all(error is errors[0] for error in errors)
        assert errors or not self.version.has_segments
        assert all(isinstance(event, HEARD) for event in heard)
        return heard

    def end_both(self) -> None:
        for end in (self.client, self.server):
            end.receive_eof()
            try:
                while end.next_event() is not None:
                    pass
            except RemoteProtocolError:
                assert end.state is State.FAILED
            else:
                assert end.state is State.CLOSED
        self.ended = True


HEARD = (
    ResponseReceived,
    ResponseUnreadable,
    PushReceived,
    RequestReceived,
    RequestUnreadable,
)

TestExchange = Exchange.TestCase
TestExchange.settings = settings(max_examples=120, stateful_step_count=40)
TestSpoiled = Spoiled.TestCase
TestSpoiled.settings = settings(max_examples=120, stateful_step_count=20)
