"""Session.map: the order of results, limits, errors, and leaving early."""

from __future__ import annotations

import contextvars
import dataclasses
import gc
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import Execute, Prepare
from cqlproto_anyio.testing import snapshot
from tests.support.replies import echo, error, ints, prepared, preparing
from tests.support.server import idle, serving, start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cqlproto.messages import Response
    from tests.support.server import Asked

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.usefixtures("each_version"),
]

SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"


@dataclasses.dataclass
class Other:
    nobody: int


def keys(count: int, taken: list[int] | None = None) -> Iterator[tuple[int]]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield (number,)


async def later(
    count: int, taken: list[int] | None = None, closed: list[bool] | None = None
) -> AsyncIterator[tuple[int]]:
    try:
        for key in keys(count, taken):
            yield key
    finally:
        if closed is not None:
            closed.append(True)


def source(asynchronous: bool, count: int, taken: list[int] | None = None) -> Any:
    return later(count, taken) if asynchronous else keys(count, taken)


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["rows", "async rows"])


@both
async def test_results_come_in_order_whatever_the_order_of_replies(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        found: list[tuple[Any, int]] = []

        async def read() -> None:
            async for key, result in session.map(SELECT, source(asynchronous, 200), concurrency=20):
                found.append((key, result.one().v))

        async with anyio.create_task_group() as group:
            call = start(group, read)
            choice = random.Random(3)
            while not call.done:
                choice.shuffle(server.asked)
                for _ in range(len(server.asked) // 2 + 1):
                    if server.asked:
                        asked = server.asked.pop()
                        asked.reply(ints(asked.number))
                await turns()
        assert call.error is None
        assert found == [((number,), number) for number in range(200)]
        await idle(session)


@both
async def test_results_as_they_come(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        found: list[int] = []

        async def read() -> None:
            rows = source(asynchronous, 6)
            async for _, result in session.map(SELECT, rows, ordered=False, concurrency=3):
                found.append(result.one().v)

        async with anyio.create_task_group() as group:
            start(group, read)
            await server.until(lambda: len(server.asked) == 3)
            for number in (2, 0, 1, 3, 5, 4):
                while number not in [each.number for each in server.asked]:
                    await turns()
                [asked] = [each for each in server.asked if each.number == number]
                server.asked.remove(asked)
                asked.reply(ints(number))
                while number not in found:
                    await turns()
        assert found == [2, 0, 1, 3, 5, 4]


@both
async def test_a_reader_that_stops_stops_the_requests(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        taken: list[int] = []
        async with session.map(SELECT, source(asynchronous, 100, taken), concurrency=5) as results:
            for read in range(10):
                key, result = await anext(results)
                assert key == (read,) == (result.one().v,)
                await turns(30)
                assert len(taken) <= read + 1 + 5
                assert snapshot(session).in_flight == 0  # all have come
        await idle(session)


async def test_results_do_not_wait_for_a_slow_source() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        more = anyio.Event()

        async def rows() -> AsyncIterator[tuple[int]]:
            yield (1,)
            yield (2,)
            await more.wait()
            yield (3,)

        found: list[int] = []
        async for (key,), _ in session.map(SELECT, rows()):
            found.append(key)
            if key == 2:
                more.set()
        assert found == [1, 2, 3]


async def test_an_asynchronous_source_has_the_readers_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        seen: list[str] = []

        async def rows() -> AsyncIterator[tuple[int]]:
            seen.append(variable.get())
            yield (1,)

        variable.set("reader")
        assert [key async for (key,), _ in session.map(SELECT, rows())] == [1]
        assert seen == ["reader"]


@both
async def test_an_error_is_raised_in_its_place(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return prepared(server, asked.text)
            if asked.number == 3:
                return error(ErrorCode.UNAUTHORIZED)
            return ints(asked.number)

        server.answer = answer
        found: list[int] = []
        results = session.map(SELECT, source(asynchronous, 10))
        with pytest.raises(cql.Unauthorized) as info:
            async for (key,), _ in results:
                found.append(key)
        assert found == [0, 1, 2]
        assert info.value.__notes__ == ["row 3 of map()"]
        for _ in range(2):
            with pytest.raises(cql.Unauthorized) as again:
                await anext(results)
            assert again.value is info.value
        rows = source(asynchronous, 10)
        outcomes = [each async for _, each in session.map(SELECT, rows, return_errors=True)]
        assert [type(each) for each in outcomes].count(cql.Result) == 9
        assert isinstance(outcomes[3], cql.Unauthorized)
        await idle(session)


@both
async def test_a_source_that_raises(asynchronous: bool) -> None:
    """The results of the rows before come first."""
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        broken = LookupError("line 5")

        def rows() -> Iterator[tuple[int]]:
            yield from keys(4)
            raise broken

        async def rows_later() -> AsyncIterator[tuple[int]]:
            for row in rows():
                yield row

        found: list[int] = []
        with pytest.raises(LookupError) as info:
            async for (key,), _ in session.map(SELECT, rows_later() if asynchronous else rows()):
                found.append(key)
        assert info.value is broken
        assert found == [0, 1, 2, 3]
        await idle(session)


async def test_results_of_several_pages_and_targets() -> None:
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return prepared(server, asked.text)
            if asked.state is None:
                return ints(asked.number, asked.number, state=b"more")
            return ints(asked.number)

        server.answer = answer
        results = session.map(SELECT, keys(20), row=int, concurrency=3)
        assert [result.rows async for _, result in results] == [[n] * 3 for n in range(20)]
        with pytest.raises(cql.ResultTooLarge):
            async for _ in session.map(SELECT, keys(2), max_rows=2):
                pass
        with pytest.raises(cql.RowMappingError):
            async for _ in session.map(SELECT, keys(2), row=Other):
                pass
        await idle(session)


async def test_writes_and_prepared_statements() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        results = [result async for _, result in session.map(INSERT, keys(5))]
        assert [result.rows for result in results] == [[]] * 5
        assert all(result.host == "node:9042" for result in results)
        select = await session.prepare(SELECT, row=int)
        assert [result.one() async for _, result in session.map(select, keys(5))] == [*range(5)]
        empty: list[tuple[int]] = []
        assert [row async for row, _ in session.map(select, empty)] == []


@both
@pytest.mark.parametrize("how", ["aclose", "break", "with", "del"])
async def test_leaving_early_gives_up_what_is_under_way(asynchronous: bool, how: str) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        closed: list[bool] = []
        rows: Any = later(100, None, closed) if asynchronous else keys(100)

        async def read() -> None:
            results = session.map(SELECT, rows, concurrency=10)
            if how == "with":
                async with results:
                    await anext(results)
            elif how == "break":
                async for _ in results:
                    break
            else:
                await anext(results)
                if how == "aclose":
                    await results.aclose()
                    with pytest.raises(cql.UsageError, match="closed before their end"):
                        await anext(results)

        async with anyio.create_task_group() as group:
            call = start(group, read)
            await server.until(lambda: len(server.asked) == 10)
            server.asked.pop(0).reply(ints(0))
            await until(lambda: call.done)
        assert call.error is None
        gc.collect()
        await until(lambda: snapshot(session).orphans == snapshot(session).in_flight > 0)
        if asynchronous:
            await until(lambda: closed == [True])
        await turns()
        for asked in await server.take_all(len(server.asked)):
            asked.reply(ints(0))  # these are nobody's
        await idle(session)
        assert snapshot(session).alarms == 0


@both
async def test_closing_the_session_ends_the_iteration(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)

        async def read() -> None:
            async for _ in session.map(SELECT, source(asynchronous, 100)):
                pass

        async with anyio.create_task_group() as group:
            call = start(group, read)
            await server.until(lambda: server.asked)
            await session.aclose()
            await until(lambda: call.done)
        assert isinstance(call.error, cql.SessionClosed)


async def test_one_reader_at_a_time() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        results = session.map(SELECT, keys(3))
        async with anyio.create_task_group() as group:
            first = start(group, results.__anext__)
            await server.until(lambda: len(server.asked) == 3)
            with pytest.raises(cql.UsageError, match="another task"):
                await anext(results)
            await results.aclose()
            await until(lambda: first.done)
        assert isinstance(first.error, cql.UsageError)


async def test_a_cancelled_reader() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        results = session.map(SELECT, keys(3))
        with anyio.move_on_after(0.1):
            await anext(results)
        with pytest.raises(cql.UsageError, match="cancelled"):
            await anext(results)
        assert snapshot(session).orphans == 3


@both
async def test_full_connections_make_rows_wait(asynchronous: bool) -> None:
    async with serving() as server, server.session(max_in_flight=3, max_waiting=0) as session:
        server.answer = preparing(server)
        select = await session.prepare(SELECT)
        found: list[int] = []

        async def read() -> None:
            async for (key,), _ in session.map(select, source(asynchronous, 40), concurrency=20):
                found.append(key)

        async with anyio.create_task_group() as group:
            for _ in range(3):  # others were first
                start(group, lambda: session.execute("SELECT 1"))
            await server.until(lambda: len(server.asked) == 3)
            call = start(group, read)
            await turns(50)
            while not call.done:
                assert len(server.asked) <= 3
                for asked in await server.take_all(len(server.asked)):
                    asked.reply(ints(asked.number if asked.values else 0))
                await turns()
                await anyio.sleep(0.01)
        assert found == [*range(40)]
        await idle(session)


async def test_wrong_arguments() -> None:
    async with serving() as server, server.session() as session:
        wrong: Any = session.map
        for keywords in ({"concurrency": 0}, {"ordered": 1}, {"return_errors": None}):
            with pytest.raises(cql.ConfigError):
                wrong(SELECT, [], **keywords)
        with pytest.raises(TypeError, match="rows must be"):
            wrong(SELECT, 5)
        with pytest.raises(TypeError, match="a query is"):
            async for _ in wrong(5, []):
                pass
        assert not [each for each in server.seen if isinstance(each.message, Execute)]
