"""The control connection: how it begins, what it hears and reads, where it goes when it dies."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ROWS_HAS_MORE_PAGES, ErrorCode
from cqlproto.messages import VOID, Column, Error, ResultMetadata, Rows, StatusChange, UnknownEvent
from cqlproto_anyio import control as control_module
from cqlproto_anyio import systemtables
from cqlproto_anyio._backend import current_backend
from cqlproto_anyio.control import Control
from cqlproto_anyio.opening import open_connection
from tests.cqlproto_anyio.fakecluster import FakeCluster, FakeHost, FakeRequest
from tests.cqlproto_anyio.fakehosts import INT
from tests.cqlproto_anyio.faketables import KEYSPACES, LOCAL, PEERS_V2
from tests.cqlproto_anyio.server import start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from cqlproto.messages import Response, SchemaChange
    from cqlproto_anyio.connection import Connection
    from cqlproto_anyio.topology import Topology

pytestmark = pytest.mark.uvloop

QUIET = 0.05
SIMPLE = {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "1"}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything twenty times as fast."""
    monkeypatch.setattr(control_module, "QUIET", QUIET)
    monkeypatch.setattr(control_module, "MOST", 0.25)
    monkeypatch.setattr(control_module, "SOON", 0.25)
    monkeypatch.setattr(control_module, "FIRST_DELAY", 0.005)
    monkeypatch.setattr(control_module, "LONGEST_DELAY", 0.05)


class Owner:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.preferred: Sequence[cql.Endpoint] = ()
        self.down: set[UUID] = set()
        self.error: Exception | None = None

    def _note(self, name: str, what: Any) -> None:
        self.told.append((name, what))
        if self.error is not None:
            raise self.error

    def topology_changed(self, topology: Topology) -> None:
        self._note("topology", topology)

    def host_up(self, endpoint: cql.Endpoint) -> None:
        self._note("up", endpoint)

    def host_down(self, endpoint: cql.Endpoint) -> None:
        self._note("down", endpoint)

    def schema_changed(self, change: SchemaChange) -> None:
        self._note("schema", change)

    def candidates(self) -> Iterable[cql.Endpoint]:
        return self.preferred

    def is_up(self, host_id: UUID) -> bool:
        return host_id not in self.down

    def control_lost(self, error: Exception) -> None:
        self._note("lost", error)

    def control_connected(self, endpoint: cql.Endpoint) -> None:
        self._note("connected", endpoint)

    def all(self, name: str) -> list[Any]:
        return [what for kind, what in self.told if kind == name]


class Fixture:
    """A control connection on a cluster, and who owns it."""

    def __init__(
        self,
        cluster: FakeCluster,
        group: anyio.abc.TaskGroup,
        points: Sequence[cql.Endpoint],
        fields: dict[str, Any],
        *,
        resolves: bool,
    ) -> None:
        self.cluster = cluster
        self.owner = Owner()
        self.opened: list[cql.Endpoint] = []
        fields.setdefault("connect_timeout", 2.0)
        fields.setdefault("control_timeout", 2.0)
        self.config = cluster.config(**fields)
        self.failure: Exception | None = None
        self.control = Control(
            backend=current_backend(),
            config=replace(self.config, connector=None) if resolves else self.config,
            contact_points=points or [host.endpoint for host in cluster.hosts],
            open=self.open,
            owner=self.owner,
            start=group.start_soon,
        )

    async def open(self, endpoint: cql.Endpoint) -> Connection:
        self.opened.append(endpoint)
        if self.failure is not None:
            raise self.failure
        return await open_connection(
            endpoint,
            backend=current_backend(),
            config=self.config,
            version=ProtocolVersion.V5,
            auth=None,
            tls=None,
            keyspace=None,
        )

    @property
    def here(self) -> FakeHost:
        """The host that the control connection is at."""
        endpoint = self.control.endpoint
        assert endpoint is not None
        host = self.cluster.at(endpoint.address, endpoint.port)
        assert host is not None
        return host

    def names(self) -> set[str]:
        return {str(host.endpoint) for host in self.control.topology.hosts.values()}


