"""``result.schema_agreed``: whether all hosts have the statement's schema change."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import SchemaChange
from cqlproto_anyio._cluster import schema_agreement as agreement
from tests.support.cluster_sessions import SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faketables import PEERS_V2
from tests.support.server import Outcome, idle, start, until

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost, FakeRequest

pytestmark = pytest.mark.uvloop


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause between two reads of the versions."""
    monkeypatch.setattr(agreement, "FIRST_PAUSE", 0.005)
    monkeypatch.setattr(agreement, "LONGEST_PAUSE", 0.01)


CREATE = "CREATE TABLE ks.t (k int PRIMARY KEY, v int)"


class Spreading:
    """Changes the schema version of one host; the test changes it on the others.

    Attributes:
        made_at: the hosts that changed the schema.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.made_at: list[FakeHost] = []
        cluster.answer = self.answer

    def answer(self, request: FakeRequest) -> Response:
        if not request.text.startswith(("CREATE", "ALTER", "DROP")):
            return self.cluster.usual_answer(request)
        self.made_at.append(request.host)
        self.cluster.set_schema_version(request.host)
        return SchemaChange("UPDATED", "TABLE", "ks", "t")

    def spread(self) -> None:
        """Give all hosts the same version."""
        version = self.made_at[-1].schema_version
        for host in self.cluster.hosts:
            host.change(schema_version=version)


async def looks(cluster: FakeCluster, times: int) -> None:
    """Wait for some more reads of the versions."""
    enough = cluster.reads[PEERS_V2] + times
    await until(lambda: cluster.reads[PEERS_V2] >= enough)


async def test_it_returns_when_all_have_heard() -> None:
    cluster = FakeCluster(3)
    spreading = Spreading(cluster)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        # the versions are read from the host of the change, not the control connection's
        calls: list[Outcome] = []
        for number in range(1, 4):
            calls.append(start(group, lambda: session.execute(CREATE)))
            await until(lambda number=number: len(spreading.made_at) == number)  # type: ignore[misc]  # a lambda with a default
            await looks(cluster, 4)
            assert not calls[-1].done
            spreading.spread()
            await until(lambda: calls[-1].done)
            result = calls[-1].result
            assert result.schema_agreed is True
            assert result.rows == []
            assert result.host == str(spreading.made_at[-1])
        assert len(set(spreading.made_at)) > 1
        await idle(session)


async def test_it_gives_up_in_time() -> None:
    cluster = FakeCluster(2)
    spreading = Spreading(cluster)
    async with session_on(cluster, schema_agreement_timeout=0.1) as session:
        await connected(session, cluster.hosts)
        started = anyio.current_time()
        result = await session.execute(CREATE)
        assert result.schema_agreed is False
        assert anyio.current_time() - started == pytest.approx(0.1)
        spreading.spread()
        assert (await session.execute(SELECT, (1,))).schema_agreed is None
        await idle(session)


async def test_the_calls_deadline_bounds_it() -> None:
    """The call succeeds, since the change was made; whether all hosts agree is unknown."""
    cluster = FakeCluster(2)
    Spreading(cluster)
    async with session_on(cluster, schema_agreement_timeout=3600) as session:
        await connected(session, cluster.hosts)
        with anyio.fail_after(10):
            result = await session.execute(CREATE, timeout=0.3)
        assert result.schema_agreed is False
        await idle(session)


async def test_nobody_is_asked() -> None:
    cluster = FakeCluster(2)
    Spreading(cluster)
    async with session_on(cluster, schema_agreement_timeout=0) as session:
        await connected(session, cluster.hosts)
        before = cluster.reads["system.local"]
        assert (await session.execute(CREATE)).schema_agreed is None
        assert cluster.reads["system.local"] == before


async def test_what_changes_no_schema_asks_nobody() -> None:
    cluster = FakeCluster(2)
    cluster.hosts[0].change(schema_version=UUID(int=1))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        before = sum(cluster.reads.values())
        for query in ("INSERT INTO ks.t (k) VALUES (1)", "SELECT v FROM ks.t", "TRUNCATE ks.t"):
            assert (await session.execute(query)).schema_agreed is None
        assert (await session.page("SELECT v FROM ks.t")).schema_agreed is None
        assert sum(cluster.reads.values()) == before


async def test_a_host_that_is_down_need_not_agree() -> None:
    cluster = FakeCluster(3)
    spreading = Spreading(cluster)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        down = cluster.hosts[2]
        down.kill()
        await connected(session, cluster.hosts[:2])
        call = start(group, lambda: session.execute(CREATE))
        await until(lambda: spreading.made_at)
        for host in cluster.hosts[:2]:
            host.change(schema_version=spreading.made_at[-1].schema_version)
        await until(lambda: call.done)
        assert call.result.schema_agreed is True


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_whoever_waits_for_it_can_be_interrupted(way: str) -> None:
    cluster = FakeCluster(2)
    spreading = Spreading(cluster)
    async with (
        session_on(cluster, schema_agreement_timeout=3600) as session,
        anyio.create_task_group() as group,
    ):
        await connected(session, cluster.hosts)
        call = start(group, lambda: session.execute(CREATE, timeout=None))
        await until(lambda: spreading.made_at)
        if way == "cancelled":
            call.scope.cancel()
            await idle(session)
        else:
            await session.aclose()
            await until(lambda: call.done)
            if call.error is None:  # the change was made before
                assert call.result.schema_agreed is False
            else:
                assert isinstance(call.error, cql.SessionClosed)


async def test_statements_are_prepared_anew_after_a_change_of_ones_own() -> None:
    """They are outdated at once, before the event arrives."""
    cluster = FakeCluster(1)
    Spreading(cluster)
    async with session_on(cluster) as session:
        handle = await session.prepare(SELECT)
        await session.execute(handle, (1,))
        assert not handle._statement.stale
        result = await session.execute("ALTER TABLE ks.t ADD w int")
        assert result.schema_agreed is True
        assert handle._statement.stale
        assert (await session.execute(handle, (2,))).one().v == 2
        assert not handle._statement.stale


async def test_without_discovery_nobody_can_be_asked() -> None:
    cluster = FakeCluster(1)
    Spreading(cluster)
    async with session_on(cluster, discovery=False) as session:
        assert (await session.execute(CREATE)).schema_agreed is None
