"""Routing: which hosts requests go to, and in which order.

:class:`Routing` is what the user wants. A :class:`Router` applies it to the hosts of the cluster
that can be reached now: first the replicas of the partition, then the other hosts of the local
datacenter, then a few hosts of other datacenters, if those may be used at all. A router never
changes. When connections come or go a new one is made, which is cheap: replicas are looked up when
they are needed, and the topology keeps them.

The hot path is :meth:`Router.replicas`: a binary search among the few tokens of a bucket, and one
list lookup. A router only puts pools in order; it doesn't matter to it what a pool is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from cqlproto_anyio._checks.values import integer, shown, switch, synchronous
from cqlproto_anyio._metadata.topology import Host
from cqlproto_anyio.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any
    from uuid import UUID

    from cqlproto_anyio._metadata.topology import Placement, Ring, Topology

__all__ = ["Distance", "Route", "Router", "Routing", "distance"]

P = TypeVar("P")

Distance = Literal["local", "remote", "ignored"]

# The cache of a router, in references to pools: 256,000 ranges of 3 replicas take 1,000,000.
_MAX_CACHED = 2_000_000


@dataclass(frozen=True)
class Routing:
    """Which hosts requests go to.

    Attributes:
        token_aware: whether a request whose partition is known goes to its replicas first.
        rack: the rack of the local datacenter whose hosts come first, such as the client's own
            availability zone; None for no preference.
        remote_datacenters: the other datacenters that may be used, in this order, when no host of
            the local one is left. A consistency such as LOCAL_QUORUM then means the other one.
        remote_hosts: how many hosts of each of them are used.
        host_filter: takes a host and returns whether it may be used; None to use all.

    Raises:
        ConfigError: an attribute is invalid.
    """

    token_aware: bool = True
    rack: str | None = None
    remote_datacenters: tuple[str, ...] = ()
    remote_hosts: int = 2
    host_filter: Callable[[Host], bool] | None = None

    def __post_init__(self) -> None:
        switch("token_aware", self.token_aware)
        if self.rack is not None and not isinstance(self.rack, str):
            raise ConfigError(f"rack must be a rack's name or None, got {shown(self.rack)}")
        names = self.remote_datacenters
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConfigError(f"remote_datacenters must be a tuple of names, got {shown(names)}")
        names = tuple(names)
        for name in names:
            if not isinstance(name, str):
                raise ConfigError(f"remote_datacenters must be names, got {shown(name)}")
        object.__setattr__(self, "remote_datacenters", names)
        integer("remote_hosts", self.remote_hosts, 0, None, "an int of at least 0")
        if self.host_filter is not None:
            synchronous("host_filter", self.host_filter)


def distance(host: Host, routing: Routing, local_dc: str | None) -> Distance:
    """Return whether a host is used first, only when no local host is left, or never.

    Arguments:
        host: the host.
        routing: the user's choice.
        local_dc: the local datacenter; None if all are local.
    """
    if routing.host_filter is not None and not routing.host_filter(host):
        return "ignored"
    if local_dc is None or host.datacenter == local_dc or not host.datacenter:
        return "local"  # also if its datacenter is unknown
    if host.datacenter in routing.remote_datacenters and routing.remote_hosts > 0:
        return "remote"
    return "ignored"


class _Table(Generic[P]):
    """The replicas of a keyspace, as pools.

    Attributes:
        tokens, starts, shift, half: those of the :class:`Ring`.
        cells: the replicas of each range; None until they are needed. There is one more than there
            are tokens, for tokens past the last one, which are in the first range.
        find: returns the replicas of a range, given its number, as hosts.
        needed: whether the choice of a host depends on the token.
        orders: whether it does when the primary replica comes first.
    """

    __slots__ = ("cells", "find", "half", "needed", "orders", "shift", "starts", "tokens")

    def __init__(
        self,
        ring: Ring,
        find: Callable[[int], Iterable[Host]],
        needed: bool,
        orders: bool,
    ) -> None:
        self.tokens = ring.tokens
        self.starts = ring.starts
        self.shift = ring.shift
        self.half = ring.half
        self.find = find
        self.needed = needed
        self.orders = orders
        self.cells: list[tuple[P, ...] | None] = [None] * (len(ring.tokens) + 1)


class Router(Generic[P]):
    """The query plan of each request, as pools. Immutable but for its cache.

    Arguments:
        topology: the cluster.
        routing: the user's choice.
        local_dc: the local datacenter; None if all are local.
        live: the pools that can be used now, by host id. Query plans are rotations of this order,
            and the first remote hosts in it are used.

    Attributes:
        local: the pools of the local datacenter, those of the preferred rack first.
        near: the pools that a request without a token may use alike: those of the preferred rack,
            or all of ``local`` if it has none.
        remote: the pools of other datacenters that may be used, in order.
    """

    __slots__ = (
        "_by_host", "_local_dc", "_near", "_near_pools", "_room", "_split", "_tables",
        "_token_aware", "_topology", "local", "near", "remote", "routing",
    )  # fmt: skip

    def __init__(
        self,
        topology: Topology,
        routing: Routing,
        local_dc: str | None,
        live: Mapping[UUID, P],
    ) -> None:
        self.routing = routing
        self._token_aware = routing.token_aware
        self._topology = topology
        self._local_dc = local_dc
        hosts = topology.hosts
        near: list[P] = []
        far: list[P] = []
        remote: dict[str, list[P]] = {name: [] for name in routing.remote_datacenters}
        self._by_host: dict[UUID, P] = {}
        self._near: set[UUID] = set()
        for host_id, pool in live.items():
            host = hosts.get(host_id)
            if host is None:
                continue
            where = distance(host, routing, local_dc)
            if where == "local":
                self._by_host[host_id] = pool
                if routing.rack is not None and host.rack == routing.rack:
                    self._near.add(host_id)
                    near.append(pool)
                else:
                    far.append(pool)
            elif where == "remote" and len(remote[host.datacenter]) < routing.remote_hosts:
                remote[host.datacenter].append(pool)
        self._split = len(near)
        self._near_pools = frozenset(map(id, near))
        self.local: tuple[P, ...] = (*near, *far)
        self.near: tuple[P, ...] = tuple(near) or self.local
        self.remote: tuple[P, ...] = tuple([pool for pools in remote.values() for pool in pools])
        self._tables: dict[str, _Table[P]] = {}
        self._room = _MAX_CACHED

    # --- per request ------------------------------------------------------------------------------

    def needs_token(self, keyspace: str | None, *, primary_first: bool = False) -> bool:
        """Return whether the choice of a host may depend on the partition's token.

        It doesn't if routing isn't token aware, fewer than two local hosts are left, the keyspace
        or its replicas are unknown, the local datacenter has none, or each local host has all.

        Arguments:
            keyspace: the partition's keyspace; None if it is unknown.
            primary_first: whether the order of the replicas matters.
        """
        if keyspace is None:
            return False
        table = self._tables.get(keyspace) or self._table(keyspace)
        return table is not None and (table.orders if primary_first else table.needed)

    def replicas(self, keyspace: str, token: int) -> tuple[P, ...]:
        """Return the pools of the local, live replicas of a partition.

        Arguments:
            keyspace: the partition's keyspace.
            token: its token.

        Returns:
            those of the preferred rack first, each group in the order of the ring; empty if there
            are none or they are unknown.
        """
        table = self._tables.get(keyspace) or self._table(keyspace)
        if table is None:
            return ()
        starts = table.starts
        bucket = (token >> table.shift) + table.half
        index = bisect_left(table.tokens, token, starts[bucket], starts[bucket + 1])
        found = table.cells[index]
        return found if found is not None else self._fill(table, index)

    def nearest(self, keyspace: str, token: int) -> tuple[P, ...]:
        """Return the replicas of a partition that a request may use alike.

        Arguments:
            keyspace: the partition's keyspace.
            token: its token.

        Returns:
            the replicas in the preferred rack, or all if there are none, in the order of the ring;
            empty if :meth:`replicas` returns none.
        """
        found = self.replicas(keyspace, token)
        near = self._near_pools
        if not near or not found or id(found[0]) not in near:
            return found
        return tuple([pool for pool in found if id(pool) in near])

    def primaries(self, keyspace: str, token: int) -> tuple[P, ...]:
        """Return the pools of the local, live replicas of a partition, whatever their rack.

        Lightweight transactions on one partition conflict least when all clients send them to the
        same replica, the first of these.

        Arguments:
            keyspace: the partition's keyspace.
            token: its token.

        Returns:
            all that :meth:`replicas` returns, in the order of the ring.
        """
        if not self._near:
            return self.replicas(keyspace, token)
        by_host = self._by_host
        replicas = self._topology.replicas(keyspace, token)
        return tuple([by_host[host.host_id] for host in replicas if host.host_id in by_host])

    def pools(self, hosts: Iterable[UUID]) -> tuple[P, ...]:
        """Return the local, live pools of some hosts, such as the replicas of a tablet.

        Arguments:
            hosts: their ids, the first replica first.

        Returns:
            those of the preferred rack first, each group in the order given.
        """
        return self._ordered(hosts)

    def plan(
        self,
        keyspace: str | None,
        token: int | None,
        *,
        turn: int,
        primary_first: bool = False,
        replicas: tuple[P, ...] | None = None,
    ) -> Iterator[P]:
        """Yield the pools of a query plan, none twice.

        First come the partition's replicas, then other local hosts, both with the preferred rack
        first, then remote hosts. The plan is computed as far as it is consumed.

        Arguments:
            keyspace: the partition's keyspace, or None.
            token: its token, or None if it is unknown.
            turn: a number that grows by one with each request, to spread requests over hosts.
            primary_first: whether the replicas come in the order of :meth:`primaries`.
            replicas: the replicas, if the token range doesn't determine them; see :meth:`pools`.
        """
        if replicas is None:
            if token is None or keyspace is None or not self._token_aware:
                replicas = ()
            elif primary_first:
                replicas = self.primaries(keyspace, token)
            else:
                replicas = self.replicas(keyspace, token)
        if primary_first:
            yield from replicas
        elif self._near:
            near = self._near_pools
            split = sum([id(pool) in near for pool in replicas])
            yield from _rotated(replicas, 0, split, turn)
            yield from _rotated(replicas, split, len(replicas), turn)
        else:
            count = len(replicas)
            for at in range(turn, turn + count):
                yield replicas[at % count]
        done = {id(pool) for pool in replicas}
        for pool in _rotated(self.local, 0, self._split, turn):
            if id(pool) not in done:
                yield pool
        for pool in _rotated(self.local, self._split, len(self.local), turn):
            if id(pool) not in done:
                yield pool
        yield from self.remote

    # --- once per keyspace or range ---------------------------------------------------------------

    def _table(self, keyspace: str) -> _Table[P] | None:
        """Return and cache the replicas of a keyspace; None if they are unknown."""
        placements = self._topology.placements(keyspace)
        if self._local_dc is not None:
            name = self._local_dc if None not in placements else None
            placements = {name: placements[name]} if name in placements else {}
        placements = {name: each for name, each in placements.items() if each.count}
        if not placements:
            return None
        ring, find = self._ranges(keyspace, placements)
        for table in self._tables.values():
            if table.find == find:  # the same replicas under another name
                self._tables[keyspace] = table
                return table
        useful = self._token_aware and len(self.local) > 1
        needed = useful and not self._has_all(placements)
        table = _Table[P](ring, find, needed=needed, orders=useful)
        self._room -= len(table.cells)
        if self._room < 0:
            self._tables.clear()
            self._room = _MAX_CACHED - len(table.cells)
        self._tables[keyspace] = table
        return table

    def _ranges(
        self, keyspace: str, placements: Mapping[str | None, Placement]
    ) -> tuple[Ring, Callable[[int], Iterable[Host]]]:
        """Return the ring of a keyspace, and a function from a range's number to its replicas."""
        topology = self._topology
        if len(placements) == 1:
            (placement,) = placements.values()
            return placement.ring, placement.replicas
        ring = topology.ring
        tokens = ring.tokens
        return ring, lambda index: topology.replicas(keyspace, tokens[index])

    def _has_all(self, placements: Mapping[str | None, Placement]) -> bool:
        """Return whether every live local host is a replica of every range."""
        if not all(placement.everywhere for placement in placements.values()):
            return False
        hosts = [self._topology.hosts[host_id] for host_id in self._by_host]
        return all(
            host.tokens and (None in placements or host.datacenter in placements) for host in hosts
        )

    def _fill(self, table: _Table[P], index: int) -> tuple[P, ...]:
        """Find and cache the replicas of a range."""
        first = index if index < len(table.tokens) else 0
        found = self._ordered([host.host_id for host in table.find(first)])
        self._room -= len(found) + 1
        if self._room < 0:
            self._tables.clear()
            self._room = _MAX_CACHED
        table.cells[index] = found
        return found

    def _ordered(self, host_ids: Iterable[UUID]) -> tuple[P, ...]:
        by_host = self._by_host
        live = [host_id for host_id in host_ids if host_id in by_host]
        if self._near:
            near = self._near
            live.sort(key=lambda host_id: host_id not in near)
        return tuple([by_host[host_id] for host_id in live])


