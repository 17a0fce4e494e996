"""A cache as applications use it: users of a web app, a slow report, an outage."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Cache, InvalidInput, msgspec_codec
from cqlproto_anyio.testing import Answer, FaultProxy, Rule

pytestmark = pytest.mark.cassandra


@dataclasses.dataclass(frozen=True)
class Profile:
    name: str
    born: datetime.date


@pytest.fixture
async def cache(session: cql.Session, keyspace: str) -> Cache:
    cache = Cache(session, keyspace=keyspace)
    await cache.create_schema()
    await cache.clear()
    return cache


async def test_get_set_and_delete(cache: Cache) -> None:
    assert await cache.get("user:1") is None
    missing = object()
    assert await cache.get("user:1", missing) is missing
    await cache.set("user:1", {"name": "Ann", "tags": ["a", "b"], "age": None})
    assert await cache.get("user:1") == {"name": "Ann", "tags": ["a", "b"], "age": None}
    await cache.set("user:2", None)
    assert await cache.get("user:2", missing) is None  # None is a value
    await cache.set("user:3", 0, ttl=datetime.timedelta(minutes=5))
    await cache.set("user:4", "for ever", ttl=None)
    assert await cache.get_many(["user:2", "user:3", "user:4", "user:5"]) == {
        "user:2": None,
        "user:3": 0,
        "user:4": "for ever",
    }
    await cache.delete("user:1")
    await cache.delete("user:1")
    assert await cache.get("user:1") is None


async def test_many_at_once(cache: Cache) -> None:
    values = {f"item:{number}": number for number in range(50)}
    await cache.set_many(values, ttl=60)
    assert await cache.get_many(values) == values
    await cache.delete_many(["item:0", "item:1", "no such item"])
    assert len(await cache.get_many(values)) == 48
    assert await cache.get_many([]) == {}


async def test_entries_expire(session: cql.Session, keyspace: str) -> None:
    short = Cache(session, keyspace=keyspace, ttl=1, jitter=0, namespace="short")
    await short.create_schema()
    await short.set("a", 1)
    await short.set("b", 2, ttl=60)
    await anyio.sleep(1.1)
    assert await short.get("a") is None
    assert await short.get("b") == 2


async def test_a_stampede_loads_once(cache: Cache) -> None:
    calls = 0

    async def load() -> list[int]:
        nonlocal calls
        calls += 1
        await anyio.sleep(0.1)
        return [1, 2, 3]

    got: list[list[int]] = []

    async def request() -> None:
        got.append(await cache.get_or_set("report", load, ttl=60))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(request)
    assert calls == 1
    assert got == [[1, 2, 3]] * 50
    assert await cache.get("report") == [1, 2, 3]


async def test_a_factory_that_fails_is_not_kept(cache: Cache) -> None:
    async def fail() -> str:
        raise LookupError("no such user")

    async def load() -> str | None:
        return None

    with pytest.raises(LookupError, match="^no such user$"):
        await cache.get_or_set("user:9", fail)
    assert await cache.get_or_set("user:9", load) is None
    assert await cache.get("user:9", "missing") is None
    assert await cache.get_or_set("user:9", fail) is None


async def test_an_update_during_a_fill_wins(cache: Cache) -> None:
    """The stale value that was on its way is returned, but not kept."""
    loading, updated = anyio.Event(), anyio.Event()

    async def load_the_old_value() -> str:
        loading.set()
        await updated.wait()
        return "old"

    async def fill() -> None:
        assert await cache.get_or_set("price", load_the_old_value) == "old"

    async with anyio.create_task_group() as group:
        group.start_soon(fill)
        await loading.wait()
        await cache.delete("price")
        updated.set()
    assert await cache.get("price") is None


async def test_a_decorated_function(cache: Cache) -> None:
    calls: list[int] = []

    @cache.cached(key=lambda user_id: f"user:{user_id}", ttl=60)
    async def load_user(user_id: int) -> dict[str, Any]:
        """Load a user."""
        calls.append(user_id)
        return {"id": user_id, "visits": len(calls)}

    assert await load_user(7) == {"id": 7, "visits": 1}
    assert await load_user(7) == {"id": 7, "visits": 1}
    assert await load_user(8) == {"id": 8, "visits": 2}
    assert await cache.get("user:7") == {"id": 7, "visits": 1}
    await load_user.invalidate(7)
    assert await load_user(7) == {"id": 7, "visits": 3}
    assert load_user.__doc__ == "Load a user."


async def test_namespaces_are_cleared_at_once(session: cql.Session, keyspace: str) -> None:
    """A release that changes what is cached clears its namespace, and no other."""
    pages = Cache(session, keyspace=keyspace, namespace="pages")
    users = Cache(session, keyspace=keyspace, namespace="users")
    await pages.create_schema()
    await pages.set_many({"/": "home", "/about": "about"})
    await users.set("/", "not a page")
    await pages.clear()
    assert await pages.get_many(["/", "/about"]) == {}
    assert await users.get("/") == "not a page"
    await pages.set("/", "new home")
    assert await pages.get("/") == "new home"
    elsewhere = Cache(session, keyspace=keyspace, namespace="pages")
    assert await elsewhere.get("/") == "new home"


async def test_values_of_ones_own_class(session: cql.Session, keyspace: str) -> None:
    ann = Profile("Ann", datetime.date(1990, 2, 28))
    profiles = Cache(
        session, keyspace=keyspace, table="profiles", codec=msgspec_codec(Profile), ttl=None
    )
    await profiles.create_schema()
    await profiles.set("ann", ann)
    assert await profiles.get("ann") == ann
    other = Cache(session, keyspace=keyspace, table="profiles", codec=msgspec_codec(int))
    assert await other.get("ann", "a miss") == "a miss"  # what can't be read is a miss

    async def load() -> int:
        return 7

    assert await other.get_or_set("ann", load) == 7
    assert await other.get("ann") == 7


async def test_an_outage_costs_time_but_no_answers(
    shaky: cql.Session, proxy: FaultProxy, cache: Cache, keyspace: str
) -> None:
    through = Cache(shaky, keyspace=keyspace)
    await through.set("user:1", "cached")
    proxy.add(Rule(Answer("UNAVAILABLE"), opcode=["QUERY", "EXECUTE", "BATCH"]))

    async def load() -> str:
        return "from the database"

    assert await through.get_or_set("user:1", load) == "from the database"
    with pytest.raises(cql.Unavailable):
        await through.get("user:1")
    with pytest.raises(cql.Unavailable):
        await through.set("user:1", "new")
    proxy.clear()
    assert await through.get_or_set("user:1", load) == "cached"


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, cache: Cache
) -> None:
    for bad in (0, -1, float("nan"), 630_720_001, True, datetime.timedelta(0)):
        with pytest.raises(cql.UsageError, match="ttl"):
            await cache.set("a", 1, ttl=bad)
        with pytest.raises(cql.UsageError, match="ttl"):
            Cache(session, keyspace="shop", ttl=bad)
    with pytest.raises(cql.UsageError, match="jitter"):
        Cache(session, keyspace="shop", jitter=1.5)
    with pytest.raises(cql.UsageError, match="namespace"):
        Cache(session, keyspace="shop", namespace="")
    with pytest.raises(cql.UsageError, match="key"):
        await cache.get("")
    with pytest.raises(cql.UsageError, match="set"):
        await cache.set("a", {1, 2})
    with pytest.raises(InvalidInput) as info:
        await cache.set("a", "x" * (17 << 20))
    assert info.value.name == "value"
    assert Cache.schema_cql("shop", table="pages")
