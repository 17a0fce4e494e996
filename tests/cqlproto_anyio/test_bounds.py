"""Limits on requests in flight, on requests that wait, and on unsent bytes."""

from __future__ import annotations

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.connection import Limits
from cqlproto_anyio.testing import snapshot
from tests.support.replies import echo, ints, preparing
from tests.support.server import (
    IDLE,
    State,
    idle,
    serving,
    start,
    state,
    turns,
    until,
)

pytestmark = pytest.mark.usefixtures("each_version")


SELECT = "SELECT v FROM t WHERE k = ?"
TEXT = "SELECT v FROM t WHERE k = {}"


def number(text: str) -> int:
    return int(text.rpartition(" ")[2])


async def test_requests_wait_for_their_turn_in_order() -> None:
    async with serving() as server, server.session(max_in_flight=3, max_waiting=100) as session:
        order: list[int] = []

        async def ask(number: int) -> None:
            await session.execute(TEXT.format(number))
            order.append(number)

        async with anyio.create_task_group() as group:
            for index in range(50):
                group.start_soon(ask, index)
                await turns(3)  # trio starts the tasks of one turn in any order
            assert state(session) == State(3, 0, 47, 50, 0)
            seen = []
            for _ in range(50):
                asked = await server.next()
                assert len(server.asked) <= 2
                assert state(session).in_flight <= 3
                seen.append(number(asked.text))
                asked.reply(ints(0))
        assert seen == list(range(50))
        assert sorted(order) == list(range(50))
        assert state(session) == IDLE


async def test_overloaded_when_too_many_wait() -> None:
    async with serving() as server, server.session(max_in_flight=2, max_waiting=3) as session:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                start(group, lambda: session.execute(TEXT.format(1)))
            await server.until(lambda: len(server.asked) == 2)
            waiting = [start(group, lambda: session.execute(TEXT.format(1))) for _ in range(3)]
            await until_waiting(session, 3)
            with pytest.raises(
                cql.Overloaded,
                match="3 requests wait for node:9042, .*max_waiting is 3: start fewer calls",
            ) as info:
                await session.execute("INSERT INTO t (k) VALUES (1)")
            assert info.value.maybe_applied is False
            assert info.value.host == "node:9042"
            # one request leaves the queue, so there is room for one
            waiting[-1].scope.cancel()
            await until_waiting(session, 2)
            last = start(group, lambda: session.execute(TEXT.format(2)))
            await until_waiting(session, 3)
            for _ in range(5):
                (await server.next()).reply(ints(0))
        assert last.result.one().v == 0
        assert state(session) == IDLE
        assert not any(each.text.startswith("INSERT") for each in server.seen)


async def until_waiting(session: cql.Session, count: int) -> None:
    await until(lambda: state(session).waiting == count)


async def test_who_waits_for_a_connection_counts_until_it_gives_up() -> None:
    async with serving() as server, server.session(max_waiting=5) as session:
        server.answer = echo(server)
        go_on = server.hold()
        await server.cut(session)
        async with anyio.create_task_group() as group:
            for _ in range(2):  # the second time, all earlier waiters have given up
                waiting = [start(group, lambda: session.execute(TEXT.format(1))) for _ in range(6)]
                await until(lambda: state(session).deadlines == 6)
                with pytest.raises(
                    cql.Overloaded, match="6 requests wait for a connection .*: start fewer calls"
                ):
                    await session.execute("INSERT INTO t (k) VALUES (1)")
                for outcome in waiting:
                    outcome.scope.cancel()
                await idle(session)
                await anyio.sleep(0.3)  # waiters that gave up are removed every quarter of a second
        go_on()
        assert (await session.execute(TEXT.format(1))).one().v == 0
        assert len(server.seen) == 1


async def test_no_waiting_at_all() -> None:
    async with serving() as server, server.session(max_in_flight=1, max_waiting=0) as session:
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute(TEXT.format(1)))
            asked = await server.next()
            with pytest.raises(cql.Overloaded):
                await session.execute(TEXT.format(2))
            asked.reply(ints(0))
        assert first.result.one().v == 0


async def test_the_deadline_covers_waiting() -> None:
    async with serving() as server, server.session(max_in_flight=1) as session:
        async with anyio.create_task_group() as group:
            start(group, lambda: session.execute(TEXT.format(1)))
            asked = await server.next()
            with pytest.raises(cql.RequestTimeout) as info:
                await session.execute("INSERT INTO t (k) VALUES (1)", timeout=0.2)
            assert info.value.maybe_applied is False
            assert state(session) == State(1, 0, 0, 1, 0)
            asked.reply(ints(0))
        assert len(server.seen) == 1


async def test_an_orphan_takes_a_place_until_its_reply() -> None:
    async with serving() as server, server.session(max_in_flight=2) as session:
        with pytest.raises(cql.RequestTimeout):
            await session.execute(TEXT.format(1), timeout=0.2)
        asked = await server.next()
        async with anyio.create_task_group() as group:
            second = start(group, lambda: session.execute(TEXT.format(2)))
            other = await server.next()
            third = start(group, lambda: session.execute(TEXT.format(3)))
            await turns()
            assert state(session) == State(2, 1, 1, 2, 0)
            asked.reply(ints(1))
            (await server.next()).reply(ints(3))
            other.reply(ints(2))
        assert (second.result.one().v, third.result.one().v) == (2, 3)


