"""The little that asyncio and trio must do each in their own way: wait, wake, tell the time, host
a task.

anyio's own events and clocks would do, at a third of the throughput: a request waits in a future
of the loop's own, or as a trio task that is rescheduled, and nothing else is made for it.

A :class:`Waiting` is a one-shot: one task awaits it, whoever has the answer completes it. If the
task is cancelled, both backends call the same :meth:`Waiting.abandon`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = [
    "AsyncioBackend",
    "AsyncioWaiting",
    "Backend",
    "TrioWaiting",
    "Waiting",
    "current_backend",
]


class Waiting:
    """Something that a task waits for once.

    Attributes:
        done: whether it has been completed, abandoned or failed.
        result: what it was completed with.
        error: what it failed with.
    """

    __slots__ = ("_waiter", "done", "error", "result")

    def __init__(self) -> None:
        self._waiter: Any = None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError

    def _wake(self, waiter: Any) -> None:
        raise NotImplementedError

    def complete(self, result: Any) -> None:
        """Wake the task that waits, with a result."""
        if not self.done:
            self.done = True
            self.result = result
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


_Future = asyncio.Future


class AsyncioWaiting(Waiting):
    """Waits in a future of its loop, which subclasses name: asking for it costs more."""

    __slots__ = ()
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            future: asyncio.Future[None] = _Future(loop=self.loop)
            self._waiter = future
            try:
                yield from future
            except BaseException:
                self._waiter = None
                self.abandon()
                raise
        if self.error is not None:
            raise self.error
        return self.result

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():  # it is, if the task is being cancelled
            waiter.set_result(None)


class Backend(Protocol):
    """What a session needs of the event loop, found once when it starts."""

    name: str
    clock: Callable[[], float]
    waiting: type[Waiting]
    receive_size: int

    def host(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        """Run a function in a task outside of all the caller's scopes; keep what is returned."""
        ...


class AsyncioBackend:
    """The running loop, its clock and its futures."""

    name = "asyncio"
    # what the selector loop reads at a time: less would make anyio split what has come
    receive_size = 262_144

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.waiting: type[Waiting] = self.bound(AsyncioWaiting)
        # asyncio's own loops ask the monotonic clock; without the way through them it is cheaper
        plain = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
        self.clock: Callable[[], float] = time.monotonic if plain else loop.time

    def bound(self, kind: type[AsyncioWaiting]) -> type[Any]:
        """Return a subclass whose objects wait in this loop."""
        return type(kind.__name__, (kind,), {"__slots__": (), "loop": self._loop})

    def host(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        return self._loop.create_task(function(), name=name)


def current_backend() -> Backend:
    """Return the backend of the running event loop.

    Raises:
        RuntimeError: no event loop of a known kind is running.
    """
    if "trio" in sys.modules:
        from cqlproto_anyio import _trio

        if _trio.running():
            return _trio.TrioBackend()
    try:
        return AsyncioBackend()
    except RuntimeError:
        raise RuntimeError("no event loop is running: use asyncio.run or trio.run") from None


async def shielded(awaitable: Awaitable[Any]) -> Any:
    """Await something although the task is cancelled; only for what is bounded by itself."""
    with anyio.CancelScope(shield=True):
        return await awaitable


if TYPE_CHECKING:
    from cqlproto_anyio._trio import TrioWaiting
else:

    def __getattr__(name: str) -> Any:
        if name == "TrioWaiting":
            from cqlproto_anyio._trio import TrioWaiting

            return TrioWaiting
        raise AttributeError(name)
