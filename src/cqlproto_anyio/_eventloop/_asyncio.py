"""The asyncio implementation of :class:`~cqlproto_anyio._eventloop.backend.Backend`.

``_asyncio_waiter`` says how tasks wait, ``_asyncio_socket`` how bytes are carried: both avoid the
event loop's usual helpers, because they run once per request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute

from cqlproto_anyio._checks.callables import contains
from cqlproto_anyio._eventloop._asyncio_socket import PushTransfer, SocketStream
from cqlproto_anyio._eventloop._asyncio_waiter import waiter_classes
from cqlproto_anyio._eventloop.pulling import PullTransfer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import F
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._eventloop.transfer import ByteSink, Transfer
    from cqlproto_anyio._eventloop.waiter import Waiter

__all__ = ["AsyncioBackend"]


# What tasks await; tests choose the other pair.
_WAITER, _REQUEST = waiter_classes()


class AsyncioBackend:
    """The running loop and its clock."""

    name = "asyncio"
    # the selector loop reads as much; with less, anyio would split the data
    receive_size = 262_144

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.current_loop: Callable[[], object] = asyncio._get_running_loop
        self.loop: object = loop
        self.waiter_class: type[Waiter] = self._bound(_WAITER)
        self.request_class: type[Request] = self._bound(_REQUEST)
        # asyncio's own loops use the monotonic clock; calling it directly is cheaper
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.clock: Callable[[], float] = time.monotonic if plain else loop.time

    def _bound(self, kind: type[Waiter]) -> type[Any]:
        """Return a subclass whose objects wait in this event loop."""
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
        if task is None:  # the coroutine is being closed, maybe without an event loop
            return True
        return contains(error, asyncio.CancelledError) and task.cancelling() > 0

    def is_here(self) -> bool:
        return self.current_loop() is self.loop and asyncio.current_task() is not None

    async def adopt(self, stream: ByteStream) -> ByteStream:
        """Return a stream that has just been connected as one that can push."""
        if sys.platform == "win32":  # the proactor's sockets can't be moved to another transport
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
