"""Denormalised views as applications use them: a blog's posts, by author and by tag."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import RecordExists, RecordNotFound, Table, ViewDifference, Views

pytestmark = pytest.mark.cassandra

NOON = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
POSTS = Table(
    "posts",
    key=["id"],
    columns={
        "id": "uuid",
        "author": "text",
        "created": "timestamp",
        "title": "text",
        "body": "text",
        "tags": "set<text>",
    },
)
BY_AUTHOR = Table("posts_by_author", key=["author"], clustering=["created desc", "id"])
BY_TAG = Table("posts_by_tag", key=["tag"], each={"tag": "tags"}, columns=["title", "author"])


@dataclasses.dataclass
class Post:
    author: str
    title: str
    tags: set[str]
    created: datetime.datetime = NOON
    body: str | None = None
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)


@pytest.fixture
async def views(session: cql.Session, keyspace: str) -> Views:
    views = Views(session, keyspace=keyspace, base=POSTS, views=[BY_AUTHOR, BY_TAG])
    await views.create_schema()
    for table in ("posts", "posts_by_author", "posts_by_tag"):
        await session.execute(f"TRUNCATE {table}")
    return views


async def by_author(session: cql.Session, author: str) -> list[str]:
    query = "SELECT title FROM posts_by_author WHERE author = ?"
    return (await session.execute(query, (author,))).scalars()


async def by_tag(session: cql.Session, tag: str) -> list[str]:
    query = "SELECT title FROM posts_by_tag WHERE tag = ?"
    return sorted((await session.execute(query, (tag,))).scalars())


async def test_a_post_is_written_edited_and_deleted(session: cql.Session, views: Views) -> None:
    tea = Post("ann", "On tea", {"tea", "food"})
    await views.create(tea)
    await views.create(Post("ann", "On cups", {"cups"}, NOON + datetime.timedelta(hours=1)))
    assert await by_author(session, "ann") == ["On cups", "On tea"]
    assert await by_tag(session, "tea") == ["On tea"]

    await views.update(tea.id, {"title": "On green tea", "tags": {"tea", "green"}})
    assert await by_tag(session, "food") == []
    assert await by_tag(session, "tea") == ["On green tea"]
    assert await by_tag(session, "green") == ["On green tea"]
    await views.update({"id": tea.id}, {"author": "bob"})
    assert await by_author(session, "ann") == ["On cups"]
    assert await by_author(session, "bob") == ["On green tea"]
    await views.update((tea.id,), {"body": "Hot.", "tags": None})
    assert await by_tag(session, "tea") == []
    assert await views.get(tea.id) == {
        "id": tea.id,
        "author": "bob",
        "created": NOON,
        "title": "On green tea",
        "body": "Hot.",
        "tags": None,
    }
    assert (await views.verify()).ok

    assert await views.delete(tea.id) is True
    assert await views.delete(tea.id) is False
    assert await views.get(tea.id) is None
    assert await by_author(session, "bob") == []


async def test_what_is_there_and_what_is_not(session: cql.Session, views: Views) -> None:
    post = Post("ann", "Once", {"a"})
    await views.create(dataclasses.asdict(post))
    with pytest.raises(RecordExists) as exists:
        await views.create(dataclasses.replace(post, title="Twice"))
    assert exists.value.key == (post.id,)
    assert exists.value.existing["title"] == "Once"
    assert "posts" in exists.value.table
    nobody = uuid.uuid4()
    with pytest.raises(RecordNotFound) as missing:
        await views.update(nobody, {"title": "Ghost"})
    assert missing.value.key == (nobody,)
    assert await views.get(nobody) is None
    assert await by_author(session, "ann") == ["Once"]


async def test_two_editors_of_one_post(session: cql.Session, views: Views) -> None:
    post = Post("ann", "Draft", {"t0"})
    await views.create(post)

    async def edit(number: int) -> None:
        await views.update(post.id, {"title": f"v{number}", "tags": {f"t{number}", "all"}})

    async with anyio.create_task_group() as group:
        for number in range(1, 7):
            group.start_soon(edit, number)
    row = await views.get(post.id)
    assert row is not None
    assert await by_author(session, "ann") == [row["title"]]
    assert await by_tag(session, "all") == [row["title"]]
    tagged = [n for n in range(7) if await by_tag(session, f"t{n}")]
    assert {f"t{n}" for n in tagged} == row["tags"] - {"all"}
    report = await views.verify()
    assert (report.ok, report.checked, report.differences) == (True, 1, ())


async def test_an_old_import_that_left_the_views_wrong(session: cql.Session, views: Views) -> None:
    """verify says which rows are wrong, rebuild makes them right."""
    kept, lost = Post("ann", "Kept", {"x", "y"}), Post("bob", "Lost", {"x"})
    await views.create(kept)
    await views.create(lost)
    await session.execute("DELETE FROM posts_by_tag WHERE tag = 'x' AND id = ?", (lost.id,))
    stranger = uuid.uuid4()
    await session.execute(
        "INSERT INTO posts_by_tag (tag, id, title) VALUES ('old', ?, 'Stale')", (stranger,)
    )
    report = await views.verify()
    assert not report.ok
    assert (report.checked, report.missing, report.stale) == (2, 1, 1)
    assert sorted(report.differences, key=lambda each: each.kind) == [
        ViewDifference("posts_by_tag", "missing", {"tag": "x", "id": lost.id}),
        ViewDifference("posts_by_tag", "stale", {"tag": "old", "id": stranger}),
    ]
    assert (await views.verify("posts_by_author")).ok
    assert len((await views.verify(limit=1)).differences) == 1

    rebuilt = await views.rebuild("posts_by_tag")
    assert (rebuilt.view, rebuilt.removed) == ("posts_by_tag", 1)
    assert rebuilt.written >= 1
    assert (await views.verify()).ok
    assert await by_tag(session, "x") == ["Kept", "Lost"]
    assert await by_tag(session, "old") == []


async def test_a_schema_for_review(session: cql.Session, keyspace: str) -> None:
    views = Views(session, keyspace=keyspace, base=POSTS, views=[BY_AUTHOR, BY_TAG])
    statements = views.schema_cql()
    assert len(statements) >= 3
    for statement in statements:
        await session.execute(statement)
    await views.create_schema()


def define(session: cql.Session, base: Table, *views: Table) -> Views:
    return Views(session, keyspace="blog", base=base, views=views)


async def test_wrong_definitions_are_refused(session: cql.Session, views: Views) -> None:
    with pytest.raises(cql.UsageError, match="writer"):
        define(session, POSTS, Table("by_writer", key=["writer"]))
    with pytest.raises(cql.UsageError, match="posts_by_title.*body_html"):
        define(session, POSTS, Table("posts_by_title", key=["title"], columns=["body_html"]))
    with pytest.raises(cql.UsageError, match="columns"):
        define(session, Table("posts", key=["id"]))
    with pytest.raises(cql.UsageError, match="title"):
        define(session, POSTS, Table("by_letter", key=["letter"], each={"letter": "title"}))
    with pytest.raises(cql.UsageError, match="sideways"):
        define(session, POSTS, Table("v", key=["author"], clustering=["created sideways"]))
    with pytest.raises(cql.UsageError, match="posts_by_author"):
        define(session, POSTS, BY_AUTHOR, BY_AUTHOR)
    with pytest.raises(cql.UsageError, match="table"):
        define(session, POSTS, Table("v; DROP TABLE posts", key=["author"]))
    bad: list[tuple[Any, dict[str, Any], str]] = [
        (uuid.uuid4(), {}, "changes"),
        (uuid.uuid4(), {"id": uuid.uuid4()}, "id"),
        (uuid.uuid4(), {"stars": 5}, "stars"),
        ((1, 2), {"title": "x"}, "key"),
        ({"ids": 1}, {"title": "x"}, "key"),
    ]
    for key, changes, what in bad:
        with pytest.raises(cql.UsageError, match=what):
            await views.update(key, changes)
    with pytest.raises(cql.UsageError, match="id"):
        await views.create({"title": "no id"})
    with pytest.raises(cql.UsageError, match="posts_by_reader"):
        await views.rebuild("posts_by_reader")
