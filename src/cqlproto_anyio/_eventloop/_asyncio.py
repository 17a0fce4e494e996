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
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anyio
from anyio.abc import ByteStream, SocketAttribute

from cqlproto_anyio._checks.callables import contains
from cqlproto_anyio._eventloop.backend import Waiter, elsewhere
from cqlproto_anyio._eventloop.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

    from cqlproto_anyio._eventloop.backend import F

__all__ = [
    "AsyncioBackend",
    "AsyncioRequest",
    "AsyncioWaiter",
    "Receiver",
    "SocketStream",
    "plain_run_forever",
]


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
                        raise elsewhere() from exc
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
        self.running: Callable[[], object] = asyncio._get_running_loop
        self.home: object = loop
        self.waiting: type[Waiter] = self._bound(AsyncioWaiter)
        self.request: type[Request] = self._bound(AsyncioRequest)
        # asyncio's own loops ask the monotonic clock; without the way through them it is cheaper
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.clock: Callable[[], float] = time.monotonic if plain else loop.time

    def _bound(self, kind: type[AsyncioWaiter]) -> type[Any]:
        """Return a subclass whose objects wait in this loop."""
        return type(kind.__name__, (kind,), {"__slots__": (), "loop": self._loop})

    def host(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        return self._loop.create_task(function(), name=name)

    def from_any_thread(self, function: Callable[[], None]) -> None:
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
        return self.running() is self.home and asyncio.current_task() is not None

    async def own(self, stream: ByteStream) -> ByteStream:
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


def plain_run_forever(loop: asyncio.AbstractEventLoop) -> object:
    """Return the ``run_forever`` that the class of a loop has if it can't be run by its own tasks;
    None if it is not known as such a class.
    """
    if isinstance(loop, asyncio.BaseEventLoop):
        return asyncio.BaseEventLoop.run_forever
    if type(loop).__module__.partition(".")[0] == "uvloop":
        return type(loop).run_forever
    return None


class Receiver:
    """What a :class:`SocketStream` pushes to; each is called by the event loop."""

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        raise NotImplementedError

    def eof_received(self) -> None:
        """The peer will send nothing more."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """There is room for more to be written."""
        raise NotImplementedError


class SocketStream(ByteStream, asyncio.Protocol):
    """A connected socket: read from at first, as anyio's are; from ``push_to`` on it pushes.

    Attributes:
        writable: whether more should be written; the receiver is told when it should again.
    """

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.writable = True
        self._receiver: Receiver | None = None
        self._chunks: deque[bytes] = deque()
        self._eof = False
        self._error: Exception | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # what the system doesn't take stays with us, where it can still be dropped
        self._transport.set_write_buffer_limits(0)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.data_received(data)
            return
        # nobody may read on, so a peer that never stops must not fill the memory
        self._transport.pause_reading()
        self._chunks.append(data)
        self._changed.set()

    def eof_received(self) -> bool:
        self._eof = True
        self._changed.set()
        if self._receiver is not None:
            self._receiver.eof_received()
        return True  # whoever owns the stream closes it

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self._error = exc
        self._changed.set()
        self._gone.set()
        if self._receiver is not None:
            self._receiver.connection_lost(exc)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._changed.set()
        if self._receiver is not None:
            self._receiver.resume_writing()

    # -- as a stream

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        while not self._chunks:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._error is not None:
                raise anyio.BrokenResourceError from self._error
            if self._eof:
                raise anyio.EndOfStream
            self._changed.clear()
            self._transport.resume_reading()
            await self._changed.wait()
        data = self._chunks.popleft()
        if len(data) > max_bytes:
            self._chunks.appendleft(data[max_bytes:])
            data = data[:max_bytes]
        return data

    async def send(self, item: bytes) -> None:
        self.write(item)
        while not self.writable and not self._gone.is_set():
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            raise anyio.ClosedResourceError
        if self._gone.is_set():
            raise anyio.BrokenResourceError from self._error

    async def send_eof(self) -> None:
        self._transport.write_eof()

    async def aclose(self) -> None:
        self._closed = True
        self._transport.abort()
        await self._gone.wait()

    # -- as one that pushes

    def push_to(self, receiver: Receiver) -> None:
        """Call the receiver from now on; what has come already is pushed at once."""
        self._receiver = receiver
        while self._chunks:
            receiver.data_received(self._chunks.popleft())
        if self._gone.is_set():
            receiver.connection_lost(self._error)
        elif self._eof:
            receiver.eof_received()
        else:
            self._transport.resume_reading()

    def read_anew(self) -> None:
        """Read on in a callback of its own, although the one that reads is on the stack."""
        self._transport.pause_reading()
        self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send the bytes, or keep them until the socket takes them."""
        if not self._transport.is_closing():  # uvloop's would raise
            self._transport.write(data)
