"""Where the control connection moves when it is lost; nothing of the old one is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster import control_connection as control_module
from cqlproto_anyio._cluster import schema_agreement as agreement
from cqlproto_anyio._eventloop.auto import current_backend
from tests.support.fakecluster import FakeCluster, FakeRequest
from tests.support.faketables import KEYSPACES, LOCAL
from tests.support.server import turns, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto.messages import Response

from tests.support.control_connection import Fixture, controlling, garbage, refused, resolving

pytestmark = pytest.mark.uvloop

SIMPLE = {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "1"}


# -- moving on


async def test_it_moves_to_what_the_owner_prefers() -> None:
    cluster = FakeCluster(4)
    one, two, three, _ = cluster.hosts
    async with controlling(cluster, [one.endpoint]) as fixture:
        fixture.owner.preferred = [one.endpoint, two.endpoint, three.endpoint]
        two.kill()
        one.cut()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is three  # not back to the node that was lost while there are others
        assert [kind for kind, _ in fixture.owner.told] == ["connected", "lost", "connected"]
        [error] = fixture.owner.all("lost")
        assert isinstance(error, cql.ConnectionLost)
        cluster.tell_down(two)
        await until(lambda: fixture.owner.all("down"))


async def test_it_goes_back_to_the_contact_points() -> None:
    cluster = FakeCluster(3)
    one, two, three = cluster.hosts
    async with controlling(cluster, [one.endpoint, two.endpoint]) as fixture:
        fixture.owner.preferred = [three.endpoint]
        three.kill()
        one.kill()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is two
        assert fixture.opened[1:] == [three.endpoint, one.endpoint, two.endpoint]


async def test_it_finds_the_cluster_changed_when_it_has_moved() -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        cluster.remove(cluster.hosts[0])
        await until(lambda: fixture.owner.all("topology"))
        assert [kind for kind, _ in fixture.owner.told[1:]] == ["lost", "connected", "topology"]
        assert fixture.names() == {str(host) for host in cluster.hosts}


async def test_it_tries_until_a_host_is_back() -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        fixture.owner.preferred = [host.endpoint for host in cluster.hosts]
        for host in cluster.hosts:
            host.kill()
        await until(lambda: fixture.owner.all("lost"))
        began = current_backend().clock()
        await until(lambda: len(fixture.opened) > 1 + 10 * 6)
        assert fixture.control.endpoint is None
        # 6 attempts at once, then after 5, 10, 20, 40 and 5 times 50 ms, at least half of each
        assert current_backend().clock() - began > 0.15
        cluster.hosts[1].revive()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert len(fixture.owner.all("lost")) == 1


async def test_a_single_host_is_tried_once_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is also a contact point is not tried a second time."""
    cluster = FakeCluster(1)
    [one] = cluster.hosts
    async with controlling(cluster) as fixture:
        monkeypatch.setattr(control_module, "FIRST_DELAY", 3600.0)
        monkeypatch.setattr(control_module, "LONGEST_DELAY", 3600.0)
        monkeypatch.setattr(control_module, "STEADY", 0.0)  # the first round comes at once
        fixture.owner.preferred = [one.endpoint]
        one.kill()
        await until(lambda: fixture.opened[1:])
        await turns(100)
        assert fixture.opened[1:] == [one.endpoint]


async def test_it_tries_all_candidates_in_turn() -> None:
    cluster = FakeCluster(6)
    first, pace = [cluster.hosts[0].endpoint], {"CANDIDATES": 2}
    async with controlling(cluster, first, pace=pace) as fixture:
        fixture.owner.preferred = [host.endpoint for host in cluster.hosts]
        for host in cluster.hosts[:5]:
            host.kill()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[5]
        assert fixture.opened[1:] == [
            cluster.hosts[index].endpoint for index in (1, 2, 0, 3, 4, 0, 5)
        ]


