"""The proxy between sessions and the server of the tests, on sockets and in memory."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import VOID, Execute, Query, QueryParameters
from cqlproto_anyio.testing import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    FaultProxy,
    Garbage,
    Rule,
    Stall,
)
from cqlproto_anyio.testing._memory import MemoryStream
from tests.cqlproto_anyio.answers import echo, ints
from tests.cqlproto_anyio.server import Server, open_sockets, serving, start, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.uvloop

SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"
V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5


@pytest.fixture(params=["tcp", "memory"])
def way(request: pytest.FixtureRequest) -> str:
    """How clients reach the proxy, and it the server."""
    found: str = request.param
    return found


@asynccontextmanager
async def proxied(way: str, **options: Any) -> AsyncIterator[tuple[Server, FaultProxy]]:
    """A server that answers everything, and a proxy of it; no socket is left at the end."""
    before = open_sockets()
    async with serving() as server:
        server.answer = echo(server)
        if way == "tcp":
            proxy = FaultProxy("127.0.0.1", await server.listen(), seed=3, **options)
        else:
            proxy = FaultProxy("node", connector=server.connector, listen=None, seed=3, **options)
        async with proxy:
            yield server, proxy
        assert proxy.connections == 0
    await until(lambda: open_sockets() <= before)


def session(proxy: FaultProxy, way: str, **fields: Any) -> Any:
    fields.setdefault("connect_timeout", 2.0)
    if way == "tcp":
        return cql.connect(proxy.host, port=proxy.port, config=cql.Config(**fields))
    return cql.connect("node", config=cql.Config(connector=proxy.connector, **fields))


@pytest.fixture(params=[(V5, None), (V5, "lz4"), (V4, "lz4"), (V4, None)], ids=str)
def spoken(request: pytest.FixtureRequest) -> dict[str, Any]:
    version, compression = request.param
    return {"protocol_version": version, "compression": compression}


async def selected(it: cql.Session, number: int, timeout: float = 5) -> int:
    row = (await it.execute(SELECT, (number,), timeout=timeout)).one()
    found: int = row.v
    return found


async def test_many_requests_pass(way: str, spoken: dict[str, Any]) -> None:
    async with proxied(way) as (_, proxy), session(proxy, way, **spoken) as it:
        async with anyio.create_task_group() as group:
            outcomes = [start(group, partial(selected, it, number)) for number in range(300)]
        assert [outcome.result for outcome in outcomes] == list(range(300))
        assert proxy.connections == proxy.accepted >= 1
        assert list(proxy.log) == []


async def test_a_lost_reply_leaves_its_request_open(way: str, spoken: dict[str, Any]) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way, **spoken) as it:
        assert await selected(it, 1) == 1
        rule = proxy.add(Rule(Drop(), opcode="EXECUTE", statement=SELECT, times=1))
        with pytest.raises(cql.RequestTimeout):
            await selected(it, 2, timeout=0.1)
        assert rule.hits == 1
        assert [asked.number for asked in server.seen if isinstance(asked.message, Execute)] == [
            1,
            2,
        ]
        assert await selected(it, 3) == 3
        assert proxy.accepted == len(server.peers)  # nothing was closed
        assert proxy.log[-1].rule is rule


async def test_a_lost_request_never_arrives(way: str) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        proxy.add(Rule(Drop(), side="request", statement="TRUNCATE%"))
        with pytest.raises(cql.RequestTimeout):
            await it.execute("TRUNCATE t", timeout=0.1)
        assert server.texts_seen(Query) == []


async def test_the_proxy_answers(way: str, spoken: dict[str, Any]) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way, **spoken) as it:
        await it.prepare(SELECT)
        rule = proxy.add(Rule(Answer("UNAVAILABLE", alive=0), opcode="EXECUTE"))
        with pytest.raises(cql.Unavailable) as info:
            await selected(it, 1)
        assert info.value.alive == 0
        assert not [asked for asked in server.seen if isinstance(asked.message, Execute)]
        proxy.remove(rule)
        assert await selected(it, 2) == 2
        # prepared again where the node is said to have forgotten it
        proxy.add(Rule(Answer("UNPREPARED"), opcode="EXECUTE", times=1))
        assert await selected(it, 3) == 3


async def test_an_applied_write_times_out(way: str) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        proxy.add(Rule(Answer("WRITE_TIMEOUT"), side="reply", statement="INSERT%", opcode="QUERY"))
        with pytest.raises(cql.WriteTimeout):
            await it.execute("INSERT INTO t (k) VALUES (1)")
        assert len(server.texts_seen(Query)) == 1


async def test_a_delayed_reply_is_overtaken(way: str) -> None:
    async with proxied(way) as (_, proxy), session(proxy, way) as it:
        await it.prepare(SELECT)
        proxy.add(Rule(Delay(0.2), opcode="EXECUTE", times=1))
        took = {}

        async def ask(number: int) -> None:
            started = time.monotonic()
            assert await selected(it, number) == number
            took[number] = time.monotonic() - started

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 1)
            await anyio.sleep(0.02)
            group.start_soon(ask, 2)
        assert took[1] >= 0.2
        assert took[2] < 0.15


async def test_a_delayed_request_arrives_though_its_client_is_gone(way: str) -> None:
    async with proxied(way) as (server, proxy):
        proxy.add(Rule(Delay(0.3), side="request", statement="TRUNCATE%"))
        async with session(proxy, way) as it:
            with pytest.raises(cql.RequestTimeout):
                await it.execute("TRUNCATE t", timeout=0.05)
        assert server.texts_seen(Query) == []
        await until(lambda: server.texts_seen(Query) == ["TRUNCATE t"])
        await until(lambda: proxy.connections == 0)


async def test_delays_keep_their_order(way: str) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        proxy.add(Rule(Delay(0.05), side="request", opcode="QUERY"))
        texts = [f"TRUNCATE t{number}" for number in range(100)]
        async with anyio.create_task_group() as group:
            for text in texts:
                await anyio.lowlevel.checkpoint()
                start(group, partial(it.execute, text))
        assert server.texts_seen(Query) == texts


async def test_a_stall_is_silence_on_an_open_connection(way: str) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        await it.prepare(SELECT)
        rule = proxy.add(Rule(Stall(), opcode="EXECUTE", times=1))
        for _ in range(2):  # both ways
            with pytest.raises(cql.RequestTimeout):
                await selected(it, 1, timeout=0.1)
        assert rule.hits == 1
        assert server.texts_seen(Execute) == [SELECT]
        proxy.resume()
        assert await selected(it, 2) == 2
        rule = proxy.add(Rule(Stall(0.2), opcode="EXECUTE", times=1))
        started = time.monotonic()
        assert await selected(it, 3) == 3
        assert time.monotonic() - started >= 0.2
        # or sooner, if it is told to
        proxy.add(Rule(Stall(60), opcode="EXECUTE", times=1))
        async with anyio.create_task_group() as group:
            outcome = start(group, lambda: selected(it, 4))
            await anyio.sleep(0.05)
            assert not outcome.done
            proxy.resume()
        assert outcome.result == 4


@pytest.mark.parametrize(
    "fault",
    [
        Cut(),
        Cut(0),
        Cut(3),
        Cut(reset=True),
        Drop(connection=True),
        Drop(connection=True, reset=True),
        Corrupt(0, 0x01),
        Garbage(),
        Garbage(64),
    ],
    ids=repr,
)
async def test_a_connection_breaks(way: str, spoken: dict[str, Any], fault: Any) -> None:
    async with proxied(way) as (_, proxy), session(proxy, way, **spoken) as it:
        assert await selected(it, 1) == 1
        rule = proxy.add(Rule(fault, opcode="EXECUTE", times=1))
        with pytest.raises(cql.ConnectionFailed):
            await selected(it, 2)
        assert rule.hits == 1
        assert await selected(it, 3) == 3


async def test_a_spoilt_handshake_fails_to_connect(way: str, spoken: dict[str, Any]) -> None:
    for fault in (Cut(), Garbage(), Drop(connection=True), Answer("SERVER_ERROR")):
        for opcode in ("OPTIONS", "STARTUP"):
            async with proxied(way) as (_, proxy):
                proxy.add(Rule(fault, opcode=opcode))
                with pytest.raises((cql.ConnectionFailed, cql.DatabaseError)):
                    async with session(proxy, way, **spoken):
                        raise AssertionError


async def test_a_handshake_without_answer_times_out(way: str) -> None:
    async with proxied(way) as (_, proxy):
        proxy.add(Rule(Stall(), opcode="STARTUP"))
        with pytest.raises(cql.ConnectionFailed):
            async with session(proxy, way, connect_timeout=0.2):
                raise AssertionError


async def test_pausing(way: str) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        await it.prepare(SELECT)
        proxy.pause()
        proxy.pause()
        assert proxy.paused
        async with anyio.create_task_group() as group:
            outcome = start(group, lambda: selected(it, 7))
            await anyio.sleep(0.1)
            assert not outcome.done
            assert server.texts_seen(Execute) == []
            proxy.resume()
            proxy.resume()
        assert not proxy.paused
        assert outcome.result == 7


@pytest.mark.parametrize("reset", [False, True])
async def test_cutting_all(way: str, reset: bool) -> None:
    async with proxied(way) as (server, proxy), session(proxy, way) as it:
        server.answer = lambda asked: None
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: it.execute("TRUNCATE t")) for _ in range(5)]
            await server.until(lambda: len(server.asked) == 5)
            assert proxy.cut_all(reset=reset) == proxy.connections
        assert {type(outcome.error) for outcome in outcomes} == {cql.ConnectionLost}
        server.answer = echo(server)
        assert await selected(it, 7) == 7


async def test_refusing(way: str) -> None:
    async with proxied(way) as (_, proxy):
        async with session(proxy, way) as it:
            proxy.refuse = True
            proxy.refuse = True
            assert proxy.refuse
            for _ in range(2):
                with pytest.raises(cql.CQLError) as info:
                    async with session(proxy, way):
                        raise AssertionError
                assert isinstance(info.value, (cql.ConnectionFailed, cql.NoHostAvailable))
            assert await selected(it, 1) == 1  # what is open stays
            accepted = proxy.accepted
        proxy.refuse = False
        async with session(proxy, way) as it:
            assert await selected(it, 2) == 2
        assert proxy.accepted > accepted
        for value in (True, False, True, False):  # the accepting task needn't notice each
            proxy.refuse = value
        async with session(proxy, way) as it:
            assert await selected(it, 2) == 2


async def test_it_may_refuse_from_the_start_and_keeps_its_port() -> None:
    async with serving() as server:
        server.answer = echo(server)
        proxy = FaultProxy("127.0.0.1", await server.listen())
        proxy.refuse = True
        async with proxy:
            port = proxy.port
            with pytest.raises(OSError):
                await anyio.connect_tcp("127.0.0.1", port)
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))  # nobody else gets the port meanwhile
            proxy.refuse = False
            assert proxy.port == port
            async with session(proxy, "tcp") as it:
                assert await selected(it, 2) == 2


async def test_a_node_that_is_away_closes_the_connection(way: str) -> None:
    if way == "tcp":
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        await listener.aclose()
        proxy = FaultProxy("127.0.0.1", port)
    else:

        async def away(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
            raise ConnectionRefusedError(str(endpoint))

        proxy = FaultProxy("node", connector=away)
    async with proxy:
        with pytest.raises(cql.ConnectionFailed):
            async with session(proxy, way, connect_timeout=1):
                raise AssertionError
        await until(lambda: proxy.connections == 0)


# -- flow


async def _flood(stream: anyio.abc.ByteStream, data: bytes, most: int) -> int:
    """Send until nothing is taken any more; return how many bytes were."""
    sent = 0
    while sent < most:
        with anyio.move_on_after(1) as scope:
            await stream.send(data)
        if scope.cancelled_caught:
            break
        sent += len(data)
    return sent


async def _flood_socket(client: socket.socket, data: bytes, most: int) -> int:
    """The same with a bare socket, for what loops keep of their own mustn't count."""
    sent, last = 0, time.monotonic()
    while sent < most and time.monotonic() - last < 0.5:
        try:
            sent += client.send(data[sent % len(data) :])
        except BlockingIOError:
            await anyio.sleep(0.01)
        else:
            last = time.monotonic()
            await anyio.lowlevel.checkpoint()
    return sent


