"""The control connection: it keeps the session's topology up to date.

It is one connection to any node. The node sends events and its system tables describe the rest.
What is cheap is passed on at once: a known host is up or down, a part of the schema has changed.
What costs a query is debounced: the hosts are read again one second after the last event about
them, at the latest some seconds after the first; and periodically, in case an event was lost.

When the connection is lost, or its node stops answering or answers nonsense, the control connection
moves to another node: first to the hosts that its owner names, then to the contact points, whose
names are resolved again. Several nodes are tried a little apart, so that one that doesn't answer
delays nothing. All of this is one task that waits for whatever is due next. No error ends the task:
an error is logged, since there is no caller to raise it to.

What a node doesn't answer counts as unknown. A node that answers everything is preferred.
"""

from __future__ import annotations

import logging
import math
import random
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from cqlproto.messages import SchemaChange, StatusChange, TopologyChange
from cqlproto_anyio._cluster.candidates import CandidateSearch
from cqlproto_anyio._cluster.contact_points import ContactPoints
from cqlproto_anyio._cluster.log import log
from cqlproto_anyio._cluster.refresh import NoteLog, TopologyReader
from cqlproto_anyio._cluster.refresh_schedule import RefreshSchedule
from cqlproto_anyio._cluster.schema_agreement import agree
from cqlproto_anyio._cluster.system_tables import SystemTables
from cqlproto_anyio.exceptions import NoHostAvailable, RequestTimeout, SessionClosed
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from uuid import UUID

    from cqlproto.messages.events import ServerEvent
    from cqlproto_anyio._cluster.candidates import Candidate
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._metadata.topology import Topology
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["ControlConnection", "Owner"]

# The debounce of refreshes, in seconds. Events about hosts come in bursts, one from each peer.
QUIET, MOST = 1.0, 5.0
# The back-off between rounds of attempts, in seconds.
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
# A connection that has lasted so long, in seconds, is replaced at once when it is lost.
STEADY = 5.0
# How many hosts are tried before the contact points are.
CANDIDATES = 8
# How many queries in a row a node may fail to answer before another node is used.
PATIENCE = 3
# When rows with errors are read again, in seconds, since a node's rows are written bit by bit. The
# delay doubles each time, up to ``Config.refresh_interval``.
SOON = 5.0


class Owner(Protocol):
    """Gets the control connection's events and answers its questions.

    The methods are called synchronously. Their exceptions are logged.
    """

    def topology_changed(self, topology: Topology) -> None:
        """The hosts or the keyspaces have changed."""
        ...

    def host_up(self, endpoint: Endpoint) -> None:
        """A node says that this known host is up, maybe before it accepts connections."""
        ...

    def host_down(self, endpoint: Endpoint) -> None:
        """A node says that this known host is down."""
        ...

    def schema_changed(self, change: SchemaChange) -> None:
        """Some part of the schema has changed."""
        ...

    def candidates(self) -> Iterable[Endpoint]:
        """Return the hosts that the control connection may use, best first."""
        ...

    def hosts_up(self) -> Iterable[UUID]:
        """Return the hosts that must agree on the schema."""
        ...

    def control_lost(self, error: Exception) -> None:
        """The control connection is lost; another one is being made."""
        ...

    def control_connected(self, endpoint: Endpoint) -> None:
        """The control connection is at this node now."""
        ...