@asynccontextmanager
async def controlling(
    cluster: FakeCluster,
    points: Sequence[cql.Endpoint] = (),
    *,
    begin: bool = True,
    resolves: bool = False,
    **fields: Any,
) -> AsyncIterator[Fixture]:
    """A control connection that has begun and runs; in the end nothing of it may be left.

    Arguments:
        points: the contact points; all hosts if there are none.
        begin: whether it begins and runs here; else the test does so.
        resolves: whether it resolves names, as it does without a connector.
    """
    error: Exception | None = None
    async with anyio.create_task_group() as group:
        fixture = Fixture(cluster, group, points, fields, resolves=resolves)
        try:
            if begin:
                await fixture.control.begin()
                group.start_soon(fixture.control.run)
            yield fixture
        except Exception as exc:
            error = exc
        group.cancel_scope.cancel()
    assert not cluster.connections
    assert not cluster.errors
    if error is not None:
        raise error


# -- beginning


async def test_it_registers_then_reads_everything() -> None:
    cluster = FakeCluster({"eu": 2, "us": 1}, racks=("a", "b"))
    async with controlling(cluster) as fixture:
        topology = fixture.control.topology
        assert len(topology.hosts) == 3
        for host in cluster.hosts:
            found = topology.hosts[host.host_id]
            assert found.endpoint == host.endpoint
            assert (found.datacenter, found.rack) == (host.datacenter, host.rack)
            assert found.tokens == tuple(sorted(host.tokens))
            assert found.release_version == "5.0.5"
            assert found.schema_version == cluster.schema_version
        assert topology.keyspaces == cluster.keyspaces
        assert topology.partitioner == cluster.partitioner
        assert fixture.control.contact_endpoints == tuple(host.endpoint for host in cluster.hosts)
        [connection] = cluster.connections
        assert len(connection.registered) == 3
        assert fixture.owner.told == [("connected", cluster.hosts[0].endpoint)]
    assert fixture.control.endpoint is None


async def test_the_first_contact_point_that_works() -> None:
    cluster = FakeCluster(3)
    cluster.hosts[0].kill()
    async with controlling(cluster) as fixture:
        assert fixture.opened == [host.endpoint for host in cluster.hosts[:2]]
        assert len(fixture.control.topology.hosts) == 3


async def test_no_contact_point_works() -> None:
    cluster = FakeCluster(2)
    for host in cluster.hosts:
        host.kill()
    async with controlling(cluster, begin=False) as fixture:
        with pytest.raises(cql.NoHostAvailable) as info:
            await fixture.control.begin()
        assert [type(each) for each in info.value.attempts] == [cql.ConnectionFailed] * 2
    async with controlling(cluster, [cluster.hosts[0].endpoint], begin=False) as fixture:
        with pytest.raises(cql.ConnectionFailed, match="refused"):
            await fixture.control.begin()


def nothing(request: FakeRequest) -> Response:
    """A page of no rows, as any table may have."""
    return Rows.of(ResultMetadata.of([Column("ks", "t", "x", INT)], ProtocolVersion.V4), 0, b"")


def refused(request: FakeRequest) -> Response:
    return Error(ErrorCode.UNAUTHORIZED, "not for you")


def garbage(request: FakeRequest) -> Response:
    metadata = ResultMetadata.of([Column("ks", "t", "host_id", INT)], ProtocolVersion.V4)
    return Rows.of(metadata, 1, b"\0\0\0\x07garbage")


@pytest.mark.parametrize(
    ("table", "answer", "said"),
    [
        (LOCAL, nothing, "system.local has 0 rows"),
        (LOCAL, refused, "not for you"),
        (LOCAL, garbage, ""),
        (LOCAL, lambda request: VOID, "was answered by Void"),
        (PEERS_V2, refused, "not for you"),
        (PEERS_V2, garbage, ""),
        (PEERS_V2, lambda request: VOID, "was answered by Void"),
        (KEYSPACES, refused, "not for you"),
        (KEYSPACES, garbage, ""),
        (LOCAL, lambda request: None, "no answer from 10.0.0.1:9042 within 0.3 s"),
    ],
)
async def test_a_node_that_cannot_tell_is_passed_over(
    table: str, answer: Callable[[FakeRequest], Response | None], said: str
) -> None:
    cluster = FakeCluster(2)

    def first_only(request: FakeRequest) -> Response | None:
        if request.host is cluster.hosts[0]:
            return answer(request)
        return cluster.system_answer(request)

    cluster.answers[table] = first_only
    first = [cluster.hosts[0].endpoint]
    seconds = 0.3 if said.endswith("0.3 s") else 5.0
    async with controlling(cluster, first, begin=False, control_timeout=seconds) as fixture:
        with pytest.raises(cql.ConnectionFailed) as info:
            await fixture.control.begin()
        assert info.value.stage == "discovery"
        assert said in str(info.value)
        assert isinstance(info.value.__cause__, cql.CQLError)
        await until(lambda: not cluster.connections)
    async with controlling(cluster, control_timeout=seconds) as fixture:
        assert fixture.here is cluster.hosts[1]
        await until(lambda: len(cluster.connections) == 1)


