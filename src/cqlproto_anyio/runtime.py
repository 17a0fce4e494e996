"""What keeps a session going: its host task, its connection, its timer, its prepared statements.

Everything that runs in the background runs in one host task, started when the session is entered
and awaited when it is left. The host belongs to no cancel scope of the caller's: a session can be
closed from another task than the one that opened it, and an error in the caller's block arrives as
it is.
"""

from __future__ import annotations

import math
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, TypeVar

import anyio

from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Prepare
from cqlproto_anyio._backend import shielded
from cqlproto_anyio.connection import Connection
from cqlproto_anyio.deadlines import Deadlines
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    NoHostAvailable,
    SessionClosed,
    database_error,
)
from cqlproto_anyio.opening import open_connection
from cqlproto_anyio.prepared import Key, Statement, StatementCache
from cqlproto_anyio.request import Request

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Prepared as PreparedMessage
    from cqlproto_anyio._backend import Backend, Waiting
    from cqlproto_anyio.config import Auth, Config, Endpoint, Settings

__all__ = ["Runtime"]


class _Detached(Request):
    """A request that no task awaits: a function is called when it is done.

    Attributes:
        waiters: the requests of those who wait for what comes of it.
    """

    __slots__ = ("waiters",)

    def call(self, function: Callable[[_Detached], None]) -> None:
        self.waiters: list[Request] = []
        self._waiter = function

    def _wake(self, waiter: Callable[[_Detached], None]) -> None:
        waiter(self)


