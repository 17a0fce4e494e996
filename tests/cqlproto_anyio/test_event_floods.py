"""Thousands of events: each takes a limited number of steps, whatever the size of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from cqlproto_anyio._cluster.selector import Selector
from cqlproto_anyio._metadata import tablets
from cqlproto_anyio._metadata.tablets import Tablet, Tablets
from cqlproto_anyio._network.host_state import HostState
from cqlproto_anyio._statements.statement import Statement
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import SELECT, connected, knows, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import cqlproto_anyio as cql

pytestmark = pytest.mark.uvloop


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """Return a list that gets one entry for each call of a method."""
    calls: list[object] = []
    usual: Callable[..., object] = getattr(owner, name)

    def counting(*arguments: object) -> object:
        calls.append(arguments)
        return usual(*arguments)

    monkeypatch.setattr(owner, name, counting)
    return calls


async def statement(session: cql.Session, number: int) -> None:
    await session.execute(f"SELECT v FROM ks.t WHERE k = ? AND v = {number}", (number,))


async def test_schema_events_outdate_each_statement_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        for number in range(50):
            await statement(session, number)
        outdated = counted(monkeypatch, Statement, "outdate")
        for _ in range(2000):
            cluster.tell_schema("UPDATED", "ks", "t")
        cluster.tell_schema("UPDATED", "elsewhere", "t")
        cluster.tell_schema("CREATED", "last", "t")
        await until(lambda: snapshot(session).schema_changes == 2002)
        assert len(outdated) == 50
        # statements prepared again are outdated again
        for number in range(5):
            await statement(session, number)
        cluster.tell_schema("UPDATED", "ks", "t")
        await until(lambda: snapshot(session).schema_changes == 2003)
        assert len(outdated) == 55
        cluster.seen = []
        await statement(session, 1)
        assert len(cluster.seen) == 2  # PREPARE, EXECUTE


async def test_events_on_hosts_look_at_these_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(30)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))
        up = counted(monkeypatch, HostState, "reported_up")
        down = counted(monkeypatch, HostState, "reported_down")
        changed = counted(monkeypatch, Selector, "changed")
        for _ in range(500):
            cluster.tell_down(cluster.hosts[3])
            cluster.tell_up(cluster.hosts[3])
        await until(lambda: len(up) == 500)
        assert len(down) == 500
        assert changed == []  # no router is made again: nothing has changed
        assert (await session.execute(SELECT, (7,))).one().v == 7
        assert stats_of(session, cluster.hosts[3]).connections == 1


async def test_an_asleep_host_that_is_said_to_be_up_is_used() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, cluster.hosts[0].address, eager=False) as session:
        cluster.tell_up(cluster.hosts[1])
        await connected(session, cluster.hosts)


async def test_topology_events_are_read_together() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster) as session:
        before = cluster.reads["system.local"]
        for _ in range(1000):
            cluster.tell_topology("MOVED_NODE", cluster.hosts[1])
        new = cluster.add()
        cluster.tell_topology("NEW_NODE", new)
        await until(lambda: knows(session, new))
        assert cluster.reads["system.local"] <= before + 3


def test_tablets_of_many_hosts_are_forgotten_at_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Tablet] = []
    usual = tablets._holds

    def holds(tablet: Tablet, host_ids: set[object]) -> bool:
        looked.append(tablet)
        return usual(tablet, host_ids)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(tablets, "_holds", holds)
    known = Tablets()
    hosts = [UUID(int=number) for number in range(100)]
    for number in range(200):
        known.learn("ks", "t", Tablet(number, number + 1, ((hosts[number % 100], 0),)))
    known.forget_hosts(set(hosts[:90]))
    assert len(known) == 20
    assert len(looked) == 200


def test_keyspaces_without_tablets_cost_nothing() -> None:
    known = Tablets()
    host = UUID(int=1)
    for number in range(20):
        known.learn(f"ks{number % 2}", f"t{number}", Tablet(0, 1, ((host, 0),)))
    known.forget_keyspace("ks0")
    assert len(known) == 10
    known.forget_keyspace("ks0")
    known.forget_table("ks1", "t1")
    known.forget_hosts({host})
    assert len(known) == 0
    assert known._keyspaces == {}
