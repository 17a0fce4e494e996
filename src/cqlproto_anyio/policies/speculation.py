"""Speculation policies: when a request without an answer is sent to another host as well.

The first answer is used. This trades load for a lower tail latency, so a policy decides how long to
wait first and how many more attempts there may be. Only requests that may be sent twice are: reads,
and writes that are marked as idempotent.

What a policy learns from past requests belongs to one session: :meth:`Speculation.tracker` makes
the object that learns, so that the policies themselves are values that can be compared and hashed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Protocol

from cqlproto_anyio._checks.values import integer, number

__all__ = ["ConstantSpeculation", "PercentileSpeculation", "Speculation", "Tracker"]

MAX_ATTEMPTS = 10
_LONGEST = 3600.0


class Tracker(Protocol):
    """What one session has learned about the latency of its requests.

    Attributes:
        attempts: how many attempts there may be besides the first.
    """

    attempts: int

    def record(self, seconds: float) -> None:
        """Learn from a request that was answered.

        Arguments:
            seconds: the time from its first attempt to the answer that was used.
        """
        ...

    def delay(self) -> float | None:
        """Return how long to wait for an answer before the next attempt, in seconds; None to send
        no other attempt now."""
        ...


class Speculation(Protocol):
    """Decides when a request is sent to another host as well. It must be hashable and compare by
    value."""

    def tracker(self) -> Tracker:
        """Return a new tracker, for one session."""
        ...


def _check_attempts(attempts: int) -> None:
    integer("attempts", attempts, 1, MAX_ATTEMPTS, f"an int from 1 to {MAX_ATTEMPTS}")


def _check_seconds(name: str, value: float, least: float) -> None:
    number(name, value, least, _LONGEST, f"a number of seconds from {least:g} to {_LONGEST:g}")


class _Constant:
    __slots__ = ("_delay", "attempts")

    def __init__(self, delay: float, attempts: int) -> None:
        self._delay = delay
        self.attempts = attempts

    def record(self, seconds: float) -> None:
        """Learn nothing: the delay is constant."""

    def delay(self) -> float | None:
        return self._delay


@dataclass(frozen=True, slots=True)
class ConstantSpeculation:
    """Sends another attempt after each delay without an answer.

    Attributes:
        delay: how long to wait before each further attempt, in seconds.
        attempts: how many attempts there may be besides the first.

    Raises:
        ConfigError: an attribute is invalid.
    """

    delay: float
    attempts: int = 1

    def __post_init__(self) -> None:
        _check_seconds("delay", self.delay, 0.0)
        _check_attempts(self.attempts)

    def tracker(self) -> Tracker:
        """Return a tracker with this delay."""
        return _Constant(self.delay, self.attempts)


@dataclass(frozen=True, slots=True)
class PercentileSpeculation:
    """Sends another attempt when a request takes longer than a percentile of the recent ones.

    With the 99th percentile about one request in a hundred is sent twice. When the whole cluster
    becomes slow, all requests are sent twice until the window holds enough of the slow ones;
    ``attempts`` bounds the cost.

    Attributes:
        percentile: the percentage of requests that are answered before the delay; below 100.
        attempts: how many attempts there may be besides the first.
        least: the shortest delay, in seconds.
        most: the longest delay, in seconds.
        window: the percentile is of this many recent requests, or of half as many.

    Raises:
        ConfigError: an attribute is invalid, or the window is too small for the percentile.
    """

    percentile: float = 99.0
    attempts: int = 1
    least: float = 0.001
    most: float = 10.0
    window: int = 10_000

    def __post_init__(self) -> None:
        number("percentile", self.percentile, 1, 99.99, "a number from 1 to 99.99")
        _check_attempts(self.attempts)
        _check_seconds("least", self.least, 0.0)
        _check_seconds("most", self.most, self.least)
        least = 2 * self.samples
        what = f"an int of at least {least}, which a percentile of {self.percentile} needs"
        integer("window", self.window, least, None, what)

    @property
    def samples(self) -> int:
        """How many requests must be answered before there is a delay: enough for five of them to be
        above the percentile."""
        return math.ceil(500 / (100 - self.percentile))

    def tracker(self) -> Tracker:
        """Return an empty histogram."""
        return _Histogram(self)


# Latencies are counted in buckets, each 6 % (a twelfth of an octave) wider than the one before, so
# the delay is at most 6 % too long. The first bucket ends at 50 us, the last starts above an hour.
_PER_OCTAVE = 12
_SHORTEST = 50e-6
_BUCKETS = 28 * _PER_OCTAVE
_SCALE = 1 / _SHORTEST
_log2 = math.log2


class _Histogram:
    """The latencies of requests, counted per bucket: in this half of the window and the one before.

    Recording takes one logarithm and two additions. The percentile is computed once per ``samples``
    requests.
    """

    __slots__ = ("_before", "_counts", "_delay", "_left", "_policy", "_samples", "attempts")

    def __init__(self, policy: PercentileSpeculation) -> None:
        self._policy = policy
        self._samples = policy.samples
        self.attempts = policy.attempts
        self._before = [0] * _BUCKETS
        self._counts = [0] * _BUCKETS
        self._delay: float | None = None
        self._left = self._samples

    def record(self, seconds: float) -> None:
        ratio = seconds * _SCALE
        index = int(_log2(ratio) * _PER_OCTAVE) + 1 if ratio >= 1.0 else 0
        self._counts[index if index < _BUCKETS else -1] += 1
        self._left -= 1
        if not self._left:
            self._renew()

    def delay(self) -> float | None:
        return self._delay

    def _renew(self) -> None:
        """Compute the percentile; drop the older half of the window when this one is full."""
        self._left = self._samples
        policy = self._policy
        sums = list(accumulate(map(add, self._before, self._counts)))
        wanted = sums[-1] * policy.percentile / 100
        end = _SHORTEST * 2.0 ** (bisect_left(sums, wanted) / _PER_OCTAVE)
        self._delay = min(max(end, policy.least), policy.most)
        if 2 * sum(self._counts) >= policy.window:
            self._before = self._counts
            self._counts = [0] * _BUCKETS
