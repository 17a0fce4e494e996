"""The timer: what is due expires, alarms can be moved, and a nearer deadline wakes the task."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._eventloop.timer import Timer
from tests.support.server import turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cqlproto_anyio._eventloop.deadlines import Due

pytestmark = pytest.mark.uvloop

LATER = 3600.0


class Thing:
    """Something with a deadline."""

    timeout: float | None = None
    queue: dict[Due, int] | None = None

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1


@asynccontextmanager
async def running() -> AsyncIterator[Timer]:
    timer = Timer(current_backend().clock)
    async with anyio.create_task_group() as group:
        group.start_soon(timer.run)
        await until(lambda: timer._scope is not None)
        yield timer
        group.cancel_scope.cancel()


async def test_an_alarm_calls_its_function_once_when_it_is_due() -> None:
    called: list[str] = []
    async with running() as timer:
        first = timer.alarm(lambda: called.append("first"))
        second = timer.alarm(lambda: called.append("second"))
        now = timer.clock()
        second.set(now)
        first.set(now - 1.0)
        await until(lambda: len(called) == 2)
        assert first.deadline == second.deadline == math.inf
        await turns(5)
        first.set(now)
        await until(lambda: len(called) == 3)
    assert called == ["first", "second", "first"]
    assert len(timer.deadlines) == 0


async def test_an_alarm_that_was_moved_or_cancelled_is_not_called_before() -> None:
    called: list[str] = []
    async with running() as timer:
        moved = timer.alarm(lambda: called.append("moved"))
        cancelled = timer.alarm(lambda: called.append("cancelled"))
        last = timer.alarm(lambda: called.append("last"))
        now = timer.clock()
        moved.set(now - 2.0)
        cancelled.set(now - 2.0)
        moved.set(now + LATER)
        cancelled.cancel()
        cancelled.cancel()
        last.set(now - 1.0)
        await until(lambda: called)
        await turns(5)
        assert (called, len(timer.deadlines)) == (["last"], 1)
        moved.set(now)
        await until(lambda: len(called) == 2)
    assert called == ["last", "moved"]


async def test_a_nearer_deadline_wakes_the_task_that_sleeps_until_a_later_one() -> None:
    async with running() as timer:
        late, soon = Thing(timer.clock() + LATER), Thing(timer.clock() + 0.02)
        timer.keep_deadline(late)
        await turns(5)
        timer.keep_deadline(soon)
        await until(lambda: soon.expired)
        assert (late.expired, soon.expired, len(timer.deadlines)) == (0, 1, 1)


async def test_what_was_kept_before_the_task_runs_expires_when_it_does() -> None:
    timer = Timer(current_backend().clock)
    thing = Thing(timer.clock() - 1.0)
    timer.keep_deadline(thing)
    async with anyio.create_task_group() as group:
        group.start_soon(timer.run)
        await until(lambda: thing.expired)
        group.cancel_scope.cancel()


def test_without_a_timeout_nothing_is_due() -> None:
    timer = Timer(lambda: 5.0)
    assert timer.deadline(None) == math.inf
    assert timer.deadline(2.5) == 7.5
    timer.keep_deadline(Thing(math.inf))
    assert len(timer.deadlines) == 0