async def test_a_node_that_does_not_know_itself_is_passed_over() -> None:
    cluster = FakeCluster(2)
    cluster.hosts[0].tell(host_id=None)
    async with controlling(cluster) as fixture:
        assert fixture.here is cluster.hosts[1]
        assert fixture.names() == {str(cluster.hosts[1])}


async def test_what_is_wrong_with_all_nodes_is_raised_at_once() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster, begin=False) as fixture:
        fixture.failure = cql.ConfigError("no such codec")
        with pytest.raises(cql.ConfigError, match="no such codec"):
            await fixture.control.begin()
        assert len(fixture.opened) == 1


@pytest.mark.parametrize("version", [ProtocolVersion.V3, ProtocolVersion.V4])
async def test_older_nodes(version: ProtocolVersion) -> None:
    cluster = FakeCluster(2)
    for host in cluster.hosts:
        host.versions = [version]
    del cluster.tables[PEERS_V2]
    async with controlling(cluster) as fixture:
        assert fixture.names() == {str(host) for host in cluster.hosts}
        assert cluster.reads["system.peers"] == 1
        fixture.control.refresh_soon()
        await until(lambda: cluster.reads["system.peers"] == 2)
        assert cluster.reads[PEERS_V2] == 0
        assert await fixture.control.agree(2)


async def test_without_system_schema_there_are_no_keyspaces(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster(2)
    del cluster.tables[KEYSPACES]
    async with controlling(cluster) as fixture:
        assert len(fixture.control.topology.hosts) == 2
        assert fixture.control.topology.keyspaces == {}
        assert "no keyspace is known" in caplog.text


async def test_neither_table_of_peers() -> None:
    cluster = FakeCluster(1)
    del cluster.tables[PEERS_V2], cluster.tables["system.peers"]
    async with controlling(cluster, begin=False) as fixture:
        with pytest.raises(cql.ConnectionFailed, match="unconfigured table peers"):
            await fixture.control.begin()


async def test_a_table_of_peers_that_vanishes() -> None:
    cluster = FakeCluster(2)
    del cluster.tables[PEERS_V2]
    async with controlling(cluster) as fixture:
        columns = cluster.tables.pop("system.peers")
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("lost"))
        assert "unconfigured table peers" in str(fixture.owner.all("lost")[0])
        cluster.tables["system.peers"] = columns
        await until(lambda: fixture.owner.all("connected")[1:])


async def test_a_large_cluster_is_read_by_pages() -> None:
    cluster = FakeCluster(251, tokens=2)
    async with controlling(cluster) as fixture:
        assert fixture.names() == {str(host) for host in cluster.hosts}
        assert cluster.reads[PEERS_V2] == 3


async def test_a_table_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemtables, "MAX_PAGES", 20)
    cluster = FakeCluster(1)

    def endless(request: FakeRequest) -> Response:
        rows = nothing(request)
        assert isinstance(rows, Rows)
        rows.paging_state = b"more"
        rows.flags |= ROWS_HAS_MORE_PAGES
        return rows

    cluster.answers[PEERS_V2] = endless
    async with controlling(cluster, begin=False) as fixture:
        with pytest.raises(cql.ConnectionFailed, match="has no end"):
            await fixture.control.begin()
        assert cluster.reads[PEERS_V2] == 20


# -- events


async def test_known_hosts_up_and_down_are_told_at_once() -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        reads = cluster.reads.copy()
        assert cluster.tell_down(cluster.hosts[1]) == 1
        cluster.tell_up(cluster.hosts[2])
        owner = fixture.owner
        await until(lambda: len(owner.told) == 3)
        assert owner.told[1:] == [
            ("down", cluster.hosts[1].endpoint),
            ("up", cluster.hosts[2].endpoint),
        ]
        await anyio.sleep(2 * QUIET)
        assert cluster.reads == reads


