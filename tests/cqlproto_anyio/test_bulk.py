"""execute_many on one host: order, limits, failures, progress, sources that are slow or raise."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Batch, BindMetadata, Execute, Prepare
from cqlproto_anyio.testing import snapshot
from tests.support.replies import echo, error, prepared, preparing, unprepared
from tests.support.server import idle, serving, start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cqlproto.messages import Response
    from tests.support.server import Asked, Server

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.futures,
    pytest.mark.usefixtures("each_version"),
]

INSERT = "INSERT INTO t (k) VALUES (?)"


def keyed(
    server: Server, answer: Callable[[Asked], Response | None] = lambda asked: None
) -> Callable[[Asked], Response | None]:
    """As ``preparing``; the first marker is the partition key."""

    def first(asked: Asked) -> Response | None:
        if not isinstance(asked.message, Prepare):
            return answer(asked)
        message = prepared(server, asked.text)
        message.bind = BindMetadata(message.bind.columns, (0,))
        return message

    return first


def numbers(server: Server) -> list[int]:
    """Return the rows that were executed, in order."""
    return [each.number for each in server.seen if isinstance(each.message, Execute)]


async def replies(server: Server, reply: Response = VOID) -> None:
    """Answer all requests that wait, and let the client see the replies."""
    for asked in await server.take_all(len(server.asked)):
        asked.reply(reply)
    await turns()


async def test_all_rows_are_executed_once_and_in_order() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        told: list[int] = []
        done = await session.execute_many(
            INSERT, ((number,) for number in range(2000)), concurrency=32, progress=told.append
        )
        assert done == cql.BulkResult(2000, ())
        assert numbers(server) == list(range(2000))
        assert sum(told) == 2000
        assert min(told) > 0
        assert len(server.texts_seen(Prepare)) == 1
        await idle(session)


async def test_no_rows_at_all() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        assert (await session.execute_many(INSERT, [])).count == 0

        async def none() -> AsyncIterator[tuple[int]]:
            for number in range(0):
                yield (number,)

        assert (await session.execute_many(INSERT, none())).count == 0


@pytest.mark.parametrize("concurrency", [1, 3, 100])
async def test_so_many_rows_are_under_way_and_no_more_are_read(concurrency: int) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        read: list[int] = []

        def rows() -> Iterator[tuple[int]]:
            for number in range(200):
                read.append(number)
                yield (number,)

        async with anyio.create_task_group() as group:
            call = start(
                group, lambda: session.execute_many(INSERT, rows(), concurrency=concurrency)
            )
            await server.until(lambda: len(server.asked) == concurrency)
            await turns()
            assert len(read) == len(server.asked) == concurrency
            server.asked.pop(0).reply(VOID)
            await server.until(lambda: len(server.asked) == concurrency)
            await turns()
            assert len(read) == concurrency + 1
            while not call.done:
                await replies(server)
        assert call.result.count == 200


async def test_full_connections_make_rows_wait() -> None:
    """Nothing is refused, although the client has no room for a waiting request."""
    async with serving() as server, server.session(max_in_flight=4, max_waiting=1) as session:
        server.answer = preparing(server)
        async with anyio.create_task_group() as group:
            call = start(
                group,
                lambda: session.execute_many(
                    INSERT, ((number,) for number in range(100)), concurrency=50
                ),
            )
            await server.until(lambda: len(server.asked) == 4)
            await turns()
            assert snapshot(session).waiting == 1
            while not call.done:
                assert len(server.asked) <= 4
                await replies(server)
        assert call.result.count == 100
        assert numbers(server) == list(range(100))


@pytest.mark.parametrize("batch", [1, 5])
async def test_rows_wait_while_others_fill_the_connections(batch: int) -> None:
    async with serving() as server, server.session(max_in_flight=2, max_waiting=0) as session:
        server.answer = keyed(server)
        prepared_insert = await session.prepare(INSERT)
        async with anyio.create_task_group() as group:
            others = [start(group, lambda: session.execute("SELECT 1")) for _ in range(2)]
            await server.until(lambda: len(server.asked) == 2)
            call = start(
                group,
                lambda: session.execute_many(prepared_insert, [(1,), (1,), (2,)], batch=batch),
            )
            await turns(50)
            assert not call.done
            await replies(server)
            assert all(other.done for other in others)
            while not call.done:
                await turns()
                await anyio.sleep(0.01)
                await replies(server)
        assert call.result == cql.BulkResult(3, ())
        await idle(session)


async def test_failures_have_their_rows() -> None:
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return prepared(server, asked.text)
            if asked.number % 10 == 3:
                return error(ErrorCode.UNAUTHORIZED)
            return VOID

        server.answer = answer
        rows: list[Any] = [(number,) for number in range(50)]
        rows[20] = ("twenty",)
        rows[21] = (1, 2)
        rows[22] = 22
        rows[24] = {"nobody": 1}
        rows[25] = [25]
        done = await session.execute_many(INSERT, rows, max_errors=9)
        assert done.count == 41
        failed = {failure.index: failure for failure in done.failures}
        assert set(failed) == {3, 13, 20, 21, 22, 23, 24, 33, 43}
        assert all(failure.row is rows[index] for index, failure in failed.items())
        kinds = {index: type(failure.error) for index, failure in failed.items()}
        assert kinds[20] is cql.ValueConversionError
        assert kinds[21] is kinds[24] is cql.ParameterError
        assert kinds[22] is TypeError
        assert kinds[3] is cql.Unauthorized
        await idle(session)


@pytest.mark.parametrize("most", [0, 4])
async def test_one_failure_too_many(most: int) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        taken: list[int] = []

        def rows() -> Iterator[tuple[int]]:
            for number in range(1000):
                taken.append(number)
                yield (number,)

        async with anyio.create_task_group() as group:
            call = start(
                group,
                lambda: session.execute_many(INSERT, rows(), concurrency=20, max_errors=most),
            )
            asked = await server.take_all(20)
            for each in asked[: most + 1]:
                each.reply(error(ErrorCode.UNAUTHORIZED))
            await turns(50)
            assert not call.done  # the rows under way are waited for
            for each in asked[most + 1 :]:
                each.reply(VOID)
            while not call.done:
                await replies(server)
        assert isinstance(call.error, cql.BulkError)
        assert len(call.error.failures) >= most + 1
        assert call.error.count + len(call.error.failures) == len(taken)
        assert call.error.__cause__ is call.error.failures[0].error
        assert isinstance(call.error.__cause__, cql.Unauthorized)
        assert f"max_errors={most}" in str(call.error)
        assert call.error.maybe_applied
        await idle(session)


@pytest.mark.parametrize("waits", [False, True])
async def test_too_many_failures_end_the_wait_for_a_source(waits: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server, lambda asked: error(ErrorCode.UNAUTHORIZED))
        closed: list[bool] = []

        async def rows() -> AsyncIterator[tuple[int]]:
            try:
                yield (1,)
                if waits:
                    await anyio.sleep_forever()
                while True:
                    yield (2,)
            finally:
                closed.append(True)

        with pytest.raises(cql.BulkError) as info:
            await session.execute_many(INSERT, rows(), concurrency=1)
        assert len(info.value.failures) == 1
        assert closed == [True]
        await idle(session)


async def test_a_slow_source_does_not_stall_rows_under_way() -> None:
    """Neither those that succeed nor those that are retried; progress is told meanwhile."""
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        more = anyio.Event()
        told: list[int] = []

        async def rows() -> AsyncIterator[tuple[int]]:
            yield (0,)
            yield (1,)
            await more.wait()
            yield (2,)

        async with anyio.create_task_group() as group:
            call = start(group, lambda: session.execute_many(INSERT, rows(), progress=told.append))
            first, second = await server.take_all(2)
            first.reply(VOID)
            await until(lambda: told == [1])
            second.reply(unprepared(second))
            await server.until(lambda: len(server.asked) == 1)
            server.asked.pop().reply(VOID)
            await until(lambda: sum(told) == 2)
            more.set()
            (await server.next()).reply(VOID)
        assert call.result.count == 3
        assert sum(told) == 3


async def test_a_fast_source_is_not_read_ahead() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        taken: list[int] = []

        async def rows() -> AsyncIterator[tuple[int]]:
            for number in range(100):
                taken.append(number)
                yield (number,)

        async with anyio.create_task_group() as group:
            call = start(group, lambda: session.execute_many(INSERT, rows(), concurrency=7))
            await server.until(lambda: len(server.asked) == 7)
            await turns(50)
            assert len(taken) == 7
            while not call.done:
                await replies(server)
        assert call.result.count == 100


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_source_that_raises(asynchronous: bool) -> None:
    """The rows before the error are executed; the error comes through as it is."""
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        broken = LookupError("line 3")

        def rows() -> Iterator[tuple[int]]:
            yield from ((number,) for number in range(3))
            raise broken

        async def later() -> AsyncIterator[tuple[int]]:
            for row in rows():
                yield row

        async with anyio.create_task_group() as group:
            source: Any = later() if asynchronous else rows()
            call = start(group, lambda: session.execute_many(INSERT, source))
            await server.until(lambda: len(server.asked) == 3)
            await turns()
            assert not call.done
            await replies(server)
            await until(lambda: call.done)
        assert call.error is broken
        await idle(session)
        assert snapshot(session).alarms == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_progress_function_that_raises_ends_only_its_call(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        broken = RuntimeError("the bar")
        asleep = anyio.Event()

        def progress(count: int) -> None:
            raise broken

        async def silent() -> AsyncIterator[tuple[int]]:
            yield (1,)
            await asleep.wait()

        source: Any = silent() if asynchronous else [(1,), (2,)]
        with pytest.raises(RuntimeError) as info:
            await session.execute_many(INSERT, source, progress=progress)
        assert info.value is broken
        assert (await session.execute_many(INSERT, [(3,)])).count == 1
        await idle(session)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_closing_the_session_ends_the_call(asynchronous: bool) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        closed: list[bool] = []

        async def rows() -> AsyncIterator[tuple[int]]:
            try:
                yield (1,)
                await anyio.sleep_forever()
            finally:
                closed.append(True)

        async with anyio.create_task_group() as group:
            source: Any = rows() if asynchronous else [(1,), (2,)]
            call = start(group, lambda: session.execute_many(INSERT, source))
            await server.until(lambda: server.asked)
            await session.aclose()
            await until(lambda: call.done)
        assert isinstance(call.error, cql.SessionClosed)
        assert closed == [True] * asynchronous
        with pytest.raises(cql.SessionClosed):
            await session.execute_many(INSERT, [(1,)])


async def test_each_row_has_its_own_deadline() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        async with anyio.create_task_group() as group:
            call = start(
                group,
                lambda: session.execute_many(
                    INSERT,
                    ((number,) for number in range(6)),
                    concurrency=2,
                    timeout=1.0,
                    max_errors=2,
                ),
            )
            lost = await server.take_all(1)
            for _ in range(4):  # the others take longer together than one may alone
                asked = await server.next()
                await anyio.sleep(0.4)
                asked.reply(VOID)
                await turns()
            (await server.next()).reply(VOID)
        assert call.result.count == 5
        [failure] = call.result.failures
        assert failure.index == lost[0].number == 0
        assert isinstance(failure.error, cql.RequestTimeout)
        assert failure.error.maybe_applied
        assert failure.error.timeout == 1.0
        lost[0].reply(VOID)  # it comes too late, and is nobody's
        await idle(session)


async def test_a_changed_schema_in_the_middle() -> None:
    """Rows that meet an outdated statement wait until it is prepared again, once."""
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        prepared_insert = await session.prepare(INSERT)

        def rows() -> Iterator[tuple[int]]:
            for number in range(100):
                if number == 50:
                    prepared_insert._statement.outdate()
                yield (number,)

        done = await session.execute_many(prepared_insert, rows(), concurrency=10)
        assert done.count == 100
        assert sorted(numbers(server)) == list(range(100))
        assert len(server.texts_seen(Prepare)) == 2


async def test_unprepared_in_the_middle() -> None:
    async with serving() as server, server.session() as session:
        forgot: set[int] = set()

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return prepared(server, asked.text)
            if asked.number in (10, 11, 12, 40) and asked.number not in forgot:
                forgot.add(asked.number)
                return unprepared(asked)
            return VOID

        server.answer = answer
        done = await session.execute_many(INSERT, [(n,) for n in range(60)], concurrency=8)
        assert done == cql.BulkResult(60, ())
        assert sorted(numbers(server)) == sorted([*range(60), 10, 11, 12, 40])


@pytest.mark.parametrize("options", [{"trace": True}, {"speculation": cql.ConstantSpeculation(1)}])
@pytest.mark.parametrize("batch", [1, 3])
async def test_options_that_take_the_slow_path(options: Any, batch: int) -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server, lambda asked: VOID)
        rows = [(n // 4, n) for n in range(40)]
        done = await session.execute_many(TWO, rows, batch=batch, **options)
        assert done.count == 40
        assert sorted(row for each in batches(server) for row in each) == list(range(40))
        if batch == 3:
            assert sorted(map(len, batches(server))) == [1] * 10 + [3] * 10
        if "trace" in options:
            executed = [each for each in server.seen if not isinstance(each.message, Prepare)]
            assert all(each.tracing for each in executed)


@pytest.mark.parametrize("batch", [1, 3])
async def test_no_rows_are_started_after_one_failure_too_many(batch: int) -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server, lambda asked: VOID)
        taken: list[int] = []

        def rows() -> Iterator[tuple[int, ...]]:
            for number in range(100):
                taken.append(number)
                yield (1, number) if number != 10 else (10,)

        with pytest.raises(cql.BulkError) as info:
            await session.execute_many(TWO, rows(), batch=batch)
        assert info.value.count == 10
        assert len(taken) == 11


async def test_options_reach_each_row() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        using = session.using(consistency="two")
        await using.execute_many(INSERT, [(1,)], timestamp=77, serial_consistency="serial")
        parameters = next(
            each.message.parameters for each in server.seen if isinstance(each.message, Execute)
        )
        assert parameters.consistency is cql.Consistency.TWO
        assert parameters.timestamp == 77
        assert parameters.serial_consistency is cql.Consistency.SERIAL


@dataclasses.dataclass(eq=False)
class Row:
    v0: int


async def test_nothing_is_kept_of_rows_that_have_succeeded() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        alive: weakref.WeakSet[Row] = weakref.WeakSet()
        most = 0

        def rows() -> Iterator[Row]:
            nonlocal most
            for number in range(1000):
                row = Row(number)
                alive.add(row)
                most = max(most, len(alive))
                yield row
                del row

        gc.disable()
        try:
            await session.execute_many(INSERT, rows(), concurrency=20)
            assert most <= 22
            assert len(alive) == 0
        finally:
            gc.enable()


async def test_other_tasks_run_while_a_source_is_always_ready() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        ran = 0
        scope = anyio.CancelScope()

        async def other() -> None:
            nonlocal ran
            with scope:
                while True:
                    await anyio.lowlevel.checkpoint()
                    ran += 1

        bad: list[Any] = [("x",)] * 2000
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            done = await session.execute_many(INSERT, bad, max_errors=2000)
            scope.cancel()
        assert len(done.failures) == 2000
        assert ran > 5


# -- batches


def batches(server: Server) -> list[list[int]]:
    """Return the rows of each request, in order."""
    found = []
    for each in server.seen:
        if isinstance(each.message, Batch):
            cells = [statement.values for statement in each.message.statements]
            found.append([int.from_bytes(values[-1], "big") for values in cells])  # type: ignore[arg-type]  # bytes
        elif isinstance(each.message, Execute):
            found.append([int.from_bytes(each.values[-1], "big")])
    return found


TWO = "INSERT INTO t (k, v) VALUES (?, ?)"


async def test_rows_of_a_partition_that_follow_each_other_are_batched() -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server, lambda asked: VOID)
        keys = [1, 1, 1, 1, 1, 2, 1, 1, 3]
        rows = [(key, number) for number, key in enumerate(keys)]
        told: list[int] = []
        done = await session.execute_many(TWO, rows, batch=3, progress=told.append)
        assert done == cql.BulkResult(9, ())
        assert batches(server) == [[0, 1, 2], [3, 4], [5], [6, 7], [8]]
        assert sum(told) == 9
        await idle(session)


async def test_batches_count_all_their_rows_as_under_way() -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server)
        taken: list[int] = []

        def rows() -> Iterator[tuple[int, int]]:
            for number in range(100):
                taken.append(number)
                yield (1, number)

        async with anyio.create_task_group() as group:
            call = start(group, lambda: session.execute_many(TWO, rows(), batch=4, concurrency=10))
            await server.until(lambda: len(server.asked) == 3)
            await turns(50)
            assert batches(server) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
            assert len(taken) == 10
            while not call.done:
                await replies(server)
        assert call.result.count == 100
        assert [number for batch in batches(server) for number in batch] == taken


async def test_a_batch_does_not_wait_for_a_slow_source() -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server, lambda asked: VOID)
        told: list[int] = []
        more = anyio.Event()

        async def rows() -> AsyncIterator[tuple[int, int]]:
            yield (1, 1)
            yield (1, 2)
            await more.wait()
            yield (1, 3)

        async with anyio.create_task_group() as group:
            call = start(
                group,
                lambda: session.execute_many(TWO, rows(), batch=30, progress=told.append),
            )
            await until(lambda: sum(told) == 2)
            more.set()
        assert call.result.count == 3
        assert batches(server) == [[1, 2], [3]]


async def test_a_refused_batch_is_taken_row_by_row() -> None:
    """One wrong row does not cost the others; neither does a batch that is too large."""
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Batch):
                return error(ErrorCode.INVALID, "Batch too large")
            number = int.from_bytes(asked.values[1], "big")
            return error(ErrorCode.INVALID) if number == 4 else VOID

        server.answer = keyed(server, answer)
        rows: list[Any] = [(1, number) for number in range(10)]
        rows[6] = (1, "six")
        done = await session.execute_many(TWO, rows, batch=5, max_errors=5)
        assert done.count == 8
        assert {failure.index: type(failure.error) for failure in done.failures} == {
            4: cql.InvalidQuery,
            6: cql.ValueConversionError,
        }
        assert all(failure.row is rows[failure.index] for failure in done.failures)
        await idle(session)


async def test_a_batch_that_may_have_been_applied_fails_as_a_whole() -> None:
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Batch):
                return error(
                    ErrorCode.WRITE_TIMEOUT,
                    consistency=cql.Consistency.ONE,
                    received=0,
                    required=1,
                    write_type="UNLOGGED_BATCH",
                )
            return VOID

        server.answer = keyed(server, answer)
        rows = [(1, 0), (1, 1), (1, 2), (2, 3)]
        done = await session.execute_many(TWO, rows, batch=5, max_errors=5)
        assert done.count == 1
        assert [failure.index for failure in done.failures] == [0, 1, 2]
        assert all(isinstance(each.error, cql.WriteTimeout) for each in done.failures)
        assert batches(server) == [[0, 1, 2], [3]]


async def test_an_unprepared_batch_is_sent_again() -> None:
    async with serving() as server, server.session() as session:
        forgot = 0

        def answer(asked: Asked) -> Response:
            nonlocal forgot
            if isinstance(asked.message, Batch) and forgot < 2:
                forgot += 1
                return unprepared(asked)
            return VOID

        server.answer = keyed(server, answer)
        done = await session.execute_many(TWO, [(1, n) for n in range(6)], batch=3)
        assert done == cql.BulkResult(6, ())
        assert forgot == 2


@pytest.mark.parametrize(
    "query",
    [
        "SELECT v FROM t WHERE k = ?",
        "INSERT INTO t (k) VALUES (?) IF NOT EXISTS",
        "UPDATE t SET v = 1 WHERE k = 5",
    ],
)
async def test_statements_that_can_not_be_batched(query: str) -> None:
    async with serving() as server, server.session() as session:
        server.answer = keyed(server, lambda asked: VOID)
        if "5" in query:
            server.answer = preparing(server)
        with pytest.raises(cql.UsageError, match="batch"):
            await session.execute_many(query, [(1,)], batch=2)
        assert batches(server) == []
