"""Page views as counters: one at a time, and in a batch of counters."""

from __future__ import annotations

from cqlproto_anyio.patterns.rsylla import Batch, Session

CREATE = "CREATE TABLE IF NOT EXISTS page_views (page text PRIMARY KEY, views counter)"
ADD = "UPDATE page_views SET views = views + ? WHERE page = ?"


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    await session.execute("TRUNCATE page_views")
    await session.execute(ADD, {"views": 1, "page": "home"})
    add = await session.prepare(ADD)
    batch = Batch("counter")
    for _ in range(3):
        batch.append_prepared(add)
    assert batch.statements_count() == 3
    await session.batch(batch, [{"views": 2, "page": page} for page in ("home", "about", "home")])
    found = await session.execute("SELECT page, views FROM page_views")
    assert sorted(row.columns() for row in found.rows()) == [["about", 2], ["home", 5]]
    await session.aclose()
