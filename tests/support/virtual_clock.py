"""Virtual time: sleeps and timeouts cost nothing, and no test depends on how busy the machine is.

Each event loop here has a clock that stands still while anything is ready to run, and jumps to the
next timer when nothing is. The client takes its time from the event loop, so its deadlines,
heartbeats and pauses follow: a test that waits an hour takes a millisecond, and the time that
something took can be compared exactly.

tests/cqlproto_anyio/conftest.py puts these event loops in place of the usual ones, except for tests
that are marked ``real_clock``. Outside of pytest: ``asyncio.Runner(loop_factory=VirtualLoop)`` and
``trio.run(.., clock=virtual_trio_clock())``.

What happens outside of the event loop happens in real time. So a clock does not jump

- while a thread works for the loop (``run_in_executor``, ``trio.to_thread``, ``getaddrinfo``);
- before sockets, if the loop watches any, were silent for some milliseconds of real time. What one
  end of a loopback connection writes can be read at the other end at once, or almost.

Subprocesses, real servers and threads that a test starts itself need the real clock.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import select
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import trio
import trio.testing
import uvloop
from anyio._backends._asyncio import WorkerThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = [
    "VirtualLoop",
    "VirtualUvloop",
    "run_virtual",
    "time_ns",
    "virtual",
    "virtual_trio_clock",
]

# The time at which every clock starts, in seconds: not 0, which code might mistake for no time.
START = 1024.0

# How long sockets have to be silent before a jump, in seconds of real time.
SILENCE = 0.002

_WALL_START = 1_700_000_000 * 10**9

_running: Callable[[], float] = time.monotonic


def _started(clock: Callable[[], float]) -> None:
    """Let :func:`time_ns` follow a clock that has just been started."""
    global _running
    _running = clock


def time_ns() -> int:
    """Return the wall clock's time in nanoseconds, in place of ``time.time_ns``.

    It advances with the virtual clock that was started last.
    """
    return _WALL_START + round(_running() * 1e9)


class _CountsThreads:
    """Knows whether threads work for an asyncio loop."""

    _functions = 0  # functions that run in executors

    @property
    def working(self) -> bool:
        """Whether a thread runs something whose result the loop waits for."""
        return self._functions > 0 or any(
            isinstance(thread, WorkerThread)
            and id(thread.loop) == id(self)
            and thread not in thread.idle_workers
            for thread in threading.enumerate()
        )

    def run_in_executor(self, *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().run_in_executor(*arguments)  # type: ignore[misc]
        self._functions += 1
        future.add_done_callback(self._function_done)
        return future

    def _function_done(self, _: object) -> None:
        self._functions -= 1

    async def getaddrinfo(self, *arguments: Any, **options: Any) -> Any:
        self._functions += 1
        try:
            return await super().getaddrinfo(*arguments, **options)  # type: ignore[misc]
        finally:
            self._functions -= 1

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        self._functions += 1
        try:
            await super().shutdown_default_executor(*arguments)  # type: ignore[misc]
        finally:
            self._functions -= 1


# -- asyncio


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the clock of its loop instead of sleeping."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.loop.working:
            return super().select(None)
        if len(self.get_map()) > 1:  # more than the pipe by which other threads wake the loop
            ready = super().select(SILENCE)
        if not ready:
            self.loop.now += timeout
        return ready


class VirtualLoop(_CountsThreads, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """asyncio's loop on virtual time.

    Attributes:
        now: the time, in seconds.
    """

    def __init__(self) -> None:
        self.now = START
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        _started(self.time)

    def time(self) -> float:
        return self.now


# -- asyncio with uvloop


_UvloopLoop: Any = uvloop.Loop  # mypy rejects how it overrides AbstractEventLoop


class VirtualUvloop(_CountsThreads, _UvloopLoop):  # type: ignore[misc]
    """uvloop's loop on virtual time.

    libuv decides by itself when it sleeps, so the timers are kept here. While there is one, a
    callback runs in every turn of the loop. When no other callback was scheduled for some turns,
    nothing is ready, and it lets the clock jump. In each turn libuv looks for I/O as well.
    """

    # The client knows uvloop's loops by this name.
    __module__ = "uvloop"

    def __init__(self) -> None:
        super().__init__()
        self._now = START
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._ticking = False
        self._quiet = 0  # turns in which only the ticks were scheduled
        self._has_sockets = False
        _started(self.time)

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        self._quiet = 0
        handle: asyncio.Handle = super().call_soon(callback, *args, context=context)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        if not self._ticking:
            self._ticking = True
            super().call_soon(self._tick)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by a handle; the timer leaves the heap when it comes up."""

    def _tick(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            self._ticking = False
            return
        if self.working:
            self._quiet = 0
            super(_CountsThreads, self).call_later(SILENCE, self._tick)
            return
        self._quiet += 1
        if self._quiet == 3 and self._has_sockets:
            super(_CountsThreads, self).call_later(SILENCE, self._tick)
            return
        if self._quiet > 3:
            self._quiet = 0
            self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                handle = heapq.heappop(timers)[2]
                if not handle.cancelled():
                    super().call_soon(handle._run)
        super().call_soon(self._tick)


def _noting_sockets(name: str) -> Any:
    usual = getattr(uvloop.Loop, name)

    def method(self: VirtualUvloop, *arguments: Any, **options: Any) -> Any:
        self._has_sockets = True
        return usual(self, *arguments, **options)

    return method


for _name in (
    "add_reader", "add_writer", "connect_accepted_socket", "create_connection", "create_server",
    "sock_accept", "sock_connect", "sock_recv", "sock_sendall",
):  # fmt: skip
    setattr(VirtualUvloop, _name, _noting_sockets(_name))


# -- trio


def virtual_trio_clock() -> trio.testing.MockClock:
    """Return a MockClock that jumps when nothing is ready, and starts anew with each run."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    usual_start, usual_jump = clock.start_clock, clock._autojump

    def start() -> None:
        clock._virtual_base = START
        usual_start()
        _started(clock.current_time)

    def jump() -> None:
        if trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            time.sleep(SILENCE / 10)
        elif not _sockets_are_ready():
            usual_jump()

    clock.start_clock, clock._autojump = start, jump  # type: ignore[method-assign]
    return clock


def _sockets_are_ready() -> bool:
    """Wait for some milliseconds, if tasks wait for sockets, and return whether one is ready."""
    told = trio.lowlevel.current_statistics().io_statistics
    assert told.backend == "epoll"
    if not told.tasks_waiting_read and not told.tasks_waiting_write:
        return False
    # asking epoll itself would take its events from trio
    epoll = trio._core._run.GLOBAL_RUN_CONTEXT.runner.io_manager._epoll
    return bool(select.select([epoll], [], [], SILENCE)[0])


# Each is one object, since pytest compares parameters.
_ASYNCIO = ("asyncio", {"loop_factory": VirtualLoop})
_UVLOOP = ("asyncio", {"loop_factory": VirtualUvloop})
_FUTURES = ("asyncio", {"loop_factory": VirtualLoop, "debug": False})
_TRIO = ("trio", {"clock": virtual_trio_clock()})


def virtual(backend: object) -> object:
    """Return the backend with virtual time for one that has real time.

    Arguments:
        backend: as anyio's pytest plugin takes it: a name, or a name and options.
    """
    if backend == "trio":
        return _TRIO
    if backend == "asyncio":
        return _ASYNCIO
    if backend == ("asyncio", {"use_uvloop": True}):
        return _UVLOOP
    if backend == ("asyncio", {"debug": False}):
        return _FUTURES
    return backend


def run_virtual(function: Callable[[], Awaitable[None]], backend: str) -> None:
    """Run a coroutine function on virtual time, for tests that are not ``async`` themselves.

    Arguments:
        function: what is run.
        backend: ``asyncio`` or ``trio``.
    """
    options: dict[str, Any] = dict(_ASYNCIO[1])
    if backend == "trio":
        options = {"clock": virtual_trio_clock()}
    anyio.run(function, backend=backend, backend_options=options)
