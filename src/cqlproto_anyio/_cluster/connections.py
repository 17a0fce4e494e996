"""Opening a session's connections and serving them until they are lost.

The state of each host decides when to connect to it, and one queue for all hosts limits how many
attempts are under way. Each connection is opened and read by a task of the session.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

from cqlproto_anyio._network.connect_queue import ConnectQueue
from cqlproto_anyio._network.connector import open_connection
from cqlproto_anyio._network.heartbeats import Heartbeats
from cqlproto_anyio._network.host_state import HostState, Status
from cqlproto_anyio._network.pool import MAX_SHARDS, Pool
from cqlproto_anyio.exceptions import ConnectionFailed, SessionClosed
from cqlproto_anyio.hooks import ConnectionRecord
from cqlproto_anyio.policies.checked import CheckedReconnection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from cqlproto_anyio._cluster.host_pools import HostPools
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._metadata.topology import Host
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.hooks import Active

__all__ = ["Connections", "Owner"]

# How often connections that are out of service are checked for requests, in seconds.
SWEEP_INTERVAL = 0.25


class Owner(Protocol):
    """Called synchronously when connections change."""

    def connections_changed(self) -> None:
        """A connection has come or gone, or one is wanted."""
        ...

    def connected(self) -> None:
        """There is one more connection for requests."""
        ...

    def connect_failed(self, error: Exception | None) -> None:
        """An attempt to connect has failed; None if its host has left the cluster meanwhile."""
        ...


class Connections:
    """Opens and serves the connections of a session.

    Arguments:
        backend: what the event loop offers.
        timer: of the session.
        config: the limits of connections.
        auth: credentials, or None.
        tls: the TLS context, or None.
        keyspace: the keyspace of unqualified names, or None.
        hosts: the pools.
        tell: the hooks.
        owner: called when connections change.

    Attributes:
        version: the protocol version of the session. It is lowered when a node supports only an
            older one.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        timer: Timer,
        config: Config,
        auth: Auth | None,
        tls: ssl.SSLContext | None,
        keyspace: str | None,
        hosts: HostPools,
        tell: Active,
        owner: Owner,
    ) -> None:
        self.version = config.highest_version
        self._backend = backend
        self._clock = timer.clock
        self._config = config
        self._auth = auth
        self._tls = tls
        self._keyspace = keyspace
        self._hosts = hosts
        self._tell = tell
        self._owner = owner
        self._heartbeats = Heartbeats(timer, config.heartbeat_timeout)
        self._reconnection = CheckedReconnection(config.reconnection)
        self._queue: ConnectQueue[Pool] = ConnectQueue(config.max_connecting)
        self._queue_alarm = timer.alarm(self.open_due)
        self._sweep_alarm = timer.alarm(self._sweep)
        self._heartbeat_alarm = timer.alarm(self._send_heartbeats)
        self._spawn_soon: Callable[..., object] | None = None
        self._closed: SessionClosed | None = None

    # -- life

    def start(self, spawn_soon: Callable[..., object]) -> None:
        """Open connections from now on.

        Arguments:
            spawn_soon: starts a task of the session's; it takes a coroutine function and arguments,
                and may be called from a callback of the event loop.
        """
        self._spawn_soon = spawn_soon

    def start_heartbeats(self) -> None:
        """Send heartbeats from now on."""
        self._heartbeat_alarm.set(self._clock() + self._config.heartbeat_interval)

    def close(self, error: SessionClosed) -> None:
        """Close all connections; requests under way get the error."""
        self._closed = error
        for alarm in (self._queue_alarm, self._sweep_alarm, self._heartbeat_alarm):
            alarm.cancel()
        for pool in self._hosts.all:
            pool.close(error)

    def forget(self, error: SessionClosed) -> None:
        """Open nothing more, and leave the sockets alone: they are another process's."""
        self._closed = error

    # -- pools

    def new_pool(self, host: Host) -> Pool:
        """Return a pool for a host; it connects when the host is needed."""
        config = self._config
        state = HostState(
            size=config.connections_per_host,
            largest=config.most_connections,
            reconnection=self._reconnection,
            fraction=random.random,
        )
        return Pool(
            host,
            state,
            self._clock,
            config.grow_at,
            self.pool_changed,
            self._lost,
            self._heartbeats,
            config.max_connections_per_host or MAX_SHARDS,
        )

    def pool_changed(self, pool: Pool) -> None:
        """Handle a pool whose connections have changed, or that wants another one."""
        self._owner.connections_changed()
        self._queue.changed(pool, pool.state)
        self.open_due()
        if pool.has_retired:
            self._sweep_alarm.set(self._clock() + SWEEP_INTERVAL)

    def need(self, pool: Pool) -> bool:
        """Connect to a host soon, once :meth:`open_due` is called; return whether that is now."""
        now = self._clock()
        pool.state.needed(now)
        self._queue.changed(pool, pool.state)
        return pool.state.next_attempt <= now

    def reported_up(self, pool: Pool) -> None:
        """A node says that this host is up: connect to it soon, once :meth:`open_due` is called."""
        wanted = pool.state.wanted
        pool.state.reported_up(self._clock())
        self._queue.changed(pool, pool.state)
        if pool.state.wanted != wanted:
            self._owner.connections_changed()

    # -- opening

    def open_due(self) -> None:
        """Start the attempts that are due, as far as the limit allows; an alarm starts the rest."""
        if self._closed is not None or self._spawn_soon is None:
            return
        for pool in self._queue.take(self._clock()):
            self._spawn_soon(self._connect, pool)
        self._queue_alarm.set(self._queue.next)

    async def open(self, endpoint: Endpoint, keyspace: str | None = None) -> Connection:
        """Open a connection that speaks the session's protocol version.

        Raises:
            ConnectionFailed, DatabaseError, ConfigError: as :func:`open_connection` does.
        """
        while True:
            connection = await open_connection(
                endpoint,
                backend=self._backend,
                config=self._config,
                version=self.version,
                auth=self._auth,
                tls=self._tls,
                keyspace=keyspace,
            )
            if connection.version <= self.version:
                break
            # the version was lowered meanwhile
            connection.close(SessionClosed("the session speaks an older version"))
            await connection.run()
        if connection.version < self.version:
            self._lower_version(connection)
        return connection

    def _lower_version(self, connection: Connection) -> None:
        """Switch the session to an older node's version; connections that speak a newer one end."""
        self.version = connection.version
        for pool in self._hosts.by_id.values():
            for each in list(pool.connections):
                if each.version > self.version:
                    pool.retire(each)

    async def _connect(self, pool: Pool) -> None:
        """Open one connection and serve it until it is lost."""
        started = self._clock()
        try:
            try:
                connection = await self.open(pool.host.endpoint, self._keyspace)
            finally:
                self._queue.finished(pool)
        except Exception as exc:
            pool.failed(exc)
            self._report_down(pool, exc)
            self._owner.connect_failed(exc)
            return
        try:
            if self._closed is not None or self._hosts.by_id.get(pool.host.host_id) is not pool:
                connection.close(self._closed or SessionClosed("the host has left the cluster"))
                self._owner.connect_failed(None)
            else:
                self._opened(pool, connection, self._clock() - started)
        except Exception as exc:  # a bug, for which the session ends; the socket must not stay
            connection.lose(f"{type(exc).__name__}: {exc}", exc)
            raise
        finally:
            await connection.run()

    def _opened(self, pool: Pool, connection: Connection, elapsed: float) -> None:
        pool.add(connection)
        if (tell := self._tell.connection_opened) is not None:
            tell(ConnectionRecord(connection.endpoint, connection.version, elapsed))
        if not pool.is_up:
            pool.is_up = True
            if (tell_up := self._tell.host_up) is not None:
                tell_up(pool.record())
        self._owner.connected()

    # -- the end of connections

    def _lost(self, pool: Pool, connection: Connection) -> None:
        """Call the hooks for a lost connection, unless the session has closed it itself."""
        error = connection.lost
        if isinstance(error, ConnectionFailed):
            if (tell := self._tell.connection_lost) is not None:
                where, version = connection.endpoint, connection.version
                tell(ConnectionRecord(where, version, error.elapsed, connection.in_flight, error))
            self._report_down(pool, error)

    def _report_down(self, pool: Pool, error: Exception) -> None:
        """Call the hook for a host that is down, unless it is up or was reported before."""
        if pool.connections or pool.is_up is False or pool.state.status is Status.REMOVED:
            return
        pool.is_up = False
        if (tell := self._tell.host_down) is not None:
            tell(pool.record(error))

    def _sweep(self) -> None:
        """Close connections that are out of service and whose requests have ended."""
        if self._hosts.close_idle(SessionClosed("the connection was replaced")):
            self._sweep_alarm.set(self._clock() + SWEEP_INTERVAL)

    def _send_heartbeats(self) -> None:
        """Send a heartbeat on each connection that was silent since the last time."""
        for pool in self._hosts.all:
            pool.beat()
        self.start_heartbeats()
