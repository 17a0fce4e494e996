"""How tasks wait on asyncio: in waiters whose contract is checked at import, or in futures.

The client's tests marked ``futures`` run with both.
"""

from __future__ import annotations

import asyncio
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._eventloop import _asyncio_waiter
from cqlproto_anyio._eventloop._asyncio_waiter import (
    AsyncioRequest,
    AsyncioWaiter,
    FutureRequest,
    FutureWaiter,
    waiter_classes,
)
from cqlproto_anyio._eventloop.auto import current_backend
from tests.conftest import FUTURES, UVLOOP, uses_futures

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from cqlproto_anyio._eventloop.waiter import Waiter

LOOPS = pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP, FUTURES], indirect=True)


# -- the contract


def test_this_interpreters_tasks_await_waiters() -> None:
    assert waiter_classes() == (AsyncioWaiter, AsyncioRequest), "waiting costs more now"


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], indirect=True)
async def test_the_contract_is_tried_while_a_loop_is_running() -> None:
    task, loop, tasks = asyncio.current_task(), asyncio.get_running_loop(), asyncio.all_tasks()
    assert _asyncio_waiter._tasks_await_waiters()
    assert (asyncio.current_task(), asyncio.get_running_loop()) == (task, loop)
    assert asyncio.all_tasks() == tasks


def test_where_no_thread_can_be_started_futures_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert waiter_classes() == (FutureWaiter, FutureRequest)


@types.coroutine
def only_futures(coroutine: Any) -> Generator[Any, Any, Any]:
    """Drive a coroutine as a task that awaits futures only."""
    try:
        yielded = coroutine.send(None)
        if not isinstance(yielded, asyncio.Future):
            coroutine.throw(RuntimeError(f"Task got bad yield: {yielded!r}"))
        yield yielded
    except StopIteration as stop:
        return stop.value


@types.coroutine
def replaced(coroutine: Any, like: Callable[[Any], object]) -> Generator[Any, Any, Any]:
    """Drive a coroutine as a task that gets other objects than the waiters it yields."""
    try:
        yielded = coroutine.send(None)
        while True:
            yielded = coroutine.send((yield like(yielded)))
    except StopIteration as stop:
        return stop.value


class Proxy:
    """Forwards attributes to a waiter."""

    def __init__(self, waiter: AsyncioWaiter) -> None:
        self._waiter = waiter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._waiter, name)


class WithoutCancel(Proxy):
    def cancel(self, msg: object = None) -> bool:
        return False


class WithoutResult(Proxy):
    def result(self) -> None:
        return None


class WithoutLoop(Proxy):
    def get_loop(self) -> object:
        return asyncio.get_running_loop()


class WithoutContext(Proxy):
    def add_done_callback(self, function: Callable[[Any], None], *, context: object) -> None:
        self._waiter.add_done_callback(lambda *_: None, context=context)  # type: ignore[arg-type]  # any callback will do


OTHERS: dict[str, Callable[..., Any]] = {
    "awaits only futures": only_futures,
    "doesn't cancel them": lambda coroutine: replaced(coroutine, WithoutCancel),
    "doesn't ask for the result": lambda coroutine: replaced(coroutine, WithoutResult),
    "doesn't ask for the loop": lambda coroutine: replaced(coroutine, WithoutLoop),
    "isn't woken": lambda coroutine: replaced(coroutine, WithoutContext),
}


async def of(awaitable: Any) -> Any:
    return await awaitable


@pytest.mark.parametrize("other", OTHERS)
def test_another_contract_is_noticed(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task_class = asyncio.Task

    def task(coroutine: Coroutine[Any, Any, Any], **arguments: Any) -> Any:
        return task_class(of(OTHERS[other](coroutine)), **arguments)

    monkeypatch.setattr(asyncio, "Task", task)
    assert not _asyncio_waiter._tasks_await_waiters()
    assert waiter_classes() == (FutureWaiter, FutureRequest)


def test_a_task_that_takes_other_arguments_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def task(coroutine: Coroutine[Any, Any, Any]) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncio, "Task", task)
    with pytest.warns(RuntimeWarning, match="never awaited"):
        assert not _asyncio_waiter._tasks_await_waiters()


# -- each way


def waiter() -> Waiter:
    return current_backend().waiter_class()


async def wait(waiter: Waiter) -> Any:
    return await waiter


@LOOPS
async def test_the_classes_in_use(anyio_backend: object) -> None:
    futures = uses_futures(anyio_backend)
    backend = current_backend()
    assert issubclass(backend.waiter_class, FutureWaiter if futures else AsyncioWaiter)
    assert issubclass(backend.request_class, FutureRequest if futures else AsyncioRequest)


@LOOPS
@pytest.mark.parametrize("early", [False, True])
async def test_completed_and_failed(early: bool) -> None:
    completed, failed = waiter(), waiter()
    if not early:
        tasks = [asyncio.create_task(wait(each)) for each in (completed, failed)]
        await asyncio.sleep(0)
    completed.complete(7)
    failed.fail(KeyError("x"))
    completed.complete(8)
    failed.complete(9)
    if early:
        tasks = [asyncio.create_task(wait(each)) for each in (completed, failed)]
    assert await tasks[0] == 7
    with pytest.raises(KeyError):
        await tasks[1]


@LOOPS
async def test_cancelled() -> None:
    cancelled = waiter()
    task = asyncio.create_task(wait(cancelled))
    await asyncio.sleep(0)
    task.cancel("reason")
    with pytest.raises(asyncio.CancelledError, match="reason"):
        await task
    assert cancelled.done
    cancelled.complete(7)
    assert cancelled.value is None


@LOOPS
@pytest.mark.parametrize("first", ["cancelled", "completed"])
async def test_cancelled_and_completed_in_one_turn(first: str) -> None:
    both = waiter()
    task = asyncio.create_task(wait(both))
    await asyncio.sleep(0)
    if first == "completed":
        both.complete(7)
    task.cancel()
    both.complete(7)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert both.done


@LOOPS
async def test_awaited_in_another_loop() -> None:
    mine = waiter()
    with pytest.raises(cql.UsageError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, wait(mine))
    assert mine.done


@LOOPS
async def test_awaited_by_what_is_no_task() -> None:
    mine = waiter()
    coroutine = wait(mine)
    coroutine.send(None)
    with pytest.raises(cql.UsageError, match="another event loop"):
        coroutine.throw(RuntimeError("got something else"))
    assert mine.done
