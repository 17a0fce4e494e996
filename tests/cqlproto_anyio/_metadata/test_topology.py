"""Replicas in generated clusters, compared with a direct implementation of each strategy."""

from __future__ import annotations

import time
import tracemalloc
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.routing import MAX_TOKEN, MIN_TOKEN
from cqlproto_anyio._metadata import topology as topology_module
from cqlproto_anyio._metadata.topology import Host, Topology
from cqlproto_anyio.endpoint import Endpoint
from tests.support.topologies import (
    clusters,
    host,
    host_id,
    network_replicas,
    replication_options,
    simple_replicas,
    tokens,
    worth_asking,
)

SIMPLE = {"class": "SimpleStrategy", "replication_factor": "2"}
NETWORK = "org.apache.cassandra.locator.NetworkTopologyStrategy"


def expected(hosts: list[Host], options: dict[str, str], token: int) -> list[Host]:
    if "replication_factor" in options:
        return simple_replicas(hosts, token, options["replication_factor"])
    found: list[tuple[int, list[Host]]] = []
    for datacenter in sorted({each.datacenter for each in hosts} & options.keys()):
        replicas = network_replicas(hosts, token, datacenter, options[datacenter])
        if replicas:
            ends = replicas[0].tokens
            found.append((min((end - token) % 2**64 for end in ends), replicas))
    return [host for _, replicas in sorted(found, key=lambda pair: pair[0]) for host in replicas]


@given(clusters(), replication_options(), st.lists(tokens, max_size=5))
def test_replicas(hosts: list[Host], options: dict[str, str], more: list[int]) -> None:
    topology = Topology(hosts, {"ks": options})
    for token in [*worth_asking(hosts), *more]:
        assert list(topology.replicas("ks", token)) == expected(hosts, options, token)


def test_a_rack_may_not_take_the_place_of_another() -> None:
    racks = ["r1", "r1", "r1", "r2", "r2"]
    hosts = [host(number, "dc1", rack, [number]) for number, rack in enumerate(racks)]
    for copies, expected in (("1", [0]), ("2", [0, 3]), ("3", [0, 1, 3]), ("4", [0, 1, 2, 3])):
        topology = Topology(hosts, {"ks": {"class": NETWORK, "dc1": copies}})
        assert list(topology.replicas("ks", -1)) == [hosts[number] for number in expected]
    # The first two are full replicas: they are chosen among all replicas.
    topology = Topology(hosts, {"ks": {"class": NETWORK, "dc1": "3/1"}})
    assert list(topology.replicas("ks", -1)) == hosts[:2]


@given(clusters(), replication_options())
def test_replicas_are_the_same_when_asked_again(hosts: list[Host], options: dict[str, str]) -> None:
    topology = Topology(hosts, {"ks": options})
    asked = worth_asking(hosts)
    first = [topology.replicas("ks", token) for token in asked]
    assert [topology.replicas("ks", token) for token in asked] == first


@given(clusters(), replication_options())
def test_what_is_kept_is_bounded(hosts: list[Host], options: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology_module, "_MAX_CACHED", 6)
        topology = Topology(hosts, {"ks": options})
        for token in worth_asking(hosts) * 2:
            assert list(topology.replicas("ks", token)) == expected(hosts, options, token)
        for placement in topology.placements("ks").values():
            kept = placement._cached.values()
            assert sum(map(len, kept)) <= 6 + len(hosts)


@given(clusters(), st.integers(MIN_TOKEN, MAX_TOKEN))
def test_everywhere(hosts: list[Host], token: int) -> None:
    topology = Topology(hosts, {"ks": {"class": "org.apache.cassandra.locator.EverywhereStrategy"}})
    holding = [host for host in hosts if host.tokens]
    assert list(topology.replicas("ks", token)) == simple_replicas(hosts, token, str(len(holding)))


UNKNOWN = [
    {"class": "org.apache.cassandra.locator.LocalStrategy"},
    {"class": "org.apache.cassandra.locator.MetaStrategy"},
    {"class": "com.example.SimpleStrategyOfOurs", "replication_factor": "3"},
    {"class": "SimpleStrategy"},
    {"class": "SimpleStrategy", "replication_factor": "many"},
    {"class": "SimpleStrategy", "replication_factor": "-1"},
    {"class": "SimpleStrategy", "replication_factor": "9" * 5000},
    {"class": "SimpleStrategy", "replication_factor": "1/2"},
    {"class": NETWORK},
    {"class": NETWORK, "dc1": "['r1', 'r2']"},
    {"class": NETWORK, "replication_factor": "3"},
    {"replication_factor": "3"},
    {},
]


@pytest.mark.parametrize("options", UNKNOWN, ids=repr)
def test_no_replicas_are_known(options: dict[str, str]) -> None:
    topology = Topology([host(0, tokens=[1]), host(1, tokens=[2])], {"ks": options})
    assert topology.replicas("ks", 0) == ()
    assert topology.replicas("other", 0) == ()


@pytest.mark.parametrize("partitioner", ["RandomPartitioner", "ByteOrderedPartitioner", ""])
def test_no_replicas_without_murmur3(partitioner: str) -> None:
    hosts = [host(0, tokens=[1 << 126])]
    known = Topology(hosts, {"ks": SIMPLE}, f"org.apache.cassandra.dht.{partitioner}")
    assert known.replicas("ks", 0) == ()
    assert known.hosts[host_id(0)] is hosts[0]


