"""A socket that pushes, on asyncio: data is parsed in the callback that delivers it.

No task reads or writes, and there is no turn of the event loop between the socket and the tasks
whose replies arrive. What those tasks queue is written when the last of them has run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import ByteStream

from cqlproto.exceptions import RemoteProtocolError
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._eventloop.transfer import cause_of

if TYPE_CHECKING:
    from cqlproto_anyio._eventloop.transfer import ByteSink

__all__ = ["PushTransfer", "Receiver", "SocketStream", "plain_run_forever"]


def plain_run_forever(loop: asyncio.AbstractEventLoop) -> object:
    """Return ``run_forever`` of an event loop's class, if its tasks can't run the loop themselves.

    Returns:
        None for an unknown class of event loops.
    """
    if isinstance(loop, asyncio.BaseEventLoop):
        return asyncio.BaseEventLoop.run_forever
    if type(loop).__module__.partition(".")[0] == "uvloop":
        return type(loop).run_forever
    return None


class Receiver:
    """What a :class:`SocketStream` pushes to; the event loop calls its methods."""

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        raise NotImplementedError

    def eof_received(self) -> None:
        """The peer will send nothing more."""
        raise NotImplementedError

    def connection_lost(self, error: Exception | None) -> None:
        """The socket was closed or has failed."""
        raise NotImplementedError

    def resume_writing(self) -> None:
        """More can be written."""
        raise NotImplementedError


class SocketStream(ByteStream, asyncio.Protocol):
    """A connected socket: a stream to read from, until ``push_to`` makes it push.

    Attributes:
        writable: whether more should be written; ``Receiver.resume_writing`` says when again.
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
        # the transport buffers nothing: unsent bytes stay in the core, where they can be dropped
        self._transport.set_write_buffer_limits(0)
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.data_received(data)
            return
        # a peer that never stops sending must not fill the memory
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

    # -- pushing

    def push_to(self, receiver: Receiver) -> None:
        """Call the receiver from now on, first with the data that has arrived already."""
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
        """Let the event loop read again while one of its reading callbacks is running."""
        self._transport.pause_reading()
        self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send the bytes; the transport keeps what the socket doesn't take yet."""
        if not self._transport.is_closing():  # uvloop's would raise
            self._transport.write(data)


class PushTransfer(Receiver):
    """Carries bytes in the event loop's own callbacks.

    A task that runs in such a callback must not run the event loop itself: the replies after its
    own would wait until it is done. Where tasks can do so (nest_asyncio, a modal dialog of Qt) the
    loop's ``run_forever`` isn't asyncio's, and the loop wakes the tasks instead.
    """

    def __init__(self, stream: SocketStream, sink: ByteSink) -> None:
        self._stream = stream
        self._sink = sink
        self._loop: asyncio.AbstractEventLoop = stream.loop
        self._loop_class: type[Any] = type(stream.loop)
        self._run_forever = plain_run_forever(stream.loop)
        self._receiving = False

    def wake(self) -> None:
        if not self._receiving:  # data_received() writes at its end
            self._loop.call_soon(self._flush)
        elif self._loop_class.run_forever is not self._run_forever:
            # a task has just made the event loop one that tasks can run
            self._stream.read_anew()
            self._loop.call_soon(self._flush)

    async def flush(self) -> None:
        self._flush()

    async def run(self) -> None:
        # a callback pushes the data that has arrived already: it may wake tasks, and no task can
        # run inside this one
        begin = self._loop.call_soon(self._stream.push_to, self)
        try:
            await anyio.sleep_forever()
        finally:
            begin.cancel()

    def _flush(self) -> None:
        """Write what is queued until the socket is full."""
        sink = self._sink
        stream = self._stream
        while stream.writable:
            data = sink.data_to_send()
            if not data:
                sink.silent = True
                return
            stream.write(data)
            sink.sent()

    # -- what the stream calls

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        self._receiving = True
        try:
            sink.received(data, direct=self._loop_class.run_forever is self._run_forever)
        except RemoteProtocolError as exc:
            sink.lose(str(exc), exc)
        except (KeyboardInterrupt, SystemExit) as exc:  # raised by a task that was run at once
            self._loop.call_soon(_end_program, exc)
            self._loop.call_soon(self._go_on)
        except BaseException as exc:  # a bug: the requests must not hang because of it
            sink.lose(described(exc), exc)
        finally:
            self._receiving = False
        if not sink.silent:
            self._flush()

    def _go_on(self) -> None:
        """Parse the rest of a read after a task ended the program."""
        self.data_received(b"")

    def eof_received(self) -> None:
        sink = self._sink
        try:
            sink.ended()
        except Exception as exc:  # likewise
            sink.lose(f"{type(exc).__name__}: {exc}", exc)

    def connection_lost(self, error: Exception | None) -> None:
        reason = "the connection was closed" if error is None else cause_of(error)
        self._sink.lose(reason, error)

    def resume_writing(self) -> None:
        self._flush()


def _end_program(error: BaseException) -> None:
    """Raise a task's exception where the event loop passes it on.

    Raised in a protocol's method, it would count as a failure of the socket.
    """
    raise error
