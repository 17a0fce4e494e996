"""Fenced leases: acquired, renewed, lost, released, and given back by a task that is cancelled."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._errors import LockLost, OutcomeUnknown
from cqlproto_anyio.patterns._held import Held
from cqlproto_anyio.patterns._lease import Holder, Lease, Leases
from tests.cqlproto_anyio.patterns.leasetable import LeaseTable
from tests.support.scripted import unavailable
from tests.support.virtual_clock import run_virtual


def leases(table: LeaseTable) -> Leases:
    return Leases(table.executor, '"shop"."locks"')


async def acquire(found: Leases, ttl: float = 30.0, owner: str = "me") -> Lease:
    lease = await found.acquire("a", ttl=ttl, owner=owner)
    assert isinstance(lease, Lease)
    return lease


# -- acquiring and releasing


async def test_two_lwts_and_a_read() -> None:
    table = LeaseTable()
    lease = await acquire(leases(table))
    assert (lease.fence, lease.name, lease.remaining) == (1, "a", 30.0)
    assert await lease.release()
    assert lease.remaining == 0.0
    assert table.executor.lwts == 2
    assert len(table.executor.asked) == 3


async def test_a_fence_that_is_known_needs_no_read() -> None:
    table = LeaseTable()
    found = leases(table)
    for fence in (1, 2, 3):
        lease = await acquire(found)
        assert lease.fence == fence
        await lease.release()
    assert table.executor.lwts == 6
    assert len(table.executor.asked) == 7


async def test_a_fence_that_was_known_and_has_moved_costs_a_second_lwt() -> None:
    table = LeaseTable()
    found = leases(table)
    await (await acquire(found)).release()
    await (await acquire(leases(table))).release()
    table.executor.asked.clear()
    assert (await acquire(found)).fence == 3
    assert table.executor.lwts == len(table.executor.asked) == 2


async def test_whoever_holds_it_is_told_without_an_lwt() -> None:
    table = LeaseTable()
    await acquire(leases(table), owner="first")
    assert await leases(table).acquire("a", ttl=30.0, owner="second") == Holder("first", 1, 31.0)
    assert await leases(table).holder("a") == Holder("first", 1, 31.0)
    assert await leases(table).holder("b") is None
    assert table.executor.lwts == 1


async def test_fences_grow_past_expiry_and_in_other_programs() -> None:
    table = LeaseTable()
    one, other = leases(table), leases(table)
    assert (await acquire(one, ttl=5.0)).fence == 1
    await anyio.sleep(10)
    assert (await acquire(other, ttl=5.0)).fence == 2
    await anyio.sleep(10)
    assert (await acquire(one, ttl=5.0)).fence == 3


async def test_the_servers_ttl_is_longer() -> None:
    table = LeaseTable()
    await acquire(leases(table), ttl=1.5)
    assert table.executor.asked[1].values["ttl"] == 3
    await anyio.sleep(1.6)
    assert isinstance(await leases(table).acquire("a", ttl=1.5, owner="other"), Holder)


async def test_a_certain_failure_reaches_the_caller() -> None:
    table = LeaseTable(unavailable())
    with pytest.raises(cql.Unavailable):
        await acquire(leases(table))
    assert len(table.executor.asked) == 2


async def test_keys_of_several_columns() -> None:
    table = LeaseTable()
    found = Leases(table.executor, '"shop"."queues"', key=("queue", "partition"))
    assert '"queue" = :queue AND "partition" = :partition' in found._read


# -- an outcome that isn't known


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
async def test_a_lost_reply_is_settled(fault: str) -> None:
    table = LeaseTable(fault)
    lease = await acquire(leases(table))
    table.deliver()
    assert table.holder("a") == lease.operation
    assert table.history == [("a", 1)]


async def test_a_lease_that_was_settled_too_late_is_renewed() -> None:
    table = LeaseTable(8.0)
    lease = await acquire(leases(table), ttl=10.0)
    assert lease.remaining == 10.0
    assert table.executor.lwts == 2


async def test_a_lease_that_was_settled_too_late_and_can_not_be_renewed() -> None:
    table = LeaseTable(8.0, *itertools.repeat(unavailable(), 200))
    started = anyio.current_time()
    with pytest.raises(cql.Unavailable):
        await acquire(leases(table), ttl=10.0)
    assert anyio.current_time() - started < 20.0


async def test_a_lease_that_expired_meanwhile_is_acquired_again() -> None:
    table = LeaseTable(12.0)
    lease = await acquire(leases(table), ttl=10.0)
    assert (lease.fence, lease.remaining) == (2, 10.0)


async def test_what_can_not_be_settled_is_given_back() -> None:
    table = LeaseTable("reply")
    answer = table.executor.answer

    def no_reads(request: Any) -> Any:
        serial = request.options.get("consistency") is cql.Consistency.SERIAL
        return unavailable() if serial else answer(request)

    table.executor.answer = no_reads
    with pytest.raises(OutcomeUnknown, match="acquire lease 'a' may or may not"):
        await acquire(leases(table))
    assert table.holder("a") is None


# -- cancelled


@pytest.mark.parametrize("fault", ["hang", "late", "request", "reply"])
async def test_a_cancelled_acquisition_leaves_no_lease(fault: str) -> None:
    table = LeaseTable(fault)
    answer = table.executor.answer

    def hanging_reads(request: Any) -> Any:
        serial = "consistency" in request.options and not hanging.cancel_called
        return anyio.sleep_forever() if serial else answer(request)

    table.executor.answer = hanging_reads
    with anyio.move_on_after(1) as hanging:
        await leases(table).acquire("a", ttl=30.0, owner="me")
    assert hanging.cancelled_caught
    table.deliver()  # the copy that was under way comes last
    assert table.holder("a") is None
    assert (await acquire(leases(table))).fence >= 2


async def test_clean_up_is_bounded() -> None:
    table = LeaseTable()
    table.executor.answer = lambda request: anyio.sleep_forever() if request.conditional else []
    started = anyio.current_time()
    with anyio.move_on_after(1):
        await leases(table).acquire("a", ttl=30.0, owner="me")
    assert anyio.current_time() - started == pytest.approx(6.0)


async def test_clean_up_leaves_the_fence_of_another_holder_alone() -> None:
    """The fence may be what the other one's writes are conditional on."""
    table = LeaseTable()
    found = leases(table)
    await (await acquire(found)).release()
    other = await acquire(leases(table))
    table.fences["a"] = 1  # as if it were the fence that this program knows
    table.faults = ["hang"]
    assert found._fences.get(("a",)) == 1
    with anyio.move_on_after(1):
        await found.acquire("a", ttl=30.0, owner="me")
    assert (table.fences["a"], table.holder("a")) == (1, other.operation)


