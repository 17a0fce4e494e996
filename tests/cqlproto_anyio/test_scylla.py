"""Scylla's shards and tablets, with hosts that send what Scylla nodes do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto.cqltypes import encoder, parse_type
from cqlproto.messages import VOID
from cqlproto.routing import MAX_TOKEN, MIN_TOKEN, murmur3_token, shard_of
from cqlproto_anyio._cluster import connections as connections_module
from cqlproto_anyio._metadata.tablets import EXTENSION, PAYLOAD_KEY
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import (
    INSERT,
    LWT,
    SELECT,
    connected,
    replicas,
    session_on,
    stats_of,
    topology_of,
)
from tests.support.fakecluster import FakeCluster, FakeConnection, FakeRequest, row_v
from tests.support.fakehosts import IGNORED_BITS, SUPPORTED
from tests.support.server import turns, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost

pytestmark = pytest.mark.uvloop

_encode = encoder(parse_type("tuple<bigint, bigint, list<tuple<uuid, int>>>"))


def token_of(key: int) -> int:
    return murmur3_token(key.to_bytes(4, "big", signed=True))


def scylla(
    hosts: int = 3, shards: int = 4, factor: int = 2, *, tablets: bool = True
) -> FakeCluster:
    keyspaces = {"ks": {"class": "SimpleStrategy", "replication_factor": str(factor)}}
    cluster = FakeCluster(hosts, keyspaces=keyspaces)
    for host in cluster.hosts:
        host.shards = shards
        if tablets:
            host.supported = {**SUPPORTED, EXTENSION: [""]}
    return cluster


class Seen:
    """Records where requests arrive; sends tablets, like a node that isn't a replica."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.where: list[FakeConnection] = []
        self.tablets: list[tuple[int, int, list[tuple[FakeHost, int]]]] = []
        self.payload: dict[str, bytes] | None = None
        self.sent = 0
        cluster.answer = self._answer

    def _answer(self, request: FakeRequest) -> Response | None:
        self.where.append(request.connection)
        payload = self.payload
        if payload is None and request.values:
            payload = self._tablet(request)
        reply = row_v(request.number) if request.text.startswith("SELECT") else VOID
        if payload is None:
            return reply
        self.sent += 1
        request.reply(reply, payload=payload)
        return None

    def _tablet(self, request: FakeRequest) -> dict[str, bytes] | None:
        token = token_of(request.number)
        for first, last, holders in self.tablets:
            here = (request.host, request.connection.shard)
            if first < token <= last and here not in holders:
                return {PAYLOAD_KEY: encoded(first, last, holders)}
        return None

    def take(self) -> list[FakeConnection]:
        where, self.where = self.where, []
        self.cluster.waiting.clear()  # answered with a payload
        return where


def encoded(first: int, last: int, holders: Iterable[tuple[FakeHost, int]]) -> bytes:
    return bytes(_encode((first, last, [(host.host_id, shard) for host, shard in holders])))


# -- shards


async def test_each_shard_gets_a_connection() -> None:
    cluster = scylla(shards=4)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 4)
        for host in cluster.hosts:
            serving = [each for each in host.connections if not each.registered]
            assert sorted(each.shard for each in serving) == [0, 1, 2, 3]
        # a lost connection is replaced; shards are assigned in turn: the new one has another
        cluster.hosts[1].connections[2].cut()
        await until(lambda: stats_of(session, cluster.hosts[1]).lost == 1)
        await connected(session, cluster.hosts, 4)


async def test_requests_go_to_the_shard_of_their_token() -> None:
    cluster = scylla(hosts=4, shards=5)
    topology = topology_of(cluster)
    seen = Seen(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 5)
        for key in range(120):
            await session.execute(SELECT if key % 2 else INSERT, (key, 1)[: 1 + (not key % 2)])
            [where] = seen.take()
            assert where.host in replicas(cluster, key, topology)
            assert where.shard == shard_of(token_of(key), 5, IGNORED_BITS)
        await session.execute(LWT, (7, 1))
        [where] = seen.take()
        assert where.host is replicas(cluster, 7, topology)[0]
        assert where.shard == shard_of(token_of(7), 5, IGNORED_BITS)


async def test_one_host_with_shards_is_reason_enough_for_a_token() -> None:
    cluster = scylla(hosts=1, shards=3, factor=1)
    seen = Seen(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 3)
        for key in range(60):
            await session.execute(SELECT, (key,))
            [where] = seen.take()
            assert where.shard == shard_of(token_of(key), 3, IGNORED_BITS)


