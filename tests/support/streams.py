"""A connection in memory: two byte streams, each of which holds a bounded number of bytes."""

from __future__ import annotations

import anyio
import anyio.abc
import anyio.lowlevel

__all__ = ["MemoryStream"]


class _Pipe:
    """One direction of a stream in memory."""

    def __init__(self, capacity: int) -> None:
        self.data = bytearray()
        self.capacity = capacity
        self.ended = False  # the sender has closed
        self.broken = False
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
    def pair(cls, capacity: int) -> tuple[MemoryStream, MemoryStream]:
        """Return both ends; each direction holds at most so many bytes."""
        one, two = _Pipe(capacity), _Pipe(capacity)
        return cls(one, two), cls(two, one)

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        out = self._out
        while item:
            if self.closed:
                raise anyio.ClosedResourceError
            if out.broken:
                raise anyio.BrokenResourceError
            room = out.capacity - len(out.data)
            if room > 0:
                out.data += item[:room]
                item = item[room:]
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
        """Break both directions at once."""
        self.closed = self._out.broken = self._in.broken = True
        self._in.data.clear()
        self._out.data.clear()
        self._in.change()
        self._out.change()
