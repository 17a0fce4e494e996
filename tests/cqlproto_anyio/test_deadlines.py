"""Deadlines against a naive model: nothing is early, nothing late, nothing is forgotten."""

from __future__ import annotations

import math
import tracemalloc

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cqlproto_anyio.deadlines import Deadlines, Due


class Thing:
    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.deadline = math.inf
        self.queue: dict[Due, None] | None = None
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


# Few values, so that many share one; whole numbers, so that sums are exact.
timeouts = st.one_of(st.none(), st.integers(1, 8).map(float), st.integers(100, 400).map(float))


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.deadlines = Deadlines()
        self.alive: list[Thing] = []
        self.gone: list[Thing] = []

    @rule(timeout=timeouts)
    def add(self, timeout: float | None) -> None:
        thing = Thing(timeout)
        before = self.deadlines.next
        nearer = self.deadlines.add(thing, self.now)
        assert nearer == (self.deadlines.next < before)
        if timeout is None:
            assert thing.deadline == math.inf
        else:
            assert thing.deadline == self.now + timeout
            self.alive.append(thing)

    @rule(timeout=timeouts, left=st.integers(-3, 8))
    def add_until(self, timeout: float | None, left: int) -> None:
        thing = Thing(timeout)
        if timeout is not None:
            thing.deadline = self.now + left
            self.alive.append(thing)
        before = self.deadlines.next
        assert self.deadlines.add_until(thing) == (self.deadlines.next < before)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        thing = self.alive.pop(data.draw(st.integers(0, len(self.alive) - 1)))
        self.deadlines.remove(thing)
        self.deadlines.remove(thing)  # a second time does nothing
        self.gone.append(thing)

    @rule(later=st.sampled_from([0.0, 1.0, 2.0, 5.0, 150.0]))
    def expire(self, later: float) -> None:
        self.now += later
        due = [thing for thing in self.alive if thing.deadline <= self.now]
        self.deadlines.expire(self.now)
        self.alive = [thing for thing in self.alive if thing not in due]
        assert [thing.expired for thing in due] == [1] * len(due)
        self.gone += due
        assert self.deadlines.next == min(
            (thing.deadline for thing in self.alive), default=math.inf
        )

    @invariant()
    def nothing_early_late_or_left(self) -> None:
        assert len(self.deadlines) == len(self.alive)
        assert all(thing.expired == 0 for thing in self.alive)
        assert all(thing.expired <= 1 for thing in self.gone)
        assert all(self.deadlines.next <= thing.deadline for thing in self.alive)


TestDeadlines = Model.TestCase


def test_timeouts_that_all_differ_leave_nothing_behind() -> None:
    deadlines = Deadlines()
    tracemalloc.start()
    try:
        for number in range(10_000):
            thing = Thing(1.0 + number / 1024)
            deadlines.add(thing, float(number))
            deadlines.remove(thing)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(deadlines) == 0
    assert kept < 64 * 1024


def test_what_expires_may_add_and_remove_others() -> None:
    deadlines = Deadlines()

    class Rude(Thing):
        def expire(self) -> None:
            super().expire()
            deadlines.remove(other)
            deadlines.add(late, 5.0)

    first, other, late = Rude(1.0), Thing(2.0), Thing(3.0)
    deadlines.add(first, 0.0)
    deadlines.add(other, 0.0)
    deadlines.expire(1.0)
    assert (first.expired, other.expired, len(deadlines)) == (1, 0, 1)
    assert deadlines.next <= 8.0
    deadlines.expire(8.0)
    assert late.expired == 1
    assert (len(deadlines), deadlines.next) == (0, math.inf)
