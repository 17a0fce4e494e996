"""A connection without an event loop: its limits, its queue, and the end of its requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import cqlproto_anyio as cql
from cqlproto import ClientConnection, ProtocolVersion, RequestReceived, ServerConnection
from cqlproto.connection import Limits, handshake_reply
from cqlproto.enums import RESPONSE_BIT, Consistency, Opcode
from cqlproto.exceptions import ResponseTooLarge
from cqlproto.frames import write_frame
from cqlproto.messages import VOID, Query, QueryParameters, StatusChange
from cqlproto_anyio._eventloop.request import Detached
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio.exceptions import RequestTooLarge

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import Backend

WRITE, READ = "INSERT INTO t (k) VALUES (1)", "SELECT v FROM t"
ENDPOINT = cql.Endpoint("10.0.0.1")


class Owner:
    """Records the calls."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def at_watermark(self, connection: Connection) -> None:
        self.told.append("watermark")

    def too_many_orphans(self, connection: Connection) -> None:
        self.told.append("orphans")

    def doubtful(self, connection: Connection, *, skipping: bool) -> None:
        self.told.append(("doubtful", skipping))

    def connection_lost(self, connection: Connection) -> None:
        self.told.append(("lost", len(connection.requests)))


class Transfer:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.error: Exception | None = None

    def wake(self) -> None:
        if self.error is not None:
            raise self.error
        self.woken += 1

    async def flush(self) -> None:
        raise AssertionError("not called")

    async def run(self) -> None:
        raise AssertionError("not called")


class Fixture:
    """A connection after its handshake, and the server's end.

    Arguments:
        limits: of the protocol core.
        fields: fields of Config.

    Attributes:
        now: the time, in seconds.
        asked: the stream ids of requests that have arrived and are not answered.
    """

    def __init__(self, limits: Limits | None = None, **fields: Any) -> None:
        self.now = 100.0
        self.core = ClientConnection(version=ProtocolVersion.V4, limits=limits or Limits())
        self.server = ServerConnection()
        self.core.initiate()
        self.asked: list[int] = []
        while data := self.core.data_to_send():
            self._carry(data)
            self.core.receive_data(self.server.data_to_send())
            while self.core.next_event() is not None:
                pass
        self.transfer = Transfer()
        backend = SimpleNamespace(
            clock=lambda: self.now, transfer=lambda stream, sink: self.transfer
        )
        self.connection = Connection(
            cast("ByteStream", None),
            self.core,
            ENDPOINT,
            cast("Backend", backend),
            cql.Config(**fields),
        )
        self.owner = Owner()
        self.connection.owner = self.owner

    def _carry(self, data: bytes) -> None:
        self.server.receive_data(data)
        while (event := self.server.next_event()) is not None:
            assert isinstance(event, RequestReceived)
            supported = {"COMPRESSION": [], "CQL_VERSION": ["3.4.7"]}
            reply = handshake_reply(event.message, supported=supported)
            if reply is None or event.stream_id:
                self.asked.append(event.stream_id)
            else:
                self.server.reply(event.stream_id, reply)

    def submit(self, query: str = READ, *, first: bool = False) -> Detached:
        """Submit a request."""
        request = Detached(query, 10.0)
        request.call(lambda request: None)
        request.carry(Query(query, QueryParameters(Consistency.ONE)))
        if first:
            self.connection.submit_first(request)
        else:
            self.connection.submit(request)
        return request

    def send(self) -> None:
        """Carry what is queued to the server."""
        self._carry(self.connection.data_to_send())
        self.connection.sent()

    def reply(self, count: int = 1, *, direct: bool = False) -> None:
        """Let the server answer the oldest requests in one read."""
        for stream_id in self.asked[:count]:
            self.server.reply(stream_id, VOID)
        del self.asked[:count]
        self.connection.received(self.server.data_to_send(), direct=direct)


def frame(stream_id: int, body: bytes) -> bytes:
    version = ProtocolVersion.V4 | RESPONSE_BIT
    return write_frame(version, 0, stream_id, Opcode.RESULT, body)


# -- requests and replies


def test_each_reply_completes_its_request() -> None:
    fixture = Fixture()
    one, two, three = (fixture.submit() for _ in range(3))
    fixture.send()
    assert fixture.connection.in_flight == len(fixture.connection.requests) == 3
    assert fixture.connection.version is ProtocolVersion.V4
    assert fixture.connection.heard  # one that is new is not silent
    fixture.connection.heard = False
    fixture.asked = [fixture.asked[2], fixture.asked[0], fixture.asked[1]]
    fixture.reply()
    assert (one.done, two.done, three.done) == (False, False, True)
    assert three.value.message is not None
    assert three.host == "10.0.0.1:9042"
    assert fixture.connection.heard
    fixture.reply(2)
    assert one.done
    assert two.done
    assert fixture.connection.in_flight == len(fixture.connection.requests) == 0


