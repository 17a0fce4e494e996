"""Pauses and deadlines of attempts."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry
from tests.support.scripted import lost, timed_out, unavailable


async def run(**options: Any) -> tuple[list[int], list[float]]:
    """Return the numbers of the attempts, and when each began."""
    started = anyio.current_time()
    numbers, times = [], []
    async for number in Attempts(**options):
        numbers.append(number)
        times.append(anyio.current_time() - started)
    assert anyio.current_time() - started == times[-1]  # no pause after the last attempt
    return numbers, times


EXACT = Backoff(first=1.0, longest=5.0, jitter=0.0)


async def test_pauses_double_up_to_the_longest() -> None:
    numbers, times = await run(most=5, backoff=EXACT)
    assert numbers == [1, 2, 3, 4, 5]
    assert times == [0, 1, 3, 7, 12]


async def test_one_deadline_over_all_attempts() -> None:
    numbers, _ = await run(within=10.0, backoff=EXACT)
    assert numbers == [1, 2, 3, 4]  # the fifth would begin at 12


async def test_a_last_attempt_at_the_deadline() -> None:
    assert await run(within=10.0, backoff=EXACT, last=True) == ([1, 2, 3, 4, 5], [0, 1, 3, 7, 10])
    assert await run(within=0.0, last=True) == ([1], [0.0])


async def test_the_first_attempt_is_always_made() -> None:
    assert await run(within=0.0) == ([1], [0.0])
    assert await run(most=1) == ([1], [0.0])


async def test_what_remains() -> None:
    attempts = Attempts(within=2.0)
    assert attempts.remaining == 2.0
    await anyio.sleep(3)
    assert attempts.remaining == 0.0
    assert Attempts().remaining == math.inf


@given(
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 100), st.floats(0, 1), st.integers(0, 10_000)
)
def test_the_cap_comes_after_the_jitter(
    first: float, longest: float, factor: float, jitter: float, failures: int
) -> None:
    pause = Backoff(first, longest, factor, jitter).pause(failures)
    assert 0 <= pause <= longest


def test_jitter_differs() -> None:
    backoff = Backoff(first=1.0, longest=100.0, jitter=0.5)
    pauses = [backoff.pause(1) for _ in range(100)]
    assert 0.5 <= min(pauses) < max(pauses) <= 1.5


@pytest.mark.parametrize(
    "wrong", [{"first": -1}, {"longest": -1}, {"factor": 0.5}, {"factor": math.inf}, {"jitter": 2}]
)
def test_mistakes(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(InvalidInput, match=f"{name} must be a number"):
        Backoff(**wrong)


def test_what_may_be_tried_again() -> None:
    assert may_retry(unavailable())
    assert may_retry(lost(False))
    assert not may_retry(lost())
    assert may_retry(lost(), idempotent=True)
    assert may_retry(timed_out(), idempotent=True)
    assert not may_retry(cql.ParameterError("no"), idempotent=True)
    assert not may_retry(ValueError(), idempotent=True)
