"""Selection of a connection: the less busy of two, among those nearest to the request's data.

This is on the path of every request, so nothing is computed that can't change the choice. No token
is hashed where every host in question holds all the data. What a statement's route depends on is
computed once and kept until hosts or connections change. The load of a connection includes the
requests that were given up without an answer, so that a node that has stopped answering gets no
more requests after a few.

Where one node is preferred to another (by rack, or as the first replica of a lightweight
transaction) the router's query plan decides and load does not.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from cqlproto.exceptions import RemoteProtocolError
from cqlproto.routing import key_function, murmur3_token
from cqlproto_anyio._metadata.tablets import PAYLOAD_KEY, Tablets, read_tablet
from cqlproto_anyio.policies.routing import Route, Router, distance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any
    from uuid import UUID

    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._metadata.topology import Topology
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio._statements.statement import Statement
    from cqlproto_anyio.policies.routing import Routing

__all__ = ["Selector"]

# The first replica is not preferred once its connection has so many orphans.
_MAX_ORPHANS = 8


class Source(Protocol):
    """What a selector needs of the cluster."""

    @property
    def pools(self) -> Mapping[UUID, Pool]: ...

    @property
    def topology(self) -> Topology: ...

    @property
    def local_dc(self) -> str | None: ...

    @property
    def routing(self) -> Routing: ...

    def wake(self, pool: Pool) -> None:
        """Connect to a host that was not needed so far."""
        ...


class Selector:
    """Chooses connections.

    Arguments:
        source: the cluster; call :meth:`changed` when its hosts or connections change.

    Attributes:
        ready: the connections that a request may use whose data is on every host; empty after a
            change, until :meth:`refresh`.
        tablets: the known tablets of a Scylla cluster.
    """

    __slots__ = ("_router", "_routed", "_source", "_turn", "_unneeded", "ready", "tablets")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._router: Router[Pool] | None = None
        self._routed: WeakSet[Statement] = WeakSet()  # those whose routes refer to the router
        self._turn = random.randrange(1 << 16)
        self._unneeded: frozenset[Pool] = frozenset()  # local hosts that no request needed yet
        self.ready: tuple[Connection, ...] = ()
        self.tablets = Tablets()

    def changed(self) -> None:
        """Drop the router and all routes: hosts or connections have changed.

        A router is large, since it knows every host and token range. Routes are dropped as well, or
        a statement that is not executed again would keep the old router alive.
        """
        self.ready = ()
        self._router = None
        if self._routed:
            for statement in self._routed:
                statement.route = None
            self._routed = WeakSet()

    def refresh(self) -> tuple[Connection, ...]:
        """Make a router after a change; set and return :attr:`ready`."""
        source = self._source
        live = {key: pool for key, pool in source.pools.items() if pool.connections}
        router = Router(source.topology, source.routing, source.local_dc, live)
        self._router = router
        pools = router.near or router.remote
        self.ready = tuple([each for pool in pools for each in pool.connections])
        self._unneeded = frozenset(
            [
                pool
                for pool in source.pools.values()
                if not pool.state.wanted
                and distance(pool.host, source.routing, source.local_dc) == "local"
            ]
        )
        return self.ready

    def choose(self, statement: Statement | None, values: Sequence[Any]) -> Connection | None:
        """Return the connection for a request, or None if there is none.

        Arguments:
            statement: the prepared statement, or None if there is none.
            values: its bound values.
        """
        ready = self.ready or self.refresh()
        count = len(ready)
        if count < 2:
            if not count:
                return None
            router = self._router
            if router is None or len(router.local) < 2:  # it is not the only one of its rack
                if self._unneeded:
                    self._connect_preferred(statement, values, None)
                return ready[0]
        turn = self._turn = (self._turn + 1) & 0xFFFFFF
        route: Route[Pool] | None = None
        token = None
        if statement is not None:
            route = statement.route
            if route is None or route.router is not self._router:
                route = self._make_route(statement)
            if route.key is not None and (key := route.key(values)) is not None:
                token = murmur3_token(key)
        if self._unneeded:
            self._connect_preferred(statement, values, token)
        if route is not None and token is not None:
            chosen = self._nearest(route, token, turn)
            if chosen is not None:
                return chosen
        turn %= count
        first = ready[turn]
        second = ready[turn - 1]
        if len(first.requests) + first.backlog <= len(second.requests) + second.backlog:
            return first
        return second

    def _connect_preferred(
        self, statement: Statement | None, values: Sequence[Any], token: int | None
    ) -> None:
        """Start connecting to the request's preferred host; this request uses another.

        Arguments:
            statement, values: as for :meth:`choose`.
            token: the partition's token; None if it was not computed yet.
        """
        source = self._source
        bind = None if statement is None else statement.prepared.bind
        preferred: Pool | None = None
        if statement is not None and bind is not None and bind.key_indices:
            if token is None and (key := statement.key(key_function)(values)) is not None:
                token = murmur3_token(key)
            if token is not None:
                replicas = source.topology.replicas(bind.columns[0].keyspace, token)
                pools = [source.pools.get(host.host_id) for host in replicas]
                preferred = next((pool for pool in pools if pool in self._unneeded), None)
        else:
            pools = list(source.pools.values())
            preferred = pools[random.randrange(len(pools))]
        if preferred is not None and preferred in self._unneeded:
            source.wake(preferred)

    def _nearest(self, route: Route[Pool], token: int, turn: int) -> Connection | None:
        """Return a connection to a replica, the less busy of two."""
        shards: Mapping[UUID, int] | None = None
        if route.has_tablets and (shards := self._tablet_replicas(route, token)):
            replicas = route.router.pools(shards)
        else:
            replicas = route.replicas(route.keyspace, token)
        count = len(replicas)
        if count < 2:
            return replicas[0].pick(token, shards) if count else None
        if route.primary_first:
            return self._first(replicas, token, shards)
        # most pools have one connection: checking is cheaper than the call of pick()
        turn %= count
        pool = replicas[turn]
        connections = pool.connections
        first = connections[0] if len(connections) == 1 else pool.pick(token, shards)
        pool = replicas[turn - 1]
        connections = pool.connections
        second = connections[0] if len(connections) == 1 else pool.pick(token, shards)
        if first is None or second is None:
            return first or second
        if len(first.requests) + first.backlog <= len(second.requests) + second.backlog:
            return first
        return second

    def _first(
        self, replicas: Sequence[Pool], token: int, shards: Mapping[UUID, int] | None
    ) -> Connection | None:
        """Return a connection to the first replica that answers its requests."""
        first: Connection | None = None
        for pool in replicas:
            connection = pool.pick(token, shards)
            if connection is not None:
                if connection.orphans < _MAX_ORPHANS:
                    return connection
                first = first or connection
        return first

    def plan(
        self, statement: Statement | None, values: Sequence[Any], tried: Iterable[Pool]
    ) -> Iterator[Connection]:
        """Yield a connection to each host of the query plan that was not tried yet.

        Arguments:
            statement, values: as for :meth:`choose`.
            tried: the pools of the hosts that were tried.
        """
        if not self.ready:
            self.refresh()
        router = self._router
        if router is None:
            return
        keyspace = token = shards = replicas = None
        primary_first = False
        if statement is not None:
            route: Route[Pool] | None = statement.route
            if route is None or route.router is not router:
                route = self._make_route(statement)
            key = None if route.key is None else route.key(values)
            if key is not None:
                keyspace, token = route.keyspace, murmur3_token(key)
                primary_first = route.primary_first
                if route.has_tablets and (shards := self._tablet_replicas(route, token)):
                    replicas = router.pools(shards)
        self._turn += 1
        skipped = set(tried)
        for pool in router.plan(
            keyspace, token, turn=self._turn, primary_first=primary_first, replicas=replicas
        ):
            if pool not in skipped:
                connection = pool.pick(token, shards)
                if connection is not None:
                    yield connection

    def _make_route(self, statement: Statement) -> Route[Pool]:
        """Set and return the route of a statement, which holds until hosts or connections change.

        It has no key if no host can be preferred for the partition: then no token is hashed.
        """
        router = self._router
        assert router is not None
        bind = statement.prepared.bind
        columns = bind.columns
        keyspace, table = (columns[0].keyspace, columns[0].table) if columns else ("", "")
        primary_first = statement.text.conditional
        key = None
        has_tablets = (keyspace, table) in self.tablets
        if bind.key_indices and (
            has_tablets
            or router.needs_token(keyspace, primary_first=primary_first)
            or any(pool.sharding is not None for pool in router.local)
        ):
            key = statement.key(key_function)
        if primary_first:
            replicas = router.primaries
        elif router.near is router.local:  # no rack is preferred
            replicas = router.replicas
        else:
            replicas = router.nearest
        route = Route(
            router,
            keyspace,
            table,
            key,
            replicas,
            primary_first=primary_first,
            has_tablets=has_tablets,
        )
        statement.route = route
        self._routed.add(statement)
        return route

    # -- tablets

    def _tablet_replicas(self, route: Route[Pool], token: int) -> dict[UUID, int]:
        """Return the shard of each host that holds a token's tablet; empty if it isn't known."""
        return dict(self.tablets.replicas(route.keyspace, route.table, token))

    def learn(self, statement: Statement, event: ResponseReceived) -> None:
        """Learn from a reply which tablet holds the partition, if the node says so in its payload.

        Arguments:
            statement: what was executed.
            event: the reply.
        """
        data = (event.payload or {}).get(PAYLOAD_KEY)
        columns = statement.prepared.bind.columns
        if data is None or not columns:
            return
        keyspace, table = columns[0].keyspace, columns[0].table
        try:
            tablet = read_tablet(data)
        except RemoteProtocolError:  # a malformed payload; the reply itself is usable
            return
        if (keyspace, table) not in self.tablets:
            self.changed()  # the routes were made without tablets
        self.tablets.learn(keyspace, table, tablet)