async def test_an_unknown_host_that_is_up_is_looked_for() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        new = cluster.add()
        cluster.tell_down(new)
        await turns()
        cluster.tell_up(new)
        await until(lambda: fixture.owner.all("topology"))
        [topology] = fixture.owner.all("topology")
        assert topology is fixture.control.topology
        assert topology.hosts[new.host_id].endpoint == new.endpoint
        assert fixture.owner.all("up") == fixture.owner.all("down") == []
        cluster.tell_up(new)
        await until(lambda: fixture.owner.all("up"))


async def test_events_about_the_topology_are_gathered() -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        leaving = cluster.hosts[2]
        for _ in range(3):
            cluster.add()
            cluster.tell_topology("NEW_NODE", cluster.hosts[-1])
            await anyio.sleep(QUIET / 5)
        cluster.remove(leaving)
        cluster.tell_topology("REMOVED_NODE", leaving)
        await until(lambda: fixture.owner.all("topology"))
        assert cluster.reads[PEERS_V2] == 2
        assert fixture.names() == {str(host) for host in cluster.hosts}
        assert len(fixture.owner.all("topology")) == 1


async def test_events_that_never_stop_do_not_put_it_off() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.add()
        with anyio.fail_after(10):
            while not fixture.owner.all("topology"):
                cluster.tell_topology("NEW_NODE", cluster.hosts[-1])
                await anyio.sleep(QUIET / 10)


async def test_what_has_not_changed_is_not_told() -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        before = fixture.control.topology
        cluster.set_schema_version()
        fixture.control.refresh_soon()
        await until(lambda: cluster.reads[KEYSPACES] == 2)
        await turns()
        assert fixture.control.topology is before
        cluster.hosts[1].change(rack="elsewhere")
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        [after] = fixture.owner.all("topology")
        one, two, three = (host.host_id for host in cluster.hosts)
        assert after.hosts[one] is before.hosts[one]
        assert after.hosts[three] is before.hosts[three]
        assert after.hosts[two].rack == "elsewhere"


@pytest.mark.parametrize(
    "change",
    [{"tokens": (1, 2)}, {"datacenter": "x"}, {"release_version": "6"}, {"address": "10.9.9.9"}],
)
async def test_what_has_changed_is_told(change: dict[str, Any]) -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.hosts[1].change(**change)
        cluster.tell_topology("MOVED_NODE", cluster.hosts[1])
        await until(lambda: fixture.owner.all("topology"))
        [topology] = fixture.owner.all("topology")
        host = topology.hosts[cluster.hosts[1].host_id]
        assert host.endpoint == cluster.hosts[1].endpoint
        assert host.tokens == tuple(sorted(cluster.hosts[1].tokens))
        assert host.datacenter == cluster.hosts[1].datacenter


async def test_another_partitioner_is_another_topology() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster) as fixture:
        cluster.partitioner = "org.apache.cassandra.dht.RandomPartitioner"
        cluster.hosts[0].change()
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        assert fixture.control.topology.partitioner == cluster.partitioner


async def test_changes_of_the_schema() -> None:
    cluster = FakeCluster(2, keyspaces={"a": SIMPLE, "b": SIMPLE})
    async with controlling(cluster) as fixture:
        before = fixture.control.topology
        cluster.tell_schema("CREATED", "a", "t")
        await until(lambda: fixture.owner.all("schema"))
        cluster.keyspaces = {"b": {**SIMPLE, "replication_factor": "2"}, "c": SIMPLE}
        cluster.tell_schema("DROPPED", "a")
        cluster.tell_schema("UPDATED", "b")
        cluster.tell_schema("CREATED", "c")
        await until(lambda: fixture.owner.all("topology"))
        assert [(each.change, each.target) for each in fixture.owner.all("schema")] == [
            ("CREATED", "TABLE"),
            ("DROPPED", "KEYSPACE"),
            ("UPDATED", "KEYSPACE"),
            ("CREATED", "KEYSPACE"),
        ]
        [topology] = fixture.owner.all("topology")
        assert topology.keyspaces == cluster.keyspaces
        assert topology.hosts is before.hosts
        assert (cluster.reads[KEYSPACES], cluster.reads[PEERS_V2]) == (2, 1)
        cluster.tell_schema("UPDATED", "c")
        await until(lambda: cluster.reads[KEYSPACES] == 3)
        await turns()
        assert fixture.control.topology is topology


