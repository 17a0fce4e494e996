"""The little that asyncio and trio must do each in their own way: wait, wake, tell the time, host
a task, own a socket.

anyio's own events and clocks would do, at a third of the throughput: a request is itself what its
task waits for, and nothing else is made for it. ``_asyncio`` and ``_trio`` say how.

A :class:`Waiter` is a one-shot: one task awaits it, whoever has the answer completes it. If the
task is cancelled, both backends call the same :meth:`Waiter.abandon`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.request import Request

F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, None]]")

__all__ = ["Backend", "Waiter", "current_backend", "elsewhere", "shielded"]


class Waiter:
    """Something that a task waits for once.

    Attributes:
        done: whether it has been completed, abandoned or failed.
        value: what it was completed with.
        error: what it failed with.
    """

    __slots__ = (
        "__weakref__", "_asyncio_future_blocking", "_context", "_waiter", "done", "error", "value",
    )  # fmt: skip
    # the two that asyncio's tasks want; objects with slots have one line of ancestors
    _asyncio_future_blocking: bool
    _context: Context

    def __init__(self) -> None:
        self._waiter: Any = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError

    def _wake(self, waiter: Any) -> None:
        raise NotImplementedError

    def complete(self, value: Any) -> None:
        """Wake the task that waits, with a value."""
        if not self.done:
            self.done = True
            self.value = value
            waiter = self._waiter
            if waiter is not None:
                self._waiter = None
                self._wake(waiter)

    def fail(self, error: BaseException) -> None:
        """Wake the task that waits, with an error that is raised there."""
        if not self.done:
            self.error = error
            self.complete(None)

    def abandon(self) -> None:
        """The task that waits has been cancelled."""
        self.done = True


class Backend(Protocol):
    """What a session needs of the event loop, found once when it starts.

    Attributes:
        name: ``"asyncio"`` or ``"trio"``.
        clock: returns seconds.
        waiting: the class of what tasks wait for.
        request: the class of requests, which tasks wait for too.
        receive_size: how many bytes to read at a time.
        running: returns what stands for the event loop that runs in this thread, or None. Asked
            for each request, so it is no Python function if that can be.
        home: what that returns in the session's event loop.
    """

    name: str
    clock: Callable[[], float]
    running: Callable[[], object]
    home: object
    waiting: type[Waiter]
    request: type[Request]
    receive_size: int

    def host(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        """Run a function in a task outside of all the caller's scopes; keep what is returned."""
        ...

    def from_any_thread(self, function: Callable[[], None]) -> None:
        """Call a function in the event loop, soon, from any thread; not if the loop has ended."""
        ...

    def protected(self, function: F) -> F:
        """Return a coroutine function in which Ctrl-C is not raised, for tasks of the session's: it
        goes to the program's main task."""
        ...

    def is_cancellation(self, error: BaseException) -> bool:
        """Whether an exception is the running task's own cancellation, and not one that code of the
        user's has raised by itself, such as the CancelledError of another task."""
        ...

    def is_here(self) -> bool:
        """Whether a task of this event loop is running in this thread.

        ``running() is home`` costs less, but takes tasks of a trio that is the guest of an asyncio
        loop for those of its host, and the reverse: these are refused when they wait.
        """
        ...

    async def own(self, stream: ByteStream) -> ByteStream:
        """Return a plain TCP stream of anyio's in the form that is cheapest here; it goes on."""
        ...


def current_backend() -> Backend:
    """Return the backend of the running event loop.

    Raises:
        RuntimeError: no event loop of a known kind is running.
    """
    if "trio" in sys.modules:
        from cqlproto_anyio._eventloop import _trio

        if _trio.running():
            return _trio.TrioBackend()
    from cqlproto_anyio._eventloop._asyncio import AsyncioBackend

    try:
        return AsyncioBackend()
    except RuntimeError:
        raise RuntimeError("no event loop is running: use asyncio.run or trio.run") from None


def elsewhere() -> UsageError:
    """Return the error for who uses a session outside of the event loop that it belongs to."""
    return UsageError(
        "the session belongs to another event loop than the one that runs here, if any does:"
        " connect in each event loop that needs one (with pytest, give the fixture that connects"
        " and the tests that use it the same loop, by their loop scopes); from another thread, use"
        " asyncio.run_coroutine_threadsafe(), trio.from_thread.run() or anyio.from_thread.run()"
    )


async def shielded(awaitable: Awaitable[Any]) -> Any:
    """Await something although the task is cancelled; only for what is bounded by itself."""
    with anyio.CancelScope(shield=True):
        return await awaitable
