"""How a task of asyncio's waits: in the waiter itself, or in a future where that doesn't work.

An ``asyncio.Task`` awaits anything that has ``_asyncio_future_blocking`` and a few methods of a
Future. A waiter that has them saves each request the Future, two callbacks and a turn of the event
loop. asyncio documents this nowhere, so :func:`waiter_classes` tries it once on this interpreter;
if it doesn't work as expected, waiters use a Future each, which is slower and public.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, cast

from cqlproto_anyio._eventloop.request import Request
from cqlproto_anyio._eventloop.waiter import Waiter, wrong_event_loop
from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = [
    "AsyncioRequest",
    "AsyncioWaiter",
    "FutureRequest",
    "FutureWaiter",
    "waiter_classes",
]


class AsyncioWaiter(Waiter):
    """Looks like a Future to the one task that awaits it; subclasses name the loop.

    The task sets ``_asyncio_future_blocking`` to False and calls ``get_loop``,
    ``add_done_callback``, ``result`` and ``cancel``.
    """

    __slots__ = ()
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            self._asyncio_future_blocking = True
            try:
                yield self
            except BaseException as exc:
                if not self.done:  # neither completed nor cancelled
                    self.abandon()
                    if isinstance(exc, (TypeError, RuntimeError)):  # not a task of this loop
                        raise wrong_event_loop() from exc
                raise
        elif self.error is not None:
            raise self.error
        return self.value

    # -- called by the task

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    def add_done_callback(self, function: Callable[[Any], None], *, context: Context) -> None:
        self._waiter = function
        self._context = context

    def result(self) -> Any:
        """Raise the error to wake the task with, if there is one."""
        if self.error is not None:
            raise self.error

    def cancel(self, msg: Any = None) -> bool:
        """The task is being cancelled; return False if it is about to run anyway."""
        if self.done:
            return False
        self.error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        waiter, self._waiter = self._waiter, None
        try:
            self.abandon()
        finally:  # a task that isn't woken now never ends
            self._wake(waiter)
        return True

    # -- waking the task

    def _wake(self, waiter: Callable[[Any], None]) -> None:
        self.loop.call_soon(waiter, self, context=self._context)


class AsyncioRequest(AsyncioWaiter, Request):
    """A request on asyncio."""

    __slots__ = ()

    def answer(self, event: Any) -> None:
        """Run the waiting task at once: only from a callback of the loop, not from a task."""
        # The same as complete() but for the last line; calling it would cost each reply a call.
        if self.done:
            return
        self.done = True
        self.value = event
        queue = self.queue
        if queue is not None:
            self.queue = None
            del queue[self]
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self._context.run(waiter, self)


class FutureWaiter(Waiter):
    """Waits in a Future of the loop's; subclasses name the loop."""

    __slots__ = ()
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            self._waiter = future = self.loop.create_future()
            try:
                yield from future.__await__()
            except BaseException as exc:
                if not self.done:
                    self.abandon()
                    if isinstance(exc, (TypeError, RuntimeError)):  # not a task of this loop
                        raise wrong_event_loop() from exc
                raise
        if self.error is not None:
            raise self.error
        return self.value

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():  # the task is cancelled, but has not run yet
            waiter.set_result(None)


class FutureRequest(FutureWaiter, Request):
    """A request that waits in a Future."""

    __slots__ = ()


def waiter_classes() -> tuple[type[Waiter], type[Request]]:
    """Return the classes of waiters and requests that this interpreter's tasks can await."""
    if _tasks_await_waiters():
        return AsyncioWaiter, AsyncioRequest
    return FutureWaiter, FutureRequest


# -- whether tasks await an AsyncioWaiter


class _Loop:
    """As much of an event loop as a task needs."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Context, Callable[..., object], tuple[Any, ...]]] = deque()

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Context) -> None:
        self._ready.append((context, callback, arguments))

    def call_exception_handler(self, context: object) -> None:
        pass

    def run_ready(self) -> None:
        for _ in range(16):  # more than any task here needs
            if not self._ready:
                break
            context, callback, arguments = self._ready.popleft()
            context.run(callback, *arguments)


def _tasks_await_waiters() -> bool:
    """Try it in a thread of its own, where no event loop runs: a task can't run inside another."""
    outcomes: list[bool] = []

    def try_it() -> None:
        try:
            outcomes.append(_try_waiters())
        except Exception:
            outcomes.append(False)

    thread = threading.Thread(target=try_it, daemon=True)
    try:
        thread.start()
        thread.join()
    except RuntimeError:  # no thread can be started here
        return False
    return outcomes == [True]


def _try_waiters() -> bool:
    """Return whether tasks see what happens to the waiters they await: a reply, a result, an error,
    a cancellation, and that a waiter belongs to another loop.
    """
    loop = cast("asyncio.AbstractEventLoop", here := _Loop())
    bound = {"__slots__": (), "loop": loop}
    waiter_class = cast("type[AsyncioWaiter]", type("_Trial", (AsyncioWaiter,), bound))
    request_class = cast("type[AsyncioRequest]", type("_Trial", (AsyncioRequest,), bound))
    strange_class = type("_Strange", (AsyncioWaiter,), {"__slots__": (), "loop": _Loop()})
    replied = request_class("", None)
    waiters = completed, failed, cancelled = [waiter_class() for _ in range(3)]
    strange = strange_class()

    async def wait(waiter: Waiter) -> Any:
        return await waiter

    asyncio._set_running_loop(loop)
    try:
        tasks = [asyncio.Task(wait(each), loop=loop) for each in (replied, *waiters, strange)]
        here.run_ready()
        replied.answer("reply")
        seen = [tasks[0].done() and tasks[0].result() == "reply"]
        completed.complete("result")
        failed.fail(error := ValueError())
        tasks[3].cancel("reason")
        here.run_ready()
    finally:
        asyncio._set_running_loop(None)
    seen += [
        tasks[1].done() and tasks[1].result() == "result",
        tasks[2].done() and tasks[2].exception() is error,
        tasks[3].cancelled() and cancelled.done,
        tasks[4].done() and isinstance(tasks[4].exception(), UsageError),
    ]
    return all(seen)
