"""Timestamps of writes, made by the client.

Of two writes to a cell the one with the later timestamp stays, whichever came last. A server gives
each write the time at which it came there: two that one program sends one after the other, through
different nodes, can so be swapped by clocks that differ by a millisecond. Timestamps of the client
are in the order in which the program made its requests.

The clock is an argument. One source serves a whole session: two would each be increasing, but not
together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MonotonicTimestamps", "monotonic_timestamps"]


class MonotonicTimestamps:
    """Timestamps that follow a clock and never repeat or go back.

    Where the clock stands still, goes back, or more requests come than it has microseconds, each
    timestamp is the one before and one more.
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -(1 << 63)

    def next(self, now: int) -> int:
        """Return a timestamp that is later than all before.

        Arguments:
            now: the clock, in microseconds since 1970.
        """
        last = self._last
        self._last = now = now if now > last else last + 1
        return now


def monotonic_timestamps(
    clock: Callable[[], int],
) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return a function that makes such timestamps, and one that tells the latest it has made.

    As :class:`MonotonicTimestamps`, in one call less: every write makes one.

    Arguments:
        clock: returns nanoseconds since 1970, as ``time.time_ns`` does.
    """
    last = -(1 << 63)

    def fresh() -> int:
        nonlocal last
        now = clock() // 1000
        last = now = now if now > last else last + 1
        return now

    def latest() -> int:
        return last

    return fresh, latest
