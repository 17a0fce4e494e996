"""A connection in memory, for clients that open their transports with a connector."""

from __future__ import annotations

import anyio
import anyio.abc
import anyio.lowlevel

__all__ = ["MemoryStream"]

_CAPACITY = 65_536


class _Pipe:
    """One direction of a connection; it holds a bounded number of bytes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.data = bytearray()
        self.ended = False  # no more will be written
        self.broken = False  # no more can be read or written
        self._changed = anyio.Event()

    def change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def changed(self) -> None:
        await self._changed.wait()


class MemoryStream(anyio.abc.ByteStream):
    """One end of a connection in memory.

    Attributes:
        closed: whether this end was closed.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._in = incoming
        self._out = outgoing
        self.closed = False

    @classmethod
    def pair(cls, capacity: int = _CAPACITY) -> tuple[MemoryStream, MemoryStream]:
        """Return the two ends of a new connection.

        Arguments:
            capacity: how many bytes each direction holds; more wait in :meth:`send`.
        """
        one, two = _Pipe(capacity), _Pipe(capacity)
        return cls(one, two), cls(two, one)

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        out = self._out
        rest = memoryview(item)
        while rest:
            if self.closed:
                raise anyio.ClosedResourceError
            if out.broken:
                raise anyio.BrokenResourceError
            room = out.capacity - len(out.data)
            if room > 0:
                out.data += rest[:room]
                rest = rest[room:]
                out.change()
            else:
                await out.changed()

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint()
        source = self._in
        while not source.data:
            if self.closed:
                raise anyio.ClosedResourceError
            if source.broken:
                raise anyio.BrokenResourceError
            if source.ended:
                raise anyio.EndOfStream
            await source.changed()
        data = bytes(source.data[:max_bytes])
        del source.data[:max_bytes]
        source.change()
        return data

    async def send_eof(self) -> None:
        self._out.ended = True
        self._out.change()

    async def aclose(self) -> None:
        self.closed = True
        self._out.ended = True
        self._in.broken = True
        self._in.change()
        self._out.change()
        await anyio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Break the connection for both ends; unread bytes are lost."""
        self.closed = True
        for pipe in (self._in, self._out):
            pipe.broken = True
            pipe.data.clear()
            pipe.change()
