"""The circuit breaker: when it opens, what it lets through, and when it closes again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import CircuitBreaker, CircuitOpen, InvalidInput
from tests.support.scripted import timed_out, unavailable
from tests.support.virtual_clock import run_virtual


async def call(answer: Any = "done", pause: float = 0.0) -> Any:
    await anyio.sleep(pause)
    if isinstance(answer, BaseException):
        raise answer
    return answer


async def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(cql.CQLError):
            await breaker.call(call, unavailable())


async def test_it_opens_with_the_last_failure_allowed() -> None:
    breaker = CircuitBreaker(failures=3, recovery=60)
    await fail(breaker, 2)
    assert await breaker.call(call, 7) == 7  # a success starts the count again
    assert breaker.failure_count == 0
    await fail(breaker, 2)
    assert (breaker.state, breaker.failure_count) == ("closed", 2)
    await fail(breaker)
    assert (str(breaker.state), breaker.failure_count) == ("open", 3)
    await anyio.sleep(20)
    with pytest.raises(CircuitOpen) as info:
        await breaker.call(call)
    assert info.value.retry_after == pytest.approx(40)
    assert info.value.failures == 3
    assert "3 failures" in str(info.value)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (timed_out(), True),
        (ConnectionResetError(), True),
        (ValueError("of the caller's"), True),
        (cql.UsageError("wrong"), False),
        (cql.RowNotFound("none"), False),
        (cql.InvalidQuery(0x2200, "no such column timeout", {}, host="h", query=None), False),
        (cql.ServerOverloaded(0x1001, "busy", {}, host="h", query=None), True),
    ],
)
async def test_what_counts_as_a_failure(error: Exception, counts: bool) -> None:
    breaker = CircuitBreaker(failures=1)
    with pytest.raises(type(error)):
        await breaker.call(call, error)
    assert breaker.state == ("open" if counts else "closed")


async def test_a_hundred_calls_at_half_open_give_one_probe() -> None:
    breaker = CircuitBreaker(failures=1, recovery=timedelta(seconds=1), successes=1)
    await fail(breaker)
    await anyio.sleep(1)
    assert breaker.state == "half_open"
    entered, refused = [], []

    async def one(number: int) -> None:
        async def probe() -> None:
            entered.append(number)
            await anyio.sleep(0.1)

        try:
            await breaker.call(probe)
        except CircuitOpen as exc:
            refused.append(exc.retry_after)

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(one, number)
    assert len(entered) == 1
    assert refused == [0.0] * 99
    assert str(breaker.state) == "closed"


async def test_some_successes_close_it_and_one_failure_opens_it_again() -> None:
    breaker = CircuitBreaker(failures=2, recovery=10, successes=2)
    await fail(breaker, 2)
    await anyio.sleep(10)
    await breaker.call(call)
    assert breaker.state == "half_open"
    await fail(breaker)
    assert (str(breaker.state), breaker.failure_count) == ("open", 3)
    await anyio.sleep(9.9)
    with pytest.raises(CircuitOpen):
        await breaker.call(call)
    await anyio.sleep(0.1)
    await breaker.call(call)
    assert str(breaker.state) == "half_open"  # the successes before the failure don't count
    with pytest.raises(cql.UsageError):
        await breaker.call(call, cql.UsageError("wrong"))  # says nothing
    assert str(breaker.state) == "half_open"
    await breaker.call(call)
    assert (str(breaker.state), breaker.failure_count) == ("closed", 0)


async def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    breaker = CircuitBreaker(failures=1, recovery=1, successes=1)
    await fail(breaker)
    await anyio.sleep(1)
    with anyio.move_on_after(0.5):
        await breaker.call(call, pause=60)
    assert breaker.state == "half_open"
    assert await breaker.call(call, 7) == 7
    assert str(breaker.state) == "closed"


async def test_calls_from_before_a_change_do_not_count() -> None:
    """A slow success doesn't close the circuit, a slow failure doesn't keep it open for longer."""
    breaker = CircuitBreaker(failures=1, recovery=10)

    async def slow_failure() -> None:
        with pytest.raises(cql.CQLError):
            await breaker.call(call, unavailable(), 5)

    async with anyio.create_task_group() as group:
        group.start_soon(breaker.call, call, "done", 5)
        group.start_soon(slow_failure)
        await anyio.sleep(0.1)
        await fail(breaker)
    assert (breaker.state, breaker.failure_count) == ("open", 1)
    await anyio.sleep(5.2)
    assert str(breaker.state) == "half_open"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(failures=st.integers(1, 5), oks=st.lists(st.booleans(), max_size=30))
def test_the_threshold_is_exact(backend: str, failures: int, oks: list[bool]) -> None:
    """The circuit opens exactly where so many failures in a row have come."""

    async def run() -> None:
        breaker = CircuitBreaker(failures=failures, recovery=1e6)
        row = 0
        for ok in oks:
            assert breaker.state == ("open" if row >= failures else "closed")
            if row >= failures:
                with pytest.raises(CircuitOpen):
                    await breaker.call(call)
            elif ok:
                await breaker.call(call)
                row = 0
            else:
                await fail(breaker)
                row += 1

    run_virtual(run, backend)


@pytest.mark.parametrize("name", ["failures", "recovery", "successes"])
@pytest.mark.parametrize("value", [0, -1, "3", True])
def test_bad_settings(name: str, value: object) -> None:
    settings: Any = {name: value}
    with pytest.raises(InvalidInput, match=name):
        CircuitBreaker(**settings)
