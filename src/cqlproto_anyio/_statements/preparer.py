"""Preparing statements: once for all who ask at the same time, and again at the host that asks.

PREPARE belongs to no task, since the first who asks may be cancelled while the others go on. A
statement is prepared at one host; another that is handed it answers UNPREPARED, and learns of it
then. So a host that comes back is told what it is asked for, when it is asked, and nothing else.

One preparation (a *flight*) serves all who ask meanwhile, and has bounds of its own, which no later
caller extends: a host that is silent for a while is no longer the only one that is asked, and after
``control_timeout`` the flight ends. If it fails, each caller decides by its own retry policy
whether to go on at another host; the first one that does begins the next flight.
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

__all__ = ["SILENT", "Preparer", "Told", "refused_everywhere"]

SILENT = "prepare"
"""The stage of a ConnectionFailed that says that a host doesn't answer PREPARE."""

# A silent host is waited for alone for this part of the flight's time; then for twice as long
# together with another host, and so on: at most four hosts are asked in one flight.
_PATIENCE = 0.1
# Failures after which the other hosts that were asked may still prepare the statement.
_PASSING = (ConnectionFailed, DatabaseError, Overloaded, RemoteProtocolError)

# What a flight does, by what is prepared and, where a host is to learn of it anew, its connection.
FlightKey = tuple["Key", "Connection | None"]


class Told:
    """What has come of a preparation.

    Attributes:
        statement: the statement, or None if it could not be prepared.
        message: what PREPARED said, likewise.
        failed: what hosts have failed with, in order, with the connections to them.
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
        """What to raise if there is no statement: the last refusal, or else the last failure."""
        errors = [error for error, _ in self.failed]
        refusals = [error for error in errors if isinstance(error, DatabaseError)]
        return (refusals or errors)[-1]

    @property
    def is_silent(self) -> bool:
        """Whether hosts may yet prepare the statement that were too slow."""
        slow = [
            isinstance(each, ConnectionFailed) and each.stage == SILENT for each, _ in self.failed
        ]
        return any(slow) and isinstance(self.error, ConnectionFailed)


def refused_everywhere(error: Exception) -> bool:
    """Return whether no host would prepare a statement that one has refused so."""
    return isinstance(error, DatabaseError) and error.code == ErrorCode.SYNTAX_ERROR


class Preparer:
    """The statements of a session, and those that are being prepared.

    Arguments:
        size: how many statements are kept.
        usual: the keyspace that ``connect`` named, or None.
        timeout: how long hosts may take to prepare a statement, in seconds.
        timer: of the session.
        other: returns a connection to a host that is at none of the connections given, or None.
        request_class: makes what a task waits for.
    """

    def __init__(
        self,
        size: int,
        usual: str | None,
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
        self._usual = usual
        self._request_class = request_class
        # those that users hold too, which may have left the cache
        self._known: WeakValueDictionary[Key, Statement] = WeakValueDictionary()
        # those that are not outdated, by the keyspace that they are about, "" for any
        self._fresh: dict[str, WeakSet[Statement]] = {}
        self._flights: dict[FlightKey, _Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def key(self, query: str, keyspace: str | None) -> Key:
        """Return the key of a statement: what is unqualified means another table elsewhere."""
        return query if keyspace == self._usual else (keyspace, query)

    def known(self, query: str, keyspace: str | None) -> Statement | None:
        """Return a statement that needn't be prepared, or None."""
        key = self.key(query, keyspace)
        statement = self.statements.get(key)
        if statement is None and (statement := self._known.get(key)) is not None:
            self.statements.put(key, statement)  # somebody holds it although it was dropped here
        return None if statement is None or statement.stale else statement

    def outdate(self, keyspace: str) -> None:
        """The schema of a keyspace has changed."""
        self.changes += 1
        # each is outdated once, however many changes there are before it is prepared anew
        for name in (keyspace, ""):
            for statement in self._fresh.pop(name, ()):
                statement.outdate()

    def renew(self, statement: Statement, message: PreparedMessage) -> None:
        """Let a statement be what PREPARED says now."""
        statement.renew(message)
        self._is_fresh(statement)

    def _is_fresh(self, statement: Statement) -> None:
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
    ) -> Told:
        """Prepare a statement, once however many ask for it.

        Arguments:
            query: the text.
            settings: the options of the call, of which the keyspace and the timeout matter.
            deadline: when that ends, in seconds of the session's clock.
            connection: where to begin, unless that is under way elsewhere.
            renew: the statement, if it is known and has to be prepared anew.
            here: whether this very host is to learn of it; else any host will do.

        Returns:
            the statement, or what hosts have failed with.

        Raises:
            UsageError: the keyspace can't be told in this version.
            RequestTimeout: the deadline has passed.
        """
        keyspace = settings.keyspace if renew is None else renew.keyspace
        if renew is None and (statement := self.known(query, keyspace)) is not None:
            return Told((), statement, statement.prepared)
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
    ) -> Told:
        """Wait for the flight that is under way, or begin one."""
        at = (key, connection if here else None)
        settings.check(connection.version)
        waiting = self._request_class(query, settings.timeout)
        waiting.deadline = deadline
        flight = self._flights.get(at)
        begins = flight is None
        if flight is None:
            keyspace = self._usual if isinstance(key, str) else key[0]
            flight = self._flights[at] = _Flight(self, at, query, keyspace)
        waiting.connection = connection if begins else flight.asked[-1]
        flight.waiters[waiting] = None
        self.timer.keep_deadline(waiting)
        if begins:
            flight.begin(connection)
        try:
            told: Told = await waiting
        except RequestTimeout as exc:
            exc.attempts = tuple([error for error, _ in flight.failed])
            raise
        finally:
            flight.waiters.pop(waiting, None)
            waiting.value = None  # it may be kept until it would have been due
        return told

    def ended(self, at: FlightKey, flight: _Flight) -> None:
        """A flight has ended."""
        if self._flights.get(at) is flight:
            del self._flights[at]

    def keep(self, key: Key, message: PreparedMessage, connection: Connection) -> Statement:
        """Take what PREPARED said."""
        statement = self._known.get(key)
        if statement is None:
            keyspace, query = (self._usual, key) if isinstance(key, str) else key
            statement = Statement(query, keyspace, message, connection.version)
            self._known[key] = statement
            self._is_fresh(statement)
        else:
            statement.set_version(connection.version)
            self.renew(statement, message)
        self.statements.put(key, statement)
        return statement


