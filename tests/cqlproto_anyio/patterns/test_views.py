"""Views: edits that race, are lost, late, or end in the middle; what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import uuid
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    InvalidInput,
    OutcomeUnknown,
    Rebuilt,
    RecordExists,
    RecordNotFound,
    Table,
    ViewDifference,
    Views,
)
from tests.cqlproto_anyio.patterns.cells import Cells

COLUMNS = {"id": "int", "author": "text", "title": "text", "body": "text", "tags": "set<text>"}
POSTS = Table("posts", key=["id"], columns=COLUMNS)
BY_AUTHOR = Table("by_author", key=["author"], clustering=["title desc"])
BY_TAG = Table("by_tag", key=["tag"], each={"tag": "tags"}, columns=["title"])
BY_TAG_ALONE = Table("by_tag", key=["tag"], each={"tag": "tags"}, columns=[])


def server() -> Cells:
    return Cells(posts=("id",), by_author=("author", "title", "id"), by_tag=("tag", "id"))


def define(executor: Any, *views: Table, base: Table = POSTS) -> Views:
    return Views(executor, keyspace="blog", base=base, views=views or (BY_AUTHOR, BY_TAG))


def wrong(cells: Cells) -> list[str]:
    """Compare the views with the base table, as an outsider."""
    found = []
    authors, tags = set(), set()
    for row in cells.rows("posts"):
        assert not row.get("views_deleted"), "a deleted row is still there"
        author, title, body = (row.get(name) for name in ("author", "title", "body"))
        if author is not None and title is not None:
            authors.add((author, title, row["id"], body, frozenset(row.get("tags") or ())))
        for tag in row.get("tags") or ():
            tags.add((tag, row["id"], title))
    actual = {
        (r["author"], r["title"], r["id"], r.get("body"), frozenset(r.get("tags") or ()))
        for r in cells.rows("by_author")
    }
    found += [f"by_author has {each}" for each in actual - authors]
    found += [f"by_author lacks {each}" for each in authors - actual]
    tagged = {(r["tag"], r["id"], r.get("title")) for r in cells.rows("by_tag")}
    found += [f"by_tag has {each}" for each in tagged - tags]
    found += [f"by_tag lacks {each}" for each in tags - tagged]
    return found


def post(id: int = 1, **values: Any) -> dict[str, Any]:
    return {"id": id, "author": "ann", "title": "Tea", "tags": {"a", "b"}, **values}


async def test_what_edits_cost() -> None:
    cells = server()
    views = define(cells)
    await views.create(post())
    assert (cells.lwts, len(cells.asked)) == (1, 3)
    (_, _, batch) = cells.asked
    assert batch.options["timestamp"] == cells.clock - 1
    assert batch.options["idempotent"] is True
    assert "kind" not in batch.options  # logged
    assert len(batch.statements) == 4
    cells.asked.clear()
    await views.update(1, {"body": "Hot"})
    assert (cells.lwts, len(cells.asked)) == (1, 4)
    assert len(cells.asked[-1].statements) == 2  # by_tag doesn't have the body
    cells.asked.clear()
    await views.update(1, {"tags": {"b", "c"}})
    texts = [text.split()[0] for text, _ in cells.asked[-1].statements]
    assert sorted(texts) == ["DELETE", "INSERT", "INSERT", "UPDATE"]
    cells.asked.clear()
    assert await views.delete(1)
    assert (cells.lwts, len(cells.asked)) == (2, 5)
    assert wrong(cells) == []
    assert cells.rows("posts") == cells.rows("by_author") == cells.rows("by_tag") == []


async def test_rows_come_and_go_with_what_they_are_made_of() -> None:
    cells = server()
    views = define(cells)
    await views.create({"id": 1})
    assert cells.rows("by_author") == cells.rows("by_tag") == []
    steps: list[dict[str, Any]] = [
        {"author": "ann"},
        {"title": "Tea", "tags": ["a", "a", "b"]},
        {"tags": set()},
        {"author": ""},  # no partition key of a server
        {"author": "bob", "tags": {"b"}},
        {"title": None},
    ]
    for changes in steps:
        await views.update(1, changes)
        if changes != {"author": ""}:
            assert wrong(cells) == []
    assert await views.get(1) == {
        "id": 1,
        "author": "bob",
        "title": None,
        "body": None,
        "tags": {"b"},
    }


@dataclasses.dataclass
class Post:
    id: int
    author: str | None = None
    title: str | None = None
    body: str | None = None
    tags: Any = None


async def test_a_dataclass_is_a_row() -> None:
    cells = server()
    views = define(cells)
    await views.create(Post(1, "ann", "Tea", body=cql.UNSET, tags={"a"}))  # type: ignore[arg-type]
    assert wrong(cells) == []
    assert len(cells.rows("by_tag")) == 1


async def test_what_exists_and_what_does_not() -> None:
    cells = server()
    views = define(cells)
    await views.create(post())
    with pytest.raises(RecordExists) as info:
        await views.create(post(title="Coffee"))
    assert (info.value.table, info.value.key) == ('"blog"."posts"', (1,))
    assert info.value.existing["title"] == "Tea"
    assert set(info.value.existing) == set(COLUMNS)
    with pytest.raises(RecordNotFound) as missing:
        await views.update(2, {"title": "Coffee"})
    assert (missing.value.table, missing.value.key) == ('"blog"."posts"', (2,))
    assert not await views.delete(2)
    assert await views.get(2) is None
    assert wrong(cells) == []


@pytest.mark.parametrize("programs", [1, 3])
async def test_concurrent_edits_leave_the_views_equal(programs: int) -> None:
    """Also deletions and creations; requests overlap."""
    cells = server()
    cells.delay = 0.01
    views = [define(cells) for _ in range(programs)]
    await views[0].create(post())

    async def edit(number: int) -> None:
        mine = views[number % programs]
        tags = {f"t{number % 3}", f"t{number % 5}", "all"}
        for changes in ({"tags": tags}, {"author": f"a{number % 4}", "title": f"v{number}"}):
            try:
                await mine.update(1, changes)
            except RecordNotFound:
                with contextlib.suppress(RecordExists):
                    await mine.create(post(tags=tags))
        if number % 4 == 0:
            await mine.delete(1)

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(edit, number)
    assert wrong(cells) == []


async def naive_update(cells: Cells, title: str, tags: set[str]) -> None:
    """Read the row, then write the differences by one batch."""
    ((_, old),) = [(1, row) for row in cells.rows("posts")]
    await anyio.sleep(0.01)
    items: list[Any] = [
        ("DELETE FROM by_tag WHERE tag = :tag AND id = :id", {"tag": tag, "id": 1})
        for tag in old["tags"] - tags
    ]
    items += [
        ("INSERT INTO by_tag (tag, id, title) VALUES (:t, :id, :l)", {"t": t, "id": 1, "l": title})
        for t in tags
    ]
    values = {"title": title, "tags": tags, "id": 1}
    items.append(("UPDATE posts SET title = :title, tags = :tags WHERE id = :id", values))
    await cells.batch(items)


async def test_naive_edits_leave_stale_rows() -> None:
    cells = server()
    await define(cells, BY_TAG).create(post())
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(naive_update, cells, f"v{number}", {f"t{number}"})
    assert len(cells.rows("by_tag")) > 1


FAULTS = st.sampled_from(["reply", "request", "late", None])


@given(st.lists(FAULTS, max_size=14), st.integers(0, 2**32))
async def test_no_fault_leaves_views_wrong(faults: list[str | None], seed: int) -> None:
    """Whoever comes next finishes what was left, and what comes late changes nothing."""
    chance = random.Random(seed)
    cells = server()
    cells.faults = list(faults)
    views = define(cells)

    async def attempt(call: Any) -> None:
        with contextlib.suppress(RecordExists, RecordNotFound, OutcomeUnknown, cql.ConnectionLost):
            await call

    for number in range(6):
        kind = chance.choice(["create", "update", "update", "delete"])
        values: dict[str, Any] = {
            "author": chance.choice("xyz"),
            "tags": set(chance.sample("abcd", 2)),
        }
        if kind == "create":
            await attempt(views.create(post(**values, title=f"v{number}")))
        elif kind == "update":
            await attempt(views.update(1, {**values, "title": f"v{number}"}))
        else:
            await attempt(views.delete(1))
        if chance.random() < 0.3:
            cells.deliver()
    cells.deliver()
    cells.faults.clear()
    await attempt(define(cells).update(1, {"body": "last"}))
    assert wrong(cells) == []


@pytest.mark.parametrize("after", range(9))
async def test_a_call_that_is_cancelled_anywhere(after: int) -> None:
    """The next edit finds the views as they should be, or brings them in step."""
    for kind in ("create", "update", "delete"):
        cells = server()
        views = define(cells)
        if kind != "create":
            await views.create(post())
        cells.delay = 0.1
        with anyio.move_on_after(after * 0.1 - 0.05 if after else 0):
            if kind == "create":
                await views.create(post())
            elif kind == "update":
                await views.update(1, {"author": "bob", "tags": {"c"}})
            else:
                await views.delete(1)
        assert len(views._edits._turns._locks) == 0
        cells.delay = 0
        if wrong_before := [row for row in cells.rows("posts") if row.get("views_deleted")]:
            assert kind == "delete", wrong_before
        try:
            await define(cells).update(1, {"body": "next"})
        except RecordNotFound:
            assert kind != "update"
        assert wrong(cells) == []


async def test_a_program_that_dies_before_its_batch() -> None:
    cells = server()
    views = define(cells)
    await views.create(post())
    cells.faults = [None, *["request"] * 5]
    with pytest.raises(cql.ConnectionLost):
        await views.update(1, {"author": "bob", "tags": {"c"}})
    assert wrong(cells) != []
    report = await views.verify()
    assert (report.ok, report.checked) == (False, 1)
    assert {each.kind for each in report.differences} == {"missing", "stale"}
    await define(cells).update(1, {"body": "x"})
    assert wrong(cells) == []


async def test_a_program_that_dies_while_it_deletes() -> None:
    """Rebuilding any view ends the deletion."""
    cells = server()
    views = define(cells)
    await views.create(post())
    cells.faults = [None, *["request"] * 5]
    with pytest.raises(cql.ConnectionLost):
        await views.delete(1)
    assert await views.get(1) is None
    report = await views.verify()
    assert (report.checked, report.missing, report.stale) == (1, 0, 3)
    assert (await views.rebuild("by_author")).written == 0
    assert cells.rows("posts") == cells.rows("by_author") == cells.rows("by_tag") == []


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
async def test_a_creation_without_an_answer(fault: str) -> None:
    cells = server()
    cells.faults = [fault]
    views = define(cells)
    async with anyio.create_task_group() as group:
        group.start_soon(views.create, post())
        await anyio.sleep(3)
        assert (await views.get(1) is None) == (fault != "reply")
        await anyio.sleep(1)
        cells.deliver()
    assert wrong(cells) == []
    assert len(cells.rows("posts")) == 1
    with pytest.raises(RecordExists):
        await views.create(post())


async def test_a_creation_that_comes_after_it_was_sent_again() -> None:
    """Its own row is in the way of the second copy."""
    cells = server()
    cells.faults = ["late"]
    answer = cells.answer

    def delivering(request: Any) -> Any:
        if request.conditional and cells.late:
            cells.deliver()
        return answer(request)

    cells.answer = delivering
    await define(cells).create(post())
    assert wrong(cells) == []


async def test_an_edit_whose_mark_was_overwritten_is_unknown() -> None:
    cells = server()
    views = define(cells)
    await views.create(post())
    cells.faults = ["reply"]
    answer = cells.answer

    async def overtaken(request: Any) -> Any:
        found = answer(request)
        got = await found
        if isinstance(got, cql.ConnectionLost):
            cells.answer = answer
            for number in range(2):
                await define(cells).update(1, {"title": f"other {number}"})
        return got

    cells.answer = overtaken
    with pytest.raises(OutcomeUnknown) as info:
        await views.update(1, {"title": "mine"})
    assert isinstance(info.value.__cause__, cql.ConnectionLost)
    assert wrong(cells) == []


async def test_verify_and_rebuild() -> None:
    cells = server()
    views = define(cells)
    for id in range(1, 6):
        await views.create(post(id, title=f"t{id}"))
    assert await views.verify() == dataclasses.replace(await views.verify(), checked=5)
    cells.hand("DELETE FROM by_tag WHERE tag = :tag AND id = :id", tag="a", id=2)
    insert = "INSERT INTO by_tag (tag, id, title) VALUES (:tag, :id, :title)"
    cells.hand(insert, tag="old", id=9, title="gone")
    cells.hand(insert, tag="b", id=3, title="other")
    cells.hand("INSERT INTO by_tag (tag, id) VALUES (:tag, :id)", tag="z", id=1)
    report = await views.verify()
    assert (report.ok, report.checked, report.missing, report.stale) == (False, 5, 1, 3)
    assert sorted(report.differences, key=repr) == [
        ViewDifference("by_tag", "different", {"tag": "b", "id": 3}),
        ViewDifference("by_tag", "missing", {"tag": "a", "id": 2}),
        ViewDifference("by_tag", "stale", {"tag": "old", "id": 9}),
        ViewDifference("by_tag", "stale", {"tag": "z", "id": 1}),
    ]
    assert (await views.verify("by_author")).ok
    assert len((await views.verify(limit=2)).differences) == 2
    assert await views.rebuild("by_author") == Rebuilt("by_author", 0, 0)
    assert await views.rebuild("by_tag") == Rebuilt("by_tag", 2, 2)
    assert wrong(cells) == []
    assert (await views.verify()).ok


async def test_rebuild_spares_what_is_added_while_it_removes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row of a key alone doesn't tell when it was written."""
    cells = Cells(posts=("id",), by_tag=("tag", "id"))
    monkeypatch.setattr("cqlproto_anyio.patterns.views.time.time_ns", lambda: cells.clock * 1000)
    views = define(cells, BY_TAG_ALONE)
    await views.create({"id": 1, "tags": {"a"}})
    cells.hand("INSERT INTO by_tag (tag, id) VALUES (:tag, :id)", tag="b", id=1)
    cells.hand("INSERT INTO by_tag (tag, id) VALUES (:tag, :id)", tag="c", id=1)
    answer, adding = cells.answer, True

    async def meanwhile(request: Any) -> Any:
        nonlocal adding
        if adding and request.text.startswith("SELECT") and request.values.get("k0") == "b":
            adding = False
            await define(cells, BY_TAG_ALONE).update(1, {"tags": {"a", "b"}})
        return await answer(request)

    cells.answer = meanwhile
    await views.rebuild("by_tag")
    assert not adding
    assert sorted(row["tag"] for row in cells.rows("by_tag")) == ["a", "b"]


