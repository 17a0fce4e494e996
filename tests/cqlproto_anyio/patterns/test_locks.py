"""Locks: waiting, turns, and mistakes; test_lease.py has what leases do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest

from cqlproto_anyio.patterns import InvalidInput, Lease, Locks, LockTimeout
from tests.cqlproto_anyio.patterns.leasetable import LeaseTable


def locks(table: LeaseTable, owner: str | None = None) -> Locks:
    return Locks(table.executor, keyspace="shop", owner=owner)


async def test_a_block_costs_two_lwts() -> None:
    table = LeaseTable()
    async with locks(table).hold("a", ttl=timedelta(seconds=30)) as lease:
        assert (lease.name, lease.fence, lease.ttl) == ("a", 1, 30.0)
    assert table.executor.lwts == 2


async def test_waiting_until_the_lock_is_free() -> None:
    table = LeaseTable()
    started = anyio.current_time()

    async def first() -> None:
        async with locks(table).hold("a", ttl=10):
            await anyio.sleep(60)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(1)
        async with locks(table).hold("a", ttl=10) as lease:
            assert lease.fence == 2
        assert 60 <= anyio.current_time() - started < 61


async def test_the_wait_is_bounded() -> None:
    table = LeaseTable()
    held = await locks(table, owner="ann").acquire("a", ttl=100)
    assert isinstance(held, Lease)
    for wait in (0, 0.3, timedelta(seconds=5)):
        started = anyio.current_time()
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        with pytest.raises(LockTimeout) as info:
            async with locks(table).hold("a", ttl=10, wait=wait):
                pytest.fail("entered")
        error = info.value
        assert (error.name, error.holder) == ("a", "ann")
        assert error.waited == anyio.current_time() - started == pytest.approx(seconds)
        assert await locks(table).acquire("a", ttl=10, wait=wait) is None
    assert table.executor.lwts == 1  # who waits only reads


async def test_tasks_of_one_object_wait_in_turn() -> None:
    table = LeaseTable()
    mine = locks(table)
    order = []

    async def work(number: int) -> None:
        async with mine.hold("a", ttl=30):
            order.append(number)
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(work, number)
            await anyio.sleep(0.001)
    assert order == list(range(20))
    assert table.executor.lwts == 40
    assert len(mine._turns._locks) == 0


async def test_a_task_whose_turn_does_not_come_gives_up() -> None:
    table = LeaseTable()
    mine = locks(table)
    assert await locks(table, owner="ann").acquire("a", ttl=30)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            await mine.acquire("a", ttl=1, wait=10)

        group.start_soon(wait)
        await anyio.sleep(0.1)
        with pytest.raises(LockTimeout) as info:
            async with mine.hold("a", ttl=1, wait=0.5):
                pytest.fail("entered")
        assert info.value.holder == "ann"
        assert await mine.acquire("a", ttl=1) is None
    assert len(mine._turns._locks) == 0


async def test_the_owner_is_this_process_unless_told() -> None:
    table = LeaseTable()
    mine = locks(table)
    await mine.acquire("a", ttl=30)
    holder = await mine.holder("a")
    assert holder is not None
    assert holder.owner.rpartition(":")[2].isdigit()
    assert (await mine.holder("b")) is None


def test_the_table() -> None:
    (statement,) = Locks.schema_cql("shop")
    assert statement == (
        'CREATE TABLE IF NOT EXISTS "shop"."locks" ("name" text, "fence" bigint, "holder" uuid,'
        ' "owner" text, PRIMARY KEY (("name")))'
    )


WRONG: list[tuple[str, Any]] = [
    ("name", {"name": ""}),
    ("name", {"name": "x" * 2000}),
    ("ttl", {"ttl": 0}),
    ("ttl", {"ttl": -1}),
    ("ttl", {"ttl": float("nan")}),
    ("ttl", {"ttl": 630_720_000}),
    ("ttl", {"ttl": True}),
    ("wait", {"wait": -1}),
    ("wait", {"wait": "1"}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
async def test_wrong_arguments(name: str, wrong: dict[str, Any]) -> None:
    table = LeaseTable()
    options = {"name": "a", "ttl": 30, **wrong}
    with pytest.raises(InvalidInput) as info:
        locks(table).hold(options.pop("name"), **options)
    assert info.value.name == name
    options = {"name": "a", "ttl": 30, **wrong}
    with pytest.raises(InvalidInput):
        await locks(table).acquire(options.pop("name"), **options)
    assert table.executor.asked == []


def test_wrong_settings() -> None:
    executor = LeaseTable().executor
    wrong: list[dict[str, Any]] = [{"keyspace": ""}, {"table": "a b"}, {"owner": ""}]
    for options in wrong:
        with pytest.raises(InvalidInput):
            Locks(executor, **{"keyspace": "shop", **options})
