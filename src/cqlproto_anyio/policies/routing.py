"""Which host a request goes to: what the user wants, and the order that follows from it.

:class:`Routing` says what is wanted. A :class:`Router` combines it with what the cluster is and
which hosts can be reached now into an order of their pools: first the replicas of the partition,
then the other hosts of the local datacenter, at last a few of other datacenters, if they may be
used at all. It never changes: when a pool comes or goes another is made, which costs little, since
replicas are looked up when they are needed and kept by the topology.

What is asked per request is :meth:`Router.replicas`: a search among the few tokens of a bucket and
one look in a list. What a pool is doesn't matter here; they are only put in order.
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

# What a router keeps at most, in references: 256,000 ranges of 3 replicas take 1,000,000.
_KEPT = 2_000_000


@dataclass(frozen=True)
class Routing:
    """Which hosts requests go to.

    Attributes:
        token_aware: whether a request whose partition is known goes to its replicas first.
        rack: the rack whose hosts of the local datacenter come first, such as the client's own
            availability zone; None for no preference.
        remote_datacenters: the other datacenters that may be used, in this order, when no host of
            the local one is left. A consistency such as LOCAL_QUORUM means theirs then.
        remote_hosts: how many hosts of each of them are used at most.
        host_filter: takes a host and returns whether it may be used; None lets all be.

    Raises:
        ConfigError: an attribute has no such value.
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
    """Return whether a host is to be used first, when no other is left, or never.

    Arguments:
        host: the host.
        routing: what is wanted.
        local_dc: the local datacenter; None if all are.
    """
    if routing.host_filter is not None and not routing.host_filter(host):
        return "ignored"
    if local_dc is None or host.datacenter == local_dc or not host.datacenter:
        return "local"  # which one it is in may not be known
    if host.datacenter in routing.remote_datacenters and routing.remote_hosts > 0:
        return "remote"
    return "ignored"


class _Table(Generic[P]):
    """What a router knows of a keyspace.

    Attributes:
        tokens, starts, shift, half: the ring's.
        cells: the replicas of each range, None until they are needed; one more than there are
            tokens, for what is past the last: it belongs to the first range.
        find: returns the hosts that have a range, by its number.
        needed: whether a token decides who is asked.
        orders: whether a token decides who is asked first, when that must be the primary replica.
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
    """An order of pools for each request; immutable but for what it keeps.

    Arguments:
        topology: the cluster.
        routing: what is wanted.
        local_dc: the local datacenter; None if all are.
        live: the pools that can be used now, by the id of their host. Their order is the order
            that is rotated, and decides which remote hosts are used.

    Attributes:
        local: the pools of the local datacenter, those of the preferred rack first.
        near: those of them among which a request without a token may be sent to any: the pools of
            the preferred rack, or all if it has none.
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
        self._room = _KEPT

    # --- what is asked for each request -----------------------------------------------------------

    def needs_token(self, keyspace: str | None, *, primary_first: bool = False) -> bool:
        """Return whether a partition's token can make a difference to where a request goes.

        It can't if routing isn't token aware, fewer than two local hosts are left, the keyspace or
        its replicas aren't known, the local datacenter has none, or every local host has all.

        Arguments:
            keyspace: of the partition; None if it isn't known.
            primary_first: whether the order of the replicas counts.
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
            are none, or they aren't known.
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
        """Return those of a partition's replicas among which a request may be sent to any.

        Arguments:
            keyspace: the partition's keyspace.
            token: its token.

        Returns:
            the replicas in the preferred rack, or all if there are none, in the order of the ring;
            empty where :meth:`replicas` is.
        """
        found = self.replicas(keyspace, token)
        near = self._near_pools
        if not near or not found or id(found[0]) not in near:
            return found
        return tuple([pool for pool in found if id(pool) in near])

    def primaries(self, keyspace: str, token: int) -> tuple[P, ...]:
        """Return the pools of the local, live replicas of a partition, whatever their rack.

        Lightweight transactions of one partition disturb each other least when all clients ask the
        same replica: the first of these.

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
        """Yield the pools to try, in order, none twice.

        First the partition's replicas, then other local hosts, those of the preferred rack before
        the rest each time, then remote ones. What isn't asked for isn't computed.

        Arguments:
            keyspace: the partition's keyspace, or None.
            token: its token, or None if it isn't known.
            turn: a number that goes up by one with each request, to spread them.
            primary_first: whether the replicas come as :meth:`primaries` has them.
            replicas: the replicas, where the token's range doesn't decide them; see :meth:`pools`.
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

    # --- what is found out once -------------------------------------------------------------------

    def _table(self, keyspace: str) -> _Table[P] | None:
        """Return what is known of a keyspace and keep it; None if nothing is."""
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
            self._room = _KEPT - len(table.cells)
        self._tables[keyspace] = table
        return table

    def _ranges(
        self, keyspace: str, placements: Mapping[str | None, Placement]
    ) -> tuple[Ring, Callable[[int], Iterable[Host]]]:
        """Return the ring of a keyspace's ranges, and what finds the replicas of one of them."""
        topology = self._topology
        if len(placements) == 1:
            (placement,) = placements.values()
            return placement.ring, placement.replicas
        ring = topology.ring
        tokens = ring.tokens
        return ring, lambda index: topology.replicas(keyspace, tokens[index])

    def _has_all(self, placements: Mapping[str | None, Placement]) -> bool:
        """Return whether every local host that is left is a replica of every range."""
        if not all(placement.everywhere for placement in placements.values()):
            return False
        hosts = [self._topology.hosts[host_id] for host_id in self._by_host]
        return all(
            host.tokens and (None in placements or host.datacenter in placements) for host in hosts
        )

    def _fill(self, table: _Table[P], index: int) -> tuple[P, ...]:
        """Find the replicas of a range and keep them."""
        first = index if index < len(table.tokens) else 0
        found = self._ordered([host.host_id for host in table.find(first)])
        self._room -= len(found) + 1
        if self._room < 0:
            self._tables.clear()
            self._room = _KEPT
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
    """Yield a part of some pools, beginning within it where it is one's turn."""
    count = end - start
    for at in range(turn, turn + count):
        yield pools[start + at % count]
