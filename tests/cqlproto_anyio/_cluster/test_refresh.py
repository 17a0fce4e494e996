"""Reading the topology: what was not read stays as it was known, and notes are logged once."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster import refresh
from cqlproto_anyio._cluster.refresh import NoteLog, Reading, TopologyReader
from cqlproto_anyio._metadata.discovery import Addresses, Found, HostReader, host_at
from tests.support.topologies import host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto_anyio._cluster.system_tables import SystemTables
    from cqlproto_anyio._metadata.topology import Host

CONTACT = cql.Endpoint("10.0.0.1")
ONE, TWO, THREE = host(0), host(1), host(2)
KEYSPACES = {"ks": {"class": "SimpleStrategy", "replication_factor": "1"}}
OTHERS = {"ks": {"class": "SimpleStrategy", "replication_factor": "2"}}


class Tables:
    """The system tables of the node at :data:`CONTACT`, as they are read.

    Arguments:
        local: the columns of ``system.local``.
        peers: the rows of ``system.peers_v2``.
    """

    def __init__(self, local: dict[str, Any], *peers: dict[str, Any]) -> None:
        self.local = local
        self.peers = peers
        self.unread: set[str] = set()
        self.describes_itself = False
        self.connection = SimpleNamespace(endpoint=CONTACT)

    async def cluster(
        self, begin: Callable[[dict[str, Any]], HostReader]
    ) -> tuple[Found, dict[str, dict[str, str]], list[str]]:
        reader = begin(self.local)
        reader.add(self.peers)
        return reader.found(), KEYSPACES, ["of the tables"]


def row(host: Host, **columns: Any) -> dict[str, Any]:
    """Return a host's row in either table."""
    address = ip_address(host.endpoint.address)
    return {
        "host_id": host.host_id,
        "rpc_address": address,
        "native_address": address,
        "native_port": host.endpoint.port,
        "data_center": host.datacenter,
        "rack": host.rack,
        "tokens": {"5"},
        **columns,
    }


def tables_of(*unread: str) -> SystemTables:
    """Return tables of which some could not be read the last time."""
    tables = Tables({})
    tables.unread |= set(unread)
    return cast("SystemTables", tables)


def reading_of(*hosts: Host, keyspaces: Any = KEYSPACES) -> Reading:
    reading = Reading()
    addresses = {(each.endpoint.address, each.endpoint.port): each.endpoint for each in hosts}
    reading.found = Found(hosts, "", Addresses(addresses))
    reading.keyspaces = keyspaces
    return reading


def reader(**fields: Any) -> TopologyReader:
    return TopologyReader(fields.get("translate"), lambda: fields.get("names", {}))


def hosts_of(made: TopologyReader) -> list[Host]:
    return list(made.topology.hosts.values())


def found_at(made: TopologyReader, host: Host) -> cql.Endpoint | None:
    return made.find(ip_address(host.endpoint.address), host.endpoint.port)


async def test_reading_gives_hosts_keyspaces_and_notes_and_changes_nothing() -> None:
    made = reader()
    tables = Tables(row(ONE), row(TWO), row(THREE, rack=None))
    reading = await made.read(cast("SystemTables", tables))
    assert reading.found is not None
    assert [each.host_id for each in reading.found.hosts] == [ONE.host_id, TWO.host_id]
    assert reading.keyspaces == KEYSPACES
    assert reading.notes == [
        "of the tables",
        "the peer 10.0.0.3:9042 has no rack: it is left out",
    ]
    assert not made.topology.hosts
    assert found_at(made, ONE) is None


async def test_reading_translates_and_names_endpoints() -> None:
    made = reader(
        translate=lambda each: cql.Endpoint(f"192.0.2.{each.address[-1]}"),
        names={("192.0.2.2", 9042): "two.example"},
    )
    tables = cast("SystemTables", Tables(row(ONE), row(TWO)))
    assert made.update(tables, await made.read(tables))
    named = cql.Endpoint("192.0.2.2", 9042, "two.example")
    assert [each.endpoint for each in hosts_of(made)] == [CONTACT, named]
    assert found_at(made, TWO) == named  # events have the address before it is translated


async def test_reading_completes_the_rows_of_known_hosts() -> None:
    made = reader()
    made.update(tables_of(), reading_of(ONE, TWO))
    tables = Tables(row(ONE), row(TWO, rack=None))
    reading = await made.read(cast("SystemTables", tables))
    assert reading.found is not None
    assert [each.rack for each in reading.found.hosts] == ["r1", "r1"]
    assert "the values known before are used" in reading.notes[1]


