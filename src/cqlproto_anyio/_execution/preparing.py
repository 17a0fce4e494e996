"""Preparing a statement for a call: at the hosts of its query plan, as its retry policy says.

:class:`Preparer` sends PREPARE once for all the calls that wait for the same statement. If that
fails each of them walks on by its own policy, and those that go on share the next PREPARE as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto_anyio._execution.walk import MAX_REFUSALS, Walk
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    DatabaseError,
    RequestTimeout,
    copied,
)

if TYPE_CHECKING:
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._statements.preparer import PrepareOutcome
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["Preparation"]


class Preparation(Walk):
    """The attempts at preparing a statement, within the deadline of a call.

    Arguments:
        call: the call; its policy is asked.
        query: the statement's text.
        shared: whether failures are added to the call's own, which its errors list.
    """

    def __init__(self, call: Walk, query: str, *, shared: bool = True) -> None:
        super().__init__(call.context, call.settings)
        self.query = query
        self.conditional = call.conditional
        self.reads = call.reads
        self.deadline = call.deadline
        if shared:
            self.failures = call.failures
            self._tried = call._tried

    async def run(self, connection: Connection, renew: Statement | None = None) -> Statement:
        """Prepare the statement at any host, beginning with the one given.

        Arguments:
            connection: where to begin.
            renew: the statement, if it is known and has to be prepared again.

        Raises:
            DatabaseError: hosts refuse it.
            RequestTimeout, ConnectionFailed, NoHostAvailable, SessionClosed: no answer came.
        """
        try:
            return await self._run(connection, renew)
        except CQLError as exc:
            self.attach_attempts(exc)
            raise

    async def _run(self, connection: Connection, renew: Statement | None) -> Statement:
        refusals = 0
        refusal: CQLError | None = None
        while True:
            outcome = await self._prepared(connection, renew)
            for _, where in outcome.failed:
                self.mark_tried(where)
            errors = [copied(error) for error, _ in outcome.failed]
            if outcome.statement is not None:
                self.failures += [error for error in errors if isinstance(error, CQLError)]
                return outcome.statement
            error = errors[-1]
            if not isinstance(error, CQLError):
                raise error from error.__cause__
            self.failures += [each for each in errors[:-1] if isinstance(each, CQLError)]
            if outcome.is_silent and self.next_connection() is None:
                following = self.try_all_again()
                if following is not None:  # the hosts are slow, and the call has time left
                    self.failures.append(error)
                    del self.failures[:-MAX_REFUSALS]
                    connection = following
                    continue
            refused = not isinstance(error, ConnectionFailed)
            refusals += refused
            if isinstance(error, DatabaseError):
                refusal = error
            connection = await self.after(
                error,
                outcome.failed[-1][1],
                elsewhere=refused and refusals < MAX_REFUSALS,
                raised=refusal,
            )

    async def teach(self, statement: Statement, connection: Connection) -> None:
        """Prepare a statement at a host that has forgotten it, or never knew it.

        Raises:
            DatabaseError, RemoteProtocolError: the host refuses it, or its answer makes no sense.
            RequestTimeout, ConnectionFailed, SessionClosed: no answer came.
        """
        outcome = await self._prepared(connection, statement, here=True)
        if outcome.message is None:
            error = copied(outcome.error)
            raise error from error.__cause__
        if statement.prepared.statement_id != outcome.message.statement_id:
            # another host has given the statement another id since
            self.context.preparer.renew(statement, outcome.message)

    async def _prepared(
        self, connection: Connection, renew: Statement | None, *, here: bool = False
    ) -> PrepareOutcome:
        try:
            return await self.context.preparer.prepared(
                self.query, self.settings, self.deadline, connection, renew, here=here
            )
        except RequestTimeout as exc:
            self.failures += [each for each in exc.attempts if isinstance(each, CQLError)]
            exc.attempts = ()
            raise
