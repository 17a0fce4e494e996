"""Carries out the decisions of a relay on one connection.

Two tasks read, one from each end. Neither reads on before the bytes that it has read are sent, so
backpressure passes through: a client that does not read its replies slows the node down, and the
reverse. A third task sends delayed frames, of which a bounded amount is kept.
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

    from cqlproto_anyio.testing.passage import Side
    from cqlproto_anyio.testing.relay import Step, Target

__all__ = ["Gate", "Link", "reset"]

_READ = 65_536
# A connection with this much delayed data stops reading.
_HELD_BYTES = 4 * 1024 * 1024
_HELD_FRAMES = 32_768
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class Gate:
    """A gate that all bytes pass through; a paused proxy closes the gate."""

    def __init__(self) -> None:
        self._opened: anyio.Event | None = None

    @property
    def closed(self) -> bool:
        """Whether the gate is closed."""
        return self._opened is not None

    def close(self) -> None:
        """Close the gate."""
        if self._opened is None:
            self._opened = anyio.Event()

    def open(self) -> None:
        """Open the gate."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def passed(self) -> None:
        """Wait until the gate is open."""
        while self._opened is not None:
            await self._opened.wait()


def reset(stream: ByteStream) -> None:
    """Have the stream closed with a TCP reset, when it is closed next."""
    if isinstance(stream, MemoryStream):
        stream.reset()
    elif (raw := stream.extra(SocketAttribute.raw_socket, None)) is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Link:
    """A client's connection, and the connection to the node that belongs to it.

    Arguments:
        client: the client's stream; the link closes it.
        reach: opens a stream to the node.
        relay: decides what happens to the bytes.
        gate: the gate of the proxy.
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
        self._changed = anyio.Event()  # set when delayed frames come or go
        self._error: Exception | None = None

    def cut(self, *, reset: bool) -> None:
        """Close both ends."""
        self._reset = self._reset or reset
        self._scope.cancel()

    def resume(self) -> None:
        """End a stall."""
        self._own_gate.open()

    async def run(self) -> None:
        """Relay until an end closes the connection, or until :meth:`cut`.

        Raises:
            Exception: the proxy itself, or a function of a rule, has failed.
        """
        try:
            with self._scope:
                try:
                    self._streams["node"] = await self._reach()
                except _LOST:
                    self._reset = (
                        True  # the client was accepted already, so a reset stands for the refusal
                    )
                    return
                async with anyio.create_task_group() as group:
                    group.start_soon(self._guarded, self._pump, "request")
                    group.start_soon(self._guarded, self._pump, "reply")
                    group.start_soon(self._guarded, self._send_held)
        finally:
            # Without a shield, a pending cancellation would leave the second stream open.
            with anyio.CancelScope(shield=True):
                for stream in self._streams.values():
                    if self._reset:
                        reset(stream)
                    await anyio.aclose_forcefully(stream)
        if self._error is not None:
            raise self._error

    async def _guarded(self, work: Callable[..., Awaitable[None]], *arguments: Side) -> None:
        """Run a task; the connection ends with it."""
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
                    self._lost.add(to)  # the task that reads from there ends the connection

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
        """Send delayed frames when they are due."""
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
    """Raised when a rule has ended the connection."""
