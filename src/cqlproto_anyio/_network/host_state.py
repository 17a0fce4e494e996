"""When to open the next connection to one host: a state machine without I/O.

A pool reports what happens and opens a connection when :attr:`HostState.next_attempt` has come.
Nothing else opens connections. Time and random numbers are arguments.

              needed, reported_up             opened
    UNKNOWN -------------------> attempts ----------------> UP
                                  ^    | failed             | an attempt fails while none is open
                                  |    v                    v
                                  +-- DOWN <----------------+          removed: REMOVED, for good

What limits the attempts:

- While no connection is open, there is one attempt at a time. A dead host costs one handshake per
  back-off, however many connections it had; the others follow once one has succeeded.
- After a loss the first attempt begins at once and the others are spread over a moment, so that a
  host that is back isn't met by all of them at the same time.
- Failures in a row wait longer and longer. Attempts that were under way together count as one
  failure. Any success resets the back-off.
- A loss soon after a success waits as a failure does. Otherwise a node that accepts connections and
  drops them would never be left alone.
- A request that needs the host, or a report that the host is up, brings the next attempt nearer,
  but not nearer than ``urgent`` after the last failure. Each such attempt that fails doubles that,
  up to some seconds, so that requests which keep coming wait longer too.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio.policies.reconnection import Reconnection

__all__ = ["HostState", "Status"]

# The loss of a connection that was open for so long doesn't count as a failure, in seconds.
STEADY = 5.0

# A host that is reported up may not serve CQL yet: for QUICK_FOR seconds, no wait is longer than
# QUICK seconds.
QUICK_FOR = 30.0
QUICK = 1.0

# The upper limit of ``urgent`` after it was doubled, in seconds.
LONGEST_URGENT = 2.0


class Status(enum.Enum):
    """What is known of a host."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    REMOVED = "removed"


class _Flaps:
    """Counts connections in a row that were lost soon after they had been opened.

    Attributes:
        count: how many.
    """

    __slots__ = ("_is_open", "_opened_at", "_reopened_at", "count")

    def __init__(self) -> None:
        self.count = 0
        # Whether a connection was opened since the last loss; when the first and the last of
        # those were.
        self._is_open = False
        self._reopened_at = -math.inf
        self._opened_at = -math.inf

    def opened(self, now: float) -> None:
        """A connection was opened."""
        self._opened_at = now
        if not self._is_open:
            self._is_open = True
            self._reopened_at = now

    def lost(self, now: float, lived: float | None) -> bool:
        """A connection was lost; return whether it is the first since one was opened.

        Others that are lost with it change nothing.
        """
        if not self._is_open:
            return False
        self._is_open = False
        if (now - self._opened_at if lived is None else lived) < STEADY:
            self.count += 1
        return True

    def forgive(self, now: float) -> None:
        """Forget the losses if connections have been open for long since the last."""
        if self._is_open and now - self._reopened_at >= STEADY:
            self.count = 0


