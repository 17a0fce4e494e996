"""Debounce: do something once after many requests for it.

A node that joins makes each of its peers send an event, some of them twice, and a rolling restart
goes on for an hour. To read the system tables for each event would be too much; to wait until no
more events come would take too long.
"""

from __future__ import annotations

import math

__all__ = ["Debounce"]


class Debounce:
    """A debounce timer. Pure: time is an argument, in seconds of any clock.

    Arguments:
        quiet: it is due after so many seconds without another request.
        most: it is due at most so many seconds after the first request.

    Attributes:
        due: when it is due; infinity if nothing was requested.
    """

    __slots__ = ("_latest", "_most", "_quiet", "due")

    def __init__(self, quiet: float, most: float) -> None:
        self._quiet = quiet
        self._most = most
        self._latest = math.inf
        self.due = math.inf

    def ask(self, now: float, delay: float | None = None) -> None:
        """Add a request.

        Arguments:
            now: the time.
            delay: the latest time, in seconds from now; None for ``most`` from the first request.
        """
        if self._latest == math.inf:
            self._latest = now + self._most
        if delay is not None:
            self._latest = min(self._latest, now + delay)
        self.due = min(now + self._quiet, self._latest)

    def take(self, now: float) -> bool:
        """Return whether it is due; if so, all requests so far count as done."""
        if now < self.due:
            return False
        self._latest = self.due = math.inf
        return True
