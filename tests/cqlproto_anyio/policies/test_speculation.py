"""Speculation policies: the percentile, compared with a sorted list."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.policies import ConstantSpeculation, PercentileSpeculation


def test_a_constant_delay_learns_nothing() -> None:
    tracker = ConstantSpeculation(0.05, attempts=2).tracker()
    tracker.record(10.0)
    assert (tracker.delay(), tracker.attempts) == (0.05, 2)


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 32), st.sampled_from([50, 90.0, 95, 99]), st.floats(1e-4, 1.0),
    st.floats(0.1, 2.0),
)  # fmt: skip
def test_the_delay_is_the_percentile(seed: int, percentile: float, scale: float, s: float) -> None:
    """The delay is at most one bucket (6 %) too long and never too short."""
    policy = PercentileSpeculation(percentile, least=0.0, most=3600.0)
    tracker = policy.tracker()
    random = Random(seed)
    times = [scale * random.lognormvariate(0.0, s) for _ in range(4 * policy.samples)]
    for seconds in times:
        tracker.record(seconds)
    delay = tracker.delay()
    assert delay is not None
    exact = sorted(times)[math.ceil(len(times) * percentile / 100) - 1]
    assert max(exact, 50e-6) * 0.999 <= delay <= max(exact, 50e-6) * 2 ** (1 / 12) * 1.001


def test_there_is_no_delay_before_enough_requests() -> None:
    policy = PercentileSpeculation(90.0)
    assert policy.samples == 50
    tracker = policy.tracker()
    for _ in range(49):
        tracker.record(0.1)
        assert tracker.delay() is None
    tracker.record(0.1)
    assert tracker.delay() == pytest.approx(0.1, rel=0.06)


def test_it_follows_a_change_within_its_window() -> None:
    policy = PercentileSpeculation(90.0, window=1000)
    tracker = policy.tracker()
    for _ in range(100_000):
        tracker.record(0.001)

    def until(seconds: float) -> int:
        """Return how many requests of this duration make it the delay."""
        count = 0
        while tracker.delay() != pytest.approx(seconds, rel=0.06):
            tracker.record(seconds)
            count += 1
        return count

    assert until(0.1) <= 150  # one of ten requests is slow now
    assert until(0.001) <= 1000


def test_the_delay_has_bounds() -> None:
    for seconds in (0.0, 1e-9, 49e-6, 1.0, 1e9, math.inf):
        tracker = PercentileSpeculation(50.0, least=0.002, most=0.5).tracker()
        for _ in range(10):
            if seconds < math.inf:
                tracker.record(seconds)
        assert tracker.delay() == (None if seconds == math.inf else 0.5 if seconds >= 1 else 0.002)


def test_trackers_are_apart_and_policies_are_values() -> None:
    policy = PercentileSpeculation(50.0)
    busy, idle = policy.tracker(), policy.tracker()
    for _ in range(100):
        busy.record(0.01)
    assert busy.delay() is not None
    assert idle.delay() is None
    assert {policy: 1}[PercentileSpeculation(50.0)] == 1
    assert {ConstantSpeculation(1.0): 1}[ConstantSpeculation(1.0, 1)] == 1


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ConstantSpeculation, {"delay": -0.1}),
        (ConstantSpeculation, {"delay": "1"}),
        (ConstantSpeculation, {"delay": True}),
        (ConstantSpeculation, {"delay": 10**400}),
        (ConstantSpeculation, {"attempts": 0, "delay": 1.0}),
        (ConstantSpeculation, {"attempts": 11, "delay": 1.0}),
        (ConstantSpeculation, {"attempts": True, "delay": 1.0}),
        (PercentileSpeculation, {"percentile": 100}),
        (PercentileSpeculation, {"percentile": "99"}),
        (PercentileSpeculation, {"percentile": float("nan")}),
        (PercentileSpeculation, {"attempts": 0}),
        (PercentileSpeculation, {"least": -1}),
        (PercentileSpeculation, {"most": 0.0001}),
        (PercentileSpeculation, {"window": 999}),
        (PercentileSpeculation, {"window": 1e6}),
    ],
    ids=str,
)
def test_what_cannot_be(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(arguments))} must be"):
        kind(**arguments)
