"""The asyncio half of :mod:`cqlproto_anyio._eventloop.backend`: waiting, and a socket that pushes.

Two things are done here without the event loop's usual helpers, because they are done once per
request. A task waits in an object of ours that answers what ``asyncio.Task`` asks of a future, and
no ``Future`` is made for it. And a connection's socket is a protocol of the loop's, so that what
has come is parsed, and the tasks it answers are run, in the very call that brings it: no task that
reads, no task that writes, no turn of the loop in between.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
from anyio.abc import SocketAttribute

from cqlproto_anyio._checks.callables import contains
from cqlproto_anyio._eventloop._asyncio_socket import PushTransfer, SocketStream
from cqlproto_anyio._eventloop.pulling import PullTransfer
from cqlproto_anyio._eventloop.request import Request
from cqlproto_anyio._eventloop.waiter import Waiter, wrong_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import F
    from cqlproto_anyio._eventloop.transfer import ByteSink, Transfer

__all__ = ["AsyncioBackend", "AsyncioRequest", "AsyncioWaiter"]


class AsyncioWaiter(Waiter):
    """Waits as a future does, for one task; subclasses name the loop.

    A task takes anything for a future that has ``_asyncio_future_blocking``, and asks it for
    ``get_loop``, ``add_done_callback``, ``result`` and ``cancel``.
    """

    __slots__ = ()
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            self._asyncio_future_blocking = True
            try:
                yield self
            except BaseException as exc:
                if not self.done:  # neither completed nor cancelled
                    self.abandon()
                    if isinstance(exc, (TypeError, RuntimeError)):  # no task of this loop's
                        raise wrong_event_loop() from exc
                raise
        elif self.error is not None:
            raise self.error
        return self.value

    # -- what the task asks

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, function: Callable[[Any], None], *, context: Context) -> None:
        self._waiter = function
        self._context = context

    def result(self) -> Any:
        """Raise what the task is to be woken with, if it is an error."""
        if self.error is not None:
            raise self.error

    def cancel(self, msg: Any = None) -> bool:
        """The task is being cancelled; False if it is about to run anyway."""
        if self.done:
            return False
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        waiter, self._waiter = self._waiter, None
        try:
            self.abandon()
        finally:  # a task that isn't woken now never ends
            self._wake(waiter)
        return True

    # -- waking it

    def _wake(self, waiter: Callable[[Any], None]) -> None:
        self.loop.call_soon(waiter, self, context=self._context)


class AsyncioRequest(AsyncioWaiter, Request):
    """A request on asyncio."""

    __slots__ = ()

    def answer(self, event: Any) -> None:
        """Run the task that waits, here and now: only from a callback of the loop, not a task."""
        # As complete() but for the last line; calling it would cost every reply another call.
        if self.done:
            return
        self.done = True
        self.value = event
        queue = self.queue
        if queue is not None:
            self.queue = None
            del queue[self]
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self._context.run(waiter, self)


class AsyncioBackend:
    """The running loop and its clock."""

    name = "asyncio"
    # what the selector loop reads at a time: less would make anyio split what has come
    receive_size = 262_144

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.current_loop: Callable[[], object] = asyncio._get_running_loop
        self.loop: object = loop
        self.waiter_class: type[Waiter] = self._bound(AsyncioWaiter)
        self.request_class: type[Request] = self._bound(AsyncioRequest)
        # asyncio's own loops ask the monotonic clock; without the way through them it is cheaper
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.clock: Callable[[], float] = time.monotonic if plain else loop.time

    def _bound(self, kind: type[AsyncioWaiter]) -> type[Any]:
        """Return a subclass whose objects wait in this loop."""
        return type(kind.__name__, (kind,), {"__slots__": (), "loop": self._loop})

    def start_task(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        return self._loop.create_task(function(), name=name)

    def call_from_thread(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function)

    def protected(self, function: F) -> F:
        return function  # asyncio's runner cancels the main task

    def is_cancellation(self, error: BaseException) -> bool:
        task = asyncio.current_task(self._loop)
        if task is None:  # the coroutine is being closed, maybe without a loop
            return True
        return contains(error, asyncio.CancelledError) and task.cancelling() > 0

    def is_here(self) -> bool:
        return self.current_loop() is self.loop and asyncio.current_task() is not None

    async def adopt(self, stream: ByteStream) -> ByteStream:
        """Return a stream that has just been connected as one that can push."""
        if sys.platform == "win32":  # a socket of the proactor's can't be handed on
            return stream
        raw = stream.extra(SocketAttribute.raw_socket)
        sock = socket.socket(raw.family, raw.type, raw.proto, fileno=os.dup(raw.fileno()))
        try:
            sock.setblocking(False)
            await anyio.aclose_forcefully(stream)
            _, owned = await self._loop.create_connection(SocketStream, sock=sock)
        except BaseException:
            sock.close()
            raise
        return owned

    def transfer(self, stream: ByteStream, sink: ByteSink) -> Transfer:
        if isinstance(stream, SocketStream):
            return PushTransfer(stream, sink)
        return PullTransfer(stream, sink, self)
