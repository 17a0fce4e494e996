"""How long ``connect`` takes: as long as the first working host, at most ``start_timeout``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Error, ResultMetadata, Rows, SchemaChange
from cqlproto_anyio._cluster import racing
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import SELECT, connected, session_on, stats_of
from tests.support.control_connection import refused
from tests.support.fakecluster import FakeCluster
from tests.support.fakehosts import V_METADATA, FakeRequest
from tests.support.faketables import KEYSPACES, LOCAL, PEERS_V2
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response

pytestmark = pytest.mark.uvloop

SOON = 3.0  # seconds: less than one attempt at a host that doesn't answer takes


def mostly_dead(hosts: int = 31) -> FakeCluster:
    """Return a cluster of which only the first host answers; the others accept no connection."""
    cluster = FakeCluster(hosts)
    for host in cluster.hosts[1:]:
        host.reachable = False
    return cluster


@pytest.mark.parametrize("eager", [False, True])
async def test_hosts_that_do_not_answer_are_not_waited_for(eager: bool) -> None:
    cluster = mostly_dead()
    with anyio.fail_after(SOON):
        async with session_on(cluster, cluster.hosts[0].address, eager=eager) as session:
            assert stats_of(session, cluster.hosts[0]).connections == 1
            tried = sum(host.attempts for host in cluster.hosts[1:])
            assert tried <= (16 if eager else 0)
            assert (await session.execute(SELECT, (7,))).one().v == 7


async def test_contact_points_that_do_not_answer_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(racing, "STAGGER", 0.01)
    cluster = mostly_dead(16)
    dead = [host.address for host in cluster.hosts[1:]]
    with anyio.fail_after(SOON):
        async with session_on(cluster, *dead, cluster.hosts[0].address, eager=False):
            assert all(host.attempts <= 1 for host in cluster.hosts[1:])
            assert cluster.connecting == 0


async def test_a_request_does_not_wait_for_dead_hosts_one_after_another() -> None:
    """All connections are lost; a single host comes back."""
    cluster = FakeCluster(12)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts[1:]:
            host.reachable = False
        for host in cluster.hosts:
            host.cut()
        # the first host may be connected again already
        await until(lambda: sum(host.lost for host in session.statistics().hosts) == 12)
        with anyio.fail_after(SOON):
            assert (await session.execute(SELECT, (7,), timeout=None)).one().v == 7


@pytest.mark.parametrize(("discovery", "stage"), [(True, "discovery"), (False, "connect")])
async def test_connecting_has_an_end(discovery: bool, stage: str) -> None:
    cluster = FakeCluster(5)
    for host in cluster.hosts:
        host.reachable = False
    with anyio.fail_after(SOON), pytest.raises(cql.ConnectionFailed) as info:
        async with session_on(cluster, discovery=discovery, start_timeout=0.05):
            pass
    error = info.value
    assert error.stage == stage
    assert "no session within 0.05 s (Config.start_timeout)" in str(error)
    assert "10.0.0.1:9042, 10.0.0.2:9042, 10.0.0.3:9042 and 2 more" in str(error)
    assert 0.04 < error.elapsed < SOON
    await until(lambda: not cluster.connecting)


async def test_its_end_tells_what_has_failed_so_far() -> None:
    cluster = FakeCluster(2)
    cluster.hosts[0].kill()
    cluster.hosts[1].reachable = False
    with anyio.fail_after(SOON), pytest.raises(cql.ConnectionFailed) as info:
        async with session_on(cluster, start_timeout=0.1):
            pass
    [attempt] = info.value.attempts
    assert isinstance(attempt, cql.ConnectionFailed)
    assert "refused" in str(attempt)
    assert str(attempt) in str(info.value)
    assert info.value.__cause__ is attempt


# -- servers without some tables


def void(request: FakeRequest) -> Response:
    return VOID


def overloaded(request: FakeRequest) -> Response:
    return Error(ErrorCode.OVERLOADED, "busy")


def columnless(request: FakeRequest) -> Response:
    return Rows.of(ResultMetadata((), b"", False), 1, b"")


@pytest.mark.parametrize("answer", [void, overloaded, columnless])
@pytest.mark.parametrize("local_dc", [None, "dc1"])
async def test_a_server_that_knows_no_system_tables(
    answer: Callable[[FakeRequest], Response], local_dc: str | None
) -> None:
    """The session works with its contact point, and uses other hosts once it has read them."""
    cluster = FakeCluster(3)
    one = cluster.hosts[0]
    for table in (LOCAL, PEERS_V2, "system.peers", KEYSPACES):
        cluster.answers[table] = answer
    async with session_on(cluster, one.address, local_dc=local_dc) as session:
        assert (await session.execute(SELECT, (7,))).one().v == 7
        await session.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")
        assert [each.address for each in session.statistics().hosts] == [str(one)]
        served = [each for each in one.connections if not each.registered]
        cluster.answers.clear()
        await connected(session, cluster.hosts)
        # the pool is kept, with its connection
        assert [each for each in one.connections if not each.registered] == served
        assert snapshot(session).local_dc == "dc1"
        assert {each.datacenter for each in session.statistics().hosts} == {"dc1"}


@pytest.mark.parametrize("answer", [void, refused, columnless])
async def test_schema_agreement_does_not_wait_for_what_is_never_told(
    answer: Callable[[FakeRequest], Response],
) -> None:
    cluster = FakeCluster(1)
    cluster.answer = lambda request: SchemaChange("CREATED", "TABLE", "ks", "t")
    cluster.answers[LOCAL] = answer
    async with session_on(cluster) as session:
        with anyio.fail_after(SOON):
            result = await session.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")
        assert result.schema_agreed is False


async def test_schema_agreement_does_not_wait_for_dead_hosts() -> None:
    cluster = FakeCluster(3)
    cluster.answer = lambda request: SchemaChange("CREATED", "TABLE", "ks", "t")
    for host in cluster.hosts[1:]:
        host.reachable = False
        host.change(schema_version=UUID(int=7))
    contact = cluster.hosts[0].address
    async with session_on(cluster, contact, eager=False, connect_timeout=0.1) as session:
        with anyio.fail_after(SOON):
            result = await session.execute("CREATE TABLE ks.t (k int PRIMARY KEY)")
        assert result.schema_agreed is True


# -- endless answers


@pytest.mark.parametrize("code", [ErrorCode.UNPREPARED, ErrorCode.OVERLOADED])
@pytest.mark.parametrize("timeout", [None, 5.0])
async def test_the_same_error_for_ever(code: ErrorCode, timeout: float | None) -> None:
    """The call ends after a number of attempts, even without a deadline."""
    cluster = FakeCluster(2)
    details = {"statement_id": b"x"} if code is ErrorCode.UNPREPARED else {}
    cluster.answer = lambda request: Error(code, "again", details)
    async with session_on(cluster) as session:
        with anyio.fail_after(SOON), pytest.raises(cql.CQLError):
            await session.execute(SELECT, (7,), timeout=timeout, idempotent=True)


async def test_empty_pages_without_end_are_bounded_by_the_deadline() -> None:
    cluster = FakeCluster(1)
    cluster.hosts[0].latency = 0.001
    cluster.answer = lambda request: Rows.of(V_METADATA, 0, b"", paging_state=b"more")
    async with session_on(cluster) as session:
        with anyio.fail_after(SOON):
            with pytest.raises(cql.CQLError):
                await session.execute(SELECT, (7,), timeout=0.05)
            # a stream's timeout is for a page: the reader ends the stream
            with anyio.move_on_after(0.02):
                async for _ in session.stream(SELECT, (7,)):
                    pass
