"""A proxy's buffers, traffic that it can't parse, and the block that runs it."""

from __future__ import annotations

import asyncio
import socket

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import VOID, Query, QueryParameters
from cqlproto_anyio.testing import (
    Answer,
    Delay,
    Drop,
    FaultProxy,
    Rule,
    Stall,
)
from cqlproto_anyio.testing._memory import MemoryStream
from tests.cqlproto_anyio.testing.proxied import proxied, selected, session, silent
from tests.support.replies import ints
from tests.support.server import open_sockets, until

pytestmark = pytest.mark.uvloop

V4 = ProtocolVersion.V4


async def _flood(stream: anyio.abc.ByteStream, data: bytes, most: int) -> int:
    """Send until the peer reads no more; return how many bytes it took.

    In memory all tasks are blocked then, and only time passes.
    """
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < most:
            await stream.send(data)
            sent += len(data)

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    return sent


async def _flood_socket(client: socket.socket, data: bytes, most: int) -> int:
    """The same with a plain socket: buffers of the event loop must not count.

    It ends when the peer took nothing for a number of turns of the loop, however long they are: in
    each the proxy can read all that it wants. Together they last longer than TCP waits (0.2 s)
    before it asks whether a full window has room again.
    """
    sent, refused = 0, 0
    while sent < most and refused < 30:
        try:
            sent += client.send(data[sent % len(data) :])
        except BlockingIOError:
            refused += 1
            await anyio.sleep(0.01)
        else:
            refused = 0
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
        # on TCP the system has its own buffers, of 4 to 6 MiB each
        assert 0 < taken < (5 << 20) + (16 << 20 if way == "tcp" else 0)
        assert sent_to_node <= len(frame)


async def test_many_delayed_frames_are_bounded_too() -> None:
    async with FaultProxy("node", connector=silent) as proxy:
        proxy.add(Rule(Delay(60), side="request"))
        client = await proxy.connector(proxy.node)
        options = b"\x04\0\0\1\5\0\0\0\0"
        taken = await _flood(client, options * 1000, 10_000_000)
        assert 32_768 * 9 <= taken < 33_000 * 9 + 3 * 65_536


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
        # part of a frame passes when no more of it comes
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
    await anyio.sleep(0.01)  # no cancellation is pending


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
    assert info.value.__notes__ == ["The fault proxy failed as well: Oops('in a rule')"]


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
    async with FaultProxy("node:9999", listen=None, connector=silent) as proxy:
        assert proxy.node == cql.Endpoint("node", 9999)
        with pytest.raises(cql.UsageError, match="isn't listening"):
            _ = proxy.port
        proxy.refuse = True
        with pytest.raises(ConnectionRefusedError, match="node:9999"):
            await proxy.connector(proxy.node)


async def test_where_it_listens() -> None:
    async with FaultProxy("node", listen="::1", connector=silent) as proxy:
        assert str(proxy.endpoint) == f"[::1]:{proxy.port}"
        stream = await anyio.connect_tcp(proxy.host, proxy.port)
        await stream.aclose()
    with pytest.raises(cql.ConfigError, match="listen must be an IP address"):
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
