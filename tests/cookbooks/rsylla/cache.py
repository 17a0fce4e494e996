"""A cache with a TTL: what is None is found, many readers load once, a fill can't undo a delete."""

from __future__ import annotations

import anyio

from cqlproto_anyio.patterns import Cache
from cqlproto_anyio.patterns.rsylla import Session

CREATE = "CREATE TABLE IF NOT EXISTS pages (key text PRIMARY KEY, value blob, created_at timestamp)"


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    get = (await session.prepare("SELECT value FROM pages WHERE key = ?")).set_idempotent(True)
    put = await session.prepare(
        "INSERT INTO pages (key, value, created_at) VALUES (?, ?, ?) USING TTL ?"
    )
    page = {"key": "user:123", "value": b'{"name": "Ann"}', "created_at": 0, "ttl": 3600}
    await session.execute_prepared(put, page)
    row = (await session.execute_prepared(get, {"key": "user:123"})).first_row()
    assert row is not None
    assert row[0] == page["value"]
    await session.execute("DELETE FROM pages WHERE key = ?", {"key": "user:123"})
    assert (await session.execute_prepared(get, {"key": "user:123"})).first_row() is None

    cache = Cache(session.session, keyspace=keyspace, ttl=3600)
    await cache.create_schema()
    await cache.set("user:123", {"name": "Ann"}, ttl=60)
    assert await cache.get("user:123") == {"name": "Ann"}
    await cache.set("nobody", None)
    assert await cache.get("nobody", "missing") is None
    await cache.delete("user:123")
    assert await cache.get("user:123", "missing") == "missing"

    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        await anyio.sleep(0.01)
        return loads

    async def read() -> None:
        assert await cache.get_or_set("slow", load) == 1

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(read)
    assert loads == 1

    async def load_old() -> str:
        await cache.delete("news")  # it changes while it is loaded
        return "old"

    await cache.get_or_set("news", load_old)
    assert await cache.get("news", "missing") == "missing"
    await session.aclose()
