"""The state of a host: never stuck, never too many attempts, whatever the order of events."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

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

from cqlproto_anyio._network.host_state import (
    LONGEST_URGENT,
    QUICK,
    QUICK_FOR,
    STEADY,
    HostState,
    Status,
)
from cqlproto_anyio.policies import ConstantReconnection, ExponentialReconnection
from tests.support.connect_simulation import check_state

if TYPE_CHECKING:
    from cqlproto_anyio.policies import Reconnection

URGENT = 0.25
REFUSED = OSError("refused")
fractions = st.sampled_from([0.0, 0.25, 0.999])


class Machine(RuleBasedStateMachine):
    """Tries orders of events. Attempts begin when they are due, or later."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.fraction = 0.0

    @initialize(
        size=st.integers(1, 4),
        more=st.integers(0, 3),
        reconnection=st.sampled_from(
            [ExponentialReconnection(), ExponentialReconnection(jitter=1.0), ConstantReconnection()]
        ),
    )
    def begin(self, size: int, more: int, reconnection: Reconnection) -> None:
        self.size, self.largest = size, size + more
        self.reconnection = reconnection
        self.state = HostState(
            size=size,
            largest=size + more,
            reconnection=reconnection,
            fraction=lambda: self.fraction,
            urgent=URGENT,
        )
        self.open = self.opening = 0
        self.awake = False

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.1, 0.25, 1.0, 4.0, 6.0, 70.0]), fraction=fractions)
    def wait(self, seconds: float, fraction: float) -> None:
        self.now += seconds
        self.fraction = fraction

    @precondition(lambda self: self.state.next_attempt <= self.now)
    @rule()
    def start(self) -> None:
        assert self.state.status is not Status.REMOVED
        self.state.start(self.now)
        self.opening += 1

    @precondition(lambda self: self.opening)
    @rule()
    def opened(self) -> None:
        self.state.opened(self.now)
        self.opening -= 1
        self.open += 1
        if self.state.status is not Status.REMOVED:
            assert (self.state.status, self.state.failures) == (Status.UP, 0)
            assert self.state.error is None

    @precondition(lambda self: self.opening)
    @rule()
    def failed(self) -> None:
        failures = self.state.failures
        self.state.failed(self.now, REFUSED)
        self.opening -= 1
        if self.state.status is not Status.REMOVED:
            assert self.state.failures in (failures, failures + 1)
            assert self.state.failures >= 1
            assert self.state.error is REFUSED
            assert (self.state.status is Status.DOWN) == (not self.open)

    @precondition(lambda self: self.open)
    @rule(lived=st.sampled_from([None, 0.0, 100.0]))
    def lost(self, lived: float | None) -> None:
        self.state.lost(self.now, lived)
        self.open -= 1

    @precondition(lambda self: self.open)
    @rule()
    def retired(self) -> None:
        self.state.retired(self.now)
        self.open -= 1
        if self.state.next_attempt < math.inf:
            assert self.state.next_attempt == self.now

    @rule()
    def at_watermark(self) -> None:
        wanted = self.state.wanted
        more = self.state.at_watermark(self.now)
        assert self.state.wanted >= wanted + more
        if more:
            assert self.state.next_attempt == self.now
            assert (self.state.wanted, self.opening) == (self.open + 1, 0)

    @rule(size=st.integers(1, 8))
    def resize(self, size: int) -> None:
        before = self.state.wanted
        self.state.resize(self.now, size)
        self.size, self.largest = size, max(self.largest, size)
        assert self.state.wanted == (max(before, size) if before else 0)

    @rule()
    def needed(self) -> None:
        before = self.state.next_attempt
        nearer = self.state.needed(self.now)
        assert nearer == (self.state.next_attempt < before)
        if self.state.status is Status.REMOVED:
            return
        if not self.open:
            self.awake = True
            if not self.opening:
                assert self.state.next_attempt <= self.now + LONGEST_URGENT

    @rule()
    def reported_up(self) -> None:
        self.state.reported_up(self.now)
        if self.state.status is not Status.REMOVED:
            self.awake = True
            if not self.open and not self.opening:
                assert self.state.next_attempt <= self.now + QUICK

    @rule()
    def reported_down(self) -> None:
        status = self.state.status
        self.state.reported_down(self.now)
        ignored = bool(self.open) or status is Status.REMOVED
        assert self.state.status is (status if ignored else Status.DOWN)

    @rule(chance=st.integers(0, 9))
    def removed(self, chance: int) -> None:
        if not chance:  # removing it ends the run
            self.state.removed()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "state"):
            return
        state = self.state
        check_state(state, self.now, self.reconnection)
        assert (state.open, state.opening) == (self.open, self.opening)
        if state.status is Status.REMOVED:
            assert (state.wanted, state.next_attempt) == (0, math.inf)
        elif self.awake:
            assert self.size <= state.wanted <= self.largest
        else:
            assert (state.wanted, state.next_attempt) == (0, math.inf)
        assert state.open + state.opening <= max(self.largest, state.wanted)