async def test_events_of_other_kinds_are_passed_over() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster) as fixture:
        [connection] = cluster.connections
        connection.core.push(UnknownEvent("CLIENT_ROUTES_CHANGE", b"xyz"))
        connection.flush()
        cluster.push(StatusChange("SIDEWAYS", (ip_address(cluster.hosts[0].address), 9042)))
        await turns()
        cluster.tell_down(cluster.hosts[0])
        await until(lambda: fixture.owner.all("down"))
        assert cluster.connections == [connection]


async def test_what_happens_while_it_begins_is_not_missed() -> None:
    cluster = FakeCluster(2)
    joined: list[FakeHost] = []

    def slow(request: FakeRequest) -> Response:
        reply = cluster.system_answer(request)
        if not joined:  # after the reading, before the reading arrives
            joined.append(cluster.add())
            cluster.tell_topology("NEW_NODE", joined[0])
        return reply

    cluster.answers[PEERS_V2] = slow
    async with controlling(cluster) as fixture:
        assert len(fixture.control.topology.hosts) == 2
        await until(lambda: fixture.owner.all("topology"))
        assert len(fixture.control.topology.hosts) == 3


async def test_it_reads_now_and_then_without_any_event() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster, refresh_interval=0.05) as fixture:
        cluster.add()
        cluster.keyspaces["new"] = SIMPLE
        await until(lambda: cluster.reads[LOCAL] >= 4)
        assert len(fixture.owner.all("topology")) == 1
        assert fixture.control.topology.keyspaces == cluster.keyspaces
        assert len(fixture.control.topology.hosts) == 2


async def test_rows_that_make_no_sense_are_noted_once_and_read_again_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster(3)
    joining = cluster.hosts[2]
    joining.tell(tokens=None)
    async with controlling(cluster) as fixture:
        assert len(fixture.control.topology.hosts) == 2
        fixture.control.refresh_soon()
        await until(lambda: cluster.reads[PEERS_V2] == 2)
        joining.told.clear()
        joining.change()
        await until(lambda: fixture.owner.all("topology"))
        assert len(fixture.control.topology.hosts) == 3
        texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert texts == [f"the peer {joining} has no tokens: it is left out"]


async def test_notes_are_not_remembered_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "MOST_NOTED", 2)
    cluster = FakeCluster(4)
    for host in cluster.hosts[1:]:
        host.tell(tokens=None)
    async with controlling(cluster) as fixture:
        odd = cluster.hosts[1]
        odd.tell(rack=None)
        fixture.control.refresh_soon()
        await until(lambda: f"the peer {odd} has no rack, tokens" in caplog.text)
        odd.tell(rack="r")
        fixture.control.refresh_soon()
        await until(lambda: caplog.text.count(f"the peer {odd} has no tokens") == 2)
        assert caplog.text.count(f"the peer {cluster.hosts[2]} has no tokens") == 1


async def test_an_owner_that_fails_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        fixture.owner.error = ZeroDivisionError("mine")
        cluster.tell_down(cluster.hosts[1])
        cluster.tell_schema("CREATED", "ks", "t")
        await until(lambda: len(fixture.owner.told) == 3)
        cluster.remove(cluster.hosts[2])
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        fixture.here.kill()
        await until(lambda: len(fixture.owner.all("connected")) == 2)
        assert caplog.text.count("ZeroDivisionError: mine") >= 5


# -- moving on


async def test_it_moves_to_what_the_owner_prefers() -> None:
    cluster = FakeCluster(4)
    one, two, three, _ = cluster.hosts
    async with controlling(cluster, [one.endpoint]) as fixture:
        fixture.owner.preferred = [one.endpoint, two.endpoint, three.endpoint]
        two.kill()
        one.cut()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is three  # not back to where it broke while there are others
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
        await anyio.sleep(0.3)
        assert fixture.control.endpoint is None
        # once without a delay, then with a growing one: 6 attempts each time
        assert 12 <= len(fixture.opened) <= 100
        cluster.hosts[1].revive()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert len(fixture.owner.all("lost")) == 1


async def test_it_tries_all_candidates_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "CANDIDATES", 2)
    cluster = FakeCluster(6)
    async with controlling(cluster, [cluster.hosts[0].endpoint]) as fixture:
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

        fixture.owner.candidates = fail  # type: ignore[method-assign]
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


async def test_a_connection_that_has_lasted_is_made_anew_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_module, "STEADY", 0.0)
    monkeypatch.setattr(control_module, "FIRST_DELAY", 20.0)
    monkeypatch.setattr(control_module, "LONGEST_DELAY", 20.0)
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
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
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert "doesn't tell" not in caplog.text