async def test_a_connection_full_of_orphans_is_replaced() -> None:
    async with serving() as server, server.session(max_in_flight=1) as session:
        with pytest.raises(cql.RequestTimeout):
            await session.execute(TEXT.format(1), timeout=0.2)
        await server.next()
        async with anyio.create_task_group() as group:
            second = start(group, lambda: session.execute(TEXT.format(2)))
            asked = await server.next()
            assert asked.peer is server.peers[1]
            asked.reply(ints(2))
        assert second.result.one().v == 2
        await until(lambda: server.peers[0].ended.is_set())
        assert not server.peers[1].ended.is_set()


async def test_a_request_dropped_unsent_makes_room() -> None:
    """A request is cancelled before it is sent; the one behind it must not wait forever."""
    async with serving() as server, server.session(max_in_flight=1) as session:
        server.answer = echo(server)
        for _ in range(40):  # the tasks of one turn run in any order on trio
            async with anyio.create_task_group() as group:
                first = start(group, lambda: session.execute(TEXT.format(1)))
                group.start_soon(cancelling, first.scope)
                second = start(group, lambda: session.execute(TEXT.format(2), timeout=5))
            assert second.result.one().v == 0
            await idle(session)


async def cancelling(scope: anyio.CancelScope) -> None:
    scope.cancel()


@pytest.mark.parametrize("room", [1, 2000])
async def test_dropped_unsent_bytes_make_room(room: int) -> None:
    async with serving() as server:
        server.capacity = 100
        server.answer = echo(server)
        async with server.session(max_unsent=room) as session:
            peer = server.peers[0]
            peer.pause()
            async with anyio.create_task_group() as group:
                first = start(group, lambda: session.execute(TEXT.format("1 " + " " * 5000)))
                await turns()  # being sent: not counted any more
                second = start(group, lambda: session.execute(TEXT.format("2 " + " " * 5000)))
                await turns()  # packed: more bytes than may be unsent
                third = start(group, lambda: session.execute(TEXT.format(3)))
                await turns()
                assert state(session).waiting == 1
                second.scope.cancel()
                await turns()
                assert state(session) == State(2, 0, 0, 2, 0)
                peer.reading.set()
            assert first.done and third.done
            assert not any("= 2" in each.text for each in server.seen)


async def test_a_server_that_stops_reading_stops_requests_and_goes_on() -> None:
    async with serving() as server:
        server.capacity = 4096
        server.answer = echo(server)
        async with server.session(max_unsent=20_000, max_waiting=10_000) as session:
            await session.prepare(SELECT)
            peer = server.peers[0]
            peer.pause()
            async with anyio.create_task_group() as group:
                outcomes = [
                    start(group, lambda index=index: session.execute(SELECT, (index,)))  # type: ignore[misc]  # a lambda with a default
                    for index in range(3000)
                ]
                await turns(30)
                stopped = state(session)
                assert stopped.waiting > 1000
                assert stopped.waiting + stopped.in_flight == 3000
                [connection] = snapshot(session).connections
                assert connection.unsent < 20_000 + 200
                peer.reading.set()
            assert [each.result.one().v for each in outcomes] == list(range(3000))
            assert state(session) == IDLE


async def test_cancelled_while_waiting_it_is_never_seen() -> None:
    async with serving() as server, server.session(max_in_flight=1) as session:
        server.answer = preparing(server)
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute(TEXT.format(1)))
            asked = await server.next()
            second = start(group, lambda: session.execute(TEXT.format(2)))
            third = start(group, lambda: session.execute(TEXT.format(3)))
            await turns()
            second.scope.cancel()
            await turns()
            asked.reply(ints(1))
            (await server.next()).reply(ints(3))
        assert (first.result.one().v, third.result.one().v) == (1, 3)
        assert [number(each.text) for each in server.seen] == [1, 3]


async def test_a_request_too_large_leaves_the_connection_usable() -> None:
    limits = Limits(max_request=10_000)
    async with serving() as server, server.session(limits=limits, max_in_flight=1) as session:
        server.answer = echo(server)
        long = TEXT.format("1" * 10_000)
        with pytest.raises(cql.RequestTooLarge, match="10,000"):
            await session.execute(long)
        with pytest.raises(cql.RequestTooLarge):
            await session.batch([long.replace("SELECT", "INSERT")])
        with pytest.raises(cql.RequestTooLarge):
            await session.prepare(long)
        with pytest.raises(cql.RequestTooLarge):
            await anext(session.stream(long))
        server.answer = lambda asked: None
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute(TEXT.format(1)))
            asked = await server.next()
            waiting = start(group, lambda: session.execute(long))
            last = start(group, lambda: session.execute(TEXT.format(3)))
            await turns()
            asked.reply(ints(1))
            (await server.next()).reply(ints(3))
        assert isinstance(waiting.error, cql.RequestTooLarge)
        assert waiting.error.maybe_applied is False
        assert (first.result.one().v, last.result.one().v) == (1, 3)
        assert len(server.peers) == 1
        assert state(session) == IDLE
