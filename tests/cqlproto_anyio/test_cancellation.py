"""Cancellation at each await in turn leaves nothing behind.

A scenario's coroutine is driven step by step. Where it suspends for the n-th time, its scope (or
its task) is cancelled. n grows from 1 until the scenario completes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Batch, Execute, Prepare
from cqlproto_anyio.testing import snapshot
from tests.support.cancellation import At, Stepped
from tests.support.replies import error, ints, prepared, unprepared
from tests.support.server import (
    IDLE,
    Server,
    idle,
    serving,
    state,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from cqlproto.messages import Response
    from tests.support.server import Asked

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.futures,
    pytest.mark.usefixtures("each_version"),
]

MOST = 60


async def cancelled_at(at: int, coroutine: Coroutine[Any, Any, Any], native: bool) -> bool:
    """Run a coroutine and cancel it where it suspends for the n-th time; return whether it did."""
    if native:

        async def run() -> int:
            task = asyncio.current_task()
            assert task is not None
            trigger = At(at, lambda _: task.cancel())
            try:
                await Stepped(coroutine, trigger)
            finally:
                counts.append(trigger.count)
            return trigger.count

        counts: list[int] = []
        await asyncio.wait([task := asyncio.create_task(run())])
        if not task.cancelled():
            task.result()
        return counts[0] >= at
    with anyio.CancelScope() as scope:
        trigger = At(at, lambda _: scope.cancel())
        await Stepped(coroutine, trigger)
    return trigger.count >= at


def answers(server: Server) -> Callable[[Asked], Response]:
    """Answer with three pages of rows; forget every statement once."""
    forgotten: set[bytes] = set()

    def answer(asked: Asked) -> Response:
        message = asked.message
        if isinstance(message, Prepare):
            return prepared(server, asked.text)
        if isinstance(message, Execute) and message.statement_id not in forgotten:
            forgotten.add(message.statement_id)
            return unprepared(asked)
        if isinstance(message, Batch):
            for each in message.statements:
                if isinstance(each.query, bytes) and each.query not in forgotten:
                    forgotten.add(each.query)
                    return error(ErrorCode.UNPREPARED, "gone", statement_id=each.query)
            return VOID
        number = int(asked.state or b"0")
        return ints(number, state=b"%d" % (number + 1) if number < 2 else None)

    return answer


async def execute(session: cql.Session, unique: int) -> None:
    result = await session.execute(f"SELECT a{unique} FROM t WHERE k = ?", (1,))
    assert [row.v for row in result] == [0, 1, 2]


async def execute_text(session: cql.Session, unique: int) -> None:
    result = await session.execute(f"SELECT a{unique} FROM t")
    assert [row.v for row in result] == [0, 1, 2]


async def page(session: cql.Session, unique: int) -> None:
    query = f"SELECT b{unique} FROM t WHERE k = ?"
    first = await session.page(query, (1,))
    second = await session.page(query, (1,), token=first.next_token)
    assert [row.v for row in second] == [1]


async def stream(session: cql.Session, unique: int) -> None:
    rows = session.stream(f"SELECT c{unique} FROM t WHERE k = ?", (1,))
    assert [row.v async for row in rows] == [0, 1, 2]


async def closed_stream(session: cql.Session, unique: int) -> None:
    async with session.stream(f"SELECT d{unique} FROM t WHERE k = ?", (1,)) as rows:
        async for row in rows:
            assert row.v == 0
            break


async def batch(session: cql.Session, unique: int) -> None:
    items = [(f"INSERT INTO t{unique}_{number} (k) VALUES (?)", (1,)) for number in range(2)]
    await session.batch(items)


async def prepare(session: cql.Session, unique: int) -> None:
    await session.prepare(f"SELECT e{unique} FROM t")


async def load(session: cql.Session, unique: int) -> None:
    query = f"INSERT INTO f{unique} (k) VALUES (?)"
    done = await session.execute_many(query, [(1,), (2,), (3,)], concurrency=2)
    assert (done.count, done.failures) == (3, ())


async def keys() -> AsyncIterator[tuple[int]]:
    for number in range(3):
        yield (number,)
        await anyio.lowlevel.checkpoint()


async def load_later(session: cql.Session, unique: int) -> None:
    query = f"INSERT INTO g{unique} (k) VALUES (?)"
    done = await session.execute_many(query, keys(), concurrency=2)
    assert (done.count, done.failures) == (3, ())


async def results(session: cql.Session, unique: int) -> None:
    query = f"SELECT h{unique} FROM t WHERE k = ?"
    async with session.map(query, [(1,), (2,), (3,)], concurrency=2) as pairs:
        async for _, result in pairs:
            assert [row.v for row in result] == [0, 1, 2]


async def results_later(session: cql.Session, unique: int) -> None:
    query = f"SELECT i{unique} FROM t WHERE k = ?"
    async with session.map(query, keys(), concurrency=2) as pairs:
        async for _, result in pairs:
            assert [row.v for row in result] == [0, 1, 2]


SCENARIOS = [
    load,
    load_later,
    results,
    results_later,
    execute,
    execute_text,
    page,
    stream,
    closed_stream,
    batch,
    prepare,
]
NATIVE = [("asyncio", False), ("asyncio", True), ("trio", False)]


async def when(condition: Callable[[], object], call: Callable[[], object]) -> None:
    await until(condition)
    call()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("anyio_backend", "native"), NATIVE, indirect=["anyio_backend"])
@pytest.mark.parametrize("lost", [False, True], ids=["connected", "lost"])
async def test_verbs(scenario: Any, native: bool, lost: bool) -> None:
    reconnection = cql.ConstantReconnection(0.001)
    async with serving() as server, server.session(reconnection=reconnection) as session:
        server.answer = answers(server)
        for at in range(1, MOST):
            if lost:
                await until(lambda: session.statistics().connections)
                go_on = server.hold()
                await server.cut(session)
            ended: list[bool] = []

            def waits_or_ended(ended: list[bool] = ended) -> bool:
                return bool(ended or snapshot(session).waiting_calls)

            async with anyio.create_task_group() as group:
                if lost:
                    group.start_soon(when, waits_or_ended, go_on)
                got_there = await cancelled_at(at, scenario(session, at), native)
                ended.append(True)
            await idle(session)
            if not got_there:
                break
        else:
            pytest.fail("the scenario never got through")
        assert at > 1
        await scenario(session, MOST)
        await idle(session)  # the next page of a stream that was closed early is under way
        assert not snapshot(session).waiting_calls


def troubled(server: Server) -> Callable[[Asked], Response | None]:
    """Refuse each request once, and hold the second attempt."""
    answer = answers(server)
    attempts: Counter[object] = Counter()

    def troubled_answer(asked: Asked) -> Response | None:
        message = asked.message
        if isinstance(message, Prepare):
            return answer(asked)
        what: object = (asked.text, asked.state)
        if isinstance(message, Batch):
            what = tuple(each.query for each in message.statements)
        attempts[what] += 1
        if attempts[what] == 1:
            return error(ErrorCode.OVERLOADED)
        return None if attempts[what] == 2 else answer(asked)

    return troubled_answer


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("anyio_backend", "native"), NATIVE, indirect=["anyio_backend"])
async def test_retries_and_second_attempts(scenario: Any, native: bool) -> None:
    profile = cql.Profile(
        idempotent=True,
        retry=cql.DefaultRetry(overload_delay=0.002),
        speculation=cql.ConstantSpeculation(0.002, attempts=2),
    )
    async with serving() as server:
        server.answer = troubled(server)
        hosts = list("abcdef")  # enough hosts that two are left, whichever are tried first
        async with cql.connect(hosts, config=server.config(), profile=profile) as session:
            await until(lambda: all(host.connections for host in session.statistics().hosts))

            def answered() -> bool:
                """Release late replies, and return whether none is left."""
                for asked in server.asked:
                    asked.reply(ints(99))
                server.asked.clear()
                return state(session) == IDLE

            for at in range(1, MOST):
                got_there = await cancelled_at(at, scenario(session, at), native)
                await until(answered)
                assert not snapshot(session).alarms  # nothing is scheduled
                if not got_there:
                    break
            else:
                pytest.fail("the scenario never got through")
            if scenario is not prepare:
                assert session.statistics().speculative
        assert all(client.closed for client in server.clients)


@pytest.mark.parametrize(("anyio_backend", "native"), NATIVE, indirect=["anyio_backend"])
async def test_connect_and_close(native: bool) -> None:
    async with serving() as server:
        server.verify = lambda token: True
        server.answer = answers(server)
        auth = cql.PlainAuth("ann", "secret")

        async def life() -> None:
            config = server.config()
            async with cql.connect("node", auth=auth, keyspace="ks", config=config) as session:
                await execute_text(session, 0)

        for at in range(1, MOST):
            got_there = await cancelled_at(at, life(), native)
            await until(lambda: all(client.closed for client in server.clients))
            await until(lambda: all(peer.ended.is_set() for peer in server.peers))
            if not got_there:
                break
        else:
            pytest.fail("the scenario never got through")
        assert at > 3
        await life()


@pytest.mark.parametrize(("anyio_backend", "native"), NATIVE, indirect=["anyio_backend"])
async def test_aclose(native: bool) -> None:
    async with serving() as server:
        server.answer = answers(server)
        for at in range(1, MOST):
            connecting = cql.connect("node", config=server.config())
            session = await connecting.__aenter__()
            got_there = await cancelled_at(at, session.aclose(), native)
            with pytest.raises(cql.SessionClosed):
                await session.execute("SELECT v FROM t")
            await connecting.__aexit__(None, None, None)
            assert all(client.closed for client in server.clients)
            if not got_there:
                break
        else:
            pytest.fail("the scenario never got through")


async def rows_until_cancelled(session: cql.Session) -> AsyncIterator[int]:
    async for row in session.stream("SELECT v FROM t"):
        yield row.v


async def test_a_generator_around_a_stream_is_left_early() -> None:
    async with serving() as server, server.session() as session:
        server.answer = answers(server)
        generator = rows_until_cancelled(session)
        assert await anext(generator) == 0
        await generator.aclose()  # type: ignore[attr-defined]  # an async generator has it
        await idle(session)
