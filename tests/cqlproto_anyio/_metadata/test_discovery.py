"""Rows of the system tables become hosts, and invalid rows become notes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import RemoteProtocolError
from cqlproto_anyio import ConfigError, Endpoint
from cqlproto_anyio._metadata.discovery import (
    Addresses,
    HostReader,
    check_local_dc,
    infer_local_dc,
    read_keyspaces,
)
from cqlproto_anyio._metadata.topology import Host, Topology

CONTACT = Endpoint("10.0.0.1", 9142)
ZERO = ip_address("0.0.0.0")


def uid(number: int) -> UUID:
    return UUID(int=number)


def local_row(**columns: Any) -> dict[str, Any]:
    return {
        "key": "local",
        "host_id": uid(1),
        "data_center": "eu",
        "rack": "a",
        "tokens": {"3", "-5"},
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "rpc_address": ip_address("10.0.0.1"),
        "rpc_port": 9142,
        "release_version": "5.0.5",
        "schema_version": uid(99),
        **columns,
    }


def peer_row(number: int, **columns: Any) -> dict[str, Any]:
    """A row of system.peers_v2."""
    address = ip_address(f"10.0.0.{number}")
    return {
        "peer": address,
        "native_address": address,
        "native_port": 9042,
        "host_id": uid(number),
        "data_center": "eu",
        "rack": "b",
        "tokens": {str(number)},
        "release_version": "5.0.5",
        "schema_version": uid(99),
        **columns,
    }


def old_row(number: int, **columns: Any) -> dict[str, Any]:
    """A row of system.peers."""
    row = peer_row(number)
    row["rpc_address"] = row.pop("native_address")
    del row["native_port"]
    return {**row, **columns}


def read(local: dict[str, Any], *peers: dict[str, Any], **arguments: Any) -> Any:
    reader = HostReader(local, contact=arguments.pop("contact", CONTACT), **arguments)
    reader.add(peers)
    return reader.found()


def endpoints(*peers: dict[str, Any], **arguments: Any) -> list[str]:
    return [str(host.endpoint) for host in read(local_row(), *peers, **arguments).hosts[1:]]


def test_a_host_of_each_row() -> None:
    found = read(local_row(), peer_row(2), old_row(3))
    one, two, three = found.hosts
    assert one == Host(uid(1), CONTACT, "eu", "a", (-5, 3), "5.0.5", uid(99))
    assert two == Host(uid(2), Endpoint("10.0.0.2", 9042), "eu", "b", (2,), "5.0.5", uid(99))
    # system.peers knows no port
    assert three == Host(uid(3), Endpoint("10.0.0.3", 9142), "eu", "b", (3,), "5.0.5", uid(99))
    assert found.partitioner.endswith("Murmur3Partitioner")
    assert found.notes == ()


def test_pages_are_as_good_as_all_at_once() -> None:
    rows = [peer_row(number) for number in range(2, 9)]
    reader = HostReader(local_row(), contact=CONTACT)
    for row in rows:
        reader.add([row])
    assert reader.found().hosts == read(local_row(), *rows).hosts


def test_no_address_means_the_next_one() -> None:
    nowhere = ip_address("::")
    assert endpoints(peer_row(2, native_address=ZERO)) == ["10.0.0.2:9042"]
    assert endpoints(peer_row(2, native_address=nowhere)) == ["10.0.0.2:9042"]
    assert endpoints(peer_row(2, native_address=None, native_port=None)) == ["10.0.0.2:9142"]
    assert endpoints(peer_row(2, native_port=0)) == ["10.0.0.2:9142"]
    assert endpoints(peer_row(2, native_port=70_000)) == ["10.0.0.2:9142"]
    assert endpoints(old_row(2, rpc_address=ZERO)) == ["10.0.0.2:9142"]
    found = read(local_row(), peer_row(2, native_address=ZERO, peer=nowhere))
    assert len(found.hosts) == 1
    assert found.notes == (f"the peer {uid(2)} has no address: it is left out",)


@pytest.mark.parametrize("column", ["host_id", "data_center", "rack", "tokens"])
@pytest.mark.parametrize("value", [None, 7, "", frozenset()])
def test_rows_that_lack_what_matters_are_left_out(column: str, value: object) -> None:
    found = read(local_row(), peer_row(2, **{column: value}), peer_row(3))
    assert [host.host_id for host in found.hosts] == [uid(1), uid(3)]
    assert found.notes == (f"the peer 10.0.0.2:9042 has no {column}: it is left out",)


@pytest.mark.parametrize("column", ["data_center", "rack", "tokens"])
def test_what_a_known_host_lacks_is_taken_from_what_was_known(column: str) -> None:
    known = {host.host_id: host for host in read(local_row(), peer_row(2)).hosts}
    row = peer_row(2, release_version="6.0")
    row[column] = None
    found = read(local_row(), row, known=known)
    two = found.hosts[1]
    assert two.release_version == "6.0"
    assert (two.datacenter, two.rack, two.tokens) == ("eu", "b", (2,))
    assert found.notes == (
        f"the peer 10.0.0.2:9042 has no {column}: the values known before are used",
    )


def test_what_is_left_of_a_node_that_is_gone_does_not_keep_it() -> None:
    known = {host.host_id: host for host in read(local_row(), peer_row(2)).hosts}
    row = {"peer": ip_address("10.0.0.2"), "native_address": None, "schema_version": uid(99)}
    assert [host.host_id for host in read(local_row(), row, known=known).hosts] == [uid(1)]


def test_tokens() -> None:
    def tokens(**columns: Any) -> object:
        return read(local_row(**columns)).hosts[0].tokens

    assert tokens(tokens=["1", "-9223372036854775808"]) == (-(2**63), 1)
    # a node without tokens only coordinates; other values are invalid
    assert tokens(tokens=None) == tokens(tokens={"x"}) == tokens(tokens={None}) == ()
    order = "org.apache.cassandra.dht.ByteOrderedPartitioner"
    assert tokens(partitioner=order, tokens={"00ff"}) == ()
    assert len(read(local_row(partitioner=order), peer_row(2, tokens={"00ff"})).hosts) == 2
    without = peer_row(2)
    del without["tokens"]
    assert read(local_row(), without).hosts[1].tokens == ()
    assert read(local_row(partitioner=None)).partitioner.endswith("Murmur3Partitioner")
    known = {uid(1): read(local_row()).hosts[0]}
    assert read(local_row(tokens=None), known=known).hosts[0].tokens == (-5, 3)


def test_the_same_id_twice() -> None:
    again = peer_row(3, host_id=uid(2))
    itself = peer_row(4, host_id=uid(1))
    found = read(local_row(), peer_row(2), again, itself)
    assert [str(host.endpoint) for host in found.hosts] == ["10.0.0.1:9142", "10.0.0.2:9042"]
    assert found.notes == (
        "the peer 10.0.0.3:9042 has the host_id of 10.0.0.2:9042: it is left out",
        "the peer 10.0.0.4:9042 has the host_id of 10.0.0.1:9142: it is left out",
    )


@pytest.mark.parametrize("column", ["host_id", "data_center", "rack"])
def test_a_node_that_does_not_know_itself(column: str) -> None:
    row = local_row()
    del row[column]
    with pytest.raises(RemoteProtocolError, match=f"system.local of 10.0.0.1:9142 has no {column}"):
        HostReader(row, contact=CONTACT)


def test_translation() -> None:
    def translate(endpoint: Endpoint) -> Endpoint:
        return Endpoint("proxy", 9000 + int(endpoint.address[-1]), endpoint.address)

    two = read(local_row(), peer_row(2), translate=translate).hosts[1]
    assert two.endpoint == Endpoint("proxy", 9002, "10.0.0.2")

    def fail(endpoint: Endpoint) -> Endpoint:
        raise LookupError("not here")

    found = read(local_row(), peer_row(2), translate=fail)
    assert [host.endpoint for host in found.hosts] == [CONTACT]
    assert found.notes == (
        "the peer 10.0.0.2:9042 is left out: Config.translate raised LookupError: not here",
    )
    found = read(local_row(), peer_row(2), translate=lambda endpoint: Endpoint("proxy", "9002"))  # type: ignore[arg-type]
    [note] = found.notes
    assert note == (
        "the peer 10.0.0.2:9042 is left out: Config.translate returned what can't be connected to:"
        " port must be a TCP port from 1 to 65535, got '9002'"
    )
    found = read(local_row(), peer_row(2), translate=lambda endpoint: "10.0.0.2")
    assert found.notes == (
        "the peer 10.0.0.2:9042 is left out: Config.translate returned a str, not an Endpoint",
    )


def test_an_address_bears_the_name_that_led_there() -> None:
    names = {("10.0.0.1", 9142): "one", ("10.0.0.2", 9042): "two", ("10.0.0.3", 1): "other port"}
    one, two, three = read(local_row(), peer_row(2), peer_row(3), names=names).hosts
    assert one.endpoint == Endpoint("10.0.0.1", 9142, "one")
    assert two.endpoint == Endpoint("10.0.0.2", 9042, "two")
    assert three.endpoint == Endpoint("10.0.0.3", 9042)
    own = Endpoint("10.0.0.2", 9042, "mine")
    assert (
        read(local_row(), peer_row(2), names=names, translate=lambda _: own).hosts[1].endpoint
        == own
    )


def test_events_find_hosts_by_the_address_before_translation() -> None:
    def translate(endpoint: Endpoint) -> Endpoint:
        return Endpoint("proxy", 9000 + int(endpoint.address[-1]))

    contact = Endpoint("proxy", 9001)
    found = read(local_row(), peer_row(2), peer_row(3), translate=translate, contact=contact)
    find = found.addresses.find
    assert find(ip_address("10.0.0.1"), 9142) == contact
    assert find(ip_address("10.0.0.2"), 9042) == Endpoint("proxy", 9002)
    assert find(ip_address("10.0.0.3"), 9142) == Endpoint("proxy", 9003)  # the node's TLS port
    assert find(ip_address("10.0.0.4"), 9042) is None
    nowhere = {"rpc_address": None, "rpc_port": None}
    assert read(local_row(**nowhere)).addresses.find(ip_address("10.0.0.1"), 9142) == CONTACT


def test_several_hosts_at_one_address() -> None:
    two = {("::1", port): Endpoint("::1", port) for port in (1, 2)}
    addresses = Addresses(two)
    assert addresses.find(ip_address("::1"), 2) == Endpoint("::1", 2)
    assert addresses.find(ip_address("::1"), 3) is None


cells = st.one_of(
    st.none(),
    st.integers(-1, 70_000),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.ip_addresses(),
    st.uuids(),
    st.sampled_from([uid(1), uid(2)]),
    st.frozensets(st.one_of(st.integers().map(str), st.text(max_size=2), st.none()), max_size=3),
    st.lists(st.floats(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)
rows = st.dictionaries(st.sampled_from([*peer_row(2), *old_row(2), *local_row()]), cells)


@given(st.lists(st.tuples(st.integers(2, 5), rows), max_size=6), rows, st.booleans(), st.booleans())
def test_nonsense_gives_hosts_that_make_sense(
    peers: list[tuple[int, dict[str, Any]]], local: dict[str, Any], whole: bool, knows: bool
) -> None:
    known = {host.host_id: host for host in read(local_row(), peer_row(2)).hosts}
    others = [{**peer_row(number), **row} if whole else row for number, row in peers]
    own = {**local_row(), **local} if whole else local
    try:
        found = read(own, *others, known=known if knows else {})
    except RemoteProtocolError:
        assert not all(own.get(name) for name in ("host_id", "data_center", "rack")) or any(
            type(own[name]) is not kind
            for name, kind in (("host_id", UUID), ("data_center", str), ("rack", str))
        )
        return
    assert len({host.host_id for host in found.hosts}) == len(found.hosts)
    assert found.hosts[0].endpoint == CONTACT
    for host in found.hosts:
        assert host.datacenter
        assert host.rack
        assert list(host.tokens) == sorted(host.tokens)
        assert 0 < host.endpoint.port < 65_536
        assert host.endpoint.address not in ("0.0.0.0", "::")
    completed = [note for note in found.notes if note.endswith("are used")]
    left_out = len(found.notes) - len(completed)
    assert len(found.hosts) == 1 + len(others) - left_out
    Topology(found.hosts, {"ks": {"class": "SimpleStrategy", "replication_factor": "2"}}).replicas(
        "ks", 0
    )


def test_keyspaces() -> None:
    options = {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "2"}
    keyspaces, notes = read_keyspaces(
        [
            {"keyspace_name": "a", "replication": options},
            {"keyspace_name": "b", "replication": None},
            {"keyspace_name": None, "replication": options},
            {"keyspace_name": "c", "replication": {"class": "X", "dc1": 3}},
            {},
        ]
    )
    assert keyspaces == {"a": options, "c": {"class": "X", "dc1": "3"}}
    assert [note.split(":")[0] for note in notes] == [
        f"the keyspace {name} has no replication options" for name in ("'b'", "None", "None")
    ]


# -- the local datacenter


def topology(**datacenters: str) -> Topology:
    hosts = [
        Host(uid(number), Endpoint(f"10.0.0.{number}"), datacenter, "r")
        for number, datacenter in enumerate(datacenters.values(), 1)
    ]
    return Topology(hosts, {})


def at(*numbers: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{number}") for number in numbers]


def test_the_datacenter_of_the_contact_points() -> None:
    known = topology(one="eu", two="us", three="eu")
    assert infer_local_dc(known, at(1)) == "eu"
    assert infer_local_dc(known, at(1, 3)) == "eu"
    assert infer_local_dc(known, at(9, 2)) == "us"
    named = Endpoint("10.0.0.2", 9042, "name")
    assert infer_local_dc(known, [named, Endpoint("10.0.0.1", 9999)]) == "us"


def test_contact_points_in_several_datacenters() -> None:
    known = topology(one="eu", two="us", three="eu")
    with pytest.raises(ConfigError) as info:
        infer_local_dc(known, [*at(3, 9, 2), Endpoint("10.0.0.1", 9042, "db1")])
    assert str(info.value) == (
        "the contact points are in several datacenters: pass local_dc='eu' or local_dc='us'"
        " ('eu': 10.0.0.3:9042, db1 (10.0.0.1:9042); 'us': 10.0.0.2:9042)"
    )


def test_contact_points_that_are_no_host() -> None:
    assert infer_local_dc(topology(one="eu", two="eu"), at(7)) == "eu"
    with pytest.raises(ConfigError) as info:
        infer_local_dc(topology(one="eu", two="us"), at(7, 8))
    assert str(info.value) == (
        "no contact point is a host's address (10.0.0.7:9042, 10.0.0.8:9042):"
        " pass local_dc='eu' or local_dc='us'"
    )


def test_a_datacenter_that_is_not_there() -> None:
    known = topology(one="eu", two="us")
    check_local_dc(known, "eu")
    with pytest.raises(ConfigError) as info:
        check_local_dc(known, "EU")
    assert str(info.value) == ("no host is in local_dc='EU'; the datacenters are: 'eu', 'us'")