async def test_a_silent_node_is_left() -> None:
    cluster = FakeCluster(2)
    times: dict[str, Any] = {
        "heartbeat_interval": 0.05,
        "heartbeat_timeout": 0.05,
        "connect_timeout": 0.1,
    }
    async with controlling(cluster, **times) as fixture:
        await anyio.sleep(0.3)
        assert len(fixture.opened) == 1  # it is asked, and answers
        fixture.here.pause()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        assert "no answer" in str(fixture.owner.all("lost")[0])


async def test_a_reading_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        answers = [refused, garbage]

        def answer(request: FakeRequest) -> Response:
            return answers.pop()(request) if answers else cluster.system_answer(request)

        cluster.answers[LOCAL] = answer
        cluster.add()
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        assert len(fixture.control.topology.hosts) == 3
        assert len(fixture.opened) == 1
        assert caplog.text.count("doesn't tell of the cluster") == 2


async def test_a_node_that_goes_on_talking_nonsense_is_left() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.hosts[0].tell(host_id=None)
        cluster.add()
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]
        # once as it began, then as often as it has patience, then once as a contact point
        assert cluster.reads[LOCAL] == 1 + control_module.PATIENCE + 1 + 1
        assert len(fixture.control.topology.hosts) == 2  # the third is new, the first unreadable


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
        fixture.control.refresh_soon()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is cluster.hosts[1]


async def test_an_endpoint_that_cannot_be_opened_at_all() -> None:
    cluster = FakeCluster(1)
    async with controlling(cluster) as fixture:
        fixture.failure = ZeroDivisionError("mine")
        cluster.hosts[0].cut()
        await until(lambda: len(fixture.opened) > 3)
        fixture.failure = None
        await until(lambda: fixture.owner.all("connected")[1:])


# -- names


