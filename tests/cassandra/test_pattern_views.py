"""Views on a real node: edits that race, programs that die in the middle, and the naive version."""

from __future__ import annotations

import contextlib
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    OutcomeUnknown,
    RecordExists,
    RecordNotFound,
    SchemaMismatch,
    Table,
    Views,
)
from cqlproto_anyio.testing import Drop, FaultProxy, Rule, Stall
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import (
    FAULTS,
    PATIENCE,
    Counting,
    connected,
    in_other_process,
    killed_process,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cqlproto_anyio.testing import Side
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

POSTS = Table(
    "posts",
    key=["id"],
    columns={
        "id": "text",
        "author": "text",
        "created": "timestamp",
        "title": "text",
        "tags": "set<text>",
    },
)
BY_AUTHOR = Table("posts_by_author", key=["author"], clustering=["title desc", "id"])
BY_TAG = Table("posts_by_tag", key=["tag"], each={"tag": "tags"}, columns=["title"])


def define(session: cql.Session, keyspace: str) -> Views:
    return Views(session, keyspace=keyspace, base=POSTS, views=[BY_AUTHOR, BY_TAG])


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    nothing: Any = None
    for statement in define(nothing, keyspace).schema_cql():
        cassandra.cql(statement)


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def fresh() -> str:
    return uuid.uuid4().hex


async def wrong(session: cql.Session, *ids: str) -> list[str]:
    """Compare the rows of some posts in the views with the base table, as an outsider."""
    base = (await session.execute("SELECT id, author, title, tags FROM posts")).rows
    rows = {row.id: row for row in base if row.id in ids}
    authors = {(row.author, row.title, id, frozenset(row.tags or ())) for id, row in rows.items()}
    tags = {(tag, id, row.title) for id, row in rows.items() for tag in row.tags or ()}
    by_author = (await session.execute("SELECT author, title, id, tags FROM posts_by_author")).rows
    by_tag = (await session.execute("SELECT tag, id, title FROM posts_by_tag")).rows
    has_authors = {(a, t, id, frozenset(tags or ())) for a, t, id, tags in by_author if id in ids}
    has_tags = {tuple(row) for row in by_tag if row.id in ids}
    return [f"{each}" for each in (authors ^ has_authors) | (tags ^ has_tags)]


async def edit(session: cql.Session, keyspace: str, id: str, numbers: list[int]) -> None:
    """Edit one post, one edit after the other, with a deletion now and then."""
    views = define(session, keyspace)
    for number in numbers:
        tags = {f"t{number % 3}", f"t{number % 7}"}
        values = {"author": f"a{number % 4}", "title": f"v{number}", "tags": tags}
        try:
            await views.update(id, values)
        except RecordNotFound:
            with contextlib.suppress(RecordExists):
                await views.create({"id": id, **values})
        if number % 10 == 9:
            await views.delete(id)


async def edit_with_five(session: cql.Session, keyspace: str, id: str) -> None:
    """Edit one post with five tasks of objects of their own: the second process of a race."""
    edits: list[Any] = [partial(edit, session, keyspace, id, [n, n + 5, n + 10]) for n in range(5)]
    await all_of(edits)


async def test_concurrent_edits_and_a_second_process(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    id = fresh()
    await define(session, keyspace).create({"id": id, "author": "a", "title": "v", "tags": {"t"}})
    other = partial(in_other_process, edit_with_five, cassandra, keyspace, id)
    mine: list[Any] = [partial(edit, session, keyspace, id, [n, n + 6, n + 12]) for n in range(6)]
    await all_of([*mine, other])
    assert await wrong(session, id) == []


async def test_naive_edits_leave_stale_rows(session: cql.Session, keyspace: str) -> None:
    """Read the row, then write the differences by one logged batch."""
    id = fresh()
    await define(session, keyspace).create({"id": id, "author": "a", "title": "v", "tags": {"t"}})

    async def naive(number: int) -> None:
        row = (await session.execute("SELECT title, tags FROM posts WHERE id = ?", (id,))).first()
        assert row is not None
        tag = f"naive {number}"
        await session.batch(
            [
                *[
                    ("DELETE FROM posts_by_tag WHERE tag = ? AND id = ?", (old, id))
                    for old in row.tags
                    if old != tag
                ],
                (
                    "INSERT INTO posts_by_tag (tag, id, title) VALUES (?, ?, ?)",
                    (tag, id, row.title),
                ),
                ("UPDATE posts SET tags = ? WHERE id = ?", ({tag}, id)),
            ]
        )

    await all_of([partial(naive, number) for number in range(20)])
    assert await wrong(session, id) != []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=2)
@given(
    lists=st.lists(
        st.lists(st.sampled_from([*FAULTS, None]), min_size=1, max_size=4), min_size=2, max_size=2
    )
)
def test_no_fault_leaves_views_wrong(
    cassandra: Node, keyspace: str, backend: str, lists: list[list[str | None]]
) -> None:
    """Writers with bad networks of their own; conditional writes and batches are lost, or late."""
    id = fresh()
    ignored = (RecordExists, RecordNotFound, OutcomeUnknown, cql.CQLError)

    async def writer(faults: list[str | None]) -> None:
        profile = cql.Profile(timeout=PATIENCE)
        async with FaultProxy(cassandra.host, cassandra.port) as proxy:
            for number, name in enumerate(faults):
                if name is not None:
                    fault, side = FAULTS[name]()
                    for opcode, statement in (("EXECUTE", "% IF %"), ("BATCH", None)):
                        proxy.add(
                            Rule(
                                fault,
                                side=side,
                                opcode=opcode,
                                statement=statement,
                                skip=number,
                                times=1,
                            )
                        )
            async with cql.connect(
                proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
            ) as session:
                for number in range(3):
                    with contextlib.suppress(*ignored):
                        await edit(session, keyspace, id, [number * 3])

    async def run() -> None:
        async with connected(cassandra, keyspace) as session:
            views = define(session, keyspace)
            await views.create({"id": id, "author": "a", "title": "v", "tags": {"t"}})
            await all_of([partial(writer, faults) for faults in lists])
            if any("the request is late" in faults for faults in lists):
                await anyio.sleep(1.6)  # it has arrived by now
            try:
                await views.update(id, {"title": "last"})
            except RecordNotFound:
                await views.create({"id": id, "author": "a", "title": "last", "tags": {"t"}})
            assert await wrong(session, id) == []

    anyio.run(run, backend=backend)


async def edit_until_killed(
    session: cql.Session, keyspace: str, port: int, side: Side, ids: list[str]
) -> None:
    """Edit posts, each through a proxy of its own that holds back its batch, or the reply to it."""
    await all_of([partial(edit_through_a_stall, keyspace, port, side, id) for id in ids])


async def edit_through_a_stall(keyspace: str, port: int, side: Side, id: str) -> None:
    async with FaultProxy("127.0.0.1", port) as proxy:
        proxy.add(Rule(Stall(), side=side, opcode="BATCH"))
        async with cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as session:
            await define(session, keyspace).update(id, {"author": "killed", "tags": {"killed"}})


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_program_that_is_killed_in_mid_batch(
    session: cql.Session, cassandra: Node, keyspace: str, side: str
) -> None:
    """The base table has the edits; the views get them by the next edit, or by rebuild."""
    edited, rebuilt, views = fresh(), fresh(), define(session, keyspace)
    for id in (edited, rebuilt):
        await views.create({"id": id, "author": "ann", "title": "v", "tags": {"t"}})
    told = cassandra.port, side, [edited, rebuilt]
    state = "SELECT author, views_edit, views_done FROM posts WHERE id IN (?, ?)"
    async with killed_process(edit_until_killed, cassandra, keyspace, *told):
        with anyio.fail_after(30):
            while True:
                rows = (await session.execute(state, (edited, rebuilt))).rows
                done = {row.views_edit == row.views_done for row in rows}
                if {row.author for row in rows} == {"killed"} and done == {side == "reply"}:
                    break
                await anyio.sleep(0.02)
    assert (await wrong(session, edited, rebuilt) == []) == (side == "reply")
    if side == "request":
        report = await views.verify()
        assert {each.key["id"] for each in report.differences} >= {edited, rebuilt}
    await views.update(edited, {"title": "next"})
    for view in ("posts_by_author", "posts_by_tag"):
        await views.rebuild(view)
    assert await wrong(session, edited, rebuilt) == []


async def test_a_naive_edit_that_is_cut_is_never_finished(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """Update the base table, then the view by the difference to what the table had."""
    id = fresh()
    await define(session, keyspace).create({"id": id, "author": "a", "title": "v", "tags": {"t"}})

    async def naive(session: cql.Session, tag: str) -> None:
        row = (await session.execute("SELECT title, tags FROM posts WHERE id = ?", (id,))).first()
        assert row is not None
        await session.execute("UPDATE posts SET tags = ? WHERE id = ?", ({tag}, id))
        insert = "INSERT INTO posts_by_tag (tag, id, title) VALUES (?, ?, ?)"
        await session.execute(insert, (tag, id, row.title))
        for old in row.tags:
            await session.execute("DELETE FROM posts_by_tag WHERE tag = ? AND id = ?", (old, id))

    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        proxy.add(Rule(Drop(connection=True), side="request", statement="INSERT %", times=1))
        async with cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as cut:
            with pytest.raises(cql.ConnectionLost):
                await naive(cut, "u")
    await naive(session, "w")
    left = [each for each in await wrong(session, id) if "'t'" in each]
    assert left != []


@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01])
async def test_a_call_that_is_cancelled(session: cql.Session, keyspace: str, delay: float) -> None:
    id, views = fresh(), define(session, keyspace)
    await views.create({"id": id, "author": "ann", "title": "v", "tags": {"t"}})
    with anyio.move_on_after(delay):
        await views.update(id, {"author": "bob", "tags": {"u"}})
    with anyio.move_on_after(delay):
        await views.delete(id)
    await anyio.sleep(0.1)  # what was sent has arrived
    with contextlib.suppress(RecordNotFound):
        await views.update(id, {"title": "next"})
    assert await wrong(session, id) == []


