"""Query plans in generated clusters: which host is first, and that each occurs once.

Here a pool is the number of its host, wrapped in a list, which is neither hashable nor equal by
identity alone.
"""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages.metadata import Column
from cqlproto.routing import MAX_TOKEN, MIN_TOKEN, key_function, murmur3_token
from cqlproto_anyio._metadata.topology import Host, Topology
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.policies import routing as routing_module
from cqlproto_anyio.policies.routing import Router, Routing, distance
from tests.support.topologies import (
    DATACENTERS,
    clusters,
    host,
    host_id,
    replication_options,
    tokens,
    worth_asking,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Pool = list[int]


async def awaited(host: Host) -> bool:
    """Returns a coroutine, which is truthy and so would accept every host."""
    return False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_aware", 1),
        ("rack", 5),
        ("remote_datacenters", "eu"),
        ("remote_datacenters", 5),
        ("remote_datacenters", ["eu", b"us"]),
        ("remote_hosts", -1),
        ("remote_hosts", True),
        ("remote_hosts", 1.0),
        ("host_filter", "eu"),
        ("host_filter", ["eu"]),
        ("host_filter", awaited),
    ],
)
def test_what_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be"):
        Routing(**{name: value})


def test_names_in_any_order_that_is_one() -> None:
    routing = Routing(remote_datacenters=["eu", "us"])  # type: ignore[arg-type]
    assert routing == Routing(remote_datacenters=("eu", "us"))
    assert hash(routing) == hash(Routing(remote_datacenters=("eu", "us")))


NETWORK = {"class": "NetworkTopologyStrategy"}
SIMPLE = {"class": "SimpleStrategy"}


def pools_of(hosts: Iterable[Host]) -> dict[UUID, Pool]:
    return {host.host_id: [host.host_id.int] for host in hosts}


def no_even(host: Host) -> bool:
    return host.host_id.int % 2 == 1


routings = st.builds(
    Routing,
    token_aware=st.sampled_from([True, True, True, False]),
    rack=st.sampled_from([None, "r1", "r2"]),
    remote_datacenters=st.lists(st.sampled_from(DATACENTERS), unique=True, max_size=3).map(tuple),
    remote_hosts=st.integers(0, 3),
    host_filter=st.sampled_from([None, None, no_even]),
)


class Case:
    """A router of a generated cluster, and the arguments that it was made from."""

    def __init__(
        self,
        hosts: list[Host],
        options: dict[str, str],
        routing: Routing,
        local_dc: str | None,
        live: list[Host],
    ) -> None:
        self.hosts = hosts
        self.routing = routing
        self.local_dc = local_dc
        self.topology = Topology(hosts, {"ks": options})
        self.pools = pools_of(live)
        self.router: Router[Pool] = Router(self.topology, routing, local_dc, self.pools)
        self.local = [each for each in live if distance(each, routing, local_dc) == "local"]
        self.remote = [each for each in live if distance(each, routing, local_dc) == "remote"]

    def __repr__(self) -> str:
        return f"<{self.hosts} {self.topology.keyspaces} {self.routing} {self.pools}>"

    def is_near(self, host: Host) -> bool:
        return self.routing.rack is not None and host.rack == self.routing.rack

    def local_replicas(self, token: int) -> list[Host]:
        return [each for each in self.topology.replicas("ks", token) if each in self.local]

    def by_rack(self, hosts: list[Host]) -> list[Pool]:
        return [
            self.pools[each.host_id] for each in sorted(hosts, key=lambda h: not self.is_near(h))
        ]


@st.composite
def cases(draw: Callable[..., object]) -> Case:
    hosts: list[Host] = draw(clusters())  # type: ignore[assignment]  # what the strategy makes
    order: list[Host] = draw(st.permutations(hosts))  # type: ignore[assignment]  # likewise
    some: int = draw(st.integers(0, len(hosts)))  # type: ignore[assignment]  # likewise
    options: dict[str, str] = draw(replication_options())  # type: ignore[assignment]  # likewise
    routing: Routing = draw(routings)  # type: ignore[assignment]  # likewise
    local_dc: str | None = draw(  # type: ignore[assignment]  # likewise
        st.sampled_from([*DATACENTERS, None])
    )
    return Case(hosts, options, routing, local_dc, order[some:])


def same(found: Iterable[Pool], expected: Iterable[Pool]) -> bool:
    """Return whether these are the same objects in the same order."""
    return [id(pool) for pool in found] == [id(pool) for pool in expected]


