"""Exponential back-off: pauses that double up to a maximum."""

from __future__ import annotations

import math

import pytest

from cqlproto_anyio.policies.backoff import backoff


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 0.25), (1, 0.25), (2, 0.5), (3, 1.0), (7, 16.0), (9, 60.0)]
)
def test_the_pause_doubles_up_to_the_longest(failures: int, pause: float) -> None:
    assert backoff(0.25, failures, 60.0) == pause


def test_any_number_of_failures_has_a_finite_pause() -> None:
    assert backoff(1.0, 10**9, 5.0) == 5.0
    assert math.isfinite(backoff(3600.0, 10**9))
    assert backoff(0.0, 10**9) == 0.0
