"""The control connection: its start, its events and its refreshes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import ROWS_HAS_MORE_PAGES
from cqlproto.messages import (
    VOID,
    Column,
    Query,
    Register,
    ResultMetadata,
    Rows,
    StatusChange,
    UnknownEvent,
)
from cqlproto_anyio._cluster import refresh
from cqlproto_anyio._cluster import system_tables as systemtables
from tests.support.fakecluster import FakeCluster, FakeHost, FakeRequest
from tests.support.faketables import KEYSPACES, LOCAL, PEERS_V2
from tests.support.server import turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response

from tests.support.control_connection import QUIET, controlling, garbage, nothing, refused

pytestmark = pytest.mark.uvloop

TEXT = NATIVE_TYPES["text"]
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


SYSTEM = ResultMetadata.of(
    [Column("system", "x", name, TEXT) for name in ("host_id", "replication")], ProtocolVersion.V4
)
ODD: dict[str, Callable[[FakeRequest], Response]] = {
    "no rows": nothing,
    "an error": refused,
    "garbage": garbage,
    "void": lambda request: VOID,
    "no columns": lambda request: Rows.of(ResultMetadata((), b"", False), 1, b""),
    "no metadata": lambda request: Rows.of(SYSTEM, 1, b"\0\0\0\0" * 2, skip_metadata=True),
    "other columns": lambda request: Rows.of(SYSTEM, 1, b"\0\0\0\1x" * 2),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=ODD)
@pytest.mark.parametrize("table", [LOCAL, PEERS_V2, KEYSPACES])
async def test_what_a_node_does_not_tell_is_unknown(
    table: str, answer: Callable[[FakeRequest], Response], caplog: pytest.LogCaptureFixture
) -> None:
    """The contact point is used; tables are read as soon as possible; another node is preferred."""
    cluster = FakeCluster(2)
    one, two = cluster.hosts

    def first_only(request: FakeRequest) -> Response | None:
        return answer(request) if request.host is one else cluster.system_answer(request)

    cluster.answers[table] = first_only
    told_nothing = answer is nothing and table != LOCAL  # an empty answer is allowed
    async with controlling(cluster, [one.endpoint]) as fixture:
        assert str(one.endpoint) in fixture.names()
        assert fixture.here is one
        assert len(fixture.names()) == (1 if table == PEERS_V2 else 2)
        fixture.refresh_soon()
        await until(lambda: cluster.reads[table] >= 2)
        await turns()
        warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == len(set(warnings)) <= 2
        assert told_nothing or warnings
        assert fixture.owner.all("lost") == []
        cluster.tell_schema("UPDATED", "ks")
        await until(lambda: cluster.reads[KEYSPACES] >= 3)
        del cluster.answers[table]
        fixture.refresh_soon()
        await until(lambda: fixture.control.topology.keyspaces == cluster.keyspaces)
        await until(lambda: set(fixture.control.topology.hosts) == {one.host_id, two.host_id})
        assert fixture.owner.all("lost") == []
    if not told_nothing:
        cluster.answers[table] = first_only
        async with controlling(cluster) as fixture:
            # empty rows are an answer
            odd_rows = answer is ODD["other columns"] and table != LOCAL
            assert fixture.here is (one if odd_rows else two)
            await until(lambda: len(cluster.connections) == 1)


async def test_a_node_that_never_answers_is_none() -> None:
    cluster = FakeCluster(2)
    cluster.answers[LOCAL] = lambda request: None
    first = [cluster.hosts[0].endpoint]
    async with controlling(cluster, first, begin=False, control_timeout=0.05) as fixture:
        with pytest.raises(cql.ConnectionFailed) as info:
            await fixture.control.begin()
        assert info.value.stage == "discovery"
        assert "no answer from 10.0.0.1:9042 within 0.05 s" in str(info.value)
        await until(lambda: not cluster.connections)


@pytest.mark.parametrize("table", [PEERS_V2, KEYSPACES])
async def test_a_table_that_is_never_answered_is_unknown(table: str) -> None:
    cluster = FakeCluster(2)
    cluster.answers[table] = lambda request: None
    async with controlling(cluster, control_timeout=0.05) as fixture:
        assert fixture.names() >= {str(cluster.hosts[0])}
        del cluster.answers[table]
        await until(lambda: len(fixture.control.topology.hosts) == 2)
        await until(lambda: fixture.control.topology.keyspaces == cluster.keyspaces)


@pytest.mark.parametrize("column", ["host_id", "data_center", "rack"])
async def test_a_node_that_does_not_know_itself(column: str) -> None:
    """Another node is preferred; this one is used if there is no other."""
    cluster = FakeCluster(2)
    one, two = cluster.hosts
    one.tell(**{column: None})
    async with controlling(cluster) as fixture:
        assert fixture.here is two
    async with controlling(cluster, [one.endpoint]) as fixture:
        assert fixture.here is one
        assert fixture.names() == {str(one), str(two)}
        host = next(iter(fixture.control.topology.hosts.values()))
        assert host.endpoint == one.endpoint
        assert (host.host_id == one.host_id) is (column != "host_id")
        assert host.tokens == tuple(sorted(one.tokens))
        one.told.clear()
        one.change()
        fixture.refresh_soon()
        await until(lambda: set(fixture.control.topology.hosts) == {one.host_id, two.host_id})


async def test_what_was_told_once_must_be_told_again() -> None:
    cluster = FakeCluster(2)
    async with controlling(cluster) as fixture:
        cluster.answers[PEERS_V2] = refused
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("lost"))
        assert "not for you" in str(fixture.owner.all("lost")[0])
        await until(lambda: fixture.owner.all("connected")[1:])
        # no node reports it any more; the client keeps what it knew
        assert len(fixture.control.topology.hosts) == 2


@pytest.mark.parametrize("how", ["refused", "silent", "void", "closed"])
async def test_events_that_are_not_told(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """The hosts are read periodically."""
    cluster = FakeCluster(2)
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        if not isinstance(request.message, Register):
            return usual(request)
        if how == "closed":
            request.connection.cut()
        return {"refused": refused(request), "void": VOID}.get(how)

    cluster._reply = reply  # type: ignore[method-assign]  # the test replaces the method
    async with controlling(cluster, control_timeout=0.05, refresh_interval=0.05) as fixture:
        assert len(fixture.control.topology.hosts) == 2
        said = "sends no events" if how in ("refused", "silent") else "asked for events"
        assert said in caplog.text
        cluster.add()
        await until(lambda: len(fixture.control.topology.hosts) == 3)
        assert fixture.owner.all("lost") == []


async def test_a_node_that_breaks_off_when_it_is_asked() -> None:
    cluster = FakeCluster(2)
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        if isinstance(request.message, (Register, Query)):
            request.connection.cut()
            return None
        return usual(request)

    cluster._reply = reply  # type: ignore[method-assign]  # the test replaces the method
    async with controlling(cluster, refresh_interval=0.05) as fixture:
        assert fixture.names() == {str(cluster.hosts[0])}
        assert fixture.owner.all("lost") == []
        # the node is asked again from time to time
        await until(lambda: len(fixture.owner.all("connected")) == 2)
        cluster._reply = usual  # type: ignore[method-assign]  # the test replaces the method
        await until(lambda: len(fixture.control.topology.hosts) == 2)


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
        fixture.refresh_soon()
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
        assert "keyspaces and replicas are unknown" in caplog.text


async def test_neither_table_of_peers(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(2)
    del cluster.tables[PEERS_V2], cluster.tables["system.peers"]
    async with controlling(cluster) as fixture:
        assert fixture.names() == {str(cluster.hosts[0])}
        assert "unconfigured table peers" in caplog.text


async def test_a_table_of_peers_that_vanishes() -> None:
    cluster = FakeCluster(2)
    del cluster.tables[PEERS_V2]
    async with controlling(cluster) as fixture:
        columns = cluster.tables.pop("system.peers")
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("lost"))
        assert "unconfigured table peers" in str(fixture.owner.all("lost")[0])
        cluster.tables["system.peers"] = columns
        await until(lambda: fixture.owner.all("connected")[1:])


async def test_a_large_cluster_is_read_by_pages() -> None:
    cluster = FakeCluster(251, tokens=2)
    async with controlling(cluster) as fixture:
        assert fixture.names() == {str(host) for host in cluster.hosts}
        assert cluster.reads[PEERS_V2] == 5


async def test_a_table_without_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(systemtables, "MAX_PAGES", 20)
    cluster = FakeCluster(1)

    def endless(request: FakeRequest) -> Response:
        rows = nothing(request)
        assert isinstance(rows, Rows)
        rows.paging_state = b"%d" % cluster.reads[PEERS_V2]
        rows.flags |= ROWS_HAS_MORE_PAGES
        return rows

    cluster.answers[PEERS_V2] = endless
    async with controlling(cluster) as fixture:
        assert cluster.reads[PEERS_V2] == 20
        assert fixture.names() == {str(cluster.hosts[0])}
        assert "has no end" in caplog.text


@pytest.mark.parametrize(
    ("count", "columns", "size", "said"),
    [
        (0xFFFF, 0, 0, "rows without columns"),
        (0, 1, 0, "an empty page leads to itself"),
        (40, 1, 0, "more than 100 rows"),
        (1, 1, 3000, "or 8,000 bytes"),
    ],
)
async def test_pages_without_end_are_bounded(
    count: int,
    columns: int,
    size: int,
    said: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows and bytes are limited, and an empty page that leads to itself ends the read."""
    monkeypatch.setattr(systemtables, "MAX_ROWS", 100)
    monkeypatch.setattr(systemtables, "MAX_BYTES", 8000)
    cluster = FakeCluster(1)
    described = [Column("system", "peers_v2", "x", TEXT)][:columns]
    content = (size.to_bytes(4, "big") + bytes(size)) * count if columns else b""

    def endless(request: FakeRequest) -> Response:
        metadata = ResultMetadata.of(described, ProtocolVersion.V4)
        return Rows.of(metadata, count, content, paging_state=b"again")

    cluster.answers[PEERS_V2] = endless
    async with controlling(cluster) as fixture:
        assert cluster.reads[PEERS_V2] <= 3
        assert fixture.names() == {str(cluster.hosts[0])}
        assert said in caplog.text


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
        fixture.refresh_soon()
        await until(lambda: cluster.reads[KEYSPACES] == 2)
        await turns()
        assert fixture.control.topology is before
        cluster.hosts[1].change(rack="elsewhere")
        fixture.refresh_soon()
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
        fixture.refresh_soon()
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
        if not joined:  # after the query was sent, before its reply arrives
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
        fixture.refresh_soon()
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
        fixture.refresh_soon()
        await until(lambda: "the values known before are used" in caplog.text)
        await turns()
        assert fixture.control.topology is before


async def test_notes_are_not_remembered_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "MOST_NOTED", 2)
    cluster = FakeCluster(4)
    for host in cluster.hosts[1:]:
        host.tell(tokens=None)
    async with controlling(cluster) as fixture:
        odd = cluster.hosts[1]
        odd.tell(rack=None)
        fixture.refresh_soon()
        await until(lambda: f"the peer {odd} has no rack, tokens" in caplog.text)
        odd.tell(rack="r")
        fixture.refresh_soon()
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
        fixture.refresh_soon()
        await until(lambda: fixture.owner.all("topology"))
        fixture.here.kill()
        await until(lambda: len(fixture.owner.all("connected")) == 2)
        assert caplog.text.count("ZeroDivisionError: mine") >= 5
