"""Attempts at several nodes, started a little apart, until one succeeds.

A node that doesn't answer delays its own attempt alone: the next attempt starts after a moment, or
as soon as one fails, as in "happy eyeballs" (RFC 8305). Where everything works there is a single
attempt. Once an attempt has a connection it gets more time before the next one starts, since it
takes a while to read a large cluster.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Race"]

# After how many seconds without progress the next attempt starts: while all attempts connect, and
# once one of them reads.
STAGGER, READ_STAGGER = 0.5, 2.0
# For how many seconds a complete outcome is awaited once there is an incomplete one.
GRACE = 1.0


class Outcome(Protocol):
    """The outcome of an attempt that has succeeded.

    Attributes:
        complete: whether no other outcome can be better.
    """

    @property
    def complete(self) -> bool: ...

    def discard(self) -> None:
        """Close what the attempt has opened: another outcome is used."""
        ...


P = TypeVar("P")
R = TypeVar("R", bound=Outcome)


class Race(Generic[P, R]):
    """Attempts at several places, of which one must succeed; for one use.

    Arguments:
        attempt: tries a place. It calls the function that it is passed once it is connected, and
            after each progress. If it is cancelled it leaves nothing behind.
        clock: returns seconds.
        protected: makes a coroutine function one in which Ctrl-C is not raised.
        at_once: how many attempts may be under way.
        serious: returns whether an error ends the race and is raised.
        failures: the list that errors are added to, in the order in which the attempts end.

    Attributes:
        failures: as given, or a list of its own.
    """

    def __init__(
        self,
        attempt: Callable[[P, Callable[[], None]], Awaitable[R]],
        *,
        clock: Callable[[], float],
        protected: Callable[[Any], Any],
        at_once: int,
        serious: Callable[[Exception], bool],
        failures: list[Exception] | None = None,
    ) -> None:
        self.failures: list[Exception] = [] if failures is None else failures
        self._attempt = attempt
        self._clock = clock
        self._protected_run = protected(self._run)
        self._at_once = at_once
        self._serious = serious
        self._found: list[R] = []
        self._error: Exception | None = None
        self._running = 0
        self._reading = 0
        self._progress_at = clock()
        self._changed = anyio.Event()

    async def run(self, places: Iterable[P]) -> R | None:
        """Return the first complete outcome, else the first outcome, or None if there is none.

        Raises:
            the first serious error.
        """
        try:
            async with anyio.create_task_group() as group:
                await self._start_all(group, deque(places))
                group.cancel_scope.cancel()
        except BaseException:
            self._discard(None)
            raise
        chosen = next((each for each in self._found if each.complete), None)
        if chosen is None and self._error is None and self._found:
            chosen = self._found[0]
        self._discard(chosen)
        if chosen is None and self._error is not None:
            raise self._error
        return chosen

    async def _start_all(self, group: anyio.abc.TaskGroup, left: deque[P]) -> None:
        """Start attempts until the race is decided."""
        start_now = True
        give_up_at = math.inf
        while (left or self._running) and not self._is_decided():
            now = self._clock()
            if self._found:
                start_now = True
                give_up_at = min(give_up_at, now + GRACE)
                if now >= give_up_at:
                    return
            while left and self._running < self._at_once and (start_now or not self._running):
                self._running += 1
                self._progress_at = now
                group.start_soon(self._protected_run, left.popleft())
                start_now = bool(self._found)
            failed = len(self.failures)
            self._changed = anyio.Event()
            full = not left or self._running >= self._at_once
            next_at = math.inf if full else self._next_at()
            with anyio.move_on_after(min(next_at, give_up_at) - now):
                await self._changed.wait()
            start_now = len(self.failures) > failed or self._clock() >= self._next_at()

    def _next_at(self) -> float:
        return self._progress_at + (READ_STAGGER if self._reading else STAGGER)

    def _is_decided(self) -> bool:
        return self._error is not None or any(each.complete for each in self._found)

    async def _run(self, place: P) -> None:
        reading = False

        def progress() -> None:
            nonlocal reading
            self._progress_at = self._clock()
            if not reading:
                reading = True
                self._reading += 1

        try:
            self._found.append(await self._attempt(place, progress))
        except Exception as exc:
            self.failures.append(exc)
            if self._error is None and self._serious(exc):
                self._error = exc
        finally:
            self._running -= 1
            self._reading -= reading
            self._changed.set()

    def _discard(self, chosen: R | None) -> None:
        for each in self._found:
            if each is not chosen:
                each.discard()
