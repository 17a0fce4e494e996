"""How long a host is not tried after failed attempts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.policies import ConstantReconnection, ExponentialReconnection

fractions = st.floats(0, 1, exclude_max=True)
exponential = st.builds(
    lambda base, factor, jitter: ExponentialReconnection(base, base * factor, jitter),
    st.floats(0.001, 10),
    st.floats(1, 1000),
    st.floats(0, 1),
)


@given(exponential, st.integers(1, 100_000), fractions)
def test_a_wait_is_within_its_bounds(
    policy: ExponentialReconnection, failures: int, fraction: float
) -> None:
    wait = policy.delay(failures, fraction)
    longest = policy.delay(failures, 0.0)
    assert longest * (1 - policy.jitter) <= wait <= longest <= policy.maximum
    assert longest == min(policy.base * 2 ** min(failures - 1, 64), policy.maximum)
    assert longest <= policy.delay(failures + 1, 0.0)


def test_it_doubles_up_to_the_maximum() -> None:
    policy = ExponentialReconnection()
    waits = [policy.delay(failures, 0.0) for failures in range(1, 11)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert policy.delay(1, 0.5) == 0.25 * 0.875


@given(st.integers(1, 1000), fractions, st.floats(0.001, 1000), st.floats(0, 1))
def test_a_constant_wait(failures: int, fraction: float, seconds: float, jitter: float) -> None:
    policy = ConstantReconnection(seconds, jitter)
    wait = policy.delay(failures, fraction)
    assert seconds * (1 - jitter) <= wait <= seconds
    assert wait == policy.delay(1, fraction)


def test_policies_are_values() -> None:
    assert {ExponentialReconnection(): 1}[ExponentialReconnection(0.25, 60.0)] == 1
    assert {ConstantReconnection(): 1}[ConstantReconnection(1.0)] == 1
    assert ExponentialReconnection() != ExponentialReconnection(1.0)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (ExponentialReconnection, {"base": 0}),
        (ExponentialReconnection, {"base": "1"}),
        (ExponentialReconnection, {"maximum": 0.1}),
        (ExponentialReconnection, {"maximum": float("inf")}),
        (ExponentialReconnection, {"base": Decimal(1)}),
        (ExponentialReconnection, {"base": 10**400}),
        (ExponentialReconnection, {"jitter": 1.5}),
        (ExponentialReconnection, {"jitter": float("nan")}),
        (ConstantReconnection, {"seconds": 0}),
        (ConstantReconnection, {"seconds": True}),
        (ConstantReconnection, {"jitter": -0.1}),
    ],
    ids=str,
)
def test_what_cannot_be(kind: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(arguments))} must be"):
        kind(**arguments)
