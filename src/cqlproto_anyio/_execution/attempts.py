"""Making attempts: at one host after another, as far as that is safe, within one deadline.

Whether another attempt is safe is settled first, and not by a policy: what may have been applied is
only sent again if it is idempotent. Whether it helps, the profile's retry policy says. Where it
goes is the next host of the plan. UNPREPARED is no failure: the host is told of the statement.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Any, TypeAlias

from cqlproto.enums import ErrorCode
from cqlproto.messages.errors import Error
from cqlproto.messages.results import SetKeyspace
from cqlproto_anyio._execution.speculation import Race
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._outcome import may_have_applied, may_repeat
from cqlproto_anyio._statements.preparer import SILENT, refused_everywhere
from cqlproto_anyio._text import read_statement, shown
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    DatabaseError,
    NoHostAvailable,
    Overloaded,
    ParameterError,
    RemoteProtocolError,
    ResponseTooLarge,
    SessionClosed,
    UsageError,
    ValueConversionError,
    copied,
    database_error,
)
from cqlproto_anyio.policies import Retry
from cqlproto_anyio.policies.checked import checked_retry
from cqlproto_anyio.policies.timestamps import ClockBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto._events import ResponseReceived
    from cqlproto.messages.results import Column
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["MAX_PREPARATIONS", "Attempts", "Outcome", "host_of"]

# What has come of an attempt: an answer, which may be an ERROR, or a failure that is the host's.
Outcome: TypeAlias = "ResponseReceived | CQLError"

# A node that forgets a statement as soon as it is prepared (its cache is too small) is not asked
# forever.
MAX_PREPARATIONS = 3
# For how long the markers of a statement are trusted that has just been prepared anew in vain
# because a value didn't fit, in seconds.
_SOUND = 1.0


class Attempts:
    """What calls of every kind share: a deadline, and attempts at one host after the other.

    Attributes:
        failures: what the attempts so far have failed with.
        statement: the prepared statement that decides on the route, or None.
        values: its values.
        answered_by: the connection that the answer came on.
        change: what has changed of the markers during the call, or None.
        conditional: whether it is a lightweight transaction.
        unstamped: whether the clock is too far behind the session's timestamps to make another.
    """

    query: str
    conditional: bool
    reads: bool

    def __init__(self, runtime: SessionContext, settings: Settings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.statement: Statement | None = None
        self.values: Sequence[Any] = ()
        self.failures: list[CQLError] = []
        self.answered_by: Connection | None = None
        self.unstamped = False
        self._tried: set[Pool] = set()
        self._left_behind = False  # an attempt was given up that may have been applied
        self.change: str | None = None  # what has changed of markers
        self.restart()

    def restart(self) -> None:
        """Let the time that the call may take begin now."""
        self.deadline = self.runtime.timer.deadline(self.settings.timeout)

    def new_request(self, query: str) -> Request:
        """Return a request of this call, due when the call is."""
        request = self.runtime.request_class(query, self.settings.timeout)
        request.deadline = self.deadline
        return request

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        """Say what to send over a connection."""
        raise NotImplementedError

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        """Tell a host of what it doesn't know; return whether that is worth another try.

        Raises:
            what :meth:`teach` does; ParameterError: the markers are others now, and the
                parameters don't fit them.
        """
        raise NotImplementedError

    async def renewed(self) -> bool:
        """Prepare anew what values didn't fit, as the client or the server says; return whether the
        markers are others now, and the values are to be packed anew."""
        raise NotImplementedError

    # -- preparing

    async def learn(self, query: str, connection: Connection, renew: Statement | None) -> Statement:
        """Return a statement, prepared at any host, beginning with the one given.

        Raises:
            DatabaseError: hosts refuse it.
            RequestTimeout, ConnectionFailed, NoHostAvailable, SessionClosed: no answer came.
        """
        try:
            told = await self.runtime.preparations.prepared(
                query, self.settings, self.deadline, connection, renew
            )
        except CQLError as exc:
            self.attach_attempts(exc)
            raise
        for error, where in told.failed:
            if isinstance(error, CQLError):
                self.mark_tried(where)
                self.failures.append(copied(error))
        if told.statement is not None:
            return told.statement
        self.check_open()
        error = copied(told.error)
        if isinstance(error, CQLError) and self.failures:
            raise self._summary(error) from error.__cause__
        raise error

    async def teach(self, query: str, statement: Statement, connection: Connection) -> None:
        """Let a host know a statement that it has forgotten, or never knew.

        Raises:
            DatabaseError, RemoteProtocolError: it refuses it, or makes no sense.
            RequestTimeout, ConnectionFailed, SessionClosed: it doesn't answer.
        """
        told = await self.runtime.preparations.prepared(
            query, self.settings, self.deadline, connection, statement, here=True
        )
        if told.message is None:
            error = copied(told.error)
            raise error from error.__cause__
        if statement.prepared.statement_id != told.message.statement_id:
            # another host has said otherwise meanwhile
            self.runtime.preparations.renew(statement, told.message)

    async def renew(self, statement: Statement) -> bool:
        """Prepare a statement anew that a value didn't fit; return whether its markers are others.

        Nobody may have told that a type was altered. A value that is wrong costs this too, so it is
        done once in a while.
        """
        bind = statement.prepared.bind
        try:
            connection = await self.connection()
            await self.runtime.preparations.prepared(
                statement.query, self.settings, self.deadline, connection, statement
            )
        except CQLError:
            return False
        if statement.prepared.bind.columns != bind.columns:
            return True
        statement.sound_until = self.runtime.timer.clock() + _SOUND
        return False

    def tell_change(self, statement: Statement, markers: Sequence[Column]) -> bool:
        """Remember what has changed of a statement's markers, for errors; whether anything has."""
        now = statement.prepared.bind.columns
        if now is markers or now == markers:
            return False
        before, after = (
            ", ".join(f"{column.name} {column.type}" for column in columns) or "none"
            for columns in (markers, now)
        )
        self.change = (
            f"{shown(statement.query)!r} was prepared anew: its markers are ({after}) now, they"
            f" were ({before})"
        )
        return True

    # -- where to

    async def connection(self) -> Connection:
        """Return the connection for the first attempt, made if there is none."""
        return await self.runtime.any_connection(
            self.query, self.settings.timeout, self.deadline, self.statement, self.values
        )

    def next_connection(self) -> Connection | None:
        """Return a connection to the best host that wasn't tried yet, or None."""
        plan = self.runtime.cluster.selector.plan(self.statement, self.values, self._tried)
        return next(plan, None)

    def submit(self, request: Request, connection: Connection) -> None:
        """Send a request that is filled; raises what :meth:`Connection.submit` does."""
        self.mark_tried(connection)
        connection.submit(request)
        self.runtime.timer.keep_deadline(request)

    def forget_attempts(self) -> None:
        """Another page begins: every host may be tried for it."""
        self._tried.clear()
        self.failures.clear()

    def mark_tried(self, connection: Connection) -> None:
        """This connection's host is tried now."""
        pool = self.runtime.cluster.pool_of(connection)
        if pool is not None:
            self._tried.add(pool)

    # -- attempts

    async def first(self, request: Request, paging_state: bytes | None) -> Outcome:
        """Make the first attempt; what is returned goes to :meth:`answer`."""
        try:
            if self.conditional and self.settings.timestamps is not None:
                await self.runtime.outlast_writes(self.new_request(self.query))
            try:
                return await self._attempt(request, paging_state, await self.connection())
            except ValueConversionError:
                if not await self.renewed():
                    raise
                request.again()
                return await self._attempt(request, paging_state, await self.connection())
        except CQLError as exc:
            self.attach_attempts(exc)
            raise

    async def _attempt(
        self, request: Request, paging_state: bytes | None, connection: Connection
    ) -> Outcome:
        """Send the request and return what came of it: an event, or a failure that is the host's.

        Raises:
            RequestTimeout, SessionClosed, Overloaded, UsageError, ValueConversionError,
                ResponseTooLarge: the call ends with it.
        """
        try:
            try:
                self.fill(request, paging_state, connection)
                self.submit(request, connection)
                return await self.wait(request, paging_state)
            except ClockBehind:  # of a packer: the node makes the timestamp
                self.unstamped = True
                request.again()
                self.fill(request, paging_state, connection)
                self.submit(request, connection)
                return await self.wait(request, paging_state)
        except (ConnectionFailed, RemoteProtocolError) as exc:
            return exc

    async def wait(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        """Return the event that answers a request under way, from the fastest host if need be."""
        speculation = self.settings.speculation
        event: ResponseReceived
        if speculation is None or not self.idempotent:
            event = await request
            return event
        tracker = self.runtime.trackers.of(speculation)
        if tracker is None:
            event = await request
            return event
        race = Race(
            self.runtime,
            request,
            tracker,
            next_connection=self._other_connection,
            fill=lambda other, connection: self.fill(other, paging_state, connection),
            failed=self._other_failed,
            is_last=self._is_last,
        )
        try:
            event = await race.run()
        finally:
            self._left_behind = self._left_behind or race.left_behind
        return event

    def _other_connection(self) -> Connection | None:
        connection = self.next_connection()
        if connection is not None:
            self.mark_tried(connection)
        return connection

    def _other_failed(self, what: Error | CQLError, request: Request) -> None:
        self.failures.append(self.error(what, request) if isinstance(what, Error) else what)

    def _is_last(self, what: Error | CQLError, request: Request) -> bool:
        """Whether a failure is worth another attempt, but every host was asked already."""
        error = self.error(what, request) if isinstance(what, Error) else what
        decision = self._decide(error, len(self.failures) + 1)
        if decision is None or decision.delay:
            return False
        connection = request.connection
        stays = not decision.next_host and connection is not None and connection.lost is None
        return not stays and self.next_connection() is None

    async def answer(
        self, request: Request, outcome: Outcome, paging_state: bytes | None
    ) -> ResponseReceived:
        """Return the event that answers the request, after more attempts where they may be made.

        Arguments:
            request: what was sent.
            outcome: what has come of it.
            paging_state: the page that it asks for.

        Raises:
            DatabaseError: the server refuses.
            RequestTimeout, ConnectionFailed, NoHostAvailable, SessionClosed, Overloaded: no answer
                came.
            RemoteProtocolError: the answer can't be read; ResponseTooLarge: it is too long.
        """
        try:
            return await self._answer(request, outcome, paging_state)
        except CQLError as exc:
            self.attach_attempts(exc)
            raise

    async def _answer(
        self, request: Request, outcome: Outcome, paging_state: bytes | None
    ) -> ResponseReceived:
        preparations = refusals = 0
        while True:
            refused = False
            if isinstance(outcome, CQLError):
                error = outcome
            else:
                message = outcome.message
                if outcome.notes is not None:
                    self.runtime.take_notes(self.query, self.statement, outcome, host_of(request))
                connection = request.connection
                assert isinstance(connection, Connection)
                if type(message) is not Error:
                    if type(message) is SetKeyspace:
                        self._refuse_keyspace(request)
                    self.answered_by = connection
                    return outcome
                error = self.error(message, request)
                if outcome.notes is not None:
                    error.tracing_id, error.warnings, _ = outcome.notes
                if message.code == ErrorCode.UNPREPARED and preparations < self.most_preparations:
                    preparations += 1
                    try:
                        if await self.prepare_again(message, connection):
                            request.again()
                            outcome = await self._attempt(request, paging_state, connection)
                            continue
                    except (ConnectionFailed, DatabaseError, RemoteProtocolError) as exc:
                        # it is of no more use than one that is lost
                        if self._may_yet_answer(exc, connection):
                            preparations = 0
                            continue
                        error, refused = exc, True
                        refusals += 1
                elif message.code == ErrorCode.INVALID and await self.renewed():
                    request.again()
                    outcome = await self._attempt(request, paging_state, connection)
                    continue
            connection = await self._after(
                error, request, elsewhere=refused and refusals < MAX_PREPARATIONS
            )
            preparations = 0  # it may be another host, which doesn't know the statement either
            outcome = await self._attempt(request, paging_state, connection)

    def _may_yet_answer(self, error: CQLError, connection: Connection) -> bool:
        """Whether the only host there is was too slow to prepare, with time left for it."""
        silent = isinstance(error, ConnectionFailed) and error.stage == SILENT
        return silent and connection.lost is None and self.next_connection() is None

    async def _after(
        self, error: CQLError, request: Request, *, elsewhere: bool = False
    ) -> Connection:
        """Return where to try again after a failure, or raise what the call ends with.

        Arguments:
            error: what the attempt has failed with.
            request: what was sent.
            elsewhere: whether a host has only refused to prepare the statement: another one may
                know what this one hasn't heard of yet, whatever the policy.
        """
        self.failures.append(error)
        decision = self._decide(error, len(self.failures))
        if decision is None and elsewhere and not refused_everywhere(error):
            decision = Retry(next_host=True)
        if decision is None:
            raise self._summary(error) from error.__cause__
        if decision.delay:
            pause = self.new_request(self.query)
            await self.runtime.supervisor.pause(pause, decision.wait(random()))
        connection = request.connection
        if not isinstance(connection, Connection) or connection.lost is not None:
            connection = None
        if decision.next_host or connection is None:
            connection = self.next_connection()
            if connection is None and decision.delay:
                # what passes with time is worth another try where it was tried before
                self._tried.clear()
                connection = self.next_connection()
            several = len(self.runtime.cluster.pools) > 1  # the only one has just broken
            if connection is None and several and isinstance(error, ConnectionFailed):
                connection = await self._made_anew()
        if connection is None:
            self.check_open()
            raise self._summary(error) from error.__cause__
        self.runtime.retries += 1
        request.again()
        return connection

    def check_open(self) -> None:
        """Raise SessionClosed where no host is left because the session was closed meanwhile."""
        try:
            self.runtime.supervisor.check_open()
        except SessionClosed as exc:
            self.attach_attempts(exc)
            raise

    async def _made_anew(self) -> Connection | None:
        """Return a connection to any host, all having been lost, as soon as one is made.

        None if none can be: what the attempts have failed with says more than that.
        """
        self._tried.clear()
        try:
            return await self.connection()
        except ConnectionFailed:
            return None

    def _decide(self, error: CQLError, attempt: int) -> Retry | None:
        """Return what to do about a failure: what the policy says, where that is safe."""
        settings = self.settings
        if isinstance(error, ResponseTooLarge):  # it would be everywhere
            return None
        if not may_repeat(error, idempotent=settings.idempotent, conditional=self.conditional):
            return None
        try:
            decision = settings.retry.decide(
                error, attempt=attempt, idempotent=settings.idempotent, reads=self.reads
            )
            return checked_retry(decision)
        except BaseException as exc:  # the caller's, who sees what it was asked about as well
            raise exc from error

    def _summary(self, error: CQLError) -> CQLError:
        """Return what the call ends with, after all its attempts."""
        failures = self.failures
        error.maybe_applied = error.maybe_applied or self._left_behind
        if len(failures) == 1:
            return error
        maybe_applied = self._left_behind or any(each.maybe_applied for each in failures)
        if all(isinstance(each, ConnectionFailed) for each in failures):
            error = NoHostAvailable(failures)
        error.attempts = tuple(failures)
        error.maybe_applied = maybe_applied
        return error

    def attach_attempts(self, error: CQLError) -> None:
        """Let an error that ends the call in another way tell of the attempts before it."""
        failures = self.failures
        if self.change is not None and isinstance(error, (ParameterError, ValueConversionError)):
            error.add_note(self.change)
        error.maybe_applied = error.maybe_applied or self._left_behind
        if failures and error not in failures and error.attempts != tuple(failures):
            never = (NoHostAvailable, Overloaded)
            was_tried = error.host is not None and not isinstance(error, never)
            error.attempts = (*failures, *((error,) if was_tried else error.attempts))
            error.maybe_applied = error.maybe_applied or any(
                each.maybe_applied for each in failures
            )

    @property
    def idempotent(self) -> bool:
        """Whether it may be sent to two hosts at once."""
        return self.reads or (self.settings.idempotent and not self.conditional)

    @property
    def most_preparations(self) -> int:
        """How many times it is worth while to prepare something for a host that doesn't know it."""
        return MAX_PREPARATIONS

    def error(self, message: Error, request: Request) -> DatabaseError:
        """Return the exception for a server's ERROR."""
        error = database_error(message, host=host_of(request), query=request.query)
        error.maybe_applied = may_have_applied(
            message.code, read_statement(request.query), message.fields
        )
        return error

    def _refuse_keyspace(self, request: Request) -> None:
        """The connection has changed its keyspace behind our back: no one must use it any more."""
        reason = "a statement changed the connection's keyspace, which was closed for it"
        if request.connection is not None:
            request.connection.give_up(reason)
        error = UsageError(reason)
        error.host = host_of(request)
        error.maybe_applied = not self.reads
        raise error


def host_of(request: Request) -> str:
    """Return where a request was submitted."""
    connection = request.connection
    return "" if connection is None else connection.name
