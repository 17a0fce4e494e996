"""Results of many rows: collected, streamed, and page by page with tokens, many at a time."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = [pytest.mark.cassandra, pytest.mark.uvloop]

VERSIONS = [ProtocolVersion.V5, ProtocolVersion.V4]
COUNT = 120_000
PARTITIONS = 4
EACH = COUNT // PARTITIONS
MANY = "SELECT part, at FROM many WHERE part IN ?"
PARTS = list(range(PARTITIONS))
EXPECTED = [(part, at) for part in PARTS for at in range(EACH)]
TABLES = (
    "CREATE TABLE IF NOT EXISTS many (part int, at int, even boolean, PRIMARY KEY (part, at))",
    "CREATE TABLE IF NOT EXISTS few (part int, at int, word text, PRIMARY KEY (part, at))",
)
FEW = "SELECT at FROM few WHERE part = ?"


@pytest.fixture(scope="module", params=VERSIONS, ids=["v5", "v4"])
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[cql.Session]:
    config = cql.Config(protocol_version=request.param)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        for statement in TABLES:
            await session.execute(statement)
        if not len(await session.execute("SELECT at FROM many LIMIT 1")):
            await fill(session)
        yield session


async def fill(session: cql.Session) -> None:
    """Write the rows in large batches, each of one partition."""
    insert = await session.prepare("INSERT INTO many (part, at, even) VALUES (?, ?, ?)")
    limit = anyio.CapacityLimiter(4)

    async def write(part: int, start: int) -> None:
        items = [(insert, (part, at, at % 2 == 0)) for at in range(start, start + 1000)]
        async with limit:
            await session.batch(items, kind="unlogged", timeout=30)

    async with anyio.create_task_group() as group:
        for part in PARTS:
            for start in range(0, EACH, 1000):
                group.start_soon(write, part, start)
    for at in range(30):
        word = "kept" if at in (7, 25) else "gone"
        await session.execute("INSERT INTO few (part, at, word) VALUES (0, ?, ?)", (at, word))


# -- all of it


async def test_execute_gives_up_beyond_max_rows(session: cql.Session) -> None:
    with pytest.raises(cql.ResultTooLarge, match=r"max_rows=100,000 rows: stream\(\)"):
        await session.execute(MANY, (PARTS,))


async def test_execute_collects_up_to_max_rows(session: cql.Session) -> None:
    result = await session.execute(MANY, (PARTS,), row=tuple, max_rows=COUNT)
    assert result.rows == EXPECTED
    with pytest.raises(cql.ResultTooLarge):
        await session.execute(MANY, (PARTS,), row=tuple, max_rows=COUNT - 1)


@pytest.mark.parametrize("page_size", [997, 5000, 200_000])
async def test_a_stream_gives_all_in_order(session: cql.Session, page_size: int) -> None:
    pages = session.stream(MANY, (PARTS,), row=tuple, page_size=page_size).pages()
    rows: list[tuple[int, ...]] = []
    async for page in pages:
        assert 0 < len(page) <= page_size
        rows += page
    assert rows == EXPECTED


async def test_a_stream_by_rows(session: cql.Session) -> None:
    rows = [row async for row in session.stream(MANY, (PARTS,), row=tuple)]
    assert rows == EXPECTED
    text = [row async for row in session.stream("SELECT part, at FROM many LIMIT 20000")]
    assert len(text) == len(set(text)) == 20_000


async def test_streams_side_by_side_and_left_early(session: cql.Session) -> None:
    async def read(part: int) -> None:
        rows = []
        async for row in session.stream(MANY, ([part],), row=tuple, page_size=500):
            rows.append(row)
            if len(rows) == 1700 + part:
                break
        assert rows == EXPECTED[part * EACH : part * EACH + 1700 + part]

    async with anyio.create_task_group() as group:
        for _ in range(3):
            for part in PARTS:
                group.start_soon(read, part)
    assert len(await session.execute(MANY + " LIMIT 3", (PARTS,))) == 3


async def test_an_ended_stream_stays_ended(session: cql.Session) -> None:
    stream = session.stream(FEW, (0,), page_size=7, row=tuple)
    assert [at async for (at,) in stream] == list(range(30))
    assert [row async for row in stream] == []
    async with session.stream(FEW, (0,), page_size=7) as early:
        assert (await anext(aiter(early))).at == 0
    with pytest.raises(cql.UsageError, match="closed before its end"):
        await anext(aiter(early))
    both = session.stream(FEW, (0,))
    aiter(both)
    with pytest.raises(cql.UsageError, match="either by rows or by pages"):
        both.pages()


async def test_a_stream_of_nothing(session: cql.Session) -> None:
    assert [row async for row in session.stream(FEW, (99,))] == []
    assert [row async for row in session.stream("DELETE FROM few WHERE part = 99")] == []
    assert [page async for page in session.stream(FEW, (99,)).pages()] == []


# -- pages with tokens


async def test_twenty_pagers_at_once(session: cql.Session) -> None:
    async def page_through(number: int) -> None:
        part = number % PARTITIONS
        size = 1500 + 100 * number
        rows: list[tuple[int, ...]] = []
        token = None
        while True:
            page = await session.page(MANY, ([part],), row=tuple, page_size=size, token=token)
            rows += page.rows
            token = page.next_token
            if token is None:
                break
            assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
        assert rows == EXPECTED[part * EACH : (part + 1) * EACH]

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(page_through, number)


async def test_a_token_is_good_in_another_session(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    first = await session.page(FEW, (0,), page_size=20)
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as other:
        for query in (FEW, await other.prepare(FEW)):
            rest = await other.page(query, (0,), page_size=20, token=first.next_token)
            assert [row.at for row in rest.rows] == list(range(20, 30))
            assert rest.next_token is None
    async with cql.connect(cassandra.host, port=cassandra.port) as elsewhere:
        with pytest.raises(cql.PageTokenMismatch, match="keyspace"):
            qualified = FEW.replace("few", f"{keyspace}.few")
            await elsewhere.page(qualified, (0,), token=first.next_token)


async def test_a_page_of_a_statement_without_rows(session: cql.Session) -> None:
    page = await session.page("INSERT INTO few (part, at) VALUES (98, 1)")
    assert (page.rows, page.next_token, page.columns) == ([], None, ())


async def test_pages_may_be_read_anew_and_out_of_turn(session: cql.Session) -> None:
    tokens: list[str | None] = [None]
    while True:
        page = await session.page(FEW, (0,), page_size=8, token=tokens[-1])
        if page.next_token is None:
            break
        tokens.append(page.next_token)
    found = []
    for token in reversed(tokens):
        page = await session.page(FEW, (0,), page_size=8, token=token)
        found.append([row.at for row in page.rows])
    assert found == [list(range(30))[n : n + 8] for n in (24, 16, 8, 0)]


# -- pages without rows


async def test_pages_that_filtering_empties_are_followed(session: cql.Session) -> None:
    """The page after the last row that was kept is empty."""
    query = "SELECT at FROM few WHERE part = 0 AND word = 'kept' ALLOW FILTERING"
    call = partial(session.execute, query, page_size=1)
    assert [row.at for row in await call()] == [7, 25]
    assert [row.at async for row in session.stream(query, (), page_size=1)] == [7, 25]
    seen: list[int] = []
    sizes: list[int] = []
    token = None
    while True:
        page = await session.page(query, page_size=1, token=token)
        seen += [row.at for row in page.rows]
        sizes.append(len(page.rows))
        token = page.next_token
        if token is None:
            break
    assert seen == [7, 25]
    assert sizes == [1, 1, 0]


async def test_groups_over_many_pages(session: cql.Session) -> None:
    query = "SELECT part, count(*) AS n FROM many GROUP BY part"
    rows = await session.execute(query, row=tuple, page_size=3000)
    assert sorted(rows) == [(part, EACH) for part in PARTS]


async def test_tombstones_between_rows(session: cql.Session) -> None:
    insert = "INSERT INTO few (part, at) VALUES (50, ?)"
    for at in range(60):
        await session.execute(insert, (at,))
    await session.execute("DELETE FROM few WHERE part = 50 AND at > 4 AND at < 55")
    rows = [row.at async for row in session.stream(FEW, (50,), page_size=2)]
    assert rows == [0, 1, 2, 3, 4, 55, 56, 57, 58, 59]
    assert [row.at for row in await session.execute(FEW, (50,), page_size=3)] == rows
    await session.execute("DELETE FROM few WHERE part = 50")
    assert len(await session.execute(FEW, (50,), page_size=2)) == 0


async def test_rows_change_between_pages(session: cql.Session) -> None:
    """A page begins where the last one ended, whatever has happened before that place."""
    for at in range(10):
        await session.execute("INSERT INTO few (part, at) VALUES (60, ?)", (at,))
    first = await session.page(FEW, (60,), page_size=4)
    await session.execute("DELETE FROM few WHERE part = 60 AND at < 4")
    await session.execute("INSERT INTO few (part, at) VALUES (60, 10)")
    rest = await session.page(FEW, (60,), page_size=100, token=first.next_token)
    assert [row.at for row in rest.rows] == list(range(4, 11))


async def test_the_deadline_of_execute_covers_all_pages(session: cql.Session) -> None:
    with pytest.raises(cql.RequestTimeout) as info:
        await session.execute(MANY, (PARTS,), max_rows=COUNT, page_size=10, timeout=0.3)
    assert "0.3 s" in str(info.value)
    assert info.value.maybe_applied is False
    assert len(await session.execute(FEW, (0,))) == 30