Answers = dict[str, list[str] | Exception | None]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What names are resolved to; None for a server that never answers."""
    known: Answers = {}

    async def getaddrinfo(host: str, port: int, *, type: int) -> list[Any]:
        assert type == socket.SOCK_STREAM
        await anyio.lowlevel.checkpoint()
        found = known.get(host, socket.gaierror(-2, "Name or service not known"))
        if found is None:
            await anyio.sleep_forever()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, list)
        twice = [*found, *found]
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in twice]

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    return known


async def test_a_name_stands_for_all_its_addresses(names: Answers) -> None:
    cluster = FakeCluster(4)
    one, two, three, four = cluster.hosts
    names["db"] = [one.address, two.address]
    names["other"] = [three.address]
    one.kill()
    points = [cql.Endpoint("db"), cql.Endpoint("other", 9042, "cert"), cql.Endpoint(four.address)]
    async with controlling(cluster, points, resolves=True) as fixture:
        control = fixture.control
        assert control.contact_endpoints == (
            cql.Endpoint(one.address, 9042, "db"),
            cql.Endpoint(two.address, 9042, "db"),
            cql.Endpoint(three.address, 9042, "cert"),
            cql.Endpoint(four.address),
        )
        assert fixture.opened == [*control.contact_endpoints[:2]]
        # whatever node is asked, a host bears the name that its certificate is for
        found = [control.topology.hosts[host.host_id].endpoint for host in cluster.hosts]
        assert found == [*control.contact_endpoints]
        fixture.owner.preferred = found
        two.cut()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.here is three
        assert not fixture.owner.all("topology")


async def test_names_are_resolved_anew(names: Answers) -> None:
    cluster = FakeCluster(2)
    one, two = cluster.hosts
    names["db"] = [one.address]
    async with controlling(cluster, [cql.Endpoint("db")], resolves=True) as fixture:
        names["db"] = [two.address]
        one.kill()
        await until(lambda: fixture.owner.all("connected")[1:])
        assert fixture.control.endpoint == cql.Endpoint(two.address, 9042, "db")
        # what is not known any more is what it was
        names["db"] = socket.gaierror(-3, "Temporary failure in name resolution")
        two.cut()
        await until(lambda: fixture.owner.all("connected")[2:])
        assert fixture.here is two


async def test_a_fault_while_it_looks_for_a_node(
    names: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    names["db"] = [host.address]
    async with controlling(cluster, [cql.Endpoint("db")], resolves=True) as fixture:
        names["db"] = ZeroDivisionError("mine")
        host.cut()
        await until(lambda: caplog.text.count("ZeroDivisionError: mine") >= 3)
        names["db"] = [host.address]
        await until(lambda: fixture.owner.all("connected")[1:])


async def test_names_that_cannot_be_resolved(names: Answers) -> None:
    cluster = FakeCluster(1)
    names["slow"] = None
    names["odd"] = UnicodeError("label empty or too long")
    names["good"] = [cluster.hosts[0].address]
    points = [cql.Endpoint(name) for name in ("none", "slow", "odd")]
    times: dict[str, Any] = {"connect_timeout": 0.1}
    async with controlling(cluster, points, resolves=True, begin=False, **times) as fixture:
        with pytest.raises(cql.NoHostAvailable) as info:
            await fixture.control.begin()
        failures = [each for each in info.value.attempts if isinstance(each, cql.ConnectionFailed)]
        assert {(each.stage, each.reason) for each in failures} == {
            ("resolve", "'none' can't be resolved: Name or service not known"),
            ("resolve", "'slow' can't be resolved: no answer in time"),
            ("resolve", "'odd' can't be resolved: label empty or too long"),
        }
    async with controlling(cluster, points[:1], resolves=True, begin=False) as fixture:
        with pytest.raises(cql.ConnectionFailed, match="resolve failed"):
            await fixture.control.begin()
    points.append(cql.Endpoint("good"))
    async with controlling(cluster, points, resolves=True, **times) as fixture:
        assert fixture.here is cluster.hosts[0]


async def test_a_connector_knows_what_names_mean() -> None:
    cluster = FakeCluster(2)
    cluster.names["somewhere"] = cluster.hosts[0]
    point = cql.Endpoint("somewhere", 1, "sni")
    async with controlling(cluster, [point]) as fixture:
        assert fixture.control.contact_endpoints == (point,)
        assert fixture.control.topology.hosts[cluster.hosts[0].host_id].endpoint == point


async def test_addresses_are_translated() -> None:
    cluster = FakeCluster(3)
    for number, host in enumerate(cluster.hosts):
        cluster.names[f"proxy{number}"] = host
    outside = {str(host): f"proxy{number}" for number, host in enumerate(cluster.hosts)}

    def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
        return cql.Endpoint(outside[str(endpoint)], 9999)

    points = [cql.Endpoint("proxy0", 9999)]
    async with controlling(cluster, points, translate=translate) as fixture:
        assert fixture.names() == {"proxy0:9999", "proxy1:9999", "proxy2:9999"}
        cluster.tell_down(cluster.hosts[2])
        await until(lambda: fixture.owner.all("down"))
        assert fixture.owner.all("down") == [cql.Endpoint("proxy2", 9999)]


# -- schema agreement


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
            await anyio.sleep(0.15)
            assert not agreed.done
            three.change(schema_version=UUID(int=1))
        assert agreed.result is True


async def test_agreement_survives_the_loss_of_the_node() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.hosts[0].change(schema_version=UUID(int=1))
        async with anyio.create_task_group() as group:
            agreed = start(group, lambda: fixture.control.agree(10))
            await anyio.sleep(0.1)
            cluster.hosts[0].kill()
            cluster.hosts[0].change(schema_version=None)
            await until(lambda: agreed.done)
        assert agreed.result is True


async def test_servers_that_tell_no_version() -> None:
    cluster = FakeCluster(2)
    cluster.hosts[1].tell(schema_version=None)
    async with controlling(cluster) as fixture:
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


# -- cancelling, closing


async def all_closed(cluster: FakeCluster) -> None:
    await until(lambda: not cluster.connections)


@pytest.mark.parametrize("pushes", [False, True])
async def test_cancelled_anywhere_nothing_is_left(pushes: bool, names: Answers) -> None:
    """Cancelled after each number of turns of the loop, while it begins, moves and agrees."""
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
                    await until(lambda: fixture.owner.all("connected")[1:])
                    done.append(True)
                    group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(life)
                await turns(count)
                group.cancel_scope.cancel()
            fixture.control.close()
            await all_closed(cluster)  # while the session's tasks would go on
        if done:
            break
    assert done
    assert count > 40  # or it was not looked at closely


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
        fixture.control.refresh_soon()
        await until(lambda: cluster.reads[KEYSPACES] == 2)
        await turns()
        assert fixture.control.topology is before
