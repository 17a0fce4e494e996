"""Deadlines on trio's MockClock: hours pass in no time, and nothing else is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import cqlproto_anyio as cql
from tests.cqlproto_anyio.answers import preparing
from tests.cqlproto_anyio.server import serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SELECT = "SELECT v FROM t WHERE k = ?"


def quickly(main: Callable[[], Awaitable[Any]]) -> None:
    """Run with a clock that jumps to whatever is due next."""
    started = time.monotonic()
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert time.monotonic() - started < 10


def test_the_default_deadline_is_ten_seconds() -> None:
    async def main() -> None:
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
                started = trio.current_time()
                with pytest.raises(cql.RequestTimeout):
                    await call()
                assert trio.current_time() - started == pytest.approx(10, abs=0.1)

    quickly(main)


def test_each_deadline_is_met_to_the_point() -> None:
    async def main() -> None:
        async with serving() as server, server.session() as session:
            server.answer = preparing(server)
            await session.prepare(SELECT)
            took: dict[float, float] = {}

            async def ask(timeout: float) -> None:
                started = trio.current_time()
                with pytest.raises(cql.RequestTimeout):
                    await session.execute(SELECT, (1,), timeout=timeout)
                took[timeout] = trio.current_time() - started

            async with trio.open_nursery() as nursery:
                for timeout in (86_400.0, 3.0, 3600.0, 0.5, 60.0, 3.5):
                    nursery.start_soon(ask, timeout)
                    await trio.sleep(0.25)
            assert list(took) == sorted(took)
            assert all(end == pytest.approx(timeout, abs=0.01) for timeout, end in took.items())

    quickly(main)


def test_no_timeout_waits_for_days() -> None:
    async def main() -> None:
        async with serving() as server, server.session() as session:
            server.answer = preparing(server)
            await session.prepare(SELECT)
            with trio.move_on_after(1_000_000) as scope:
                await session.execute(SELECT, (1,), timeout=None)
            assert scope.cancelled_caught

    quickly(main)


@pytest.mark.parametrize(("discovery", "seconds"), [(False, 7), (True, 21)])
def test_connecting_takes_its_timeout_for_each_contact_point(
    discovery: bool, seconds: float
) -> None:
    """One after the other to learn of the cluster from one; side by side where they are all."""

    async def main() -> None:
        async with serving() as server:
            server.handshake = lambda asked: None
            config = server.config(connect_timeout=7, discovery=discovery)
            started = trio.current_time()
            with pytest.raises(cql.NoHostAvailable) as info:
                async with cql.connect(["a", "b", "c"], config=config):
                    pass
            assert trio.current_time() - started == pytest.approx(seconds, abs=0.1)
            attempts: Any = info.value.attempts
            assert [attempt.host for attempt in attempts] == ["a:9042", "b:9042", "c:9042"]
            assert [attempt.elapsed for attempt in attempts] == [pytest.approx(7, abs=0.1)] * 3

    quickly(main)


def test_the_deadline_covers_preparing_and_executing_together() -> None:
    async def main() -> None:
        async with serving() as server, server.session() as session:

            async def slow() -> None:
                while True:
                    asked = await server.next()
                    await trio.sleep(6)
                    reply = preparing(server)(asked)
                    if reply is not None:
                        asked.reply(reply)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow)
                started = trio.current_time()
                with pytest.raises(cql.RequestTimeout):
                    await session.execute(SELECT, (1,), timeout=10)
                assert trio.current_time() - started == pytest.approx(10, abs=0.5)
                nursery.cancel_scope.cancel()

    quickly(main)
