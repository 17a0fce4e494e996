"""Preparing statements: one PREPARE for all calls that need the same statement at the same time.

A statement is prepared at one host. Another host that gets it in EXECUTE answers UNPREPARED, and
the statement is prepared there too. A host that has restarted is thus told only the statements that
are executed on it.

One preparation (a *flight*) serves all calls that need its statement meanwhile. It belongs to no
task, because the first caller may be cancelled while the others wait. Later callers don't extend
its time: if a host is silent, another host is asked too, and after ``control_timeout`` the flight
ends. If it fails, each caller's retry policy decides whether to try another host; the first caller
that does begins the next flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from cqlproto.enums import ErrorCode
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Prepare
from cqlproto.messages.results import Prepared as PreparedMessage
from cqlproto_anyio._eventloop.request import Detached
from cqlproto_anyio._statements.cache import StatementCache
from cqlproto_anyio._statements.statement import Statement
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    DatabaseError,
    Overloaded,
    RequestTimeout,
    UsageError,
    database_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.cache import Key
    from cqlproto_anyio._statements.server_warnings import ServerWarnings

__all__ = ["SILENT", "Preparer", "PrepareOutcome", "refused_everywhere"]

SILENT = "prepare"
"""The ``stage`` of a ConnectionFailed for a host that doesn't answer PREPARE."""

# The part of the flight's time after which a second host is asked. Each further host is asked after
# twice as long a wait, so a flight asks four hosts at most.
_PATIENCE = 0.1
# Failures after which another host that was asked may still prepare the statement.
_PASSING = (ConnectionFailed, DatabaseError, Overloaded, RemoteProtocolError)

# The statement, and the connection to the host that must prepare it; None if any host will do.
FlightKey = tuple["Key", "Connection | None"]


class PrepareOutcome:
    """The outcome of a preparation.

    Attributes:
        statement: the statement; None if it could not be prepared.
        message: the PREPARED message; None if there was none.
        failed: the failures, in order, each with the connection it happened on.
    """

    __slots__ = ("failed", "message", "statement")

    def __init__(
        self,
        failed: Sequence[tuple[Exception, Connection]],
        statement: Statement | None = None,
        message: PreparedMessage | None = None,
    ) -> None:
        self.failed = tuple(failed)
        self.statement = statement
        self.message = message

    @property
    def error(self) -> Exception:
        """The error to raise: the last refusal by a server, or else the last failure."""
        errors = [error for error, _ in self.failed]
        refusals = [error for error in errors if isinstance(error, DatabaseError)]
        return (refusals or errors)[-1]

    @property
    def is_silent(self) -> bool:
        """Whether it failed because hosts were too slow, and may succeed if tried again."""
        slow = [
            isinstance(each, ConnectionFailed) and each.stage == SILENT for each, _ in self.failed
        ]
        return any(slow) and isinstance(self.error, ConnectionFailed)


def refused_everywhere(error: Exception) -> bool:
    """Return whether every host would refuse to prepare the statement with the same error."""
    return isinstance(error, DatabaseError) and error.code == ErrorCode.SYNTAX_ERROR