def test_tokens_beyond_64_bits_are_left_out() -> None:
    hosts = [host(0, tokens=[MAX_TOKEN + 1, 5, -(1 << 126)]), host(1, tokens=[MIN_TOKEN])]
    topology = Topology(hosts, {"ks": SIMPLE})
    assert list(topology.ring.tokens) == [MIN_TOKEN, 5]
    assert topology.replicas("ks", 0) == tuple(hosts)


def test_a_token_of_two_hosts_is_the_later_ones() -> None:
    hosts = [host(0, tokens=[1, 7]), host(1, tokens=[7])]
    topology = Topology(hosts, {"ks": {**SIMPLE, "replication_factor": "1"}})
    assert topology.replicas("ks", 5) == (hosts[1],)
    assert topology.replicas("ks", 8) == (hosts[0],)


def test_hosts_and_datacenters() -> None:
    hosts = [host(0, "b"), host(1, "a"), host(2, "b")]
    keyspaces = {"ks": SIMPLE}
    topology = Topology(iter(hosts), keyspaces)
    assert list(topology.hosts.values()) == hosts
    assert topology.datacenters == ("a", "b")
    assert topology.keyspaces == keyspaces
    keyspaces["more"] = SIMPLE
    assert "more" not in topology.keyspaces
    assert repr(topology) == "<Topology: 3 hosts, 1 keyspaces>"
    with pytest.raises(TypeError):
        topology.hosts[host_id(4)] = hosts[0]  # type: ignore[index]  # it is read-only, as tested


def test_the_last_of_two_hosts_with_one_id() -> None:
    old, new = host(0, tokens=[1]), Host(host_id(0), Endpoint("10.9.9.9"), "dc1", "r1", (2,))
    topology = Topology([old, new], {"ks": SIMPLE})
    assert topology.hosts == {host_id(0): new}
    assert list(topology.ring.tokens) == [2]


def test_no_hosts() -> None:
    topology = Topology([], {"ks": SIMPLE})
    assert topology.replicas("ks", 0) == ()
    assert topology.datacenters == ()


def test_hosts_are_values() -> None:
    assert host(1, tokens=[1]) == host(1, tokens=[1])
    assert host(1, tokens=[1]) != host(1, tokens=[2])
    assert hash(host(1, tokens=[1])) == hash(host(1, tokens=[2]))


@given(
    clusters(),
    st.dictionaries(st.sampled_from("abc"), replication_options()),
    st.dictionaries(st.sampled_from("bcd"), st.none() | replication_options()),
)
def test_with_keyspaces(
    hosts: list[Host],
    before: dict[str, dict[str, str]],
    changes: dict[str, dict[str, str] | None],
) -> None:
    old = Topology(hosts, before)
    asked = worth_asking(hosts)
    known = {name: [old.replicas(name, token) for token in asked] for name in before}
    changed = old.with_keyspaces(changes)
    after = {name: options for name, options in {**before, **changes}.items() if options}
    assert changed.keyspaces == after
    assert changed.hosts == old.hosts
    anew = Topology(hosts, after)
    for name in "abcd":
        for place, token in enumerate(asked):
            assert changed.replicas(name, token) == anew.replicas(name, token)
            assert old.replicas(name, token) == (known[name][place] if name in known else ())


def test_what_changes_with_a_keyspace_is_that_alone() -> None:
    options = {"class": NETWORK, "dc1": "1", "dc2": "2"}
    hosts = [host(number, f"dc{1 + number % 2}", tokens=[number]) for number in range(6)]
    topology = Topology(hosts, {"one": options, "two": SIMPLE})
    shared = topology.with_keyspaces({"two": options, "three": {**options, "dc1": "2"}})
    one, two, three = (shared.placements(name) for name in ("one", "two", "three"))
    for name in ("dc1", "dc2"):
        assert one[name] is two[name] is topology.placements("one")[name]
        assert one[name].ring is three[name].ring
    assert three["dc2"] is one["dc2"]
    assert three["dc1"] is not one["dc1"]


def test_placements_that_nobody_asks_for_are_dropped() -> None:
    topology = Topology([host(0, tokens=[1])], {})
    for factor in range(2500):
        options = {"class": "SimpleStrategy", "replication_factor": str(factor)}
        topology = topology.with_keyspaces({"ks": options})
        assert len(topology.replicas("ks", 0)) == min(factor, 1)
        assert len(topology._placements) <= 1001


def test_a_thousand_hosts_of_256_tokens() -> None:
    """The topology takes less than a second of CPU time and 8 MB besides the hosts."""
    random = Random(7)

    def some_tokens() -> tuple[int, ...]:
        return tuple([random.randrange(MIN_TOKEN, MAX_TOKEN) for _ in range(256)])

    hosts = [
        Host(UUID(int=number), Endpoint("10.0.0.1"), "dc1", f"r{number % 3}", some_tokens())
        for number in range(1000)
    ]
    spent = []
    for _ in range(3):
        start = time.process_time()
        topology = Topology(hosts, {"ks": {"class": NETWORK, "dc1": "3"}})
        assert len(topology.replicas("ks", 0)) == 3
        spent.append(time.process_time() - start)
    assert min(spent) < 1
    del topology
    tracemalloc.start()
    try:
        topology = Topology(hosts, {"ks": {"class": NETWORK, "dc1": "3"}})
        topology.replicas("ks", 0)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 8e6
    assert peak < 40e6
