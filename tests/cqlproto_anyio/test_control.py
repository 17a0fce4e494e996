"""The control connection: how it begins, what it hears and what it reads."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ROWS_HAS_MORE_PAGES
from cqlproto.messages import VOID, Rows, StatusChange, UnknownEvent
from cqlproto_anyio import systemtables
from tests.cqlproto_anyio.fakecluster import FakeCluster, FakeHost, FakeRequest
from tests.cqlproto_anyio.faketables import KEYSPACES, LOCAL, PEERS_V2
from tests.cqlproto_anyio.server import turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response

from tests.cqlproto_anyio.controls import QUIET, controlling, garbage, nothing, refused

pytestmark = pytest.mark.uvloop

SIMPLE = {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "1"}


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
        assert cluster.reads[PEERS_V2] == 5


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
            await turns()
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


async def test_a_row_that_is_half_written_keeps_its_host(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(3)
    async with controlling(cluster) as fixture:
        before = fixture.control.topology
        cluster.hosts[1].tell(tokens=None, rack=None)
        fixture.control.refresh_soon()
        await until(lambda: "what was known of it is used" in caplog.text)
        await turns()
        assert fixture.control.topology is before


async def test_notes_are_not_remembered_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster(4)
    for host in cluster.hosts[1:]:
        host.tell(tokens=None)
    async with controlling(cluster, pace={"MOST_NOTED": 2}) as fixture:
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
