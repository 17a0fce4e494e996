"""Locks on a real node: races, faults, and the naive lock that fails where ours doesn't."""

from __future__ import annotations

import itertools
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Lease, LockLost, Locks
from cqlproto_anyio.testing import Drop, FaultProxy, Passage, Rule
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process
from tests.support.histories import Section, exclusive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    for statement in Locks.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(f"CREATE TABLE {keyspace}.naive (name text PRIMARY KEY, holder uuid)")
    cassandra.cql(f"CREATE TABLE {keyspace}.resource (id text PRIMARY KEY, writer text, fence int)")


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def fresh() -> str:
    return uuid.uuid4().hex


async def enter(
    session: cql.Session, keyspace: str, name: str, times: int = 1, ttl: float = 30.0
) -> list[Section]:
    """Enter the critical section of a lock, as one worker; return when it was inside."""
    locks = Locks(session, keyspace=keyspace)
    sections = []
    for _ in range(times):
        async with locks.hold(name, ttl=ttl, wait=60) as lease:
            entered = time.monotonic()
            await anyio.sleep(0.002)
            sections.append(Section(lease.fence, entered, time.monotonic()))
    return sections


async def enter_with_ten(session: cql.Session, keyspace: str, name: str) -> list[Section]:
    """Enter with ten workers: the second process of the race."""
    workers: list[Any] = [partial(enter, session, keyspace, name)] * 10
    return [section for found in await all_of(workers) for section in found]


