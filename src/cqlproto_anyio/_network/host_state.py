"""One host, as a pool sees it: how many connections there are, and when the next one is tried.

There is one place where that is decided, it does no I/O, and time and chance are arguments: a pool
tells what happened and obeys :attr:`HostState.next_attempt`. Nothing else starts a connection, so
nothing can be stuck between two timers.

              needed, reported_up             opened
    UNKNOWN -------------------> attempts ----------------> UP
    asleep                        ^    | failed             | an attempt fails while none is open
                                  |    v                    v
                                  +-- DOWN <----------------+          removed: REMOVED, for good

What bounds the attempts:

- While no connection is open there is one attempt at a time. A dead host costs one handshake per
  back-off, however many connections it had; the others follow when the first has succeeded.
- After a loss the first attempt comes at once, the others spread over a moment, so that a host that
  is back isn't met by everything at the same time.
- Failures in a row wait ever longer. Attempts that were under way together count as one failure.
  Any success ends that.
- Connections that are lost as soon as they are open would go around that: a loss soon after a
  success waits as a failure would.
- Who says that a host is up, or needs it, brings the next attempt nearer, but never nearer than
  ``urgent`` after the last failure. Attempts that were brought nearer and have failed double that,
  up to a few seconds: requests that come all the time wait ever longer, too.
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

# A connection that lived so long, in seconds, was no failure when it's lost.
STEADY = 5.0

# After a host is said to be up it may take a while until it serves CQL: for so long, in seconds,
# no wait is longer than the other.
QUICK_FOR = 30.0
QUICK = 1.0

# The longest that a request which needs a host makes of ``urgent``, in seconds.
LONGEST_URGENT = 2.0


class Status(enum.Enum):
    """What is known of a host."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    REMOVED = "removed"


class HostState:
    """The connections of one host: those that are open, those under way, and the next attempt.

    It begins asleep: :meth:`needed` or :meth:`reported_up` wakes it. All times are seconds of one
    clock.

    Arguments:
        size: how many connections there shall be, at least 1.
        largest: how many there may be when they are crowded, at least ``size``.
        reconnection: how long to wait after failures.
        fraction: returns a random number in [0, 1).
        urgent: how long after a failure the next attempt may begin for a request that needs the
            host, in seconds; twice as long after each attempt in a row that failed so, up to
            ``LONGEST_URGENT``.

    Attributes:
        status: what is known of the host. UP lasts until an attempt fails while nothing is open.
        open: how many connections are open.
        opening: how many attempts are under way.
        wanted: how many connections there shall be; 0 while asleep and when removed.
        failures: how many attempts failed in a row.
        error: why the last attempt failed; None after a success.
        next_attempt: when to begin the next attempt; infinity if none is wanted now.
    """

    __slots__ = (
        "_answered",
        "_answered_at",
        "_due",
        "_failed_at",
        "_flaps",
        "_fraction",
        "_hurried",
        "_hurries",
        "_largest",
        "_opened_at",
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
            raise ValueError(f"{size} connections, at most {largest}")
        self._size = size
        self._largest = largest
        self._reconnection = reconnection
        self._fraction = fraction
        self._urgent = urgent
        # Whether the next attempt, or the one under way, was brought nearer; and how many of those
        # have failed in a row.
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
        # The last failure, or what counts as one; those under way then fail with it.
        self._failed_at = -math.inf
        self._siblings = 0
        # Whether there was a success since the last loss; the first and the last of them.
        self._answered = False
        self._answered_at = -math.inf
        self._opened_at = -math.inf
        # How many times in a row a connection was lost as soon as it was open.
        self._flaps = 0
        # Whether attempts are spread, since something was lost; not when a session begins.
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
        self._calm_down(now)
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
        self._opened_at = now
        if not self._answered:
            self._answered = True
            self._answered_at = now
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
        """An open connection broke.

        Arguments:
            lived: for how long it was open, in seconds; None takes the time since the last success,
                which is the least that it can be.
        """
        self._closed()
        self._calm_down(now)
        if self._answered:
            # The first since one was opened; others that go the same way change nothing.
            self._answered = False
            if (now - self._opened_at if lived is None else lived) < STEADY:
                self._flaps += 1
            if self._flaps:
                self._failed_at = now
            self._due = now + self._flap_wait(now)
        self._spread = True
        self._plan()

    def retired(self, now: float) -> None:
        """An open connection was taken out of service by its owner; another replaces it at once."""
        self._closed()
        self._due = now
        self._plan()

    def at_watermark(self, now: float) -> bool:
        """All connections are busy: let there be one more, unless some are on their way anyhow.

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
        """There shall be so many connections from now on, such as one for each shard of a node.

        Those that are open stay; ``largest`` grows with it if need be.
        """
        self._size = size
        self._largest = max(self._largest, size)
        if self.wanted:
            self.wanted = max(self.wanted, size)
            self._due = min(self._due, now + self._gap(now))
            self._plan()

    # -- news

    def needed(self, now: float) -> bool:
        """A request found no open connection, or a session wants the host from its beginning.

        Returns:
            whether :attr:`next_attempt` has come nearer.
        """
        if self.open or self.status is Status.REMOVED:
            return False
        self._wake()
        return self._hurry(now)

    def reported_up(self, now: float) -> None:
        """The cluster says that the host is up: the back-off ends.

        It may be said before the host serves CQL, so for a while no wait will be long.
        """
        if self.status is Status.REMOVED:
            return
        self._wake()
        if now >= self._quick_until:  # said again and again it ends nothing more
            self.failures = 0
            self._flaps = 0
            self._hurries = 0
            self._quick_until = now + QUICK_FOR
        self._hurry(now)

    def reported_down(self, now: float) -> None:
        """The cluster says that the host is down; a connection that works knows better."""
        if not self.open and self.status is not Status.REMOVED:
            self.status = Status.DOWN

    def removed(self) -> None:
        """The host left the cluster: nothing is wanted any more.

        Attempts that are under way still end in :meth:`opened` or :meth:`failed`, open connections
        in :meth:`lost` or :meth:`retired`.
        """
        self.status = Status.REMOVED
        self.wanted = 0
        self._plan()

    # -- how

    def _plan(self) -> None:
        """Set :attr:`next_attempt` to what follows from the rest."""
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
        return min(self._wait(now, self._flaps), STEADY) if self._flaps else 0.0

    def _gap(self, now: float) -> float:
        """Return how long to wait from one attempt, or its success, to the next.

        After a loss all that are missing take about as long as the first back-off, together.
        """
        if self.failures:
            return self._wait(now, self.failures)
        if self._flaps:
            return self._flap_wait(now)
        if not self._spread:
            return 0.0
        missing = max(self.wanted - self.open - self.opening, 1)
        return self._reconnection.delay(1, 0.0) * min(2.0 * self._fraction() / missing, 1.0)

    def _calm_down(self, now: float) -> None:
        """Forget losses, if what was opened since the last has proved steady."""
        if self._answered and now - self._answered_at >= STEADY:
            self._flaps = 0

    def _ended(self) -> None:
        if not self.opening:
            raise ValueError("no attempt is under way")
        self.opening -= 1

    def _closed(self) -> None:
        if not self.open:
            raise ValueError("no connection is open")
        self.open -= 1
