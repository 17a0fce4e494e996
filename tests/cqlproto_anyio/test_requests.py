"""Many requests on one connection: each gets its own answer, while others are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

import cqlproto_anyio as cql
from tests.support import server as scripted
from tests.support.replies import echo, ints, preparing
from tests.support.server import IDLE, State, idle, serving, start, state, turns

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.support.server import Server

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.futures,
    pytest.mark.usefixtures("each_version"),
]

SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"

only_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
only_trio = pytest.mark.parametrize("anyio_backend", ["trio"])


async def test_a_thousand_requests_answered_in_any_order() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        found: dict[int, int] = {}

        async def ask(number: int) -> None:
            found[number] = (await session.execute(SELECT, (number,))).one().v

        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(ask, number)
            asked = await server.take_all(1000)
            assert len({each.stream_id for each in asked}) == 1000
            random.Random(7).shuffle(asked)
            for each in asked:
                each.reply(ints(each.number))
        assert found == {number: number for number in range(1000)}
        assert state(session) == IDLE


async def late_replies_go_to_nobody(server: Server, session: cql.Session, count: int) -> None:
    """Check that ``count`` abandoned, unanswered requests don't affect later answers."""
    abandoned = await server.take_all(count)
    assert state(session) == State(count, count, 0, 0, 0)
    async with anyio.create_task_group() as group:
        later = [
            start(group, lambda number=number: session.execute(SELECT, (number,)))  # type: ignore[misc]  # a lambda with a default
            for number in range(500, 500 + count)
        ]
        asked = await server.take_all(count)
        assert not {each.stream_id for each in asked} & {each.stream_id for each in abandoned}
        for old, new in zip(abandoned, asked, strict=True):
            old.reply(ints(-1))
            new.reply(ints(new.number))
    assert [outcome.result.one().v for outcome in later] == list(range(500, 500 + count))
    assert state(session) == IDLE
    # the stream ids are free again: no more are needed than were in use at a time
    async with anyio.create_task_group() as group:
        for number in range(2 * count):
            start(group, lambda number=number: session.execute(SELECT, (number,)))  # type: ignore[misc]  # a lambda with a default
        again = await server.take_all(2 * count)
        used = {each.stream_id for each in [*abandoned, *asked]}
        assert {each.stream_id for each in again} <= {*used, 1}
        for each in again:
            each.reply(ints(0))


async def test_a_late_reply_after_a_timeout_is_nobodys() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        async with anyio.create_task_group() as group:
            timed = [
                start(group, lambda: session.execute(SELECT, (1,), timeout=0.2)) for _ in range(20)
            ]
        for outcome in timed:
            error = outcome.error
            assert isinstance(error, cql.RequestTimeout)
            assert isinstance(error, TimeoutError)
            assert (error.timeout, error.host) == (0.2, "node:9042")
            assert error.maybe_applied is False
            assert SELECT in str(error)
        await late_replies_go_to_nobody(server, session, 20)


async def test_a_write_that_timed_out_may_have_been_applied() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        for query, parameters in [(INSERT, (1,)), ("INSERT INTO t (k) VALUES (1)", None)]:
            with pytest.raises(cql.RequestTimeout) as info:
                await session.execute(query, parameters, timeout=0.2)
            assert info.value.maybe_applied is True
        with pytest.raises(cql.RequestTimeout) as info:
            await session.batch([INSERT.replace("?", "2")], timeout=0.2)
        assert info.value.maybe_applied is True


async def test_a_late_reply_after_cancellation_is_nobodys() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(20)]
            await server.until(lambda: len(server.asked) == 20)
            for outcome in outcomes:
                outcome.scope.cancel()
        assert not any(outcome.done for outcome in outcomes)
        await late_replies_go_to_nobody(server, session, 20)


async def test_anyio_timeouts() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        for _ in range(2):
            with pytest.raises(TimeoutError) as info, anyio.fail_after(0.2):
                await session.execute(SELECT, (1,))
            assert not isinstance(info.value, cql.RequestTimeout)
        await late_replies_go_to_nobody(server, session, 2)