def split(case: Case, pools: Iterable[Pool]) -> tuple[list[Pool], list[Pool]]:
    near = {id(case.pools[each.host_id]) for each in case.local if case.is_near(each)}
    pools = list(pools)
    return [p for p in pools if id(p) in near], [p for p in pools if id(p) not in near]


def ids(pools: Iterable[Pool]) -> list[int]:
    return [id(pool) for pool in pools]


# --- distances ------------------------------------------------------------------------------------


def test_distance() -> None:
    routing = Routing(remote_datacenters=("dc2",))
    assert distance(host(1, "dc1"), routing, "dc1") == "local"
    assert distance(host(1, "dc2"), routing, "dc1") == "remote"
    assert distance(host(1, "dc3"), routing, "dc1") == "ignored"
    assert distance(host(1, "dc3"), routing, None) == "local"
    assert distance(
        host(1, "dc2"), Routing(remote_datacenters=("dc2",), remote_hosts=0), "dc1"
    ) == ("ignored")
    odd = Routing(remote_datacenters=("dc2",), host_filter=no_even)
    assert distance(host(1), odd, "dc1") == "ignored"
    assert distance(host(0), odd, "dc1") == "local"
    assert distance(host(1, "dc2"), odd, "dc1") == "ignored"


def test_routing_is_a_value() -> None:
    assert Routing() == Routing(True, None, (), 2, None)
    assert hash(Routing(rack="r1")) == hash(Routing(rack="r1"))


@given(cases())
def test_local_and_remote(case: Case) -> None:
    assert same(case.router.local, case.by_rack(case.local))
    expected = []
    for datacenter in case.routing.remote_datacenters:
        there = [each for each in case.remote if each.datacenter == datacenter]
        expected += there[: case.routing.remote_hosts]
    assert same(case.router.remote, [case.pools[each.host_id] for each in expected])


def test_pools_of_unknown_hosts_are_left_out() -> None:
    router = Router(Topology([host(0)], {}), Routing(), None, pools_of([host(0), host(1)]))
    assert router.local == ([1],)


# --- replicas -------------------------------------------------------------------------------------


@given(cases(), st.lists(tokens, max_size=5))
def test_replicas(case: Case, more: list[int]) -> None:
    # Twice: the second result comes from the cache.
    for token in [*worth_asking(case.hosts), *more] * 2:
        expected = case.by_rack(case.local_replicas(token))
        assert same(case.router.replicas("ks", token), expected)
    assert case.router.replicas("other", 0) == ()


@given(cases())
def test_replicas_that_are_alike(case: Case) -> None:
    """The pools that a request may use equally, with or without a token; the first of an LWT."""
    near, far = split(case, case.router.local)
    assert same(case.router.near, near or far)
    for token in worth_asking(case.hosts):
        replicas = case.local_replicas(token)
        near, far = split(case, [case.pools[each.host_id] for each in replicas])
        assert same(case.router.nearest("ks", token), near or far)
        assert same(case.router.primaries("ks", token), [case.pools[h.host_id] for h in replicas])
    assert case.router.nearest("other", 0) == case.router.primaries("other", 0) == ()


@given(cases(), st.integers(0, 60))
def test_what_is_kept_is_bounded(case: Case, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing_module, "_MAX_CACHED", most)
        router = Router(case.topology, case.routing, case.local_dc, case.pools)
        for token in worth_asking(case.hosts) * 2:
            expected = case.by_rack(case.local_replicas(token))
            assert same(router.replicas("ks", token), expected)
            filled = [
                cell
                for table in router._tables.values()
                for cell in table.cells
                if cell is not None
            ]
            assert sum(len(cell) + 1 for cell in filled) <= most + len(case.hosts) + 1


def test_keyspaces_of_the_same_replication_share_what_is_kept() -> None:
    hosts = [host(number, tokens=[number]) for number in range(5)]
    one = {**SIMPLE, "replication_factor": "2"}
    keyspaces = {"a": one, "b": dict(one), "c": {**one, "replication_factor": "3"}}
    router = Router(Topology(hosts, keyspaces), Routing(), None, pools_of(hosts))
    assert router.replicas("a", 1) is router.replicas("b", 1)
    assert len(router.replicas("c", 1)) == 3
    assert len({id(table) for table in router._tables.values()}) == 2


@given(cases(), st.lists(st.integers(0, 14), unique=True))
def test_pools_of_given_hosts(case: Case, numbers: list[int]) -> None:
    """The replicas of a tablet, some of which may be unknown, down or remote."""
    by_id = {each.host_id: each for each in case.local}
    asked = [host_id(number) for number in numbers]
    expected = case.by_rack([by_id[each] for each in asked if each in by_id])
    assert same(case.router.pools(asked), expected)


