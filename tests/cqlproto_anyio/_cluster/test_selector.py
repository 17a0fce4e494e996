"""Which host and connection a request goes to, counted where it arrives."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID
from cqlproto_anyio._cluster import selector as choosing
from tests.support.cluster_sessions import (
    INSERT,
    LWT,
    SELECT,
    connected,
    replicas,
    session_on,
    stats_of,
    topology_of,
)
from tests.support.fakecluster import FakeCluster, FakeRequest, row_v
from tests.support.server import Outcome, start, turns, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost

pytestmark = pytest.mark.uvloop


def simple(count: int) -> dict[str, dict[str, str]]:
    return {"ks": {"class": "SimpleStrategy", "replication_factor": str(count)}}


class Counted:
    """Counts where statements with a key arrive."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.by_key: dict[int, Counter[FakeHost]] = {}
        self.hosts: Counter[FakeHost] = Counter()
        self._cluster = cluster
        cluster.answer = self._answer

    def _answer(self, request: FakeRequest) -> Response:
        self.hosts[request.host] += 1
        self.by_key.setdefault(request.number, Counter())[request.host] += 1
        return self._cluster.usual_answer(request)


# -- tokens


@pytest.mark.parametrize("factor", [1, 2, 3])
async def test_requests_go_to_replicas(factor: int) -> None:
    cluster = FakeCluster(8, keyspaces=simple(factor), tokens=16)
    topology = topology_of(cluster)
    counted = Counted(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        keys = [Random(factor).randrange(-(1 << 31), 1 << 31) for _ in range(101)]
        for _ in range(4):
            for key in keys:
                await session.execute(SELECT, (key,))
        for key in keys:
            there = counted.by_key[key]
            assert set(there) <= set(replicas(cluster, key, topology))
            assert len(there) == factor
    assert sum(counted.hosts.values()) == 404


async def test_writes_and_batches_go_to_replicas_too() -> None:
    cluster = FakeCluster(6, keyspaces=simple(2))
    topology = topology_of(cluster)
    counted = Counted(cluster)
    batches: list[FakeHost] = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for key in range(50):
            await session.execute(INSERT, (key, 1))
            assert set(counted.by_key[key]) <= set(replicas(cluster, key, topology))

        def note(request: FakeRequest) -> Response:
            batches.append(request.host)
            return VOID

        cluster.answer = note
        for key in range(50):
            await session.batch([(INSERT, (key, 1)), (INSERT, (key + 1, 2))])
            assert batches.pop() in replicas(cluster, key, topology)


async def test_only_local_replicas_are_asked() -> None:
    cluster = FakeCluster({"eu": 4, "us": 4}, keyspaces={
        "ks": {"class": "NetworkTopologyStrategy", "eu": "2", "us": "2"}
    })  # fmt: skip
    topology = topology_of(cluster)
    counted = Counted(cluster)
    async with session_on(cluster, local_dc="us") as session:
        await connected(session, cluster.hosts[4:])
        for key in range(100):
            await session.execute(SELECT, (key,))
            local = [h for h in replicas(cluster, key, topology) if h.datacenter == "us"]
            assert set(counted.by_key[key]) <= set(local)


async def test_a_keyspace_that_is_altered_has_other_replicas() -> None:
    cluster = FakeCluster(5, keyspaces=simple(1))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))
        cluster.keyspaces["ks"]["replication_factor"] = "3"
        cluster.tell_schema("UPDATED", "ks")
        reads = cluster.reads["system_schema.keyspaces"]
        await until(lambda: cluster.reads["system_schema.keyspaces"] > reads)
        await turns(50)
        counted = Counted(cluster)
        topology = topology_of(cluster)
        for key in range(50):
            for _ in range(3):
                await session.execute(SELECT, (key,))
            assert set(counted.by_key[key]) == set(replicas(cluster, key, topology))


