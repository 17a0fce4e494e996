"""The debounce timer: due after a quiet time, or at the latest time."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio._cluster.debounce import Debounce


def test_nothing_is_due_until_it_is_asked_for() -> None:
    debounce = Debounce(1, 5)
    assert debounce.due == math.inf
    assert not debounce.take(1e9)


def test_once_after_a_quiet_second() -> None:
    debounce = Debounce(1, 5)
    debounce.ask(10)
    debounce.ask(10.5)
    assert debounce.due == 11.5
    assert not debounce.take(11.4)
    assert debounce.take(11.5)
    assert not debounce.take(20)


def test_never_later_than_some_seconds_after_the_first() -> None:
    debounce = Debounce(1, 5)
    for step in range(100):
        debounce.ask(10 + step / 10)
    assert debounce.due == 15


def test_at_the_latest_when_it_is_asked_for_by_then() -> None:
    debounce = Debounce(1, 5)
    debounce.ask(10, 0.25)
    assert debounce.due == 10.25
    debounce.ask(10.125)
    assert debounce.due == 10.25
    debounce.take(10.25)
    debounce.ask(11, 3)
    assert debounce.due == 12


@given(st.lists(st.integers(0, 800), min_size=1, max_size=60))
def test_each_ask_is_followed_by_doing_it_in_time(moments: list[int]) -> None:
    """The timer is checked ten times a second; requests come at some hundredths of a second."""
    asked = sorted(moments)
    debounce = Debounce(100, 500)
    waiting: list[int] = []
    done = 0
    for now in range(0, 1600, 10):
        while asked and asked[0] <= now:
            debounce.ask(now)
            waiting.append(now)
            asked.pop(0)
        if debounce.take(now):
            assert waiting
            assert now - waiting[0] <= 500
            assert now - waiting[-1] >= 100 or now - waiting[0] == 500
            waiting.clear()
            done += 1
    assert not waiting
    assert 1 <= done <= len(moments)
