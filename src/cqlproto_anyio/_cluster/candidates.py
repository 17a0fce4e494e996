"""Search of a node for the control connection: connect to several, use the first that works.

A candidate REGISTERs for events before it reads the system tables, so that no change falls between.
Some proxies and other databases that speak CQL close the connection when they are asked for events,
or for the system tables. Those are tried again and asked for less, but only when no node answers
everything.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._cluster.log import log
from cqlproto_anyio._cluster.racing import Race
from cqlproto_anyio._cluster.refresh import Reading
from cqlproto_anyio._cluster.system_tables import SystemTables
from cqlproto_anyio.exceptions import ConnectionFailed, ConnectionLost, CQLError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from cqlproto.messages.events import ServerEvent
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.config import Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["Candidate", "CandidateSearch"]

# How many events are kept while the tables are read for the first time.
MOST_EARLY = 1000
# How much a node is asked for: events and tables; tables only; neither.
EVERYTHING, NO_EVENTS, NOTHING = range(3)


class Candidate:
    """A connection that may become the control connection, and what was read over it.

    Attributes:
        tables: the node's system tables.
        asked: how much the node was asked for: ``EVERYTHING``, ``NO_EVENTS`` or ``NOTHING``.
        since: when the node began to send events, in seconds of the clock.
        reading: the hosts and keyspaces.
        events: the events that have arrived so far.
    """

    __slots__ = ("asked", "events", "reading", "since", "tables")

    def __init__(self, tables: SystemTables, asked: int, since: float) -> None:
        self.tables = tables
        self.asked = asked
        self.since = since
        self.reading = Reading()
        self.events: list[ServerEvent] = []

    @property
    def complete(self) -> bool:
        """Whether the node has answered everything."""
        return self.reading.found is not None and not self.tables.unread

    @property
    def notes(self) -> list[str]:
        """What the node doesn't answer, and what is wrong with its rows."""
        notes = list(self.reading.notes)
        if self.asked != EVERYTHING:
            what = "for events" if self.asked == NO_EVENTS else "for the system tables"
            notes.append(
                f"{self.tables.connection.endpoint} closes the connection when asked {what}"
            )
        return notes

    def keep_event(self, event: ServerEvent) -> None:
        """Keep an event until the candidate is the control connection."""
        if len(self.events) < MOST_EARLY:
            self.events.append(event)

    def discard(self) -> None:
        """Close the connection, for another one is used."""
        self.tables.connection.listener = None
        self.tables.connection.give_up("it doesn't serve as a control connection")


class CandidateSearch:
    """Connects to nodes until one works.

    Arguments:
        backend: what the event loop offers.
        timer: of the session.
        config: the time limits, and how many connections may be in the making.
        open: opens a connection to a node, within its own time limit.
        spawn: starts a task that lives as long as the session.
        read: reads the hosts and keyspaces.
        ended: called when the connection of a candidate has ended.

    Attributes:
        failures: why :meth:`first` has found no node so far.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        timer: Timer,
        config: Config,
        open: Callable[[Endpoint], Awaitable[Connection]],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        read: Callable[[SystemTables], Awaitable[Reading]],
        ended: Callable[[], object],
    ) -> None:
        self.failures: list[Exception] = []
        self._backend = backend
        self._timer = timer
        self._clock = timer.clock
        self._config = config
        self._open = open
        self._spawn = spawn
        self._read = read
        self._ended = ended
        self._least = EVERYTHING  # how much the session's first node could be asked for
        self._closed_when_asked: set[Endpoint] = set()  # nodes that can be asked for less only

    async def first(self, endpoints: Sequence[Endpoint]) -> Candidate | None:
        """Return the session's first control connection, or None if none of these nodes works.

        Raises:
            DatabaseError, ConfigError: an error that is not about the node, such as bad
                credentials.
        """
        for asked in (EVERYTHING, NO_EVENTS, NOTHING):
            self._closed_when_asked.clear()
            failures = self.failures if asked == EVERYTHING else None
            candidate = await self._race(asked, _is_general, failures).run(endpoints)
            if candidate is not None:
                self._least = asked
                return candidate
            endpoints = [each for each in endpoints if each in self._closed_when_asked]
            if not endpoints:
                break
        return None

    async def another(self, endpoints: Iterable[Endpoint]) -> Candidate | None:
        """Return a control connection after the first, or None if none of these nodes works."""
        endpoints = tuple(endpoints)
        for asked in sorted({EVERYTHING, self._least}):
            race = self._race(asked)
            candidate = await race.run(endpoints)
            for failure in race.failures:
                log(logging.DEBUG, "no control connection", failure)
            if candidate is not None:
                return candidate
        return None

    def _race(
        self,
        asked: int,
        serious: Callable[[Exception], bool] = lambda error: False,
        failures: list[Exception] | None = None,
    ) -> Race[Endpoint, Candidate]:
        return Race(
            partial(self._connect, asked),
            clock=self._clock,
            protected=self._backend.protected,
            at_once=self._config.max_connecting,
            serious=serious,
            failures=failures,
        )

    async def _connect(
        self, asked: int, endpoint: Endpoint, progress: Callable[[], None]
    ) -> Candidate:
        """Connect to a node, register for events and read the tables.

        Raises:
            What ``open`` does; ConnectionFailed also if the tables can't be read.
        """
        started = self._clock()
        connection = await self._open(endpoint)
        progress()
        tables = SystemTables(
            connection,
            self._backend.request_class,
            self._timer,
            self._config.control_timeout,
            tolerant=True,
        )
        tables.answered = progress
        candidate = Candidate(tables, asked, self._clock())
        connection.listener = candidate.keep_event

        async def run() -> None:
            try:
                await connection.run()
            finally:
                self._ended()

        try:
            self._spawn(run)
            await self._ask(candidate)
        except BaseException as exc:
            candidate.discard()
            if not isinstance(exc, CQLError):
                raise
            if isinstance(exc, ConnectionLost):
                self._closed_when_asked.add(endpoint)
            raise ConnectionFailed(
                exc.reason if isinstance(exc, ConnectionFailed) else str(exc),
                host=str(endpoint),
                stage="discovery",
                elapsed=self._clock() - started,
            ) from exc
        return candidate

    async def _ask(self, candidate: Candidate) -> None:
        """Register and read, as far as this candidate is asked."""
        tables = candidate.tables
        note = None
        if candidate.asked == EVERYTHING:
            note = await tables.register()
            candidate.since = self._clock()
        else:
            tables.unread.add("events")
        if candidate.asked != NOTHING:
            candidate.reading = await self._read(tables)
        if note is not None:
            candidate.reading.notes.insert(0, note)


def _is_general(error: Exception) -> bool:
    """Whether an error has nothing to do with the node that was tried."""
    return not isinstance(error, ConnectionFailed)
