"""The trio implementation of :class:`~cqlproto_anyio._eventloop.backend.Backend`.

A waiting task yields the message that ``trio.lowlevel.wait_task_rescheduled`` yields, without the
two coroutines of that function, which would cost each request. trio documents the function, not the
message, so the message is tried at import; if it is not as expected, the function is called.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from cqlproto_anyio._checks.callables import contains
from cqlproto_anyio._eventloop.pulling import PullTransfer
from cqlproto_anyio._eventloop.request import Request
from cqlproto_anyio._eventloop.waiter import Waiter, wrong_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    import outcome
    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import F
    from cqlproto_anyio._eventloop.transfer import ByteSink, Transfer

__all__ = ["TrioBackend", "TrioRequest", "TrioWaiter"]

_wait_rescheduled = trio.lowlevel.wait_task_rescheduled
_current_task = trio.lowlevel.current_task
_reschedule = trio.lowlevel.reschedule
_SUCCEEDED = trio.lowlevel.Abort.SUCCEEDED


class _Woken:
    """The outcome that tasks are rescheduled with: one object for all, without a value."""

    def unwrap(self) -> None:
        return None


_WOKEN = cast("outcome.Outcome[None]", _Woken())


def _message_class() -> type[Any] | None:
    """Return the class of the message that ``wait_task_rescheduled`` yields to the run loop.

    Returns:
        None unless the message is made of the abort function alone and answered by an outcome.
    """
    waiting = _wait_rescheduled(_never)
    try:
        kind = type(waiting.send(None))
        if kind(_never).abort_func is not _never:
            return None
        waiting.send(_WOKEN)
    except StopIteration as stop:
        return kind if stop.value is None else None
    except Exception:
        return None
    finally:
        waiting.close()
    return None


def _never(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


# None: call the function.
_message: type[Any] | None = _message_class()


def _runner() -> Callable[[], object]:
    """Return a function that returns an object for the trio run in this thread, or None.

    It is a C function, unless trio's internals have changed.
    """
    context = getattr(getattr(trio._core, "_run", None), "GLOBAL_RUN_CONTEXT", None)
    running = partial(getattr, context, "runner", None)
    return _token if running() is None else running


def _token() -> object:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


class TrioWaiter(Waiter):
    """Waits until its task is rescheduled."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            try:
                self._waiter = _current_task()
            except RuntimeError:
                self.abandon()
                raise wrong_event_loop() from None
            if _message is None:
                yield from _wait_rescheduled(self._abort).__await__()
            else:
                sent = yield _message(self._abort)
                if sent is not _WOKEN:
                    sent.unwrap()  # the task is cancelled: this raises it
        if self.error is not None:
            raise self.error
        return self.value

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        # trio reschedules a cancelled task; rescheduling it here as well would crash the run
        self._waiter = None
        self.abandon()
        return _SUCCEEDED

    def _wake(self, waiter: trio.lowlevel.Task) -> None:
        _reschedule(waiter, _WOKEN)


class TrioRequest(TrioWaiter, Request):
    """A request on trio."""

    __slots__ = ()


class TrioBackend:
    """The running trio and its clock, so that MockClock applies to deadlines too."""

    name = "trio"
    waiter_class: type[Waiter] = TrioWaiter
    request_class: type[Request] = TrioRequest
    receive_size = 65_536

    def __init__(self) -> None:
        self.clock: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self.current_loop = _runner()
        self.loop = self.current_loop()
        self._token = trio.lowlevel.current_trio_token()

    def start_task(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> object:
        return trio.lowlevel.spawn_system_task(function, name=name)

    def call_from_thread(self, function: Callable[[], None]) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def protected(self, function: F) -> F:
        return trio.lowlevel.enable_ki_protection(function)

    def is_cancellation(self, error: BaseException) -> bool:
        if not trio.lowlevel.in_trio_task():  # the coroutine is being closed
            return True
        # without a cancelled scope, it is an old exception that is raised again
        is_cancelled = trio.current_effective_deadline() == -math.inf
        return is_cancelled and contains(error, trio.Cancelled)

    def is_here(self) -> bool:
        return self.current_loop() is self.loop and trio.lowlevel.in_trio_task()

    async def adopt(self, stream: ByteStream) -> ByteStream:
        return stream

    def transfer(self, stream: ByteStream, sink: ByteSink) -> Transfer:
        return PullTransfer(stream, sink, self)
