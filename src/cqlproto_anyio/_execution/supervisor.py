"""What keeps a session going: its host task, its timer, its cluster, its prepared statements.

Everything that runs in the background runs in one host task, started when the session is entered
and awaited when it is left. The host belongs to no cancel scope of the caller's: a session can be
closed from another task than the one that opened it, and an error in the caller's block arrives as
it is.

Only tasks start tasks. Outside of a task (in a callback of the event loop, or while a task is being
cancelled) anyio can't tell which event loop is running, so what is to be started from there is
queued, and the host starts it.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import OrderedDict, deque
from contextlib import suppress
from time import time_ns
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from cqlproto_anyio._checks.callables import Report, described
from cqlproto_anyio._cluster.cluster import Cluster
from cqlproto_anyio._eventloop.backend import elsewhere, shielded
from cqlproto_anyio._eventloop.fork import watch
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._settings.resolved import Wires
from cqlproto_anyio._statements.preparer import Preparer
from cqlproto_anyio._statements.server_warnings import ServerWarnings
from cqlproto_anyio.exceptions import ClockDrifted, SessionClosed, copied
from cqlproto_anyio.hooks import ClockRecord, active
from cqlproto_anyio.policies.checked import tracker_of
from cqlproto_anyio.policies.timestamps import MOST_AHEAD, Timestamps
from cqlproto_anyio.statistics import Statistics

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Coroutine, Sequence

    from cqlproto._events import ResponseReceived
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import SchemaChange
    from cqlproto_anyio._eventloop.backend import Backend, Waiter
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._statements.statement import Statement
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.policies.speculation import Speculation, Tracker

__all__ = ["Supervisor"]

logger = logging.getLogger("cqlproto_anyio")

# Of how many speculation policies the latencies are remembered; a program has a handful, unless it
# makes one for each call.
_MAX_TRACKERS = 64


class Supervisor:
    """The shared part of a session and of what :meth:`Session.using` makes of it.

    Attributes:
        timer: the clock, and the deadlines of all requests.
        cluster: chooses connections.
        preparations: the prepared statements.
        made_at: the file and line where the session was asked for.
        retries: how many times a request was sent again.
        speculative: how many times one was sent to a second host as well.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        backend: Backend,
        config: Config,
        auth: Auth | None,
        tls: ssl.SSLContext | None,
        keyspace: str | None,
        local_dc: str | None,
    ) -> None:
        self.backend = backend
        self.timer = Timer(backend.clock)
        self.config = config
        self.keyspace = keyspace
        self.endpoints = endpoints
        self.request_class = backend.request
        self.tell = active(config.hooks)
        self.warnings = ServerWarnings()
        self.preparations = Preparer(
            config.max_prepared,
            keyspace,
            timeout=config.control_timeout,
            timer=self.timer,
            other=self._other_connection,
            request_class=backend.request,
            warnings=self.warnings,
        )
        self.statements = self.preparations.statements
        self.wires = Wires(keyspace)
        self.cluster: Cluster = Cluster(
            endpoints,
            backend=backend,
            config=config,
            auth=auth,
            tls=tls,
            keyspace=keyspace,
            local_dc=local_dc,
            timer=self.timer,
            tell=self.tell,
            schema_changed=self._schema_changed,
        )
        self.stamps = Timestamps(time_ns, self._clock_drifted)
        self.timestamps = self.stamps.fresh if config.client_timestamps else None
        self.retries = 0
        self.speculative = 0
        self._trackers: OrderedDict[object, tuple[Speculation, Tracker]] = OrderedDict()
        self.report_speculation = Report("the speculation policy")
        self.report_values = Report("a value that was packed for another host")
        self._pausing: set[Request] = set()
        self._closed: str | None = None
        self._cause: BaseException | None = None  # what it was closed for, if not by the user
        self._forked = False
        self._let_go = False  # whether the user has closed it
        self._sessions = 0  # how many share it
        self.made_at = ("", 0)
        self._pid = os.getpid()
        self._group: anyio.abc.TaskGroup | None = None
        self._host: object = None
        self._queued: deque[tuple[Callable[..., Coroutine[Any, Any, None]], tuple[Any, ...]]] = (
            deque()
        )
        self._more: Waiter | None = None  # what the host waits in for more to start
        self._task = backend.protected(self._guard)
        self._begun: Waiter = backend.waiting()
        self._ended: list[Waiter] | None = []

    # -- the life of the host task

    async def start(self) -> None:
        """Start the host and connect.

        Raises:
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: no connection could be
                made; everything is undone.
        """
        watch(self)
        self._host = self.backend.host(self._run, "cqlproto session")
        try:
            await self._begun
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the host and wait for it: bounded, idempotent, from any task.

        Raises:
            UsageError: this is not the event loop that the session belongs to.
        """
        if self._forked or (self._closed is not None and self._ended is None):
            self._let_go = True
            return
        if not self.backend.is_here():
            raise elsewhere()
        self._let_go = True
        self._close("the session is closed")
        if self._ended is not None:
            waiting = self.backend.waiting()
            self._ended.append(waiting)
            await shielded(waiting)

    def taken(self) -> None:
        """One more session shares this."""
        self._sessions += 1

    def dropped(self, session: object) -> None:
        """A session that shares this is garbage: with the last one, unless it was closed, warn and
        end the tasks. Called in any thread, at any time."""
        self._sessions -= 1
        if self._sessions or self._let_go or self._forked or self._host is None:
            return
        self._let_go = True
        if self._ended is not None:
            self.backend.from_any_thread(
                lambda: self._close("the session was dropped, and never closed")
            )
        filename, line = self.made_at
        warnings.warn_explicit(
            f"unclosed {session!r}: use 'async with', or 'await session.aclose()'",
            ResourceWarning,
            filename,
            line,
            source=session,
        )

    def _close(self, reason: str, cause: BaseException | None = None) -> None:
        if self._closed is None:
            self._closed, self._cause = reason, cause
        self.cluster.close(self._session_closed())
        for request in tuple(self._pausing):  # the timer ends, and nobody else would wake them
            request.give_up(self._session_closed())
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _session_closed(self) -> SessionClosed:
        error = SessionClosed(self._closed or "")
        error.__cause__ = self._cause
        return error

    async def _run(self) -> None:
        """The host task: nothing but its cancellation ever leaves it."""
        try:
            with suppress(Exception):  # whoever waits has been told by _guard
                async with anyio.create_task_group() as group:
                    self._group = group
                    self._spawn(self.timer.run)
                    if self._closed is not None:
                        group.cancel_scope.cancel()
                    self._spawn(self._begin)
                    await self._start_queued()
        finally:
            self._close("the session's event loop is shutting down or has ended")
            self._begun.fail(self._session_closed())
            ended, self._ended = self._ended, None
            for waiting in ended or ():
                waiting.complete(None)

    async def _start_queued(self) -> None:
        """Start what is queued, until the session is closed."""
        while True:
            while self._queued:
                function, arguments = self._queued.popleft()
                self._spawn(function, *arguments)
            self._more = self.backend.waiting()
            await self._more

    def _spawn_soon(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
    ) -> None:
        """Have the host start a task, from wherever this is called; not once it is closed."""
        self._queued.append((function, arguments))
        if self._more is not None:
            self._more.complete(None)

    def _spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Start one of the session's tasks, from another of them; one that fails ends the session,
        with its failure.
        """
        assert self._group is not None
        self._group.start_soon(self._task, function, *arguments)

    async def _guard(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
    ) -> None:
        # here, and not by the group: it would end the other tasks before anyone knows why
        try:
            await function(*arguments)
        except BaseException as exc:
            if self.backend.is_cancellation(exc):
                raise
            self._close(f"one of its own tasks has failed: {described(exc)}", exc)

    async def _begin(self) -> None:
        try:
            await self.cluster.start(self._spawn, self._spawn_soon)
        except BaseException as exc:
            if self.backend.is_cancellation(exc):
                raise
            self._begun.fail(copied(exc))
        else:
            self._begun.complete(None)

    # -- requests

    @property
    def version(self) -> ProtocolVersion:
        """The protocol version that is spoken with the cluster."""
        return self.cluster.version

    def tracker(self, speculation: Speculation) -> Tracker | None:
        """Return what a policy knows of this session's latencies; None if it fails to say."""
        key: object = speculation
        try:
            known = self._trackers.get(key)
        except TypeError:  # it has no hash: each object of its class is a policy of its own
            key = id(speculation)
            known = self._trackers.get(key)
        except BaseException as exc:  # its own __hash__ or __eq__
            self.report_speculation(exc)
            return None
        if known is not None:
            self._trackers.move_to_end(key)
            return known[1]
        tracker = tracker_of(speculation, self.report_speculation)
        if tracker is not None:
            self._trackers[key] = (speculation, tracker)
            if len(self._trackers) > _MAX_TRACKERS:
                self._trackers.popitem(last=False)
        return tracker

    async def any_connection(
        self,
        query: str,
        timeout: float | None,
        deadline: float,
        statement: Statement | None = None,
        values: Sequence[Any] = (),
    ) -> Connection:
        """Return the connection for a request, waiting for one to be made if there is none.

        Arguments:
            query: the statement that waits for it, for errors.
            timeout: the whole call's timeout, in seconds.
            deadline: when that ends, in seconds of the session's clock.
            statement: the prepared statement and its values, for the choice.

        Raises:
            SessionClosed: the session is closed.
            RequestTimeout: the deadline has passed.
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: none can be made.
        """
        self.check_open()
        while (connection := self.cluster.selector.choose(statement, values)) is None:
            request = self.request_class(query, timeout)
            request.deadline = deadline
            self.timer.keep_deadline(request)
            self.cluster.wait(request)  # it may fail at once, and then leaves no deadline behind
            await request
            self.check_open()
        return connection

    async def outlast_writes(self, request: Request) -> None:
        """Wait until a server's clock has passed the timestamps of all writes so far: a millisecond
        at most, and none if there were no writes in this one; longer after the clock was set back.

        A conditional statement gets its timestamp from a server, in whole milliseconds: after a
        plain write in the same millisecond it would come before it, and a row that was deleted and
        inserted again would stay deleted.

        Arguments:
            request: what is awaited, so that the call's deadline holds.

        Raises:
            ClockDrifted: the clock is so far behind these timestamps that waiting is of no use.
        """
        left = self.stamps.left() / 1e9
        if left <= 0:
            return
        clock = self.timer.clock
        began = clock()
        if left > MOST_AHEAD / 1e6 or left > max(request.deadline - began, 0.002):
            raise ClockDrifted(left)
        # a clock that is set back again must not hold up anybody for ever
        while left > 0 and clock() - began < MOST_AHEAD / 1e6:
            await self.pause(request, left)
            request.again()
            left = self.stamps.left() / 1e9

    def _clock_drifted(self, ahead: int) -> None:
        """The latest timestamp is so many microseconds ahead of the clock."""
        makes = ahead <= MOST_AHEAD
        logger.warning(
            "this machine's clock was set back: it is %.3f s behind the latest timestamp of a"
            " session's writes; until it has caught up %s",
            ahead / 1e6,
            "timestamps go on from that one, and conditional statements wait"
            if makes
            else "the nodes make the timestamps, and conditional statements raise ClockDrifted",
        )
        if (tell := self.tell.clock_drifted) is not None:
            tell(ClockRecord(ahead / 1e6, makes))

    async def pause(self, request: Request, delay: float) -> None:
        """Wait, but not beyond the deadline of a request, which is completed by it."""
        self.check_open()
        timer = self.timer
        alarm = timer.alarm(lambda: request.complete(None))
        alarm.set(timer.clock() + delay)
        timer.keep_deadline(request)
        self._pausing.add(request)
        try:
            await request
        finally:
            self._pausing.discard(request)
            alarm.cancel()

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._closed is not None

    def check_open(self) -> None:
        """Raise SessionClosed if it is closed."""
        if self._closed is not None:
            raise self._session_closed()

    def check_here(self) -> None:
        """Raise UsageError outside of the event loop that the session belongs to."""
        if not self.backend.is_here():
            self.refuse_here()

    def refuse_here(self) -> NoReturn:
        """Raise what :meth:`check_here` does; SessionClosed if it is closed."""
        if self._closed is None:
            raise elsewhere()
        error = self._session_closed()
        if not self._forked:
            error.add_note(str(elsewhere()))
        raise error

    def forked(self) -> None:
        """This is a copy of the session in another process, which must leave it alone."""
        self._forked = True
        self._closed = (
            f"this session belongs to process {self._pid}, of which this one ({os.getpid()}) is a"
            " fork: connect again"
        )
        self.cluster.forget(SessionClosed(self._closed))

    def take_notes(
        self, query: str, statement: Statement | None, event: ResponseReceived, host: str
    ) -> None:
        """Take what an answer has brought beside its message: warnings, and where a tablet is.

        Arguments:
            query: the statement's text.
            statement: the prepared statement, or None.
            event: the answer.
            host: the node that sent it, as ``address:port``.
        """
        if event.warnings:
            self.warnings.log(event.warnings, query, host)
        if statement is not None:
            self.cluster.selector.learn(statement, event)

    # -- prepared statements

    def _other_connection(self, asked: Collection[Connection]) -> Connection | None:
        """Return a connection to a host that was not asked yet, whatever it holds."""
        cluster = self.cluster
        pools = [pool for each in asked if (pool := cluster.pool_of(each)) is not None]
        return next(cluster.selector.plan(None, (), pools), None)

    def _schema_changed(self, change: SchemaChange) -> None:
        self.preparations.outdate(change.keyspace)
        tablets = self.cluster.selector.tablets
        if change.target == "KEYSPACE":
            tablets.forget_keyspace(change.keyspace)
        elif change.target == "TABLE" and change.name is not None:
            tablets.forget_table(change.keyspace, change.name)

    async def agree(
        self, change: SchemaChange, connection: Connection | None, deadline: float
    ) -> bool | None:
        """Wait until the hosts agree on the schema, after a statement that has changed it.

        Arguments:
            change: what it has changed.
            connection: to the node that has changed it.
            deadline: when the call ends, in seconds of the session's clock.

        Returns:
            whether they do; None if nobody was asked.
        """
        self._schema_changed(change)
        control = self.cluster.control
        timeout = min(self.config.schema_agreement_timeout, deadline - self.timer.clock())
        if control is None or self.config.schema_agreement_timeout == 0:
            return None
        agreed = await control.agree(max(timeout, 0.0), connection)
        # what was prepared meanwhile, at a host that had not heard of it yet, may be of old
        self._schema_changed(change)
        return agreed

    def statistics(self) -> Statistics:
        """Return what there is to be seen."""
        cluster = self.cluster
        control = None if cluster.control is None else cluster.control.endpoint
        return Statistics(
            hosts=tuple([pool.statistics() for pool in cluster.all_pools]),
            control=None if control is None else str(control),
            prepared=len(self.statements),
            retries=self.retries,
            speculative=self.speculative,
        )