async def test_rows_of_an_older_program_are_adopted() -> None:
    """They have no mark of an edit; a row that is deleted meanwhile isn't revived."""
    cells = server()
    views = define(cells)
    insert = "INSERT INTO posts (id, author, title, tags) VALUES (:id, :author, :title, :tags)"
    for id in (1, 2, 3):
        cells.hand(insert, **post(id))
    assert (await views.rebuild("by_tag")).written == 6
    assert wrong(cells) == []
    for id in (4, 5):
        cells.hand(insert, **post(id))
    await views.update(4, {"tags": {"c"}})
    assert await views.delete(5)
    assert [row["id"] for row in cells.rows("posts")] == [1, 2, 3, 4]
    assert await views.rebuild("by_author") == Rebuilt("by_author", 0, 0)
    assert wrong(cells) == []
    cells.hand(insert, **post(6))
    cells.answer = _deleting(cells, 6)
    with pytest.raises(RecordNotFound):
        await views.update(6, {"title": "ghost"})
    assert [row["id"] for row in cells.rows("posts")] == [1, 2, 3, 4]


def _deleting(cells: Cells, id: int) -> Any:
    """Return an answer that deletes a row before the first conditional request."""
    answer = cells.answer

    def deleting(request: Any) -> Any:
        if request.conditional:
            cells.answer = answer
            cells.hand("DELETE FROM posts WHERE id = :id", id=id)
        return answer(request)

    return deleting


