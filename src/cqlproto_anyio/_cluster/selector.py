"""The connection for a request: the less busy one of two, of those that are nearest to its data.

This is on the way of every request, so nothing is computed that can't change the choice: no token
is hashed where every host that may be asked holds all the data, and what a statement's route
depends on is found out once, until hosts come or go. Two connections are compared by what they have
to do, given-up requests included: a node that has stopped answering is left alone after a few.

Where one node is preferred to another (a rack, the first replica of a conditional statement) the
router's plan decides, and load doesn't.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from cqlproto.exceptions import RemoteProtocolError
from cqlproto.routing import key_function, murmur3_token
from cqlproto_anyio._cluster.routes import Route
from cqlproto_anyio._metadata.tablets import PAYLOAD_KEY, Tablets, read_tablet
from cqlproto_anyio.policies.routing import Router, distance

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

# A node that owes so many replies that were given up isn't preferred for being the first replica.
_SILENT = 8


class Source(Protocol):
    """What a selector chooses from: the cluster."""

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
        source: what it chooses from; :meth:`changed` tells that it isn't what it was.

    Attributes:
        ready: the connections that a request may use if its data is everywhere; empty if that is to
            be found out anew.
        tablets: where the tables of a Scylla cluster are that have tablets.
    """

    __slots__ = ("_asleep", "_holders", "_router", "_source", "_turn", "ready", "tablets")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._router: Router[Pool] | None = None
        self._holders: WeakSet[Statement] = WeakSet()  # whose routes hold the router
        self._turn = random.randrange(1 << 16)
        self._asleep: frozenset[Pool] = frozenset()  # hosts that nothing was meant for yet
        self.ready: tuple[Connection, ...] = ()
        self.tablets = Tablets()

    def changed(self) -> None:
        """Hosts or connections have come or gone.

        Nothing is left of the router: it knows every host and range of the cluster, and statements
        that are not executed again would keep it.
        """
        self.ready = ()
        self._router = None
        if self._holders:
            for statement in self._holders:
                statement.route = None
            self._holders = WeakSet()

    def refreshed(self) -> tuple[Connection, ...]:
        """Find out which connections any request may use, after something has changed."""
        source = self._source
        live = {key: pool for key, pool in source.pools.items() if pool.connections}
        router = Router(source.topology, source.routing, source.local_dc, live)
        self._router = router
        pools = router.near or router.remote
        self.ready = tuple([each for pool in pools for each in pool.connections])
        self._asleep = frozenset(
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
            statement: what is executed, if it is prepared.
            values: its bound values.
        """
        ready = self.ready or self.refreshed()
        count = len(ready)
        if count < 2:
            if not count:
                return None
            router = self._router
            if router is None or len(router.local) < 2:  # not just the only one of its rack
                if self._asleep:
                    self._wake(statement, values, None)
                return ready[0]
        turn = self._turn = (self._turn + 1) & 0xFFFFFF
        route: Route | None = None
        token = None
        if statement is not None:
            route = statement.route
            if route is None or route.router is not self._router:
                route = self._routed(statement)
            if route.key is not None and (key := route.key(values)) is not None:
                token = murmur3_token(key)
        if self._asleep:
            self._wake(statement, values, token)
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

    def _wake(self, statement: Statement | None, values: Sequence[Any], token: int | None) -> None:
        """Have the host connected to that this request is meant for; another one serves it.

        Arguments:
            statement, values: as for :meth:`choose`.
            token: of the partition; None if it wasn't needed so far.
        """
        source = self._source
        bind = None if statement is None else statement.prepared.bind
        meant: Pool | None = None
        if statement is not None and bind is not None and bind.key_indices:
            if token is None and (key := statement.key(key_function)(values)) is not None:
                token = murmur3_token(key)
            if token is not None:
                replicas = source.topology.replicas(bind.columns[0].keyspace, token)
                pools = [source.pools.get(host.host_id) for host in replicas]
                meant = next((pool for pool in pools if pool in self._asleep), None)
        else:
            pools = list(source.pools.values())
            meant = pools[random.randrange(len(pools))]
        if meant is not None and meant in self._asleep:
            source.wake(meant)

    def _nearest(self, route: Route, token: int, turn: int) -> Connection | None:
        """Return a connection to a replica, the one with less to do of two."""
        shards: Mapping[UUID, int] | None = None
        if route.has_tablets and (held := self._held(route, token)):
            shards = held
            replicas = route.router.pools(held)
        else:
            replicas = route.replicas(route.keyspace, token)
        count = len(replicas)
        if count < 2:
            return replicas[0].pick(token, shards) if count else None
        if route.primary_first:
            return self._first(replicas, token, shards)
        # most pools have one connection, and a call costs more than to look
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
        """Return a connection to the first replica that hasn't stopped answering."""
        first: Connection | None = None
        for pool in replicas:
            connection = pool.pick(token, shards)
            if connection is not None:
                if connection.orphans < _SILENT:
                    return connection
                first = first or connection
        return first

    def plan(
        self, statement: Statement | None, values: Sequence[Any], tried: Iterable[Pool]
    ) -> Iterator[Connection]:
        """Yield connections to the hosts that were not tried yet, in the order of preference.

        Arguments:
            statement, values: as for :meth:`choose`.
            tried: the hosts that were.
        """
        if not self.ready:
            self.refreshed()
        router = self._router
        if router is None:
            return
        keyspace = token = shards = replicas = None
        primary_first = False
        if statement is not None:
            route: Route | None = statement.route
            if route is None or route.router is not router:
                route = self._routed(statement)
            key = None if route.key is None else route.key(values)
            if key is not None:
                keyspace, token = route.keyspace, murmur3_token(key)
                primary_first = route.primary_first
                if route.has_tablets and (shards := self._held(route, token)):
                    replicas = router.pools(shards)
        self._turn += 1
        passed = set(tried)
        for pool in router.plan(
            keyspace, token, turn=self._turn, primary_first=primary_first, replicas=replicas
        ):
            if pool not in passed:
                connection = pool.pick(token, shards)
                if connection is not None:
                    yield connection

    def _routed(self, statement: Statement) -> Route:
        """Find out how a statement is routed, until something changes."""
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
        self._holders.add(statement)
        return route

    # -- tablets

    def _held(self, route: Route, token: int) -> dict[UUID, int]:
        """Return who holds a token's tablet, as far as that was learned: hosts and their shards."""
        return dict(self.tablets.replicas(route.keyspace, route.table, token))

    def learn(self, statement: Statement, event: ResponseReceived) -> None:
        """Take what a reply says of the tablet that a request should have gone to."""
        data = (event.payload or {}).get(PAYLOAD_KEY)
        columns = statement.prepared.bind.columns
        if data is None or not columns:
            return
        keyspace, table = columns[0].keyspace, columns[0].table
        try:
            tablet = read_tablet(data)
        except RemoteProtocolError:  # of no use; the reply that it came with is as good as ever
            return
        if (keyspace, table) not in self.tablets:
            self.changed()  # routes were made without
        self.tablets.learn(keyspace, table, tablet)