async def test_a_shard_without_a_connection_is_served_by_the_others() -> None:
    cluster = scylla(hosts=1, shards=3, factor=1)
    [host] = cluster.hosts
    seen = Seen(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 3)
        await session.execute(SELECT, (0,))
        host.alive = False  # lost connections aren't replaced
        serving = [each for each in host.connections if not each.registered]
        [lost] = [each for each in serving if each.shard == 1]
        lost.cut()
        await connected(session, cluster.hosts, 2)
        seen.take()
        for key in range(60):
            assert (await session.execute(SELECT, (key,))).one().v == key
            [where] = seen.take()
            shard = shard_of(token_of(key), 3, IGNORED_BITS)
            assert where.shard == shard or shard == 1


async def test_without_a_token_all_shards_are_asked() -> None:
    cluster = scylla(hosts=2, shards=3)
    seen = Seen(cluster)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 3)
        for _ in range(60):
            await session.execute("SELECT v FROM ks.t")
        assert Counter(seen.take()) == dict.fromkeys(
            [each for each in cluster.connections if not each.registered], 10
        )


@pytest.mark.parametrize(
    ("fields", "most"),
    [({"max_connections_per_host": 3}, 3), ({"connections_per_host": 2}, 20), ({}, 20)],
)
async def test_shards_that_no_node_has(
    fields: dict[str, Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's shard count opens no more connections than the limit."""
    monkeypatch.setattr(connections_module, "MAX_SHARDS", 20)
    cluster = scylla(hosts=1, shards=65_535, factor=1)
    async with session_on(cluster, **fields) as session:
        await connected(session, cluster.hosts, most)
        await turns(50)
        assert cluster.hosts[0].opened == most + 1
        assert (await session.execute(SELECT, (7,))).one().v == 7


async def test_cassandra_has_no_shards() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await turns(50)
        assert len(cluster.connections) == 3


# -- STARTUP


@pytest.mark.parametrize("tablets", [True, False])
async def test_tablets_are_asked_for_where_the_node_has_them(tablets: bool) -> None:
    cluster = scylla(tablets=tablets)
    cluster.hosts[2].shards = 0
    cluster.hosts[2].supported = SUPPORTED  # a Cassandra node in the same cluster
    async with session_on(cluster) as session:
        await until(lambda: session.statistics().connections == 9)
        for host in cluster.hosts[:2]:
            assert all((EXTENSION in each.startup) is tablets for each in host.connections)
        assert all(EXTENSION not in each.startup for each in cluster.hosts[2].connections)
        assert all("CQL_VERSION" in each.startup for each in cluster.connections)


# -- tablets


async def test_a_tablet_in_a_reply_teaches_the_next_request() -> None:
    cluster = scylla(hosts=4, shards=3, factor=1)
    topology = topology_of(cluster)
    seen = Seen(cluster)
    key = 11
    holder = next(host for host in cluster.hosts if host not in replicas(cluster, key, topology))
    shard = (shard_of(token_of(key), 3, IGNORED_BITS) + 1) % 3
    seen.tablets = [(MIN_TOKEN, MAX_TOKEN, [(holder, shard)])]
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 3)
        await session.execute(SELECT, (key,))
        [where] = seen.take()
        assert where.host is not holder
        assert seen.sent == 1
        for other in (key, key + 1, key + 2):
            for query, values in ((SELECT, (other,)), (INSERT, (other, 1)), (LWT, (other, 1))):
                await session.execute(query, values)
                [where] = seen.take()
                assert (where.host, where.shard) == (holder, shard)
        assert seen.sent == 1
        assert snapshot(session).tablets == 1


async def test_tablets_that_move_are_learned_anew() -> None:
    cluster = scylla(hosts=3, shards=2, factor=1)
    seen = Seen(cluster)
    one, two, three = cluster.hosts
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 2)
        seen.tablets = [(MIN_TOKEN, 0, [(one, 0)]), (0, MAX_TOKEN, [(two, 1), (three, 0)])]
        # by their tokens alone they would go to hosts without the tablet
        low = next(k for k in range(999) if token_of(k) < 0 and replicas(cluster, k) == [two])
        high = next(k for k in range(999) if token_of(k) > 0 and replicas(cluster, k) == [one])
        for _ in range(4):
            for key in (low, high):
                await session.execute(SELECT, (key,))
        seen.take()
        sent = seen.sent
        for _ in range(6):
            await session.execute(SELECT, (low,))
        assert {(each.host, each.shard) for each in seen.take()} == {(one, 0)}
        for _ in range(6):
            await session.execute(SELECT, (high,))
        assert {(each.host, each.shard) for each in seen.take()} == {(two, 1), (three, 0)}
        assert seen.sent == sent
        # one tablet moves: only the next request for it goes to a wrong host
        seen.tablets[0] = (MIN_TOKEN, 0, [(three, 1)])
        await session.execute(SELECT, (low,))
        await session.execute(SELECT, (low,))
        where = seen.take()
        assert [(each.host, each.shard) for each in where] == [(one, 0), (three, 1)]
        assert seen.sent == sent + 1


