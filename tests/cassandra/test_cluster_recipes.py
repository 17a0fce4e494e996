"""Recipes on three nodes with replication factor 3, while one is paused, and another one killed."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    EventStore,
    Locks,
    NewEvent,
    OutcomeUnknown,
    OutOfStock,
    RateLimiter,
    Stock,
    Versioned,
)
from tests.cassandra.soak.faults import settled
from tests.support.histories import Admission, Section, dense, exclusive, oversold, within_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.cassandra.conftest import Cluster

# It may be the first that waits for three nodes to start, and waits for one to start again.
pytestmark = pytest.mark.timeout(400)

WORKERS = 3
LIMIT, PER = 20, 2.0
QUANTITY = 40


class History:
    """What the workers have seen, and what they know to be stored."""

    def __init__(self, session: cql.Session, keyspace: str) -> None:
        self.session = session
        self.keyspace = keyspace
        self.ends = False
        self.done = self.goal = 0  # steps that have succeeded, and that are waited for
        self.reached = anyio.Event()
        self.sections: list[Section] = []
        self.appended: list[str] = []
        self.doubtful: set[str] = set()
        self.admissions: list[Admission] = []
        self.increments = self.doubtful_increments = 0
        self.levels: list[tuple[int, int]] = []

    async def hold(self) -> None:
        locks = Locks(self.session, keyspace=self.keyspace)
        async with locks.hold("nightly", ttl=20, wait=60) as lease:
            entered = time.monotonic()
            await anyio.sleep(0.01)
            self.sections.append(Section(lease.fence, entered, time.monotonic()))

    async def append(self) -> None:
        store = EventStore(self.session, keyspace=self.keyspace)
        mark = uuid.uuid4().hex
        try:
            await store.append("orders", [NewEvent("created", {"mark": mark})])
        except cql.CQLError as error:
            if error.maybe_applied:
                self.doubtful.add(mark)
            raise
        self.appended.append(mark)

    async def check(self) -> None:
        limiter = RateLimiter(
            self.session, keyspace=self.keyspace, limit=LIMIT, per=PER, on_failure="raise"
        )
        asked = time.monotonic()
        decision = await limiter.check("api")
        if decision.allowed:
            self.admissions.append(Admission(asked, time.monotonic()))
        else:
            await anyio.sleep(decision.retry_after)

    async def increment(self) -> None:
        rows = Versioned(self.session, keyspace=self.keyspace, table="counts", key=["id"])
        try:
            outcome = await rows.update(1, lambda row: {"n": row["n"] + 1})
        except OutcomeUnknown:
            self.doubtful_increments += 1
            raise
        self.increments += outcome.ok

    async def sell(self) -> None:
        stock = Stock(self.session, keyspace=self.keyspace)
        operation = uuid.uuid4().hex
        try:
            await stock.reserve("lamp", 3, operation)
            await stock.release(operation)
        except OutOfStock:
            pass
        level = await stock.level("lamp")
        self.levels.append((level.quantity, level.reserved))

    async def work(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again; an outage may end one step, not the worker."""
        while not self.ends:
            try:
                await step()
            except cql.CQLError:
                await anyio.sleep(0.1)
            else:
                self.done += 1
                if self.done == self.goal:
                    self.reached.set()

    async def more(self, steps: int) -> None:
        """Wait until so many steps more have succeeded."""
        self.goal, self.reached = self.done + steps, anyio.Event()
        with anyio.fail_after(120):
            await self.reached.wait()


@pytest.fixture(scope="module")
def cluster(three_nodes: Cluster) -> Cluster:
    return settled(three_nodes)


@pytest.fixture
async def history(cluster: Cluster, anyio_backend: str) -> AsyncIterator[History]:
    keyspace = f"cluster_recipes_{uuid.uuid4().hex[:8]}"
    hosts = [node.host for node in cluster.nodes]
    profile = cql.Profile(timeout=4.0)
    async with cql.connect(hosts, port=cluster.nodes[0].port, profile=profile) as session:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
        await session.execute(
            f"CREATE KEYSPACE {keyspace} WITH replication = {replication}", timeout=60
        )
        counts = f"CREATE TABLE {keyspace}.counts (id int PRIMARY KEY, n int)"
        await session.execute(counts, timeout=60)
        recipes: list[Any] = [
            Locks(session, keyspace=keyspace),
            EventStore(session, keyspace=keyspace),
            RateLimiter(session, keyspace=keyspace, limit=LIMIT, per=PER),
            Versioned(session, keyspace=keyspace, table="counts", key=["id"]),
            Stock(session, keyspace=keyspace),
        ]
        for recipe in recipes:
            await recipe.create_schema()
        await recipes[3].insert({"id": 1, "n": 0})
        await recipes[4].add("lamp", QUANTITY)
        yield History(session, keyspace)
        await session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)


async def test_lost_nodes(cluster: Cluster, history: History) -> None:
    first, second = cluster.nodes[1], cluster.nodes[2]
    steps = (history.hold, history.append, history.check, history.increment, history.sell)
    async with anyio.create_task_group() as group:
        for step in steps:
            for _ in range(WORKERS):
                group.start_soon(history.work, step)
        await history.more(20)
        first.pause()
        await history.more(20)
        first.resume()
        await history.more(20)
        await anyio.to_thread.run_sync(second.kill)
        await history.more(20)
        await anyio.to_thread.run_sync(second.up)
        await history.more(20)
        history.ends = True
    await judge(history)


async def judge(history: History) -> None:
    """Compare what the workers have seen with what is stored."""
    assert len(history.sections) > 10
    assert not exclusive(history.sections)
    store = EventStore(history.session, keyspace=history.keyspace)
    events = [event async for event in store.read("orders")]
    assert not dense([event.version for event in events])
    marks = [event.data["mark"] for event in events]
    assert len(set(marks)) == len(marks)
    assert set(history.appended) <= set(marks) <= set(history.appended) | history.doubtful
    assert len(history.admissions) > 10
    assert not within_limit(history.admissions, LIMIT, PER)
    rows = Versioned(history.session, keyspace=history.keyspace, table="counts", key=["id"])
    row = await rows.read(1)
    most = history.increments + history.doubtful_increments
    assert history.increments <= row.values["n"] <= most
    assert row.version == row.values["n"] + 1
    assert not oversold(history.levels)
    level = await Stock(history.session, keyspace=history.keyspace).level("lamp")
    assert level.quantity == QUANTITY
