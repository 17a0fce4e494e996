"""What a task awaits: one task, once.

anyio's events would do, at a third of the throughput. A request is itself what its task awaits, so
nothing else is made for it; ``_asyncio`` and ``_trio`` say how a task waits there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator
    from contextvars import Context

__all__ = ["Waiter", "shielded", "wrong_event_loop"]


class Waiter:
    """Something that one task awaits once.

    Whoever has the answer calls :meth:`complete` or :meth:`fail`. If the task is cancelled first,
    the event loop's half calls :meth:`abandon`.

    Attributes:
        done: whether it has been completed, failed or abandoned.
        value: what it was completed with.
        error: what it failed with.
    """

    __slots__ = (
        "__weakref__", "_asyncio_future_blocking", "_context", "_waiter", "done", "error", "value",
    )  # fmt: skip
    # These two are what an asyncio task needs. They are here, and not in asyncio's subclass, since
    # only one of a class's bases may have slots, and that is Request for requests.
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
        """Wake the task with a value."""
        if not self.done:
            self.done = True
            self.value = value
            waiter = self._waiter
            if waiter is not None:
                self._waiter = None
                self._wake(waiter)

    def fail(self, error: BaseException) -> None:
        """Wake the task with an error, which is raised there."""
        if not self.done:
            self.error = error
            self.complete(None)

    def abandon(self) -> None:
        """The task has been cancelled."""
        self.done = True


def wrong_event_loop() -> UsageError:
    """Return the error for the use of a session outside of the event loop that it belongs to."""
    return UsageError(
        "the session belongs to another event loop than the one that runs here, if any does:"
        " connect in each event loop that needs one (with pytest, give the fixture that connects"
        " and the tests that use it the same loop, by their loop scopes); from another thread, use"
        " asyncio.run_coroutine_threadsafe(), trio.from_thread.run() or anyio.from_thread.run()"
    )


async def shielded(awaitable: Awaitable[Any]) -> Any:
    """Await something that cancellation must not interrupt and that takes a bounded time."""
    with anyio.CancelScope(shield=True):
        return await awaitable
