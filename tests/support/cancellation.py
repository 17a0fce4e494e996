"""Cancelling a coroutine where it suspends for the n-th time, in each way that exists.

The coroutine is driven step by step in a task. The ways of cancelling differ in what the coroutine
sees. A scope of anyio's cancels again and again until it is left. A task that is cancelled natively
sees CancelledError once. A timeout of asyncio's cancels one turn of the loop later. A task may also
be cancelled after its result has arrived but before it runs: it never sees the result, and the
result must not be lost.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from cqlproto_anyio._eventloop.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator

__all__ = ["WAYS", "At", "Stepped", "Way", "cancelled_at"]


class At:
    """Calls a function at its own n-th call.

    Arguments:
        at: n, counted from 1.
        call: the function; its argument is the object that is yielded to the event loop.

    Attributes:
        count: the number of calls.
    """

    def __init__(self, at: int, call: Callable[[Any], object]) -> None:
        self.at = at
        self.call = call
        self.count = 0

    def __call__(self, item: Any) -> None:
        self.count += 1
        if self.count == self.at:
            self.call(item)


class Stepped:
    """Awaits an awaitable and calls a function wherever it suspends.

    Arguments:
        coroutine: the coroutine to await.
        seen: the function; its argument is the object that is yielded to the event loop.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], seen: Callable[[Any], object]) -> None:
        self._coroutine = coroutine
        self._seen = seen

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                if thrown is None:
                    item = self._coroutine.send(value)
                else:
                    item = self._coroutine.throw(thrown)
            except StopIteration as stop:
                return stop.value
            self._seen(item)
            value, thrown = None, None
            try:
                value = yield item
            except BaseException as exc:
                thrown = exc


async def cancelled_at(number: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Await a coroutine, and cancel it where it suspends for the n-th time.

    Returns:
        whether it has suspended so often.
    """
    with anyio.CancelScope() as scope:
        cancel = At(number, lambda _: scope.cancel())
        await Stepped(coroutine, cancel)
    return cancel.count >= number


class Way:
    """A way to cancel.

    Arguments:
        name: the name in test ids.
        eager: whether tasks start when they are created (CPython 3.12).
    """

    _cancel: Callable[[Any], object]

    def __init__(self, name: str, *, eager: bool = False) -> None:
        self.name = name
        self.eager = eager

    @contextmanager
    def tasks(self) -> Iterator[None]:
        """Set the loop's task factory for this way."""
        if not self.eager:
            yield
            return
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        try:
            yield
        finally:
            loop.set_task_factory(None)

    async def cancelled_at(self, at: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Run a coroutine, cancel it where it suspends for the n-th time; return whether it did."""
        trigger = At(at, lambda item: self._cancel(item))
        await self.run(Stepped(coroutine, trigger))
        return trigger.count >= at

    async def run(self, awaitable: Awaitable[Any]) -> None:
        """Await an awaitable, which :meth:`cancel` may cancel meanwhile."""
        if self.name == "scope":
            with anyio.CancelScope() as scope:
                self._cancel = lambda _: scope.cancel()
                await awaitable
            return
        prepare = {"task": self._as_task, "timeout": self._as_timeout, "late": self._as_late}
        task = asyncio.get_running_loop().create_task(prepare[self.name](awaitable))
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    def cancel(self) -> None:
        """Cancel the running coroutine from any task, for ways that don't depend on the await."""
        assert self.name != "late"
        self._cancel(None)

    async def _as_task(self, awaitable: Awaitable[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = lambda _: task.cancel()
        await awaitable

    async def _as_timeout(self, awaitable: Awaitable[Any]) -> None:
        timeout, loop = asyncio.timeout(None), asyncio.get_running_loop()
        self._cancel = lambda _: timeout.reschedule(loop.time())
        try:
            async with timeout:
                await awaitable
        except TimeoutError:
            if not timeout.expired():
                raise

    async def _as_late(self, awaitable: Awaitable[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None

        def cancel(item: Any) -> None:
            if isinstance(item, asyncio.Future):
                item.add_done_callback(lambda _: task.cancel())  # before the task's own callback
            elif isinstance(item, Waiter):
                asyncio.get_running_loop().call_soon(wrap, item)
            else:
                task.cancel()

        def wrap(item: Waiter) -> None:
            wake = item._waiter

            def cancel_and_wake(woken: Waiter) -> None:
                task.cancel()
                wake(woken)

            if wake is not None:
                item._waiter = cancel_and_wake

        self._cancel = cancel
        await awaitable


def _ways() -> Iterator[Any]:
    for backend, name in (
        ("asyncio", "scope"),
        ("asyncio", "task"),
        ("asyncio", "timeout"),
        ("asyncio", "late"),
        ("trio", "scope"),
    ):
        yield pytest.param(backend, Way(name), id=f"{backend}-{name}")
    if sys.version_info >= (3, 12):
        for name in ("scope", "task"):
            yield pytest.param("asyncio", Way(name, eager=True), id=f"asyncio-eager-{name}")


WAYS = tuple(_ways())
"""For ``pytest.mark.parametrize(("anyio_backend", "way"), WAYS, indirect=["anyio_backend"])``."""
