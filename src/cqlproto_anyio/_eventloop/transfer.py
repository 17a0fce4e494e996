"""How bytes get from a connection's core to its transport and back: pulled by two tasks, or pushed.

Any stream of anyio's can be pulled: a task reads, another writes what one turn of the event loop
has queued. A socket of asyncio's pushes: what has come is parsed in the loop's own callback, and
what the tasks that it wakes have queued is written when the last of them has run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from cqlproto.exceptions import RemoteProtocolError
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._eventloop._asyncio import Receiver, SocketStream, plain_run_forever

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import Backend, Waiter

__all__ = ["ByteSink", "Transfer", "cause_of", "transfer_of"]


class ByteSink(Protocol):
    """The connection, as far as its transfer needs it.

    Attributes:
        silent: whether nothing is on its way to be sent: :meth:`Transfer.wake` is to be called when
            something is queued.
    """

    silent: bool

    def data_to_send(self) -> bytes:
        """Return what is queued."""
        ...

    def received(self, data: bytes, *, direct: bool) -> None:
        """Parse bytes and wake the tasks whose requests they answer.

        Arguments:
            direct: run those tasks at once; only where no task is running.

        Raises:
            RemoteProtocolError: the peer broke the protocol.
        """
        ...

    def ended(self) -> None:
        """The peer has closed its side."""
        ...

    def sent(self) -> None:
        """What was queued has been handed over, so that there is room for more."""
        ...

    def lose(self, reason: str, cause: BaseException | None) -> None:
        """The transport is of no use any more."""
        ...


class Transfer(Protocol):
    """Carries bytes for one connection."""

    def wake(self) -> None:
        """Something was queued while the connection was silent."""
        ...

    async def flush(self) -> None:
        """Send what is queued before the caller goes on to something that takes long."""
        ...

    async def run(self) -> None:
        """Carry, until cancelled or until the connection is lost."""
        ...


def transfer_of(stream: ByteStream, carried: ByteSink, backend: Backend) -> Transfer:
    """Return what suits the stream."""
    if isinstance(stream, SocketStream):
        return Pushed(stream, carried)
    return Pulled(stream, carried, backend)


def cause_of(exc: BaseException) -> str:
    """Return what the system said of a broken transport."""
    told = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    return getattr(told, "strerror", None) or str(told) or "the connection was reset"


class Pulled:
    """Two tasks, on any stream."""

    def __init__(self, stream: ByteStream, carried: ByteSink, backend: Backend) -> None:
        self._stream = stream
        self._carried = carried
        self._backend = backend
        self._writer: Waiter | None = None

    def wake(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.complete(None)

    async def flush(self) -> None:
        # once for the writer to be woken, once because trio may run us before it
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._backend.protected(self._write))
            await self._read()
            group.cancel_scope.cancel()

    async def _write(self) -> None:
        carried = self._carried
        send = self._stream.send
        waiting = self._backend.waiting
        try:
            while True:
                data = carried.data_to_send()
                if data:
                    await send(data)
                    carried.sent()
                else:
                    self._writer = writer = waiting()
                    carried.silent = True
                    await writer
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            carried.lose(cause_of(exc), exc)
        except BaseException as exc:
            self._failed(exc)

    async def _read(self) -> None:
        carried = self._carried
        receive = self._stream.receive
        received = carried.received
        size = self._backend.receive_size
        try:
            while data := await receive(size):
                received(data, direct=False)
            carried.ended()  # what sockets say at the end, though streams of anyio's raise
        except RemoteProtocolError as exc:
            carried.lose(str(exc), exc)
        except anyio.EndOfStream:
            carried.ended()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            carried.lose(cause_of(exc), exc)
        except BaseException as exc:
            self._failed(exc)

    def _failed(self, error: BaseException) -> None:
        """The transport, or a bug, has raised what nobody expects: that costs this connection."""
        if self._backend.is_cancellation(error):
            raise error
        self._carried.lose(described(error), error)


class Pushed(Receiver):
    """The event loop's own callbacks, on a socket of asyncio's.

    A task that is run in such a callback must not run the event loop itself: the replies behind its
    own, and what is queued meanwhile, would wait until it is done. Where that is allowed
    (nest_asyncio, a modal dialog of Qt's) the loop has a ``run_forever`` that isn't asyncio's, and
    tasks are woken by the loop instead.
    """

    def __init__(self, stream: SocketStream, carried: ByteSink) -> None:
        self._stream = stream
        self._carried = carried
        self._loop: asyncio.AbstractEventLoop = stream.loop
        self._loop_class: type[Any] = type(stream.loop)
        self._run_forever = plain_run_forever(stream.loop)
        self._receiving = False

    def wake(self) -> None:
        if not self._receiving:  # what is queued meanwhile is written at the end of it
            self._loop.call_soon(self._flush)
        elif self._loop_class.run_forever is not self._run_forever:
            # a task that was run for a reply has just made the loop one that it may run itself
            self._stream.read_anew()
            self._loop.call_soon(self._flush)

    async def flush(self) -> None:
        self._flush()

    async def run(self) -> None:
        # what has come already is pushed by a callback, too: it may answer requests, and no task
        # can be run while another one is
        begin = self._loop.call_soon(self._stream.push_to, self)
        try:
            await anyio.sleep_forever()
        finally:
            begin.cancel()

    def _flush(self) -> None:
        """Write what is queued, as far as the socket takes it."""
        carried = self._carried
        stream = self._stream
        while stream.writable:
            data = carried.data_to_send()
            if not data:
                carried.silent = True
                return
            stream.write(data)
            carried.sent()

    # -- what the stream calls

    def data_received(self, data: bytes) -> None:
        carried = self._carried
        self._receiving = True
        try:
            carried.received(data, direct=self._loop_class.run_forever is self._run_forever)
        except RemoteProtocolError as exc:
            carried.lose(str(exc), exc)
        except (KeyboardInterrupt, SystemExit) as exc:  # of a task that was run at once
            self._loop.call_soon(_end_program, exc)
            self._loop.call_soon(self._go_on)
        except BaseException as exc:  # a bug of ours: the requests must not hang because of it
            carried.lose(described(exc), exc)
        finally:
            self._receiving = False
        if not carried.silent:
            self._flush()

    def _go_on(self) -> None:
        """Parse what is left of a read, after a task that it had run ended the program."""
        self.data_received(b"")

    def eof_received(self) -> None:
        carried = self._carried
        try:
            carried.ended()
        except Exception as exc:  # likewise
            carried.lose(f"{type(exc).__name__}: {exc}", exc)

    def connection_lost(self, error: Exception | None) -> None:
        reason = "the connection was closed" if error is None else cause_of(error)
        self._carried.lose(reason, error)

    def resume_writing(self) -> None:
        self._flush()


def _end_program(error: BaseException) -> None:
    """Raise what a task has raised where the event loop passes it on, and closes no socket for it.

    A loop that calls a protocol takes what that raises for the socket's failure.
    """
    raise error
