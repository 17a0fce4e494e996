"""The deadlines of all requests of a session. Time is an argument.

Nearly all requests of a program have the same timeout, and those are due in the order in which they
were added: a dict per timeout keeps that order and forgets a finished request at once. Everything
else (rare timeouts, the second page of a call, a second attempt, an alarm) is in one more dict,
with its deadline in a heap. Entries that have left that dict are dropped from the heap when they
come first, or when they outnumber the rest. The heap has weak references, so it does not keep an
answered request alive.

Due requests are expired in slices, the earliest first, so that ten thousand requests that are due
together do not block the event loop.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush, merge
from operator import attrgetter
from typing import Protocol, TypeAlias
from weakref import ref

__all__ = ["Deadlines", "Due"]


class Due(Protocol):
    """Something with a deadline."""

    timeout: float | None
    deadline: float
    queue: dict[Due, int] | None  # the dict that contains it; it may leave, and set this to None

    def expire(self) -> None:
        """The deadline has passed; called once, after it was removed."""
        ...


# How many timeouts get a dict. Timeouts that differ from call to call would leave an empty dict
# each, and all dicts are looked at when something is due.
_MANY = 64

# How many are expired at a time: some milliseconds of work, with that of the woken tasks.
SLICE = 256

_deadline = attrgetter("deadline")
# A deadline, a serial number, and what is due then.
_Entry: TypeAlias = "tuple[float, int, ref[Due]]"


class Deadlines:
    """The requests and alarms with a deadline.

    Attributes:
        next: the earliest deadline, in seconds of the clock; infinity if there is none. It may be
            too early, if that request has finished, but never too late.
    """

    __slots__ = ("_by_timeout", "_heap", "_others", "_serial", "_skipped", "next")

    def __init__(self) -> None:
        self._by_timeout: dict[float, dict[Due, int]] = {}
        self._others: dict[Due, int] = {}  # with the serial number of their entry in the heap
        self._heap: list[_Entry] = []
        self._serial = 0
        self._skipped = 0  # timeouts without a dict since empty dicts were removed
        self.next = math.inf

    def __len__(self) -> int:
        return len(self._others) + sum(map(len, self._by_timeout.values()))

    def add(self, due: Due, now: float) -> bool:
        """Set the deadline from the timeout, and add it; True if :attr:`next` is earlier now."""
        timeout = due.timeout
        if timeout is None:
            due.deadline = math.inf
            return False
        due.deadline = deadline = now + timeout
        queue = self._by_timeout.get(timeout)
        if queue is None:
            queue = self._queue_for(timeout, due)
        else:
            queue[due] = 0
        due.queue = queue
        if deadline < self.next:
            self.next = deadline
            return True
        return False

    def add_until(self, due: Due) -> bool:
        """Add something at its ``deadline``; True if :attr:`next` is earlier now."""
        if due.deadline == math.inf:
            return False
        self.remove(due)
        self._push(due)
        due.queue = self._others
        if due.deadline < self.next:
            self.next = due.deadline
            return True
        return False

    def remove(self, due: Due) -> None:
        """Remove it, if it is still there."""
        queue, due.queue = due.queue, None
        if queue is not None:
            del queue[due]

    def expire(self, now: float) -> bool:
        """Expire at most a slice of what is due, the earliest first, and set :attr:`next`.

        Returns:
            whether more is due: call this again in another turn of the event loop.
        """
        taken = self._take_due(now)
        queues = [queue for queue in self._by_timeout.values() if queue]
        late: list[Due] = []
        for due in merge(*queues, [due for _, due in taken], key=_deadline):
            if due.deadline > now or len(late) == SLICE:
                break
            late.append(due)
        for due in late:
            self.remove(due)
        for entry, due in taken:
            if self._others.get(due) == entry[1]:  # the slice was full of earlier ones
                heappush(self._heap, entry)
        self.next = self._earliest()
        for due in late:
            due.expire()
        return self.next <= now

    def _earliest(self) -> float:
        earliest = math.inf
        for queue in self._by_timeout.values():
            for due in queue:
                earliest = min(earliest, due.deadline)
                break
        heap = self._heap
        while heap and self._standing(heap[0]) is None:
            heappop(heap)
        return min(earliest, heap[0][0]) if heap else earliest

    def _take_due(self, now: float) -> list[tuple[_Entry, Due]]:
        """Take a slice of the due entries from the heap, in order."""
        heap = self._heap
        taken: list[tuple[_Entry, Due]] = []
        while heap and heap[0][0] <= now and len(taken) < SLICE:
            entry = heappop(heap)
            due = self._standing(entry)
            if due is not None:
                taken.append((entry, due))
        return taken

    def _standing(self, entry: _Entry) -> Due | None:
        """Return what the entry stands for; None if that has left or has a later entry."""
        due = entry[2]()
        return due if due is not None and self._others.get(due) == entry[1] else None

    def _push(self, due: Due) -> None:
        self._serial = serial = self._serial + 1
        self._others[due] = serial
        heap = self._heap
        if len(heap) > _MANY + 2 * len(self._others):
            heap[:] = [(each.deadline, number, ref(each)) for each, number in self._others.items()]
            heapify(heap)
        else:
            heappush(heap, (due.deadline, serial, ref(due)))

    def _queue_for(self, timeout: float, due: Due) -> dict[Due, int]:
        """Add to a new dict for this timeout, or to the others; return that dict."""
        by_timeout = self._by_timeout
        if len(by_timeout) >= _MANY:
            self._skipped += 1
            if self._skipped >= _MANY:
                self._skipped = 0
                for key in [key for key, queue in by_timeout.items() if not queue]:
                    del by_timeout[key]
        if len(by_timeout) >= _MANY:
            self._push(due)
            return self._others
        by_timeout[timeout] = queue = {due: 0}
        return queue