@only_asyncio
async def test_native_asyncio_cancellation_and_timeouts() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        task = asyncio.create_task(session.execute(SELECT, (1,)))
        await server.until(lambda: len(server.asked) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.execute(SELECT, (2,))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(session.execute(SELECT, (3,)), 0.2)
        await late_replies_go_to_nobody(server, session, 3)


@only_asyncio
async def test_native_cancellation_when_the_reply_has_just_arrived() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        races = 0
        for delay in range(12):
            task = asyncio.create_task(session.execute(SELECT, (delay,)))
            (await server.next()).reply(ints(delay))
            for _ in range(delay):
                await asyncio.sleep(0)
            if state(session).in_flight == 0 and not task.done():
                races += 1  # answered, but the task has not run yet: the race that is tested
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task).one().v == delay
            await idle(session)
        # if a reply runs its task at once, there is no such race
        assert (races == 0) is scripted.pushes
        server.answer = echo(server)
        assert (await session.execute(SELECT, (77,))).one().v == 77


def loop_factories() -> list[Any]:
    """Return the event loops' ways of making tasks that this Python has."""
    factories = [None]
    if sys.version_info >= (3, 12):
        factories.append(asyncio.eager_task_factory)
    return factories


@only_asyncio
@pytest.mark.parametrize(
    "factory", loop_factories(), ids=["lazy", "eager"][: len(loop_factories())]
)
async def test_task_factories(factory: Any) -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    try:
        async with serving() as server, server.session() as session:
            server.answer = echo(server)

            async def ask(number: int) -> int:
                value: int = (await session.execute(SELECT, (number,))).one().v
                return value

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(number)) for number in range(50)]
            assert [task.result() for task in tasks] == list(range(50))
            server.answer = preparing(server)
            task = asyncio.create_task(ask(1))
            await server.until(lambda: server.asked)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(cql.RequestTimeout):
                await session.execute(SELECT, (1,), timeout=0.02)
            server.peers[-1].stream.reset()  # type: ignore[attr-defined]  # a MemoryStream
            await turns()
            server.answer = echo(server)
            assert await ask(5) == 5
    finally:
        loop.set_task_factory(before)


@only_trio
async def test_native_trio_cancellation() -> None:

    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.execute, SELECT, (1,))
                nursery.start_soon(session.execute, SELECT, (2,))
                await server.until(lambda: len(server.asked) == 2)
                scope.cancel()
        assert scope.cancelled_caught
        with trio.move_on_after(0.03) as late:
            await session.execute(SELECT, (3,))
        assert late.cancelled_caught
        await late_replies_go_to_nobody(server, session, 3)


@only_trio
async def test_a_trio_task_cancelled_when_its_reply_has_just_arrived() -> None:

    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        for delay in range(12):
            async with trio.open_nursery() as nursery:
                outcome = start(nursery, lambda: session.execute(SELECT, (1,)))  # type: ignore[arg-type]  # a trio nursery
                (await server.next()).reply(ints(delay))
                await turns(delay)
                outcome.scope.cancel()
            assert not outcome.done or outcome.result.one().v == delay
            await idle(session)


async def test_cancelled_before_it_is_sent_the_server_never_sees_it() -> None:
    """The writer is blocked in a send, so that the next request stays in the client."""
    async with serving() as server:
        server.capacity = 1000
        async with server.session() as session:
            server.answer = preparing(server, lambda asked: ints(asked.number))
            await session.prepare(SELECT)
            peer = server.peers[0]
            peer.pause()
            async with anyio.create_task_group() as group:
                stuck = [start(group, lambda: session.execute(SELECT, (0,))) for _ in range(60)]
                await turns()
                cancelled = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(9)]
                with pytest.raises(cql.RequestTimeout) as info:
                    await session.execute(INSERT.replace("?", "7"), timeout=0.2)
                assert info.value.maybe_applied is False
                kept = start(group, lambda: session.execute(SELECT, (2,)))
                await turns()
                for outcome in cancelled:
                    outcome.scope.cancel()
                await turns()
                assert state(session) == State(61, 0, 0, 61, 0)
                peer.reading.set()
            assert {outcome.result.one().v for outcome in stuck} == {0}
            assert kept.result.one().v == 2
            numbers = [each.number for each in server.seen if each.values]
            assert 1 not in numbers
            assert not any(each.text.startswith("INSERT") for each in server.seen)


