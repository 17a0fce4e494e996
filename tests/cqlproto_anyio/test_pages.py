"""Results of many pages: read at once, page by page, and as a stream."""

from __future__ import annotations

import gc
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Column, Prepare, ResultMetadata, Rows
from cqlproto_anyio._eventloop._asyncio_socket import SocketStream
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio.testing._memory import MemoryStream
from tests.support import server as scripted
from tests.support.replies import (
    V4,
    cell,
    columns,
    echo,
    error,
    ints,
    prepared,
    rows_of,
    unprepared,
)
from tests.support.server import IDLE, Server, idle, losses, serving, state, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response
    from tests.support.server import Asked

pytestmark = pytest.mark.usefixtures("each_version")


SELECT = "SELECT v FROM t WHERE k = ?"
ROWS = [0, 1, 2, 3, 4, 5, 6]


def paged(server: Server, *pages: list[int]) -> Callable[[Asked], Response | None]:
    """Answer with these pages; each has the number of the next one as its paging state."""

    def answer(asked: Asked) -> Response:
        if isinstance(asked.message, Prepare):
            return prepared(server, asked.text)
        number = int(asked.state or b"0")
        last = number + 1 == len(pages)
        return ints(*pages[number], state=None if last else b"%d" % (number + 1))

    return answer


def states(server: Server) -> list[bytes | None]:
    return [asked.state for asked in server.seen if not isinstance(asked.message, Prepare)]


async def test_execute_follows_pages_also_empty_ones() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0, 1, 2], [], [], [3], [4, 5, 6], [])
        for _ in range(2):
            calls: list[Any] = [
                lambda: session.execute(SELECT, (1,)),
                lambda: session.execute("SELECT v FROM t"),
            ]
            for call in calls:
                result = await call()
                assert [row.v for row in result] == ROWS
        assert states(server)[:6] == [None, b"1", b"2", b"3", b"4", b"5"]
        assert len(server.seen) == 4 * 6 + 1
        assert state(session) == IDLE


@pytest.mark.parametrize("pages", [[[0, 1, 2, 3, 4]], [[0, 1], [2, 3], [4], [5]], [[0], [1] * 9]])
async def test_too_many_rows(pages: list[list[int]]) -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, *pages)
        for _ in range(2):  # the second time it is prepared
            with pytest.raises(cql.ResultTooLarge, match="max_rows=4"):
                await session.execute(SELECT, (1,), max_rows=4)
        total = sum(map(len, pages))
        result = await session.execute(SELECT, (1,), max_rows=total)
        assert len(result) == total
        assert len([row async for row in session.stream(SELECT, (1,), max_rows=1)]) == total


async def test_pages_and_their_tokens() -> None:
    async with serving() as server, server.session(keyspace="shop") as session:
        server.answer = paged(server, [0, 1, 2], [], [3, 4])
        found, token = [], None
        while True:
            page = await session.page(SELECT, (1,), token=token, page_size=3)
            found.append([row.v for row in page])
            token = page.next_token
            if token is None:
                break
        assert found == [[0, 1, 2], [], [3, 4]]
        first = await session.page(SELECT, (1,))
        assert first.next_token is not None
        calls: list[Any] = [
            lambda: session.page(SELECT, (2,), token=first.next_token),
            lambda: session.page(SELECT + " ", (1,), token=first.next_token),
            lambda: session.page(SELECT, (1,), token=f"{first.next_token}A"),
            lambda: session.page(SELECT, (1,), token=""),
        ]
        for call in calls:
            before = len(states(server))
            with pytest.raises(cql.PageTokenMismatch):
                await call()
            assert before == len(states(server))
        with pytest.raises(TypeError, match="token is a bytes"):
            await session.page(SELECT, (1,), token=b"abc")  # type: ignore[call-overload]
        other = cql.connect("node", config=server.config(), keyspace="other")
        async with other as another:
            with pytest.raises(cql.PageTokenMismatch):
                await another.page(SELECT, (1,), token=first.next_token)
        again = await session.page(SELECT, (1,), token=first.next_token)
        assert [row.v for row in again] == []


