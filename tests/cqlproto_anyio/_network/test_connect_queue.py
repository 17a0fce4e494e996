"""The connect queue: compared with a naive model, and with host states in simulated time."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cqlproto_anyio._network.connect_queue import ConnectQueue
from cqlproto_anyio._network.host_state import LONGEST_URGENT
from tests.support.connect_simulation import CONNECT_TIMEOUT, Session, World

if TYPE_CHECKING:
    from cqlproto_anyio._network.host_state import HostState


class Wish:
    """The part of a host state that :class:`ConnectQueue` uses."""

    def __init__(self) -> None:
        self.next_attempt = math.inf
        self.failures = 0
        self.since = 0
        self.started: list[float] = []

    def start(self, now: float) -> None:
        self.started.append(now)
        self.next_attempt = math.inf


class Model(RuleBasedStateMachine):
    """Each host wants one attempt at a time, so the oracle is a sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.limit = 3
        self.connect_queue: ConnectQueue[int] = ConnectQueue(self.limit)
        self.wishes = [Wish() for _ in range(8)]
        self.under_way: dict[int, list[bool]] = {}

    def tell(self, key: int) -> None:
        self.connect_queue.changed(key, cast("HostState", self.wishes[key]))

    @rule(
        key=st.integers(0, 7),
        wait=st.integers(0, 5) | st.just(math.inf),
        failures=st.sampled_from([0, 0, 1, 5]),
    )
    def change(self, key: int, wait: float, failures: int) -> None:
        wish = self.wishes[key]
        if wish.next_attempt != self.now + wait or (wish.failures > 0) != (failures > 0):
            self.number += 1
            wish.since = self.number
        wish.next_attempt = self.now + wait
        wish.failures = failures
        self.tell(key)

    @rule(key=st.integers(0, 7))
    def change_nothing(self, key: int) -> None:
        self.tell(key)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    def allowed(self) -> list[tuple[float, int, int]]:
        every = [doubtful for started in self.under_way.values() for doubtful in started]
        if len(every) >= self.limit:
            return []
        return sorted(
            (wish.next_attempt, wish.since, key)
            for key, wish in enumerate(self.wishes)
            if wish.next_attempt < math.inf and (not wish.failures or sum(every) < 1)
        )

    @rule()
    def take(self) -> None:
        due = [(wish.next_attempt, wish.since) for wish in self.wishes]
        taken = self.connect_queue.take(self.now)
        after = [wish.next_attempt for wish in self.wishes]
        for wish, (when, _) in zip(self.wishes, due, strict=True):
            wish.next_attempt = when
        for key in taken:
            when, _, expected = self.allowed()[0]
            assert key == expected
            assert when <= self.now
            assert self.wishes[key].started[-1] == self.now
            self.wishes[key].next_attempt = math.inf
            self.under_way.setdefault(key, []).append(self.wishes[key].failures > 0)
        assert [wish.next_attempt for wish in self.wishes] == after
        assert not self.allowed() or self.allowed()[0][0] > self.now

    @precondition(lambda self: any(self.under_way.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([k for k, started in self.under_way.items() if started]))
        self.connect_queue.finished(key)
        self.under_way[key].pop(0)

    @invariant()
    def agrees(self) -> None:
        allowed = self.allowed()
        assert self.connect_queue.next == (allowed[0][0] if allowed else math.inf)
        assert self.connect_queue.under_way == sum(map(len, self.under_way.values()))


Model.TestCase.settings = settings(max_examples=200, stateful_step_count=40)
TestModel = Model.TestCase


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        ConnectQueue(0)
    with pytest.raises(ValueError, match="under way to a"):
        ConnectQueue[str](1).finished("a")


def test_a_host_that_changes_its_mind_takes_no_memory() -> None:
    openings: ConnectQueue[int] = ConnectQueue(1)
    wish = Wish()
    state = cast("HostState", wish)
    for turn in range(100_000):
        wish.next_attempt = float(turn)
        openings.changed(0, state)
    queue = openings._queues[0]
    assert len(queue._heap) <= 2 + 64
    assert openings.next == 99_999.0


def test_a_host_that_was_removed_and_came_back_is_another() -> None:
    openings: ConnectQueue[int] = ConnectQueue(1)
    old, new = Wish(), Wish()
    old.next_attempt = new.next_attempt = 1.0
    openings.changed(0, cast("HostState", old))
    openings.changed(0, cast("HostState", new))
    assert openings.take(1.0) == [0]
    assert (old.started, new.started) == ([], [1.0])


# -- with host states


def test_a_session_opens_ten_thousand_connections_on_200_hosts() -> None:
    """The limit holds, and each host gets one connection before any gets two."""
    world = World(200)
    session = Session(world, size=50, largest=50)
    session.start()
    world.run(20.0)
    assert session.complete
    assert sum(session.open.values()) == len(world.attempts) == 10_000
    assert session.most == session.limit
    first = [host for _, host in world.attempts[:200]]
    assert len(set(first)) == 200
    # the limit is reached until the end: an attempt takes 11 ms on average
    assert world.attempts[-1][0] < 10_000 * 0.011 / session.limit * 1.2


def test_a_node_lost_and_back_costs_no_more_than_its_own_connections() -> None:
    world = World(200)
    session = Session(world, size=50, largest=50)
    session.start()
    world.run(20.0)
    before = len(world.attempts)
    lost_at = world.now
    world.turn(7, "refusing")
    world.run(300.0)
    tried = len(world.attempts) - before
    # one attempt at once, then after 0.25 s, 0.5 s, .. 60 s; each at least three quarters of that
    assert 9 <= tried <= 2 + 8 + 240 / 45
    world.turn(7, "serving")
    session.tell(7, lambda state: state.reported_up(world.now))
    back_at = world.now
    world.run(5.0)
    assert session.complete
    again = world.attempts_at(7, back_at)
    assert len(again) == 50
    # the first attempt came at once, the others within a moment
    assert again[0] == back_at
    assert 0.1 < again[-1] - again[0] < 2.0
    assert {host for when, host in world.attempts[before:]} == {7}
    assert world.attempts_at(7, lost_at)[0] < lost_at + 0.011


@pytest.mark.parametrize("seed", range(3))
def test_a_restarted_cluster(seed: int) -> None:
    """All hosts are lost together and refuse for a while; no event reports their return."""
    world = World(200, seed)
    session = Session(world, size=50, largest=50)
    session.start()
    world.run(20.0)
    session.most = 0
    before = len(world.attempts)
    for host in range(200):
        world.turn(host, "refusing")
        away = 20.0 + world.random.random() * 20.0
        world.at(world.now + away, lambda host=host: world.turn(host, "serving"))  # type: ignore[misc]  # a lambda with a default
    world.run(40.0)
    # within 40 s: attempts at 0, 0.19, 0.56, 1.3, 2.8, 5.8, 11.8, 23.8 s, with the shortest waits
    failures = len(world.attempts) - before - sum(session.open.values())
    assert failures <= 200 * 9
    world.run(60.0)
    assert session.complete
    assert session.most <= session.limit
    tried = Counter(host for _, host in world.attempts[before:])
    assert max(tried.values()) <= 50 + 9


def test_hosts_that_hang_do_not_hold_up_those_that_work() -> None:
    """Half of the hosts stop answering, then one more is restarted."""
    world = World(200)
    session = Session(world, size=10, largest=10, limit=16)
    session.start()
    world.run(20.0)
    for host in range(100):
        world.turn(host, "silent")
    world.run(60.0)
    for host in range(100, 110):
        world.turn(host, "refusing")
        world.turn(host, "serving")
    world.run(3.0)
    assert all(session.open[host] == 10 for host in range(100, 200))
    # hosts that hang are tried too: they take half the places, for some seconds each
    since = world.now
    world.run(200.0)
    tried = Counter(host for when, host in world.attempts if when >= since)
    assert all(tried[host] for host in range(100))
    assert max(tried[host] for host in range(100)) <= 6
    for host in range(100):
        world.turn(host, "serving")
    world.run(120.0)
    assert session.complete


def test_a_session_begins_although_half_of_its_hosts_hang() -> None:
    world = World(200)
    for host in range(100):
        world.turn(host, "silent")
    session = Session(world, limit=32)
    session.start()
    # the first round tries all hosts: a hundred attempts hang, in 32 places
    world.run(CONNECT_TIMEOUT * 100 / 32 + 3.0)
    assert all(session.open[host] == 4 for host in range(100, 200))


@pytest.mark.parametrize("size", [1, 4, 50])
def test_a_host_that_drops_what_it_takes_gets_no_storm(size: int) -> None:
    """Each success resets the back-off, so losses soon after it must be limited too."""
    world = World(1)
    session = Session(world, size=size, largest=size)
    session.start()
    world.run(10.0)
    world.turn(0, "dropping")
    since = world.now
    world.run(600.0)
    tried = len(world.attempts_at(0, since))
    assert 600 / 60 <= tried <= 10 + size + 600 / 3
    world.turn(0, "serving")
    world.run(60.0 + 5.0 * 8)
    assert session.complete


def test_a_host_that_drops_what_it_takes_is_in_no_demand_either() -> None:
    world = World(1)
    session = Session(world)
    session.start()
    world.turn(0, "dropping")
    since = world.now

    def ask() -> None:
        session.tell(0, lambda state: state.needed(world.now))
        world.at(world.now + 0.001, ask)

    ask()
    world.run(60.0)
    assert len(world.attempts_at(0, since)) <= 6 + 60 / (0.25 * 0.75)


def test_requests_that_need_a_dead_host_bring_no_storm() -> None:
    """Requests need the host 1,000 times a second; it has connections soon after its return."""
    world = World(1)
    world.turn(0, "refusing")
    session = Session(world)

    def ask() -> None:
        session.tell(0, lambda state: state.needed(world.now))
        world.at(world.now + 0.001, ask)

    ask()
    world.run(60.0)
    assert 60 / LONGEST_URGENT <= len(world.attempts) <= 6 + 60 / (LONGEST_URGENT * 0.75)
    world.turn(0, "serving")
    back_at = world.now
    world.run(LONGEST_URGENT + 0.1)
    assert session.open[0] >= 1
    world.run(1.0)
    assert session.complete
    assert len(world.attempts_at(0, back_at)) == 4


def test_a_host_that_is_said_to_be_up_before_it_serves() -> None:
    """It has a connection within a second of its return, even after a long outage."""
    world = World(1)
    world.turn(0, "refusing")
    session = Session(world)
    session.start()
    world.run(3600.0)
    session.tell(0, lambda state: state.reported_up(world.now))
    world.run(14.0)
    world.turn(0, "serving")
    served = world.now
    world.run(1.1)
    assert session.open[0] >= 1
    assert world.attempts_at(0, served)[0] <= served + 1.0


def test_being_told_again_and_again_brings_no_storm() -> None:
    world = World(1)
    world.turn(0, "refusing")
    session = Session(world)

    def tell() -> None:
        session.tell(0, lambda state: state.reported_up(world.now))
        world.at(world.now + 0.001, tell)

    tell()
    world.run(30.0)
    assert len(world.attempts) <= 2 + 30 / (0.25 * 0.75)


def test_a_thousand_sessions_do_not_come_back_together() -> None:
    """A node restarts: each client makes one attempt at first, and later ones are spread."""
    world = World(1)
    sessions = [Session(world, limit=4) for _ in range(1000)]
    for session in sessions:
        session.start()
    world.run(5.0)
    world.turn(0, "refusing")
    lost_at = world.now
    world.run(20.0)
    # the same eight attempts for each session, and no more
    assert len(world.attempts_at(0, lost_at)) <= 1000 * 9
    late = [when for when in world.attempts_at(0, lost_at) if when > lost_at + 4.0]
    assert late
    peak = max(Counter(int(when * 10) for when in late).values())
    assert peak < 400  # of a thousand, in a tenth of a second
    world.turn(0, "serving")
    back_at = world.now
    world.run(60.0)
    assert all(session.complete for session in sessions)
    assert len(world.attempts_at(0, back_at)) == 4000
    peak = max(Counter(int(when * 10) for when in world.attempts_at(0, back_at)).values())
    assert peak < 800  # of four thousand
