"""The proxy between sessions and the tests' server, on sockets and in memory."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import Execute, Query
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
from tests.cqlproto_anyio.testing.proxied import SELECT, proxied, selected, session
from tests.support.replies import echo
from tests.support.server import serving, start, until

pytestmark = pytest.mark.uvloop


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
        # prepared again if the node answers UNPREPARED
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
            started = anyio.current_time()
            assert await selected(it, number) == number
            took[number] = anyio.current_time() - started

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 1)
            await anyio.sleep(0.02)
            group.start_soon(ask, 2)
        assert took[1] == pytest.approx(0.2)
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
        for _ in range(2):  # both directions
            with pytest.raises(cql.RequestTimeout):
                await selected(it, 1, timeout=0.1)
        assert rule.hits == 1
        assert server.texts_seen(Execute) == [SELECT]
        proxy.resume()
        assert await selected(it, 2) == 2
        rule = proxy.add(Rule(Stall(0.2), opcode="EXECUTE", times=1))
        started = anyio.current_time()
        assert await selected(it, 3) == 3
        assert anyio.current_time() - started == pytest.approx(0.2)
        # or sooner, if the test ends the stall
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
            assert await selected(it, 1) == 1  # open connections stay
            accepted = proxy.accepted
        proxy.refuse = False
        async with session(proxy, way) as it:
            assert await selected(it, 2) == 2
        assert proxy.accepted > accepted
        for value in (True, False, True, False):  # the accepting task needn't notice each change
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
                other.bind(("127.0.0.1", port))  # no other program gets the port meanwhile
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