async def test_a_stream_asks_one_page_ahead_and_no_more() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0, 1], [2, 3], [4, 5], [6])
        stream = session.stream(SELECT, (1,))
        await turns()
        assert states(server) == []
        assert (await anext(stream)).v == 0
        await until(lambda: states(server) == [None, b"1"])
        await turns(30)
        assert states(server) == [None, b"1"]
        assert (await anext(stream)).v == 1
        await turns(30)
        assert states(server) == [None, b"1"]
        assert (await anext(stream)).v == 2
        await until(lambda: states(server) == [None, b"1", b"2"])
        assert [row.v async for row in stream] == [3, 4, 5, 6]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert state(session) == IDLE


async def test_a_stream_by_pages_passes_over_empty_ones() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [], [0, 1], [], [], [2], [])
        pages = [[row.v for row in page] async for page in session.stream(SELECT, (1,)).pages()]
        assert pages == [[0, 1], [2]]
        rows = [row.v async for row in session.stream("SELECT v FROM t")]
        assert rows == [0, 1, 2]
        server.answer = paged(server, [])
        assert [row async for row in session.stream(SELECT, (1,))] == []
        server.answer = lambda asked: VOID
        assert [row async for row in session.stream("INSERT INTO t (k) VALUES (1)")] == []


async def test_leaving_a_stream_early_leaves_nothing_behind() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0, 1], [2, 3], [4])
        async for row in session.stream(SELECT, (1,)):
            if row.v == 1:
                break
        await idle(session)
        assert states(server) == [None, b"1"]


async def test_a_stream_is_closed_with_a_page_on_its_way() -> None:
    async with serving() as server, server.session() as session:
        answer = paged(server, [0, 1], [2, 3])
        server.answer = lambda asked: None if asked.state else answer(asked)
        async with session.stream("SELECT v FROM t") as stream:
            assert (await anext(stream)).v == 0
            asked = await server.next()
            assert state(session).deadlines == 1
        assert state(session)[:4] == (1, 1, 0, 0)
        for _ in range(2):
            with pytest.raises(cql.UsageError, match="the stream was closed"):
                await anext(stream)
            await stream.aclose()
        asked.reply(ints(2, 3))
        await idle(session)
        unused = session.stream("SELECT v FROM t")
        await unused.aclose()
        with pytest.raises(cql.UsageError, match="the stream was closed"):
            await anext(unused)
        async with session.stream("SELECT v FROM t", page_size=1) as stream:
            server.answer = paged(server, [0], [1])
            assert [row.v async for row in stream] == [0, 1]
        assert [row async for row in stream] == []


async def test_a_stream_is_closed_while_another_task_waits_for_it() -> None:
    async with serving() as server, server.session() as session:
        full = paged(server, [0, 1], [2, 3])
        server.answer = lambda asked: None if asked.state else full(asked)
        stream = session.stream(SELECT, (1,), row=tuple)
        assert [await anext(stream), await anext(stream)] == [(0,), (1,)]

        async def wait() -> None:
            with pytest.raises(cql.UsageError, match="the stream was closed"):
                await anext(stream)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await turns()
            await stream.aclose()
        with pytest.raises(cql.UsageError, match="the stream was closed"):
            await anext(stream)
        (asked,) = server.asked
        asked.reply(ints(2, 3))
        await idle(session)


async def test_an_error_in_mid_stream_comes_after_the_rows_before_it_and_stays() -> None:
    async with serving() as server, server.session() as session:
        answer = paged(server, [0, 1], [2], [3])
        server.answer = lambda asked: (
            error(ErrorCode.SERVER_ERROR, "lost a disk") if asked.state == b"2" else answer(asked)
        )
        stream = session.stream("SELECT v FROM t")
        seen = []
        lines = set()
        for _ in range(3):
            with pytest.raises(cql.ServerError, match="lost a disk") as info:
                async for row in stream:
                    seen.append(row.v)  # noqa: PERF401  # what came before the error is the point
            lines.add(len(info.traceback))
        assert seen == [0, 1, 2]
        assert len(lines) <= 2  # the traceback doesn't grow each time
        await stream.aclose()
        with pytest.raises(cql.ServerError, match="lost a disk"):
            await anext(stream)
        assert state(session) == IDLE


