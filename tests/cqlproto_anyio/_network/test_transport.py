"""The life of a stream: whatever ends it, the connection is told and the stream is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import pytest

from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._network.transport import Transport
from tests.support.server import turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import ByteStream

    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.transfer import ByteSink


class Stream:
    """Records when it is closed.

    Arguments:
        close: what closing does besides.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._close = close
        self.closed = False

    async def aclose(self) -> None:
        self.closed = True
        await self._close()


class FakeBackend:
    """The running event loop, with a transfer that the test writes."""

    def __init__(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.is_cancellation = current_backend().is_cancellation
        self.ran = False
        self._run = run
        self.wake, self.flush = object(), object()

    def transfer(self, stream: object, sink: object) -> FakeBackend:
        return self

    async def run(self) -> None:
        self.ran = True
        await self._run()


class Fixture:
    """A transport and its sink.

    Arguments:
        run: what the transfer does.
        close: what closing the stream does.

    Attributes:
        lost: the calls of ``lose``.
    """

    def __init__(
        self,
        run: Callable[[], Coroutine[Any, Any, None]] = anyio.sleep_forever,
        close: Callable[[], Coroutine[Any, Any, None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self.lost: list[tuple[str, BaseException | None]] = []
        self.stream = Stream(close)
        self.transfer = FakeBackend(run)
        self.transport = Transport(
            cast("ByteStream", self.stream),
            cast("ByteSink", self),
            cast("Backend", self.transfer),
            close_timeout=2.0,
        )

    def lose(self, reason: str, cause: BaseException | None) -> None:
        self.lost.append((reason, cause))


ENDING = ("the event loop is shutting down", None)  # a connection that is lost ignores it


async def test_stopping_ends_it() -> None:
    fixture = Fixture()
    assert fixture.transport.wake is fixture.transfer.wake
    assert fixture.transport.flush is fixture.transfer.flush
    async with anyio.create_task_group() as group:
        group.start_soon(fixture.transport.run)
        await turns()
        assert fixture.transfer.ran
        assert not fixture.stream.closed
        fixture.transport.stop()
    assert fixture.stream.closed
    assert fixture.lost == [ENDING]


async def test_one_that_is_stopped_before_it_runs_only_closes() -> None:
    fixture = Fixture()
    fixture.transport.stop()
    await fixture.transport.run()
    assert not fixture.transfer.ran
    assert fixture.stream.closed


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_bug_is_told_and_not_raised(depth: int) -> None:
    """The tasks that pull raise groups."""
    bug = ZeroDivisionError("a bug")

    async def fails() -> None:
        error: Exception = bug
        for _ in range(depth):
            error = ExceptionGroup("several", [error])
        raise error

    fixture = Fixture(fails)
    await fixture.transport.run()
    assert fixture.lost == [("ZeroDivisionError: a bug", bug), ENDING]
    assert fixture.stream.closed


async def test_a_cancellation_is_raised_when_the_stream_is_closed() -> None:
    fixture = Fixture(close=lambda: anyio.sleep(1.0))
    began = anyio.current_time()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(fixture.transport.run)
            await turns()
            scope.cancel()
    assert scope.cancelled_caught
    assert fixture.lost == [ENDING]
    assert fixture.stream.closed
    assert anyio.current_time() - began == pytest.approx(1.0)


async def test_closing_takes_so_long_at_most() -> None:
    fixture = Fixture(close=anyio.sleep_forever)
    began = anyio.current_time()
    fixture.transport.stop()
    await fixture.transport.run()
    assert anyio.current_time() - began == pytest.approx(2.0)


@pytest.mark.parametrize("error", [OSError("reset"), SystemExit(3)])
async def test_what_closing_raises_is_ignored(error: BaseException) -> None:
    async def fails() -> None:
        raise error

    fixture = Fixture(close=fails)
    fixture.transport.stop()
    await fixture.transport.run()
    assert fixture.stream.closed
