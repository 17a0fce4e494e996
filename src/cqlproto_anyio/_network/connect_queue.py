"""Whose turn it is to connect: the bound on a session's attempts, over all its hosts.

When a cluster restarts, or a session with hundreds of hosts begins, thousands of connections are
due at once. Here they wait in one queue, at most so many are under way at a time, and the one that
has been due for longest goes first.

Attempts at hosts that failed before may hang until they time out: they may fill half the places at
most, so that hosts that work never wait behind those that don't.

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
    """A host that is waiting for its turn, at the place it has in a queue.

    Attributes:
        place: when it is due, and a number that tells who came first.
        valid: False once another entry, or none, stands for the host.
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
    """Entries by their places. Those that aren't valid any more are dropped when they come up, or
    when they are the most."""

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
    """The attempts of one session.

    After anything is told to a :class:`HostState`, :meth:`changed` must be called with it. After an
    attempt has ended, its result is told to the state and :meth:`finished` is called, then
    :meth:`changed`.

    Arguments:
        limit: how many attempts may be under way at a time, at least 1.

    Attributes:
        under_way: how many are.
    """

    __slots__ = ("_doubtful", "_entries", "_limit", "_number", "_queues", "_started", "under_way")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at most {limit} attempts")
        self._limit = limit
        self.under_way = 0
        self._entries: dict[K, tuple[_Queue[K], _Entry[K]]] = {}
        # Hosts that didn't fail lately, and those that did.
        self._queues: tuple[_Queue[K], _Queue[K]] = (_Queue(), _Queue())
        self._number = 0
        # Per host: the attempts under way, those that began in doubt first.
        self._started: dict[K, list[bool]] = {}
        self._doubtful = 0

    def changed(self, key: K, state: HostState) -> None:
        """Take note of when the host's next attempt is due now."""
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
        """Begin the attempts that are due, as far as there is room.

        Returns:
            the hosts, one per attempt; the states know already that it begins.
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
        """An attempt has ended, well or not.

        Raises:
            ValueError: the host has none under way.
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
        """When to call :meth:`take` again, in seconds of the clock; it may have passed. Infinity if
        nothing is due before something changes or an attempt ends."""
        entry = self._first()
        return math.inf if entry is None else entry.place[0]

    def _first(self) -> _Entry[K] | None:
        """Return who goes first of those that may."""
        if self.under_way >= self._limit:
            return None
        sound, failed = (queue.first() for queue in self._queues)
        if failed is None or self._doubtful >= max(1, self._limit // 2):
            return sound
        if sound is None:
            return failed
        return min(sound, failed)