async def test_batches_that_are_too_large_are_refused() -> None:
    cells = server()
    views = define(cells)
    with pytest.raises(InvalidInput, match="a batch of all its views has"):
        await views.create(post(body="x" * 50_000))
    with pytest.raises(InvalidInput, match="45,000 fit"):
        await views.create(post(tags={f"tag {number}" for number in range(400)}))
    assert cells.asked == []
    await views.create(post(tags={f"tag {number}" for number in range(100)}))
    with pytest.raises(InvalidInput, match="smaller"):
        await views.update(1, {"body": "x" * 40_000})
    assert cells.lwts == 1
    assert wrong(cells) == []


WRONG_TABLES: list[tuple[str, Any]] = [
    ("author_name", Table("v", key=["author_name"])),
    ("v.*body_html", Table("v", key=["title"], columns=["body_html"])),
    ("title", Table("v", key=["letter"], each={"letter": "title"})),
    ("tags", Table("v", key=["author"], each={"author": "tags"})),
    ("sideways", Table("v", key=["author"], clustering=["title sideways"])),
    ("key", Table("v", key=[])),
    ("key", Table("v", key=["author", "author"])),
    ("table", Table("v; DROP TABLE posts", key=["author"])),
    ("posts", Table("posts", key=["author"])),
]