@pytest.mark.parametrize("held_up", ["the node", "a pause", "a stall", "delays"])
async def test_what_is_not_taken_is_not_kept(way: str, held_up: str) -> None:
    sent_to_node = 0

    class Sink(anyio.abc.ByteStream):
        async def send(self, item: bytes) -> None:
            nonlocal sent_to_node
            sent_to_node += len(item)
            if held_up == "the node":
                await anyio.sleep_forever()

        async def receive(self, max_bytes: int = 65536) -> bytes:
            await anyio.sleep_forever()
            raise AssertionError

        async def send_eof(self) -> None:
            pass

        async def aclose(self) -> None:
            pass

    async def reach(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        return Sink()

    body = bytearray()
    Query("x" * 100_000, QueryParameters(cql.Consistency.ONE)).write_body(body, V4)
    frame = b"\x04\0\0\1\7" + len(body).to_bytes(4, "big") + bytes(body)
    async with FaultProxy("node", connector=reach) as proxy:
        if held_up == "a pause":
            proxy.pause()
        elif held_up == "a stall":
            proxy.add(Rule(Stall(), side="request"))
        elif held_up == "delays":
            proxy.add(Rule(Delay(60), side="request"))
        if way == "tcp":
            with socket.create_connection((proxy.host, proxy.port)) as bare:
                bare.setblocking(False)
                taken = await _flood_socket(bare, frame, 64 << 20)
        else:
            client = await proxy.connector(proxy.node)
            taken = await _flood(client, frame, 64 << 20)
        # on TCP the system has buffers of its own, of 4 to 6 MiB each
        assert 0 < taken < (5 << 20) + (16 << 20 if way == "tcp" else 0)
        assert sent_to_node <= len(frame)


async def test_many_delayed_frames_are_bounded_too() -> None:
    async with FaultProxy("node", connector=_silent) as proxy:
        proxy.add(Rule(Delay(60), side="request"))
        client = await proxy.connector(proxy.node)
        options = b"\x04\0\0\1\5\0\0\0\0"
        taken = await _flood(client, options * 1000, 10_000_000)
        assert 32_768 * 9 <= taken < 33_000 * 9 + 3 * 65_536


async def _silent(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
    return MemoryStream.pair()[0]


async def test_what_is_not_cql_passes_unread(way: str) -> None:
    theirs: list[anyio.abc.ByteStream] = []

    async def reach(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        one, two = MemoryStream.pair()
        theirs.append(two)
        return one

    async with FaultProxy("node", connector=reach) as proxy:
        proxy.add(Rule(Drop()))
        if way == "tcp":
            client: anyio.abc.ByteStream = await anyio.connect_tcp(proxy.host, proxy.port)
        else:
            client = await proxy.connector(proxy.node)
        hello = bytes.fromhex("160301020001")
        await client.send(hello)
        await until(lambda: theirs)
        assert await theirs[0].receive() == hello
        await theirs[0].send(b"\x16\x03\x03")
        assert await client.receive() == b"\x16\x03\x03"
        assert proxy.log[0].note.startswith("relayed unread")
        # and a part of a frame passes when no more of it comes
        await client.aclose()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await theirs[0].receive()


# -- the block


class Oops(Exception):
    pass


async def test_an_error_of_the_body_leaves_as_it_is(way: str) -> None:
    error = Oops("mine")
    with pytest.raises(Oops) as info:
        async with proxied(way) as (_, proxy), session(proxy, way) as it:
            proxy.add(Rule(Delay(60), opcode="EXECUTE"))
            with pytest.raises(cql.RequestTimeout):
                await selected(it, 1, timeout=0.05)
            raise error
    assert info.value is error
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
async def test_so_does_what_is_no_exception(kind: type[BaseException]) -> None:
    error = kind()
    with pytest.raises(kind) as info:
        async with FaultProxy("127.0.0.1"):
            raise error
    assert info.value is error


async def test_outer_scopes_cancel_the_body(way: str) -> None:
    with anyio.move_on_after(0.05) as scope:
        async with proxied(way) as (_, proxy), session(proxy, way):
            await anyio.sleep(10)
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.05):
            async with FaultProxy("127.0.0.1"):
                await anyio.sleep(10)
    await anyio.sleep(0.01)  # nothing of the cancellation is left


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_asyncio_cancels_the_body() -> None:
    async def body() -> None:
        async with FaultProxy("127.0.0.1") as proxy:
            await proxy.connector(proxy.node)
            await anyio.sleep(10)

    task = asyncio.create_task(body())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await body()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_rule_that_fails_is_told_at_the_end(way: str) -> None:
    def broken(passage: object) -> bool:
        raise Oops("in a rule")

    with pytest.raises(Oops, match="in a rule"):
        async with proxied(way) as (_, proxy), session(proxy, way) as it:
            proxy.add(Rule(Drop(), opcode="EXECUTE", when=broken))
            with pytest.raises(cql.ConnectionLost):
                await selected(it, 1)
    with pytest.raises(ValueError, match="of the body") as info:
        async with proxied(way) as (_, proxy), session(proxy, way) as it:
            proxy.add(Rule(Drop(), opcode="EXECUTE", when=broken))
            with pytest.raises(cql.ConnectionLost):
                await selected(it, 1)
            raise ValueError("of the body")
    assert info.value.__notes__ == ["The fault proxy failed, too: Oops('in a rule')"]


async def test_it_can_be_entered_again_but_not_twice() -> None:
    proxy = FaultProxy("127.0.0.1", seed=5)
    assert repr(proxy) == "<FaultProxy not listening, for 127.0.0.1:9042, seed=5>"
    for _ in range(2):
        with pytest.raises(cql.UsageError, match="isn't listening"):
            _ = proxy.endpoint
        with pytest.raises(cql.UsageError, match="isn't running"):
            await proxy.connector(proxy.node)
        async with proxy:
            assert proxy.endpoint == cql.Endpoint(proxy.host, proxy.port)
            assert repr(proxy) == f"<FaultProxy {proxy.endpoint}, for 127.0.0.1:9042, seed=5>"
            with pytest.raises(cql.UsageError, match="running already"):
                async with proxy:
                    raise AssertionError


async def test_a_port_that_is_taken() -> None:
    before = open_sockets()
    async with FaultProxy("127.0.0.1") as proxy:
        with pytest.raises(OSError):
            async with FaultProxy("127.0.0.1", listen_port=proxy.port):
                raise AssertionError
    assert open_sockets() == before


async def test_without_a_listener() -> None:
    async with FaultProxy("node:9999", listen=None, connector=_silent) as proxy:
        assert proxy.node == cql.Endpoint("node", 9999)
        with pytest.raises(cql.UsageError, match="isn't listening"):
            _ = proxy.port
        proxy.refuse = True
        with pytest.raises(ConnectionRefusedError, match="node:9999"):
            await proxy.connector(proxy.node)


async def test_where_it_listens() -> None:
    async with FaultProxy("node", listen="::1", connector=_silent) as proxy:
        assert str(proxy.endpoint) == f"[::1]:{proxy.port}"
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
        await stream.aclose()
    with pytest.raises(cql.ConfigError, match="not an IP address"):
        FaultProxy("node", listen="localhost")


def test_seeds() -> None:
    assert FaultProxy(cql.Endpoint("a"), seed=4).seed == 4
    assert FaultProxy("a").seed != FaultProxy("a").seed


async def test_the_same_seed_strikes_the_same_requests(way: str) -> None:
    async def struck() -> list[int]:
        async with proxied(way) as (server, proxy), session(proxy, way) as it:
            server.answer = lambda asked: ints(1) if isinstance(asked.message, Query) else VOID
            rule = proxy.add(Rule(Answer("INVALID"), opcode="QUERY", probability=0.3))
            found = []
            for number in range(40):
                try:
                    await it.execute("SELECT v FROM t")
                except cql.InvalidQuery:
                    found.append(number)
            assert rule.hits == len(found)
            return found

    one = await struck()
    assert one == await struck()
    assert 3 < len(one) < 25
