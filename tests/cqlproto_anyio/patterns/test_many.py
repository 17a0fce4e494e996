"""Work on many items: bounded, ended by the first error, sources closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._many import execute_many, for_each
from tests.support.replies import echo
from tests.support.scripted import Scripted
from tests.support.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Source:
    """An asynchronous generator of numbers, and whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self.closed = False

    async def numbers(self) -> AsyncIterator[int]:
        try:
            for number in range(self.count):
                self.taken += 1
                yield number
        finally:
            self.closed = True


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize(("count", "concurrency"), [(0, 3), (2, 3), (10, 3), (10, 1)])
async def test_every_item_once_and_some_at_a_time(
    asynchronous: bool, count: int, concurrency: int
) -> None:
    source, busy, most = Source(count), 0, 0
    seen: list[int] = []

    async def work(number: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await anyio.sleep(1)
        busy -= 1
        seen.append(number)

    items: Any = source.numbers() if asynchronous else range(count)
    await for_each(items, work, concurrency=concurrency)
    assert sorted(seen) == list(range(count))
    assert most == min(count, concurrency)


@pytest.mark.parametrize("end", ["error", "cancellation"])
async def test_an_early_end(end: str) -> None:
    """Those under way are waited for after an error; the source is closed."""
    source, ended = Source(1000), 0

    async def work(number: int) -> None:
        nonlocal ended
        await anyio.sleep(1)
        if end == "error" and number == 3:
            raise ValueError(number)
        await anyio.sleep(5)
        ended += 1

    with anyio.move_on_after(2.5) as scope:
        if end == "error":
            scope.deadline = 100 + anyio.current_time()
            with pytest.raises(ValueError, match="3"):
                await for_each(source.numbers(), work, concurrency=4)
        else:
            await for_each(source.numbers(), work, concurrency=4)
    assert scope.cancelled_caught == (end == "cancellation")
    assert ended == (3 if end == "error" else 0)
    assert source.taken == 4
    assert source.closed


async def test_an_error_of_the_source() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("source")

    seen: list[int] = []

    async def work(number: int) -> None:
        await anyio.sleep(1)
        seen.append(number)

    with pytest.raises(KeyError, match="source"):
        await for_each(broken(), work, concurrency=2)
    assert seen == [1]


@pytest.mark.parametrize("bulk", [True, False])
async def test_a_statement_for_each_item(bulk: bool) -> None:
    """A session executes it in bulk, another executor row by row; None leaves an item out."""
    source = Source(10)

    def row(number: int) -> tuple[int] | None:
        return None if number % 2 else (number,)

    query = "UPDATE t SET v = 1 WHERE id = ?"
    if bulk:
        async with serving() as server:
            server.answer = echo(server)
            async with server.session() as session:
                await execute_many(session, query, source.numbers(), row, concurrency=2)
        sent = [asked for asked in server.seen if type(asked.message).__name__ == "Execute"]
        assert len(sent) == 5
    else:
        executor = Scripted(lambda request: None)
        await execute_many(executor, query, source.numbers(), row, concurrency=2)
        assert len(executor.asked) == 5
    assert source.closed


async def test_the_first_error_of_a_bulk_execution() -> None:
    """It reaches the caller as it is, not as a BulkError."""

    def row(number: int) -> tuple[Any]:
        return (number if number < 3 else "three",)

    async with serving() as server:
        server.answer = echo(server)
        async with server.session() as session:
            with pytest.raises(cql.ValueConversionError):
                await execute_many(session, "SELECT 1 WHERE id = ?", [1, 2, 3], row, concurrency=1)
