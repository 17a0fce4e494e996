"""A session on a changing cluster: hosts die, come back, join, leave and change address."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID
from cqlproto_anyio._network import host_state as hoststate
from cqlproto_anyio.policies import ConstantReconnection
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import (
    INSERT,
    SELECT,
    attempts_of,
    connected,
    knows,
    session_on,
    stats_of,
)
from tests.support.fakecluster import FakeCluster, FakeRequest
from tests.support.server import start, state, turns, until

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost

pytestmark = pytest.mark.uvloop

NEVER = ConstantReconnection(3600.0, jitter=0.0)


def is_down(session: cql.Session, host: FakeHost) -> bool:
    return stats_of(session, host).status == "DOWN"


# -- contact points


async def test_dead_contact_points_are_passed_over() -> None:
    cluster = FakeCluster(5)
    dead, alive = cluster.hosts[:3], cluster.hosts[3:]
    dead[0].kill()
    dead[1].kill()
    dead[2].vanish()
    contacts = [host.address for host in cluster.hosts[:4]]
    async with session_on(cluster, *contacts, connect_timeout=1.0) as session:
        assert (await session.execute(SELECT, (7,))).one().v == 7
        await connected(session, alive)
        for host in dead:
            await until(partial(is_down, session, host))
        for host in dead:
            host.revive()
        await connected(session, cluster.hosts)


async def test_all_contact_points_are_dead() -> None:
    cluster = FakeCluster(3)
    for host in cluster.hosts:
        host.kill()
    with pytest.raises(cql.NoHostAvailable) as caught:
        async with session_on(cluster):
            pass
    assert [attempt.host for attempt in attempts_of(caught.value)] == [
        str(host.endpoint) for host in cluster.hosts
    ]
    for host in cluster.hosts:
        assert str(host.endpoint) in str(caught.value)
        assert host.attempts == 1
    with pytest.raises(cql.ConnectionFailed) as failed:
        async with session_on(cluster, cluster.hosts[0].address):
            pass
    assert failed.value.stage == "connect"


async def test_without_discovery_the_contact_points_are_all_there_is() -> None:
    cluster = FakeCluster(4)
    cluster.seen = []
    known = cluster.hosts[1:3]
    contacts = [host.address for host in known]
    async with session_on(cluster, *contacts, discovery=False) as session:
        await connected(session, known)
        for key in range(40):
            await session.execute(SELECT, (key,))
        assert session.statistics().control is None
        assert min(host.served for host in known) >= 10
        known[0].kill()
        for key in range(40):
            await session.execute(SELECT, (key,), idempotent=True)
        known[0].revive()
        await connected(session, known)
    assert not any("system" in request.text for request in cluster.seen)
    assert all(not host.attempts for host in cluster.hosts if host not in known)


async def test_addresses_are_translated() -> None:
    cluster = FakeCluster(3)
    outside = {}
    for number, host in enumerate(cluster.hosts):
        inside = host.endpoint
        outside[inside] = cql.Endpoint(f"198.51.100.{number}", 19042)
        host.tell(
            **dict.fromkeys(("rpc_address", "native_address", "peer"), _address(inside.address)),
            **dict.fromkeys(("rpc_port", "native_port"), inside.port),
        )
        host.change(address=outside[inside].address, port=19042)
    contact = f"{cluster.hosts[0].address}:19042"
    async with session_on(cluster, contact, translate=lambda each: outside[each]) as session:
        await connected(session, cluster.hosts)
        addresses = {each.address for each in session.statistics().hosts}
        assert addresses == {str(host.endpoint) for host in cluster.hosts}
        # events have the nodes' own addresses
        lost = cluster.hosts[2]
        lost.kill()
        await until(lambda: session.statistics().connections == 2)
        lost.revive()
        await connected(session, cluster.hosts)


def _address(text: str) -> object:
    import ipaddress

    return ipaddress.ip_address(text)


# -- hosts join, leave, and move


async def test_a_host_that_joins_is_used() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        new = cluster.add()
        assert cluster.tell_topology("NEW_NODE", new) == 1
        await connected(session, cluster.hosts)
        for key in range(60):
            await session.execute(SELECT, (key,))
        assert new.served >= 10


async def test_requests_on_a_host_that_leaves_are_finished() -> None:
    cluster = FakeCluster(3)
    leaving = cluster.hosts[2]

    def answer(request: FakeRequest) -> Response | None:
        return None if request.host is leaving else cluster.usual_answer(request)

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(INSERT, (0, 0))
        cluster.answer = answer
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("INSERT", ())) for _ in range(30)]
            await until(lambda: cluster.waiting)
            await turns(50)
            held = len(cluster.waiting)
            cluster.hosts.remove(leaving)  # the node is decommissioned, and stops when it is idle
            cluster.moved()
            cluster.tell_topology("REMOVED_NODE", leaving)
            await until(lambda: not knows(session, leaving))
            # no new requests go there, and those under way are not disturbed
            for _ in range(30):
                await session.execute("INSERT")
            assert len(cluster.waiting) == held
            assert leaving.connections
            assert sum(not call.done for call in calls) == held
            for request in cluster.waiting:
                request.reply(VOID)
        assert not [call.error for call in calls if call.error is not None]
        await until(lambda: not leaving.connections)


async def test_a_host_that_moves_keeps_serving() -> None:
    """The host keeps its id and gets a new address, as when a container is started again."""
    cluster = FakeCluster(3)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        moved = cluster.hosts[1]
        old = str(moved.endpoint)
        cluster.waiting.clear()

        def answer(request: FakeRequest) -> Response | None:
            return None if request.host is moved else cluster.usual_answer(request)

        cluster.answer = answer
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("INSERT")) for _ in range(12)]
            await until(lambda: cluster.waiting)
            moved.change(address="10.9.9.9", port=9999)
            cluster.tell_topology("MOVED_NODE", moved)
            await until(lambda: knows(session, moved))
            await connected(session, cluster.hosts)
            assert sum(not call.done for call in calls) == len(cluster.waiting)
            cluster.answer = cluster.usual_answer
            for request in cluster.waiting:
                request.reply(VOID)
        assert not [call.error for call in calls if call.error is not None]
        # the old connection is closed when it is idle, the new one stays
        await until(lambda: len(cluster.connections) == 4)  # and the control connection
        assert old not in {each.address for each in session.statistics().hosts}
        before = moved.served
        for key in range(60):
            await session.execute(SELECT, (key,))
        assert moved.served > before


async def test_tokens_that_move_change_the_replicas() -> None:
    cluster = FakeCluster(
        2, keyspaces={"ks": {"class": "SimpleStrategy", "replication_factor": "1"}}
    )
    one, other = cluster.hosts
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        one.change(tokens=(-(1 << 62), 0, 1 << 62))
        other.change(tokens=(5,))
        cluster.tell_topology("MOVED_NODE", other)

        def seen() -> bool:
            return (5,) in [host.tokens for host in snapshot(session).hosts]

        await until(seen)
        before = other.served
        for key in range(40):
            await session.execute(SELECT, (key,))
        assert other.served == before  # the other host's range is empty, but for a few tokens


# -- hosts die, and come back


async def test_a_host_that_dies_is_passed_over_and_taken_back() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        dying = cluster.hosts[1]
        await session.execute(SELECT, (0,))
        dying.kill()
        for key in range(60):
            assert (await session.execute(SELECT, (key,), idempotent=True)).one().v == key
        dying.revive()
        await connected(session, cluster.hosts)
        before = dying.served
        for key in range(60):
            await session.execute(SELECT, (key,))
        assert dying.served > before
        found = stats_of(session, dying)
        assert (found.failures, found.error, found.status) == (0, None, "UP")


async def test_up_ends_the_back_off() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, cluster.hosts[0].address, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        dying = cluster.hosts[2]
        dying.kill()
        await until(lambda: is_down(session, dying))
        dying.revive()
        attempts = dying.attempts
        await turns(100)
        assert dying.attempts == attempts
        cluster.tell_up(dying)
        await connected(session, cluster.hosts)
        assert dying.attempts == attempts + 1


async def test_up_may_come_before_cql_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hoststate, "QUICK", 0.1)
    cluster = FakeCluster(2)
    async with session_on(cluster, cluster.hosts[0].address, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        dying = cluster.hosts[1]
        dying.kill()
        await until(lambda: is_down(session, dying))
        attempts = dying.attempts
        cluster.tell_up(dying)
        await until(lambda: dying.attempts > attempts)
        await until(lambda: not stats_of(session, dying).connecting)
        dying.revive()
        await connected(session, cluster.hosts)  # soon: waits are short after UP


async def test_down_of_a_host_that_works_is_no_news() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            assert cluster.tell_down(host) == 1
        await turns(100)
        await session.execute("SELECT v FROM ks.t")
        assert session.statistics().connections == 2
        assert {each.status for each in session.statistics().hosts} == {"UP"}
        assert sum(host.opened for host in cluster.hosts) == 3


async def test_a_dead_control_connection_is_moved_elsewhere() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts)
        assert session.statistics().control == str(cluster.hosts[0].endpoint)
        cluster.hosts[0].kill()
        alive = {str(host.endpoint) for host in cluster.hosts[1:]}
        await until(lambda: session.statistics().control in alive)
        new = cluster.add()
        assert cluster.tell_topology("NEW_NODE", new) == 1
        await connected(session, cluster.hosts[1:])


# -- no host is left


async def test_everything_is_down() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))
        for host in cluster.hosts:
            host.kill()
        await until(lambda: not session.statistics().connections)
        with anyio.fail_after(5), pytest.raises(cql.NoHostAvailable) as caught:
            await session.execute(SELECT, (1,))
        error = caught.value
        assert {each.host for each in attempts_of(error)} == {
            str(h.endpoint) for h in cluster.hosts
        }
        for each in attempts_of(error):
            assert each.stage == "connect"
            assert 0 <= each.elapsed < 5
            assert f"{each.host}: connect failed" in str(error)
        assert not error.maybe_applied
        assert state(session).waiting == state(session).deadlines == 0
        cluster.hosts[1].revive()
        cluster.hosts[0].revive()
        cluster.hosts[2].revive()
        # a request that needs a host starts an attempt, whatever the back-off

        async def insist() -> None:
            while True:
                with suppress(cql.NoHostAvailable):
                    await session.execute(SELECT, (1,))
                    return
                await anyio.sleep(0.001)

        with anyio.fail_after(10):
            await insist()


async def test_requests_that_fail_make_no_storm() -> None:
    """A series of requests without hosts causes at most one attempt at a time per host."""
    cluster = FakeCluster(4)
    # without discovery, so that no control connection looks for hosts as well
    async with session_on(cluster, reconnection=NEVER, discovery=False) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))
        for host in cluster.hosts:
            host.kill()
        await until(lambda: not session.statistics().connections)
        await until(lambda: all(each.status == "DOWN" for each in session.statistics().hosts))
        before = [host.attempts for host in cluster.hosts]
        began = anyio.current_time()
        failed = 0

        async def insist() -> None:
            nonlocal failed
            while anyio.current_time() < began + 1.0:
                with pytest.raises(cql.NoHostAvailable):
                    await session.execute(SELECT, (1,))
                failed += 1
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(insist)
        took = anyio.current_time() - began
        assert failed > 50
        for host, count in zip(cluster.hosts, before, strict=True):
            # at least three quarters of 0.25 s apart
            assert 2 <= host.attempts - count <= took / 0.1875 + 1


async def test_what_is_lost_with_requests_under_way() -> None:
    """The error lists each attempt of a request that went from host to host."""
    cluster = FakeCluster(3)
    async with session_on(cluster, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))

        def answer(request: FakeRequest) -> Response | None:
            request.host.kill()
            return None

        cluster.answer = answer
        with pytest.raises(cql.NoHostAvailable) as caught:
            await session.execute(SELECT, (1,))
        error = caught.value
        assert len(error.attempts) == 3
        assert {each.host for each in attempts_of(error)} == {
            str(h.endpoint) for h in cluster.hosts
        }
        assert all(each.stage == "request" for each in attempts_of(error))
        assert not error.maybe_applied
    cluster = FakeCluster(3)
    async with session_on(cluster, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        await session.prepare(INSERT)
        cluster.answer = answer
        with pytest.raises(cql.ConnectionLost) as lost:
            await session.execute(INSERT, (1, 1))
        assert lost.value.maybe_applied  # so the request went to one host only
        assert sum(host.alive for host in cluster.hosts) == 2


# -- closing


@pytest.mark.parametrize("mood", ["idle", "busy", "dead", "silent", "vanished", "opening"])
async def test_the_session_closes_within_its_bound(mood: str) -> None:
    cluster = FakeCluster(3)
    outcomes = []
    async with anyio.create_task_group() as group:
        async with session_on(cluster, close_timeout=1.0) as session:
            await connected(session, cluster.hosts)
            await session.execute(SELECT, (1,))
            if mood == "busy":
                cluster.answer = lambda request: None
            for host in cluster.hosts:
                if mood == "dead":
                    host.kill()
                elif mood == "silent":
                    host.pause()
                elif mood == "vanished":
                    host.vanish()
                    host.cut()
            if mood == "opening":
                cluster.connect_delay = 3600.0
                for host in cluster.hosts:
                    host.cut()
                await until(lambda: cluster.connecting >= 3)
            outcomes += [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(10)]
            await turns(20)
            began = anyio.current_time()
        assert anyio.current_time() - began < 3.0
    for outcome in outcomes:
        assert outcome.done
        if mood in ("busy", "silent"):
            assert type(outcome.error) is cql.SessionClosed
        else:
            assert isinstance(
                outcome.error,
                (cql.SessionClosed, cql.ConnectionFailed, cql.NoHostAvailable, type(None)),
            )
    assert cluster.connecting == 0
