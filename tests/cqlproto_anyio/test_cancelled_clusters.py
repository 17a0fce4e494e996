"""Cancellation on a cluster, at each await in turn, leaves nothing behind.

Each scenario is repeated and cancelled where it suspends for the first time, the second, and so on
until it completes. After each run no task, stream id, deadline, alarm or waiter is left, there are
as many connections as before, and the session works.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID
from cqlproto_anyio._cluster.cluster import Cluster
from cqlproto_anyio._cluster.connections import Connections
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._network.connection import Connection
from tests.support.call_scenarios import PROFILE, SCENARIOS, World, paced, world
from tests.support.cancellation import WAYS, At, Stepped, Way
from tests.support.cluster_sessions import SELECT, SOON, living_tasks
from tests.support.fakecluster import FakeCluster
from tests.support.server import open_sockets, serving, start, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 120

each_way = pytest.mark.parametrize(("anyio_backend", "way"), WAYS, indirect=["anyio_backend"])
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS)


async def works(made: World) -> None:
    result = await made.session.execute(SELECT, (5,))
    assert [row.v for row in result] == [5]


@each_scenario
@each_way
async def test_calls(scenario: Callable[[World], Any], way: Way) -> None:
    with way.tasks():
        async with world() as made:
            for at in range(1, MOST):
                made.unique = at
                got_there = await way.cancelled_at(at, scenario(made))
                made.check_given_up()
                await made.rest()
                await works(made)
                if not got_there:
                    break
            else:
                pytest.fail("the scenario never got through")
            assert at > 1


@each_scenario
@each_way
async def test_calls_that_wait_for_a_connection(scenario: Callable[[World], Any], way: Way) -> None:
    with way.tasks():
        async with world() as made:
            made.cluster.connect_delay = 0.003
            for at in range(1, MOST):
                made.unique = at
                for host in made.cluster.hosts:
                    host.cut()
                await until(
                    lambda: not any(host.connections for host in made.session.statistics().hosts)
                )
                got_there = await way.cancelled_at(at, scenario(made))
                made.check_given_up()
                await made.rest()
                await works(made)
                if not got_there:
                    break
            else:
                pytest.fail("the scenario never got through")
            assert at > 1


class Inside:
    """Calls a function where the session's own tasks suspend for the n-th time in total.

    Attributes:
        trigger: the number and the function.
    """

    trigger: At

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name in (
            (Cluster, "start"),
            (Connections, "_connect"),
            (ControlConnection, "run"),
            (Connection, "run"),
        ):
            patch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*arguments: Any) -> Any:
            trigger = self.trigger
            return await Stepped(function(*arguments), trigger)

        return run


each_way_from_outside = pytest.mark.parametrize(
    ("anyio_backend", "way"),
    [each for each in WAYS if each.values[1].name != "late"],
    indirect=["anyio_backend"],
)


@pytest.mark.parametrize("pushes", [False, True], ids=["pulled", "pushed"])
@each_way_from_outside
async def test_connect_and_close(way: Way, pushes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's own tasks are at any of their awaits."""
    inside = Inside(monkeypatch)
    with way.tasks():
        before = living_tasks()
        cluster = FakeCluster(3)
        cluster.pushes = pushes
        cluster.verify = lambda token: True
        cluster.hosts[0].alive = False

        async def life() -> None:
            async with cql.connect(
                cluster.addresses,
                auth=cql.PlainAuth("ann", "secret"),
                keyspace="ks",
                config=cluster.config(reconnection=SOON),
                profile=PROFILE,
            ) as session:
                await session.execute(SELECT, (1,))

        async with paced():
            for at in range(1, MOST):
                inside.trigger = At(at, lambda _: way.cancel())
                await way.run(life())
                if not pushes:
                    assert not cluster.connections
                await until(lambda: not cluster.connections and living_tasks() == before)
                if inside.trigger.count < at:
                    break
            else:
                pytest.fail("it never got through")
        assert at > 20
        assert not cluster.connecting
        assert not cluster.errors


@each_way_from_outside
async def test_connect_and_close_over_tcp(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Inside(monkeypatch)
    async with serving() as server:
        port = await server.listen()
        server.answer = lambda asked: VOID
        await turns()
        with way.tasks():
            before = living_tasks(), open_sockets()

            async def life() -> None:
                config = cql.Config(discovery=False, max_connections_per_host=1)
                async with cql.connect("127.0.0.1", port=port, config=config) as session:
                    await session.execute("SELECT v FROM t")

            for at in range(1, MOST):
                inside.trigger = At(at, lambda _: way.cancel())
                await way.run(life())
                await until(lambda: all(peer.ended.is_set() for peer in server.peers))
                await until(lambda: (living_tasks(), open_sockets()) == before)
                if inside.trigger.count < at:
                    break
            else:
                pytest.fail("it never got through")
            assert at > 3


async def _cancelled_aclose(way: Way, at: int) -> bool:
    cluster = FakeCluster(3)
    cluster.answer = lambda request: None
    connecting = cql.connect(cluster.addresses, config=cluster.config())
    session = await connecting.__aenter__()

    async def ask() -> None:
        await session.execute("SELECT v FROM ks.t")

    async with anyio.create_task_group() as group:
        asked = [start(group, ask) for _ in range(3)]
        await until(lambda: len(cluster.waiting) == 3)
        got_there = await way.cancelled_at(at, session.aclose())
    assert [type(each.error) for each in asked] == [cql.SessionClosed] * 3
    with pytest.raises(cql.SessionClosed):
        await ask()
    await connecting.__aexit__(None, None, None)
    assert not cluster.connections
    return got_there


@each_way
async def test_aclose(way: Way) -> None:
    """The session closes, cancelled or not; calls under way raise SessionClosed."""
    with way.tasks():
        before = living_tasks()
        for at in range(1, MOST):
            got_there = await _cancelled_aclose(way, at)
            await until(lambda: living_tasks() == before)
            if not got_there:
                break
        else:
            pytest.fail("it never got through")


def _close(group: anyio.abc.TaskGroup, made: World, _: object) -> None:
    group.start_soon(made.session.aclose)


@each_scenario
async def test_calls_while_the_session_is_closed(scenario: Callable[[World], Any]) -> None:
    """Another task closes the session wherever the call waits: the call ends at once, and once."""
    for at in range(1, MOST):
        async with world() as made, anyio.create_task_group() as group:
            trigger = At(at, partial(_close, group, made))
            with anyio.fail_after(5):
                try:
                    await Stepped(scenario(made), trigger)
                except cql.SessionClosed:
                    assert trigger.count >= at
        assert not made.ended()
        if trigger.count < at:
            break
    else:
        pytest.fail("the scenario never got through")
    assert at > 1
