"""Posts by author and by tag: written in one batch, and still right when the tags change."""

from __future__ import annotations

import time
import uuid
from typing import Any

from cqlproto_anyio.patterns import Table, Views
from cqlproto_anyio.patterns.rsylla import Batch, SessionBuilder

POSTS = """
    CREATE TABLE IF NOT EXISTS posts (
        post_id uuid PRIMARY KEY, author_id int, title text, tags set<text>, created_at timestamp
    )
"""
BY_AUTHOR = """
    CREATE TABLE IF NOT EXISTS posts_by_author (
        author_id int, created_at timestamp, post_id uuid, title text,
        PRIMARY KEY (author_id, created_at, post_id)
    ) WITH CLUSTERING ORDER BY (created_at DESC)
"""
BY_TAG = """
    CREATE TABLE IF NOT EXISTS posts_by_tag (
        tag text, created_at timestamp, post_id uuid, title text,
        PRIMARY KEY (tag, created_at, post_id)
    ) WITH CLUSTERING ORDER BY (created_at DESC)
"""


async def main(contact: str, keyspace: str) -> None:
    session = await SessionBuilder().known_node(contact).use_keyspace(keyspace, False).build()
    for statement in (POSTS, BY_AUTHOR, BY_TAG):
        await session.execute(statement)
    post: dict[str, Any] = {
        "post_id": uuid.uuid4(),
        "author_id": 123,
        "title": "My first post",
        "tags": ["python", "scylla"],
        "created_at": int(time.time() * 1000),
    }
    batch = Batch("logged")
    batch.append_statement(
        "INSERT INTO posts (post_id, author_id, title, tags, created_at) VALUES (?, ?, ?, ?, ?)"
    )
    batch.append_statement(
        "INSERT INTO posts_by_author (author_id, created_at, post_id, title) VALUES (?, ?, ?, ?)"
    )
    values = [post, {each: post[each] for each in ("author_id", "created_at", "post_id", "title")}]
    for tag in post["tags"]:
        batch.append_statement(
            "INSERT INTO posts_by_tag (tag, created_at, post_id, title) VALUES (?, ?, ?, ?)"
        )
        rest = {each: post[each] for each in ("created_at", "post_id", "title")}
        values.append({"tag": tag, **rest})
    await session.batch(batch, values)
    by_author = "SELECT post_id, title FROM posts_by_author WHERE author_id = ? LIMIT ?"
    found = await session.execute(by_author, {"author_id": 123, "limit": 10})
    assert [row[1] for row in found.rows()] == ["My first post"]

    columns = {"id": "uuid", "author": "int", "title": "text", "tags": "set<text>"}
    articles = Views(
        session.session,
        keyspace=keyspace,
        base=Table("articles", key=["id"], columns=columns),
        views=[
            Table("articles_by_author", key=["author"], clustering=["id"]),
            Table("articles_by_tag", key=["tag"], clustering=["id"], each={"tag": "tags"}),
        ],
    )
    await articles.create_schema()
    article = uuid.uuid4()
    await articles.create({"id": article, "author": 1, "title": "a", "tags": {"python", "cql"}})
    await articles.update(article, {"tags": {"cql", "trio"}})

    async def tagged(tag: str) -> int:
        select = f"SELECT id FROM {keyspace}.articles_by_tag WHERE tag = ?"
        return len((await session.execute(select, {"tag": tag})).rows())

    assert [await tagged(tag) for tag in ("python", "cql", "trio")] == [0, 1, 1]
    await articles.delete(article)
    assert [await tagged(tag) for tag in ("python", "cql", "trio")] == [0, 0, 0]
    assert (await articles.verify()).ok
    await session.aclose()