class ControlConnection:
    """The control connection of a session.

    Arguments:
        backend: what the event loop offers.
        timer: of the session.
        config: ``translate``, ``connector`` and the time limits.
        contact_points: where to begin, as the user named them.
        open: opens a connection to a node, within its own time limit.
        owner: called with events and changes.
        start: starts a task that lives as long as the session.

    Attributes:
        endpoint: the node that is asked, or None while there is none.
        contact_endpoints: the contact points, as they were last resolved.
        topology: the cluster as it was last read.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        timer: Timer,
        config: Config,
        contact_points: Sequence[Endpoint],
        open: Callable[[Endpoint], Awaitable[Connection]],
        owner: Owner,
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
    ) -> None:
        self._clock = timer.clock
        timeout, request_class = config.control_timeout, backend.request_class
        self._tables_of: Callable[[Connection], SystemTables] = lambda connection: SystemTables(
            connection, request_class, timer, timeout
        )
        self._config = config
        self._owner = owner
        self._contacts = contacts = ContactPoints(
            contact_points,
            clock=timer.clock,
            protected=backend.protected,
            timeout=config.connect_timeout,
            resolve=config.connector is None,
            translate=config.translate,
        )
        self._reader = TopologyReader(config.translate, lambda: contacts.names)
        self._notes = NoteLog()
        self._wake = anyio.Event()
        self._search = CandidateSearch(
            backend=backend,
            timer=timer,
            config=config,
            open=open,
            spawn=start,
            read=self._reader.read,
            ended=lambda: self._wake.set(),
        )
        self._unresolved: Sequence[Exception] = ()
        self._tables: SystemTables | None = None
        self._schedule = RefreshSchedule(
            quiet=QUIET,
            most=MOST,
            soon=SOON,
            refresh_interval=config.refresh_interval,
            heartbeat_interval=config.heartbeat_interval,
            fraction=random.random,
        )
        self._since = math.inf  # when the connection was made
        self._moves = 0  # since a connection lasted for STEADY seconds
        self._failures = 0  # queries in a row that the node has not answered
        self._closed = False

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self._tables is None else self._tables.connection.endpoint

    @property
    def contact_endpoints(self) -> tuple[Endpoint, ...]:
        return self._contacts.endpoints

    @property
    def topology(self) -> Topology:
        return self._reader.topology

    @property
    def failures(self) -> list[Exception]:
        """Why :meth:`begin` has not found a node so far."""
        return [*self._unresolved, *self._search.failures]

    # -- what the session calls

    async def begin(self) -> Topology:
        """Resolve the contact points, connect to the first that works and read the system tables.

        Raises:
            ConnectionFailed: the only address does not work; the stage is ``discovery`` if the
                node's system tables can't be read.
            NoHostAvailable: none of several addresses works.
            DatabaseError, ConfigError: as ``open`` says.
        """
        tried: set[Endpoint] = set()
        for patient in (False, True):
            self._unresolved = await self._contacts.resolve(patient=patient)
            endpoints = [each for each in self.contact_endpoints if each not in tried]
            tried.update(endpoints)
            candidate = await self._search.first(endpoints)
            if candidate is not None:
                self._use(candidate)
                return self.topology
            if not self._contacts.late:
                break
        failures = self.failures
        if len(failures) == 1:
            raise failures[0]
        raise NoHostAvailable(failures) from failures[0]

    async def run(self) -> None:
        """Keep the topology up to date until cancelled; call it after :meth:`begin`."""
        try:
            while True:
                try:
                    await self._step()
                except Exception as exc:
                    self._failed(exc)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection; for a session that ends before :meth:`run` was called."""
        self._closed = True
        tables, self._tables = self._tables, None
        if tables is not None:
            tables.connection.close(SessionClosed("the session is closed"))

    async def agree(self, timeout: float, connection: Connection | None = None) -> bool:
        """Wait until the hosts that are up have the same schema.

        Arguments:
            timeout: how long to wait, in seconds.
            connection: to the node that has changed the schema and is asked, since others may
                still agree on the old one. If it is lost, the control connection's node is asked.

        Returns:
            whether they have. False also if the server doesn't tell schema versions, and as soon as
            the session is closed.
        """
        changed = None
        if connection is not None:
            changed = self._tables_of(connection)

        def tables() -> SystemTables | None:
            if self._closed:
                raise SessionClosed("the session is closed")
            lost = changed is None or changed.connection.lost is not None
            return self._tables if lost else changed

        try:
            return await agree(tables, self._owner.hosts_up, timeout)
        except SessionClosed:
            return False

    # -- events

    def _on_event(self, event: ServerEvent) -> None:
        """Handle an event, in the task or callback that reads the connection."""
        now = self._clock()
        if isinstance(event, SchemaChange):
            self._tell(self._owner.schema_changed, event)
            if event.target == "KEYSPACE":
                self._schedule.keyspaces.ask(now)
        elif isinstance(event, TopologyChange):
            self._schedule.hosts.ask(now)
        elif isinstance(event, StatusChange):
            endpoint = self._reader.find(*event.address)
            down = event.change == "DOWN"
            if endpoint is not None:
                self._tell(self._owner.host_down if down else self._owner.host_up, endpoint)
            elif not down:
                self._schedule.hosts.ask(now)
        self._wake.set()

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as exc:
            log(logging.WARNING, "the session can't handle news of the cluster", exc)

    # -- the task

    async def _step(self) -> None:
        """Do what is due, or wait until something is."""
        now = self._clock()
        tables = self._tables
        if tables is None or tables.connection.lost is not None:
            await self._move()
        elif self._schedule.take_refresh(now):
            reading = await self._reader.read(tables)
            if self._reader.update(tables, reading):
                self._tell(self._owner.topology_changed, self.topology)
            self._log_notes(reading.notes)
            self._answered(now)
        elif self._schedule.keyspaces.take(now):
            keyspaces, notes = await tables.keyspaces()
            self._log_notes(notes)
            self._answered(now)
            if "keyspaces" not in tables.unread and self._reader.update_keyspaces(keyspaces):
                self._tell(self._owner.topology_changed, self.topology)
        elif self._schedule.is_heartbeat_due(now):
            await tables.heartbeat(self._config.heartbeat_timeout)
            self._answered(now)
        else:
            self._wake = anyio.Event()
            with anyio.CancelScope(deadline=self._schedule.next):
                await self._wake.wait()

    def _answered(self, now: float) -> None:
        self._failures = 0
        self._schedule.postpone_heartbeat(now)

    def _failed(self, error: Exception) -> None:
        """The node has not answered: ask it again, or close the connection to move on."""
        tables = self._tables
        if tables is None:
            log(logging.WARNING, "looking for a node failed", error)
        if tables is None or tables.connection.lost is not None:
            return
        self._failures += 1
        if isinstance(error, RequestTimeout) or self._failures >= PATIENCE:
            tables.connection.give_up(f"it doesn't serve as a control connection: {error}")
        else:
            now = self._clock()
            self._schedule.postpone_heartbeat(now)
            self._schedule.hosts.ask(now, _delay(self._failures))
        log(logging.WARNING, f"reading the system tables of {tables.connection.name} failed", error)

    def _log_notes(self, notes: Sequence[str]) -> None:
        """Log what was wrong with the rows, and read them again before long."""
        if notes:
            self._schedule.read_again(self._clock(), new=self._notes.log(notes))

    # -- moving to another node

    async def _move(self) -> None:
        """Find another node, however long it takes."""
        tried: set[Endpoint] = set()
        if self._tables is not None:
            lost = self._tables.connection
            self._tables = None
            if self._clock() - self._since >= STEADY:
                self._moves = 0
            tried.add(lost.endpoint)  # its pool may not know yet that the node is dead
            log(logging.INFO, "the control connection is lost", lost.lost)
            self._tell(self._owner.control_lost, lost.lost)
        while True:
            if self._moves:
                await anyio.sleep(_delay(self._moves))
            self._moves += 1
            endpoints = [*islice(self._candidates(tried), CANDIDATES)]
            tried.update(endpoints)
            if await self._move_to(endpoints):
                return
            keep = [host.endpoint for host in self.topology.hosts.values()]
            for failure in await self._contacts.resolve(keep, patient=False):
                log(logging.DEBUG, "no control connection", failure)
            # those that were just tried wait for the next round
            others = [each for each in self.contact_endpoints if each not in endpoints]
            if await self._move_to(others):
                return

    def _candidates(self, tried: set[Endpoint]) -> list[Endpoint]:
        """Return the owner's candidates that were not tried; once all were, begin anew."""
        candidates: list[Endpoint] = []
        self._tell(lambda: candidates.extend(self._owner.candidates()))
        if left := [endpoint for endpoint in candidates if endpoint not in tried]:
            return left
        tried.clear()
        return candidates

    async def _move_to(self, endpoints: Iterable[Endpoint]) -> bool:
        """Move to the first of these nodes that works; return whether one does."""
        candidate = await self._search.another(endpoints)
        if candidate is None:
            return False
        if self._use(candidate):
            self._tell(self._owner.topology_changed, self.topology)
        return True

    def _use(self, candidate: Candidate) -> bool:
        """Make a candidate the control connection; return whether the topology has changed."""
        self._tables = tables = candidate.tables
        self._since = candidate.since
        self._schedule.everything_read(candidate.since)
        changed = self._reader.update(tables, candidate.reading)
        self._log_notes(candidate.notes)
        self._answered(candidate.since)
        self._tell(self._owner.control_connected, tables.connection.endpoint)
        tables.connection.listener = self._on_event
        for event in candidate.events:
            self._on_event(event)
        return changed


def _delay(attempt: int) -> float:
    """Return how long to wait before an attempt, in seconds; the first attempt is 1."""
    delay = backoff(FIRST_DELAY, attempt, LONGEST_DELAY)
    return delay * (1 - random.random() / 2)
