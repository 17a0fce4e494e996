"""The interfaces between a connection's core and what carries its bytes.

Tasks can pull from any anyio stream (``pulling``). An asyncio socket pushes: data is parsed in the
event loop's own callback (``_asyncio_socket``). ``Backend.transfer()`` chooses.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["ByteSink", "Transfer", "cause_of"]


class ByteSink(Protocol):
    """What a transfer needs of its connection.

    Attributes:
        silent: whether the transfer waits: the connection must call :meth:`Transfer.wake` when it
            queues something.
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
        """The queued bytes were handed over, so there is room for more."""
        ...

    def lose(self, reason: str, cause: BaseException | None) -> None:
        """The transport has failed."""
        ...


class Transfer(Protocol):
    """Carries bytes for one connection."""

    def wake(self) -> None:
        """Something was queued while the connection was silent."""
        ...

    async def flush(self) -> None:
        """Send what is queued before the caller starts something that takes long."""
        ...

    async def run(self) -> None:
        """Carry bytes until cancelled or until the connection is lost."""
        ...


def cause_of(exc: BaseException) -> str:
    """Return the operating system's reason for a broken transport."""
    error = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    return getattr(error, "strerror", None) or str(error) or "the connection was reset"
