"""Rates as functions: no window has more than the limit, and what they tell is so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.patterns._rates import Entries, Rated, token_bucket, window
from tests.support.histories import Admission, within_limit

steps = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 5)), max_size=60)


@given(steps=steps, limit=st.integers(5, 12), per=st.integers(1, 1000))
def test_no_window_has_more_than_the_limit(
    steps: list[tuple[int, int]], limit: int, per: int
) -> None:
    entries: Entries = ()
    now, admitted = 0, []
    for pause, cost in steps:
        now += pause
        rated = window(entries, (), cost, now, limit=limit, per=per)
        entries = rated.entries
        if rated.allowed:
            admitted.append(Admission(now, now, cost))
            assert rated.remaining >= 0
        else:
            # it fits after the wait, and not earlier
            later = window(entries, (), cost, now + rated.wait, limit=limit, per=per)
            assert later.allowed
            assert not window(entries, (), cost, now + rated.wait - 1, limit=limit, per=per).allowed
    assert within_limit(admitted, limit, per) == []


@given(steps=steps, per=st.integers(1000, 100_000))
def test_a_large_limit_keeps_few_entries_and_stays_within_it(
    steps: list[tuple[int, int]], per: int
) -> None:
    limit = 101
    entries: Entries = ()
    now, admitted = 0, []
    for pause, cost in steps * 5:
        now += pause
        rated = window(entries, (), cost, now, limit=limit, per=per)
        entries = rated.entries
        assert len(entries) <= 102
        if rated.allowed:
            admitted.append(Admission(now, now, cost))
        else:
            assert rated.wait <= per + -(-per // 100)
    assert within_limit(admitted, limit, per) == []


def test_the_naive_window_admits_twice_the_limit_at_its_edge() -> None:
    """A counter for each minute, as the fixed windows of cookbooks have."""
    counters: dict[int, int] = {}
    admitted = []
    for now in (59, 59, 59, 60, 60, 60):
        minute = now // 60
        if counters.get(minute, 0) < 3:
            counters[minute] = counters.get(minute, 0) + 1
            admitted.append(Admission(now, now))
    assert within_limit(admitted, 3, 60) == ["a cost of 6 was admitted from 59 on"] * 3


def test_clocks_that_differ_make_costs_count_longer() -> None:
    first = window((), (), 1, 1000, limit=2, per=100)
    second = window(first.entries, (), 1, 900, limit=2, per=100)  # of a clock that is behind
    assert second.entries == ((1000, 2),)
    assert window(second.entries, (), 1, 950, limit=2, per=100).wait == 150


def test_costs_that_are_kept_elsewhere_count_too() -> None:
    others = ((50, 2), (950, 3))
    assert window((), others, 2, 1000, limit=5, per=100) == Rated(True, 0, 0, ((1000, 2),))
    assert window((), others, 3, 1000, limit=5, per=100) == Rated(False, 2, 50, ())


@pytest.mark.parametrize(("limit", "per"), [(1, 1), (6, 60_000_000), (7, 60_000_000), (3, 10)])
def test_a_bucket_has_the_limit_at_once_and_then_fills(limit: int, per: int) -> None:
    entries: Entries = ()
    for remaining in range(limit - 1, -1, -1):
        rated = token_bucket(entries, (), 1, 0, limit=limit, per=per)
        assert (rated.allowed, rated.remaining) == (True, remaining)
        entries = rated.entries
    refused = token_bucket(entries, (), 1, 0, limit=limit, per=per)
    assert refused == Rated(False, 0, -(-per // limit), entries)
    assert token_bucket(entries, (), 1, refused.wait, limit=limit, per=per).allowed
    assert not token_bucket(entries, (), 1, refused.wait - 1, limit=limit, per=per).allowed
    assert token_bucket(entries, (), limit, per, limit=limit, per=per).allowed


@given(steps=steps, limit=st.integers(5, 12), per=st.integers(1, 1000))
def test_a_bucket_never_gives_more_than_it_had(
    steps: list[tuple[int, int]], limit: int, per: int
) -> None:
    entries: Entries = ()
    now, admitted = 0, []
    for pause, cost in steps:
        now += pause
        rated = token_bucket(entries, (), cost, now, limit=limit, per=per)
        entries = rated.entries
        if rated.allowed:
            admitted.append((now, cost))
    for at, (since, _) in enumerate(admitted):
        spent = 0
        for when, cost in admitted[at:]:
            spent += cost
            assert spent * per <= limit * per + (when - since) * limit


def test_a_clock_that_is_behind_fills_no_bucket() -> None:
    entries = token_bucket((), (), 3, 1000, limit=3, per=300).entries
    refused = token_bucket(entries, (), 1, 900, limit=3, per=300)
    assert refused == Rated(False, 0, 200, entries)
    # the time counts from the clock that was ahead
    assert not token_bucket(entries, (), 1, 1099, limit=3, per=300).allowed
    assert token_bucket(entries, (), 1, 1100, limit=3, per=300).allowed


def test_what_was_spent_counts_after_the_algorithm_is_changed() -> None:
    """Neither forgotten, nor taken for costs of another unit, which would lock everybody out."""
    limit, per, now = 10, 60_000_000, 1_000_000_000
    spent = token_bucket((), (), 4, now, limit=limit, per=per).entries
    rated = window(spent, (), 1, now, limit=limit, per=per)
    assert (rated.allowed, rated.remaining) == (True, 5)
    assert not window(spent, (), 7, now, limit=limit, per=per).allowed

    spent = window((), (), 4, now, limit=limit, per=per).entries
    rated = token_bucket(spent, (), 1, now, limit=limit, per=per)
    assert (rated.allowed, rated.remaining) == (True, 5)
    assert not token_bucket(spent, (), 7, now, limit=limit, per=per).allowed
    assert token_bucket(spent, (), 10, now + per, limit=limit, per=per).allowed
