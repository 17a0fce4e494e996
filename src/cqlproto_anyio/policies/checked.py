"""The user's policies as a session calls them: exceptions and invalid results are logged, and
replaced by a safe default.

They are called in the session's own tasks and in callbacks of the event loop, where an exception
would end the session. A speculation policy that raises sends no other attempt; a host filter that
raises returns what it returned for the host before; a reconnection policy that raises is replaced
by the default one. A retry policy is called in the caller's task: its exceptions are the caller's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._checks.callables import Report, described
from cqlproto_anyio._checks.values import integer, number
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.policies.reconnection import ExponentialReconnection
from cqlproto_anyio.policies.retry import Retry

if TYPE_CHECKING:
    from uuid import UUID

    from cqlproto_anyio._metadata.topology import Host
    from cqlproto_anyio.policies.reconnection import Reconnection
    from cqlproto_anyio.policies.speculation import Speculation, Tracker

__all__ = ["CheckedFilter", "CheckedReconnection", "CheckedTracker", "checked_retry", "tracker_of"]


def _seconds(name: str, value: Any) -> float:
    """Check and return a number of seconds; at least 0, maybe infinity."""
    return float(number(name, value, 0.0, math.inf, "a number of seconds, at least 0"))


# For how many hosts a filter's result is remembered: more than any cluster has.
_MOST_HOSTS = 10_000


class CheckedReconnection:
    """A reconnection policy that never raises.

    Arguments:
        policy: the user's policy.
    """

    __slots__ = ("_default", "_policy", "_report")

    def __init__(self, policy: Reconnection) -> None:
        self._policy = policy
        self._default = ExponentialReconnection()
        self._report = Report(f"the reconnection policy {type(policy).__name__}")

    def delay(self, failures: int, fraction: float) -> float:
        """Return the policy's delay, or that of :class:`ExponentialReconnection` if it is invalid.

        Arguments:
            failures: how many attempts have failed in a row; at least 1.
            fraction: a random number in [0, 1).
        """
        try:
            return _seconds("delay()", self._policy.delay(failures, fraction))
        except BaseException as exc:
            self._report(exc)
            return self._default.delay(failures, fraction)


class CheckedFilter:
    """A host filter that never raises.

    Arguments:
        function: the user's filter.

    Attributes:
        failure: the first exception of the filter; None if it never raised.
    """

    __slots__ = ("_function", "_report", "_results", "failure")

    def __init__(self, function: Any) -> None:
        self._function = function
        self._report = Report("Routing.host_filter")
        self._results: dict[UUID, bool] = {}
        self.failure: str | None = None

    def __call__(self, host: Host) -> bool:
        """Return whether a host may be used. If the filter raises, return its last result for the
        host, or False."""
        try:
            result = bool(self._function(host))
        except BaseException as exc:
            self.failure = self.failure or described(exc)
            self._report(exc)
            return self._results.get(host.host_id, False)
        self._results[host.host_id] = result
        if len(self._results) > _MOST_HOSTS:  # the oldest, which has probably left
            del self._results[next(iter(self._results))]
        return result


class CheckedTracker:
    """A tracker that never raises.

    Arguments:
        tracker: the tracker of the user's policy.
        report: logs what the tracker raises.

    Raises:
        ConfigError: the tracker's ``attempts`` is not an int of at least 0.
    """

    __slots__ = ("_report", "_tracker", "attempts")

    def __init__(self, tracker: Tracker, report: Report) -> None:
        self.attempts = integer("attempts", tracker.attempts, 0, None, "an int of at least 0")
        self._tracker = tracker
        self._report = report

    def record(self, seconds: float) -> None:
        """Record the latency of a request."""
        try:
            self._tracker.record(seconds)
        except BaseException as exc:
            self._report(exc)

    def delay(self) -> float | None:
        """Return the delay before the next attempt, or None."""
        try:
            delay = self._tracker.delay()
            return None if delay is None else _seconds("delay()", delay)
        except BaseException as exc:
            self._report(exc)
            return None


def tracker_of(speculation: Speculation, report: Report) -> Tracker | None:
    """Return a new tracker of a policy, or None if the policy raises."""
    try:
        return CheckedTracker(speculation.tracker(), report)
    except BaseException as exc:
        report(exc)
        return None


def checked_retry(decision: object) -> Retry | None:
    """Check and return the decision of a retry policy.

    Raises:
        ConfigError: the decision is not a :class:`Retry` or None, or its delay is invalid.
    """
    if decision is not None and not isinstance(decision, Retry):
        raise ConfigError(f"decide() returned {decision!r}, not a Retry or None")
    if decision is not None:
        _seconds("Retry.delay", decision.delay)
    return decision