Machine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestMachine = Machine.TestCase


def host(size: int = 4, largest: int = 8, fraction: float = 0.0) -> HostState:
    """Return the state of a host that no request has needed yet, by default without jitter."""
    return HostState(
        size=size,
        largest=largest,
        reconnection=ExponentialReconnection(jitter=0.0),
        fraction=lambda: fraction,
    )


def complete(state: HostState, now: float = 0.0) -> HostState:
    state.needed(now)
    while state.open < state.wanted:
        state.start(now)
        state.opened(now)
    return state


def test_it_sleeps_until_it_is_needed() -> None:
    state = host()
    assert (state.status, state.wanted, state.next_attempt) == (Status.UNKNOWN, 0, math.inf)
    assert repr(state) == "<HostState unknown: 0 open, 0 opening, 0 wanted, 0 failures>"
    assert state.needed(10.0)
    assert state.next_attempt == 10.0
    assert not state.needed(11.0)
    assert state.next_attempt == 10.0


def test_one_attempt_until_one_has_succeeded_then_all() -> None:
    state = host()
    state.needed(0.0)
    state.start(0.0)
    assert state.next_attempt == math.inf
    state.opened(1.0)
    for opening in range(1, 4):
        assert state.next_attempt == 1.0
        state.start(1.0)
        assert state.opening == opening
    assert state.next_attempt == math.inf


def test_failures_in_a_row_wait_ever_longer() -> None:
    state = host()
    state.needed(0.0)
    now = 0.0
    for wait in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        state.start(now)
        state.failed(now + 0.1, REFUSED)
        assert state.next_attempt == now + 0.1 + wait
        now = state.next_attempt
    state.start(now)
    state.opened(now)
    assert (state.failures, state.error, state.status) == (0, None, Status.UP)


def test_attempts_that_were_under_way_together_fail_as_one() -> None:
    state = host()
    state.needed(0.0)
    state.start(0.0)
    state.opened(0.0)
    for _ in range(3):
        state.start(0.0)
    for now in (5.0, 5.1, 5.2):
        state.failed(now, REFUSED)
        assert (state.failures, state.next_attempt) == (1, 5.25)
    assert (state.status, state.open) == (Status.UP, 1)
    state.start(5.25)
    state.failed(5.3, REFUSED)
    assert state.failures == 2


def test_the_first_after_a_loss_comes_at_once_the_others_are_spread() -> None:
    state = complete(host(fraction=0.5))
    for _ in range(4):
        state.lost(100.0)
        assert (state.next_attempt, state.status) == (100.0, Status.UP)
    state.start(100.0)
    assert state.next_attempt == math.inf
    state.opened(100.0)
    # three are missing: at half the jitter each follows after a third of the first back-off
    assert state.next_attempt == pytest.approx(100.0 + 0.25 / 3)
    state.start(state.next_attempt)
    state.start(state.next_attempt)
    assert 100.2 < state.next_attempt < 100.5
    state.start(state.next_attempt)
    for _ in range(3):
        state.opened(101.0)
    assert (state.open, state.next_attempt) == (4, math.inf)


