"""The pools of a session follow the topology."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster.host_pools import HostPools
from cqlproto_anyio._metadata.discovery import generated_id, host_at
from cqlproto_anyio._metadata.topology import Host, Topology
from cqlproto_anyio.hooks import active
from cqlproto_anyio.policies import Routing
from tests.support.topologies import host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto_anyio._network.pool import Pool


class FakePool:
    """The part of a pool that HostPools uses."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.state = SimpleNamespace(error=None)
        self.all: tuple[object, ...] = ()
        self.drained = False

    def drain(self) -> None:
        self.drained = True

    def close_idle(self, error: Exception) -> int:
        return len(self.all)

    def record(self) -> Host:
        return self.host


class Told(cql.Hooks):
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def host_added(self, record: Any) -> None:
        self.told.append(("added", record))

    def host_removed(self, record: Any) -> None:
        self.told.append(("removed", record))


def make(host: Host) -> Pool:
    return cast("Pool", FakePool(host))


def pools_of(
    hosts: Iterable[Host],
    local_dc: str | None = "dc1",
    hooks: cql.Hooks | None = None,
    **fields: Any,
) -> HostPools:
    pools = HostPools(Routing(**fields), local_dc, active(hooks))
    pools.update(Topology(hosts, {}), make)
    return pools


def test_hosts_are_added_and_removed() -> None:
    hooks = Told()
    one, two, three = host(0), host(1), host(2)
    pools = pools_of([one, two], hooks=hooks)
    assert sorted(each.endpoint.address for _, each in hooks.told) == ["10.0.0.1", "10.0.0.2"]
    kept, old = pools.by_id[two.host_id], pools.by_id[one.host_id]
    added, removed = pools.update(Topology([two, three], {}), make)
    assert [pool.host for pool in added] == [three]
    assert removed == {one.host_id}
    assert pools.by_id[two.host_id] is kept
    assert cast("FakePool", old).drained
    assert sorted(name for name, _ in hooks.told[2:]) == ["added", "removed"]
    assert [pool.host for pool in pools.at(three.endpoint)] == [three]
    assert not pools.at(one.endpoint)


def test_a_host_at_another_address_gets_another_pool() -> None:
    one = host(0)
    pools = pools_of([one])
    moved = Host(one.host_id, cql.Endpoint("10.0.0.9"), one.datacenter, one.rack)
    added, removed = pools.update(Topology([moved], {}), make)
    assert removed == {one.host_id}
    assert [pool.host for pool in added] == [moved]
    assert pools.by_id[one.host_id].host is moved


def test_a_generated_id_is_replaced_and_the_pool_is_kept() -> None:
    one = host(0)
    pools = pools_of([host_at(one.endpoint)])
    pool = pools.by_id[generated_id(one.endpoint)]
    assert pools.update(Topology([one], {}), make) == ([], set())
    assert pools.by_id == {one.host_id: pool}
    assert pool.host is one


def test_a_generated_id_is_replaced_by_that_of_the_host_at_the_same_address() -> None:
    one, two = host(0), host(1)
    pools = pools_of([host_at(two.endpoint)])
    pool = pools.by_id[generated_id(two.endpoint)]
    added, removed = pools.update(Topology([one, two], {}), make)
    assert [each.host for each in added] == [one]
    assert not removed
    assert pools.by_id[two.host_id] is pool


def test_of_two_hosts_at_one_address_one_keeps_the_pool() -> None:
    one = host(0)
    other = Host(host(1).host_id, one.endpoint, one.datacenter, one.rack)
    generated = host_at(one.endpoint)
    pools = pools_of([generated])
    pool = pools.by_id[generated.host_id]
    added, removed = pools.update(Topology([one, other], {}), make)
    assert not removed
    assert pools.by_id.keys() == {one.host_id, other.host_id}
    assert [each is pool for each in pools.by_id.values()].count(True) == 1
    assert set(pools.at(one.endpoint)) == {pool, *added}
    # a host whose id isn't known comes back: no pool is replaced by another
    before = dict(pools.by_id)
    added, removed = pools.update(Topology([one, other, generated], {}), make)
    assert [each.host for each in added] == [generated]
    pools.update(Topology([one, other], {}), make)
    assert pools.by_id == before
    assert cast("FakePool", added[0]).drained


def test_a_host_that_replaces_another_at_its_address_gets_another_pool() -> None:
    one = host(0)
    pools = pools_of([one])
    old = pools.by_id[one.host_id]
    following = Host(host(1).host_id, one.endpoint, one.datacenter, one.rack)
    added, removed = pools.update(Topology([following], {}), make)
    assert removed == {one.host_id}
    assert [pool.host for pool in added] == [following]
    assert cast("FakePool", old).drained


def test_nothing_is_left_after_clear() -> None:
    one, two = host(0), host(1)
    pools = pools_of([one, two])
    cast("FakePool", pools.by_id[one.host_id]).all = (object(),)
    pools.update(Topology([two], {}), make)
    pools.clear()
    assert not pools.all
    assert not pools.by_id
    assert not pools.at(two.endpoint)


def test_a_removed_pool_is_kept_until_its_requests_have_ended() -> None:
    one, two = host(0), host(1)
    pools = pools_of([one, two])
    old = pools.by_id[one.host_id]
    cast("FakePool", old).all = (object(),)
    pools.update(Topology([two], {}), make)
    assert set(pools.all) == {old, pools.by_id[two.host_id]}
    assert pools.close_idle(cql.SessionClosed("closed"))
    assert old in pools.all
    cast("FakePool", old).all = ()
    assert not pools.close_idle(cql.SessionClosed("closed"))
    assert old not in pools.all


def test_pools_are_ordered_by_data_centre() -> None:
    hosts = [host(0, "dc3"), host(1, "dc1"), host(2, "dc2"), host(3, "dc4")]
    pools = pools_of(hosts, remote_datacenters=("dc3", "dc2"))
    found = [[pool.host.datacenter for pool in each] for each in pools.by_distance()]
    assert found == [["dc1"], ["dc3"], ["dc2"]]
    pools = pools_of(hosts, remote_datacenters=("dc2", "dc1"))  # the local one is the nearest
    found = [[pool.host.datacenter for pool in each] for each in pools.by_distance()]
    assert found == [["dc1"], ["dc2"]]


def test_why_no_host_is_usable() -> None:
    one, two = host(0), host(1)
    failure = cql.ConnectionFailed("refused", host="a", stage="connect", elapsed=0.0)
    pools = pools_of([one])
    pools.by_id[one.host_id].state.error = failure
    assert pools.unusable() is failure
    assert isinstance(pools_of([one]).unusable(), cql.NoHostAvailable)  # it was not tried
    pools = pools_of([one, two])
    pools.by_id[one.host_id].state.error = failure
    error = pools.unusable()
    assert isinstance(error, cql.NoHostAvailable)
    assert failure in error.attempts
    assert pools.failures == [failure]


def test_a_filter_that_leaves_no_host() -> None:
    def fails(host: Host) -> bool:
        raise LookupError("not here")

    for host_filter, text in ((lambda host: False, "none of 2 hosts$"), (fails, "LookupError")):
        pools = pools_of([host(0), host(1)], host_filter=host_filter)
        assert not pools.by_id
        with pytest.raises(cql.ConfigError, match=text):
            raise pools.unusable()