def every_verb(session: cql.Session, name: str) -> dict[str, Coroutine[Any, Any, Any]]:
    return {
        "execute": session.execute(SELECT, (1,)),
        "execute text": session.execute("SELECT v FROM t"),
        "page": session.page(SELECT, (1,)),
        "batch": session.batch(["INSERT INTO t (k) VALUES (1)"]),
        "stream": session.stream(SELECT, (1,)).__aiter__().__anext__(),
        "uncached prepare": session.prepare(f"SELECT {name} FROM t"),
    }


async def test_every_verb_is_a_checkpoint() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        await session.execute(SELECT, (1,))
        for name, call in every_verb(session, "a").items():
            with anyio.CancelScope() as scope:
                scope.cancel()
                await call
                pytest.fail(f"{name} has no checkpoint")
            assert scope.cancelled_caught
        await idle(session)
        for name, call in every_verb(session, "b").items():
            ran = False

            async def other() -> None:
                nonlocal ran
                ran = True

            async with anyio.create_task_group() as group:
                group.start_soon(other)
                await call
                assert ran, name


async def test_a_cached_prepare_is_no_checkpoint() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        await session.prepare(SELECT)
        with anyio.CancelScope() as scope:
            scope.cancel()
            statement = await session.prepare(SELECT)
        assert not scope.cancelled_caught
        assert statement.query == SELECT


async def test_different_timeouts_end_each_in_its_own_time() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        started = anyio.current_time()
        ends: dict[float, float] = {}

        async def ask(timeout: float) -> None:
            with pytest.raises(cql.RequestTimeout):
                await session.execute(SELECT, (1,), timeout=timeout)
            ends[timeout] = anyio.current_time() - started

        async with anyio.create_task_group() as group:
            for timeout in (0.8, 0.05, 0.4):
                group.start_soon(ask, timeout)
        assert list(ends) == [0.05, 0.4, 0.8]
        assert ends == {timeout: pytest.approx(timeout) for timeout in ends}
        assert state(session) == State(3, 3, 0, 0, 0)


PARTS = [
    (anyio, "CancelScope"),
    (anyio, "create_task_group"),
    (anyio, "fail_after"),
    (anyio, "move_on_after"),
    (anyio, "Event"),
    (anyio, "Lock"),
    (asyncio, "Event"),
    (asyncio, "Future"),
    (asyncio, "Lock"),
    (asyncio, "create_task"),
    (trio, "CancelScope"),
    (trio, "Event"),
]


async def test_nothing_is_made_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task, lock, scope or event is made; objects per turn of the loop don't count."""
    made = 0

    def count(original: Any) -> Any:
        def make(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            made += 1
            return original(*args, **kwargs)

        return make

    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        counts = []
        for many in (50, 800):
            made = 0
            async with anyio.create_task_group() as group:
                calls = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(many)]
                with monkeypatch.context() as patch:
                    for module, name in PARTS:
                        patch.setattr(module, name, count(getattr(module, name)))
                    await turns(20)
                    asked, server.asked = server.asked, []
                    for request in asked:
                        request.peer.core.reply(request.stream_id, ints(1))
                    asked[0].peer.flush()
                    await turns(20)
                assert [call.result.one().v for call in calls] == [1] * many
            counts.append(made)
        assert counts[1] < counts[0] + 50