def test_one_that_is_taken_out_of_service_is_replaced_at_once() -> None:
    state = complete(host(fraction=0.9))
    state.retired(50.0)
    assert state.next_attempt == 50.0
    state.retired(50.0)
    state.start(50.0)
    assert state.next_attempt == 50.0


def test_losses_soon_after_a_success_wait_as_failures_do() -> None:
    state = complete(host(size=1), 0.0)
    now = 10.0
    waits = []
    for _ in range(8):
        state.lost(now)
        waits.append(state.next_attempt - now)
        now = state.next_attempt
        state.start(now)
        state.opened(now)
    assert waits == pytest.approx([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, STEADY, STEADY])
    state.lost(now + STEADY)
    assert state.next_attempt == now + STEADY


def test_how_long_a_connection_lived_is_believed() -> None:
    """In a large pool, a connection may be lost right after another was opened."""
    state = complete(host(), 0.0)
    for turn in range(5):
        state.lost(float(turn), lived=600.0)
        assert state.next_attempt == turn
        state.start(float(turn))
        state.opened(float(turn))
    state.lost(5.0, lived=0.001)
    assert state.next_attempt == 5.25


def test_crowded_connections_get_company() -> None:
    state = complete(host(size=2, largest=4))
    assert state.at_watermark(10.0)
    assert (state.wanted, state.next_attempt) == (3, 10.0)
    assert not state.at_watermark(10.0)  # one is under way
    state.start(10.0)
    assert not state.at_watermark(10.0)
    state.opened(10.0)
    assert state.at_watermark(11.0)
    state.start(11.0)
    state.opened(11.0)
    assert not state.at_watermark(12.0)  # the pool is at its largest size
    assert state.wanted == 4
    # after an outage, the pool has its normal size again
    for _ in range(4):
        state.lost(20.0)
    state.start(20.0)
    state.failed(20.0, REFUSED)
    assert state.wanted == 2


def test_a_node_may_want_more_than_was_asked_for() -> None:
    """There is one connection for each shard; if shards are removed, open connections stay."""
    state = complete(host(size=1, largest=2))
    state.resize(1.0, 4)
    assert state.wanted == 4
    assert state.next_attempt <= 1.0
    for _ in range(3):
        state.start(1.0)
        state.opened(1.0)
    assert (state.open, state.next_attempt) == (4, math.inf)
    assert not state.at_watermark(2.0)
    state.resize(2.0, 2)
    assert state.wanted == 4
    for _ in range(4):
        state.lost(20.0)
    state.start(20.0)
    state.failed(20.0, REFUSED)
    assert state.wanted == 2


def test_a_request_that_needs_it_does_not_wait_for_the_back_off() -> None:
    state = host(fraction=0.5)
    state.needed(0.0)
    for now in (0.0, 10.0, 20.0, 30.0, 40.0, 50.0):
        state.start(now)
        state.failed(now, REFUSED)
    assert state.next_attempt == 58.0
    assert state.needed(50.0)
    assert state.next_attempt == 50.0 + 0.25 * (1 - 0.25 * 0.5)
    assert not state.needed(50.1)
    assert state.needed(57.0) is False