# -- renewing


async def test_renewing() -> None:
    table = LeaseTable()
    lease = await acquire(leases(table), ttl=10.0)
    await anyio.sleep(8)
    await lease.renew()
    assert lease.remaining == 10.0
    await anyio.sleep(8)
    assert table.holder("a") == lease.operation


async def test_renewing_is_repeated_while_it_may_help() -> None:
    table = LeaseTable(None, "reply", "request", unavailable())
    lease = await acquire(leases(table), ttl=10.0)
    await lease.renew()
    assert table.executor.lwts == 5
    assert 9.0 < lease.remaining <= 10.0


async def test_an_expired_lease_can_not_be_renewed() -> None:
    table = LeaseTable()
    lease = await acquire(leases(table), ttl=10.0)
    await anyio.sleep(10)
    with pytest.raises(LockLost, match="lock 'a' with fence 1 was lost: it has expired") as info:
        await lease.renew()
    assert (info.value.name, info.value.fence) == ("a", 1)
    assert table.executor.lwts == 1


async def test_a_lease_that_another_one_took_is_lost() -> None:
    table = LeaseTable()
    lease = await acquire(leases(table))
    table.holders.clear()
    with pytest.raises(LockLost, match="another holder may have it"):
        await lease.renew()
    assert lease.remaining == 0.0


async def test_no_renewal_in_time() -> None:
    table = LeaseTable(None, "hang")
    lease = await acquire(leases(table), ttl=10.0)
    await anyio.sleep(4)
    with pytest.raises(LockLost, match="no renewal succeeded in time"):
        await lease.renew()
    assert lease.remaining == 0.0


async def test_a_mistake_reaches_the_caller() -> None:
    table = LeaseTable(None, cql.Unauthorized(0x2100, "no", {}, host="h", query=None))
    lease = await acquire(leases(table))
    with pytest.raises(cql.Unauthorized):
        await lease.renew()


