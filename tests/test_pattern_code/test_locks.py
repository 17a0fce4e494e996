"""Locks as applications use them: a nightly job, a queue of invoices, a worker that is too slow."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Lease, LockLost, Locks, LockTimeout, PatternError

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cassandra

MINUTE = datetime.timedelta(minutes=1)


@pytest.fixture
async def locks(session: cql.Session, keyspace: str) -> Locks:
    locks = Locks(session, keyspace=keyspace)
    await locks.create_schema()
    return locks


async def test_a_nightly_job_that_one_of_five_replicas_runs(
    session: cql.Session, keyspace: str, locks: Locks
) -> None:
    ran: list[str] = []

    async def at_midnight(replica: str) -> None:
        mine = Locks(session, keyspace=keyspace, owner=replica)
        lease = await mine.acquire("nightly", ttl=MINUTE)
        if lease is not None:
            ran.append(replica)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(at_midnight, f"replica-{number}")
    assert len(ran) == 1
    holder = await locks.holder("nightly")
    assert holder is not None
    assert (holder.owner, holder.fence) == (ran[0], 1)
    assert 50 < holder.expires_in <= 62
    assert await locks.holder("weekly") is None


async def test_invoices_that_are_numbered_one_after_another(locks: Locks) -> None:
    """Workers wait for their turn; the fence grows with each."""
    entered: list[int] = []
    inside = 0

    async def number_an_invoice() -> None:
        nonlocal inside
        async with locks.hold("invoices", ttl=30, wait=MINUTE) as lease:
            inside += 1
            assert inside == 1
            await anyio.sleep(0.02)
            entered.append(lease.fence)
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(number_an_invoice)
    assert len(entered) == 6
    assert entered == sorted(set(entered))
    assert await locks.holder("invoices") is None


async def test_a_deployment_that_does_not_wait(
    session: cql.Session, keyspace: str, locks: Locks
) -> None:
    ann = Locks(session, keyspace=keyspace, owner="ann's laptop")
    async with ann.hold("deploy", ttl=30):
        assert await locks.acquire("deploy", ttl=30) is None
        with pytest.raises(LockTimeout) as info:
            async with locks.hold("deploy", ttl=30, wait=0.2):
                pytest.fail("two deployments at once")
        with pytest.raises(LockTimeout):
            async with locks.hold("deploy", ttl=30, wait=0):
                pytest.fail("two deployments at once")
    error = info.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error, PatternError)
    assert (error.name, error.holder) == ("deploy", "ann's laptop")
    assert 0.2 <= error.waited < 5
    async with locks.hold("deploy", ttl=30, wait=0) as lease:
        assert lease.fence == 2


async def test_a_long_import_that_renews_its_lease_by_hand(locks: Locks) -> None:
    lease = await locks.acquire("import", ttl=2)
    assert lease is not None
    assert isinstance(lease, Lease)
    assert (lease.name, lease.fence, lease.ttl) == ("import", 1, 2.0)
    for _ in range(4):
        assert 0 < lease.remaining <= 2
        await anyio.sleep(0.7)
        await lease.renew()
    assert lease.remaining > 1
    assert await locks.acquire("import", ttl=2) is None
    assert await lease.release() is True
    assert (lease.released, lease.remaining) == (True, 0.0)
    assert await locks.holder("import") is None
    assert await lease.release() is False


async def test_a_worker_that_slept_past_its_lease(session: cql.Session, locks: Locks) -> None:
    """The next holder has a higher fence, and the table refuses what the first one writes."""
    await session.execute("CREATE TABLE reports (id int PRIMARY KEY, body text, fence bigint)")
    await session.execute("INSERT INTO reports (id, fence) VALUES (1, 0)")
    publish = "UPDATE reports SET body = ?, fence = ? WHERE id = 1 IF fence < ?"

    slow = await locks.acquire("report", ttl=1)
    assert slow is not None
    quick = await locks.acquire("report", ttl=30, wait=10)
    assert quick is not None
    assert quick.fence > slow.fence
    assert (await session.execute(publish, ("quick", quick.fence, quick.fence))).applied
    late = await session.execute(publish, ("slow", slow.fence, slow.fence))
    assert not late.applied

    with pytest.raises(LockLost) as info:
        await slow.renew()
    assert (info.value.name, info.value.fence) == ("report", slow.fence)
    assert slow.remaining == 0.0
    assert await slow.release() is False
    holder = await locks.holder("report")
    assert holder is not None
    assert holder.fence == quick.fence


async def test_a_lock_that_an_operator_breaks(session: cql.Session, locks: Locks) -> None:
    """The body is cancelled where it waits, and the block raises LockLost."""
    started = anyio.Event()
    reached: list[str] = []
    errors: list[LockLost] = []

    async def stuck_job() -> None:
        try:
            async with locks.hold("stuck", ttl=1.5):
                started.set()
                await anyio.sleep(60)
                reached.append("the end")
        except LockLost as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(stuck_job)
        await started.wait()
        await session.execute("UPDATE locks SET holder = null WHERE name = 'stuck' IF EXISTS")
    assert reached == []
    assert [(error.name, error.fence) for error in errors] == [("stuck", 1)]
    assert await locks.holder("stuck") is None


async def test_an_error_in_the_body_and_a_cancelled_body_release(locks: Locks) -> None:
    with pytest.raises(ValueError, match="^mine$"):
        async with locks.hold("body", ttl=30):
            raise ValueError("mine")
    assert await locks.holder("body") is None
    with anyio.move_on_after(0.3):
        async with locks.hold("body", ttl=30):
            await anyio.sleep(60)
    assert await locks.holder("body") is None


async def test_a_table_of_ones_own_schema_tool(session: cql.Session, keyspace: str) -> None:
    statements = Locks.schema_cql(keyspace, table="leases")
    assert statements
    for statement in statements:
        await session.execute(statement)
    locks = Locks(session, keyspace=keyspace, table="leases")
    await locks.create_schema()
    async with locks.hold("mine", ttl=30) as lease:
        assert lease.fence == 1


BAD: list[tuple[str, Callable[[Locks], object]]] = [
    ("ttl", lambda locks: locks.hold("x", ttl=0)),
    ("ttl", lambda locks: locks.hold("x", ttl=-MINUTE)),
    ("ttl", lambda locks: locks.hold("x", ttl=float("nan"))),
    ("ttl", lambda locks: locks.hold("x", ttl=630_720_001)),
    ("wait", lambda locks: locks.hold("x", ttl=30, wait=-1)),
    ("name", lambda locks: locks.hold("", ttl=30)),
]


@pytest.mark.parametrize(("what", "call"), BAD)
async def test_mistakes_are_told_before_anything_is_sent(
    locks: Locks, what: str, call: Callable[[Locks], object]
) -> None:
    with pytest.raises(cql.UsageError, match=what):
        async with call(locks):  # type: ignore[attr-defined]
            pytest.fail("entered")


def test_bad_names_of_keyspaces_and_tables() -> None:
    for bad in ("", "shop; DROP KEYSPACE shop", 'a"b', "a" * 49):
        with pytest.raises(cql.UsageError, match="keyspace"):
            Locks.schema_cql(bad)
        with pytest.raises(cql.UsageError, match="table"):
            Locks.schema_cql("shop", table=bad)
