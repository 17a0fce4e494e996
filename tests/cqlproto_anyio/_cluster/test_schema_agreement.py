"""Waiting until all hosts have the same schema version."""

from __future__ import annotations

from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

from cqlproto_anyio._cluster import schema_agreement as agreement
from tests.support.control_connection import controlling, nothing
from tests.support.fakecluster import FakeCluster
from tests.support.faketables import LOCAL, PEERS_V2
from tests.support.server import start, until

pytestmark = pytest.mark.uvloop


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause between two reads of the versions."""
    monkeypatch.setattr(agreement, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(agreement, "LONGEST_PAUSE", 0.01)


async def test_hosts_that_are_up_agree() -> None:
    cluster = FakeCluster(3)
    one, two, three = cluster.hosts
    async with controlling(cluster) as fixture:
        agree = fixture.control.agree
        assert await agree(2)
        one.change(schema_version=UUID(int=1))
        assert not await agree(0.15)
        two.change(schema_version=UUID(int=1))
        assert not await agree(0.15)
        fixture.owner.down = {three.host_id}
        assert await agree(2)
        fixture.owner.down = set()
        async with anyio.create_task_group() as group:
            agreed = start(group, lambda: agree(10))
            before = cluster.reads[PEERS_V2]
            await until(lambda: cluster.reads[PEERS_V2] > before + 3)
            assert not agreed.done
            three.change(schema_version=UUID(int=1))
        assert agreed.result is True


async def test_a_node_that_has_not_heard_of_its_peers_proves_nothing() -> None:
    """A host that has just started serves requests before it has rows about its peers."""
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture, anyio.create_task_group() as group:
        cluster.answers[PEERS_V2] = nothing
        agreed = start(group, lambda: fixture.control.agree(10))
        before = cluster.reads[PEERS_V2]
        await until(lambda: cluster.reads[PEERS_V2] > before + 2)
        assert not agreed.done
        del cluster.answers[PEERS_V2]
        await until(lambda: agreed.done)
        assert agreed.result is True


async def test_agreement_survives_the_loss_of_the_node() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.hosts[0].change(schema_version=UUID(int=1))
        async with anyio.create_task_group() as group:
            agreed = start(group, lambda: fixture.control.agree(10))
            before = cluster.reads[PEERS_V2]
            await until(lambda: cluster.reads[PEERS_V2] > before + 2)
            cluster.hosts[0].kill()
            cluster.hosts[0].change(schema_version=None)
            await until(lambda: agreed.done)
        assert agreed.result is True


async def test_servers_that_tell_no_version() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        assert await fixture.control.agree(2)
        fixture.cluster.hosts[1].tell(schema_version=None)
        assert not await fixture.control.agree(0.1)
        fixture.owner.down = {cluster.hosts[1].host_id}
        assert await fixture.control.agree(2)
        cluster.hosts[0].tell(schema_version=None)
        assert not await fixture.control.agree(0.1)
        cluster.answers[LOCAL] = nothing
        assert not await fixture.control.agree(0.1)
        del cluster.answers[LOCAL], cluster.tables[LOCAL]["schema_version"]
        with anyio.fail_after(5):
            assert not await fixture.control.agree(60)


async def test_agreement_without_a_connection() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster) as fixture:
        cluster.hosts[0].kill()
        assert not await fixture.control.agree(0.1)
