"""Carries out, on one connection, what its relay decides.

Two tasks read, one from either end, and do not read on before what they have read is sent: a
client that doesn't read its replies is felt by the node, and the other way round. A third sends
what was delayed, of which a bounded amount is kept.
"""

from __future__ import annotations

import heapq
import math
import socket
import struct
from itertools import count
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute

from cqlproto_anyio.testing._memory import MemoryStream
from cqlproto_anyio.testing.relay import End, Hold, Later, Relay, Send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import ByteStream

    from cqlproto_anyio.testing.faults import Side
    from cqlproto_anyio.testing.relay import Step, Target

__all__ = ["Gate", "Link", "reset"]

_READ = 65_536
# So much that is delayed is kept for a connection before it reads no further.
_HELD_BYTES = 4 * 1024 * 1024
_HELD_FRAMES = 32_768
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Gate:
    """Where the bytes of all connections of a proxy wait while it is paused."""

    def __init__(self) -> None:
        self._opened: anyio.Event | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing passes."""
        return self._opened is not None

    def close(self) -> None:
        """Let nothing pass."""
        if self._opened is None:
            self._opened = anyio.Event()

    def open(self) -> None:
        """Let everything pass."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def passed(self) -> None:
        """Wait until it is open."""
        while self._opened is not None:
            await self._opened.wait()


def reset(stream: ByteStream) -> None:
    """Let the closing that follows be a reset."""
    if isinstance(stream, MemoryStream):
        stream.reset()
    elif (raw := stream.extra(SocketAttribute.raw_socket, None)) is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Link:
    """A connection of a client and the one to the node that stands for it.

    Arguments:
        client: the client's stream, which the link closes.
        reach: opens a stream to the node.
        relay: decides.
        gate: of the proxy.
    """

    def __init__(
        self,
        client: ByteStream,
        reach: Callable[[], Awaitable[ByteStream]],
        relay: Relay,
        gate: Gate,
    ) -> None:
        self._streams: dict[Target, ByteStream] = {"client": client}
        self._reach = reach
        self._relay = relay
        self._gate = gate
        self._own_gate = Gate()
        self._scope = anyio.CancelScope()
        self._locks: dict[Target, anyio.Lock] = {"client": anyio.Lock(), "node": anyio.Lock()}
        self._lost: set[Target] = set()
        self._reset = False
        self._held: list[tuple[float, int, Later]] = []
        self._serial = count()
        self._held_for: dict[Target, int] = {"client": 0, "node": 0}
        self._held_bytes = 0
        self._changed = anyio.Event()  # of what is held
        self._error: Exception | None = None

    def cut(self, *, reset: bool) -> None:
        """Close both ends soon."""
        self._reset = self._reset or reset
        self._scope.cancel()

    def speak(self) -> None:
        """End a stall."""
        self._own_gate.open()

    async def run(self) -> None:
        """Relay until an end closes or :meth:`cut`.

        Raises:
            Exception: what went wrong in the proxy itself or in a rule's functions.
        """
        try:
            with self._scope:
                try:
                    self._streams["node"] = await self._reach()
                except _LOST:
                    self._reset = True  # as near to a refusal as can be, now that it was accepted
                    return
                async with anyio.create_task_group() as group:
                    group.start_soon(self._guarded, self._pump, "request")
                    group.start_soon(self._guarded, self._pump, "reply")
                    group.start_soon(self._guarded, self._send_held)
        finally:
            # Without a shield a cancellation that is under way would come between the two.
            with anyio.CancelScope(shield=True):
                for stream in self._streams.values():
                    if self._reset:
                        reset(stream)
                    await anyio.aclose_forcefully(stream)
        if self._error is not None:
            raise self._error

    async def _guarded(self, work: Callable[..., Awaitable[None]], *arguments: Side) -> None:
        """Run a task; when it ends the connection does."""
        try:
            await work(*arguments)
        except Exception as exc:
            self._error = exc
        self._scope.cancel()

    async def _pump(self, side: Side) -> None:
        source = self._streams["client" if side == "request" else "node"]
        target: Target = "node" if side == "request" else "client"
        try:
            while True:
                try:
                    data = await source.receive(_READ)
                except (anyio.EndOfStream, *_LOST):
                    break
                for step in self._relay.receive(side, data):
                    await self._do(step)
            for step in self._relay.finish(side):
                await self._do(step)
            while self._held_for[target]:
                await self._changed.wait()
        except _Ended:
            return

    async def _do(self, step: Step) -> None:
        if isinstance(step, Send):
            await self._send(step.to, step.data)
        elif isinstance(step, Later):
            await self._hold(step)
        elif isinstance(step, Hold):
            self._own_gate.close()
            if step.seconds is not None:
                with anyio.move_on_after(step.seconds):
                    await self._own_gate.passed()
                self._own_gate.open()
        else:
            await self._end(step)

    async def _send(self, to: Target, data: bytes) -> None:
        async with self._locks[to]:
            await self._gate.passed()
            await self._own_gate.passed()
            if to not in self._lost:
                try:
                    await self._streams[to].send(data)
                except _LOST:
                    self._lost.add(to)  # the task that reads there finds out, too

    async def _end(self, step: End) -> None:
        await self._send(step.to, step.data)
        self._reset = self._reset or step.reset
        raise _Ended

    async def _hold(self, step: Later) -> None:
        while self._held_bytes >= _HELD_BYTES or len(self._held) >= _HELD_FRAMES:
            await self._changed.wait()
        due = anyio.current_time() + step.seconds
        heapq.heappush(self._held, (due, next(self._serial), step))
        self._held_for[step.to] += 1
        self._held_bytes += len(step.data)
        self._change()

    async def _send_held(self) -> None:
        """Send what was delayed, each when it is due."""
        while True:
            due = self._held[0][0] if self._held else math.inf
            left = due - anyio.current_time()
            if left > 0:
                with anyio.move_on_after(left):
                    await self._changed.wait()
                continue
            step = heapq.heappop(self._held)[2]
            await self._send(step.to, step.data)
            self._held_for[step.to] -= 1
            self._held_bytes -= len(step.data)
            self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Ended(Exception):
    """A rule has ended the connection."""
