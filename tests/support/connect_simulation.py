"""Sessions that connect to hosts, without I/O: simulated time and seeded random numbers.

A :class:`Session` has a :class:`HostState` per host and one :class:`ConnectQueue`. It follows their
decisions with hosts that serve, refuse, or are silent. A :class:`World` has the clock and the
hosts, which several sessions share. All invariants are checked after each event.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Literal

from cqlproto_anyio._network.connect_queue import ConnectQueue
from cqlproto_anyio._network.host_state import HostState, Status
from cqlproto_anyio.policies import ExponentialReconnection, Reconnection

if TYPE_CHECKING:
    from collections.abc import Callable

Mood = Literal["serving", "refusing", "silent", "dropping"]

CONNECT_TIMEOUT = 5.0


class World:
    """A clock, and hosts that are numbers.

    Attributes:
        now: the time, in seconds.
        moods: each host's reaction to attempts: it accepts them, refuses them, doesn't answer, or
            drops the connection as soon as it is open.
        attempts: (when, host) of each attempt.
    """

    def __init__(self, hosts: int, seed: int = 1) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.moods: list[Mood] = ["serving"] * hosts
        self.sessions: list[Session] = []
        self.attempts: list[tuple[float, int]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    def turn(self, host: int, mood: Mood) -> None:
        """Change the behaviour of a host; one that stops serving loses its connections."""
        self.moods[host] = mood
        if mood != "serving":
            for session in self.sessions:
                for _ in range(session.states[host].open):
                    self.at(self.now + self.random.random() * 0.01, session.loser(host))

    def attempts_at(self, host: int, since: float = 0.0) -> list[float]:
        return [when for when, which in self.attempts if which == host and when >= since]


class Session:
    """One client of all hosts of a world."""

    def __init__(
        self,
        world: World,
        *,
        size: int = 4,
        largest: int = 8,
        limit: int = 32,
        reconnection: Reconnection | None = None,
    ) -> None:
        self.world = world
        self.limit = limit
        self.connect_queue: ConnectQueue[int] = ConnectQueue(limit)
        self.reconnection = ExponentialReconnection() if reconnection is None else reconnection
        self.states = [
            HostState(
                size=size,
                largest=largest,
                reconnection=self.reconnection,
                fraction=world.random.random,
            )
            for _ in world.moods
        ]
        self.open = Counter[int]()
        self.opening = Counter[int]()
        self.most = 0
        self._wake = math.inf
        world.sessions.append(self)

    @property
    def complete(self) -> bool:
        return all(state.open >= state.wanted > 0 for state in self.states)

    def start(self) -> None:
        for host, state in enumerate(self.states):
            state.needed(self.world.now)
            self.connect_queue.changed(host, state)
        self.pump()

    def tell(self, host: int, do: Callable[[HostState], object]) -> None:
        do(self.states[host])
        self.connect_queue.changed(host, self.states[host])
        self.pump()
        self.check(host)

    def pump(self) -> None:
        """Start the attempts that are due, and schedule the next call."""
        world = self.world
        taken = self.connect_queue.take(world.now)
        for host in taken:
            world.attempts.append((world.now, host))
            self.opening[host] += 1
            mood = world.moods[host]
            wait = CONNECT_TIMEOUT if mood == "silent" else 0.001 + world.random.random() * 0.02
            world.at(world.now + wait, lambda host=host: self._end(host))  # type: ignore[misc]
        self.most = max(self.most, self.connect_queue.under_way)
        for host in taken:
            self.check(host)
        when = self.connect_queue.next
        assert when > world.now
        if when < self._wake:
            self._wake = when
            world.at(when, self._woken)

    def _woken(self) -> None:
        self._wake = math.inf
        self.pump()

    def _end(self, host: int) -> None:
        world = self.world
        self.opening[host] -= 1
        self.connect_queue.finished(host)
        mood = world.moods[host]
        if mood in ("serving", "dropping"):
            self.open[host] += 1
            self.tell(host, lambda state: state.opened(world.now))
            if mood == "dropping":
                world.at(world.now + 0.001, self.loser(host))
        else:
            self.tell(host, lambda state: state.failed(world.now, OSError(mood)))

    def loser(self, host: int) -> Callable[[], None]:
        """Return what breaks a connection, if one is left."""

        def lose() -> None:
            if self.open[host]:
                self.open[host] -= 1
                self.tell(host, lambda state: state.lost(self.world.now))

        return lose

    def check(self, host: int) -> None:
        state = self.states[host]
        assert self.connect_queue.under_way <= self.limit
        assert (state.open, state.opening) == (self.open[host], self.opening[host])
        check_state(state, self.world.now, self.reconnection)


def check_state(state: HostState, now: float, reconnection: Reconnection) -> None:
    """Check the invariants of a host: it is never stuck, and never wants too many attempts."""
    missing = state.wanted - state.open - state.opening
    if missing <= 0 or (not state.open and state.opening):
        assert state.next_attempt == math.inf
    else:
        longest = reconnection.delay(max(state.failures, 9), 0.0)
        assert state.next_attempt <= now + longest
    assert min(state.open, state.opening, state.wanted, state.failures) >= 0
    if state.open and state.status is not Status.REMOVED:
        assert state.status is Status.UP
        assert state.wanted > 0
