"""When a request that has no answer yet is sent to another host as well.

The first answer wins. This costs load for a shorter tail, so a policy says how long to wait first
and how many more attempts there may be. Only requests that may be sent twice are: reads, and writes
that are called idempotent.

What a policy learns from past requests belongs to one session: :meth:`Speculation.tracker` makes
the part that learns, so that the policies themselves are values, which can be compared and hashed.
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
    """What one session knows about how long its requests take.

    Attributes:
        attempts: how many attempts there may be besides the first.
    """

    attempts: int

    def record(self, seconds: float) -> None:
        """Learn from a request that was answered.

        Arguments:
            seconds: how long it took from its first attempt to the answer that was taken.
        """
        ...

    def delay(self) -> float | None:
        """Return how long to wait for an answer before the next attempt, in seconds; None for no
        further attempt now."""
        ...


class Speculation(Protocol):
    """Says when to send a request to another host as well. Must be hashable, compare by value."""

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
        """Nothing is to be learnt."""

    def delay(self) -> float | None:
        return self._delay


@dataclass(frozen=True, slots=True)
class ConstantSpeculation:
    """Sends another attempt whenever so much time has passed without an answer.

    Attributes:
        delay: how long to wait before each further attempt, in seconds.
        attempts: how many attempts there may be besides the first.

    Raises:
        ConfigError: an attribute has no such value.
    """

    delay: float
    attempts: int = 1

    def __post_init__(self) -> None:
        _check_seconds("delay", self.delay, 0.0)
        _check_attempts(self.attempts)

    def tracker(self) -> Tracker:
        """Return what says this delay."""
        return _Constant(self.delay, self.attempts)


@dataclass(frozen=True, slots=True)
class PercentileSpeculation:
    """Sends another attempt when a request takes longer than nearly all did lately.

    With the 99th percentile about one request of a hundred is sent twice. When a whole cluster
    becomes slow all requests are late at once, and are sent twice until the window has seen enough
    of them: ``attempts`` bounds what that costs.

    Attributes:
        percentile: how many of a hundred requests shall have been answered by then; below 100.
        attempts: how many attempts there may be besides the first.
        least: the shortest delay, in seconds.
        most: the longest delay, in seconds.
        window: how many requests are looked back upon: from half of it to all of it.

    Raises:
        ConfigError: an attribute has no such value, or the window is too small for the percentile.
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
        """How many requests must have been answered before there is a delay: so many that five of
        them are beyond the percentile."""
        return math.ceil(500 / (100 - self.percentile))

    def tracker(self) -> Tracker:
        """Return a histogram without requests."""
        return _Histogram(self)


# Times are counted in buckets that grow by a twelfth of an octave, 6 % each: the delay is no more
# than so much too long. The first ends at 50 us, the last begins after more than an hour.
_PER_OCTAVE = 12
_SHORTEST = 50e-6
_BUCKETS = 28 * _PER_OCTAVE
_SCALE = 1 / _SHORTEST
_log2 = math.log2


class _Histogram:
    """How long requests took, as counts per bucket: those of this half of the window and those of
    the half before.

    Recording is one logarithm and two additions. The percentile is found anew now and then, not per
    request.
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
        """Find the percentile; forget the older half when this one is full."""
        self._left = self._samples
        policy = self._policy
        sums = list(accumulate(map(add, self._before, self._counts)))
        wanted = sums[-1] * policy.percentile / 100
        end = _SHORTEST * 2.0 ** (bisect_left(sums, wanted) / _PER_OCTAVE)
        self._delay = min(max(end, policy.least), policy.most)
        if 2 * sum(self._counts) >= policy.window:
            self._before = self._counts
            self._counts = [0] * _BUCKETS