@pytest.mark.parametrize(("match", "view"), WRONG_TABLES)
def test_wrong_views(match: str, view: Table) -> None:
    with pytest.raises(InvalidInput, match=match):
        define(server(), view)


WRONG_BASES: list[tuple[str, Any]] = [
    ("columns", Table("posts", key=["id"])),
    ("columns", Table("posts", key=["id"], columns=["id"])),
    ("bookkeeping", Table("posts", key=["id"], columns={"id": "int", "views_edit": "uuid"})),
    ("CQL type", Table("posts", key=["id"], columns={"id": "int", "a": "address"})),
    ("copied", Table("posts", key=["id"], columns={"id": "int", "n": "counter"})),
    ("column", Table("posts", key=["id"], columns={"id": "int", 'a"': "int"})),
    ("id", Table("posts", key=["id"], columns={"a": "int"})),
    ("keyspace", None),
]


@pytest.mark.parametrize(("match", "base"), WRONG_BASES)
def test_wrong_bases(match: str, base: Table | None) -> None:
    with pytest.raises(InvalidInput, match=match):
        keyspace = "blog" if base else "a b"
        Views(server(), keyspace=keyspace, base=base or POSTS, views=[BY_AUTHOR])


def test_two_views_of_one_name() -> None:
    with pytest.raises(InvalidInput, match="by_author"):
        define(server(), BY_AUTHOR, BY_AUTHOR)


