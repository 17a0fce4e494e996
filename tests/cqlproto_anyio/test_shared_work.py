"""Work shared by several callers ends by its own limits, however many callers come later.

test_preparing_bounds tests this for preparing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import Rows, SchemaChange
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import connected, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.fakehosts import V_METADATA
from tests.support.server import Outcome, start, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeRequest

pytestmark = pytest.mark.uvloop


async def keep_coming(
    call: Callable[[], Awaitable[object]], enough: Callable[[Outcome], bool]
) -> None:
    """Start a call every few milliseconds until the first one has ended."""
    outcomes: list[Outcome] = []
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            while not outcomes or not outcomes[0].done:
                outcomes.append(start(group, call))
                await anyio.sleep(0.005)
            for outcome in outcomes:
                outcome.scope.cancel()
    assert len(outcomes) > 5
    assert enough(outcomes[0])


@pytest.mark.parametrize("hosts", [1, 3])
async def test_connecting(hosts: int) -> None:
    """No connection is left, and none can be made: callers learn that after connect_timeout."""
    cluster = FakeCluster(hosts)
    async with session_on(
        cluster, connect_timeout=0.1, reconnection=ConstantReconnection(3600, 0)
    ) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.vanish()
            host.cut()
        await connected(session, [])
        await keep_coming(
            lambda: session.execute("SELECT v FROM ks.t"),
            lambda outcome: isinstance(outcome.error, (cql.ConnectionFailed, cql.NoHostAvailable)),
        )
        for host in cluster.hosts:
            host.kill()


async def test_schema_agreement() -> None:
    """Each change of the schema has its own time limit while nodes never agree."""
    cluster = FakeCluster(2)
    async with session_on(cluster, schema_agreement_timeout=0.1) as session:
        await connected(session, cluster.hosts)
        cluster.set_schema_version(cluster.hosts[1])
        cluster.answer = lambda request: SchemaChange("UPDATED", "TABLE", "ks", "t")
        await keep_coming(
            lambda: session.execute("ALTER TABLE ks.t ADD x int"),
            lambda outcome: outcome.result.schema_agreed is False,
        )


async def test_reading_the_cluster() -> None:
    """The node is silent while events keep coming: the client leaves it after control_timeout."""
    cluster = FakeCluster(2)
    async with session_on(cluster, control_timeout=0.1) as session:
        await connected(session, cluster.hosts)
        [control] = [host for host in cluster.hosts if str(host) == session.statistics().control]
        cluster.answers["system.local"] = lambda request: (
            None if request.host is control else cluster.system_answer(request)
        )
        with anyio.fail_after(5):
            while session.statistics().control in (str(control), None):
                cluster.tell_topology("NEW_NODE", control)
                await anyio.sleep(0.005)


async def test_heartbeats() -> None:
    """A connection is closed after heartbeat_timeout although heartbeats are still sent."""
    cluster = FakeCluster(2)
    async with session_on(cluster, heartbeat_interval=0.02, heartbeat_timeout=0.1) as session:
        await connected(session, cluster.hosts)
        cluster.hosts[1].pause()
        with anyio.fail_after(5):
            await until(lambda: sum(each.lost for each in session.statistics().hosts))
        cluster.hosts[1].kill()


async def test_a_page_that_was_asked_for_ahead() -> None:
    """Its deadline counts from the request, not from when a task waits for it."""
    cluster = FakeCluster(1)
    pages = 0

    def answer(request: FakeRequest) -> Response | None:
        nonlocal pages
        pages += 1
        return Rows.of(V_METADATA, 1, row_v(1).content, paging_state=b"x") if pages == 1 else None

    cluster.answer = answer
    async with session_on(cluster) as session:
        stream = session.stream("SELECT v FROM ks.t", timeout=0.1)
        assert (await anext(stream)).v == 1
        with anyio.fail_after(5), pytest.raises(cql.RequestTimeout):
            await anext(stream)