def test_requests_that_need_it_all_the_time_wait_ever_longer() -> None:
    """A host is needed a thousand times a second, for a minute."""
    state = host(size=1)
    attempts = []
    for millisecond in range(60_000):
        now = millisecond / 1000
        state.needed(now)
        if state.next_attempt <= now:
            attempts.append(now)
            state.start(now)
            state.failed(now, REFUSED)
    gaps = [after - before for before, after in pairwise(attempts)]
    assert gaps[:5] == pytest.approx([0.25, 0.25, 0.5, 1.0, 2.0], abs=0.002)
    assert gaps[5:] == pytest.approx([LONGEST_URGENT] * len(gaps[5:]), abs=0.002)
    assert len(attempts) == 6 + 27
    # a success ends it
    state.start(state.next_attempt)
    state.opened(70.0)
    state.lost(80.0)
    state.start(80.0)
    state.failed(80.0, REFUSED)
    assert state.next_attempt == 80.25


def test_word_that_it_is_up_again_and_again_does_not_hurry_for_ever() -> None:
    state = host(size=1)
    attempts = []
    for millisecond in range(20_000):
        now = millisecond / 1000
        state.reported_up(now)
        if state.next_attempt <= now:
            attempts.append(now)
            state.start(now)
            state.failed(now, REFUSED)
    assert len(attempts) <= 3 + 20 / QUICK


def test_word_that_it_is_up_ends_the_back_off() -> None:
    state = host()
    state.needed(0.0)
    now = 0.0
    for _ in range(12):
        state.start(now)
        state.failed(now, REFUSED)
        now = state.next_attempt
    state.reported_up(now - 50.0)
    assert (state.next_attempt, state.failures) == (now - 50.0, 0)
    # UP may come too early: for a while no wait is long
    now = began = now - 50.0
    waits = []
    while now < began + QUICK_FOR + 5.0:
        state.start(now)
        state.failed(now, REFUSED)
        waits.append(state.next_attempt - now)
        now = state.next_attempt
    assert waits[:3] == pytest.approx([0.25, 0.5, QUICK])
    assert max(waits[:-1]) == pytest.approx(QUICK)
    assert waits[-1] > 10.0


def test_attempts_from_before_the_word_that_it_is_up_count_anew() -> None:
    """The word forgets the failure that they would have been part of."""
    state = complete(host())
    for _ in range(2):
        state.lost(0.0, lived=100.0)
        state.start(state.next_attempt)
    state.failed(70.0, REFUSED)
    state.reported_up(70.0)
    assert state.failures == 0
    state.failed(70.0, REFUSED)
    assert state.failures == 1
    assert 70.0 < state.next_attempt <= 70.0 + QUICK


def test_word_that_it_is_down_is_ignored_while_a_connection_works() -> None:
    state = complete(host(size=1))
    state.reported_down(1.0)
    assert state.status is Status.UP
    state.lost(20.0)
    state.reported_down(20.0)
    assert (state.status, state.next_attempt) == (Status.DOWN, 20.0)


def test_a_host_that_left_wants_nothing_and_ends_what_is_open() -> None:
    state = complete(host(size=3))
    state.retired(0.0)
    state.retired(0.0)
    state.start(0.0)
    state.start(0.0)
    state.removed()
    state.opened(1.0)
    state.failed(1.0, REFUSED)
    state.lost(2.0)
    state.retired(2.0)
    state.reported_up(3.0)
    state.reported_down(3.0)
    assert not state.needed(3.0)
    assert not state.at_watermark(3.0)
    assert (state.status, state.open, state.opening) == (Status.REMOVED, 0, 0)
    assert (state.wanted, state.next_attempt, state.error) == (0, math.inf, None)


def test_what_cannot_be() -> None:
    for size, largest in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match=f"size must be 1 to {largest}, got {size}"):
            host(size, largest)
    state = host()
    with pytest.raises(ValueError, match="no attempt is wanted"):
        state.start(0.0)
    for ended in (state.opened, lambda now: state.failed(now, REFUSED)):
        with pytest.raises(ValueError, match="no attempt is under way"):
            ended(0.0)
    for closed in (state.lost, state.retired):
        with pytest.raises(ValueError, match="no connection is open"):
            closed(0.0)