async def test_wrong_calls() -> None:
    cells = server()
    views = define(cells)
    calls: list[tuple[Any, Any, str]] = [
        (1, {}, "changes"),
        (1, [], "changes"),
        (1, {"id": 2}, "id"),
        (1, {"stars": 5}, "stars"),
        (1, {"title": 5}, "title"),
        ((1, 2), {"title": "x"}, "key"),
        ({"ids": 1}, {"title": "x"}, "key"),
        (None, {"title": "x"}, "key"),
        ("x", {"title": "x"}, "id"),
    ]
    for key, changes, match in calls:
        with pytest.raises(InvalidInput, match=match):
            await views.update(key, changes)
    rows: list[tuple[Any, str]] = [
        ({"title": "no id"}, "id"),
        ({"id": None}, "id"),
        ({"id": 1, "stars": 5}, "stars"),
        ({"id": 1, "tags": 5}, "tags"),
        (7, "row"),
        (Post, "row"),
    ]
    for row, match in rows:
        with pytest.raises(InvalidInput, match=match):
            await views.create(row)
    with pytest.raises(InvalidInput, match="by_reader"):
        await views.rebuild("by_reader")
    with pytest.raises(InvalidInput, match="by_reader"):
        await views.verify("by_reader")
    with pytest.raises(InvalidInput, match="limit"):
        await views.verify(limit=0)
    assert cells.asked == []


def test_the_tables() -> None:
    posts, by_author, by_tag = define(server()).schema_cql()
    assert posts.endswith('"views_done" uuid, PRIMARY KEY (("id")))')
    assert by_author == (
        'CREATE TABLE IF NOT EXISTS "blog"."by_author" ("author" text, "title" text, "id" int,'
        ' "body" text, "tags" set<text>, PRIMARY KEY (("author"), "title", "id"))'
        ' WITH CLUSTERING ORDER BY ("title" DESC, "id" ASC)'
    )
    assert by_tag == (
        'CREATE TABLE IF NOT EXISTS "blog"."by_tag" ("tag" text, "id" int, "title" text,'
        ' PRIMARY KEY (("tag"), "id"))'
    )


async def test_keys_of_several_columns() -> None:
    base = Table("posts", key=["blog"], clustering=["id"], columns={"blog": "text", **COLUMNS})
    cells = Cells(posts=("blog", "id"), by_author=("author", "blog", "id"))
    views = define(cells, Table("by_author", key=["author"], columns=[]), base=base)
    await views.create({"blog": "b", "id": 1, "author": "ann"})
    await views.update(("b", 1), {"author": "bob"})
    await views.update({"id": 1, "blog": "b"}, {"title": "x"})
    assert cells.rows("by_author") == [{"author": "bob", "blog": "b", "id": 1}]
    cells.hand(
        "INSERT INTO by_author (author, blog, id) VALUES (:a, :b, :i)",
        a="x",
        b=str(uuid.uuid4()),
        i=1,
    )
    assert await views.rebuild("by_author") == Rebuilt("by_author", 0, 1)
    assert await views.delete(("b", 1))