async def test_a_connection_lost_in_mid_stream() -> None:
    async with serving() as server, server.session() as session:
        answer = paged(server, [0, 1], [2], [3])
        server.answer = lambda asked: None if asked.state else answer(asked)
        stream = session.stream("SELECT v FROM t")
        assert (await anext(stream)).v == 0
        (await server.next()).peer.close()
        assert (await anext(stream)).v == 1
        for _ in range(2):
            with pytest.raises(cql.ConnectionLost) as info:
                await anext(stream)
            assert info.value.maybe_applied is False


async def test_a_stream_goes_on_when_the_connection_was_lost_between_pages() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0], [1], [2])
        stream = session.stream("SELECT v FROM t")
        assert (await anext(stream)).v == 0
        await idle(session)
        server.peers[0].close()
        await until(lambda: losses(session))
        # page 1 is here; page 2 can't be requested ahead, so it is requested when it is read
        assert [row.v async for row in stream] == [1, 2]
        assert len(server.peers) == 2


async def test_the_timeout_is_of_each_page() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0], [1], [2], [3])
        stream = session.stream(SELECT, (1,), timeout=0.5)
        await anyio.sleep(0.55)  # the stream hasn't begun
        seen = []
        async for row in stream:
            seen.append(row.v)
            if row.v < 3:
                await anyio.sleep(0.28)
        assert seen == [0, 1, 2, 3]
        answer = paged(server, [0], [1])
        server.answer = lambda asked: None if asked.state else answer(asked)
        stream = session.stream("SELECT v FROM t", timeout=0.2)
        assert (await anext(stream)).v == 0
        with pytest.raises(cql.RequestTimeout):
            await anext(stream)


async def test_a_slow_reader_and_a_server_that_forgot() -> None:
    """A request that is sent again for a page has a new deadline."""
    async with serving() as server, server.session() as session:
        answer = paged(server, [0], [1], [2])
        forgotten = False

        def forgetting(asked: Asked) -> Response | None:
            nonlocal forgotten
            if asked.state == b"1" and not forgotten:
                forgotten = True
                return unprepared(asked)
            return answer(asked)

        server.answer = forgetting
        seen = []
        async for row in session.stream(SELECT, (1,), timeout=0.5):
            seen.append(row.v)
            if row.v < 2:
                await anyio.sleep(0.55)
        assert seen == [0, 1, 2]
        assert forgotten


async def test_a_slow_reader_and_a_connection_that_was_lost() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0], [1], [2])
        stream = session.stream("SELECT v FROM t", timeout=0.5)
        assert (await anext(stream)).v == 0
        await idle(session)
        server.peers[0].close()
        await until(lambda: losses(session))
        assert (await anext(stream)).v == 1
        await anyio.sleep(0.55)
        assert (await anext(stream)).v == 2


async def test_rows_without_their_columns_are_the_servers_mistake() -> None:
    metadata = ResultMetadata.of([Column("k", "t", "v", NATIVE_TYPES["int"])], V4)
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: Rows.of(metadata, 1, cell(1), skip_metadata=True)
        stream = session.stream("SELECT v FROM t")
        calls: list[Any] = [
            lambda: session.execute("SELECT v FROM t"),
            lambda: session.page("SELECT v FROM t"),
            lambda: anext(stream),
            lambda: session.batch(["INSERT INTO t (k) VALUES (1)"]),
        ]
        for call in calls:
            with pytest.raises(cql.RemoteProtocolError, match="omitted column metadata"):
                await call()
        await idle(session)


async def test_a_page_that_is_no_rows() -> None:
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: VOID if asked.state else ints(1, state=b"1")
        first = await session.page("SELECT v FROM t")
        stream = session.stream("SELECT v FROM t")
        assert (await anext(stream)).v == 1
        calls: list[Any] = [
            lambda: session.execute("SELECT v FROM t"),
            lambda: session.page("SELECT v FROM t", token=first.next_token),
            lambda: anext(stream),
            lambda: anext(stream),
        ]
        for call in calls:
            with pytest.raises(cql.RemoteProtocolError, match="Void came"):
                await call()
        await idle(session)


