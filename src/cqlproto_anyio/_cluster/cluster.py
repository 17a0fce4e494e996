"""The cluster as a session uses it: its hosts, a pool for each that is to be used, and the choice
of a connection for a request.

What is known of the cluster comes from the control connection as immutable snapshots; which host is
preferred for what, a router says; when to connect, the states of the hosts and one bound for all of
them. This joins them. Choosing is synchronous and looks at two connections at most; everything that
waits or takes long happens in tasks of the session's group.
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._cluster.contact_points import Translation
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._cluster.selector import Selector
from cqlproto_anyio._metadata.discovery import check_local_dc, infer_local_dc, made_id, plain_host
from cqlproto_anyio._metadata.topology import Topology
from cqlproto_anyio._network.connect_queue import ConnectQueue
from cqlproto_anyio._network.connector import open_connection
from cqlproto_anyio._network.heartbeats import Heartbeats
from cqlproto_anyio._network.host_state import HostState, Status
from cqlproto_anyio._network.pool import MAX_SHARDS, Pool
from cqlproto_anyio.exceptions import (
    ConfigError,
    ConnectionFailed,
    NoHostAvailable,
    SessionClosed,
    copied,
    overloaded,
)
from cqlproto_anyio.hooks import ConnectionRecord, ControlRecord
from cqlproto_anyio.policies.checked import CheckedFilter, CheckedReconnection
from cqlproto_anyio.policies.routing import distance

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from cqlproto.messages.results import SchemaChange
    from cqlproto_anyio._eventloop.backend import Backend, Waiter
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._metadata.topology import Host
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.hooks import Active

__all__ = ["Cluster"]

logger = logging.getLogger("cqlproto_anyio")

# How often connections that are out of service are looked at, in seconds.
_SWEEP = 0.25
# How many hosts of a data centre are tried at once for a request that finds no connection at all,
# and after how many seconds as many more are, since some may never answer.
_TRIED_AT_ONCE = 4
_PATIENCE = 0.5
# How many failures the text of an error tells.
_MOST_TOLD = 10


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
        schema_changed: told of each change of the schema.

    Attributes:
        selector: chooses connections for requests.
        version: the protocol version of the session; lowered when a node speaks none so high.
        pools: by host id.
        topology: what is known of the cluster.
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
        self.version = config.highest_version
        self.topology = Topology([], {})
        self.pools: dict[UUID, Pool] = {}
        self.local_dc = local_dc
        self.selector: Selector = Selector(self)
        self.schema_changed = schema_changed
        self._backend = backend
        self._timer = timer
        self._clock = timer.clock
        self._heartbeats = Heartbeats(timer, config.heartbeat_timeout)
        self._tell = tell
        self.routing = config.routing
        self._filter: CheckedFilter | None = None
        if config.routing.host_filter is not None:
            self._filter = CheckedFilter(config.routing.host_filter)
            self.routing = replace(config.routing, host_filter=self._filter)
        self._reconnection = CheckedReconnection(config.reconnection)
        self._config = config
        self._auth = auth
        self._tls = tls
        self._keyspace = keyspace
        self._draining: set[Pool] = set()
        self._connect_queue: ConnectQueue[Pool] = ConnectQueue(config.max_connecting)
        self._opener = timer.alarm(self._open_some)
        self._sweeper = timer.alarm(self._sweep)
        self._heart = timer.alarm(self._beat)
        self._seeker = timer.alarm(self._seek_more)
        self._round = 1  # how often more hosts were tried for those who wait; 0 for a single one
        self._by_endpoint: dict[Endpoint, list[Pool]] = {}
        self._waiters: list[Waiter] = []
        self._counted_at = -math.inf  # when those that have given up were left out
        self._asked: set[Pool] = set()  # hosts that were tried for those who wait
        self._closed: SessionClosed | None = None
        self._spawn_soon: Callable[..., object] | None = None
        self.control: ControlConnection | None = None
        self._beginning: ControlConnection | None = None
        self._control_was: Endpoint | None = None
        self._control_error: Exception | None = None

    # -- life

    async def start(self, spawn: Callable[..., object], spawn_soon: Callable[..., object]) -> None:
        """Find the hosts and connect to one of them; the others follow in the background.

        Arguments:
            spawn: starts a task of the session's; it takes a coroutine function and arguments.
                To be called from such a task only.
            spawn_soon: likewise, but may be called from a callback of the event loop too.

        Raises:
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: none can be had, at the
                latest after ``Config.start_timeout``.
        """
        self._spawn_soon = spawn_soon
        began = self._clock()
        with anyio.move_on_after(self._config.start_limit):
            await self._start(spawn)
            return
        raise self._too_late(self._clock() - began)

    async def _start(self, spawn: Callable[..., object]) -> None:
        if self._config.discovery:
            self._beginning = control = ControlConnection(
                backend=self._backend,
                timer=self._timer,
                config=self._config,
                contact_points=self.contact_points,
                open=self._open_control,
                owner=self,
                start=spawn,
            )
            topology = await control.begin()
            self.control = control
            self.local_dc = self._checked_dc(topology, control)
            self.topology_changed(topology)
            spawn(control.run)
            self._round = 0  # the host that has answered just now is enough
        else:
            translated = Translation(self._config.translate)
            hosts = [plain_host(translated(endpoint)) for endpoint in self.contact_points]
            self.topology_changed(Topology(hosts, {}))
        waiting = self._backend.waiting()
        self.wait(waiting)
        await waiting
        self._heart.set(self._clock() + self._config.heartbeat_interval)

    def _too_late(self, elapsed: float) -> ConnectionFailed:
        control = self._beginning
        stage = "connect"
        failures: list[BaseException] = []
        if control is not None and self.control is None:
            failures += control.failures
            stage = "discovery" if control.contact_endpoints else "resolve"
        failures += [pool.state.error for pool in self.pools.values() if pool.state.error]
        points = [str(point) for point in self.contact_points]
        more = f" and {len(points) - 3} more" if len(points) > 3 else ""
        tried = "".join(f"\n  {type(each).__name__}: {each}" for each in failures[:_MOST_TOLD])
        error = ConnectionFailed(
            f"no session within {self._config.start_limit:g} s (Config.start_timeout){tried}",
            host=", ".join(points[:3]) + more,
            stage=stage,
            elapsed=elapsed,
        )
        error.attempts = tuple(failures)
        error.__cause__ = failures[0] if failures else None
        return error

    def _checked_dc(self, topology: Topology, control: ControlConnection) -> str | None:
        if self.local_dc is None:
            return infer_local_dc(topology, control.contact_endpoints)
        check_local_dc(topology, self.local_dc)
        return self.local_dc

    def close(self, error: SessionClosed) -> None:
        """Close all connections; requests under way and those that wait get the error."""
        if self._closed is None:
            self._closed = error
        for alarm in (self._opener, self._sweeper, self._heart, self._seeker):
            alarm.cancel()
        for pool in self.all_pools:
            pool.close(self._closed)
        self._tell_waiters(self._closed)

    def wake(self, pool: Pool) -> None:
        """Connect to a host that was left alone so far."""
        pool.state.needed(self._clock())
        self._pool_changed(pool)

    def pool_of(self, connection: Connection | None) -> Pool | None:
        """Return the pool that a connection belongs to."""
        owner = None if connection is None else connection.owner
        return owner if isinstance(owner, Pool) else None

    def is_open(self) -> bool:
        """Whether it isn't closed."""
        return self._closed is None

    # -- waiting for a connection

    def wait(self, waiting: Waiter) -> None:
        """Complete it when there is a connection, or let it fail when none can be had.

        Hosts that are being connected to are waited for; others are tried, a few at a time, unless
        that has just failed. It fails with what :meth:`start` raises, with SessionClosed, or with
        Overloaded when too many wait already.
        """
        if self._closed is not None:
            waiting.fail(copied(self._closed))
        elif self._is_crowded():
            most = self._config.max_waiting
            waiting.fail(overloaded(len(self._waiters), "a connection", most))
        else:
            self._waiters.append(waiting)
            if len(self._waiters) == 1:  # what the first one sets going serves all
                self._seek()

    def _is_crowded(self) -> bool:
        """Whether too many wait; those that have given up are only looked for now and then."""
        most = self._config.max_waiting
        if len(self._waiters) > most and self._clock() >= self._counted_at + _SWEEP:
            self._counted_at = self._clock()
            self._waiters = [each for each in self._waiters if not each.done]
        return len(self._waiters) > most

    def _seek(self) -> None:
        """Try hosts for those who wait; tell them if there is none left to try.

        Another data centre's turn comes when no host of the nearer ones may yet prove to work; an
        attempt at one that has failed before is no reason to wait.
        """
        if not self._waiters or self._closed is not None:
            return
        at_once = max(_TRIED_AT_ONCE * self._round, 1)
        for pools in self._usable():
            self._ask(pools, at_once)
            self._open_some()
            if any(pool.is_promising for pool in pools):
                self._seeker.set(self._clock() + _PATIENCE)
                return
            at_once = min(at_once, self.routing.remote_hosts)
        if not any(pool.is_hopeful for pool in self.pools.values()):
            self._tell_waiters(self._nobody())

    def _seek_more(self) -> None:
        """Try more hosts, for those that are being tried take long."""
        if self._waiters:
            self._round += 1
            self._seek()

    def _ask(self, pools: Sequence[Pool], at_once: int) -> None:
        """Have some of these hosts connected to, unless so many are being already.

        The one that the control connection is at goes first: that one answers.
        """
        now = self._clock()
        busy = sum(pool.state.opening > 0 for pool in pools)
        here = None if self.control is None else self.control.endpoint
        for pool in (*[each for each in pools if each.host.endpoint == here], *pools):
            if busy >= at_once:
                break
            if pool not in self._asked and not pool.state.opening:
                self._asked.add(pool)
                pool.state.needed(now)
                self._connect_queue.changed(pool, pool.state)
                busy += pool.state.next_attempt <= now

    def _usable(self) -> list[list[Pool]]:
        """Return the pools that a request may use, by data centre, nearest first."""
        near: list[Pool] = []
        far: dict[str | None, list[Pool]] = {n: [] for n in self.routing.remote_datacenters}
        far.pop(self.local_dc, None)
        for pool in self.pools.values():
            far.get(pool.host.datacenter, near).append(pool)
        return [near, *far.values()]

    def _nobody(self) -> BaseException:
        if not self.pools:
            failure = None if self._filter is None else self._filter.failure
            why = "" if failure is None else f": its host_filter raised {failure}"
            return ConfigError(
                f"Config.routing leaves none of {len(self.topology.hosts)} hosts{why}"
            )
        failures = [
            pool.state.error for pool in self.pools.values() if pool.state.error is not None
        ]
        if len(failures) == 1 and len(self.pools) == 1:
            return failures[0]
        return NoHostAvailable(failures)

    def _tell_waiters(self, error: BaseException | None = None) -> None:
        waiters, self._waiters = self._waiters, []
        self._asked.clear()
        self._round = 1
        self._seeker.cancel()
        for waiting in waiters:
            if error is None:
                waiting.complete(None)
            else:
                waiting.fail(copied(error))

    # -- connecting

    def _pool_changed(self, pool: Pool) -> None:
        """A connection has come or gone, or one is wanted."""
        self.selector.changed()
        self._connect_queue.changed(pool, pool.state)
        self._open_some()
        if pool._leaving:
            self._sweeper.set(self._clock() + _SWEEP)

    def _open_some(self) -> None:
        """Begin what is due, within the bound on all of it, and be called again for the rest."""
        if self._closed is not None or self._spawn_soon is None:
            return
        for pool in self._connect_queue.take(self._clock()):
            self._spawn_soon(self._connect, pool)
        self._opener.set(self._connect_queue.next)

    async def _open(self, endpoint: Endpoint, keyspace: str | None) -> Connection:
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
            # begun before an older node was met
            connection.close(SessionClosed("the session speaks an older version"))
            await connection.run()
        if connection.version < self.version:
            self._speak(connection)
        return connection

    async def _open_control(self, endpoint: Endpoint) -> Connection:
        return await self._open(endpoint, None)

    def _speak(self, connection: Connection) -> None:
        """An older node was met: the whole session speaks its version from now on."""
        self.version = connection.version
        for pool in self.pools.values():
            for each in list(pool.connections):
                if each.version > self.version:
                    pool.retire(each)

    async def _connect(self, pool: Pool) -> None:
        """Open one connection and serve it until it is lost."""
        started = self._clock()
        try:
            try:
                connection = await self._open(pool.host.endpoint, self._keyspace)
            finally:
                self._connect_queue.finished(pool)
        except Exception as exc:
            self._failed(pool, exc)
            return
        try:
            if self._closed is not None or self.pools.get(pool.host.host_id) is not pool:
                connection.close(self._closed or SessionClosed("the host has left the cluster"))
                self._seek()  # who has waited for this one
            else:
                self._opened(pool, connection, self._clock() - started)
        except Exception as exc:  # a bug, for which the session ends; the socket must not stay
            connection.lose(f"{type(exc).__name__}: {exc}", exc)
            raise
        finally:
            await connection.run()

    def _opened(self, pool: Pool, connection: Connection, took: float) -> None:
        pool.add(connection)
        if (tell := self._tell.connection_opened) is not None:
            tell(ConnectionRecord(connection.endpoint, connection.version, took))
        if not pool.is_up:
            pool.is_up = True
            if (tell_up := self._tell.host_up) is not None:
                tell_up(pool.record())
        self._tell_waiters()

    def _ended(self, pool: Pool, connection: Connection) -> None:
        """A connection is of no use any more, or was closed."""
        error = connection.lost
        if isinstance(error, ConnectionFailed):
            if (tell := self._tell.connection_lost) is not None:
                where, version = connection.endpoint, connection.version
                tell(ConnectionRecord(where, version, error.elapsed, connection.in_flight, error))
            self._is_down(pool, error)

    def _is_down(self, pool: Pool, error: Exception) -> None:
        """Tell that a host can't be used, unless it can, or that was told."""
        if pool.connections or pool.is_up is False or pool.state.status is Status.REMOVED:
            return
        pool.is_up = False
        if (tell := self._tell.host_down) is not None:
            tell(pool.record(error))

    def _failed(self, pool: Pool, error: Exception) -> None:
        pool.failed(error)
        self._is_down(pool, error)
        if isinstance(error, ConnectionFailed):
            self._round = max(self._round, 1)
            self._seek()
        else:  # the keyspace or an option is wrong: that is no fault of this one host
            self._tell_waiters(error)

    def _sweep(self) -> None:
        """Close connections that are out of service and have finished."""
        error = SessionClosed("the connection was replaced")
        left = sum([pool.close_idle(error) for pool in self.all_pools])
        self._draining = {pool for pool in self._draining if pool.all}
        if left:
            self._sweeper.set(self._clock() + _SWEEP)

    def _beat(self) -> None:
        """Ask connections that were silent for a while whether they live."""
        for pool in self.all_pools:
            pool.beat()
        self._heart.set(self._clock() + self._config.heartbeat_interval)

    # -- what the control connection tells

    def topology_changed(self, topology: Topology) -> None:
        """The hosts are these from now on."""
        self.topology = topology
        if self.local_dc is None and self.control is not None:
            self._find_dc(topology, self.control)
        wanted = {
            host_id: host
            for host_id, host in topology.hosts.items()
            if distance(host, self.routing, self.local_dc) != "ignored"
        }
        self._rename(wanted)
        gone: set[UUID] = set()
        for host_id, pool in list(self.pools.items()):
            host = wanted.get(host_id)
            if host is not None and host.endpoint == pool.host.endpoint:
                pool.host = host
            else:
                del self.pools[host_id]
                pool.drain()
                gone.add(host_id)
                if pool.all:
                    self._draining.add(pool)
                    self._sweeper.set(self._clock() + _SWEEP)
                if (tell := self._tell.host_removed) is not None:
                    tell(pool.record())
        self.selector.tablets.forget_hosts(gone)
        # in an order of this session's own: clients that fail over don't all go to the same hosts
        new = []
        for host_id, host in random.sample(list(wanted.items()), len(wanted)):
            if host_id not in self.pools:
                pool = self.pools[host_id] = self._new_pool(host)
                new.append(pool)
                if (tell := self._tell.host_added) is not None:
                    tell(pool.record())
        self._by_endpoint = {}
        for pool in self.pools.values():
            self._by_endpoint.setdefault(pool.host.endpoint, []).append(pool)
        self._wake_new(new)
        self.selector.changed()
        self._open_some()
        self._seek()

    def _find_dc(self, topology: Topology, control: ControlConnection) -> None:
        """Find out the local data centre, which no host was known to be in so far."""
        try:
            self.local_dc = infer_local_dc(topology, control.contact_endpoints)
        except ConfigError as exc:
            logger.warning("hosts of all data centres are used: %s", exc)

    def _rename(self, wanted: dict[UUID, Host]) -> None:
        """Keep the pools of hosts whose ids had to be made and are known now."""
        for made, pool in list(self.pools.items()):
            endpoint = pool.host.endpoint
            if made in wanted or made != made_id(endpoint):
                continue
            for host_id, host in wanted.items():
                if host.endpoint == endpoint and host_id not in self.pools:
                    del self.pools[made]
                    self.pools[host_id] = pool
                    break

    def _wake_new(self, pools: Sequence[Pool]) -> None:
        """Have new hosts connected to that are to be from the start, the one that answers first."""
        if not self._config.eager:
            return
        here = None if self.control is None else self.control.endpoint
        for pool in sorted(pools, key=lambda pool: pool.host.endpoint != here):
            if distance(pool.host, self.routing, self.local_dc) == "local":
                pool.state.needed(self._clock())
                self._connect_queue.changed(pool, pool.state)

    def _new_pool(self, host: Host) -> Pool:
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
            self._pool_changed,
            self._ended,
            self._heartbeats,
            config.max_connections_per_host or MAX_SHARDS,
        )

    def host_up(self, endpoint: Endpoint) -> None:
        """A node tells that this one is up."""
        for pool in self._by_endpoint.get(endpoint, ()):
            wanted = pool.state.wanted
            pool.state.told_up(self._clock())
            self._connect_queue.changed(pool, pool.state)
            if pool.state.wanted != wanted:
                self.selector.changed()
        self._open_some()

    def host_down(self, endpoint: Endpoint) -> None:
        """A node tells that this one is down; connections that work know better."""
        for pool in self._by_endpoint.get(endpoint, ()):
            pool.state.told_down(self._clock())

    def candidates(self) -> list[Endpoint]:
        """Where the control connection may go: hosts that are connected to first."""
        pools = [pool for pools in self._usable() for pool in pools]
        return [pool.host.endpoint for pool in sorted(pools, key=lambda pool: not pool.connections)]

    def hosts_up(self) -> list[UUID]:
        """Return the hosts that can be used, as far as is known."""
        return [host_id for host_id, pool in self.pools.items() if pool.matters]

    def control_connected(self, endpoint: Endpoint) -> None:
        """The control connection is at this host now."""
        if (tell := self._tell.control_moved) is not None:
            tell(ControlRecord(endpoint, self._control_was, self._control_error))
        self._control_was, self._control_error = endpoint, None

    def control_lost(self, error: Exception) -> None:
        """The control connection is gone; it is made anew, maybe elsewhere."""
        self._control_error = error

    def forget(self, error: SessionClosed) -> None:
        """Use nothing of this any more, and leave the sockets alone: they are another process's."""
        self._closed = error
        self.pools = {}
        self._by_endpoint = {}
        self._draining = set()
        self.selector.changed()

    @property
    def all_pools(self) -> tuple[Pool, ...]:
        """Those of hosts that have gone included, as long as requests are under way there."""
        return (*self.pools.values(), *self._draining)

    @property
    def connecting(self) -> int:
        """How many connections are in the making."""
        return sum(pool.state.opening for pool in self.pools.values())