class Route(Generic[P]):
    """How a statement is routed, as long as hosts and connections are the same.

    Arguments:
        router: the router that it was made with.
        keyspace: the keyspace of the statement's table.
        table: the table's name.
        key: returns the partition key of bound values; None where no host can be preferred for it.
        replicas: the router's method that returns the pools to choose from: any of them, or the
            first.
        primary_first: whether the first replica is preferred to the others.
        has_tablets: whether tablets of the table are known. They come before ``replicas``.
    """

    __slots__ = ("has_tablets", "key", "keyspace", "primary_first", "replicas", "router", "table")

    def __init__(
        self,
        router: Router[P],
        keyspace: str,
        table: str,
        key: Callable[[Sequence[Any]], bytes | None] | None,
        replicas: Callable[[str, int], tuple[P, ...]],
        *,
        primary_first: bool,
        has_tablets: bool,
    ) -> None:
        self.router = router
        self.keyspace = keyspace
        self.table = table
        self.key = key
        self.replicas = replicas
        self.primary_first = primary_first
        self.has_tablets = has_tablets


def _rotated(pools: tuple[P, ...], start: int, end: int, turn: int) -> Iterator[P]:
    """Yield the pools from ``start`` to ``end``, rotated by ``turn``."""
    count = end - start
    for at in range(turn, turn + count):
        yield pools[start + at % count]
