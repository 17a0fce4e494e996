"""The attempts at one request, at one host after another until one answers.

:mod:`walk` decides where the next attempt goes. A host that answers UNPREPARED hasn't failed: the
statement is prepared there, and the request is sent to the same host again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cqlproto.enums import ErrorCode
from cqlproto.messages.errors import Error
from cqlproto.messages.results import SetKeyspace
from cqlproto_anyio._execution.preparing import Preparation
from cqlproto_anyio._execution.speculation import Race
from cqlproto_anyio._execution.walk import MAX_REFUSALS, Walk
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._outcome import may_have_applied
from cqlproto_anyio._statements.preparer import SILENT
from cqlproto_anyio._text import read_statement, shown
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    DatabaseError,
    ParameterError,
    RemoteProtocolError,
    UsageError,
    ValueConversionError,
    database_error,
)
from cqlproto_anyio.policies.timestamps import ClockBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto._events import ResponseReceived
    from cqlproto.messages.results import Column
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["MAX_PREPARATIONS", "Attempts", "Outcome"]

# The result of an attempt: an answer, which may be an ERROR, or a failure of the host.
Outcome: TypeAlias = "ResponseReceived | CQLError"

# How often a statement is prepared at one host that keeps forgetting it (its cache is too small).
MAX_PREPARATIONS = 3
# Seconds for which values that don't fit are refused at once, after the statement was prepared
# again for such a value and its markers were unchanged.
_SOUND = 1.0


class Attempts(Walk):
    """A call that sends requests.

    Attributes:
        answered: the request that was answered last.
        change: how the statement's markers have changed during the call, or None.
        unstamped: whether the node makes the timestamp: the clock is too far behind the session's
            latest timestamp.
    """

    answered: Request

    def __init__(self, context: SessionContext, settings: Settings) -> None:
        super().__init__(context, settings)
        self.unstamped = False
        self.change: str | None = None

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        """Set what the request sends over a connection."""
        raise NotImplementedError

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        """Prepare the statement at a host that answered UNPREPARED.

        Returns:
            whether to send the request again.

        Raises:
            what :meth:`teach` raises; ParameterError: the markers have changed, and the parameters
                don't fit them.
        """
        raise NotImplementedError

    async def renewed(self) -> bool:
        """Prepare the statement again after a value didn't fit, or the server answered INVALID.

        Returns:
            whether the markers have changed, so that the values must be packed again.
        """
        raise NotImplementedError

    # -- preparing

    async def learn(self, connection: Connection, renew: Statement | None) -> Statement:
        """Prepare the call's statement at any host; raises what :meth:`Preparation.run` does.

        Arguments:
            connection: where to begin.
            renew: the statement, if it is known and has to be prepared again.
        """
        return await Preparation(self, self.query).run(connection, renew)

    async def teach(self, statement: Statement, connection: Connection) -> None:
        """Prepare a statement at the host that doesn't know it."""
        await Preparation(self, statement.query, shared=False).teach(statement, connection)

    async def renew(self, statement: Statement) -> bool:
        """Prepare a statement again after a value didn't fit; return whether its markers changed.

        The client may have missed the event about an altered type. A wrong value leads here as
        well: :data:`_SOUND` limits how often the statement is prepared for one.
        """
        bind = statement.prepared.bind
        preparation = Preparation(self, statement.query, shared=False)
        try:
            await preparation.run(await self.connection(), statement)
        except CQLError:
            return False
        if statement.prepared.bind.columns != bind.columns:
            return True
        statement.sound_until = self.context.timer.clock() + _SOUND
        return False

    def record_change(self, statement: Statement, markers: Sequence[Column]) -> bool:
        """Return whether a statement's markers have changed; describe the change for errors."""
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

    def attach_attempts(self, error: CQLError) -> None:
        if self.change is not None and isinstance(error, (ParameterError, ValueConversionError)):
            error.add_note(self.change)
        super().attach_attempts(error)

    # -- attempts

    def submit(self, request: Request, connection: Connection) -> None:
        """Send a filled request; raises what :meth:`Connection.submit` does."""
        self.mark_tried(connection)
        connection.submit(request)
        self.context.timer.keep_deadline(request)

    async def first(self, request: Request, paging_state: bytes | None) -> Outcome:
        """Make the first attempt; :meth:`answer` takes the outcome."""
        try:
            if self.conditional and self.settings.timestamps is not None:
                await self.context.outlast_writes(self.new_request())
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
        """Send the request and return the outcome: the reply, or a failure of the host.

        Raises:
            RequestTimeout, SessionClosed, Overloaded, UsageError, ValueConversionError,
                ResponseTooLarge: no other attempt follows these errors.
        """
        try:
            try:
                self.fill(request, paging_state, connection)
                self.submit(request, connection)
                return await self.wait(request, paging_state)
            except ClockBehind:  # raised by the packer; the node makes the timestamp instead
                self.unstamped = True
                request.again()
                self.fill(request, paging_state, connection)
                self.submit(request, connection)
                return await self.wait(request, paging_state)
        except (ConnectionFailed, RemoteProtocolError) as exc:
            return exc

    async def wait(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        """Return the reply to a request under way; make speculative attempts if these are on."""
        speculation = self.settings.speculation
        event: ResponseReceived
        if speculation is None or not self.idempotent:
            event = await request
            return event
        tracker = self.context.trackers.of(speculation)
        if tracker is None:
            event = await request
            return event
        race = Race(
            self.context,
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
            self.left_behind = self.left_behind or race.left_behind
        return event

    def _other_connection(self) -> Connection | None:
        connection = self.next_connection()
        if connection is not None:
            self.mark_tried(connection)
        return connection

    def _other_failed(self, what: Error | CQLError, request: Request) -> None:
        self.failures.append(self.error(what, request) if isinstance(what, Error) else what)

    def _is_last(self, what: Error | CQLError, request: Request) -> bool:
        """Return whether a failure would be retried, but no host is left for that."""
        error = self.error(what, request) if isinstance(what, Error) else what
        decision = self.decide(error, len(self.failures) + 1)
        if decision is None or decision.delay:
            return False
        connection = request.connection
        stays = not decision.next_host and connection is not None and connection.lost is None
        return not stays and self.next_connection() is None

    async def answer(
        self, request: Request, outcome: Outcome, paging_state: bytes | None
    ) -> ResponseReceived:
        """Return the reply to the request, after further attempts if necessary.

        Arguments:
            request: the request that was sent.
            outcome: the outcome of the first attempt.
            paging_state: the paging state of the page, or None for the first one.

        Raises:
            DatabaseError: the server answered with an error.
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
                    self.context.take_notes(request, outcome)
                if type(message) is not Error:
                    if type(message) is SetKeyspace:
                        self._refuse_keyspace(request)
                    self.answered = request
                    return outcome
                connection = request.connection
                assert isinstance(connection, Connection)
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
                        if self._may_yet_answer(exc, connection):
                            preparations = 0
                            continue
                        error, refused = exc, True
                        refusals += 1
                elif message.code == ErrorCode.INVALID and await self.renewed():
                    request.again()
                    outcome = await self._attempt(request, paging_state, connection)
                    continue
            connection = await self.after(
                error, request.connection, elsewhere=refused and refusals < MAX_REFUSALS
            )
            self.context.retries += 1
            request.again()
            preparations = 0  # another host may not know the statement either
            outcome = await self._attempt(request, paging_state, connection)

    def _may_yet_answer(self, error: CQLError, connection: Connection) -> bool:
        """Whether the only host left was too slow to prepare a statement but is still connected."""
        silent = isinstance(error, ConnectionFailed) and error.stage == SILENT
        return silent and connection.lost is None and self.next_connection() is None

    @property
    def idempotent(self) -> bool:
        """Whether two hosts may execute the request."""
        return self.reads or (self.settings.idempotent and not self.conditional)

    @property
    def most_preparations(self) -> int:
        """How often statements are prepared at one host in reply to UNPREPARED."""
        return MAX_PREPARATIONS

    def error(self, message: Error, request: Request) -> DatabaseError:
        """Return the exception for a server's ERROR."""
        error = database_error(message, host=request.host, query=request.query)
        error.maybe_applied = may_have_applied(
            message.code, read_statement(request.query), message.fields
        )
        return error

    def _refuse_keyspace(self, request: Request) -> None:
        """Close the connection, whose keyspace a statement has changed, and raise UsageError."""
        reason = "a statement changed the connection's keyspace, which was closed for it"
        if request.connection is not None:
            request.connection.give_up(reason)
        error = UsageError(reason)
        error.host = request.host
        error.maybe_applied = not self.reads
        raise error
