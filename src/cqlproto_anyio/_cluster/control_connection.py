"""The control connection: what keeps a session's picture of the cluster true.

It is one connection to any node, which tells of changes and whose system tables say the rest. It
REGISTERs before it reads, so that nothing falls between. What comes fast is told at once: which
known host is up or down, which part of the schema has changed. What costs something is gathered:
hosts are read again a second after the last event about them, and at the latest some seconds after
the first; and now and then without any, should an event be lost.

When the connection dies, or its node stops answering or talks nonsense, it moves on: to the hosts
that its owner prefers, then to the contact points, whose names are resolved anew. Several are tried
a little apart, so that nodes which don't answer hold up nothing. All of this is one task that waits
for whatever is due next; no error ends it. What can't be told to a caller is logged.

What a node doesn't tell counts as unknown: a session works with the contact point if need be. One
that tells more is preferred while there is any.
"""

from __future__ import annotations

import logging
import math
import random
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from cqlproto.messages import SchemaChange, StatusChange, TopologyChange
from cqlproto_anyio._cluster.contact_points import ContactPoints
from cqlproto_anyio._cluster.debounce import Debounce
from cqlproto_anyio._cluster.racing import Race
from cqlproto_anyio._cluster.schema_agreement import agree
from cqlproto_anyio._cluster.system_tables import SystemTables
from cqlproto_anyio._metadata.discovery import (
    Addresses,
    Found,
    HostReader,
    plain_host,
    with_hosts,
    with_keyspaces,
)
from cqlproto_anyio._metadata.topology import Host, Topology
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    ConnectionLost,
    CQLError,
    NoHostAvailable,
    RequestTimeout,
    SessionClosed,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from uuid import UUID

    from cqlproto.messages.events import ServerEvent
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["Control", "Owner"]

logger = logging.getLogger("cqlproto_anyio")

# In seconds. Events about hosts come in bursts, one from each peer.
QUIET, MOST = 1.0, 5.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
# A connection that has lasted so long is good: when it is lost, the next is tried at once.
STEADY = 5.0
# How many hosts are tried before the contact points are.
CANDIDATES = 8
# How often a node may fail to answer the system queries before another is asked.
PATIENCE = 3
# When to read again rows that made no sense, since what a node is known for comes bit by bit; then
# after twice as long, and so on.
SOON = 5.0
# How many notes are remembered, lest they be logged again, and how many are logged at a time.
MOST_NOTED = 1000
MOST_LOGGED = 50
# How many events are kept while the tables are read for the first time.
MOST_EARLY = 1000
# What is asked of a node: everything; no events, since some break off for that; nothing at all.
EVERYTHING, NO_EVENTS, NOTHING = range(3)


class Owner(Protocol):
    """Who is told, and asked; called synchronously. What it raises is logged."""

    def topology_changed(self, topology: Topology) -> None:
        """The hosts or the keyspaces are others from now on."""
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
        """Return where the control connection may go, best first."""
        ...

    def hosts_up(self) -> Iterable[UUID]:
        """Return the hosts whose schema matters."""
        ...

    def control_lost(self, error: Exception) -> None:
        """The control connection is gone; it is being made anew."""
        ...

    def control_connected(self, endpoint: Endpoint) -> None:
        """The control connection is here now."""
        ...


class Candidate:
    """A connection that may become the control connection, and what was read on it.

    Attributes:
        tables: the node's tables.
        since: when the node began to tell of events, in seconds of the clock.
        found, keyspaces, notes: what :meth:`SystemTables.cluster` returned; None if nothing was
            asked.
        early: the events so far.
    """

    __slots__ = ("early", "found", "keyspaces", "notes", "since", "tables")

    def __init__(self, tables: SystemTables, since: float) -> None:
        self.tables = tables
        self.since = since
        self.found: Found | None = None
        self.keyspaces: Mapping[str, Mapping[str, str]] = {}
        self.notes: list[str] = []
        self.early: list[ServerEvent] = []

    @property
    def complete(self) -> bool:
        return self.found is not None and not self.tables.unread

    def heard(self, event: ServerEvent) -> None:
        """Keep an event for later."""
        if len(self.early) < MOST_EARLY:
            self.early.append(event)

    def discard(self) -> None:
        """Close the connection, for another one is used."""
        self.tables.connection.listener = None
        self.tables.connection.give_up("it doesn't serve as a control connection")