async def test_a_node_that_has_described_itself_must_do_so_again() -> None:
    made = reader()
    tables = Tables(row(ONE, rack=None))
    reading = await made.read(cast("SystemTables", tables))
    assert reading.found is not None
    assert [each.endpoint for each in reading.found.hosts] == [CONTACT]
    tables.describes_itself = True
    with pytest.raises(cql.RemoteProtocolError, match="has no rack"):
        await made.read(cast("SystemTables", tables))


def test_an_update_tells_whether_something_has_changed() -> None:
    made = reader()
    assert made.update(tables_of(), reading_of(ONE, TWO))
    before = made.topology
    assert hosts_of(made) == [ONE, TWO]
    assert before.keyspaces == KEYSPACES
    assert not made.update(tables_of(), reading_of(ONE, TWO))
    assert made.topology is before
    assert made.update(tables_of(), reading_of(ONE, TWO, keyspaces=OTHERS))
    assert made.update(tables_of(), reading_of(ONE, keyspaces=OTHERS))
    assert hosts_of(made) == [ONE]
    assert found_at(made, TWO) is None


def test_keyspaces_change_alone() -> None:
    made = reader()
    made.update(tables_of(), reading_of(ONE))
    assert not made.update_keyspaces(KEYSPACES)
    assert made.update_keyspaces(OTHERS)
    assert made.topology.keyspaces == OTHERS
    assert hosts_of(made) == [ONE]


def test_keyspaces_that_could_not_be_read_stay() -> None:
    made = reader()
    made.update(tables_of(), reading_of(ONE))
    assert made.update(tables_of("keyspaces"), reading_of(ONE, TWO, keyspaces={}))
    assert made.topology.keyspaces == KEYSPACES
    assert made.update(tables_of(), reading_of(ONE, TWO, keyspaces={}))
    assert made.topology.keyspaces == {}


def test_without_any_table_there_is_the_contact_point() -> None:
    made = reader()
    assert made.update(tables_of(), Reading())
    assert hosts_of(made) == [host_at(CONTACT)]


def test_without_any_table_known_hosts_and_keyspaces_stay() -> None:
    made = reader()
    made.update(tables_of(), reading_of(ONE, TWO))
    before = made.topology
    assert not made.update(tables_of(), Reading())
    assert made.topology is before
    assert found_at(made, TWO) == TWO.endpoint


@pytest.mark.parametrize("table", ["local", "peers"])
def test_hosts_that_are_not_in_the_rows_stay_where_a_table_could_not_be_read(table: str) -> None:
    made = reader()
    made.update(tables_of(), reading_of(ONE, TWO, THREE))
    moved = replace(TWO, endpoint=cql.Endpoint("10.0.0.9"))
    anew = replace(host(7), endpoint=ONE.endpoint)  # in place of ONE
    assert made.update(tables_of(table), reading_of(anew, moved))
    assert hosts_of(made) == [anew, moved, THREE]
    # the addresses of all hosts are those of the last complete reading
    assert found_at(made, THREE) == THREE.endpoint
    assert found_at(made, moved) is None
    assert made.update(tables_of(), reading_of(anew, moved))
    assert hosts_of(made) == [anew, moved]
    assert found_at(made, moved) == moved.endpoint


def test_a_first_reading_without_peers_finds_its_hosts_by_address() -> None:
    made = reader()
    assert made.update(tables_of("peers"), reading_of(ONE))
    assert found_at(made, ONE) == ONE.endpoint


# -- notes


def warnings(log: pytest.LogCaptureFixture) -> Sequence[str]:
    texts = [each.getMessage() for each in log.records if each.levelname == "WARNING"]
    log.clear()
    return texts


def test_each_note_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    notes = NoteLog()
    assert not notes.log([])
    assert notes.log(["a", "b", "a"])
    assert warnings(caplog) == ["a", "b"]
    assert not notes.log(["b", "a"])
    assert warnings(caplog) == []
    assert notes.log(["a", "c"])
    assert warnings(caplog) == ["c"]


def test_of_many_notes_some_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"note {number}" for number in range(53)]
    notes = NoteLog()
    assert notes.log(texts[:50])
    assert warnings(caplog) == texts[:50]
    assert NoteLog().log(texts)
    assert warnings(caplog) == [*texts[:50], "and 3 more such notes on hosts"]


def test_so_many_notes_are_remembered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "MOST_NOTED", 2)
    notes = NoteLog()
    assert notes.log(["a", "b"])
    assert notes.log(["c"])
    assert not notes.log(["a"])  # there were three: the others are forgotten
    assert notes.log(["b"])
    assert warnings(caplog) == ["a", "b", "c", "b"]