# -- releasing


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
async def test_a_release_is_settled(fault: str) -> None:
    table = LeaseTable(None, fault)
    lease = await acquire(leases(table))
    assert await lease.release()
    assert table.holder("a") is None
    other = await acquire(leases(table))
    table.deliver()
    assert table.holder("a") == other.operation


async def test_a_lease_of_another_one_is_not_released() -> None:
    table = LeaseTable()
    lease = await acquire(leases(table), ttl=5.0)
    await anyio.sleep(10)
    other = await acquire(leases(table))
    assert await lease.release() is False
    assert table.holder("a") == other.operation


async def test_after_release_it_can_not_be_renewed() -> None:
    lease = await acquire(leases(LeaseTable()))
    await lease.release()
    with pytest.raises(LockLost):
        await lease.renew()


# -- held for a block


def held(table: LeaseTable, ttl: float = 9.0) -> Held:
    async def get() -> Lease:
        return await acquire(leases(table), ttl=ttl)

    return Held(get)


async def test_a_block_is_renewed_every_third_of_the_ttl() -> None:
    table = LeaseTable()
    async with held(table) as lease:
        await anyio.sleep(30.5)
        assert table.executor.lwts == 1 + 10
        assert lease.remaining > 5.9
    assert table.holder("a") is None


async def test_a_short_block_costs_two_lwts() -> None:
    table = LeaseTable()
    async with held(table):
        pass
    assert table.executor.lwts == 2


async def test_errors_of_the_body_arrive_as_they_are() -> None:
    table = LeaseTable()
    with pytest.raises(ValueError, match="mine") as info:
        async with held(table):
            raise ValueError("mine")
    assert info.value.__cause__ is None
    assert table.holder("a") is None


async def test_a_lost_lease_cancels_the_body() -> None:
    table = LeaseTable()
    with pytest.raises(LockLost, match="another holder may have it"):
        async with held(table):
            table.holders.clear()
            await anyio.sleep_forever()


async def test_a_lost_lease_cancels_the_tasks_of_the_body() -> None:
    table = LeaseTable()
    ended = []

    async def work(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(number)

    with pytest.raises(LockLost):
        async with held(table), anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(work, number)
            table.holders.clear()
    assert sorted(ended) == [0, 1, 2]


async def test_a_block_in_a_block() -> None:
    """Losing the outer lease ends both blocks, and releases the inner one."""
    table, inner = LeaseTable(), LeaseTable()
    with pytest.raises(LockLost):
        async with held(table), held(inner):
            table.holders.clear()
            await anyio.sleep_forever()
    assert inner.holder("a") is None
    with pytest.raises(LockLost):
        async with held(table, ttl=50), held(inner):
            inner.holders.clear()
            await anyio.sleep_forever()
    assert table.holder("a") is None


async def test_a_lease_that_can_not_be_renewed_ends_with_its_ttl() -> None:
    table = LeaseTable(None, *itertools.repeat(unavailable(), 100))
    started = anyio.current_time()
    with pytest.raises(LockLost):
        async with held(table):
            await anyio.sleep_forever()
    assert anyio.current_time() - started >= 9.0
    table.faults.clear()


async def test_a_mistake_in_renewing_is_the_cause() -> None:
    mistake = cql.Unauthorized(0x2100, "no", {}, host="h", query=None)
    with pytest.raises(LockLost, match="it could not be renewed") as info:
        async with held(LeaseTable(None, mistake)):
            await anyio.sleep_forever()
    assert info.value.__cause__ is mistake


async def test_a_body_that_blocked_the_event_loop_for_too_long() -> None:
    """The renewal had no chance to run, so nothing was cancelled: the error comes at the end."""
    with pytest.raises(LockLost, match="it has expired"):
        async with held(LeaseTable()) as lease:
            lease._expires = anyio.current_time()


async def test_an_error_of_the_body_comes_before_a_lost_lease() -> None:
    with pytest.raises(ValueError, match="mine"):
        async with held(LeaseTable()) as lease:
            lease._expires = -math.inf
            raise ValueError("mine")


async def test_a_body_that_releases_the_lease_itself() -> None:
    table = LeaseTable()
    async with held(table) as lease:
        await lease.release()
        await anyio.sleep(60)
    assert table.executor.lwts == 2


async def test_a_cancelled_body_releases() -> None:
    table = LeaseTable()
    with anyio.move_on_after(5) as scope:
        async with held(table):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert table.holder("a") is None


async def test_a_body_cancelled_from_far_outside_releases() -> None:
    table = LeaseTable()

    async def hold() -> None:
        async with held(table):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.sleep(1)
        assert table.holder("a") is not None
        group.cancel_scope.cancel()
    assert table.holder("a") is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_of_asyncio_that_is_cancelled_releases() -> None:
    import asyncio

    table = LeaseTable()

    async def hold() -> None:
        async with held(table):
            await asyncio.sleep(3600)

    task = asyncio.create_task(hold())
    await asyncio.sleep(1)
    assert table.holder("a") is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert table.holder("a") is None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), held(table):
            await asyncio.sleep(3600)
    assert table.holder("a") is None


