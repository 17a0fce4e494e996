"""Carries bytes between a connection's core and its stream: the two sides, as they see each other.

Any stream of anyio's can be pulled from, by tasks (``pulling``). A socket of asyncio's pushes: what
arrives is parsed in the event loop's own callback (``_asyncio_socket``). ``Backend.transfer()``
chooses.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["ByteSink", "Transfer", "cause_of"]


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
        """Carry bytes until cancelled or until the connection is lost."""
        ...


def cause_of(exc: BaseException) -> str:
    """Return what the operating system said of a broken transport."""
    told = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    return getattr(told, "strerror", None) or str(told) or "the connection was reset"