async def test_the_failure_of_the_first_page_stays() -> None:
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: error(ErrorCode.INVALID, "no such table")
        for query, parameters in [(SELECT, (1,)), ("SELECT v FROM t", None)]:
            stream = session.stream(query, parameters)
            for _ in range(2):
                with pytest.raises(cql.InvalidQuery, match="no such table"):
                    await anext(stream)
        server.answer = paged(server, [0])
        stream = session.stream(SELECT, ("no number",))
        for _ in range(2):
            with pytest.raises(cql.ValueConversionError):
                await anext(stream)
        assert state(session) == IDLE


@pytest.mark.parametrize("by", ["rows", "pages"])
@pytest.mark.parametrize("stage", ["prepare", "first", "ahead", "fetched"])
async def test_a_stream_whose_page_was_cancelled_does_not_end(by: str, stage: str) -> None:
    async with serving() as server, server.session() as session:
        full = paged(server, [0], [1], [2])

        def answer(asked: Asked) -> Response | None:
            if stage == "prepare":
                return None
            if isinstance(asked.message, Prepare) or stage == "fetched":
                return full(asked)
            return None if stage == "first" or asked.state else full(asked)

        server.answer = answer
        stream: Any = session.stream(SELECT, (1,))
        if by == "pages":
            stream = stream.pages()
        if stage in ("ahead", "fetched"):
            await anext(stream)
            if stage == "fetched":
                await idle(session)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(anext, stream)
                if stage != "fetched":
                    await server.until(lambda: server.asked)
                scope.cancel()
        assert scope.cancelled_caught
        for _ in range(2):
            with pytest.raises(cql.UsageError, match="reading a page was cancelled"):
                await anext(stream)
        for asked in server.asked:
            asked.reply(full(asked) or VOID)
        await idle(session)


@pytest.mark.parametrize("by", ["rows", "pages"])
async def test_a_stream_is_read_by_one_task_at_a_time(by: str) -> None:
    async with serving() as server, server.session() as session:
        full = paged(server, [0], [1])
        server.answer = lambda asked: None if asked.state else full(asked)
        stream: Any = session.stream("SELECT v FROM t")
        if by == "pages":
            stream = stream.pages()
        await anext(stream)
        seen = []

        async def read() -> None:
            seen.extend([row async for row in stream])

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await turns()
            with pytest.raises(cql.UsageError, match="one task at a time"):
                await anext(stream)
            asked = await server.next()
            asked.reply(full(asked) or VOID)
        assert len(seen) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_page_that_can_not_be_decoded_is_not_passed_over() -> None:
    made = []

    class Picky:
        def __init__(self, v: int) -> None:
            made.append(v)
            if v == 1:
                raise StopAsyncIteration

    async with serving() as server, server.session() as session:
        full = paged(server, [0], [1], [2])
        server.answer = full
        for by in ("rows", "pages"):
            made.clear()
            stream: Any = session.stream("SELECT v FROM t", row=Picky)
            if by == "pages":
                stream = stream.pages()
            await anext(stream)
            for _ in range(2):
                with pytest.raises(cql.RowMappingError):
                    await anext(stream)
            assert made == [0, 1]
            await idle(session)
        # the page after it is under way, unanswered
        server.answer = lambda asked: None if asked.state == b"2" else full(asked)
        stream = session.stream("SELECT v FROM t", row=Picky)
        await anext(stream)
        with pytest.raises(cql.RowMappingError):
            await anext(stream)
        (await server.next()).reply(ints(2))
        await idle(session)


