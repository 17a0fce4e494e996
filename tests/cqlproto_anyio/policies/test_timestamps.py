"""Timestamps follow the clock and never repeat, whatever the clock does."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.policies import MonotonicTimestamps, monotonic_timestamps

clocks = st.lists(st.integers(-(2**40), 2**40) | st.integers(100, 105), max_size=50)


@given(clocks)
def test_they_increase_and_follow_the_clock(clock: list[int]) -> None:
    stamps = MonotonicTimestamps()
    found = [stamps.next(now) for now in clock]
    assert all(first < second for first, second in pairwise(found))
    assert all(stamp >= now for stamp, now in zip(found, clock, strict=True))
    for before, stamp, now in zip([-(2**63), *found], found, clock, strict=False):
        assert stamp == (now if now > before else before + 1)


@given(st.lists(st.integers(0, 2**60) | st.integers(10**6, 10**6 + 5000), max_size=50))
def test_the_function_makes_the_same(clock: list[int]) -> None:
    """It is given nanoseconds."""
    stamps = MonotonicTimestamps()
    left = iter(clock)
    fresh, latest = monotonic_timestamps(lambda: next(left))
    for now in clock:
        made = fresh()
        assert made == stamps.next(now // 1000) == latest()


def test_sources_are_apart() -> None:
    first, second = (monotonic_timestamps(lambda: 5_000)[0] for _ in range(2))
    assert [first(), first(), second()] == [5, 6, 5]