class HostState:
    """The connections of one host: those that are open, those under way, and the next attempt.

    No connection is wanted until :meth:`needed` or :meth:`reported_up` is called. All times are
    seconds of one clock.

    Arguments:
        size: how many connections to keep open, at least 1.
        largest: how many there may be while all are busy, at least ``size``.
        reconnection: how long to wait after failures.
        fraction: returns a random number in [0, 1).
        urgent: how long after a failure the next attempt may begin for a request that needs the
            host, in seconds; doubled by each such attempt in a row that fails, up to
            ``LONGEST_URGENT``.

    Attributes:
        status: what is known of the host. UP lasts until an attempt fails while nothing is open.
        open: how many connections are open.
        opening: how many attempts are under way.
        wanted: how many connections to have; 0 before the first need and after removal.
        failures: how many attempts failed in a row.
        error: why the last attempt failed; None after a success.
        next_attempt: when to begin the next attempt; infinity if none is wanted.
    """

    __slots__ = (
        "_due",
        "_failed_at",
        "_flaps",
        "_fraction",
        "_hurried",
        "_hurries",
        "_largest",
        "_quick_until",
        "_reconnection",
        "_siblings",
        "_size",
        "_spread",
        "_urgent",
        "error",
        "failures",
        "next_attempt",
        "open",
        "opening",
        "status",
        "wanted",
    )

    def __init__(
        self,
        *,
        size: int,
        largest: int,
        reconnection: Reconnection,
        fraction: Callable[[], float],
        urgent: float = 0.25,
    ) -> None:
        if not 1 <= size <= largest:
            raise ValueError(f"size must be 1 to {largest}, got {size}")
        self._size = size
        self._largest = largest
        self._reconnection = reconnection
        self._fraction = fraction
        self._urgent = urgent
        # Whether the next attempt, or the one under way, was brought nearer, and how many such
        # attempts have failed in a row.
        self._hurried = False
        self._hurries = 0
        self.status = Status.UNKNOWN
        self.open = 0
        self.opening = 0
        self.wanted = 0
        self.failures = 0
        self.error: BaseException | None = None
        self.next_attempt = math.inf
        # When the next attempt may begin, if one is wanted.
        self._due = math.inf
        # The last failure, and how many attempts were under way then: theirs count with it.
        self._failed_at = -math.inf
        self._siblings = 0
        self._flaps = _Flaps()
        # Whether attempts are spread: after a loss or failure, but not when a session begins.
        self._spread = False
        self._quick_until = -math.inf

    def __repr__(self) -> str:
        return (
            f"<HostState {self.status.value}: {self.open} open, {self.opening} opening,"
            f" {self.wanted} wanted, {self.failures} failures>"
        )

    # -- attempts

    def start(self, now: float) -> None:
        """An attempt begins. Called when :attr:`next_attempt` has come, once per attempt."""
        if self.next_attempt == math.inf:
            raise ValueError("no attempt is wanted")
        self.opening += 1
        self._flaps.forgive(now)
        self._due = now + self._gap(now)
        self._plan()

    def opened(self, now: float) -> None:
        """An attempt has succeeded."""
        self._ended()
        self.open += 1
        if self.status is Status.REMOVED:
            return
        waited = self.failures > 0 or self.open == 1
        self.status = Status.UP
        self.failures = 0
        self.error = None
        self._hurried = False
        self._hurries = 0
        self._siblings = 0
        self._flaps.opened(now)
        if waited:
            self._due = now + self._gap(now)
        if self.open >= self.wanted:
            self._spread = False
        self._plan()

    def failed(self, now: float, error: BaseException) -> None:
        """An attempt has failed, or was given up."""
        self._ended()
        if self.status is Status.REMOVED:
            return
        self.error = error
        self._spread = True
        self._failed_at = now
        if self._siblings:
            self._siblings -= 1
        else:
            self.failures += 1
            self._hurries += self._hurried
            self._hurried = False
            self._siblings = self.opening
            self._due = now + self._wait(now, self.failures)
        if not self.open:
            self.status = Status.DOWN
            self.wanted = min(self.wanted, self._size)
        self._plan()

    # -- connections

    def lost(self, now: float, lived: float | None = None) -> None:
        """An open connection was lost.

        Arguments:
            lived: how long it was open, in seconds; None takes the time since the last success, the
                shortest that is possible.
        """
        self._closed()
        self._flaps.forgive(now)
        if self._flaps.lost(now, lived):
            if self._flaps.count:
                self._failed_at = now
            self._due = now + self._flap_wait(now)
        self._spread = True
        self._plan()

    def retired(self, now: float) -> None:
        """The owner took a connection out of service; another one replaces it at once."""
        self._closed()
        self._due = now
        self._plan()

    def at_watermark(self, now: float) -> bool:
        """All connections are busy: want one more, unless one is being opened already.

        Returns:
            whether one more is wanted now.
        """
        if self.opening or not 0 < self.open < self._largest or self.open < self.wanted:
            return False
        if self.status is Status.REMOVED:
            return False
        self.wanted = self.open + 1
        self._due = now
        self._plan()
        return True

    def resize(self, now: float, size: int) -> None:
        """Keep so many connections open from now on, such as one for each shard of a node.

        Open connections stay; ``largest`` grows if necessary.
        """
        self._size = size
        self._largest = max(self._largest, size)
        if self.wanted:
            self.wanted = max(self.wanted, size)
            self._due = min(self._due, now + self._gap(now))
            self._plan()

    # -- what requests need and the cluster reports

    def needed(self, now: float) -> bool:
        """A request found no open connection, or a starting session wants the host.

        Returns:
            whether :attr:`next_attempt` has come nearer.
        """
        if self.open or self.status is Status.REMOVED:
            return False
        self._wake()
        return self._hurry(now)

    def reported_up(self, now: float) -> None:
        """The cluster reports that the host is up: the back-off ends.

        The host may not serve CQL yet, so for a while no wait is long.
        """
        if self.status is Status.REMOVED:
            return
        self._wake()
        if now >= self._quick_until:  # repeated reports end nothing more
            self.failures = self._siblings = 0
            self._flaps.count = 0
            self._hurries = 0
            self._quick_until = now + QUICK_FOR
        self._hurry(now)

    def reported_down(self, now: float) -> None:
        """The cluster reports that the host is down; ignored while a connection is open."""
        if not self.open and self.status is not Status.REMOVED:
            self.status = Status.DOWN

    def removed(self) -> None:
        """The host left the cluster: no connection is wanted any more.

        Attempts under way still end in :meth:`opened` or :meth:`failed`, open connections
        in :meth:`lost` or :meth:`retired`.
        """
        self.status = Status.REMOVED
        self.wanted = 0
        self._plan()

    # -- the next attempt

    def _plan(self) -> None:
        """Set :attr:`next_attempt` from the other attributes."""
        missing = self.wanted - self.open - self.opening
        # One at a time until one has succeeded.
        possible = missing > 0 and (self.open > 0 or self.opening == 0)
        self.next_attempt = self._due if possible else math.inf

    def _wake(self) -> None:
        if not self.wanted:
            self.wanted = self._size

    def _hurry(self, now: float) -> bool:
        before = self.next_attempt
        urgent = backoff(self._urgent, self._hurries + 1, LONGEST_URGENT)
        soonest = self._failed_at + urgent * (1.0 - 0.25 * self._fraction())
        due = max(now, soonest)
        if due < self._due:
            self._due = due
            self._hurried = self.failures > 0
        self._plan()
        return self.next_attempt < before

    def _wait(self, now: float, failures: int) -> float:
        wait = self._reconnection.delay(failures, self._fraction())
        return min(wait, QUICK) if now < self._quick_until else wait

    def _flap_wait(self, now: float) -> float:
        return min(self._wait(now, self._flaps.count), STEADY) if self._flaps.count else 0.0

    def _gap(self, now: float) -> float:
        """Return how long to wait from one attempt, or its success, to the next.

        After a loss, all missing connections together take about as long as the first back-off.
        """
        if self.failures:
            return self._wait(now, self.failures)
        if self._flaps.count:
            return self._flap_wait(now)
        if not self._spread:
            return 0.0
        missing = max(self.wanted - self.open - self.opening, 1)
        return self._reconnection.delay(1, 0.0) * min(2.0 * self._fraction() / missing, 1.0)

    def _ended(self) -> None:
        if not self.opening:
            raise ValueError("no attempt is under way")
        self.opening -= 1

    def _closed(self) -> None:
        if not self.open:
            raise ValueError("no connection is open")
        self.open -= 1
