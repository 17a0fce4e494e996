"""The types of the cache. Checked by mypy, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_type

from cqlproto_anyio.patterns import JSON, Cache, Cached

if TYPE_CHECKING:
    import cqlproto_anyio as cql


class User:
    name: str


async def load_user() -> User:
    return User()


async def maybe_user() -> User | None:
    return None


async def caching(executor: cql.Executor) -> None:
    cache = Cache(executor, keyspace="shop", ttl=300)
    Cache(executor, keyspace="shop", table="pages", ttl=None, namespace="a", jitter=0, codec=JSON)
    Cache(executor, keyspace="shop", ttl=timedelta(minutes=5))
    assert_type(await cache.create_schema(), None)
    assert_type(Cache.schema_cql("shop"), tuple[str, ...])
    assert_type(await cache.get("a"), Any)
    assert_type(await cache.get("a", 0), Any)
    assert_type(await cache.set("a", 1), None)
    assert_type(await cache.set("a", 1, ttl=None), None)
    assert_type(await cache.delete("a"), None)
    assert_type(await cache.clear(), None)
    assert_type(await cache.get_many(["a", "b"]), dict[str, Any])
    assert_type(await cache.set_many({"a": 1}, ttl=60), None)
    assert_type(await cache.delete_many(["a"]), None)
    assert_type(await cache.get_or_set("a", load_user), User)
    assert_type(await cache.get_or_set("a", maybe_user, ttl=60), User | None)

    @cache.cached(key=lambda user_id, detail=False: f"user:{user_id}:{detail}", ttl=60)
    async def find(user_id: int, detail: bool = False) -> User:
        return User()

    assert_type(await find(7), User)
    assert_type(await find(7, detail=True), User)
    assert_type(await find.invalidate(7), None)
    whole: Cached[..., User] = find
    assert whole


async def mistakes(cache: Cache) -> None:
    await cache.get_or_set("a", 7)  # type: ignore[arg-type]
    await cache.get_or_set("a", lambda: 7)  # type: ignore[arg-type, return-value]
    await cache.set("a", 1, ttl="60")  # type: ignore[arg-type]
    await cache.get(7)  # type: ignore[arg-type]
    cache.cached()  # type: ignore[call-arg]
