"""Policies that raise or return invalid results: a default is used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._checks.callables import Report
from cqlproto_anyio.policies.checked import (
    CheckedFilter,
    CheckedReconnection,
    checked_retry,
    tracker_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

WRONG = [None, "soon", math.nan, -1, True, 1j]


class Raises:
    """An object whose methods all raise."""

    attempts = 1

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def _raise(self, *_: Any) -> Any:
        raise self._error

    delay = record = tracker = _raise


class Says:
    """An object whose methods all return one value."""

    def __init__(self, said: Any, attempts: Any = 1) -> None:
        self._said = said
        self.attempts = attempts

    def delay(self, *_: Any) -> Any:
        return self._said

    def record(self, seconds: float) -> None:
        pass

    def tracker(self) -> Any:
        return self


@pytest.mark.parametrize(
    "policy",
    [*map(Says, WRONG), Raises(LookupError()), Raises(SystemExit())],
    ids=lambda policy: type(policy).__name__,
)
def test_a_reconnection_policy_that_makes_no_sense(
    policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    checked = CheckedReconnection(policy)
    usual = cql.ExponentialReconnection()
    for failures in range(1, 9):
        assert checked.delay(failures, 0.5) == usual.delay(failures, 0.5)
    assert len(caplog.records) == 4  # of eight failures
    assert f"the reconnection policy {type(policy).__name__} raised, 1 times" in caplog.text


@pytest.mark.parametrize("said", [0, 0.5, 3, math.inf])
def test_a_reconnection_policy_that_makes_sense(said: float) -> None:
    assert CheckedReconnection(Says(said)).delay(1, 0.0) == said


def test_a_filter_keeps_to_what_it_said(caplog: pytest.LogCaptureFixture) -> None:
    hosts = [cql.Host(UUID(int=n), cql.Endpoint(f"10.0.0.{n}"), "dc1", "r1") for n in (1, 2, 3)]
    ask: Callable[[cql.Host], object] = lambda host: host.endpoint.address != "10.0.0.2"  # noqa: E731
    checked = CheckedFilter(lambda host: ask(host))
    assert [checked(host) for host in hosts[:2]] == [True, False]
    assert checked.failure is None

    def fail(host: cql.Host) -> bool:
        raise KeyError(host.rack)

    ask = fail
    assert [checked(host) for host in hosts] == [True, False, False]
    assert checked.failure == "KeyError: 'r1'"
    assert "Routing.host_filter raised, 1 times" in caplog.text


@pytest.mark.parametrize("said", [*WRONG[1:], Raises(LookupError()), Raises(GeneratorExit())])
def test_a_tracker_that_makes_no_sense(said: Any, caplog: pytest.LogCaptureFixture) -> None:
    policy = Says(None)
    made = said if isinstance(said, Raises) else Says(said)
    policy.tracker = lambda: made  # type: ignore[method-assign]  # the test replaces the method
    tracker = tracker_of(policy, Report("the speculation policy"))
    assert tracker is not None
    assert tracker.delay() is None
    assert "the speculation policy raised, 1 times" in caplog.text
    tracker.record(1.0)


@pytest.mark.parametrize(
    "policy",
    [Raises(LookupError()), Raises(SystemExit()), Says(1, None), Says(1, -1), Says(1, 1.5)],
)
def test_a_policy_that_has_no_tracker(policy: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert tracker_of(policy, Report("the speculation policy")) is None
    assert "the speculation policy raised, 1 times" in caplog.text


def test_a_tracker_that_makes_sense() -> None:
    tracker = tracker_of(cql.ConstantSpeculation(0.25, attempts=2), Report("unused"))
    assert tracker is not None
    assert (tracker.attempts, tracker.delay()) == (2, 0.25)


def test_retry_decisions() -> None:
    decision = cql.Retry(next_host=True, delay=0.5)
    assert checked_retry(decision) is decision
    assert checked_retry(None) is None
    wrong: Any
    for wrong in ("again", True, cql.Retry(True, -1), cql.Retry(True, math.nan)):
        with pytest.raises(cql.ConfigError):
            checked_retry(wrong)
