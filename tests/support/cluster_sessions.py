"""Sessions on a cluster in memory, for tests of how a session uses several hosts.

Helpers that look behind the public API are here; the rest is in ``session.statistics()``.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto.routing import murmur3_token
from cqlproto_anyio._cluster import control_connection as control_module
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._metadata.topology import Host, Topology
from cqlproto_anyio._network import host_state as hoststate
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.control_connection import PACE
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from cqlproto_anyio.statistics import HostStatistics
    from tests.support.fakecluster import FakeCluster, FakeHost

__all__ = [
    "INSERT",
    "LWT",
    "SELECT",
    "SOON",
    "attempts_of",
    "connected",
    "knows",
    "living_tasks",
    "replicas",
    "session_on",
    "stats_of",
    "topology_of",
]

SELECT = "SELECT v FROM ks.t WHERE k = ?"
INSERT = "INSERT INTO ks.t (k, v) VALUES (?, ?)"
LWT = "INSERT INTO ks.t (k, v) VALUES (?, ?) IF NOT EXISTS"

SOON = ConstantReconnection(0.01, jitter=0.0)
"""Hosts that are down are tried often, so that tests don't wait."""


def is_uvloop() -> bool:
    """Return whether the event loop is uvloop's."""
    if current_backend().name != "asyncio":
        return False
    return type(asyncio.get_running_loop()).__module__.startswith("uvloop")


def living_tasks() -> int:
    """Return how many tasks the event loop has."""
    if current_backend().name == "asyncio":
        return len(asyncio.all_tasks())
    import trio

    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def session_on(
    cluster: FakeCluster,
    *contacts: str,
    local_dc: str | None = None,
    keyspace: str | None = None,
    profile: cql.Profile | None = None,
    steady: float = 0.0,
    pushes: bool | None = None,
    **fields: Any,
) -> AsyncIterator[cql.Session]:
    """A session with a fast control connection; at the end nothing of the session may be left.

    With uvloop the streams push, like sockets there; otherwise they are pulled. ``pushes``
    overrides this.

    Arguments:
        cluster: the hosts.
        contacts: the contact points; all hosts if there are none.
        local_dc, keyspace, profile: as for ``connect``.
        steady: how long a connection must last, in seconds, for its loss not to count as a failure.
        pushes: whether the streams push on asyncio.
        fields: fields of Config; hosts that are down are tried every :data:`SOON` by default.
    """
    fields.setdefault("reconnection", SOON)
    before = living_tasks()
    cluster.pushes = is_uvloop() if pushes is None else pushes
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in PACE.items():
            patch.setattr(control_module, name, seconds)
        patch.setattr(hoststate, "STEADY", steady)
        async with cql.connect(
            contacts or cluster.addresses,
            config=cluster.config(**fields),
            local_dc=local_dc,
            keyspace=keyspace,
            profile=profile,
        ) as session:
            yield session
    if not cluster.pushes:  # a transport of asyncio's closes a few turns later
        assert living_tasks() == before
        assert not cluster.connections
    await until(lambda: not cluster.connections and living_tasks() == before)
    assert not cluster.errors


def knows(session: cql.Session, host: FakeHost) -> bool:
    """Return whether the session may use a host, according to its statistics."""
    hosts = session.statistics().hosts
    return any(each.address == str(host) and each.status != "REMOVED" for each in hosts)


def stats_of(session: cql.Session, host: FakeHost) -> HostStatistics:
    """Return the session's statistics of a host."""
    [found] = [each for each in session.statistics().hosts if each.address == str(host)]
    return found


def attempts_of(error: BaseException) -> list[cql.ConnectionFailed]:
    """Return the attempts of a call, each of which failed to connect."""
    assert isinstance(error, cql.CQLError)
    attempts = []
    for each in error.attempts:
        assert isinstance(each, cql.ConnectionFailed)
        attempts.append(each)
    return attempts


async def connected(session: cql.Session, hosts: Iterable[FakeHost], connections: int = 1) -> None:
    """Wait until the session has this many connections to each of these hosts, and no others."""
    wanted = {str(host.endpoint): connections for host in hosts}

    def are() -> bool:
        return {
            each.address: each.connections
            for each in session.statistics().hosts
            if each.connections
        } == wanted

    await until(are)


def topology_of(cluster: FakeCluster) -> Topology:
    """Return the hosts that a client should find, from the fake hosts' attributes."""
    return Topology(
        [
            Host(host.host_id, host.endpoint, host.datacenter, host.rack, tuple(host.tokens))
            for host in cluster.hosts
        ],
        cluster.keyspaces,
    )


def replicas(
    cluster: FakeCluster, key: int, topology: Topology | None = None
) -> Sequence[FakeHost]:
    """Return the hosts that hold a partition of ``ks.t``, the first replica first."""
    by_id = {host.host_id: host for host in cluster.hosts}
    token = murmur3_token(key.to_bytes(4, "big", signed=True))
    found = (topology or topology_of(cluster)).replicas("ks", token)
    return [by_id[host.host_id] for host in found]