@pytest.mark.parametrize("when", ["preparing", "waiting"])
async def test_a_stream_that_is_closed_before_its_first_page(when: str) -> None:
    async with serving() as server, server.session() as session:
        full = paged(server, [0], [1])
        server.answer = lambda asked: None
        stream = session.stream(SELECT, (1,))
        if when == "waiting":
            server.answer = lambda asked: (
                full(asked) if isinstance(asked.message, Prepare) else None
            )

        async def wait() -> None:
            with pytest.raises(cql.UsageError, match="the stream was closed"):
                await anext(stream)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            asked = await server.next()
            await stream.aclose()
            server.answer = full
            asked.reply(full(asked) or VOID)
        with pytest.raises(cql.UsageError, match="the stream was closed"):
            await anext(stream)
        await idle(session)


async def test_rows_or_pages_but_not_both() -> None:
    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0], [1])
        stream = session.stream("SELECT v FROM t")
        async for _ in stream:
            break
        with pytest.raises(cql.UsageError, match="either by rows or by pages"):
            stream.pages()
        stream = session.stream("SELECT v FROM t")
        stream.pages()
        with pytest.raises(cql.UsageError, match="either by rows or by pages"):
            aiter(stream)


async def test_rows_that_do_not_fit_their_class() -> None:
    class Odd:
        def __init__(self, other: int) -> None:
            self.other = other

    async with serving() as server, server.session() as session:
        server.answer = paged(server, [0], [1])
        calls: list[Any] = [
            lambda: session.execute("SELECT v FROM t", row=Odd),
            lambda: session.page("SELECT v FROM t", row=Odd),
            lambda: anext(session.stream("SELECT v FROM t", row=Odd)),
        ]
        for call in calls:
            with pytest.raises(cql.RowMappingError):
                await call()
            await idle(session)


async def test_what_comes_with_a_reply() -> None:
    trace = uuid.uuid4()
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> None:
            if isinstance(asked.message, Prepare):
                asked.reply(prepared(server, asked.text))
            elif asked.tracing:
                asked.reply(ints(1), tracing_id=trace, warnings=["slow"], payload={"a": b"b"})
            else:
                asked.reply(VOID, warnings=["many", "tombstones"], payload=asked.payload)

        async def replied() -> None:
            while True:
                answer(await server.next())

        async with anyio.create_task_group() as group:
            group.start_soon(replied)
            for _ in range(2):
                for query, parameters in [(SELECT, (1,)), ("SELECT v FROM t", None)]:
                    result = await session.execute(query, parameters, trace=True)
                    assert result.tracing_id == trace
                    assert list(result.warnings) == ["slow"]
                    assert result.payload == {"a": b"b"}
                    assert result.host == "node:9042"
                    page = await session.page(query, parameters, trace=True)
                    assert (page.tracing_id, list(page.warnings)) == (trace, ["slow"])
            plain = await session.execute(SELECT, (1,))
            assert (plain.tracing_id, list(plain.warnings)) == (None, ["many", "tombstones"])
            assert plain.payload is None
            paid = await session.execute(SELECT, (1,), payload={"x": b"y"})
            assert paid.payload == {"x": b"y"}
            batch = await session.batch(["INSERT INTO t (k) VALUES (1)"], payload={"x": b"z"})
            assert batch.payload == {"x": b"z"}
            assert list(batch.warnings) == ["many", "tombstones"]
            group.cancel_scope.cancel()


async def test_applied_and_existing() -> None:
    insert = "INSERT INTO t (k) VALUES (?) IF NOT EXISTS"
    async with serving() as server, server.session() as session:
        flag = Column("ks", "t", "[applied]", NATIVE_TYPES["boolean"])
        yes, no = b"\0\0\0\x01\x01", b"\0\0\0\x01\0"
        applied = Rows.of(ResultMetadata.of([flag], V4), 1, yes)
        refused = Rows.of(ResultMetadata.of([flag, *columns("k")], V4), 1, no + cell(7))
        for reply, was in [(applied, True), (refused, False)] * 2:
            server.answer = lambda asked, reply=reply: (  # type: ignore[misc]  # a lambda with a default
                prepared(server, asked.text) if isinstance(asked.message, Prepare) else reply
            )
            result = await session.execute(insert, (7,))
            assert result.applied is was
            assert result.existing == (None if was else {"k": 7})
        server.answer = echo(server)
        with pytest.raises(cql.ResultError):
            _ = (await session.execute(SELECT, (1,))).applied
        nothing = rows_of(columns("v"), [])
        server.answer = lambda asked: nothing
        assert (await session.execute("SELECT v FROM t")).first() is None