async def test_a_release_that_fails_is_left_to_the_ttl() -> None:
    table = LeaseTable(None, unavailable())
    async with held(table):
        pass
    assert table.holder("a") is not None


async def test_a_release_that_hangs_is_bounded() -> None:
    table = LeaseTable(None, "hang")
    started = anyio.current_time()
    async with held(table):
        pass
    assert anyio.current_time() - started == pytest.approx(5.0)


async def test_a_release_by_hand_that_hangs_is_bounded() -> None:
    lease = await acquire(leases(LeaseTable(None, "hang")))
    started = anyio.current_time()
    with pytest.raises(OutcomeUnknown) as info:
        await lease.release()
    assert info.value.operation == lease.operation
    assert anyio.current_time() - started == pytest.approx(5.0)


@pytest.mark.parametrize("fault", [1.0, "request", "reply"])
async def test_a_release_that_is_cancelled_is_done(fault: Any) -> None:
    """Also within a block whose body releases the lease itself."""
    for block in (False, True):
        table = LeaseTable(None, fault)
        with anyio.move_on_after(0.001) as scope:
            if block:
                async with held(table) as lease:
                    await lease.release()
            else:
                await (await acquire(leases(table))).release()
            await anyio.sleep(60)
        assert scope.cancelled_caught
        assert table.holder("a") is None


# -- many workers


class Sections:
    """A history of critical sections, and the check that they exclude each other."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    async def run(self, found: Leases, pause: float, ttl: float) -> None:
        while True:
            lease = await found.acquire("a", ttl=ttl, owner="w")
            if isinstance(lease, Lease):
                break
            await anyio.sleep(0.5)

        async def given() -> Lease:
            return lease

        try:
            async with Held(given):
                self.events.append(("in", lease.fence))
                try:
                    await anyio.sleep(pause)
                finally:
                    self.events.append(("out", lease.fence))
        except LockLost:
            pass

    def check(self) -> None:
        told = " ".join(f"{what}{fence}" for what, fence in self.events)
        assert re.fullmatch(r"(in(\d+) out\2( |$))*", told), told
        fences = [fence for what, fence in self.events if what == "in"]
        assert fences == sorted(set(fences))


RUNS = settings(max_examples=20)
FAULTS = st.lists(st.sampled_from(["reply", "request", "late", None, None, 0.5]), max_size=12)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@RUNS
@given(FAULTS, st.lists(st.sampled_from([0.0, 0.1, 5.0]), min_size=2, max_size=8))
def test_no_two_critical_sections_overlap(
    backend: str, faults: list[Any], pauses: list[float]
) -> None:
    async def run() -> None:
        table, sections = LeaseTable(*faults), Sections()
        async with anyio.create_task_group() as group:
            for pause in pauses:
                group.start_soon(sections.run, leases(table), pause, 3.0)
        sections.check()
        assert len(sections.events) == 2 * len(pauses)

    run_virtual(run, backend)


async def test_without_settling_a_lost_reply_leaks_the_lock() -> None:
    """The naive way: after an error, the lock is taken for not acquired."""
    table = LeaseTable("reply")
    with pytest.raises(cql.ConnectionLost):
        await table.executor.batch(
            [
                ("UPDATE t SET fence = :fence IF fence = :before", {"fence": 1, "before": None}),
                (
                    "UPDATE t USING TTL :ttl SET holder = :operation IF holder = null",
                    {"name": "a", "operation": 1, "owner": "me", "ttl": 30},
                ),
            ]
        )
    assert isinstance(await leases(table).acquire("a", ttl=30.0, owner="next"), Holder)
