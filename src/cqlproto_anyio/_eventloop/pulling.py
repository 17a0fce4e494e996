"""A transfer that pulls: one task reads from a stream, another writes to it. Any stream will do.

The writer sends at once all that was queued in one turn of the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from cqlproto.exceptions import RemoteProtocolError
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._eventloop.transfer import cause_of

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.transfer import ByteSink
    from cqlproto_anyio._eventloop.waiter import Waiter

__all__ = ["PullTransfer"]


class PullTransfer:
    """Carries bytes by two tasks, on any stream."""

    def __init__(self, stream: ByteStream, sink: ByteSink, backend: Backend) -> None:
        self._stream = stream
        self._sink = sink
        self._backend = backend
        self._writer: Waiter | None = None

    def wake(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.complete(None)

    async def flush(self) -> None:
        # once for the writer to wake, once more because trio may run this task before it
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    async def run(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._backend.protected(self._write))
            await self._read()
            group.cancel_scope.cancel()

    async def _write(self) -> None:
        sink = self._sink
        send = self._stream.send
        waiting = self._backend.waiter_class
        try:
            while True:
                data = sink.data_to_send()
                if data:
                    await send(data)
                    sink.sent()
                else:
                    self._writer = writer = waiting()
                    sink.silent = True
                    await writer
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            sink.lose(cause_of(exc), exc)
        except BaseException as exc:
            self._failed(exc)

    async def _read(self) -> None:
        sink = self._sink
        receive = self._stream.receive
        received = sink.received
        size = self._backend.receive_size
        try:
            while data := await receive(size):
                received(data, direct=False)
            sink.ended()  # a socket's end of data; anyio's streams raise instead
        except RemoteProtocolError as exc:
            sink.lose(str(exc), exc)
        except anyio.EndOfStream:
            sink.ended()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            sink.lose(cause_of(exc), exc)
        except BaseException as exc:
            self._failed(exc)

    def _failed(self, error: BaseException) -> None:
        """End the connection for an unexpected error, of the transport or of a bug."""
        if self._backend.is_cancellation(error):
            raise error
        self._sink.lose(described(error), error)
