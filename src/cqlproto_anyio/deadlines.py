"""When requests are due: one structure for all of a session's deadlines, told the time from
outside.

Nearly all requests of a program have the same timeout, so those with one timeout are due in the
order in which they came: a dict per timeout keeps that order and forgets a finished request at
once. Finding the next deadline looks at the head of each dict only. What doesn't come in order (the
second page of a call, a second attempt) is kept apart and looked at whole; there is little of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Alarm", "Deadlines", "Due"]


class Due(Protocol):
    """Something with a deadline."""

    timeout: float | None
    deadline: float
    queue: dict[Due, None] | None  # where it stands: it may leave by itself, with this set to None

    def expire(self) -> None:
        """The deadline has passed; called once, after it was removed."""
        ...


# Timeouts that differ from call to call (what is left of some budget) would otherwise leave an
# empty dict each.
_MANY = 64


class Deadlines:
    """The requests that have a deadline.

    Attributes:
        next: when the earliest may be due, in seconds of the clock in use; infinity if none is. It
            may be too early, if that one has finished meanwhile, but never too late.
    """

    __slots__ = ("_by_timeout", "_others", "next")

    def __init__(self) -> None:
        self._by_timeout: dict[float, dict[Due, None]] = {}
        self._others: dict[Due, None] = {}
        self.next = math.inf

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._by_timeout.values()))

    def add(self, due: Due, now: float) -> bool:
        """Add what has a timeout and no deadline yet; True if :attr:`next` has come nearer."""
        timeout = due.timeout
        if timeout is None:
            due.deadline = math.inf
            return False
        due.deadline = deadline = now + timeout
        queue = self._by_timeout.get(timeout)
        if queue is None:
            queue = self._add_timeout(timeout)
        queue[due] = None
        due.queue = queue
        if deadline < self.next:
            self.next = deadline
            return True
        return False

    def add_until(self, due: Due) -> bool:
        """Add what has a deadline already; True if :attr:`next` has come nearer."""
        if due.deadline == math.inf:
            return False
        self.remove(due)
        self._others[due] = None
        due.queue = self._others
        if due.deadline < self.next:
            self.next = due.deadline
            return True
        return False

    def remove(self, due: Due) -> None:
        """Forget it, if it is still there."""
        queue, due.queue = due.queue, None
        if queue is not None:
            del queue[due]

    def expire(self, now: float) -> None:
        """Expire what is due and set :attr:`next`."""
        late: list[Due] = []
        following = math.inf
        for queue in self._by_timeout.values():
            for due in queue:
                if due.deadline > now:
                    following = min(following, due.deadline)
                    break
                late.append(due)
        for due in self._others:
            if due.deadline > now:
                following = min(following, due.deadline)
            else:
                late.append(due)
        for due in late:
            self.remove(due)
        self.next = following
        for due in late:
            due.expire()

    def _add_timeout(self, timeout: float) -> dict[Due, None]:
        if len(self._by_timeout) >= _MANY:
            for key in [key for key, queue in self._by_timeout.items() if not queue]:
                del self._by_timeout[key]
        return self._by_timeout.setdefault(timeout, {})


class Alarm:
    """A function to be called at some time; nothing but a deadline among the others.

    Arguments:
        deadlines: where it is kept.
        function: what is called then; it must not raise.
        rearm: called when it has become the next one of all.
    """

    __slots__ = ("_deadlines", "_function", "_rearm", "deadline", "queue", "timeout")

    def __init__(
        self, deadlines: Deadlines, function: Callable[[], None], rearm: Callable[[], None]
    ) -> None:
        self._deadlines = deadlines
        self._function = function
        self._rearm = rearm
        self.timeout: float | None = None
        self.deadline = math.inf
        self.queue: dict[Due, None] | None = None

    def set(self, deadline: float) -> None:
        """Call the function then, in seconds of the clock, and only then; infinity: never."""
        if deadline == self.deadline:
            return
        self.deadline = deadline
        self._deadlines.remove(self)
        if self._deadlines.add_until(self):
            self._rearm()

    def cancel(self) -> None:
        """Don't call it."""
        self.set(math.inf)

    def expire(self) -> None:
        self.deadline = math.inf
        self._function()
