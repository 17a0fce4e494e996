"""The cluster as a session uses it: the hosts, their connections, and the choice among them.

The control connection reads the topology. :class:`HostPools` keeps a pool for each host in use,
:class:`Connections` opens and serves their connections, the :class:`Selector` chooses one for each
request, and :class:`Waiters` holds the requests that find none. The cluster starts and closes these
parts, and passes events from one of them to the others.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._cluster.connections import Connections
from cqlproto_anyio._cluster.contact_points import Translation
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._cluster.host_pools import HostPools
from cqlproto_anyio._cluster.selector import Selector
from cqlproto_anyio._cluster.waiters import Waiters
from cqlproto_anyio._metadata.discovery import check_local_dc, host_at, infer_local_dc
from cqlproto_anyio._metadata.topology import Topology
from cqlproto_anyio._network.pool import Pool
from cqlproto_anyio.exceptions import ConfigError, ConnectionFailed, SessionClosed
from cqlproto_anyio.hooks import ControlRecord
from cqlproto_anyio.policies.routing import distance

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import SchemaChange
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._eventloop.waiter import Waiter
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.hooks import Active
    from cqlproto_anyio.policies.routing import Routing

__all__ = ["Cluster"]

logger = logging.getLogger("cqlproto_anyio")

# How many failures the text of an error lists.
MOST_LISTED = 10


class Cluster:
    """The hosts of a session.

    Arguments:
        contact_points: where to begin.
        backend: what the event loop offers.
        config: everything that can be set.
        auth: credentials, or None.
        tls: the TLS context, or None.
        keyspace: the keyspace of unqualified names, or None.
        local_dc: the data centre to prefer, or None to infer it.
        timer: of the session.
        tell: the hooks.
        schema_changed: called with each change of the schema.

    Attributes:
        selector: chooses connections for requests.
        control: the control connection; None until it is connected, and without discovery.
    """

    def __init__(
        self,
        contact_points: Sequence[Endpoint],
        *,
        backend: Backend,
        config: Config,
        auth: Auth | None,
        tls: ssl.SSLContext | None,
        keyspace: str | None,
        local_dc: str | None,
        timer: Timer,
        tell: Active,
        schema_changed: Callable[[SchemaChange], None],
    ) -> None:
        self.contact_points = contact_points
        self.schema_changed = schema_changed
        self.control: ControlConnection | None = None
        self.selector: Selector = Selector(self)
        self._backend = backend
        self._timer = timer
        self._clock = timer.clock
        self._config = config
        self._tell = tell
        self._hosts = HostPools(config.routing, local_dc, tell)
        self._connections = Connections(
            backend=backend,
            timer=timer,
            config=config,
            auth=auth,
            tls=tls,
            keyspace=keyspace,
            hosts=self._hosts,
            tell=tell,
            owner=self,
        )
        self._waiters = Waiters(
            hosts=self._hosts,
            connections=self._connections,
            timer=timer,
            most=config.max_waiting,
            preferred=self._control_endpoint,
        )
        self._closed: SessionClosed | None = None
        self._starting: ControlConnection | None = None
        self._last_control: Endpoint | None = None
        self._control_error: Exception | None = None

    # -- what is known

    @property
    def version(self) -> ProtocolVersion:
        """The protocol version of the session; lowered when a node supports only an older one."""
        return self._connections.version

    @property
    def pools(self) -> dict[UUID, Pool]:
        """The pools of the hosts in use, by host id."""
        return self._hosts.by_id

    @property
    def all_pools(self) -> tuple[Pool, ...]:
        """All pools, with those of removed hosts where requests are under way."""
        return self._hosts.all

    @property
    def topology(self) -> Topology:
        """The cluster as it was last read."""
        return self._hosts.topology

    @property
    def local_dc(self) -> str | None:
        """The data centre to prefer, or None if all are alike."""
        return self._hosts.local_dc

    @property
    def routing(self) -> Routing:
        """Which hosts are used."""
        return self._hosts.routing

    def pool_of(self, connection: Connection | None) -> Pool | None:
        """Return the pool that a connection belongs to."""
        owner = None if connection is None else connection.owner
        return owner if isinstance(owner, Pool) else None

    def _control_endpoint(self) -> Endpoint | None:
        return None if self.control is None else self.control.endpoint

    # -- start and close

    async def start(self, spawn: Callable[..., object], spawn_soon: Callable[..., object]) -> None:
        """Find the hosts and connect to one of them; the others follow in the background.

        Arguments:
            spawn: starts a task of the session's; it takes a coroutine function and arguments.
                To be called from such a task only.
            spawn_soon: likewise, but may be called from a callback of the event loop too.

        Raises:
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: no connection can be
                made, at the latest after ``Config.start_timeout``.
        """
        self._connections.start(spawn_soon)
        began = self._clock()
        with anyio.move_on_after(self._config.start_limit):
            await self._start(spawn)
            return
        raise self._start_timeout(self._clock() - began)

    async def _start(self, spawn: Callable[..., object]) -> None:
        if self._config.discovery:
            self._starting = control = ControlConnection(
                backend=self._backend,
                timer=self._timer,
                config=self._config,
                contact_points=self.contact_points,
                open=self._connections.open,
                owner=self,
                start=spawn,
            )
            topology = await control.begin()
            self.control = control
            if self.local_dc is None:
                self._hosts.local_dc = infer_local_dc(topology, control.contact_endpoints)
            else:
                check_local_dc(topology, self.local_dc)
            self.topology_changed(topology)
            spawn(control.run)
            self._waiters.start_with_one()  # the host that has answered just now
        else:
            translated = Translation(self._config.translate)
            hosts = [host_at(translated(endpoint)) for endpoint in self.contact_points]
            self.topology_changed(Topology(hosts, {}))
        waiting = self._backend.waiter_class()
        self.wait(waiting)
        await waiting
        self._connections.start_heartbeats()

    def _start_timeout(self, elapsed: float) -> ConnectionFailed:
        """Return the error for a start that took too long."""
        control = self._starting
        stage = "connect"
        failures: list[BaseException] = []
        if control is not None and self.control is None:
            failures += control.failures
            stage = "discovery" if control.contact_endpoints else "resolve"
        failures += self._hosts.failures
        points = [str(point) for point in self.contact_points]
        more = f" and {len(points) - 3} more" if len(points) > 3 else ""
        tried = "".join(f"\n  {type(each).__name__}: {each}" for each in failures[:MOST_LISTED])
        error = ConnectionFailed(
            f"no session within {self._config.start_limit:g} s (Config.start_timeout){tried}",
            host=", ".join(points[:3]) + more,
            stage=stage,
            elapsed=elapsed,
        )
        error.attempts = tuple(failures)
        error.__cause__ = failures[0] if failures else None
        return error

    def close(self, error: SessionClosed) -> None:
        """Close all connections; requests under way and those that wait get the error."""
        if self._closed is None:
            self._closed = error
        self._waiters.refuse(self._closed)
        self._connections.close(self._closed)
        self._waiters.close(self._closed)

    def forget(self, error: SessionClosed) -> None:
        """Use nothing of this any more, and leave the sockets alone: they are another process's."""
        self._closed = error
        self._connections.forget(error)
        self._waiters.refuse(error)
        self._hosts.clear()
        self.selector.changed()

    # -- connections for requests

    def wait(self, waiter: Waiter) -> None:
        """Complete a waiter when there is a connection; see :meth:`Waiters.add`."""
        self._waiters.add(waiter)

    def wake(self, pool: Pool) -> None:
        """Connect to a host that was not needed so far."""
        self._connections.need(pool)
        self._connections.pool_changed(pool)

    def connections_changed(self) -> None:
        """A connection has come or gone, or one is wanted."""
        self.selector.changed()

    def connected(self) -> None:
        """There is one more connection for requests."""
        self._waiters.complete()

    def connect_failed(self, error: Exception | None) -> None:
        """An attempt to connect has failed; None if its host has left the cluster meanwhile."""
        self._waiters.connect_failed(error)

    # -- what the control connection reports and asks

    def topology_changed(self, topology: Topology) -> None:
        """The hosts or the keyspaces have changed."""
        if self.local_dc is None and self.control is not None:
            try:  # no host was known to be in a data centre so far
                self._hosts.local_dc = infer_local_dc(topology, self.control.contact_endpoints)
            except ConfigError as exc:
                logger.warning("hosts of all data centres are used: %s", exc)
        added, removed = self._hosts.update(topology, self._connections.new_pool)
        self.selector.tablets.forget_hosts(removed)
        if self._config.eager:
            self._connect_to_local(added)
        self.selector.changed()
        self._connections.open_due()
        self._waiters.try_hosts()

    def _connect_to_local(self, pools: Sequence[Pool]) -> None:
        """Connect to the local hosts of these, first to that of the control connection."""
        first = self._control_endpoint()
        for pool in sorted(pools, key=lambda pool: pool.host.endpoint != first):
            if distance(pool.host, self.routing, self.local_dc) == "local":
                self._connections.need(pool)

    def host_up(self, endpoint: Endpoint) -> None:
        """A node says that this host is up."""
        for pool in self._hosts.at(endpoint):
            self._connections.reported_up(pool)
        self._connections.open_due()

    def host_down(self, endpoint: Endpoint) -> None:
        """A node says that this host is down. It is not if a connection to it works."""
        for pool in self._hosts.at(endpoint):
            pool.state.reported_down(self._clock())

    def candidates(self) -> list[Endpoint]:
        """Return the hosts that the control connection may use, those with connections first."""
        pools = [pool for pools in self._hosts.by_distance() for pool in pools]
        return [pool.host.endpoint for pool in sorted(pools, key=lambda pool: not pool.connections)]

    def hosts_up(self) -> list[UUID]:
        """Return the hosts that must agree on the schema: those that requests may go to."""
        return [host_id for host_id, pool in self.pools.items() if pool.in_use]

    def control_connected(self, endpoint: Endpoint) -> None:
        """The control connection is at this node now."""
        if (tell := self._tell.control_moved) is not None:
            tell(ControlRecord(endpoint, self._last_control, self._control_error))
        self._last_control, self._control_error = endpoint, None

    def control_lost(self, error: Exception) -> None:
        """The control connection is lost; another one is being made."""
        self._control_error = error