class Control:
    """The control connection of a session.

    Arguments:
        backend: what the event loop offers.
        timer: of the session.
        config: ``translate``, ``connector`` and the times.
        contact_points: where to begin, as the user named them.
        open: makes a connection to a node, within its own bound of time.
        owner: who is told.
        start: starts a task that lives as long as the session.

    Attributes:
        endpoint: the node that is asked, or None while there is none.
        contact_endpoints: the contact points, resolved, as of when that was done last.
        topology: the cluster as it was told last.
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
        self.topology = Topology((), {})
        self._unresolved: Sequence[Exception] = ()
        self._attempts: list[Exception] = []  # of begin(), those that have failed
        self._backend = backend
        self._clock = timer.clock
        self._config = config
        self._contacts = ContactPoints(
            contact_points,
            clock=timer.clock,
            protected=backend.protected,
            timeout=config.connect_timeout,
            resolve=config.connector is None,
            translate=config.translate,
        )
        self._open = open
        self._owner = owner
        self._start = start
        self._tables: SystemTables | None = None
        self._addresses = Addresses({})
        self._asks = EVERYTHING
        self._least = EVERYTHING  # what the first node could be asked
        self._broke_off: set[Endpoint] = set()  # nodes that closed the connection when asked
        self._noted: set[str] = set()
        self._soon = SOON
        self._hosts_due = Debounce(QUIET, MOST)
        self._keyspaces_due = Debounce(QUIET, MOST)
        self._refresh_at = math.inf
        self._beat_at = math.inf
        self._since = math.inf  # when the connection was made
        self._moves = 0  # since a connection lasted
        self._failures = 0  # of the node to answer, in a row
        self._wake = anyio.Event()
        self._closed = False

    @property
    def endpoint(self) -> Endpoint | None:
        return None if self._tables is None else self._tables.connection.endpoint

    @property
    def contact_endpoints(self) -> tuple[Endpoint, ...]:
        return self._contacts.endpoints

    @property
    def failures(self) -> list[Exception]:
        """Why :meth:`begin` has not found a node so far."""
        return [*self._unresolved, *self._attempts]

    # -- what the session calls

    async def begin(self) -> Topology:
        """Resolve the contact points, connect to the first that works and read everything.

        Raises:
            ConnectionFailed: the only address there was to try doesn't work; its stage is
                ``discovery`` if the node can't say what the cluster is.
            NoHostAvailable: several were tried.
            DatabaseError, ConfigError: as ``open`` says.
        """
        tried: set[Endpoint] = set()
        for patient in (False, True):
            self._unresolved = await self._contacts.resolve(patient=patient)
            endpoints = [each for each in self.contact_endpoints if each not in tried]
            tried.update(endpoints)
            if await self._begin_at(endpoints):
                return self.topology
            if not self._contacts.late:
                break
        failures = self.failures
        if len(failures) == 1:
            raise failures[0]
        raise NoHostAvailable(failures) from failures[0]

    async def _begin_at(self, endpoints: Sequence[Endpoint]) -> bool:
        """Connect to one of these nodes; one that breaks off when it is asked is asked less."""
        for asks in (EVERYTHING, NO_EVENTS, NOTHING):
            self._asks = asks
            self._broke_off.clear()
            race = self._race(_is_general, self._attempts if asks == EVERYTHING else None)
            candidate = await race.run(endpoints)
            if candidate is not None:
                self._least = asks
                self._settle(candidate)
                return True
            endpoints = [each for each in endpoints if each in self._broke_off]
            if not endpoints:
                break
        return False

    def _race(
        self,
        serious: Callable[[Exception], bool] = lambda error: False,
        failures: list[Exception] | None = None,
    ) -> Race[Endpoint, Candidate]:
        return Race(
            self._connect,
            clock=self._clock,
            protected=self._backend.protected,
            at_once=self._config.max_connecting,
            serious=serious,
            failures=failures,
        )

    async def run(self) -> None:
        """Keep the picture true until cancelled; call it after :meth:`begin`."""
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

    def refresh_soon(self) -> None:
        """Read the hosts and keyspaces again, in about a second."""
        self._hosts_due.ask(self._clock())
        self._wake.set()

    async def agree(self, timeout: float, connection: Connection | None = None) -> bool:
        """Wait until the hosts that are up have the same schema.

        Arguments:
            timeout: how long to wait, in seconds.
            connection: to the node that has changed the schema, which is the one to ask: others may
                agree on what was before. Should it be lost, the control connection's is asked.

        Returns:
            whether they have; False also if the server doesn't tell schema versions, and as soon as
            the session is closed.
        """
        changed = None
        if connection is not None:
            changed = SystemTables(connection, self._backend, self._config.control_timeout)

        def asked() -> SystemTables | None:
            if self._closed:
                raise SessionClosed("the session is closed")
            if changed is None or changed.connection.lost is not None:
                return self._tables
            return changed

        try:
            return await agree(asked, self._owner.hosts_up, timeout)
        except SessionClosed:
            return False

    # -- events

    def _on_event(self, event: ServerEvent) -> None:
        """Take an event, in the task or callback that reads the connection."""
        now = self._clock()
        if isinstance(event, SchemaChange):
            self._tell(self._owner.schema_changed, event)
            if event.target == "KEYSPACE":
                self._keyspaces_due.ask(now)
        elif isinstance(event, TopologyChange):
            self._hosts_due.ask(now)
        elif isinstance(event, StatusChange):
            endpoint = self._addresses.find(*event.address)
            if event.change == "DOWN":
                if endpoint is not None:
                    self._tell(self._owner.host_down, endpoint)
            elif endpoint is not None:
                self._tell(self._owner.host_up, endpoint)
            else:
                self._hosts_due.ask(now)
        self._wake.set()

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception as exc:
            _log(logging.WARNING, "the session can't take what it was told", exc)

    # -- the task

    async def _step(self) -> None:
        """Do what is due, or wait until something is."""
        now = self._clock()
        tables = self._tables
        if tables is None or tables.connection.lost is not None:
            await self._move()
        elif self._hosts_due.take(now) or now >= self._refresh_at:
            self._plan_refresh(now)
            await self._refresh(tables)
            self._answered(now)
        elif self._keyspaces_due.take(now):
            keyspaces, notes = await tables.keyspaces()
            self._note(notes)
            self._answered(now)
            if "keyspaces" not in tables.unread:
                self._take(with_keyspaces(self.topology, keyspaces))
        elif now >= self._beat_at:
            await tables.beat(self._config.heartbeat_timeout)
            self._answered(now)
        else:
            self._wake = anyio.Event()
            due = min(self._hosts_due.due, self._keyspaces_due.due, self._refresh_at, self._beat_at)
            with anyio.CancelScope(deadline=due):
                await self._wake.wait()

    def _answered(self, now: float) -> None:
        self._failures = 0
        self._beat_at = now + self._config.heartbeat_interval

    def _plan_refresh(self, now: float) -> None:
        # sessions that were started together shall not ask together
        self._refresh_at = now + self._config.refresh_interval * (1 + random.random() / 4)

    def _failed(self, error: Exception) -> None:
        """The node has not answered what was due: ask again, or another one."""
        tables = self._tables
        if tables is None:
            _log(logging.WARNING, "looking for a node failed", error)
            return
        if tables.connection.lost is not None:
            return
        self._failures += 1
        if isinstance(error, RequestTimeout) or self._failures >= PATIENCE:
            tables.connection.give_up(f"it doesn't serve as a control connection: {error}")
        else:
            now = self._clock()
            self._beat_at = now + self._config.heartbeat_interval
            self._hosts_due.ask(now, _delay(self._failures))
        _log(logging.WARNING, f"{tables.connection.name} doesn't tell of the cluster", error)

    async def _move(self) -> None:
        """Find a node that can be asked, however long it takes."""
        shunned: set[Endpoint] = set()
        if self._tables is not None:
            lost = self._tables.connection
            self._tables = None
            if self._clock() - self._since >= STEADY:
                self._moves = 0
            shunned.add(lost.endpoint)  # a node that has died may look alive to its pool
            _log(logging.INFO, "the control connection is lost", lost.lost)
            self._tell(self._owner.control_lost, lost.lost)
        while True:
            if self._moves:
                await anyio.sleep(_delay(self._moves))
            self._moves += 1
            endpoints = [*islice(self._candidates(shunned), CANDIDATES)]
            shunned.update(endpoints)
            if await self._connect_first(endpoints):
                return
            keep = [host.endpoint for host in self.topology.hosts.values()]
            for failure in await self._contacts.resolve(keep, patient=False):
                _log(logging.DEBUG, "no control connection", failure)
            # those that were just tried wait for the next round
            others = [each for each in self._contacts.endpoints if each not in endpoints]
            if await self._connect_first(others):
                return

    def _candidates(self, shunned: set[Endpoint]) -> list[Endpoint]:
        """Return where to go, without what has been tried, until everything has been."""
        candidates: list[Endpoint] = []
        self._tell(lambda: candidates.extend(self._owner.candidates()))
        left = [endpoint for endpoint in candidates if endpoint not in shunned]
        if not left:
            shunned.clear()
        return left or candidates

    async def _connect_first(self, endpoints: Iterable[Endpoint]) -> bool:
        before = self.topology
        endpoints = tuple(endpoints)
        for asks in sorted({EVERYTHING, self._least}):
            self._asks = asks
            race = self._race()
            candidate = await race.run(endpoints)
            for failure in race.failures:
                _log(logging.DEBUG, "no control connection", failure)
            if candidate is not None:
                self._settle(candidate)
                if self.topology is not before:
                    self._tell(self._owner.topology_changed, self.topology)
                return True
        return False

    # -- a connection

    async def _connect(self, endpoint: Endpoint, progress: Callable[[], None]) -> Candidate:
        """Connect to a node and read everything there.

        Raises:
            What ``open`` does; ConnectionFailed also if the node can't say what the cluster is.
        """
        started = self._clock()
        connection = await self._open(endpoint)
        progress()
        tables = SystemTables(
            connection, self._backend, self._config.control_timeout, tolerant=True
        )
        tables.answered = progress
        candidate = Candidate(tables, self._clock())
        connection.listener = candidate.heard

        async def carry() -> None:
            try:
                await connection.run()
            finally:
                self._wake.set()

        try:
            self._start(carry)
            if self._asks == EVERYTHING:
                note = await tables.register()
                if note is not None:
                    candidate.notes.append(note)
                candidate.since = self._clock()
            else:
                tables.unread.add("events")
            if self._asks != NOTHING:
                found, candidate.keyspaces, notes = await self._read(tables)
                candidate.found = found
                candidate.notes += notes
        except BaseException as exc:
            candidate.discard()
            if not isinstance(exc, CQLError):
                raise
            if isinstance(exc, ConnectionLost):
                self._broke_off.add(endpoint)
            raise ConnectionFailed(
                exc.reason if isinstance(exc, ConnectionFailed) else str(exc),
                host=str(endpoint),
                stage="discovery",
                elapsed=self._clock() - started,
            ) from exc
        return candidate

    def _settle(self, candidate: Candidate) -> None:
        """Make it the control connection."""
        tables = candidate.tables
        self._tables = tables
        self._since = candidate.since
        # what was told before is part of what was read
        self._hosts_due.take(math.inf)
        self._keyspaces_due.take(math.inf)
        self._plan_refresh(candidate.since)
        if self._asks != EVERYTHING:
            what = "for events" if self._asks == NO_EVENTS else "what the cluster is"
            candidate.notes.append(
                f"{tables.connection.endpoint} breaks off when it is asked {what}"
            )
        self._take(self._topology(tables, candidate.found, candidate.keyspaces), tell=False)
        self._note([*candidate.notes, *(candidate.found.notes if candidate.found else ())])
        self._answered(candidate.since)
        self._tell(self._owner.control_connected, tables.connection.endpoint)
        tables.connection.listener = self._on_event
        for event in candidate.early:
            self._on_event(event)

    # -- what is read

    async def _refresh(self, tables: SystemTables) -> None:
        """Read hosts and keyspaces, and tell of them if they have changed."""
        found, keyspaces, notes = await self._read(tables)
        self._take(self._topology(tables, found, keyspaces))
        self._note([*notes, *found.notes])

    async def _read(
        self, tables: SystemTables
    ) -> tuple[Found, Mapping[str, Mapping[str, str]], list[str]]:
        """Read hosts and keyspaces; return what :meth:`SystemTables.cluster` does."""
        lenient = not tables.tells_itself
        return await tables.cluster(
            lambda local: HostReader(
                local,
                contact=tables.connection.endpoint,
                translate=self._config.translate,
                names=self._contacts.names,
                known=self.topology.hosts,
                lenient=lenient,
            )
        )

    def _topology(
        self,
        tables: SystemTables,
        found: Found | None,
        keyspaces: Mapping[str, Mapping[str, str]],
    ) -> Topology:
        """Return what follows from what was read; what the node doesn't tell is as it was."""
        topology = self.topology
        if found is None:
            if topology.hosts:
                return topology
            return Topology([plain_host(tables.connection.endpoint)], {})
        others: list[Host] = []
        if tables.unread & {"local", "peers"}:
            mine = {host.host_id for host in found.hosts}
            at = {host.endpoint for host in found.hosts}
            others = [
                host
                for host in topology.hosts.values()
                if host.host_id not in mine and host.endpoint not in at
            ]
            found = replace(found, hosts=(*found.hosts, *others))
        if not others:
            self._addresses = found.addresses
        topology = with_hosts(topology, found)
        if "keyspaces" in tables.unread:
            return topology
        return with_keyspaces(topology, keyspaces)

    def _take(self, topology: Topology, *, tell: bool = True) -> None:
        changed = topology is not self.topology
        self.topology = topology
        if tell and changed:
            self._tell(self._owner.topology_changed, topology)

    # -- the log

    def _note(self, notes: Sequence[str]) -> None:
        """Log what is new of what was wrong with the rows, and read them again before long."""
        if not notes:
            return
        new = [note for note in dict.fromkeys(notes) if note not in self._noted]
        for note in new[:MOST_LOGGED]:
            _log(logging.WARNING, note)
        if len(new) > MOST_LOGGED:
            _log(logging.WARNING, f"and {len(new) - MOST_LOGGED} more such notes on hosts")
        if len(self._noted) > MOST_NOTED:
            self._noted.clear()
        self._noted.update(notes)
        self._soon = SOON if new else min(2 * self._soon, self._config.refresh_interval)
        self._refresh_at = min(self._refresh_at, self._clock() + self._soon)


def _is_general(error: Exception) -> bool:
    """Whether an error has nothing to do with the node that was tried."""
    return not isinstance(error, ConnectionFailed)


def _log(level: int, text: str, error: BaseException | None = None) -> None:
    with suppress(BaseException):  # a filter or handler of the program's may raise
        if error is None:
            logger.log(level, "%s", text)
        elif isinstance(error, CQLError):
            logger.log(level, "%s: %s", text, error)
        else:  # a bug of ours or of a function of the user's
            logger.warning("%s", text, exc_info=error)


def _delay(attempt: int) -> float:
    """Return how long to wait before an attempt, the first of which is 1, in seconds."""
    delay = min(FIRST_DELAY * 2.0 ** min(attempt - 1, 16), LONGEST_DELAY)
    return delay * (1 - random.random() / 2)