async def test_fifty_workers_and_a_second_process(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    name = fresh()
    workers: list[Any] = [partial(enter, session, keyspace, name)] * 50
    other = partial(in_other_process, enter_with_ten, cassandra, keyspace, name)
    found = await all_of([*workers, other])
    sections = [Section(*each) for sections in found for each in sections]
    assert len(sections) == 60
    assert exclusive(sections) == []
    assert sorted(each.fence for each in sections) == list(range(1, 61))


async def test_the_naive_lock_lets_a_second_holder_in(session: cql.Session) -> None:
    """A row with a TTL, and no renewal: it expires while its holder works, and nobody notices."""
    name = fresh()

    order = itertools.count(1)

    async def work() -> Section:
        insert = "INSERT INTO naive (name, holder) VALUES (?, ?) IF NOT EXISTS USING TTL 1"
        for _ in range(100):
            if (await session.execute(insert, (name, uuid.uuid4()))).applied:
                break
            await anyio.sleep(0.1)
        entered, fence = time.monotonic(), next(order)
        await anyio.sleep(1.7)
        return Section(fence, entered, time.monotonic())

    sections = await all_of([work, work])
    assert exclusive(sections) == ["fence 2 entered before fence 1 had left"]


async def test_a_holder_that_works_longer_than_the_ttl_keeps_others_out(
    session: cql.Session, keyspace: str
) -> None:
    name = fresh()

    async def work(seconds: float) -> Section:
        async with Locks(session, keyspace=keyspace).hold(name, ttl=0.5, wait=30) as lease:
            entered = time.monotonic()
            await anyio.sleep(seconds)
            left = time.monotonic()
        return Section(lease.fence, entered, left)

    async def later() -> Section:
        await anyio.sleep(0.2)
        return await work(0.0)

    sections = await all_of([partial(work, 2.4), later])  # the server's TTL is two seconds
    assert exclusive(sections) == []
    assert sections[0].fence < sections[1].fence


async def test_a_stalled_holders_write_is_rejected_by_its_fence(
    session: cql.Session, keyspace: str
) -> None:
    """The process is stopped for longer than its lease, and goes on as if nothing had happened."""
    name = fresh()
    locks = Locks(session, keyspace=keyspace)
    await session.execute("INSERT INTO resource (id, fence) VALUES (?, 0)", (name,))
    naive = "UPDATE resource SET writer = ? WHERE id = ?"
    fenced = "UPDATE resource SET writer = ?, fence = ? WHERE id = ? IF fence <= ?"

    async def write(writer: str, lease: Lease) -> bool:
        return (await session.execute(fenced, (writer, lease.fence, name, lease.fence))).applied

    stalled = await locks.acquire(name, ttl=0.5)
    assert stalled is not None
    assert await write("first", stalled)
    other = await Locks(session, keyspace=keyspace).acquire(name, ttl=30, wait=10)
    assert other is not None
    assert await write("second", other)
    assert await write("first", stalled) is False
    select = "SELECT writer FROM resource WHERE id = ?"
    assert (await session.execute(select, (name,))).scalar() == "second"
    await session.execute(naive, ("first", name))  # without the fence it is overwritten
    assert (await session.execute(select, (name,))).scalar() == "first"


async def test_a_body_that_outlives_its_lease_is_cancelled(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """No renewal arrives; others come in only after the body has ended."""
    name = fresh()
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        profile = cql.Profile(timeout=0.5, retry=cql.NoRetry())
        async with cql.connect(
            proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
        ) as slow:
            entered = left = time.monotonic()
            fence = 0
            with pytest.raises(LockLost) as info:
                async with Locks(slow, keyspace=keyspace).hold(name, ttl=1) as lease:
                    fence = lease.fence
                    proxy.add(Rule(Drop(), side="request", statement="%IF holder = :operation"))
                    try:
                        await anyio.sleep(30)
                    finally:
                        left = time.monotonic()
            assert info.value.fence == fence
            assert 0.9 < left - entered < 1.5
    other = await Locks(session, keyspace=keyspace).acquire(name, ttl=30, wait=10)
    assert other is not None
    assert (
        exclusive([Section(fence, entered, left), Section(other.fence, time.monotonic(), 1e12)])
        == []
    )


async def test_cancellation_releases(session: cql.Session, keyspace: str) -> None:
    name = fresh()
    locks = Locks(session, keyspace=keyspace)
    for delay in (0.0, 0.001, 0.003, 0.01, 0.05):  # in the read, in the acquisition, in the body
        with anyio.move_on_after(delay):
            async with locks.hold(name, ttl=30):
                await anyio.sleep(30)
        assert await locks.holder(name) is None, delay
        lease = await Locks(session, keyspace=keyspace).acquire(name, ttl=30)
        assert lease is not None, delay
        await lease.release()


async def test_an_ambiguous_acquisition_is_settled(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """The reply is lost after the write was applied: the lock is ours, and nobody else has it."""
    for fault in ("the reply is lost", "WriteTimeout after it was applied", "CASWriteUnknown"):
        name = fresh()
        async with faulty(cassandra, keyspace, [fault]) as shaky:
            lease = await Locks(shaky, keyspace=keyspace).acquire(name, ttl=30)
            assert lease is not None
            assert lease.fence == 1
            others = Locks(session, keyspace=keyspace)
            assert await others.acquire(name, ttl=30) is None
            assert await lease.release()
            assert await others.holder(name) is None


async def test_the_naive_lock_leaks_when_the_reply_is_lost(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    name = fresh()
    insert = "INSERT INTO naive (name, holder) VALUES (?, ?) IF NOT EXISTS USING TTL 30"
    async with faulty(cassandra, keyspace, ["the reply is lost"]) as shaky:
        with pytest.raises(cql.ConnectionLost):
            await shaky.execute(insert, (name, uuid.uuid4()))
    # its holder believes that it has failed, and nobody else gets it
    assert not (await session.execute(insert, (name, uuid.uuid4()))).applied


async def test_two_lwts(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        locks = Locks(session, keyspace=keyspace)
        name = fresh()
        async with locks.hold(name, ttl=30):
            pass
        assert (counting.lwts, counting.reads) == (2, 1)
        counting.records.clear()
        async with locks.hold(name, ttl=30):
            pass
        assert (counting.lwts, counting.reads) == (2, 0)


async def test_statements_are_prepared_once(cassandra: Node, keyspace: str) -> None:
    """A hundred tasks arrive together, each at a lock of its own."""
    prepared: list[str] = []

    def note(passage: Passage) -> bool:
        prepared.extend(passage.statements)
        return False

    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        proxy.add(Rule(Drop(), side="request", opcode="PREPARE", when=note))
        async with cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as session:
            locks = Locks(session, keyspace=keyspace)

            async def work() -> bool:
                lease = await locks.acquire(fresh(), ttl=30)
                return lease is not None and await lease.release()

            assert await all_of([work] * 100) == [True] * 100
    assert len(prepared) == len(set(prepared)) == 4  # a read, two to acquire, one to release


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(
    faults=st.lists(st.lists(st.sampled_from([*FAULTS, None]), max_size=4), min_size=2, max_size=3)
)
def test_no_fault_lets_two_in(
    cassandra: Node, keyspace: str, backend: str, faults: list[list[str | None]]
) -> None:
    """Workers with bad networks of their own; every section is exclusive, and none is left held."""
    name = fresh()

    async def worker(mine: list[str | None]) -> list[Section]:
        sections = []
        async with faulty(cassandra, keyspace, mine) as session:
            for _ in range(2):
                try:
                    sections += await enter(session, keyspace, name, ttl=2.0)
                except cql.CQLError as error:
                    # OVERLOADED reaches the caller; a lost lease too
                    assert isinstance(error, (cql.ServerOverloaded, LockLost))
        return sections

    async def run() -> None:
        found = await all_of([*(partial(worker, mine) for mine in faults)])
        assert exclusive([section for sections in found for section in sections]) == []
        async with connected(cassandra, keyspace) as session:
            assert await Locks(session, keyspace=keyspace).acquire(name, ttl=2, wait=20)

    anyio.run(run, backend=backend)