# --- whether a token matters ----------------------------------------------------------------------


@given(cases())
def test_without_a_token_where_it_matters_not(case: Case) -> None:
    needed = case.router.needs_token("ks")
    ordered = case.router.needs_token("ks", primary_first=True)
    found = [case.router.replicas("ks", token) for token in worth_asking(case.hosts)]
    everyone = set(ids(case.router.local))
    if not case.routing.token_aware or len(everyone) < 2:
        assert not ordered
    elif not ordered:
        assert not any(found)
    if not needed and case.routing.token_aware and len(everyone) > 1:
        # Each keyspace has all hosts as replicas, or none.
        assert all(set(ids(each)) in (set(), everyone) for each in found)
        assert len({len(each) for each in found}) <= 1
    assert ordered or not needed
    assert not case.router.needs_token(None)
    assert not case.router.needs_token("other")


def ring(datacenter: str, count: int, first: int = 0) -> list[Host]:
    return [host(first + n, datacenter, tokens=[first + n]) for n in range(count)]


THREE = ring("dc1", 3)


@pytest.mark.parametrize(
    ("options", "routing", "live", "needed", "ordered"),
    [
        ({**NETWORK, "dc1": "2"}, Routing(), THREE, True, True),
        ({**NETWORK, "dc1": "3"}, Routing(), THREE, False, True),
        ({**NETWORK, "dc1": "5"}, Routing(), THREE[:2], False, True),
        ({**NETWORK, "dc1": "3"}, Routing(rack="r1"), THREE, False, True),
        ({**NETWORK, "dc1": "2"}, Routing(), THREE[:1], False, False),
        ({**NETWORK, "dc1": "2"}, Routing(), [], False, False),
        ({**NETWORK, "dc1": "2"}, Routing(token_aware=False), THREE, False, False),
        ({**NETWORK, "dc1": "0"}, Routing(), THREE, False, False),
        ({**NETWORK, "dc2": "2"}, Routing(), THREE, False, False),
        ({**SIMPLE, "replication_factor": "3"}, Routing(), THREE, True, True),
        ({**SIMPLE, "replication_factor": "5"}, Routing(), THREE, False, True),
        ({"class": "EverywhereStrategy"}, Routing(), THREE, False, True),
        ({"class": "LocalStrategy"}, Routing(), THREE, False, False),
        ({}, Routing(), THREE, False, False),
    ],
)
def test_needs_token(
    options: dict[str, str], routing: Routing, live: list[Host], needed: bool, ordered: bool
) -> None:
    topology = Topology([*THREE, *ring("dc2", 2, 10)], {"ks": options})
    router = Router(topology, routing, "dc1", pools_of(live))
    for _ in range(2):
        assert router.needs_token("ks") is needed
        assert router.needs_token("ks", primary_first=True) is ordered


def test_a_host_without_tokens_has_no_replica() -> None:
    hosts = [*THREE, host(3)]
    topology = Topology(hosts, {"ks": {**NETWORK, "dc1": "3"}})
    router = Router(topology, Routing(), "dc1", pools_of(hosts))
    assert router.needs_token("ks")
    assert len(router.replicas("ks", 0)) == 3


def test_a_datacenter_without_replicas_where_all_are_local() -> None:
    hosts = [*THREE, *ring("dc2", 2, 10)]
    topology = Topology(hosts, {"ks": {**NETWORK, "dc1": "3", "dc2": "0"}})
    assert Router(topology, Routing(), None, pools_of(hosts)).needs_token("ks")
    assert not Router(topology, Routing(), None, pools_of(THREE)).needs_token("ks")


# --- plans ----------------------------------------------------------------------------------------

turns = st.integers(0, 50)


def is_rotated(found: list[Pool], expected: list[Pool]) -> bool:
    return any(same(found, expected[by:] + expected[:by]) for by in range(max(len(expected), 1)))


@given(cases(), tokens, turns, st.booleans(), st.booleans())
def test_plan(case: Case, token: int, turn: int, primary_first: bool, known: bool) -> None:
    router = case.router
    found = list(
        router.plan("ks", token if known else None, turn=turn, primary_first=primary_first)
    )
    assert len(set(ids(found))) == len(found)
    here = case.local_replicas(token) if known and case.routing.token_aware else []
    replicas = [case.pools[each.host_id] for each in here]
    first, rest = found[: len(replicas)], found[len(replicas) :]
    if primary_first:
        assert same(first, replicas)
    else:
        near, far = split(case, replicas)
        assert is_rotated(first[: len(near)], near)
        assert is_rotated(first[len(near) :], far)
    others = [pool for pool in router.local if id(pool) not in ids(replicas)]
    near, far = split(case, others)
    assert sorted(ids(rest[: len(near)])) == sorted(ids(near))
    assert sorted(ids(rest[len(near) : len(others)])) == sorted(ids(far))
    assert same(rest[len(others) :], router.remote)