async def test_without_live_replicas_others_coordinate() -> None:
    cluster = FakeCluster(4, keyspaces=simple(1))
    topology = topology_of(cluster)
    key = 5
    [replica] = replicas(cluster, key, topology)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (key,))
        replica.kill()
        others = [host for host in cluster.hosts if host is not replica]
        await connected(session, others)
        counted = Counted(cluster)
        for _ in range(30):
            await session.execute(SELECT, (key,))
        assert set(counted.by_key[key]) == set(others)
        replica.revive()
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (key,))
        assert replica in counted.by_key[key]


async def test_routing_that_is_not_token_aware() -> None:
    cluster = FakeCluster(4, keyspaces=simple(1))
    counted = Counted(cluster)
    async with session_on(cluster, routing=cql.Routing(token_aware=False)) as session:
        await connected(session, cluster.hosts)
        await session.prepare(SELECT)
        for _ in range(40):
            await session.execute(SELECT, (1,))
        assert counted.by_key[1] == dict.fromkeys(cluster.hosts, 10)


# -- spread


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_requests_without_a_token_are_spread_evenly(count: int) -> None:
    cluster = FakeCluster(count)
    counted = Counted(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for _ in range(40 * count):
            await session.execute("SELECT v FROM ks.t")
        assert counted.hosts == dict.fromkeys(cluster.hosts, 40)


WAYS: dict[str, Callable[[cql.Session], Awaitable[object]]] = {
    "prepared": lambda session: session.execute(SELECT, (1,)),
    "traced": lambda session: session.execute(SELECT, (1,), trace=True),
    "page": lambda session: session.page(SELECT, (1,)),
    "batch": lambda session: session.batch([(INSERT, (1, 2))]),
    "batch of two": lambda session: session.batch([(INSERT, (1, 2)), (INSERT, (1, 3))]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [2, 4])
async def test_all_kinds_of_requests_are_spread_evenly(way: str, count: int) -> None:
    """Each request takes one turn: with two, the same of two hosts would serve all requests."""
    cluster = FakeCluster(count, keyspaces=simple(count))
    counted = Counted(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await WAYS[way](session)
        counted.hosts.clear()
        for _ in range(10 * count):
            await WAYS[way](session)
        assert counted.hosts == dict.fromkeys(cluster.hosts, 10)


async def test_many_at_once_are_spread_evenly() -> None:
    cluster = FakeCluster(4, keyspaces=simple(3), tokens=64)
    cluster.answer = lambda request: None
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.prepare(SELECT)
        async with anyio.create_task_group() as group:
            for key in range(400):
                start(group, partial(session.execute, SELECT, (key,)))
            await until(lambda: len(cluster.waiting) == 400)
            loads = Counter(request.host for request in cluster.waiting)
            assert max(loads.values()) - min(loads.values()) <= 40
            for request in cluster.waiting:
                request.reply(row_v(1))


@pytest.mark.parametrize("factor", [1, 3])
async def test_a_host_that_does_not_answer_is_left_alone_after_a_few(factor: int) -> None:
    """A host answers nothing, and no heartbeat is due yet: the others serve nearly all requests."""
    cluster = FakeCluster(3, keyspaces=simple(3))
    query = SELECT if factor == 3 else "SELECT v FROM ks.t"
    values = (1,) if factor == 3 else None
    stuck = cluster.hosts[1]

    def answer(request: FakeRequest) -> Response | None:
        return None if request.host is stuck else row_v(1)

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(query, values)
        cluster.answer = answer
        calls: list[Outcome] = []
        async with anyio.create_task_group() as group:
            for _ in range(100):
                calls.append(start(group, lambda: session.execute(query, values)))
                await turns(12)
            await until(lambda: sum(not call.done for call in calls) == len(cluster.waiting))
            assert 1 <= len(cluster.waiting) <= 3
            # abandoned requests count as well
            for call in calls:
                call.scope.cancel()
        held = len(cluster.waiting)
        for _ in range(100):
            with anyio.move_on_after(5):
                await session.execute(query, values)
        assert len(cluster.waiting) == held
        assert stats_of(session, stuck).orphans == held


# -- lightweight transactions


async def test_conditional_statements_go_to_the_first_replica() -> None:
    cluster = FakeCluster(5, keyspaces=simple(3))
    topology = topology_of(cluster)
    counted = Counted(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for key in range(40):
            for _ in range(4):
                await session.execute(LWT, (key, 1))
            assert counted.by_key[key] == {replicas(cluster, key, topology)[0]: 4}


async def test_conditional_statements_go_to_the_first_although_all_hosts_have_all() -> None:
    """A lightweight transaction uses the token even where other statements don't, in any rack."""
    cluster = FakeCluster(3, keyspaces=simple(3), racks=("a", "b"))
    topology = topology_of(cluster)
    counted = Counted(cluster)
    async with session_on(cluster, routing=cql.Routing(rack="b")) as session:
        await connected(session, cluster.hosts)
        for key in range(30):
            await session.execute(LWT, (key, 1))
            assert set(counted.by_key[key]) == {replicas(cluster, key, topology)[0]}
        assert len(counted.hosts) == 3


async def test_the_only_host_of_the_preferred_rack_is_not_asked_for_what_others_hold() -> None:
    cluster = FakeCluster(4, keyspaces=simple(2), racks=("a", "b", "c", "d"))
    near = cluster.hosts[1]
    topology = topology_of(cluster)
    counted = Counted(cluster)
    async with session_on(cluster, routing=cql.Routing(rack="b")) as session:
        await connected(session, cluster.hosts)
        for key in range(60):
            await session.execute(SELECT, (key,))
            there = replicas(cluster, key, topology)
            assert set(counted.by_key[key]) <= ({near} if near in there else set(there))
        assert len(counted.hosts) == 4
        counted.hosts.clear()
        for _ in range(10):
            await session.execute("SELECT v FROM ks.t")
        assert set(counted.hosts) == {near}


async def test_a_first_replica_that_is_silent_is_passed_over() -> None:
    cluster = FakeCluster(3, keyspaces=simple(3))
    key = 9
    first, second, _ = replicas(cluster, key)

    def answer(request: FakeRequest) -> Response | None:
        return None if request.host is first else VOID

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(LWT, (key, 1))
        cluster.answer = answer
        async with anyio.create_task_group() as group:
            for count in range(1, choosing._MAX_ORPHANS + 1):
                call = start(group, lambda: session.execute(LWT, (key, 1)))
                await until(lambda: len(cluster.waiting) == count)  # noqa: B023
                call.scope.cancel()
        assert {request.host for request in cluster.waiting} == {first}
        await until(lambda: stats_of(session, first).orphans == choosing._MAX_ORPHANS)
        for _ in range(5):
            await session.execute(LWT, (key, 1))  # served by the second replica
        assert len(cluster.waiting) == choosing._MAX_ORPHANS
        # the first replica answers again, and is preferred again
        for request in cluster.waiting:
            request.reply(VOID)
        await until(lambda: not stats_of(session, first).orphans)
        counted = Counted(cluster)
        await session.execute(LWT, (key, 1))
        assert set(counted.hosts) == {first}
        assert second is not first


async def test_a_dead_first_replica_hands_over_to_the_second() -> None:
    cluster = FakeCluster(4, keyspaces=simple(3))
    key = 4
    first, second, third = replicas(cluster, key)
    counted = Counted(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(LWT, (key, 1))
        first.kill()
        await connected(session, [host for host in cluster.hosts if host is not first])
        for _ in range(5):
            await session.execute(LWT, (key, 1))
        assert counted.by_key[key] == {first: 1, second: 5}
        assert third not in counted.by_key[key]


# -- retries


async def test_retries_go_to_the_other_replicas_first() -> None:
    cluster = FakeCluster(6, keyspaces=simple(3))
    topology = topology_of(cluster)
    order: list[FakeHost] = []

    def answer(request: FakeRequest) -> Response:
        from cqlproto.enums import ErrorCode
        from cqlproto.messages import Error

        order.append(request.host)
        return Error(ErrorCode.IS_BOOTSTRAPPING, "not yet")

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.prepare(SELECT)
        cluster.answer = answer
        for key in range(20):
            order.clear()
            with pytest.raises(cql.IsBootstrapping):
                await session.execute(SELECT, (key,))
            assert len(set(order)) == len(order) >= 2
            there = replicas(cluster, key, topology)
            assert set(order[:3]) <= set(there)
