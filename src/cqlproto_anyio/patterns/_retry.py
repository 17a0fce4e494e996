"""Trying again: pauses that grow, a cap after the jitter, and one deadline over all attempts."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import anyio
import anyio.lowlevel

from cqlproto_anyio._outcome import TRANSIENT
from cqlproto_anyio.exceptions import CASWriteUnknown, CQLError, WriteFailure, WriteTimeout
from cqlproto_anyio.patterns._errors import InvalidInput

__all__ = ["Attempts", "Backoff", "may_retry"]

_TRANSIENT = (*TRANSIENT, CASWriteUnknown, WriteFailure, WriteTimeout)
_MAX_EXPONENT = 64  # a bounded exponent never overflows


def may_retry(error: BaseException, *, idempotent: bool = False) -> bool:
    """Return whether a failed request may succeed a moment later, and repeating it does no harm.

    Arguments:
        error: what it raised.
        idempotent: whether repeating the request is harmless even if it was applied.
    """
    return (
        isinstance(error, CQLError)
        and isinstance(error, _TRANSIENT)
        and (idempotent or not error.maybe_applied)
    )


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts."""

    first: float = 0.02  #: the pause after the first failure, in seconds
    longest: float = 1.0  #: no pause is longer, in seconds; the cap comes after the jitter
    factor: float = 2.0  #: each pause is this many times the one before it
    jitter: float = 0.5  #: 0.5 makes it random from half of a pause to one and a half

    def __post_init__(self) -> None:
        limits = {"first": (0, math.inf), "longest": (0, math.inf)}
        limits |= {"factor": (1, 100), "jitter": (0, 1)}
        for name, (least, most) in limits.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise InvalidInput(name, f"a number from {least} to {most}", value)

    def pause(self, failures: int) -> float:
        """Return how long to pause after a number of failures in a row, in seconds."""
        exponent = min(max(failures - 1, 0), _MAX_EXPONENT)
        pause = min(self.first * math.pow(self.factor, exponent), self.longest)
        return min(pause * random.uniform(1 - self.jitter, 1 + self.jitter), self.longest)


class Attempts:
    """Numbers of attempts, 1, 2, .., with a pause before each but the first.

    ::

        async for number in Attempts(most=5, within=10.0):
            try:
                return await something()
            except cql.CQLError as exc:
                if not may_retry(exc):
                    raise
                failure = exc
        raise failure

    It ends after ``most`` attempts, and when the next one would begin after the deadline; there is
    no pause after the last one. An attempt that runs is not interrupted.

    Arguments:
        most: the number of attempts; None for no limit.
        within: the deadline, in seconds from now; None for none.
        backoff: the pauses.
        last: shorten the last pause, so that a last attempt begins at the deadline.

    Attributes:
        number: the number of the latest attempt.
    """

    __slots__ = ("_backoff", "_deadline", "_last", "_most", "number")

    def __init__(
        self,
        *,
        most: int | None = None,
        within: float | None = None,
        backoff: Backoff = Backoff(),
        last: bool = False,
    ) -> None:
        self.number = 0
        self._most = most
        self._deadline = math.inf if within is None else anyio.current_time() + within
        self._backoff = backoff
        self._last = last

    @property
    def remaining(self) -> float:
        """The time until the deadline, in seconds; infinite without one."""
        return max(0.0, self._deadline - anyio.current_time())

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> int:
        if self._most is not None and self.number >= self._most:
            raise StopAsyncIteration
        if self.number:
            pause = self._backoff.pause(self.number)
            if pause > self.remaining:
                if not self._last or not self.remaining:
                    raise StopAsyncIteration
                pause = self.remaining
            await anyio.sleep(pause)
        self.number += 1
        return self.number
