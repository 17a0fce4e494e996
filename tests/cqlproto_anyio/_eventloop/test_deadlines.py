"""Deadlines against a naive model: nothing expires early or late, or is forgotten."""

from __future__ import annotations

import math
import sys
import tracemalloc
from typing import TYPE_CHECKING
from weakref import ref

import anyio
import anyio.lowlevel
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import cqlproto_anyio as cql
from cqlproto_anyio._eventloop import deadlines
from cqlproto_anyio._eventloop.deadlines import SLICE, Deadlines, Due
from cqlproto_anyio._eventloop.timer import Timer
from tests.support.cluster_sessions import connected, session_on
from tests.support.fakecluster import FakeCluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


class Thing:
    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.deadline = math.inf
        self.queue: dict[Due, int] | None = None
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


pytestmark = pytest.mark.uvloop

# Few values, so that many deadlines share a timeout and many don't; whole numbers, so that sums are
# exact.
timeouts = st.one_of(
    st.none(),
    st.integers(1, 8).map(float),
    st.integers(100, 400).map(float),
    st.integers(1, 10**6).map(float),
)


class Model(RuleBasedStateMachine):
    @initialize(many=st.integers(1, 4), size=st.integers(1, 5))
    def begin(self, many: int, size: int) -> None:
        """Allow few timeouts to have dicts, and make slices short."""
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(deadlines, "_MANY", many)
        self.patch.setattr(deadlines, "SLICE", size)

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()

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
        self.deadlines.remove(thing)  # removing it a second time does nothing
        self.gone.append(thing)

    @rule(later=st.sampled_from([0.0, 1.0, 2.0, 5.0, 150.0]))
    def expire(self, later: float) -> None:
        self.now += later
        due = [thing for thing in self.alive if thing.deadline <= self.now]
        while self.deadlines.expire(self.now):
            pass
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
TestDeadlines.settings = settings(max_examples=60)


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


# -- cost


def spent(function: Callable[[], object]) -> int:
    """Return how many lines of the module ``deadlines`` the function executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != deadlines.__file__:
            return None
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", ["alive", "gone", "in turns"])
def test_timeouts_that_all_differ_cost_the_same_however_many_there_are(kind: str) -> None:
    def work(count: int) -> int:
        due = Deadlines()
        things = [Thing(10.0 + number / 1024) for number in range(count)]
        for thing in things:
            due.add(thing, 0.0)
            if kind == "gone" or (kind == "in turns" and thing.deadline % 1 < 0.5):
                due.remove(thing)
        extra = [Thing(5.0 + number / 1024) for number in range(1000)]

        def add() -> None:
            for thing in extra:
                due.add(thing, 0.0)
                due.remove(thing)

        return spent(add)

    assert work(16_000) < 1.5 * work(500)


def test_the_usual_timeout_stays_cheap_beside_many_others() -> None:
    due = Deadlines()
    due.add(Thing(10.0), 0.0)
    usual = spent(lambda: due.add(Thing(10.0), 0.0))
    for number in range(1000):
        due.add(Thing(20.0 + number), 0.0)
    assert spent(lambda: due.add(Thing(10.0), 0.0)) == usual


def test_what_has_left_does_not_stay_in_the_heap() -> None:
    due = Deadlines()
    for number in range(50_000):
        thing = Thing(None)
        thing.deadline = 100.0 + number
        due.add_until(thing)
        due.remove(thing)
        assert len(due._heap) < 200
    assert len(due) == 0


@pytest.mark.parametrize("distinct", [False, True])
def test_what_is_due_together_is_expired_in_slices_the_earliest_first(distinct: bool) -> None:
    due = Deadlines()
    things = [Thing(1.0 + (number / 10_000 if distinct else 0.0)) for number in range(3000)]
    for thing in reversed(things):
        due.add(thing, 0.0)
    alarm = Thing(None)
    alarm.deadline = 0.5
    due.add_until(alarm)
    slices = 1
    assert due.expire(2.0)
    assert alarm.expired == 1, "it isn't kept waiting by those that are due later"
    assert sum(thing.expired for thing in things) == SLICE - 1
    if distinct:
        assert all(thing.expired for thing in things[: SLICE - 1])
    while due.expire(2.0):
        slices += 1
    assert slices == -(-3001 // SLICE) - 1
    assert all(thing.expired == 1 for thing in things)
    assert (len(due), due.next) == (0, math.inf)


def test_what_leaves_between_two_slices_does_not_expire() -> None:
    due = Deadlines()
    things = [Thing(1.0) for _ in range(SLICE + 10)]
    for thing in things:
        due.add(thing, 0.0)
    assert due.expire(1.0)
    for thing in things[SLICE:]:
        due.remove(thing)
    assert not due.expire(1.0)
    assert sum(thing.expired for thing in things) == SLICE


# -- in a session


async def test_requests_that_time_out_together_do_not_keep_others_waiting() -> None:
    """Other tasks run between the slices."""
    cluster = FakeCluster(1)
    cluster.answer = lambda request: None
    finished = 0

    async def call(session: cql.Session) -> None:
        nonlocal finished
        with pytest.raises(cql.RequestTimeout):
            await session.execute("SELECT v FROM ks.t", timeout=0.25)
        finished += 1

    async with session_on(cluster, discovery=False, max_orphans=4000) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            for _ in range(1500):
                group.start_soon(call, session)
            steps: list[int] = []
            before = 0
            await anyio.sleep(0.25)
            while finished < 1500:
                await anyio.lowlevel.checkpoint()
                steps.append(finished - before)
                before = finished
        assert 0 < max(steps) <= 2 * SLICE
        for request in cluster.waiting:
            request.reply(cluster.usual_answer(request))


def test_what_has_left_is_not_kept_until_it_would_be_due() -> None:
    timer = Timer(lambda: 0.0)
    alarm = timer.alarm(lambda: None)
    alarm.set(1000.0)
    gone = ref(alarm)
    alarm.cancel()
    del alarm
    assert gone() is None
    assert len(timer.deadlines) == 0
    assert not timer.deadlines.expire(2000.0)
