"""Requests that wait for a connection: which attempts they start, and the errors they get."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster.waiters import AT_ONCE, COUNT_INTERVAL, PATIENCE, Waiters
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._eventloop.waiter import Waiter
from cqlproto_anyio.exceptions import ConnectionFailed
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import connected, knows, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import IDLE, start, state, turns, until

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]

NEVER = ConstantReconnection(3600.0, jitter=0.0)
QUERY = "SELECT v FROM ks.t"


async def test_requests_wait_for_a_connection_that_is_being_made() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 0.1
        for host in cluster.hosts:
            host.cut()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(200)]
        assert [call.error for call in calls] == [None] * 200
        assert [host.attempts for host in cluster.hosts] == [2, 2]


async def test_so_many_wait_and_no_more() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster, discovery=False, max_waiting=50) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 1.0
        cluster.hosts[0].cut()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(120)]
            await until(lambda: any(call.done for call in calls))
            await turns(50)
            refused = [call for call in calls if call.done]
            assert all(type(call.error) is cql.Overloaded for call in refused)
            assert 68 <= len(refused) <= 70
        assert sum(call.error is None for call in calls) == 120 - len(refused)


async def test_a_deadline_ends_the_wait_and_leaves_nothing() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.vanish()
            host.cut()
        await until(lambda: not session.statistics().connections)
        with anyio.fail_after(4), pytest.raises(cql.RequestTimeout):
            await session.execute(QUERY, timeout=0.05)
        with anyio.move_on_after(0.02) as scope:
            await session.execute(QUERY, timeout=None)
        assert scope.cancelled_caught
        await until(lambda: state(session) == IDLE)


async def test_all_that_wait_learn_that_nothing_is_left() -> None:
    cluster = FakeCluster(9)
    async with session_on(cluster, discovery=False, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 0.05
        for host in cluster.hosts:
            host.kill()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(50)]
        for call in calls:
            assert type(call.error) is cql.NoHostAvailable
            assert len(call.error.attempts) == 9
        assert len({id(call.error) for call in calls}) == 50  # none is shared
        assert all(host.attempts == 2 for host in cluster.hosts)


async def test_the_host_that_is_waited_for_leaves() -> None:
    """If the host under connection is removed, other hosts are tried for the requests."""
    cluster = FakeCluster(2)
    staying, leaving = cluster.hosts
    async with session_on(
        cluster, staying.address, reconnection=NEVER, connect_timeout=1.0
    ) as session:
        await connected(session, cluster.hosts)
        leaving.vanish()
        leaving.cut()
        await until(lambda: stats_of(session, leaving).connecting == 1)
        cluster.hosts.remove(leaving)
        cluster.moved()
        cluster.tell_topology("REMOVED_NODE", leaving)
        await until(lambda: not knows(session, leaving))
        assert (await session.execute(QUERY)).one().v == 0
        attempts = leaving.attempts
        await until(lambda: not cluster.connecting)
        await turns(50)
        assert leaving.attempts == attempts
        assert len(session.statistics().hosts) == 1


async def test_a_keyspace_that_is_not_there_is_told_as_such() -> None:
    cluster = FakeCluster(3)
    with anyio.fail_after(10), pytest.raises(cql.InvalidQuery, match="nowhere"):
        async with session_on(cluster, keyspace="nowhere"):
            pass
    assert sum(host.attempts for host in cluster.hosts) <= 5


async def test_closing_tells_all_that_wait() -> None:
    cluster = FakeCluster(2)
    async with (
        anyio.create_task_group() as group,
        session_on(cluster, discovery=False) as session,
    ):
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.vanish()
            host.cut()
        await until(lambda: not session.statistics().connections)
        calls = [start(group, lambda: session.execute(QUERY)) for _ in range(20)]
        await turns(30)
        assert not any(call.done for call in calls)
    assert {type(call.error) for call in calls} == {cql.SessionClosed}


# -- by themselves: which hosts are tried, and when


class FakePool:
    """The part of a pool that Waiters uses. A host that has failed may not be tried soon."""

    def __init__(self, address: str) -> None:
        self.host = SimpleNamespace(endpoint=cql.Endpoint(address))
        self.state = SimpleNamespace(opening=0, error=None)

    @property
    def may_connect_soon(self) -> bool:
        return self.state.error is None and self.may_connect

    @property
    def may_connect(self) -> bool:
        return bool(self.state.opening)


class Setup:
    """Waiters on hosts of two data centres.

    Attributes:
        tried: the hosts that were connected to, in order.
        now: the time.
        dead: whether an attempt ends at once, in failure.
    """

    def __init__(self, near: int, far: int = 0, *, remote_hosts: int = 2, most: int = 100) -> None:
        self.now = 100.0
        self.tried: list[str] = []
        self.near = [FakePool(f"near{number}") for number in range(near)]
        self.far = [FakePool(f"far{number}") for number in range(far)]
        self.dead: list[FakePool] = []
        self._due: list[FakePool] = []
        self.preferred: cql.Endpoint | None = None
        self.unusable = LookupError("no host is left")
        self.timer = Timer(lambda: self.now)
        hosts: Any = SimpleNamespace(
            by_id=dict(enumerate([*self.near, *self.far])),
            by_distance=lambda: [self.near, self.far],
            routing=SimpleNamespace(remote_hosts=remote_hosts),
            unusable=lambda: self.unusable,
        )
        connections: Any = SimpleNamespace(need=self._need, open_due=self._open_due)
        self.waiters = Waiters(
            hosts=hosts,
            connections=connections,
            timer=self.timer,
            most=most,
            preferred=lambda: self.preferred,
        )

    def _need(self, pool: FakePool) -> bool:
        self._due.append(pool)
        return pool not in self.dead

    def _open_due(self) -> None:
        due, self._due = self._due, []
        for pool in due:
            self.tried.append(pool.host.endpoint.address)
            if pool in self.dead:
                pool.state.error = ConnectionError()
            else:
                pool.state.opening = 1

    def add(self) -> Waiter:
        waiter = Waiter()
        self.waiters.add(waiter)
        return waiter

    def sleep(self, seconds: float) -> None:
        """Let time pass, and call what is due."""
        self.now += seconds
        while self.timer.deadlines.expire(self.now):
            pass

    def fail(self, pool: FakePool) -> None:
        """An attempt at this host has failed."""
        pool.state.opening = 0
        pool.state.error = refused()
        self.waiters.connect_failed(pool.state.error)

    def end(self) -> None:
        """No attempt is under way any more, and none has failed."""
        for pool in (*self.near, *self.far):
            pool.state.opening = 0


def refused() -> ConnectionFailed:
    return ConnectionFailed("refused", host="near0", stage="connect", elapsed=0.0)


def test_a_few_hosts_are_tried_at_once_and_as_many_more_after_a_while() -> None:
    setup = Setup(AT_ONCE * 2 + 1)
    names = [pool.host.endpoint.address for pool in setup.near]
    waiter = setup.add()
    assert setup.tried == names[:AT_ONCE]
    setup.sleep(PATIENCE / 2)
    other = setup.add()  # the same hosts serve both
    assert len(setup.tried) == AT_ONCE
    setup.sleep(PATIENCE / 2)
    assert setup.tried == names[: 2 * AT_ONCE]
    setup.sleep(PATIENCE)
    assert setup.tried == names
    setup.waiters.complete()
    assert (waiter.done, waiter.error) == (other.done, other.error) == (True, None)
    assert setup.timer.deadlines.next == math.inf or not setup.timer.deadlines


def test_no_host_is_tried_while_nobody_waits() -> None:
    setup = Setup(2)
    setup.waiters.try_hosts()
    setup.waiters.connect_failed(None)
    assert setup.tried == []


def test_it_begins_anew_for_the_next_request() -> None:
    setup = Setup(2 * AT_ONCE)
    names = [pool.host.endpoint.address for pool in setup.near]
    setup.add()
    setup.sleep(PATIENCE)
    setup.waiters.complete()
    setup.end()
    setup.sleep(10 * PATIENCE)
    assert len(setup.tried) == len(names)  # nobody waits
    setup.tried.clear()
    setup.add()
    assert setup.tried == names[:AT_ONCE]


def test_a_host_that_has_failed_is_followed_by_another() -> None:
    setup = Setup(AT_ONCE + 2)
    waiter = setup.add()
    setup.fail(setup.near[1])
    assert setup.tried[AT_ONCE:] == [f"near{AT_ONCE}"]
    setup.waiters.connect_failed(None)  # its host has left; as many as before are tried
    assert len(setup.tried) == AT_ONCE + 1
    assert not waiter.done


def test_one_host_that_is_known_to_answer_is_tried_alone() -> None:
    setup = Setup(2 * AT_ONCE)
    setup.preferred = setup.near[3].host.endpoint
    setup.waiters.start_with_one()
    setup.add()
    assert setup.tried == ["near3"]
    setup.waiters.connect_failed(None)
    assert setup.tried == ["near3"]
    setup.fail(setup.near[3])
    assert setup.tried == ["near3", "near0", "near1", "near2", "near4"]

    setup = Setup(2 * AT_ONCE)
    setup.waiters.start_with_one()
    setup.add()
    setup.sleep(PATIENCE)
    assert setup.tried == [f"near{number}" for number in range(AT_ONCE)]


def test_another_data_centre_is_tried_when_no_near_host_may_work() -> None:
    setup = Setup(2, 3, remote_hosts=2)
    setup.add()
    assert setup.tried == ["near0", "near1"]
    setup.fail(setup.near[0])
    assert setup.tried == ["near0", "near1"]
    setup.fail(setup.near[1])
    assert setup.tried[2:] == ["far0", "far1"]
    setup.sleep(PATIENCE)
    assert setup.tried[2:] == ["far0", "far1"]  # remote_hosts= is the limit


def test_without_a_host_to_try_all_requests_fail() -> None:
    setup = Setup(1)
    waiters = [setup.add(), setup.add()]
    setup.fail(setup.near[0])
    assert [str(waiter.error) for waiter in waiters] == ["no host is left"] * 2
    assert waiters[0].error is not waiters[1].error
    setup.dead = setup.near
    assert str(setup.add().error) == "no host is left"  # tried again for the next one
    assert setup.tried == ["near0", "near0"]


def test_an_error_that_is_not_about_the_host_fails_all() -> None:
    setup = Setup(3)
    waiters = [setup.add(), setup.add()]
    error = cql.ConfigError("no such keyspace")
    setup.waiters.connect_failed(error)
    assert [str(waiter.error) for waiter in waiters] == ["no such keyspace"] * 2
    assert len({id(each) for each in (error, *(waiter.error for waiter in waiters))}) == 3


def test_requests_that_have_given_up_do_not_count_for_long() -> None:
    setup = Setup(1, most=2)
    waiters = [setup.add() for _ in range(3)]
    assert type(setup.add().error) is cql.Overloaded
    waiters[0].abandon()
    assert type(setup.add().error) is cql.Overloaded  # counted a moment ago
    setup.sleep(COUNT_INTERVAL)
    assert setup.add().error is None
    assert type(setup.add().error) is cql.Overloaded


def test_none_waits_once_it_is_closed() -> None:
    setup = Setup(2 * AT_ONCE)
    waiter = setup.add()
    error = cql.SessionClosed("closed")
    setup.waiters.close(error)
    late = setup.add()
    assert type(waiter.error) is type(late.error) is cql.SessionClosed
    assert len({id(error), id(waiter.error), id(late.error)}) == 3
    setup.sleep(2 * PATIENCE)
    setup.waiters.connect_failed(refused())
    setup.waiters.try_hosts()
    assert len(setup.tried) == AT_ONCE


def test_those_that_wait_stay_when_only_new_ones_are_refused() -> None:
    setup = Setup(1)
    waiter = setup.add()
    setup.waiters.refuse(cql.SessionClosed("closed"))
    setup.fail(setup.near[0])
    assert not waiter.done
    assert type(setup.add().error) is cql.SessionClosed
