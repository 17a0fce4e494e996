"""Rows as JSON: written with INSERT JSON, read with SELECT JSON."""

from __future__ import annotations

import json

from cqlproto_anyio.patterns.rsylla import Session


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute("CREATE TABLE IF NOT EXISTS documents (id int PRIMARY KEY, title text)")
    document = {"id": 1, "title": "a"}
    await session.execute("INSERT INTO documents JSON ?", {"json": json.dumps(document)})
    row = (
        await session.execute("SELECT JSON * FROM documents WHERE id = ?", {"id": 1})
    ).first_row()
    assert row is not None
    assert json.loads(row[0]) == document
    await session.aclose()
