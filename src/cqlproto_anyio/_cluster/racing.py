"""Trying several nodes, a little apart, until one works.

A node that doesn't answer holds up its own attempt alone: the next one begins a moment later, or as
soon as an attempt fails. Where everything works there is one attempt and no other. An attempt that
has got as far as a connection gets more time before another node is asked as well, since reading a
large cluster takes a while.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Race"]

# In seconds. After how long the next attempt begins if there is no progress: while all connect, and
# while one reads.
STAGGER, READ_STAGGER = 0.5, 2.0
# How long a node that tells everything is looked for once there is one that doesn't.
GRACE = 1.0


class Outcome(Protocol):
    """What an attempt gives.

    Attributes:
        complete: whether nothing better is to be looked for.
    """

    @property
    def complete(self) -> bool: ...

    def discard(self) -> None:
        """It isn't wanted."""
        ...


P = TypeVar("P")
R = TypeVar("R", bound=Outcome)


class Race(Generic[P, R]):
    """Attempts at places, of which one is to succeed; for one use.

    Arguments:
        attempt: tries a place; it calls the function that it is given when it is connected, and
            whenever it has got on since. One that is cancelled leaves nothing behind.
        clock: returns seconds.
        protected: makes a coroutine function one in which Ctrl-C is not raised.
        at_once: how many attempts may be under way.
        serious: which errors end the race, to be raised.
        failures: where to put what the attempts raise, in the order in which they end.

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
        """Return what the first attempt that succeeds gives, or None if none does.

        Raises:
            What is serious.
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
        hurry = True
        give_up_at = math.inf
        while (left or self._running) and not self._is_decided():
            now = self._clock()
            if self._found:
                hurry = True
                give_up_at = min(give_up_at, now + GRACE)
                if now >= give_up_at:
                    return
            while left and self._running < self._at_once and (hurry or not self._running):
                self._running += 1
                self._progress_at = now
                group.start_soon(self._protected_run, left.popleft())
                hurry = bool(self._found)
            failed = len(self.failures)
            self._changed = anyio.Event()
            full = not left or self._running >= self._at_once
            next_at = math.inf if full else self._next_at()
            with anyio.move_on_after(min(next_at, give_up_at) - now):
                await self._changed.wait()
            hurry = len(self.failures) > failed or self._clock() >= self._next_at()

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
