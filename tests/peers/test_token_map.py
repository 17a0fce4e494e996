"""Replicas and tokens as cassandra-driver finds them, in clusters that Hypothesis makes up.

The driver takes replicas datacenter by datacenter, and within one puts hosts that it passed over at
the first go behind those that it took: order is compared as far as the first of each datacenter.
Two things it does otherwise than the server. A host that it passed over twice counts twice, so that
it may find fewer hosts than there are replicas. And it forgets transient replicas before it counts
racks, so that these are compared where racks make no difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cassandra.metadata import Murmur3Token, ReplicationStrategy, TokenMap
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host as DriverHost
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.routing import murmur3_token
from cqlproto_anyio._metadata.topology import Host, Topology
from tests.support.topologies import clusters, host, replication_options, worth_asking

if TYPE_CHECKING:
    from collections.abc import Sequence


class Keyspace:
    def __init__(self, options: dict[str, str]) -> None:
        rest = {name: value for name, value in options.items() if name != "class"}
        self.replication_strategy = ReplicationStrategy.create(options["class"], rest)


class Metadata:
    def __init__(self, options: dict[str, str]) -> None:
        self.keyspaces = {"ks": Keyspace(options)}


def token_map(hosts: Sequence[Host], options: dict[str, str]) -> Any:
    """Return the driver's own map, of hosts that bear the ids of ours."""
    owners = {}
    for ours in hosts:
        theirs = DriverHost(ours.endpoint.address, SimpleConvictionPolicy, host_id=ours.host_id)
        theirs.set_location_info(ours.datacenter, ours.rack)
        owners.update({Murmur3Token(token): theirs for token in ours.tokens})
    return TokenMap(Murmur3Token, owners, sorted(owners), Metadata(options))


def firsts(replicas: Sequence[Any]) -> dict[str, Any]:
    """The first replica of each datacenter."""
    return {each.datacenter: each.host_id for each in reversed(replicas)}


def racks_count(hosts: Sequence[Host], options: dict[str, str]) -> bool:
    """Whether there are transient replicas in a datacenter of some racks, fewer than replicas."""
    for datacenter, factor in options.items():
        copies, _, transient = factor.partition("/")
        racks = {each.rack for each in hosts if each.datacenter == datacenter and each.tokens}
        if transient not in ("", "0") and 1 < len(racks) < int(copies):
            return True
    return False


@given(clusters(), replication_options())
def test_replicas(hosts: list[Host], options: dict[str, str]) -> None:
    ours = Topology(hosts, {"ks": options})
    theirs = token_map(hosts, options)
    racks = racks_count(hosts, options)
    for token in worth_asking(hosts):
        found = ours.replicas("ks", token)
        other = theirs.get_replicas("ks", Murmur3Token(token))
        ids = [each.host_id for each in found]
        assert len(set(ids)) == len(ids)
        if "replication_factor" in options:
            assert ids == [each.host_id for each in other]
        elif not racks:
            assert firsts(found) == firsts(other)
            counted_twice = len({each.host_id for each in other}) < len(other)
            assert {each.host_id for each in other} <= set(ids)
            assert counted_twice or len(ids) == len(other)


@pytest.mark.parametrize("strategy", ["LocalStrategy", "UnknownStrategy"])
def test_no_replicas(strategy: str) -> None:
    options = {"class": f"org.apache.cassandra.locator.{strategy}"}
    hosts = [host(0, tokens=[1])]
    assert token_map(hosts, options).get_replicas("ks", Murmur3Token(0)) == []
    assert Topology(hosts, {"ks": options}).replicas("ks", 0) == ()


@given(st.binary(min_size=1, max_size=200))
def test_tokens(key: bytes) -> None:
    assert murmur3_token(key) == Murmur3Token.from_key(key).value