@given(cases(), tokens)
def test_turns_spread_requests(case: Case, token: int) -> None:
    """Each pool that may be first is first equally often."""
    for candidates, asked in (
        (list(case.router.local), None),
        (list(case.router.replicas("ks", token)), token),
    ):
        if asked is not None and not (candidates and case.routing.token_aware):
            continue
        near, far = split(case, candidates)
        best = near or far
        rounds = len(best) * 3
        plans = [case.router.plan("ks", asked, turn=turn) for turn in range(rounds)]
        firsts = Counter(id(next(plan)) for plan in plans)
        assert firsts == dict.fromkeys(ids(best), 3)


@given(cases(), turns)
def test_plan_without_a_keyspace(case: Case, turn: int) -> None:
    expected = list(case.router.plan("ks", None, turn=turn))
    assert same(case.router.plan(None, 5, turn=turn), expected)
    assert same(case.router.plan("other", 5, turn=turn), expected)
    assert same(case.router.plan(None, None, turn=turn), expected)


@given(cases(), st.lists(st.integers(0, 11), unique=True, max_size=4), turns, st.booleans())
def test_plan_with_given_replicas(
    case: Case, numbers: list[int], turn: int, primary_first: bool
) -> None:
    given_pools = case.router.pools([host_id(number) for number in numbers])
    found = list(
        case.router.plan("ks", 0, turn=turn, primary_first=primary_first, replicas=given_pools)
    )
    assert sorted(ids(found)) == sorted(ids([*case.router.local, *case.router.remote]))
    assert sorted(ids(found[: len(given_pools)])) == sorted(ids(given_pools))
    if primary_first:
        assert same(found[: len(given_pools)], given_pools)


def test_the_primary_replica_whatever_its_rack() -> None:
    hosts = [host(n, "dc1", f"r{n}", [n]) for n in range(4)]
    topology = Topology(hosts, {"ks": {**NETWORK, "dc1": "3"}})
    router = Router(topology, Routing(rack="r3"), "dc1", pools_of(hosts))
    assert [pool[0] - 1 for pool in router.replicas("ks", 1)] == [3, 1, 2]
    for turn in range(4):
        found = router.plan("ks", 1, turn=turn, primary_first=True)
        assert [pool[0] - 1 for pool in found] == [1, 2, 3, 0]


def test_a_plan_is_made_as_it_is_read() -> None:
    """With 1,000 hosts, the first pools of a plan cost far less than a whole plan."""
    hosts = [host(n, tokens=[n]) for n in range(1000)]
    topology = Topology(hosts, {"ks": {**SIMPLE, "replication_factor": "3"}})
    router = Router(topology, Routing(), "dc1", pools_of(hosts))

    def spent(count: int, token: int | None) -> float:
        start = time.process_time()
        for turn in range(200):
            assert len(list(islice(router.plan("ks", token, turn=turn), count))) == count
        return time.process_time() - start

    for token in (5, None):
        assert min(spent(2, token) for _ in range(5)) * 20 < min(
            spent(1000, token) for _ in range(3)
        )


# --- how long it takes ----------------------------------------------------------------------------


def test_a_query_plan_at_1000_hosts_of_256_tokens() -> None:
    """From a bound value to the first two hosts takes about 3 us; 10 allow for a busy machine."""
    random = Random(3)
    hosts = [
        Host(
            UUID(int=number),
            Endpoint("10.0.0.1"),
            "dc1",
            f"r{number % 3}",
            tuple([random.randrange(MIN_TOKEN, MAX_TOKEN) for _ in range(256)]),
        )
        for number in range(1000)
    ]
    topology = Topology(hosts, {"ks": {**NETWORK, "dc1": "3"}})
    router = Router(topology, Routing(), "dc1", pools_of(hosts))
    key = key_function([Column("ks", "t", "id", NATIVE_TYPES["uuid"])], [0])
    rows = [(UUID(int=random.getrandbits(128)),) for _ in range(2000)]

    def plan_all() -> float:
        start = time.process_time()
        for turn, row in enumerate(rows):
            cells = key(row)
            assert cells is not None
            plan = router.plan("ks", murmur3_token(cells), turn=turn)
            next(plan)
            next(plan)
        return (time.process_time() - start) / len(rows)

    assert min(plan_all() for _ in range(10)) < 10e-6
