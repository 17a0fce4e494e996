"""What a session needs of its event loop, which asyncio and trio each do in their own way.

Waiting, waking, the clock, starting a task, and carrying a connection's bytes. Everything else goes
through anyio. ``_asyncio`` and ``_trio`` implement :class:`Backend`; ``auto`` finds the one that
fits the running event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._eventloop.transfer import ByteSink, Transfer
    from cqlproto_anyio._eventloop.waiter import Waiter

F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, None]]")

__all__ = ["Backend", "F"]


class Backend(Protocol):
    """The running event loop, as a session uses it; made once, when the session connects.

    Attributes:
        name: ``"asyncio"`` or ``"trio"``.
        clock: returns seconds.
        waiter_class: the class of what tasks await.
        request_class: the class of requests, which tasks await too.
        receive_size: how many bytes to read at a time.
        current_loop: returns an object that stands for the event loop running in this thread, or
            None. Each request calls it, so it is a C function wherever possible.
        loop: what ``current_loop()`` returns in the session's event loop.
    """

    name: str
    clock: Callable[[], float]
    waiter_class: type[Waiter]
    request_class: type[Request]
    receive_size: int
    current_loop: Callable[[], object]
    loop: object

    def start_task(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        """Run a function in a task that belongs to none of the caller's scopes.

        Returns:
            an object that the caller keeps for as long as the task runs.
        """
        ...

    def call_from_thread(self, function: Callable[[], None]) -> None:
        """Call a function in the event loop soon, from any thread; not if the loop has ended."""
        ...

    def protected(self, function: F) -> F:
        """Return a coroutine function in which Ctrl-C doesn't raise KeyboardInterrupt.

        The session's own tasks run such functions: the interrupt goes to the program's main task.
        """
        ...

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether an exception is the running task's own cancellation.

        User code may raise one by itself, such as the CancelledError of another task.
        """
        ...

    def is_here(self) -> bool:
        """Whether a task of this event loop is running in this thread.

        ``current_loop() is loop`` costs less, but can't tell tasks of a trio that runs as the guest
        of an asyncio loop from tasks of that loop: those are refused when they wait.
        """
        ...

    async def adopt(self, stream: ByteStream) -> ByteStream:
        """Return a TCP stream that anyio has just connected as the fastest stream there is here.

        The stream that was given must not be used after this.
        """
        ...

    def transfer(self, stream: ByteStream, sink: ByteSink) -> Transfer:
        """Return what carries bytes between a stream and a connection."""
        ...