@pytest.mark.parametrize("direct", [False, True])
def test_tasks_are_run_at_once_only_where_they_may_be(direct: bool) -> None:
    class Recording(Detached):
        __slots__ = ("how",)

        def answer(self, value: Any) -> None:
            self.how = "answer"
            super().complete(value)

        def complete(self, value: Any) -> None:
            self.how = "complete"
            super().complete(value)

    fixture = Fixture()
    request = Recording(READ, None)
    request.call(lambda request: None)
    request.carry(Query(READ, QueryParameters(Consistency.ONE)))
    fixture.connection.submit(request)
    fixture.send()
    fixture.reply(direct=direct)
    assert request.how == ("answer" if direct else "complete")


def test_a_silent_transfer_is_woken_once() -> None:
    fixture = Fixture()
    fixture.submit()
    fixture.submit()
    assert fixture.transfer.woken == 1
    fixture.connection.silent = True  # as the transfer sets it
    fixture.transfer.error = RecursionError()
    with pytest.raises(RecursionError):
        fixture.submit()
    fixture.transfer.error = None
    fixture.submit()
    assert fixture.transfer.woken == 2


def test_events_go_to_the_listener() -> None:
    fixture = Fixture()
    heard: list[Any] = []
    for listener in (None, heard.append):
        fixture.connection.listener = listener
        fixture.server.push(StatusChange("UP", (cast("Any", _address()), 9042)))
        fixture.connection.received(fixture.server.data_to_send(), direct=False)
    assert [event.change for event in heard] == ["UP"]


def _address() -> object:
    from ipaddress import ip_address

    return ip_address("10.0.0.2")


# -- limits


def test_requests_beyond_the_most_in_flight_wait_in_order() -> None:
    fixture = Fixture(max_in_flight=2)
    requests = [fixture.submit() for _ in range(5)]
    fixture.send()
    connection = fixture.connection
    assert (len(fixture.asked), connection.waiting, connection.backlog) == (2, 3, 3)
    fixture.reply()
    assert (connection.waiting, connection.backlog) == (2, 2)
    assert [request.stream_id != 0 for request in requests[1:]] == [True, True, False, False]
    fixture.send()
    fixture.reply(2)
    fixture.send()
    assert connection.waiting == 0
    fixture.reply(2)
    assert all(request.done for request in requests)


def test_a_request_that_comes_later_waits_behind_the_others() -> None:
    fixture = Fixture(max_in_flight=2)
    requests = [fixture.submit() for _ in range(3)]
    fixture.connection.abandon(requests[0])  # unsent: there is room for the third
    assert fixture.connection.waiting == 0
    last = fixture.submit()
    assert fixture.connection.waiting == 1
    assert last.stream_id == 0


def test_too_many_that_wait() -> None:
    fixture = Fixture(max_in_flight=2, max_waiting=3)
    for _ in range(5):
        fixture.submit()
    with pytest.raises(cql.Overloaded, match=r"^3 requests wait for 10.0.0.1:9042, where 2") as e:
        fixture.submit()
    assert e.value.host == "10.0.0.1:9042"
    assert fixture.connection.waiting == 3


def test_requests_wait_while_too_many_bytes_do() -> None:
    fixture = Fixture(max_unsent=100)
    requests = [fixture.submit("SELECT " + "v" * 60) for _ in range(4)]
    assert [request.stream_id != 0 for request in requests] == [True, True, False, False]
    fixture.send()
    assert [request.stream_id != 0 for request in requests] == [True] * 4
    assert fixture.owner.told == []  # that is no reason for another connection


def test_a_heartbeat_goes_ahead_of_those_that_wait() -> None:
    fixture = Fixture(max_in_flight=2)
    for _ in range(4):
        fixture.submit()
    heartbeat = fixture.submit(first=True)
    assert heartbeat.stream_id != 0
    assert heartbeat.host == "10.0.0.1:9042"
    assert fixture.connection.waiting == 2


