"""Session-wide limit and queue for connection attempts.

When a cluster restarts, or a session with hundreds of hosts starts, thousands of connections are
due at once. They wait in one queue: a limited number is under way at a time, and the one that has
been due for longest begins next.

Attempts at hosts that failed before may hang until they time out. They take at most half of the
limit, so that hosts that work don't wait for hosts that don't.

Each step costs O(log n) in the number of hosts. There is no I/O, and time is an argument.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from cqlproto_anyio._network.host_state import HostState

__all__ = ["ConnectQueue"]

K = TypeVar("K", bound=Hashable)


class _Entry(Generic[K]):
    """A host that waits in a queue.

    Attributes:
        place: when its attempt is due, and a serial number.
        valid: False once the host has left the queue or has another entry.
    """

    __slots__ = ("key", "place", "state", "valid")

    def __init__(self, place: tuple[float, int], key: K, state: HostState) -> None:
        self.place = place
        self.key = key
        self.state = state
        self.valid = True

    def __lt__(self, other: _Entry[K]) -> bool:
        return self.place < other.place


class _Queue(Generic[K]):
    """A heap of entries. Invalid ones are dropped when they come first, or outnumber the rest."""

    __slots__ = ("_heap", "_valid")

    def __init__(self) -> None:
        self._heap: list[_Entry[K]] = []
        self._valid = 0

    def put(self, entry: _Entry[K]) -> None:
        heapq.heappush(self._heap, entry)
        self._valid += 1

    def drop(self, entry: _Entry[K]) -> None:
        entry.valid = False
        self._valid -= 1
        if len(self._heap) > 2 * self._valid + 64:
            self._heap = [each for each in self._heap if each.valid]
            heapq.heapify(self._heap)

    def first(self) -> _Entry[K] | None:
        """Return the first entry, or None."""
        heap = self._heap
        while heap:
            if heap[0].valid:
                return heap[0]
            heapq.heappop(heap)
        return None


class ConnectQueue(Generic[K]):
    """The connection attempts of one session.

    Call :meth:`changed` after each change of a :class:`HostState`. When an attempt has ended, first
    report its result to the state, then call :meth:`finished` and :meth:`changed`.

    Arguments:
        limit: how many attempts may be under way at a time, at least 1.

    Attributes:
        under_way: how many attempts are under way.
    """

    __slots__ = ("_doubtful", "_entries", "_limit", "_number", "_queues", "_started", "under_way")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        self._limit = limit
        self.under_way = 0
        self._entries: dict[K, tuple[_Queue[K], _Entry[K]]] = {}
        # Hosts whose last attempt didn't fail, and those whose did.
        self._queues: tuple[_Queue[K], _Queue[K]] = (_Queue(), _Queue())
        self._number = 0
        # Per host: for each attempt under way, oldest first, whether the host had failed before.
        self._started: dict[K, list[bool]] = {}
        self._doubtful = 0

    def changed(self, key: K, state: HostState) -> None:
        """Queue the host by when its next attempt is due now."""
        known = self._entries.get(key)
        due = state.next_attempt
        queue = self._queues[state.failures > 0]
        if known is not None:
            if known[0] is queue and known[1].state is state and known[1].place[0] == due:
                return  # it keeps its place
            known[0].drop(known[1])
            del self._entries[key]
        if due != math.inf:
            self._number += 1
            entry = _Entry((due, self._number), key, state)
            queue.put(entry)
            self._entries[key] = queue, entry

    def take(self, now: float) -> list[K]:
        """Begin the attempts that are due, up to the limit.

        Returns:
            the hosts, one per attempt; their states count the attempt.
        """
        taken: list[K] = []
        while (entry := self._first()) is not None and entry.place[0] <= now:
            doubtful = entry.state.failures > 0
            self._started.setdefault(entry.key, []).append(doubtful)
            self.under_way += 1
            self._doubtful += doubtful
            entry.state.start(now)
            taken.append(entry.key)
            self.changed(entry.key, entry.state)
        return taken

    def finished(self, key: K) -> None:
        """An attempt has ended, successfully or not.

        Raises:
            ValueError: no attempt at this host is under way.
        """
        started = self._started.get(key)
        if started is None:
            raise ValueError(f"no attempt is under way to {key}")
        self._doubtful -= started.pop(0)
        self.under_way -= 1
        if not started:
            del self._started[key]

    @property
    def next(self) -> float:
        """When to call :meth:`take` again, in seconds of the clock, which may be in the past.

        Infinity if nothing is due before something changes or an attempt ends.
        """
        entry = self._first()
        return math.inf if entry is None else entry.place[0]

    def _first(self) -> _Entry[K] | None:
        """Return the entry whose attempt begins next, or None."""
        if self.under_way >= self._limit:
            return None
        sound, failed = (queue.first() for queue in self._queues)
        if failed is None or self._doubtful >= max(1, self._limit // 2):
            return sound
        if sound is None:
            return failed
        return min(sound, failed)
