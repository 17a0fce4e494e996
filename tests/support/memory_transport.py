"""An asyncio transport over a stream in memory, to test pushing like pulling.

It does what asyncio's own socket transport does with its write limits at zero: ``write`` hands over
what the stream takes at once, the rest is kept and writing is paused meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._eventloop._asyncio_socket import SocketStream

if TYPE_CHECKING:
    from cqlproto_anyio.testing._memory import MemoryStream

__all__ = ["pushing"]


class MemoryTransport(asyncio.Transport):
    """Drives an asyncio protocol with a stream in memory."""

    def __init__(self, stream: MemoryStream, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._writer: asyncio.Task[None] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._lost = False
        protocol.connection_made(self)
        self._reader = self._loop.create_task(self._read())

    async def _read(self) -> None:
        while not self._lost:
            await self._may_read.wait()
            try:
                data = await self._stream.receive(262_144)
            except anyio.EndOfStream:
                # as a callback of the loop's, for no task may be running then
                self._loop.call_soon(self._protocol.eof_received)
                return
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._break()
                return
            pushed = self._loop.create_future()
            self._loop.call_soon(self._push, data, pushed)
            await pushed

    def _push(self, data: bytes, pushed: asyncio.Future[None]) -> None:
        try:
            if not self._lost:
                self._protocol.data_received(data)
        finally:
            if not pushed.done():
                pushed.set_result(None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lost:
            return
        self._unsent += data
        if self._writer is None:
            self._protocol.pause_writing()
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unsent:
                data = bytes(self._unsent)
                self._unsent.clear()
                await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._break()
            return
        self._writer = None
        self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self._lost and self._writer is None:
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def abort(self) -> None:
        if not self._lost:
            self._end(None)

    def is_closing(self) -> bool:
        return self._lost

    def _break(self) -> None:
        if not self._lost:
            self._end(ConnectionResetError(104, "Connection reset by peer"))

    def _end(self, error: Exception | None) -> None:
        self._lost = True
        self._loop.create_task(self._stop(error))

    async def _stop(self, error: Exception | None) -> None:
        for task in (self._reader, self._writer):
            if task is not None:
                task.cancel()
        await self._stream.aclose()
        self._loop.call_soon(self._protocol.connection_lost, error)


def pushing(stream: MemoryStream) -> SocketStream:
    """Return a SocketStream over a stream in memory."""
    protocol = SocketStream()
    MemoryTransport(stream, protocol)
    return protocol