def test_the_owner_is_told_once_of_the_watermark() -> None:
    fixture = Fixture(max_in_flight=10)
    fixture.connection.watch(3)
    for _ in range(3):
        fixture.submit()
    assert fixture.owner.told == []
    fixture.submit()
    fixture.submit()
    assert fixture.owner.told == ["watermark"]
    fixture.connection.watch(3)
    fixture.submit()
    assert fixture.owner.told == ["watermark"] * 2
    fixture.connection.watch(1000)  # no more than the most in flight
    for _ in range(4):
        fixture.submit()
    assert fixture.owner.told == ["watermark"] * 2
    assert fixture.connection.waiting == 0
    fixture.submit()
    assert fixture.connection.waiting == 1


def test_a_request_that_is_too_large() -> None:
    fixture = Fixture(Limits(max_request=1000))
    with pytest.raises(RequestTooLarge, match=r"1,?000"):
        fixture.submit("SELECT " + "v" * 2000)
    assert fixture.connection.requests == {}
    assert fixture.submit().stream_id != 0


def test_a_value_that_raises_fails_its_own_request_alone() -> None:
    class Fails:
        def frame(self, stream_id: int, values: object) -> bytes:
            raise ZeroDivisionError("a value")

    fixture = Fixture(max_in_flight=1)
    fixture.submit()
    broken = Detached(WRITE, None, cast("Any", Fails()))
    broken.call(lambda request: None)
    fixture.connection.submit(broken)
    last = fixture.submit()
    fixture.send()
    fixture.reply()
    assert isinstance(broken.error, ZeroDivisionError)
    assert last.stream_id != 0
    assert fixture.connection.waiting == fixture.connection.backlog == 0


# -- requests that are given up


def test_a_request_that_waits_is_forgotten() -> None:
    fixture = Fixture(max_in_flight=1)
    fixture.submit()
    waiting = fixture.submit()
    assert not fixture.connection.abandon(waiting)
    assert (fixture.connection.waiting, fixture.connection.backlog) == (0, 0)
    assert not fixture.connection.abandon(waiting)
    assert fixture.connection.backlog == 0


def test_a_request_that_was_not_sent_makes_room() -> None:
    fixture = Fixture(max_in_flight=1)
    unsent, waiting = fixture.submit(), fixture.submit()
    assert not fixture.connection.abandon(unsent)
    assert fixture.connection.orphans == 0
    assert waiting.stream_id != 0


def test_an_orphan_counts_until_its_reply_comes() -> None:
    fixture = Fixture(max_in_flight=2, max_orphans=1)
    one, two, three = (fixture.submit() for _ in range(3))
    fixture.send()
    connection = fixture.connection
    assert connection.abandon(one)
    assert connection.abandon(one)  # it is no more known
    assert (connection.orphans, connection.backlog, connection.in_flight) == (1, 2, 2)
    assert "orphans" not in fixture.owner.told
    assert three.stream_id == 0
    connection.heard = False
    fixture.reply()
    assert connection.heard
    assert (connection.orphans, connection.backlog) == (0, 0)
    assert three.stream_id != 0
    assert not two.done


def test_orphans_take_the_place_of_requests() -> None:
    fixture = Fixture(max_in_flight=2)
    orphan, _ = fixture.submit(), fixture.submit()
    fixture.send()
    fixture.connection.abandon(orphan)
    waiting = fixture.submit()
    assert waiting.stream_id == 0
    assert fixture.owner.told == ["watermark"]


def test_the_owner_is_told_of_too_many_orphans() -> None:
    fixture = Fixture(max_orphans=1)
    requests = [fixture.submit() for _ in range(2)]
    fixture.send()
    for request in requests:
        assert fixture.owner.told == []
        fixture.connection.abandon(request)
    assert fixture.owner.told == ["orphans"]


def test_orphans_that_fill_the_connection_are_too_many() -> None:
    fixture = Fixture(max_in_flight=2, max_orphans=2)
    requests = [fixture.submit() for _ in range(2)]
    fixture.send()
    for request in requests:
        fixture.connection.abandon(request)
    assert fixture.owner.told == ["orphans"]


# -- replies that can't be read


def test_an_unreadable_reply_fails_its_own_request() -> None:
    fixture = Fixture()
    broken, other = fixture.submit(WRITE), fixture.submit()
    fixture.send()
    fixture.connection.heard = False
    fixture.connection.received(frame(broken.stream_id, b"\0\0"), direct=False)
    error = broken.error
    assert isinstance(error, cql.RemoteProtocolError)
    assert (error.host, error.query, error.maybe_applied) == ("10.0.0.1:9042", WRITE, True)
    assert fixture.connection.heard
    assert fixture.owner.told == []
    assert not other.done


