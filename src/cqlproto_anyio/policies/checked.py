"""Policies of the user's as a session asks them: what they raise or return by mistake is logged,
and the answer that does least takes its place.

They are asked in the session's own tasks and in callbacks of the event loop, where an exception
would end the session for everyone. A speculation that raises sends no further attempt, a filter
says what it said of the host before, and hosts are tried again as they are by default. A retry
policy is asked in the caller's task: what it raises is the caller's.
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
    """Return a number of seconds, at least 0; infinity is one."""
    return float(number(name, value, 0.0, math.inf, "a number of seconds, at least 0"))


# Of how many hosts a filter's answer is remembered; there are no such clusters.
_MOST_HOSTS = 10_000


class CheckedReconnection:
    """A reconnection policy that always has an answer.

    Arguments:
        policy: what is asked.
    """

    __slots__ = ("_otherwise", "_policy", "_report")

    def __init__(self, policy: Reconnection) -> None:
        self._policy = policy
        self._otherwise = ExponentialReconnection()
        self._report = Report(f"the reconnection policy {type(policy).__name__}")

    def delay(self, failures: int, fraction: float) -> float:
        """Return what the policy says, or :class:`ExponentialReconnection` if that makes no sense.

        Arguments:
            failures: how many attempts have failed in a row; at least 1.
            fraction: a random number in [0, 1).
        """
        try:
            return _seconds("delay()", self._policy.delay(failures, fraction))
        except BaseException as exc:
            self._report(exc)
            return self._otherwise.delay(failures, fraction)


class CheckedFilter:
    """A host filter that always has an answer.

    Arguments:
        function: what is asked.

    Attributes:
        failure: what it raised first; None if it never did.
    """

    __slots__ = ("_function", "_report", "_said", "failure")

    def __init__(self, function: Any) -> None:
        self._function = function
        self._report = Report("Routing.host_filter")
        self._said: dict[UUID, bool] = {}
        self.failure: str | None = None

    def __call__(self, host: Host) -> bool:
        """Return whether a host may be used: what was said of it before, or False, if the function
        raises."""
        try:
            said = bool(self._function(host))
        except BaseException as exc:
            self.failure = self.failure or described(exc)
            self._report(exc)
            return self._said.get(host.host_id, False)
        self._said[host.host_id] = said
        if len(self._said) > _MOST_HOSTS:  # most of which have left
            del self._said[next(iter(self._said))]
        return said


class CheckedTracker:
    """A tracker that never raises.

    Arguments:
        tracker: what is asked.
        report: told of what it raises.

    Raises:
        ConfigError: its ``attempts`` is no number.
    """

    __slots__ = ("_report", "_tracker", "attempts")

    def __init__(self, tracker: Tracker, report: Report) -> None:
        self.attempts = integer("attempts", tracker.attempts, 0, None, "an int of at least 0")
        self._tracker = tracker
        self._report = report

    def record(self, seconds: float) -> None:
        """Let it learn of a request."""
        try:
            self._tracker.record(seconds)
        except BaseException as exc:
            self._report(exc)

    def delay(self) -> float | None:
        """Return when the next attempt is due, or None."""
        try:
            delay = self._tracker.delay()
            return None if delay is None else _seconds("delay()", delay)
        except BaseException as exc:
            self._report(exc)
            return None


def tracker_of(speculation: Speculation, report: Report) -> Tracker | None:
    """Return a policy's new tracker, or None if it can't make one."""
    try:
        return CheckedTracker(speculation.tracker(), report)
    except BaseException as exc:
        report(exc)
        return None


def checked_retry(decision: object) -> Retry | None:
    """Return what a retry policy has decided.

    Raises:
        ConfigError: it is no decision.
    """
    if decision is not None and not isinstance(decision, Retry):
        raise ConfigError(f"decide() returned {decision!r}, not a Retry or None")
    if decision is not None:
        _seconds("Retry.delay", decision.delay)
    return decision
