"""Preparing statements: once for all who ask at the same time, and again at the host that asks.

PREPARE belongs to no task, since the first who asks may be cancelled while the others go on. A
statement is prepared at one host; another that is handed it answers UNPREPARED, and learns of it
then. So a host that comes back is told what it is asked for, when it is asked, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakSet

from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Prepare
from cqlproto_anyio.exceptions import CQLError, copied, database_error
from cqlproto_anyio.prepared import Statement, StatementCache
from cqlproto_anyio.request import Detached

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages.results import Prepared as PreparedMessage
    from cqlproto_anyio.connection import Connection
    from cqlproto_anyio.prepared import Key
    from cqlproto_anyio.request import Request
    from cqlproto_anyio.settings import Settings

__all__ = ["Preparations"]

# A PREPARE, by what is prepared and, where a host is to learn of it anew, that host's connection.
Flight = tuple["Key", "Connection | None"]


class Preparations:
    """The statements of a session, and those that are being prepared.

    Arguments:
        size: how many statements are kept.
        usual: the keyspace that ``connect`` named, or None.
        keep_deadline: lets a request expire at the deadline that it has.
        drop_deadline: forgets it again.
        request_class: makes what a task waits for.
    """

    def __init__(
        self,
        size: int,
        usual: str | None,
        *,
        keep_deadline: Callable[[Request], None],
        drop_deadline: Callable[[Request], None],
        request_class: type[Request],
    ) -> None:
        self.statements = StatementCache(size)
        self._usual = usual
        self._keep_deadline = keep_deadline
        self._drop_deadline = drop_deadline
        self._request_class = request_class
        # those that users hold too, which may have left the cache
        self._known: WeakSet[Statement] = WeakSet()
        self._flights: dict[Flight, Detached] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def key(self, query: str, keyspace: str | None) -> Key:
        """Return the key of a statement: what is unqualified means another table elsewhere."""
        return query if keyspace == self._usual else (keyspace, query)

    def known(self, query: str, keyspace: str | None) -> Statement | None:
        """Return a statement that needn't be prepared, or None."""
        statement = self.statements.get(self.key(query, keyspace))
        return None if statement is None or statement.stale else statement

    def outdate(self, keyspace: str) -> None:
        """The schema of a keyspace has changed."""
        for statement in tuple(self._known):
            if statement.about(keyspace):
                statement.outdate()

    async def prepared(
        self,
        query: str,
        settings: Settings,
        deadline: float,
        connection: Connection,
        renew: Statement | None = None,
    ) -> Statement:
        """Return the statement, prepared once however many ask for it.

        Arguments:
            query: the text.
            settings: the options of the call, of which the keyspace and the timeout matter.
            deadline: when that ends, in seconds of the session's clock.
            connection: where to prepare it, unless that is under way elsewhere.
            renew: the statement, if this very host has forgotten it or never knew it.

        Raises:
            DatabaseError: the server refuses the statement.
            UsageError: the keyspace can't be told in this version.
            RequestTimeout, ConnectionFailed, SessionClosed: no answer came.
        """
        keyspace = settings.keyspace if renew is None else renew.keyspace
        key = self.key(query, keyspace)
        if renew is None:
            statement = self.known(query, keyspace)
            if statement is not None:
                return statement
        settings.check(connection.version)
        flight: Flight = (key, None if renew is None else connection)
        preparing = self._flights.get(flight)
        if preparing is None:
            request = Detached(query, settings.timeout)
            request.deadline = deadline
            preparing = self._send(flight, request, connection, renew)
        elif deadline > preparing.deadline:  # it ends when all who wait for it have given up
            self._drop_deadline(preparing)
            preparing.deadline = deadline
            self._keep_deadline(preparing)
        waiting = self._request_class(query, settings.timeout)
        waiting.deadline = deadline
        preparing.waiters.append(waiting)
        self._keep_deadline(waiting)
        result: Statement = await waiting
        return result

    def _send(
        self, flight: Flight, request: Detached, connection: Connection, renew: Statement | None
    ) -> Detached:
        key = flight[0]
        keyspace = self._usual if isinstance(key, str) else key[0]

        def arrived(request: Detached) -> None:
            if self._flights.get(flight) is request:
                del self._flights[flight]
            self._tell(request, key, renew, connection)

        request.call(arrived)
        told = keyspace if connection.version.has_keyspace_option else None
        request.carry(Prepare(request.query, told))
        connection.submit(request)
        self._flights[flight] = request
        self._keep_deadline(request)
        return request

    def _tell(
        self,
        request: Detached,
        key: Key,
        renew: Statement | None,
        connection: Connection,
    ) -> None:
        error: BaseException
        if request.error is not None:
            error = request.error
            if isinstance(error, CQLError):
                error.maybe_applied = False  # what failed was PREPARE
        elif isinstance(request.value.message, Error):
            message = request.value.message
            error = database_error(message, host=connection.name, query=request.query)
        else:
            try:
                statement = self.keep(key, request.value.message, renew, connection)
            except CQLError as exc:
                error = exc
            else:
                for waiter in request.waiters:
                    waiter.complete(statement)
                return
        for waiter in request.waiters:
            waiter.fail(copied(error))

    def keep(
        self,
        key: Key,
        message: PreparedMessage,
        renew: Statement | None,
        connection: Connection,
    ) -> Statement:
        """Take what PREPARED said.

        Raises:
            ProtocolError: it is another statement than it was.
        """
        statement = renew or self.statements.get(key)
        if statement is None:
            keyspace, query = (self._usual, key) if isinstance(key, str) else key
            statement = Statement(query, keyspace, message, connection.version)
            self._known.add(statement)
        else:
            statement.speak(connection.version)
            statement.renew(message)
        self.statements.put(key, statement)
        return statement