def test_a_reply_that_is_too_long_is_skipped_while_it_comes() -> None:
    fixture = Fixture(Limits(max_response=1000))
    long = fixture.submit()
    fixture.send()
    fixture.connection.heard = False
    data = frame(long.stream_id, b"\0" * 5000)
    fixture.connection.received(data[:2000], direct=False)
    assert isinstance(long.error, ResponseTooLarge)
    assert fixture.owner.told == [("doubtful", True)]
    assert not fixture.connection.heard
    fixture.connection.received(data[2000:], direct=False)
    assert fixture.submit().stream_id != 0


def test_an_unreadable_reply_to_an_orphan() -> None:
    fixture = Fixture()
    orphan = fixture.submit()
    fixture.send()
    fixture.connection.abandon(orphan)
    fixture.connection.received(frame(orphan.stream_id, b"\0\0"), direct=False)
    assert (fixture.connection.orphans, fixture.connection.backlog) == (0, 0)


def test_a_timeout_in_the_middle_of_a_frame_is_doubtful() -> None:
    fixture = Fixture()
    request = fixture.submit()
    fixture.send()
    fixture.connection.timed_out()
    assert fixture.owner.told == []
    fixture.connection.received(frame(request.stream_id, b"\0" * 100)[:50], direct=False)
    fixture.connection.timed_out()
    assert fixture.owner.told == [("doubtful", False)]
    assert fixture.connection.unread == 50
    fixture.connection.lose("reset", None)
    fixture.owner.told.clear()
    fixture.connection.timed_out()
    assert fixture.owner.told == []


# -- the end


def test_a_loss_fails_all_requests() -> None:
    fixture = Fixture(max_in_flight=3)
    sent = [fixture.submit(WRITE), fixture.submit(READ)]
    fixture.send()
    unsent, waiting = fixture.submit(WRITE), fixture.submit(WRITE)
    fixture.now += 7.0
    cause = OSError("reset")
    connection = fixture.connection
    connection.lose("the peer has reset it", cause)
    assert fixture.owner.told == ["watermark", ("lost", 3)]  # before the requests fail
    errors = [request.error for request in (*sent, unsent, waiting)]
    assert len({id(error) for error in errors}) == 4
    for error, query in zip(errors, (WRITE, READ, WRITE, WRITE), strict=True):
        assert isinstance(error, cql.ConnectionLost)
        assert (error.reason, error.stage) == ("the peer has reset it", "request")
        assert (error.host, error.elapsed, error.query) == ("10.0.0.1:9042", 7.0, query)
        assert error.__cause__ is cause
    applied = [error.maybe_applied for error in errors if isinstance(error, cql.CQLError)]
    assert applied == [True, False, False, False]
    assert (connection.waiting, connection.backlog, connection.requests) == (0, 0, {})
    connection.lose("again", None)
    assert isinstance(connection.lost, cql.ConnectionLost)
    assert connection.lost.reason == "the peer has reset it"
    assert len(fixture.owner.told) == 2


@pytest.mark.parametrize("first", [False, True])
def test_a_lost_connection_takes_no_requests(first: bool) -> None:
    fixture = Fixture()
    fixture.connection.give_up("it is old")
    with pytest.raises(cql.ConnectionLost, match="it is old") as caught:
        fixture.submit(WRITE, first=first)
    assert (caught.value.query, caught.value.maybe_applied) == (WRITE, False)


def test_closing_fails_all_requests() -> None:
    fixture = Fixture()
    request = fixture.submit(WRITE)
    fixture.send()
    closed = cql.SessionClosed("the session is closed")
    closed.__cause__ = cause = OSError("a bug")
    fixture.connection.close(closed)
    error = request.error
    assert type(error) is cql.SessionClosed
    assert error is not closed
    assert (error.__cause__, error.maybe_applied) == (cause, True)
    assert fixture.connection.lost is closed
    assert fixture.owner.told == [("lost", 1)]
    fixture.connection.close(cql.SessionClosed("again"))
    assert fixture.connection.lost is closed


@pytest.mark.parametrize(
    ("received", "said"),
    [(b"", "closed the connection"), (b"\x84\0", "in the middle of a frame")],
)
def test_the_server_closes_its_side(received: bytes, said: str) -> None:
    fixture = Fixture()
    fixture.connection.received(received, direct=False)
    fixture.connection.ended()
    assert isinstance(fixture.connection.lost, cql.ConnectionLost)
    assert fixture.connection.lost.reason.endswith(said)
