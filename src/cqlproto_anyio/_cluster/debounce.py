"""When to do what was asked for many times: once, when it has been quiet, but not too late.

A node that joins makes each of its peers tell of it, maybe twice; a rolling restart goes on for an
hour. Reading the system tables each time would be too much, and waiting for quiet too long.
"""

from __future__ import annotations

import math

__all__ = ["Debounce"]


class Debounce:
    """Pure: time is an argument, in seconds of any clock.

    Arguments:
        quiet: how long nothing more must have been asked for.
        most: how long after the first time it is done anyway.

    Attributes:
        due: when it is to be done; infinite if it isn't.
    """

    __slots__ = ("_latest", "_most", "_quiet", "due")

    def __init__(self, quiet: float, most: float) -> None:
        self._quiet = quiet
        self._most = most
        self._latest = math.inf
        self.due = math.inf

    def ask(self, now: float, delay: float | None = None) -> None:
        """Ask for it.

        Arguments:
            now: the time.
            delay: at the latest so many seconds from now; None to wait for quiet.
        """
        if self._latest == math.inf:
            self._latest = now + self._most
        if delay is not None:
            self._latest = min(self._latest, now + delay)
        self.due = min(now + self._quiet, self._latest)

    def take(self, now: float) -> bool:
        """Whether it is due; if so it counts as being done, and what is asked from now on anew."""
        if now < self.due:
            return False
        self._latest = self.due = math.inf
        return True