async def test_candidates_that_cannot_be_had(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:

        def fail() -> Iterable[cql.Endpoint]:
            raise ZeroDivisionError("mine")

        fixture.owner.candidates = fail  # type: ignore[method-assign]  # the test replaces the method
        cluster.hosts[0].kill()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert "ZeroDivisionError: mine" in caplog.text


async def test_a_connection_that_dies_again_and_again_is_made_slowly() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        began = current_backend().clock()
        for _ in range(6):
            fixture.here.cut()
            fixture.owner.told.clear()
            await until(lambda: fixture.owner.all("connected"))
        # delays of 0, 5, 10, 20, 40, 50 ms, at least half of each
        assert current_backend().clock() - began > 0.06


async def test_a_connection_that_has_lasted_is_made_anew_at_once() -> None:
    pace = {"STEADY": 0.0, "FIRST_DELAY": 20.0, "LONGEST_DELAY": 20.0}
    cluster = FakeCluster(2)
    async with controlling(cluster, pace=pace) as fixture:
        with anyio.fail_after(9):
            for _ in range(3):
                fixture.here.cut()
                fixture.owner.told.clear()
                await until(lambda: fixture.owner.all("connected"))


async def test_a_node_that_dies_while_it_is_read(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:

        def die(request: FakeRequest) -> Response | None:
            if request.host is cluster.hosts[1]:
                return cluster.system_answer(request)
            request.host.kill()
            return None

        cluster.answers[LOCAL] = die
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert "reading the system tables" not in caplog.text


async def test_a_silent_node_is_left() -> None:
    cluster = FakeCluster(2)
    times: dict[str, Any] = {
        "heartbeat_interval": 0.05,
        "heartbeat_timeout": 0.5,
        "connect_timeout": 0.5,
    }
    async with controlling(cluster, **times) as fixture:
        await until(lambda: fixture.here.beats > 3)  # heartbeats are sent, and answered
        assert len(fixture.opened) == 1
        fixture.here.pause()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert "no answer" in str(fixture.owner.all("lost")[0])


async def test_candidates_are_tried_again_after_the_last() -> None:
    cluster = FakeCluster(6)
    first, pace = [cluster.hosts[0].endpoint], {"CANDIDATES": 2}
    async with controlling(cluster, first, pace=pace) as fixture:
        fixture.owner.preferred = [host.endpoint for host in cluster.hosts]
        for host in cluster.hosts:
            host.kill()
        await until(lambda: len(fixture.opened) > 20)
        cluster.hosts[5].revive()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[5]


async def test_a_reading_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        answers = [refused, garbage]

        def answer(request: FakeRequest) -> Response:
            return answers.pop()(request) if answers else cluster.system_answer(request)

        cluster.answers[LOCAL] = answer
        cluster.add()
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        assert len(fixture.control.topology.hosts) == 3
        assert len(fixture.opened) == 1
        assert caplog.text.count("reading the system tables of") == 2


async def test_a_node_that_goes_on_talking_nonsense_is_left() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.hosts[0].tell(host_id=None)
        cluster.add()
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        # once at the start, then until its patience ends, then once as a contact point
        assert cluster.reads[LOCAL] == 1 + control_module.PATIENCE + 1 + 1
        assert len(fixture.control.topology.hosts) == 2  # the first one's row is invalid


async def test_keyspaces_that_cannot_be_read_are_tried_again() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        answers = [refused]

        def answer(request: FakeRequest) -> Response:
            return answers.pop()(request) if answers else cluster.system_answer(request)

        cluster.answers[KEYSPACES] = answer
        cluster.keyspaces["new"] = SIMPLE
        cluster.tell_schema("CREATED", "new")
        await until(lambda: fixture.owner.all("topology"))
        assert fixture.control.topology.keyspaces == cluster.keyspaces
        assert len(fixture.opened) == 1


async def test_a_reading_that_gets_no_answer_moves_it() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster, control_timeout=0.3) as fixture:
        cluster.answers[KEYSPACES] = lambda request: (
            None if request.host is cluster.hosts[0] else cluster.system_answer(request)
        )
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        # at the start, twice without an answer, as a contact point, and at the other host
        assert cluster.reads[KEYSPACES] == 4


async def test_an_endpoint_that_cannot_be_opened_at_all() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster) as fixture:
        fixture.failure = ZeroDivisionError("mine")
        cluster.hosts[0].cut()
        await until(lambda: len(fixture.opened) > 3)
        fixture.failure = None
        await until(lambda: fixture.owner.all("connected")[1:])


# -- cancelling, closing


async def all_closed(cluster: FakeCluster) -> None:
    await until(lambda: not cluster.connections)


@pytest.mark.parametrize("pushes", [False, True])
async def test_cancelled_anywhere_nothing_is_left(
    pushes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancel it after each number of turns of the loop: while it starts, moves and agrees."""
    monkeypatch.setattr(agreement, "FIRST_PAUSE", 0)  # pauses take no time
    with resolving() as names:
        for count in range(200):
            cluster = FakeCluster(3)
            cluster.pushes = pushes
            names["db"] = [host.address for host in cluster.hosts[:2]]
            async with controlling(
                cluster, [cql.Endpoint("db")], resolves=True, begin=False
            ) as fixture:
                done: list[bool] = []

                async def life(fixture: Fixture = fixture, done: list[bool] = done) -> None:
                    await fixture.control.begin()
                    async with anyio.create_task_group() as group:
                        group.start_soon(fixture.control.run)
                        await fixture.control.agree(5)
                        fixture.cluster.hosts[0].kill()
                        while not fixture.owner.all("connected")[1:]:
                            await anyio.lowlevel.checkpoint()
                        done.append(True)
                        group.cancel_scope.cancel()

                async with anyio.create_task_group() as group:
                    group.start_soon(life)
                    await turns(count)
                    group.cancel_scope.cancel()
                fixture.control.close()
                await all_closed(cluster)  # the session's own tasks would go on
            if done:
                break
        assert done
        assert count > 40  # otherwise some turns were skipped


async def test_closed_before_it_runs() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster, begin=False) as fixture:
        await fixture.control.begin()
        fixture.control.close()
        fixture.control.close()
        await until(lambda: not cluster.connections)


async def test_a_thousand_hosts() -> None:
    cluster = FakeCluster({"eu": 500, "us": 500}, tokens=256)
    async with controlling(cluster) as fixture:
        assert len(fixture.control.topology.hosts) == 1000
        before = fixture.control.topology
        fixture.refresh_soon()
        await until(lambda: cluster.reads[KEYSPACES] == 2)
        await turns()
        assert fixture.control.topology is before