MALFORMED = {
    "nothing": b"",
    "garbage": b"\xff" * 40,
    "too short": b"\0\0\0\x08\0\0\0\0\0\0\0\0",
    "no replicas": bytes(_encode((0, 5, []))),
    "no tokens": bytes(_encode((5, 5, []))),
    "a huge count": bytes(_encode((0, 5, [])))[:-4] + b"\x7f\xff\xff\xff",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_tablet_is_ignored(kind: str) -> None:
    cluster = scylla(hosts=2, shards=2)
    seen = Seen(cluster)
    seen.payload = {PAYLOAD_KEY: MALFORMED[kind], "other": b"x"}
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 2)
        for key in range(10):
            assert (await session.execute(SELECT, (key,))).one().v == key
            await session.execute(INSERT, (key, 1))
        assert seen.sent == 20
        assert snapshot(session).tablets == 0
        assert session.statistics().connections == 4
    assert sum(host.opened for host in cluster.hosts) == 5


async def test_a_tablet_of_hosts_that_are_not_known_is_no_obstacle() -> None:
    cluster = scylla(hosts=2, shards=2)
    strange = scylla(hosts=5).add()
    seen = Seen(cluster)
    seen.payload = {PAYLOAD_KEY: encoded(MIN_TOKEN, MAX_TOKEN, [(strange, 1)])}
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts, 2)
        for key in range(10):
            assert (await session.execute(SELECT, (key,))).one().v == key


@pytest.mark.parametrize("scope", ["table", "keyspace", "another table", "host"])
async def test_what_is_dropped_is_forgotten(scope: str) -> None:
    cluster = scylla(hosts=3, shards=2, factor=1)
    seen = Seen(cluster)
    holder = cluster.hosts[2]
    seen.tablets = [(MIN_TOKEN, MAX_TOKEN, [(holder, 0)])]
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts, 2)
        for key in range(12):
            await session.execute(SELECT, (key,))
        assert snapshot(session).tablets == 1
        if scope == "host":
            cluster.remove(holder)
            cluster.tell_topology("REMOVED_NODE", holder)
        elif scope == "keyspace":
            cluster.tell_schema("DROPPED", "ks")
        elif scope == "table":
            cluster.tell_schema("DROPPED", "ks", "t")
        else:
            cluster.tell_schema("DROPPED", "ks", "other")
            await turns(50)
            assert snapshot(session).tablets == 1
            return
        await until(lambda: snapshot(session).tablets == 0)
        seen.tablets = []
        seen.take()
        topology = topology_of(cluster)
        await connected(session, cluster.hosts, 2)
        for key in range(12):
            await session.execute(SELECT, (key,))
            [where] = seen.take()
            assert where.host in replicas(cluster, key, topology)


async def test_replicas_of_a_tablet_that_are_down_are_passed_over() -> None:
    cluster = scylla(hosts=4, shards=2, factor=1)
    seen = Seen(cluster)
    one, two = cluster.hosts[2:]
    seen.tablets = [(MIN_TOKEN, MAX_TOKEN, [(one, 0), (two, 1)])]
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts, 2)
        for key in range(12):
            await session.execute(SELECT, (key,))
        seen.take()
        one.kill()
        await connected(session, [host for host in cluster.hosts if host is not one], 2)
        for key in range(12):
            await session.execute(SELECT, (key,))
        assert {(each.host, each.shard) for each in seen.take()} == {(two, 1)}
        two.kill()
        await connected(session, cluster.hosts[:2], 2)
        for key in range(12):
            assert (await session.execute(SELECT, (key,))).one().v == key
