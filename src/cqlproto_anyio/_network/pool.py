"""The connections to one host: those in service, and those that only finish their requests.

``HostState`` decides when to open a connection; the pool reports to it what happens to real ones.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cqlproto_anyio._network.heartbeats import LEAST_RATE, LEAST_SKIPPED_RATE
from cqlproto_anyio._network.host_state import Status
from cqlproto_anyio.hooks import HostRecord
from cqlproto_anyio.statistics import HostStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from cqlproto.routing import Sharding
    from cqlproto_anyio._metadata.topology import Host
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._network.heartbeats import Heartbeats
    from cqlproto_anyio._network.host_state import HostState
    from cqlproto_anyio.exceptions import ConnectionFailed, SessionClosed

__all__ = ["MAX_SHARDS", "Pool"]

# The largest machines have some 200 cores.
MAX_SHARDS = 256


class Pool:
    """The connections to one host.

    Arguments:
        host: the host.
        state: when to open connections.
        clock: returns seconds.
        grow_at: with how many requests in flight on each connection another one is opened.
        changed: called when a connection was opened or lost, or another one is wanted.
        ended: called with each connection that has ended, before its requests fail.
        heartbeats: checks whether connections are alive.
        most_shards: the most connections to keep to a node with shards.

    Attributes:
        connections: those in service.
        is_up: whether hooks last heard that the host is up; None before the first event.
        sharding: how a Scylla node divides its tokens among its shards, or None.
        opened: how many connections were opened so far.
        broken: how many connections were lost so far.
    """

    __slots__ = (
        "_changed",
        "_clock",
        "_ended",
        "_grow_at",
        "_heartbeats",
        "_leaving",
        "_most_shards",
        "broken",
        "connections",
        "host",
        "is_up",
        "opened",
        "sharding",
        "state",
    )

    def __init__(
        self,
        host: Host,
        state: HostState,
        clock: Callable[[], float],
        grow_at: int,
        changed: Callable[[Pool], None],
        ended: Callable[[Pool, Connection], None],
        heartbeats: Heartbeats,
        most_shards: int = MAX_SHARDS,
    ) -> None:
        self.host = host
        self.state = state
        self.connections: list[Connection] = []
        self.sharding: Sharding | None = None
        self.opened = 0
        self.broken = 0
        self._leaving: set[Connection] = set()
        self._clock = clock
        self._grow_at = grow_at
        self._changed = changed
        self._ended = ended
        self._heartbeats = heartbeats
        self._most_shards = most_shards
        self.is_up: bool | None = None

    def __repr__(self) -> str:
        return f"<Pool of {self.host.endpoint}: {len(self.connections)}>"

    def pick(
        self, token: int | None = None, shards: Mapping[UUID, int] | None = None
    ) -> Connection | None:
        """Return the connection with the least to do, or None.

        Arguments:
            token: of the partition. A Scylla node has a connection to each of its shards, as far as
                it has assigned them so; the one of the shard that owns the token is preferred.
            shards: the shards that hold the partition, by host, where its tablet says so.
        """
        connections = self.connections
        if len(connections) < 2:
            return connections[0] if connections else None
        if self.sharding is not None and token is not None:
            shard = self.sharding.shard_of(token)
            if shards is not None:
                shard = shards.get(self.host.host_id, shard)
            there = [each for each in connections if each.shard == shard]
            if there:
                connections = there
        return min(connections, key=load)

    @property
    def seems_up(self) -> bool:
        """Whether the host can be used, as far as is known: one that is connected to isn't down."""
        return bool(self.connections) or self.state.status is not Status.DOWN

    @property
    def in_use(self) -> bool:
        """Whether requests may go to the host now, as far as is known. One that was not needed yet
        is not in use: nothing shows whether it is up."""
        return bool(self.connections) or (self.state.wanted > 0 and self.seems_up)

    # -- opening and closing

    def add(self, connection: Connection) -> None:
        """Take a connection into service."""
        self.opened += 1
        self.connections.append(connection)
        connection.owner = self
        self.state.opened(self._clock())
        sharding = connection.sharding
        if sharding is not None and self.sharding is None:
            # one for each shard; the node decides which shard a connection gets
            self.state.resize(self._clock(), min(sharding.shards, self._most_shards))
        self.sharding = sharding
        self._watch()
        self._changed(self)

    def failed(self, error: Exception) -> None:
        """An attempt to open a connection has failed."""
        self.state.failed(self._clock(), error)
        self._changed(self)

    def retire(self, connection: Connection) -> None:
        """Take a connection out of service; it is closed when its requests have finished."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._leaving.add(connection)
            self.state.retired(self._clock())
            self._changed(self)

    def close_idle(self, error: SessionClosed | ConnectionFailed) -> int:
        """Close retired connections without requests; return how many retired ones there were."""
        for connection in tuple(self._leaving):
            if not connection.requests and not connection.waiting:
                connection.close(error)
        return len(self._leaving)

    def close(self, error: SessionClosed | ConnectionFailed) -> None:
        """Close all connections; each request under way fails with a copy of the error."""
        self.state.removed()
        for connection in (*self.connections, *self._leaving):
            connection.close(error)
        self._changed(self)

    def drain(self) -> None:
        """The host has left the cluster: let its requests finish, open no more connections."""
        self.state.removed()
        self._leaving.update(self.connections)
        self.connections.clear()
        self._changed(self)

    def beat(self) -> None:
        """Send heartbeats on connections without a reply since the last call."""
        for connection in self.all:
            self._heartbeats.beat(connection)

    # -- called by connections

    def at_watermark(self, connection: Connection) -> None:
        self.state.at_watermark(self._clock())
        self._changed(self)

    def too_many_orphans(self, connection: Connection) -> None:
        self.retire(connection)

    def doubtful(self, connection: Connection, *, skipping: bool) -> None:
        self._heartbeats.ask(connection, LEAST_SKIPPED_RATE if skipping else LEAST_RATE)

    def connection_lost(self, connection: Connection) -> None:
        self.broken += 1
        self._leaving.discard(connection)
        if connection in self.connections:
            self.connections.remove(connection)
            now = self._clock()
            self.state.lost(now, now - connection.since)
            self._changed(self)
        self._ended(self, connection)

    def _watch(self) -> None:
        """Let each connection report again when it reaches the watermark."""
        for connection in self.connections:
            connection.watch(self._grow_at)

    # -- for hooks and statistics

    @property
    def may_connect_soon(self) -> bool:
        """Whether an attempt is under way or due, and the last one has not failed."""
        state = self.state
        return state.error is None and (state.opening > 0 or state.next_attempt < math.inf)

    @property
    def may_connect(self) -> bool:
        """Whether an attempt is under way, or is due and the last one has not failed."""
        return self.state.opening > 0 or self.may_connect_soon

    def record(self, error: Exception | None = None) -> HostRecord:
        """Return the host's record for hooks."""
        host = self.host
        return HostRecord(host.endpoint, host.host_id, host.datacenter, host.rack, error)

    @property
    def has_retired(self) -> bool:
        """Whether connections that are out of service have requests left to finish."""
        return bool(self._leaving)

    @property
    def all(self) -> tuple[Connection, ...]:
        """All connections, those out of service included."""
        return (*self.connections, *self._leaving)

    def statistics(self) -> HostStatistics:
        """Return the statistics of the host."""
        host = self.host
        everything = self.all
        return HostStatistics(
            host_id=host.host_id,
            address=str(host.endpoint),
            datacenter=host.datacenter,
            rack=host.rack,
            status=Status.UP.name if self.connections else self.state.status.name,
            connections=len(self.connections),
            retiring=len(self._leaving),
            connecting=self.state.opening,
            in_flight=sum(len(each.requests) for each in everything),
            orphans=sum(each.orphans for each in everything),
            waiting=sum(each.waiting for each in everything),
            opened=self.opened,
            lost=self.broken,
            failures=self.state.failures,
            error=self.state.error,
        )


def load(connection: Connection) -> int:
    """Return how busy a connection is; abandoned requests count until they are answered."""
    return len(connection.requests) + connection.backlog
