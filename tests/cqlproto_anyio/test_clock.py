"""Long waits: deadlines of seconds and of hours end exactly when they are due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID, Options, Supported
from tests.support.replies import ints, preparing
from tests.support.server import serving, start, state, turns, until

if TYPE_CHECKING:
    from tests.support.server import Peer

pytestmark = pytest.mark.uvloop

SELECT = "SELECT v FROM t WHERE k = ?"


async def test_the_default_deadline_is_ten_seconds() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        for call in (
            lambda: session.execute(SELECT, (1,)),
            lambda: session.execute("SELECT v FROM t"),
            lambda: session.page(SELECT, (1,)),
            lambda: session.batch(["INSERT INTO t (k) VALUES (1)"]),
            lambda: anext(session.stream(SELECT, (1,))),
        ):
            started = anyio.current_time()
            with pytest.raises(cql.RequestTimeout):
                await call()
            assert anyio.current_time() - started == pytest.approx(10)


async def test_each_deadline_is_met_to_the_point() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        took: dict[float, float] = {}

        async def ask(timeout: float) -> None:
            started = anyio.current_time()
            with pytest.raises(cql.RequestTimeout):
                await session.execute(SELECT, (1,), timeout=timeout)
            took[timeout] = anyio.current_time() - started

        async with anyio.create_task_group() as group:
            for timeout in (86_400.0, 3.0, 3600.0, 0.5, 60.0, 3.5):
                group.start_soon(ask, timeout)
                await anyio.sleep(0.25)
        assert list(took) == sorted(took)
        assert all(end == pytest.approx(timeout) for timeout, end in took.items())


async def test_no_timeout_waits_for_days() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        with anyio.move_on_after(1_000_000) as scope:
            await session.execute(SELECT, (1,), timeout=None)
        assert scope.cancelled_caught


@pytest.mark.parametrize(("discovery", "seconds"), [(False, 7), (True, 8)])
async def test_connecting_takes_its_timeout_for_each_contact_point(
    discovery: bool, seconds: float
) -> None:
    """Half a second apart if discovery reads one of them; all at once without discovery."""
    async with serving() as server:
        server.handshake = lambda asked: None
        config = server.config(connect_timeout=7, discovery=discovery)
        started = anyio.current_time()
        with pytest.raises(cql.NoHostAvailable) as info:
            async with cql.connect(["a", "b", "c"], config=config):
                pass
        assert anyio.current_time() - started == pytest.approx(seconds)
        attempts: Any = info.value.attempts
        assert sorted(attempt.host for attempt in attempts) == ["a:9042", "b:9042", "c:9042"]
        assert [attempt.elapsed for attempt in attempts] == [pytest.approx(7)] * 3


async def test_the_deadline_covers_preparing_and_executing_together() -> None:
    async with serving() as server, server.session() as session:

        async def slow() -> None:
            while True:
                asked = await server.next()
                await anyio.sleep(6)
                reply = preparing(server)(asked)
                if reply is not None:
                    asked.reply(reply)

        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            started = anyio.current_time()
            with pytest.raises(cql.RequestTimeout):
                await session.execute(SELECT, (1,), timeout=10)
            assert anyio.current_time() - started == pytest.approx(10)
            group.cancel_scope.cancel()


async def test_a_connection_that_is_replaced_serves_those_that_wait_for_it() -> None:
    """The connection has too many orphans, and no stream id is left for new requests."""
    async with (
        serving() as server,
        server.session(max_in_flight=10, max_orphans=5) as session,
        anyio.create_task_group() as group,
    ):
        reads = [start(group, lambda: session.execute("SELECT v FROM t")) for _ in range(10)]
        asked = await server.take_all(10)
        text = "INSERT INTO t (k) VALUES (1)"
        waiting = [start(group, lambda: session.execute(text, timeout=None)) for _ in range(3)]
        await until(lambda: state(session).waiting == 3)
        for outcome in reads:
            outcome.scope.cancel()
        await until(lambda: len(server.peers) == 2)
        new = start(group, lambda: session.execute(text))
        other = await server.next()
        assert other.peer is server.peers[1]
        other.reply(VOID)
        await anyio.sleep(60)
        assert not any(outcome.done for outcome in waiting)
        for each in asked:
            each.reply(ints(1))
        for each in await server.take_all(3):
            assert each.peer is server.peers[0]
            each.reply(VOID)
        await until(lambda: server.peers[0].ended.is_set())
    assert new.error is None
    assert [outcome.error for outcome in waiting] == [None] * 3


async def test_a_connection_that_is_replaced_is_asked_whether_it_lives() -> None:
    """A request without a deadline, waiting for a stream id, fails when the node is dead."""
    async with (
        serving() as server,
        server.session(max_orphans=5, heartbeat_interval=30.0) as session,
        anyio.create_task_group() as group,
    ):
        text = "INSERT INTO t (k) VALUES (1)"
        last = start(group, lambda: session.execute(text, timeout=None))
        reads = [start(group, lambda: session.execute("SELECT v FROM t")) for _ in range(6)]
        await server.take_all(7)
        for outcome in reads:
            outcome.scope.cancel()
        await until(lambda: len(server.peers) == 2)
        server.answer = lambda asked: Supported({}) if asked.peer is server.peers[1] else None
        await until_ended(server.peers[0], 66)
        assert isinstance(last.error, cql.ConnectionLost)
        assert "heartbeat" in str(last.error)
        assert last.error.maybe_applied is True
        assert not server.peers[1].ended.is_set()


async def test_a_connection_full_of_slow_requests_is_alive() -> None:
    """Its heartbeats are sent ahead of waiting requests, and answered."""
    async with (
        serving() as server,
        server.session(
            max_in_flight=2, max_connections_per_host=1, heartbeat_interval=2.0
        ) as session,
        anyio.create_task_group() as group,
    ):
        text = "INSERT INTO t (k) VALUES (1)"
        slow = [start(group, lambda: session.execute(text, timeout=60)) for _ in range(5)]
        asked = await server.take_all(2)
        server.answer = lambda asked: Supported({}) if type(asked.message) is Options else None
        await anyio.sleep(30)
        server.answer = lambda asked: VOID
        assert not any(outcome.done for outcome in slow)
        for each in asked:
            each.reply(VOID)
        await until(lambda: all(outcome.done for outcome in slow))
    assert [outcome.error for outcome in slow] == [None] * 5
    assert len(server.peers) == 1


async def until_ended(peer: Peer, seconds: float) -> None:
    with anyio.fail_after(seconds):
        await peer.ended.wait()
    await turns()
