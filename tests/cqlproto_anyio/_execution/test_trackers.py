"""Trackers: one per policy, for the most recently used policies."""

from __future__ import annotations

from typing import Any

import cqlproto_anyio as cql
from cqlproto_anyio._execution.trackers import _MAX_TRACKERS, Trackers


class Policy:
    """A policy without a hash."""

    __hash__ = None  # type: ignore[assignment]  # so that it can't be a key

    def tracker(self) -> cql.Tracker:
        return cql.ConstantSpeculation(1.0).tracker()


class Broken:
    """A policy whose hash raises."""

    def __hash__(self) -> int:
        raise RuntimeError("broken")

    def tracker(self) -> cql.Tracker:
        raise AssertionError("not reached")


def test_equal_policies_share_a_tracker() -> None:
    trackers = Trackers()
    first = trackers.of(cql.ConstantSpeculation(1.0))
    assert first is not None
    assert trackers.of(cql.ConstantSpeculation(1.0)) is first
    assert trackers.of(cql.ConstantSpeculation(2.0)) is not first


def test_policies_without_a_hash_each_have_one() -> None:
    trackers = Trackers()
    one, other = Policy(), Policy()
    assert trackers.of(one) is trackers.of(one)
    assert trackers.of(one) is not trackers.of(other)


def test_a_policy_that_raises_has_none(caplog: Any) -> None:
    trackers = Trackers()
    assert trackers.of(Broken()) is None
    assert len(trackers) == 0
    assert "the speculation policy raised" in caplog.text


def test_the_least_recently_used_is_dropped() -> None:
    trackers = Trackers()
    used, unused = cql.ConstantSpeculation(1.0), cql.ConstantSpeculation(2.0)
    tracker, dropped = trackers.of(used), trackers.of(unused)
    for number in range(_MAX_TRACKERS):
        trackers.of(cql.ConstantSpeculation(10.0 + number))
        assert trackers.of(used) is tracker
    assert len(trackers) == _MAX_TRACKERS
    assert trackers.of(unused) is not dropped
