"""Client timestamps follow the clock, never repeat, and are never far ahead of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.policies.timestamps import MOST_AHEAD, REPORTED_AHEAD, ClockBehind, Timestamps

# Steps of the clock in microseconds, forwards and backwards: small, large, and zero.
steps = st.lists(
    st.sampled_from([0, 1, 5, 900, -3, -900, -5000, 10**5, -(10**5), 2 * 10**6, -(2 * 10**6)])
    | st.integers(-(10**10), 10**10),
    max_size=60,
)
START = 1_700_000_000_000_000


class Clock:
    """A clock that is set by hand, in microseconds."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now * 1000 + 999


@given(steps)
def test_they_increase_and_are_never_far_ahead(moves: list[int]) -> None:
    clock = Clock()
    told: list[int] = []
    stamps = Timestamps(clock, told.append)
    found: list[int] = []
    for move in moves:
        clock.now += move
        told.clear()
        before = stamps.last
        try:
            stamp = stamps.fresh()
        except ClockBehind:
            assert before + 1 - clock.now > MOST_AHEAD
            assert stamps.last == before
        else:
            assert stamp == max(clock.now, before + 1) == stamps.last
            assert stamp - clock.now <= MOST_AHEAD
            found.append(stamp)
        assert all(REPORTED_AHEAD < ahead == before + 1 - clock.now for ahead in told)
    assert all(first < second for first, second in pairwise(found))


def test_a_step_back_is_told_once_until_the_clock_has_caught_up() -> None:
    clock = Clock()
    told: list[int] = []
    stamps = Timestamps(clock, told.append)
    stamps.fresh()
    clock.now -= 50_000
    for _ in range(1000):
        stamps.fresh()
        clock.now += 10
    assert told == [50_001]
    clock.now -= 200_000  # a larger step
    stamps.fresh()
    assert len(told) == 2
    clock.now += 1_000_000
    stamps.fresh()
    clock.now -= 30_000  # a second step back
    stamps.fresh()
    stamps.fresh()
    assert told[2:] == [30_001]


def test_beyond_the_bound_there_are_none_until_the_clock_is_near() -> None:
    clock = Clock()
    told: list[int] = []
    stamps = Timestamps(clock, told.append)
    clock.now += 3_600_000_000  # an hour ahead, for one write
    ahead = stamps.fresh()
    clock.now = START
    for _ in range(3):
        with pytest.raises(ClockBehind):
            stamps.fresh()
    assert told == [3_600_000_001]
    assert stamps.last == ahead
    clock.now = ahead - 500_000
    assert stamps.fresh() == ahead + 1
    clock.now = ahead + 10
    assert stamps.fresh() == ahead + 10


def test_bursts_and_clocks_that_stand_still_are_not_told() -> None:
    told: list[int] = []
    stamps = Timestamps(Clock(), told.append)
    found = [stamps.fresh() for _ in range(500)]
    assert found == list(range(START, START + 500))
    assert not told


def test_what_is_left_until_a_server_has_passed_the_latest() -> None:
    clock = Clock()
    told: list[int] = []
    stamps = Timestamps(clock, told.append)
    assert stamps.left() < 0
    clock.now = START + 400
    stamps.fresh()
    assert stamps.left() == 600_000 - 999
    clock.now = START + 1000
    assert stamps.left() < 1
    clock.now = START - 5000
    assert stamps.left() == 6_000_000 - 999
    assert told == [5400]


def test_sources_are_apart() -> None:
    first, second = (Timestamps(lambda: 5_000, print) for _ in range(2))
    assert [first.fresh(), first.fresh(), second.fresh()] == [5, 6, 5]