class _Flight:
    """One preparation.

    Arguments:
        owner: the session's preparations.
        at: what stands for it there.
        query: the text.
        keyspace: the keyspace of its unqualified names, or None.

    Attributes:
        waiters: the requests of those who wait for what comes of it.
        asked: the connections over which it was sent.
        failed: what hosts have failed with.
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
            self._end(Told(self.failed))

    def _ask(self, connection: Connection) -> None:
        """Send PREPARE over a connection."""
        owner = self._owner
        self.asked.append(connection)
        request = Detached(self._query, owner.timeout)
        request.deadline = self._started + owner.timeout
        request.call(self._arrived)
        try:
            request.carry(Prepare(self._query, self._told_keyspace(connection)))
            connection.submit(request)
        except Exception as exc:
            self._note(exc, connection)
            return
        self._requests[request] = connection
        owner.timer.keep_deadline(request)
        if self._at[1] is None:
            self._alarm.set(owner.timer.clock() + self._patience)

    def _told_keyspace(self, connection: Connection) -> str | None:
        """Return the keyspace that PREPARE names; before v5 it is the connection's."""
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
        """The host that was asked last is silent: another one is asked as well.

        Whether the first one lives is found out meanwhile, since other requests go there too.
        """
        self._patience *= 2
        following = self._owner.other(self.asked)
        if following is not None:
            for connection in self._requests.values():
                if connection.owner is not None:
                    connection.owner.doubtful(connection, skipping=False)
            if not self._ended:
                self._ask(following)

    def _note(self, error: Exception, connection: Connection) -> None:
        if isinstance(error, CQLError):
            error.maybe_applied = False  # what failed was PREPARE
        self.failed.append((error, connection))

    def _arrived(self, request: Detached) -> None:
        connection = self._requests.pop(request, None)
        if self._ended or connection is None:  # its caller's stack was full as it was sent
            return
        owner = self._owner
        error = request.error
        if error is not None and not isinstance(error, Exception):
            error = RuntimeError(f"{type(error).__name__} came of PREPARE")
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
                if owner.changes != self._changes:  # it may be of before the change
                    statement.outdate()
                self._end(Told(self.failed, statement, message))
                return
            if isinstance(message, Error):
                error = database_error(message, host=connection.name, query=self._query)
            else:
                error = RemoteProtocolError(f"{type(message).__name__} came in answer to PREPARE")
                error.host = connection.name
        self._note(error, connection)
        if not self._requests or not isinstance(error, _PASSING) or refused_everywhere(error):
            self._end(Told(self.failed))

    def _end(self, told: Told) -> None:
        """Tell those who wait, and give up what is still under way."""
        self._ended = True
        self._alarm.cancel()
        self._owner.ended(self._at, self)
        for request in tuple(self._requests):
            request.abandon()
        self._requests.clear()
        waiters, self.waiters = self.waiters, {}
        for waiting in waiters:
            waiting.complete(told)
