"""The background task of a session, which runs all of its other tasks.

The supervisor starts when the session is entered and is awaited when it is left. It belongs to no
cancel scope of the caller: a session can be closed by another task than the one that opened it, and
an error in the caller's block is raised unchanged.

Only tasks start tasks. Outside of a task (in a callback of the event loop, or while a task is being
cancelled) anyio can't tell which event loop is running. What is to be started from there is queued,
and the supervisor starts it.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import anyio

from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._eventloop.fork import watch
from cqlproto_anyio._eventloop.waiter import shielded, wrong_event_loop
from cqlproto_anyio.exceptions import SessionClosed, copied

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cqlproto_anyio._cluster.cluster import Cluster
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._eventloop.waiter import Waiter

    Task = Callable[..., Coroutine[Any, Any, None]]


class Watcher(Protocol):
    """A call that has to be told when the session is closed."""

    def give_up(self, error: SessionClosed, /) -> None:
        """The session is closed."""
        ...


__all__ = ["Supervisor", "Watcher"]


class Supervisor:
    """Runs the timer and the cluster's tasks until the session is closed.

    Arguments:
        backend: the event loop.
        timer: the session's timer.
        cluster: the cluster to connect to and to close.
        made_at: the file and line of the call of ``connect``.
    """

    def __init__(
        self, backend: Backend, timer: Timer, cluster: Cluster, made_at: tuple[str, int]
    ) -> None:
        self._backend = backend
        self._timer = timer
        self._cluster = cluster
        self._made_at = made_at
        self._pausing: set[Request] = set()
        self._watchers: set[Watcher] = set()
        self._closed: str | None = None  # why
        self._cause: BaseException | None = None  # the error that closed it, if one did
        self._released = False  # whether the user has closed it
        self._forked = False
        self._sessions = 0
        self._pid = os.getpid()
        self._group: anyio.abc.TaskGroup | None = None
        self._task: object = None
        self._queued: deque[tuple[Task, tuple[Any, ...]]] = deque()
        self._more: Waiter | None = None  # completed when something is queued
        self._guarded = backend.protected(self._guard)
        self._connected: Waiter = backend.waiter_class()
        self._ended: list[Waiter] | None = []  # the waiters for the end; None after it

    # -- start and end

    async def start(self) -> None:
        """Start the background task and connect.

        Raises:
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: no connection could be
                made; the background task has ended.
        """
        watch(self)
        self._task = self._backend.start_task(self._run, "cqlproto session")
        try:
            await self._connected
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the session and wait for the end of its tasks, which is bounded in time.

        May be called several times, and from any task.

        Raises:
            UsageError: this is not the session's event loop.
        """
        if self._forked or (self._closed is not None and self._ended is None):
            self._released = True
            return
        if not self._backend.is_here():
            raise wrong_event_loop()
        self._released = True
        self._close("the session is closed")
        if self._ended is not None:
            waiting = self._backend.waiter_class()
            self._ended.append(waiting)
            await shielded(waiting)

    def add_session(self) -> None:
        """Count one more session that shares the background task, see :meth:`Session.using`."""
        self._sessions += 1

    def drop_session(self, session: object) -> None:
        """Count a garbage-collected session; warn and end the tasks if the last was not closed.

        Called in any thread, at any time.
        """
        self._sessions -= 1
        if self._sessions or self._released or self._forked or self._task is None:
            return
        self._released = True
        if self._ended is not None:
            self._backend.call_from_thread(
                lambda: self._close("the session was dropped, and never closed")
            )
        filename, line = self._made_at
        warnings.warn_explicit(
            f"unclosed {session!r}: use 'async with', or 'await session.aclose()'",
            ResourceWarning,
            filename,
            line,
            source=session,
        )

    def forked(self) -> None:
        """Close this copy of the session in a child process, and leave the sockets alone."""
        self._forked = True
        self._closed = (
            f"this session belongs to process {self._pid}, of which this one ({os.getpid()}) is a"
            " fork: connect again"
        )
        self._cluster.forget(SessionClosed(self._closed))

    def _close(self, reason: str, cause: BaseException | None = None) -> None:
        if self._closed is None:
            self._closed, self._cause = reason, cause
        self._cluster.close(self._session_closed())
        for request in tuple(self._pausing):  # the timer ends, so nothing else would wake them
            request.give_up(self._session_closed())
        for watcher in tuple(self._watchers):
            watcher.give_up(self._session_closed())
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _session_closed(self) -> SessionClosed:
        error = SessionClosed(self._closed or "")
        error.__cause__ = self._cause
        return error

    # -- the background task and its children

    async def _run(self) -> None:
        """Run the session's tasks. Only the cancellation of this task itself is raised."""
        try:
            with suppress(Exception):  # _guard has failed the waiters
                async with anyio.create_task_group() as group:
                    self._group = group
                    self._spawn(self._timer.run)
                    if self._closed is not None:
                        group.cancel_scope.cancel()
                    self._spawn(self._connect)
                    await self._start_queued()
        finally:
            self._close("the session's event loop is shutting down or has ended")
            self._connected.fail(self._session_closed())
            ended, self._ended = self._ended, None
            for waiting in ended or ():
                waiting.complete(None)

    async def _start_queued(self) -> None:
        """Start what is queued, until the session is closed."""
        while True:
            while self._queued:
                function, arguments = self._queued.popleft()
                self._spawn(function, *arguments)
            self._more = self._backend.waiter_class()
            await self._more

    def spawn(self, function: Task, *arguments: Any) -> None:
        """Queue a task for the supervisor to start; may be called from anywhere.

        Nothing is started after the session was closed.
        """
        self._queued.append((function, arguments))
        if self._more is not None:
            self._more.complete(None)

    def _spawn(self, function: Task, *arguments: Any) -> None:
        """Start a task of the session from another one. If it fails, it closes the session."""
        assert self._group is not None
        self._group.start_soon(self._guarded, function, *arguments)

    async def _guard(self, function: Task, *arguments: Any) -> None:
        """Run a task; close the session if it fails.

        The task group alone would cancel the other tasks before the reason is known.
        """
        try:
            await function(*arguments)
        except BaseException as exc:
            if self._backend.is_cancellation(exc):
                raise
            self._close(f"one of its own tasks has failed: {described(exc)}", exc)

    async def _connect(self) -> None:
        try:
            await self._cluster.start(self._spawn, self.spawn)
        except BaseException as exc:
            if self._backend.is_cancellation(exc):
                raise
            self._connected.fail(copied(exc))
        else:
            self._connected.complete(None)

    # -- for calls

    @property
    def closed(self) -> bool:
        """Whether the session takes no more requests."""
        return self._closed is not None

    def check_open(self) -> None:
        """Raise SessionClosed if the session is closed."""
        if self._closed is not None:
            raise self._session_closed()

    def check_here(self) -> None:
        """Raise UsageError outside of the session's event loop."""
        if not self._backend.is_here():
            self.refuse_here()

    def refuse_here(self) -> NoReturn:
        """Raise the error of a call outside of the session's event loop.

        Raises:
            SessionClosed: the session is closed.
            UsageError: it is open.
        """
        if self._closed is None:
            raise wrong_event_loop()
        error = self._session_closed()
        if not self._forked:
            error.add_note(str(wrong_event_loop()))
        raise error

    def watch(self, watcher: Watcher) -> None:
        """Tell a call when the session is closed."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """The call has ended."""
        self._watchers.discard(watcher)

    async def pause(self, request: Request, delay: float) -> None:
        """Wait before the next attempt; the end of the session and the deadline end it early.

        Arguments:
            request: is completed after the delay, or expires at its deadline.
            delay: how long to wait, in seconds.
        """
        self.check_open()
        alarm = self._timer.alarm(lambda: request.complete(None))
        alarm.set(self._timer.clock() + delay)
        self._timer.keep_deadline(request)
        self._pausing.add(request)
        try:
            await request
        finally:
            self._pausing.discard(request)
            alarm.cancel()