@pytest.mark.parametrize("verb", ["stream", "execute"])
async def test_the_next_page_is_asked_for_before_this_one_is_decoded(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    write, send = SocketStream.write, MemoryStream.send

    def writes(stream: SocketStream, data: bytes) -> None:
        happened.append("asked")
        write(stream, data)

    async def sends(stream: MemoryStream, data: bytes) -> None:
        if stream in server.clients and not scripted.pushes:
            happened.append("asked")
        await send(stream, data)

    class Seen:
        def __init__(self, v: int) -> None:
            happened.append(f"row {v}")

    # before the session exists: the transfer looks these up once
    monkeypatch.setattr(SocketStream, "write", writes)
    monkeypatch.setattr(MemoryStream, "send", sends)
    if current_backend().name == "trio":
        monkeypatch.setattr(scripted, "pushes", False)
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: ints(
            *range(4), state=None if asked.state == b"last" else b"last"
        )
        happened.clear()
        if verb == "execute":
            assert len(await session.execute("SELECT v FROM t", row=Seen)) == 8
        else:
            assert len([row async for row in session.stream("SELECT v FROM t", row=Seen)]) == 8
        rows = [f"row {number}" for number in range(4)]
        assert happened == ["asked", "asked", *rows, *rows]


async def test_cancelled_while_the_next_page_is_asked_for() -> None:
    """A page that was received then must not be skipped silently."""
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: ints(1, state=b"more")
        for turns_ahead in range(30):
            stream = session.stream("SELECT v FROM t")
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def stop(scope: anyio.CancelScope, count: int) -> None:
                        await turns(count)
                        scope.cancel()

                    group.start_soon(stop, scope, turns_ahead)
                    seen = [(await anext(stream)).v for _ in range(3)]
                    group.cancel_scope.cancel()
            if scope.cancelled_caught:
                for _ in range(2):
                    with pytest.raises(cql.UsageError, match="was cancelled"):
                        await anext(stream)
            else:
                assert seen == [1, 1, 1]
            await stream.aclose()
            await idle(session)


async def test_a_column_that_is_called_applied_in_a_select() -> None:
    """The column is the user's; only the statement decides whether there is an outcome."""
    described = columns("[applied]", "w")
    pages = [[(1, 2), (3, 4)], [], [(5, 6)]]
    query = 'SELECT v AS "[applied]", w FROM t WHERE k = ?'
    async with serving() as server, server.session() as session:

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return prepared(server, asked.text, described)
            number = int(asked.state or b"0")
            state = None if number == 2 or "LIMIT" in asked.text else b"%d" % (number + 1)
            return rows_of(described, pages[number], state)

        server.answer = answer
        everything = [(1, 2), (3, 4), (5, 6)]
        calls: list[tuple[str, tuple[int, ...] | None]] = [(query, (1,))] * 2
        for text, values in [*calls, (query.replace("?", "1"), None)]:
            result = await session.execute(text, values)
            assert [tuple(row) for row in result] == everything
            with pytest.raises(cql.ResultError, match=r"no \[applied\]"):
                _ = result.applied
            with pytest.raises(cql.ResultError, match=r"no \[applied\]"):
                _ = result.existing
            with pytest.raises(cql.ResultTooLarge):
                await session.execute(text, values, max_rows=2)
            assert [tuple(row) async for row in session.stream(text, values)] == everything
            short = await session.execute(f"{text} LIMIT 2", values, row=dict)
            assert short.first() == {"[applied]": 1, "w": 2}
            with pytest.raises(cql.ResultTooLarge):
                await session.execute(f"{text} LIMIT 2", values, max_rows=1)

            class Fits:
                def __init__(self, w: int) -> None:
                    self.w = w

            class Misfits:
                def __init__(self, x: int) -> None:
                    pass

            assert [row.w for row in await session.execute(text, values, row=Fits)] == [2, 4, 6]
            with pytest.raises(cql.RowMappingError, match="no column for x"):
                await session.execute(text, values, row=Misfits)


async def test_rows_of_a_batch_without_conditions_tell_no_outcome() -> None:
    async with serving() as server, server.session() as session:
        server.answer = lambda asked: rows_of(columns("[applied]"), [(1,)])
        result = await session.batch(["INSERT INTO t (k) VALUES (1)"])
        with pytest.raises(cql.ResultError):
            _ = result.applied
        result = await session.batch(["INSERT INTO t (k) VALUES (1) IF NOT EXISTS"])
        assert result.applied
        server.answer = lambda asked: rows_of(columns("v"), [(1,)])
        result = await session.batch(["INSERT INTO t (k) VALUES (1) IF NOT EXISTS"])
        with pytest.raises(cql.ResultError):
            _ = result.applied
        result = await session.execute("INSERT INTO t (k) VALUES (1) IF NOT EXISTS")
        assert result.first() == (1,)
        with pytest.raises(cql.ResultError):
            _ = result.applied


async def test_a_class_that_refuses_the_row_of_a_conditional_statement() -> None:
    """The write was applied, and the error says so."""

    class Refusing:
        def __init__(self, k: int = 0, **columns: Any) -> None:
            raise ValueError("no")

    flag = Column("ks", "t", "[applied]", NATIVE_TYPES["boolean"])
    metadata = ResultMetadata.of([flag, *columns("k")], V4)
    insert = "INSERT INTO t (k) VALUES (1) IF NOT EXISTS"
    async with serving() as server, server.session() as session:
        for applied in (True, False):
            reply = Rows.of(metadata, 1, b"\0\0\0\x01" + bytes([applied]) + cell(7))
            server.answer = lambda asked, reply=reply: reply  # type: ignore[misc]  # a lambda with a default
            with pytest.raises(cql.RowMappingError, match="ValueError: no") as info:
                await session.execute(insert, row=Refusing)
            assert info.value.maybe_applied is applied
        server.answer = lambda asked: Rows.of(ResultMetadata.of([flag], V4), 1, b"\0\0\0\x01\x01")
        result = await session.execute(insert, row=Refusing)
        assert (result.applied, result.rows) == (True, [])


TRACES = [uuid.UUID(int=number + 1) for number in range(3)]


def noted(server: Server, *, fails_at: int | None = None) -> Callable[[Asked], Response | None]:
    """Answer with three pages, the second one empty, each with warnings, a trace and a payload."""
    full = paged(server, [0, 1], [], [2])

    def answer(asked: Asked) -> Response | None:
        reply = full(asked)
        assert reply is not None
        if isinstance(asked.message, Prepare):
            return reply
        number = int(asked.state or b"0")
        if number == fails_at:
            reply = error(ErrorCode.INVALID)
        asked.reply(
            reply,
            warnings=[f"warning {number}", "same"],
            tracing_id=TRACES[number] if asked.tracing else None,
            payload={"page": b"%d" % number},
        )
        return None

    return answer


WARNINGS = ["warning 0", "same", "warning 1", "same", "warning 2", "same"]
CALLS = [(SELECT, (1,)), (SELECT, (1,)), ("SELECT v FROM t", None)]


class Finished(cql.Hooks):
    def __init__(self) -> None:
        self.records: list[cql.RequestRecord] = []

    def request_finished(self, record: cql.RequestRecord) -> None:
        self.records.append(record)


@pytest.mark.parametrize("observed", [False, True])
async def test_what_comes_with_all_pages(observed: bool) -> None:
    hooks = Finished() if observed else None
    async with serving() as server, server.session(hooks=hooks) as session:
        server.answer = noted(server)
        for query, parameters in CALLS:
            for trace in (True, False):
                result = await session.execute(query, parameters, trace=trace)
                assert [row.v for row in result] == [0, 1, 2]
                assert list(result.warnings) == WARNINGS
                traces = tuple(TRACES) if trace else ()
                assert result.tracing_ids == traces
                assert result.tracing_id == (TRACES[0] if trace else None)
                assert result.payload == {"page": b"0"}
                if hooks is not None:
                    record = hooks.records[-1]
                    assert list(record.warnings) == WARNINGS
                    assert record.tracing_ids == traces
                    assert record.tracing_id == result.tracing_id
        page = await session.page(SELECT, (1,), trace=True)
        assert (list(page.warnings), page.tracing_ids) == (WARNINGS[:2], (TRACES[0],))
        page = await session.page(SELECT, (1,), token=page.next_token)
        assert (list(page.warnings), page.tracing_ids) == (WARNINGS[2:4], ())
        batch = await session.batch(["INSERT INTO t (k) VALUES (1)"], trace=True)
        assert batch.tracing_ids == (TRACES[0],)


@pytest.mark.parametrize("observed", [False, True])
async def test_what_a_stream_tells_beside_its_rows(observed: bool) -> None:
    hooks = Finished() if observed else None
    async with serving() as server, server.session(hooks=hooks) as session:
        server.answer = noted(server)
        for query, parameters in CALLS:
            stream = session.stream(query, parameters, trace=True)
            assert (stream.columns, stream.column_types) == ((), ())
            assert (stream.warnings, stream.tracing_ids) == ((), ())
            assert (await anext(stream)).v == 0
            await turns()  # the page requested ahead is not counted
            assert (stream.columns, stream.column_types) == (("v",), ("int",))
            assert list(stream.warnings) == WARNINGS[:2]
            assert stream.tracing_ids == tuple(TRACES[:1])
            assert [row.v async for row in stream] == [1, 2]
            assert list(stream.warnings) == WARNINGS
            assert stream.tracing_ids == tuple(TRACES)
            pages = session.stream(query, parameters).pages()
            assert [len(page) async for page in pages] == [2, 1]
            assert (pages.columns, list(pages.warnings)) == (("v",), WARNINGS)
            assert (pages.column_types, pages.tracing_ids) == (("int",), ())
            if hooks is not None:
                told = [record.warnings for record in hooks.records[-3:]]
                assert [text for each in told for text in each] == WARNINGS
        server.answer = lambda asked: asked.reply(VOID, warnings=["odd"])
        stream = session.stream("INSERT INTO t (k) VALUES (1)")
        assert [row async for row in stream] == []
        assert (stream.columns, list(stream.warnings)) == ((), ["odd"])


@pytest.mark.parametrize("observed", [False, True])
async def test_what_comes_with_an_error(observed: bool) -> None:
    hooks = Finished() if observed else None
    async with serving() as server, server.session(hooks=hooks) as session:
        for page in (0, 2):
            server.answer = noted(server, fails_at=page)
            for query, parameters in CALLS:
                with pytest.raises(cql.InvalidQuery) as info:
                    await session.execute(query, parameters, trace=True)
                assert info.value.warnings == [f"warning {page}", "same"]
                assert info.value.tracing_id == TRACES[page]
                if hooks is not None:
                    record = hooks.records[-1]
                    assert record.warnings == [f"warning {page}", "same"]
                    assert record.tracing_ids == (TRACES[page],)
        server.answer = lambda asked: error(ErrorCode.INVALID)
        with pytest.raises(cql.InvalidQuery) as other:
            await session.execute("SELECT v FROM t")
        assert (other.value.warnings, other.value.tracing_id) == ((), None)


async def test_a_stream_keeps_no_reply_that_it_has_decoded() -> None:
    """The rows are the program's. Of the replies, only that of the next page may be in memory."""
    values = range(0x5EED_0000, 0x5EED_0005)  # which no other reply in this process has

    def replies() -> list[int]:
        found = [message for message in gc.get_objects() if type(message) is Rows]
        return [value for each in found if (value := int.from_bytes(each.body[-4:])) in values]

    async with serving() as server, server.session() as session:
        server.answer = paged(server, *([value] for value in values))
        stream = session.stream(SELECT, (1,)).pages()
        for value in values:
            assert [row.v for row in await anext(stream)] == [value]
            await idle(session)  # the next page is here
            assert replies() == [value + 1][: value + 1 in values]
