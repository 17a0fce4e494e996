"""The event loops of tests/support/virtual_clock.py: when time jumps, and when it does not."""

from __future__ import annotations

import time
from functools import partial

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from tests.support import virtual_clock

pytestmark = pytest.mark.uvloop


async def test_an_hour_takes_no_time() -> None:
    really, started = time.monotonic(), anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() - started == pytest.approx(3600, abs=1e-9)
    assert time.monotonic() - really < 60


async def test_each_run_starts_at_the_same_time() -> None:
    assert anyio.current_time() - virtual_clock.START < 1e-3
    await anyio.sleep(1)


async def test_timers_end_in_order_each_at_its_time() -> None:
    started = anyio.current_time()
    ends: list[tuple[float, float]] = []

    async def wait(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await anyio.sleep_forever()
        ends.append((seconds, anyio.current_time() - started))

    async with anyio.create_task_group() as group:
        for seconds in (5.0, 0.25, 3600.0, 1.0):
            group.start_soon(wait, seconds)
    assert [end for _, end in ends] == pytest.approx([0.25, 1.0, 5.0, 3600.0])
    assert [seconds for seconds, _ in ends] == [0.25, 1.0, 5.0, 3600.0]


async def test_time_stands_still_while_something_is_ready() -> None:
    started = anyio.current_time()
    with anyio.move_on_after(1e-6):
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
    assert anyio.current_time() == started


@pytest.mark.parametrize("function", [partial(time.sleep, 0.05), lambda: None])
async def test_time_stands_still_while_a_thread_works(function: partial[None]) -> None:
    started = anyio.current_time()
    with anyio.fail_after(0.01):
        await anyio.to_thread.run_sync(function)
        await anyio.getaddrinfo("localhost", 9042)
    assert anyio.current_time() == started


async def test_time_stands_still_while_sockets_are_busy() -> None:
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            started = anyio.current_time()
            with anyio.fail_after(0.01):
                for _ in range(20):
                    await stream.send(b"x" * 100_000)
                    left = 100_000
                    while left:
                        left -= len(await stream.receive())
            assert anyio.current_time() == started
            with anyio.move_on_after(60) as scope:  # time goes on when the sockets are silent
                await stream.receive()
            assert scope.cancelled_caught
        group.cancel_scope.cancel()


async def test_the_wall_clock_follows() -> None:
    started = virtual_clock.time_ns()
    await anyio.sleep(1.5)
    assert virtual_clock.time_ns() - started == pytest.approx(1_500_000_000, abs=1000)


@pytest.mark.real_clock
async def test_a_test_may_have_the_real_clock() -> None:
    really, started = time.monotonic(), anyio.current_time()
    await anyio.sleep(0.01)
    assert anyio.current_time() - started > 0.009
    assert time.monotonic() - really > 0.009
