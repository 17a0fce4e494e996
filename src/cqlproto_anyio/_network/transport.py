"""The life of a connection's stream: carry bytes until told to stop, then close the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._checks.callables import described

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.transfer import ByteSink

__all__ = ["Transport"]


class Transport:
    """The stream of one connection, and what carries bytes over it.

    Arguments:
        stream: the byte stream; the transport closes it.
        sink: the connection.
        backend: the running event loop.
        close_timeout: how long closing the stream may take, in seconds.

    Attributes:
        wake: tells that something was queued while the connection was silent.
        flush: sends what is queued.
    """

    __slots__ = (
        "_backend", "_close_timeout", "_run", "_scope", "_sink", "_stopped", "_stream", "flush",
        "wake",
    )  # fmt: skip

    def __init__(
        self, stream: ByteStream, sink: ByteSink, backend: Backend, close_timeout: float
    ) -> None:
        transfer = backend.transfer(stream, sink)
        self._stream = stream
        self._sink = sink
        self._backend = backend
        self._close_timeout = close_timeout
        self._scope: anyio.CancelScope | None = None
        self._stopped = False
        self._run = transfer.run
        self.wake = transfer.wake
        self.flush = transfer.flush

    async def run(self) -> None:
        """Carry bytes until stopped or cancelled, then close the stream.

        Whatever ends the transport, the sink's ``lose`` is called.
        """
        try:
            with anyio.CancelScope() as self._scope:
                if not self._stopped:
                    await self._run()
        except BaseException as exc:  # a bug: the requests must not hang because of it
            if self._backend.is_cancellation(exc):
                raise
            cause = exc
            while isinstance(cause, BaseExceptionGroup):  # of the tasks that pull
                cause = cause.exceptions[0]
            self._sink.lose(described(cause), cause)
        finally:
            self._sink.lose("the event loop is shutting down", None)
            with anyio.move_on_after(self._close_timeout, shield=True):
                try:
                    await self._stream.aclose()
                except BaseException as exc:  # a user's transport may raise anything
                    if self._backend.is_cancellation(exc):
                        raise

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
