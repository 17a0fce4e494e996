"""When the control connection reads the system tables again, and when it sends a heartbeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cqlproto_anyio._cluster.debounce import Debounce

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RefreshSchedule"]


class RefreshSchedule:
    """Pure: time is an argument, in seconds of any clock.

    Arguments:
        quiet: how many seconds without another event pass before a refresh.
        most: how many seconds after the first event the refresh begins anyway.
        soon: after how many seconds rows with errors are read again, since a node's rows are
            written bit by bit. It doubles each time, up to ``refresh_interval``.
        refresh_interval: how many seconds pass between two refreshes without an event.
        heartbeat_interval: how many seconds after an answer a heartbeat is sent.
        fraction: returns a random number in [0, 1).

    Attributes:
        hosts: the debounce of hosts and keyspaces.
        keyspaces: the debounce of keyspaces alone.
    """

    __slots__ = (
        "_delay", "_fraction", "_heartbeat_at", "_heartbeat_interval", "_refresh_at",
        "_refresh_interval", "_soon", "hosts", "keyspaces",
    )  # fmt: skip

    def __init__(
        self,
        *,
        quiet: float,
        most: float,
        soon: float,
        refresh_interval: float,
        heartbeat_interval: float,
        fraction: Callable[[], float],
    ) -> None:
        self.hosts = Debounce(quiet, most)
        self.keyspaces = Debounce(quiet, most)
        self._soon = self._delay = soon
        self._refresh_interval = refresh_interval
        self._heartbeat_interval = heartbeat_interval
        self._fraction = fraction
        self._refresh_at = math.inf
        self._heartbeat_at = math.inf

    def take_refresh(self, now: float) -> bool:
        """Return whether a refresh is due; if so, it counts as done."""
        if not self.hosts.take(now) and now < self._refresh_at:
            return False
        self._plan_refresh(now)
        return True

    def is_heartbeat_due(self, now: float) -> bool:
        """Return whether the node has not answered anything for the interval."""
        return now >= self._heartbeat_at

    def postpone_heartbeat(self, now: float) -> None:
        """Send the next heartbeat an interval from now."""
        self._heartbeat_at = now + self._heartbeat_interval

    def everything_read(self, now: float) -> None:
        """Drop what is due: all tables were just read at another node."""
        self.hosts.take(math.inf)
        self.keyspaces.take(math.inf)
        self._plan_refresh(now)

    def read_again(self, now: float, *, new: bool) -> None:
        """Plan a refresh because of rows with errors.

        Arguments:
            now: the time.
            new: whether some of the errors are new; then the delay begins anew.
        """
        self._delay = self._soon if new else min(2 * self._delay, self._refresh_interval)
        self._refresh_at = min(self._refresh_at, now + self._delay)

    @property
    def next(self) -> float:
        """When something is due, in seconds of the clock; infinity if nothing is."""
        return min(self.hosts.due, self.keyspaces.due, self._refresh_at, self._heartbeat_at)

    def _plan_refresh(self, now: float) -> None:
        # at random, so that sessions that were started together don't all read at once
        self._refresh_at = now + self._refresh_interval * (1 + self._fraction() / 4)
