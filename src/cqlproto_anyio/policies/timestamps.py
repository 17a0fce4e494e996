"""Client timestamps of writes.

Of two writes to a cell the one with the later timestamp stays, whichever arrived last. Without a
client timestamp the coordinator uses its own clock: two writes that a program sends one after the
other to different nodes can be swapped if the nodes' clocks differ by a millisecond. Client
timestamps are in the order in which the program made its requests.

They follow the clock, and never repeat or go back. When the clock is set back, each timestamp is
the one before plus one, until the clock has caught up. This must not go far: nobody else can
overwrite a cell with a timestamp in the future. Beyond :data:`MOST_AHEAD` the session makes no
timestamps and the coordinators do, until the clock has nearly caught up.

The clock is an argument. One source serves a whole session: timestamps of two sources would each
increase, but not together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST_AHEAD", "REPORTED_AHEAD", "ClockBehind", "Timestamps"]

# In microseconds: how far timestamps may be ahead of the clock, and from where on it is reported.
MOST_AHEAD = 1_000_000
REPORTED_AHEAD = 1_000


class ClockBehind(Exception):
    """The clock is too far behind the latest timestamp. Handled within the call, never raised from
    it."""


class Timestamps:
    """The timestamps of a session.

    Arguments:
        clock: returns nanoseconds since 1970, as ``time.time_ns`` does.
        drifted: called with the number of microseconds that the latest timestamp is ahead of the
            clock: once until the clock has caught up, and again each time the number doubles.

    Attributes:
        last: the latest timestamp, in microseconds since 1970.
    """

    __slots__ = ("_clock", "_drifted", "_reported", "_until", "last")

    def __init__(self, clock: Callable[[], int], drifted: Callable[[int], object]) -> None:
        self.last = -(1 << 63)
        self._clock = clock
        self._drifted = drifted
        self._until = self.last  # the latest timestamp since the clock was set back
        self._reported = 0

    def fresh(self) -> int:
        """Return a new timestamp, later than all before.

        Raises:
            ClockBehind: the timestamp would be more than ``MOST_AHEAD`` ahead of the clock.
        """
        now = self._clock() // 1000
        if now <= self.last:
            now = self._next(now)
        self.last = now
        return now

    def left(self) -> int:
        """Return the number of nanoseconds until the clock has passed the millisecond of the latest
        timestamp; 0 or less if it has.
        """
        now = self._clock()
        self._report(self.last - now // 1000)
        return (self.last // 1000 + 1) * 1_000_000 - now

    def _next(self, now: int) -> int:
        """Return the latest timestamp plus one; the latest is at or after ``now``."""
        following = self.last + 1
        self._report(following - now)
        if following - now > MOST_AHEAD:
            raise ClockBehind
        if self._until == self.last:
            self._until = following
        return following

    def _report(self, ahead: int) -> None:
        """Call ``drifted`` if it must be."""
        if ahead <= REPORTED_AHEAD:
            return
        if self.last == self._until and ahead <= 2 * self._reported:
            return
        self._until = self.last
        self._reported = ahead
        self._drifted(ahead)