class Preparer:
    """Prepares the statements of a session and caches them.

    Arguments:
        size: the maximum number of cached statements.
        default_keyspace: the keyspace given to ``connect``, or None.
        timeout: how long a flight may take, in seconds.
        timer: the session's timer.
        other: returns a connection to a host that none of the given connections leads to, or None.
        request_class: the event loop's class of requests, which callers wait in.
        warnings: logs the servers' warnings.

    Attributes:
        statements: the cache.
        changes: the number of schema changes so far.
    """

    def __init__(
        self,
        size: int,
        default_keyspace: str | None,
        *,
        timeout: float,
        timer: Timer,
        other: Callable[[Collection[Connection]], Connection | None],
        request_class: type[Request],
        warnings: ServerWarnings,
    ) -> None:
        self.statements = StatementCache(size)
        self.warnings = warnings
        self.timeout = timeout
        self.timer = timer
        self.other = other
        self.changes = 0
        self._default_keyspace = default_keyspace
        self._request_class = request_class
        # all statements still in use, also those evicted from the cache
        self._known: WeakValueDictionary[Key, Statement] = WeakValueDictionary()
        # those that are not outdated, by the keyspace they use; "" if it is not known
        self._fresh: dict[str, WeakSet[Statement]] = {}
        self._flights: dict[FlightKey, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def key(self, query: str, keyspace: str | None) -> Key:
        """Return the cache key of a statement, given the keyspace of its unqualified names."""
        return query if keyspace == self._default_keyspace else (keyspace, query)

    def known(self, query: str, keyspace: str | None) -> Statement | None:
        """Return the statement if it is prepared and not outdated, or None."""
        key = self.key(query, keyspace)
        statement = self.statements.get(key)
        if statement is None and (statement := self._known.get(key)) is not None:
            self.statements.put(key, statement)  # evicted, but still in use
        return None if statement is None or statement.stale else statement

    def outdate(self, keyspace: str) -> None:
        """Outdate the statements of a keyspace, whose schema has changed."""
        self.changes += 1
        # Outdated statements are removed, so many changes in a row cost no more than one.
        for name in (keyspace, ""):
            for statement in self._fresh.pop(name, ()):
                statement.outdate()

    def renew(self, statement: Statement, message: PreparedMessage) -> None:
        """Update a statement that was prepared again."""
        statement.renew(message)
        self._add_fresh(statement)

    def _add_fresh(self, statement: Statement) -> None:
        fresh = self._fresh.get(statement.uses_keyspace)
        if fresh is None:
            fresh = self._fresh[statement.uses_keyspace] = WeakSet()
        fresh.add(statement)

    async def prepared(
        self,
        query: str,
        settings: Settings,
        deadline: float,
        connection: Connection,
        renew: Statement | None = None,
        *,
        here: bool = False,
    ) -> PrepareOutcome:
        """Prepare a statement, or wait for the flight that does.

        Arguments:
            query: the statement's text.
            settings: the options of the call; its keyspace and timeout are used.
            deadline: when the call ends, in seconds of the session's clock.
            connection: where to send PREPARE, if no flight is under way.
            renew: the statement, if it is prepared again.
            here: whether the host of ``connection`` must prepare it; otherwise any host may.

        Returns:
            the statement, or the failures.

        Raises:
            UsageError: the protocol version has no keyspace option.
            RequestTimeout: the deadline has passed.
        """
        keyspace = settings.keyspace if renew is None else renew.keyspace
        if renew is None and (statement := self.known(query, keyspace)) is not None:
            return PrepareOutcome((), statement, statement.prepared)
        key = self.key(query, keyspace)
        return await self._join(key, query, settings, deadline, connection, here=here)

    async def _join(
        self,
        key: Key,
        query: str,
        settings: Settings,
        deadline: float,
        connection: Connection,
        *,
        here: bool,
    ) -> PrepareOutcome:
        """Wait for the flight under way, or begin one."""
        at = (key, connection if here else None)
        settings.check(connection.version)
        waiting = self._request_class(query, settings.timeout)
        waiting.deadline = deadline
        flight = self._flights.get(at)
        begins = flight is None
        if flight is None:
            keyspace = self._default_keyspace if isinstance(key, str) else key[0]
            flight = self._flights[at] = _Flight(self, at, query, keyspace)
        waiting.connection = connection if begins else flight.asked[-1]
        flight.waiters[waiting] = None
        self.timer.keep_deadline(waiting)
        if begins:
            flight.begin(connection)
        try:
            outcome: PrepareOutcome = await waiting
        except RequestTimeout as exc:
            exc.attempts = tuple([error for error, _ in flight.failed])
            raise
        finally:
            flight.waiters.pop(waiting, None)
            waiting.value = None  # the timer may hold the request until its deadline
        return outcome

    def ended(self, at: FlightKey, flight: _Flight) -> None:
        """Forget a flight that has ended."""
        if self._flights.get(at) is flight:
            del self._flights[at]

    def keep(self, key: Key, message: PreparedMessage, connection: Connection) -> Statement:
        """Return the statement for a PREPARED message: a new one, or the known one updated."""
        statement = self._known.get(key)
        if statement is None:
            keyspace, query = (self._default_keyspace, key) if isinstance(key, str) else key
            statement = Statement(query, keyspace, message, connection.version)
            self._known[key] = statement
            self._add_fresh(statement)
        else:
            statement.set_version(connection.version)
            self.renew(statement, message)
        self.statements.put(key, statement)
        return statement


class _Flight:
    """One preparation, at one host or several.

    Arguments:
        owner: the preparer.
        at: the flight's key.
        query: the statement's text.
        keyspace: the keyspace of its unqualified names, or None.

    Attributes:
        waiters: the requests that the callers wait in.
        asked: the connections that PREPARE was sent over.
        failed: the failures, each with its connection.
    """

    __slots__ = (
        "_alarm",
        "_at",
        "_changes",
        "_ended",
        "_keyspace",
        "_owner",
        "_patience",
        "_query",
        "_requests",
        "_started",
        "asked",
        "failed",
        "waiters",
    )

    def __init__(self, owner: Preparer, at: FlightKey, query: str, keyspace: str | None) -> None:
        self._owner = owner
        self._at = at
        self._query = query
        self._keyspace = keyspace
        self._started = owner.timer.clock()
        self._patience = owner.timeout * _PATIENCE
        self._alarm = owner.timer.alarm(self._impatient)
        self._requests: dict[Detached, Connection] = {}
        self._changes = owner.changes
        self._ended = False
        self.waiters: dict[Request, None] = {}
        self.asked: list[Connection] = []
        self.failed: list[tuple[Exception, Connection]] = []

    def begin(self, connection: Connection) -> None:
        """Ask the first host."""
        self._ask(connection)
        if not self._requests and not self._ended:
            self._end(PrepareOutcome(self.failed))

    def _ask(self, connection: Connection) -> None:
        """Send PREPARE over a connection."""
        owner = self._owner
        self.asked.append(connection)
        request = Detached(self._query, owner.timeout)
        request.deadline = self._started + owner.timeout
        request.call(self._arrived)
        try:
            request.carry(Prepare(self._query, self._sent_keyspace(connection)))
            connection.submit(request)
        except Exception as exc:
            self._add_failure(exc, connection)
            return
        self._requests[request] = connection
        owner.timer.keep_deadline(request)
        if self._at[1] is None:
            self._alarm.set(owner.timer.clock() + self._patience)

    def _sent_keyspace(self, connection: Connection) -> str | None:
        """Return the keyspace to send in PREPARE; before v5, None: the connection has one."""
        version = connection.version
        if version.has_keyspace_option:
            return self._keyspace
        if isinstance(self._at[0], tuple):
            raise UsageError(
                f"keyspace= needs protocol v5, {connection.name} speaks v{version:d}:"
                " pass keyspace= to connect(), or write keyspace.table"
            )
        return None

    def _impatient(self) -> None:
        """Ask another host too, because the hosts asked so far are silent.

        Their connections are probed, since other requests use them too.
        """
        self._patience *= 2
        following = self._owner.other(self.asked)
        if following is not None:
            for connection in self._requests.values():
                if connection.owner is not None:
                    connection.owner.doubtful(connection, skipping=False)
            if not self._ended:
                self._ask(following)

    def _add_failure(self, error: Exception, connection: Connection) -> None:
        if isinstance(error, CQLError):
            error.maybe_applied = False  # only PREPARE was sent
        self.failed.append((error, connection))

    def _arrived(self, request: Detached) -> None:
        connection = self._requests.pop(request, None)
        if self._ended or connection is None:  # submit() raised after sending it
            return
        owner = self._owner
        error = request.error
        if error is not None and not isinstance(error, Exception):
            error = RuntimeError(f"PREPARE failed with {type(error).__name__}")
        if isinstance(error, RequestTimeout):
            elapsed = owner.timer.clock() - self._started
            error = ConnectionFailed(
                "no answer to PREPARE", host=connection.name, stage=SILENT, elapsed=elapsed
            )
        elif error is None:
            if request.value.notes is not None:
                owner.warnings.log(request.value.warnings, self._query, connection.name)
            message = request.value.message
            if type(message) is PreparedMessage:
                statement = owner.keep(self._at[0], message, connection)
                if owner.changes != self._changes:  # the schema has changed meanwhile
                    statement.outdate()
                self._end(PrepareOutcome(self.failed, statement, message))
                return
            if isinstance(message, Error):
                error = database_error(message, host=connection.name, query=self._query)
            else:
                error = RemoteProtocolError(
                    f"the answer to PREPARE must be PREPARED, got {type(message).__name__}"
                )
                error.host = connection.name
        self._add_failure(error, connection)
        if not self._requests or not isinstance(error, _PASSING) or refused_everywhere(error):
            self._end(PrepareOutcome(self.failed))

    def _end(self, outcome: PrepareOutcome) -> None:
        """Give the outcome to the callers, and abandon the requests still under way."""
        self._ended = True
        self._alarm.cancel()
        self._owner.ended(self._at, self)
        for request in tuple(self._requests):
            request.abandon()
        self._requests.clear()
        waiters, self.waiters = self.waiters, {}
        for waiting in waiters:
            waiting.complete(outcome)
