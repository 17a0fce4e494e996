"""The walk over the hosts: where a call is tried next, and what it raises when it ends in failure.

A call makes its attempts at the hosts of its query plan, one after the other, within one deadline.
After a failure two questions are asked. Is another attempt safe? A request that may have been
applied is only sent again if it is idempotent; no policy decides on that. Does another attempt
help? The profile's retry policy says so, and whether it goes to the same host or to the next one.

Requests and the preparation of statements follow the same walk.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._outcome import may_repeat
from cqlproto_anyio._statements.preparer import refused_everywhere
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    NoHostAvailable,
    Overloaded,
    ResponseTooLarge,
    SessionClosed,
)
from cqlproto_anyio.policies import Retry
from cqlproto_anyio.policies.checked import checked_retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto_anyio._eventloop.request import Request, RequestConnection
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["MAX_REFUSALS", "Walk"]

# How many hosts may refuse to prepare a statement before it counts as wrong.
MAX_REFUSALS = 3

_NEXT_HOST = Retry(next_host=True)


class Walk:
    """The hosts that a call has tried, the failures so far, and the time that is left.

    Arguments:
        context: the session's context.
        settings: the options of the call.

    Attributes:
        reconnects: whether the call waits for the only host to be connected to again; otherwise the
            loss of its connection ends the call.
        query: the text of the statement, for errors.
        conditional: whether the statement is a lightweight transaction.
        reads: whether the statement changes nothing.
        statement: the prepared statement that decides on the query plan, or None.
        values: its values.
        failures: the errors of the attempts so far.
        deadline: when the call is due, in seconds of the session's clock.
        left_behind: whether an attempt was given up that may have been applied.
    """

    reconnects = False
    query: str
    conditional: bool
    reads: bool

    def __init__(self, context: SessionContext, settings: Settings) -> None:
        self.context = context
        self.settings = settings
        self.statement: Statement | None = None
        self.values: Sequence[Any] = ()
        self.failures: list[CQLError] = []
        self.left_behind = False
        self._tried: set[Pool] = set()
        self.restart()

    def restart(self) -> None:
        """Start the call's timeout now."""
        self.deadline = self.context.timer.deadline(self.settings.timeout)

    def new_request(self) -> Request:
        """Return a request of this call, with the call's deadline."""
        settings = self.settings
        request = self.context.request_class(
            self.query, settings.timeout, None, (), self.statement, settings
        )
        request.deadline = self.deadline
        return request

    # -- hosts

    async def connection(self) -> Connection:
        """Return the connection for the first attempt; wait until there is one."""
        return await self.context.any_connection(
            self.query, self.settings.timeout, self.deadline, self.statement, self.values
        )

    def next_connection(self) -> Connection | None:
        """Return a connection to the first host of the plan that wasn't tried yet, or None."""
        plan = self.context.cluster.selector.plan(self.statement, self.values, self._tried)
        return next(plan, None)

    def mark_tried(self, connection: RequestConnection | None) -> None:
        """Leave the host of this connection out of the plan from now on."""
        if isinstance(connection, Connection):
            pool = self.context.cluster.pool_of(connection)
            if pool is not None:
                self._tried.add(pool)

    def forget_attempts(self) -> None:
        """Begin another page, for which every host may be tried."""
        self._tried.clear()
        self.failures.clear()

    def try_all_again(self) -> Connection | None:
        """Put all hosts back into the plan; return a connection to the first one, or None."""
        self._tried.clear()
        return self.next_connection()

    async def after(
        self,
        error: CQLError,
        connection: RequestConnection | None,
        *,
        elsewhere: bool = False,
        raised: CQLError | None = None,
    ) -> Connection:
        """Return the connection for the next attempt, or raise what the call ends with.

        Arguments:
            error: the failure of the latest attempt.
            connection: where that was made, or None.
            elsewhere: whether to try the next host even if the policy gives up: a host that refuses
                to prepare a statement may not know a table yet that the others know.
            raised: the error to raise if there is no next attempt; ``error`` by default.
        """
        self.failures.append(error)
        raised = error if raised is None else raised
        decision = self.decide(error, len(self.failures))
        if decision is None and elsewhere and not refused_everywhere(error):
            decision = _NEXT_HOST
        if decision is None:
            raise self._summary(raised) from raised.__cause__
        if decision.delay:
            await self.context.supervisor.pause(self.new_request(), decision.wait(random()))
        if (
            not decision.next_host
            and isinstance(connection, Connection)
            and connection.lost is None
        ):
            return connection
        following = self.next_connection()
        if following is None and decision.delay:
            # a failure that passes with time may be gone where the call was tried before
            following = self.try_all_again()
        # the only one has just broken
        several = self.reconnects or len(self.context.cluster.pools) > 1
        if following is None and several and isinstance(error, ConnectionFailed):
            following = await self._reconnected()
        if following is None:
            self.check_open()
            raise self._summary(raised) from raised.__cause__
        return following

    async def _reconnected(self) -> Connection | None:
        """Wait for a connection to any host, after all were lost.

        Returns:
            None if no connection can be made; the failures of the attempts are raised then, which
            say more.
        """
        self._tried.clear()
        try:
            return await self.connection()
        except ConnectionFailed:
            return None

    def decide(self, error: CQLError, attempt: int) -> Retry | None:
        """Return the decision of the retry policy, or None where another attempt isn't safe."""
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
        except BaseException as exc:  # the user's, who sees the failure behind it as well
            raise exc from error

    # -- errors

    def check_open(self) -> None:
        """Raise SessionClosed if no host is left because the session was closed meanwhile."""
        try:
            self.context.supervisor.check_open()
        except SessionClosed as exc:
            self.attach_attempts(exc)
            raise

    def _summary(self, error: CQLError) -> CQLError:
        """Return the error that a call raises after its last attempt."""
        failures = self.failures
        error.maybe_applied = error.maybe_applied or self.left_behind
        if len(failures) == 1:
            return error
        maybe_applied = self.left_behind or any(each.maybe_applied for each in failures)
        if all(isinstance(each, ConnectionFailed) for each in failures):
            error = NoHostAvailable(failures)
        error.attempts = tuple(failures)
        error.maybe_applied = maybe_applied
        return error

    def attach_attempts(self, error: CQLError) -> None:
        """Add the attempts so far to an error that ends the call in another way."""
        failures = self.failures
        error.maybe_applied = error.maybe_applied or self.left_behind
        if failures and error not in failures and error.attempts != tuple(failures):
            never = (NoHostAvailable, Overloaded)
            was_tried = error.host is not None and not isinstance(error, never)
            error.attempts = (*failures, *((error,) if was_tried else error.attempts))
            error.maybe_applied = error.maybe_applied or any(
                each.maybe_applied for each in failures
            )
