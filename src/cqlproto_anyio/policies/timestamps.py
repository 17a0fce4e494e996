"""Timestamps of writes, made by the client.

Of two writes to a cell the one with the later timestamp stays, whichever came last. A server gives
each write the time at which it came there: two that one program sends one after the other, through
different nodes, can so be swapped by clocks that differ by a millisecond. Timestamps of the client
are in the order in which the program made its requests.

They follow the clock and never repeat or go back. When the clock is set back, each is the one
before and one more until the clock has caught up. That must not last: what carries a timestamp of
the future can't be overwritten by anyone else until then. Beyond :data:`MOST_AHEAD` no timestamps
are made, and the nodes make them, until the clock is near again.

The clock is an argument. One source serves a whole session: two would each be increasing, but not
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_AHEAD", "TOLD_AHEAD", "ClockBehind", "Timestamps"]

# In microseconds: how far timestamps may be ahead of the clock, and from where on that is told.
MOST_AHEAD = 1_000_000
TOLD_AHEAD = 1_000


class ClockBehind(Exception):
    """The clock is too far behind the latest timestamp for another one; it never leaves a call."""


class Timestamps:
    """The timestamps of a session.

    Arguments:
        clock: returns nanoseconds since 1970, as ``time.time_ns`` does.
        drifted: called when the latest timestamp is found to be ahead of the clock, with by how
            many microseconds: once until the clock has caught up, and again if it doubles.

    Attributes:
        last: the latest that was made, in microseconds since 1970.
    """

    __slots__ = ("_clock", "_drifted", "_told", "_until", "last")

    def __init__(self, clock: Callable[[], int], drifted: Callable[[int], object]) -> None:
        self.last = -(1 << 63)
        self._clock = clock
        self._drifted = drifted
        self._until = self.last  # the latest that was made in the present episode
        self._told = 0

    def fresh(self) -> int:
        """Return a timestamp that is later than all before.

        Raises:
            ClockBehind: it would be more than ``MOST_AHEAD`` ahead of the clock.
        """
        now = self._clock() // 1000
        if now <= self.last:
            now = self._next(now)
        self.last = now
        return now

    def left(self) -> int:
        """Return in how many nanoseconds the clock has passed the millisecond of the latest
        timestamp; nothing is left if that is less than 1.
        """
        now = self._clock()
        self._tell(self.last - now // 1000)
        return (self.last // 1000 + 1) * 1_000_000 - now

    def _next(self, now: int) -> int:
        """Return the one after the latest, which is not before ``now``."""
        following = self.last + 1
        self._tell(following - now)
        if following - now > MOST_AHEAD:
            raise ClockBehind
        if self._until == self.last:
            self._until = following
        return following

    def _tell(self, ahead: int) -> None:
        if ahead <= TOLD_AHEAD:
            return
        if self.last == self._until and ahead <= 2 * self._told:
            return
        self._until = self.last
        self._told = ahead
        self._drifted(ahead)