async def test_what_edits_cost(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        id, views = fresh(), define(session, keyspace)

        def spent() -> tuple[int, int, int]:
            lwts = sum(" IF " in each.query for each in counting.records)
            batches = sum(each.verb == "batch" for each in counting.records)
            found = lwts, batches, counting.reads
            counting.records.clear()
            return found

        await views.create({"id": id, "author": "ann", "title": "v", "tags": {"t"}})
        assert spent() == (1, 1, 1)
        await views.update(id, {"tags": {"u"}})
        assert spent() == (1, 1, 2)
        await views.delete(id)
        assert spent() == (2, 1, 2)


async def test_large_batches_are_accepted_up_to_the_limit(
    session: cql.Session, keyspace: str
) -> None:
    """The recipe refuses a batch before the server would."""
    views = define(session, keyspace)
    for size, count in ((20, 200), (10_000, 3), (30_000, 1)):
        id, tags = fresh(), 0
        while True:
            row = {"id": id, "author": "ann", "title": "x" * size, "tags": set()}
            try:
                await views.create({**row, "tags": {f"tag {n}" for n in range(tags)}})
            except cql.UsageError:
                break
            await views.delete(id)
            tags += count
        assert tags > 0


async def test_rebuild_beside_edits(session: cql.Session, keyspace: str) -> None:
    """Rows of an older program, without views, are adopted while others edit."""
    ids = [fresh() for _ in range(10)]
    insert = "INSERT INTO posts (id, author, title, tags) VALUES (?, 'old', 'old', {'old'})"
    for id in ids:
        await session.execute(insert, (id,))
    views = define(session, keyspace)
    edits: list[Any] = [partial(edit, session, keyspace, id, [1, 9]) for id in ids[:5]]
    await all_of(
        [*edits, *(partial(views.rebuild, v) for v in ("posts_by_author", "posts_by_tag"))]
    )
    for view in ("posts_by_author", "posts_by_tag"):
        await views.rebuild(view)
    assert await wrong(session, *ids) == []
    assert (await views.verify()).ok


async def test_a_table_of_another_shape(session: cql.Session, keyspace: str) -> None:
    await session.execute("CREATE TABLE IF NOT EXISTS plain (id text PRIMARY KEY, author text)")
    columns = {"id": "text", "author": "text"}
    base = Table("plain", key=["id"], columns=columns)
    view = Table("plain_by_author", key=["author"])
    with pytest.raises(SchemaMismatch) as info:
        await Views(session, keyspace=keyspace, base=base, views=[view]).create_schema()
    assert (info.value.column, info.value.actual) == ("views_created", None)