class Runtime:
    """The shared part of a session and of what :meth:`Session.using` makes of it."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        backend: Backend,
        config: Config,
        auth: Auth | None,
        tls: ssl.SSLContext | None,
        keyspace: str | None,
    ) -> None:
        self.backend = backend
        self.clock = backend.clock
        self.config = config
        self.keyspace = keyspace
        self.deadlines = Deadlines()
        self.statements = StatementCache(config.max_prepared)
        self.request_class = backend.request
        self.connection: Connection | None = None
        self.version = config.highest_version  # lowered when a node doesn't speak it
        self.endpoints = endpoints
        self._auth = auth
        self._tls = tls
        self._preparing: dict[Key, _Detached] = {}
        self._connecting: list[Request] | None = None
        self._closed: str | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._timer: anyio.CancelScope | None = None
        self._host: object = None
        self._ended: list[Waiting] | None = []

    # -- the life of the host task

    async def start(self) -> None:
        """Start the host and connect.

        Raises:
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: no connection could be
                made; everything is undone.
        """
        self._host = self.backend.host(self._run, "cqlproto session")
        try:
            await self.connected()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the host and wait for it: bounded, idempotent, from any task."""
        self._close("the session is closed")
        if self._ended is not None:
            waiting = self.backend.waiting()
            self._ended.append(waiting)
            await shielded(waiting)

    def _close(self, reason: str) -> None:
        if self._closed is None:
            self._closed = reason
        if self.connection is not None:
            self.connection.close(SessionClosed(self._closed))
        if self._group is not None:
            self._group.cancel_scope.cancel()

    async def _run(self) -> None:
        """The host task: nothing but its cancellation ever leaves it."""
        try:
            with suppress(Exception):  # each task inside has told those who wait for it
                async with anyio.create_task_group() as group:
                    self._group = group
                    group.start_soon(self._run_timer)
                    if self._closed is not None:
                        group.cancel_scope.cancel()
                    if self._connecting is not None:
                        group.start_soon(self._connect)
        finally:
            self._close("the session's event loop is shutting down")
            self._tell_connected(SessionClosed(self._closed or ""))
            ended, self._ended = self._ended, None
            for waiting in ended or ():
                waiting.complete(None)

    async def _run_timer(self) -> None:
        """Expire what is due. One timer serves all requests of the session."""
        deadlines = self.deadlines
        while True:
            with anyio.CancelScope(deadline=deadlines.next) as self._timer:
                await anyio.sleep_forever()
            self._timer = None
            deadlines.expire(self.clock())

    # -- requests

    def start_request(self, request: Request, connection: Connection) -> None:
        """Submit a request and set its deadline.

        Raises:
            What :meth:`Connection.submit` raises.
        """
        connection.submit(request)
        if self.deadlines.add(request, self.clock()):
            self.rearm()

    def resume_request(self, request: Request, connection: Connection) -> None:
        """Submit a request that has a deadline already: another page, or another attempt."""
        connection.submit(request)
        self.keep_deadline(request)

    def keep_deadline(self, request: Request) -> None:
        """Let a request expire at the deadline that it has."""
        if self.deadlines.add_until(request):
            self.rearm()

    def rearm(self) -> None:
        """Let the timer wake for a deadline that is nearer than those before."""
        if self._timer is not None:
            self._timer.deadline = self.deadlines.next

    def deadline(self, timeout: float | None) -> float:
        """Return when a call that starts now is due, in seconds of the session's clock."""
        return math.inf if timeout is None else self.clock() + timeout

    # -- the connection

    async def connected(
        self, query: str = "", timeout: float | None = None, deadline: float = math.inf
    ) -> Connection:
        """Return a connection that works, made anew if it was lost; one attempt serves all.

        Arguments:
            query: the statement that waits for it, for errors.
            timeout: the whole call's timeout, in seconds.
            deadline: when that ends, in seconds of the session's clock.

        Raises:
            SessionClosed: the session is closed.
            RequestTimeout: the deadline has passed.
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: it couldn't be made.
        """
        if self._closed is not None:
            raise SessionClosed(self._closed)
        connection = self.connection
        if connection is not None and connection.lost is None:
            return connection
        if self._connecting is None:
            self._connecting = []
            if self._group is not None:
                self._group.start_soon(self._connect)
        request = self.request_class(query, timeout)
        request.deadline = deadline
        self._connecting.append(request)
        self.keep_deadline(request)
        result: Connection = await request
        return result

    async def _connect(self) -> None:
        try:
            connection = await self._open_first()
        except Exception as exc:
            self._tell_connected(exc)
            return
        if self._closed is not None or self._group is None:
            connection.close(SessionClosed(self._closed or ""))
            with anyio.CancelScope(shield=True):
                await connection.run()
            return
        self.connection = connection
        self.version = connection.version
        self._group.start_soon(connection.run)
        self._tell_connected(connection)

    async def _open_first(self) -> Connection:
        """Try the contact points in their order."""
        failures: list[Exception] = []
        for endpoint in self.endpoints:
            try:
                return await open_connection(
                    endpoint,
                    backend=self.backend,
                    config=self.config,
                    version=self.version,
                    auth=self._auth,
                    tls=self._tls,
                    keyspace=self.keyspace,
                )
            except ConnectionFailed as exc:
                failures.append(exc)
        if len(failures) == 1:
            raise failures[0]
        raise NoHostAvailable(failures) from failures[0]

    def _tell_connected(self, outcome: Connection | Exception) -> None:
        waiters, self._connecting = self._connecting, None
        for waiting in waiters or ():
            if isinstance(outcome, Connection):
                waiting.complete(outcome)
            else:
                waiting.fail(_copied(outcome))

    # -- prepared statements

    async def prepared(
        self,
        query: str,
        settings: Settings,
        deadline: float,
        renew: Statement | None = None,
    ) -> Statement:
        """Return the statement, prepared once however many ask for it.

        Arguments:
            query: the text.
            settings: the options of the call, of which the keyspace and the timeout matter.
            deadline: when that ends, in seconds of the session's clock.
            renew: the statement, if the server has forgotten it.

        Raises:
            DatabaseError: the server refuses the statement.
            UsageError: the keyspace can't be told in this version.
            RequestTimeout, ConnectionFailed, SessionClosed: no answer came.
        """
        keyspace = settings.keyspace if renew is None else renew.keyspace
        key = self.key(query, keyspace)
        if renew is None:
            statement = self.statements.get(key)
            if statement is not None:
                return statement
        timeout = settings.timeout
        connection = await self.connected(query, timeout, deadline)
        settings.check(connection.version)
        preparing = self._preparing.get(key)
        if preparing is None:
            preparing = self._send_prepare(key, timeout, deadline, connection, renew)
            self._preparing[key] = preparing
        elif deadline > preparing.deadline:  # it ends when all who wait for it have given up
            self.deadlines.remove(preparing)
            preparing.deadline = deadline
            self.keep_deadline(preparing)
        request = self.request_class(query, timeout)
        request.deadline = deadline
        preparing.waiters.append(request)
        self.keep_deadline(request)
        result: Statement = await request
        return result

    def key(self, query: str, keyspace: str | None) -> Key:
        """Return the key of a statement: what is unqualified means another table elsewhere."""
        return query if keyspace == self.keyspace else (keyspace, query)

    def _send_prepare(
        self,
        key: Key,
        timeout: float | None,
        deadline: float,
        connection: Connection,
        renew: Statement | None,
    ) -> _Detached:
        """PREPARE belongs to no task: the first to ask may be cancelled, the others go on."""

        keyspace, query = (self.keyspace, key) if isinstance(key, str) else key

        def arrived(request: _Detached) -> None:
            if self._preparing.get(key) is request:
                del self._preparing[key]
            self._tell_prepared(request, key, renew, connection)

        request = _Detached(query, timeout)
        request.deadline = deadline
        request.call(arrived)
        told = keyspace if connection.version.has_keyspace_option else None
        request.carry(Prepare(query, told))
        self.resume_request(request, connection)
        return request

    def _tell_prepared(
        self,
        request: _Detached,
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
            error = database_error(message, host=str(connection.endpoint), query=request.query)
        else:
            try:
                statement = self._keep(key, request.value.message, renew, connection)
            except CQLError as exc:
                error = exc
            else:
                for waiter in request.waiters:
                    waiter.complete(statement)
                return
        for waiter in request.waiters:
            waiter.fail(_copied(error))

    def _keep(
        self,
        key: Key,
        message: PreparedMessage,
        renew: Statement | None,
        connection: Connection,
    ) -> Statement:
        statement = renew or self.statements.get(key)
        if statement is None:
            keyspace, query = (self.keyspace, key) if isinstance(key, str) else key
            statement = Statement(query, keyspace, message, connection.version)
        else:
            statement.speak(connection.version)
            statement.renew(message)
        self.statements.put(key, statement)
        return statement


E = TypeVar("E", bound=BaseException)


def _copied(error: E) -> E:
    """Return the error for one of several tasks, so that each has a traceback of its own."""
    try:
        mine = copy(error)
    except Exception:  # a class of the user's, whose constructor takes other arguments: shared
        return error
    mine.__cause__ = error.__cause__
    return mine
