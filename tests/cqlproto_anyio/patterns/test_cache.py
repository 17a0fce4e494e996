"""The cache: hits and misses, one call of a factory for all, and updates while it runs."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.exceptions import RequestTimeout, Unavailable
from cqlproto_anyio.patterns import BYTES, Cache, InvalidInput, OutcomeUnknown
from tests.cassandra.concurrently import all_of
from tests.cqlproto_anyio.patterns.cachetable import CacheTable
from tests.support.scripted import lost, timed_out, unavailable
from tests.support.virtual_clock import run_virtual

MISS = object()


def caching(table: CacheTable, **options: Any) -> Cache:
    return Cache(table.executor, **{"keyspace": "shop", "jitter": 0, **options})


class Source:
    """What is cached: a value, which takes a second to load."""

    def __init__(self, value: Any = "old", seconds: float = 1.0) -> None:
        self.value = value
        self.seconds = seconds
        self.loads = 0

    async def load(self) -> Any:
        self.loads += 1
        value = self.value
        await anyio.sleep(self.seconds)
        if isinstance(value, Exception):
            raise value
        return value


async def test_what_calls_cost() -> None:
    table, source = CacheTable(), Source()
    cache = caching(table)
    costs = []

    async def cost(call: Any) -> None:
        table.executor.asked.clear()
        await call
        assert table.reads + table.executor.lwts == len(table.executor.asked)
        costs.append((table.reads, table.executor.lwts))

    await cost(cache.get("a"))
    await cost(cache.get_or_set("a", source.load))
    await cost(cache.get("a"))
    await cost(cache.get_or_set("a", source.load))
    await cost(cache.set("b", 1))
    await cost(cache.delete("b"))
    await cost(cache.clear())
    await cost(cache.get_many(f"{number}" for number in range(65)))
    await cost(cache.get_or_set("c", source.load, ttl=None))
    # a miss, a fill, hits, ..
    assert costs == [(1, 0), (1, 1), (1, 0), (1, 0), (1, 1), (0, 1), (0, 1), (2, 0), (1, 1)]


async def test_values_and_misses() -> None:
    cache = caching(CacheTable())
    assert await cache.get("a") is None
    assert await cache.get("a", MISS) is MISS
    values: list[Any] = [None, 0, "", [], {"a": [1, None]}, False, 1.5]
    for value in values:
        await cache.set("a", value)
        assert await cache.get("a", MISS) == value
    await cache.set_many({f"{number}": value for number, value in enumerate(values)})
    assert await cache.get_many([*map(str, range(9))]) == {
        f"{number}": value for number, value in enumerate(values)
    }
    await cache.delete_many(["0", "1", "8"])
    assert list(await cache.get_many([*map(str, range(9))])) == ["2", "3", "4", "5", "6"]
    assert await cache.get_many([]) == {}
    await cache.set_many({})
    await cache.delete_many([])


async def test_ttls() -> None:
    table = CacheTable()
    cache = caching(table, ttl=timedelta(seconds=10))
    await cache.set("a", 1)
    await cache.set("b", 1, ttl=20)
    await cache.set("c", 1, ttl=None)
    await cache.set("d", 1, ttl=0.1)
    for seconds, left in [(9, "abc"), (2, "bc"), (10, "c"), (10**6, "c")]:
        await anyio.sleep(seconds)
        assert "".join(await cache.get_many(["a", "b", "c", "d"])) == left


async def test_the_jitter_only_shortens() -> None:
    table = CacheTable()
    cache = Cache(table.executor, keyspace="shop", ttl=100, jitter=0.5)
    for number in range(50):
        await cache.set(f"{number}", 1)
    ttls = [each.values["ttl"] for each in table.executor.asked if "ttl" in each.values]
    assert len(ttls) == 50
    assert 50 <= min(ttls) < 70
    assert 80 < max(ttls) <= 100
    await Cache(table.executor, keyspace="shop", ttl=1, jitter=1).set("a", 1)
    assert table.executor.asked[-1].values["ttl"] == 1


async def test_a_stampede_loads_once() -> None:
    for seconds in (0.0, 1.0):
        table, source = CacheTable(), Source(seconds=seconds)
        cache = caching(table)
        calls: list[Any] = [partial(cache.get_or_set, "a", source.load)] * 100
        assert await all_of(calls) == ["old"] * 100
        assert source.loads == 1
        assert len(cache._flights) == 0


async def test_a_read_that_was_slower_than_a_whole_flight_does_not_load_again() -> None:
    table, source = CacheTable(), Source(seconds=0)
    cache = caching(table)
    answer = table.executor.answer
    slow = [True]

    async def delayed(request: Any) -> Any:
        found = answer(request)
        if slow and request.text.startswith("SELECT"):
            slow.clear()
            await anyio.sleep(5)
        return found

    table.executor.answer = delayed
    calls: list[Any] = [lambda: cache.get_or_set("a", source.load)] * 2
    assert await all_of(calls) == ["old"] * 2
    assert source.loads == 1


async def test_a_factory_that_fails_wakes_all_and_is_not_kept() -> None:
    table, source = CacheTable(), Source(LookupError("no such user"))
    cache = caching(table)

    async def call() -> str:
        with pytest.raises(LookupError) as info:
            await cache.get_or_set("a", source.load)
        return str(info.value)

    calls: list[Any] = [call] * 100
    assert await all_of(calls) == ["no such user"] * 100
    assert source.loads == 1
    source.value = None
    assert await cache.get_or_set("a", source.load) is None
    assert await cache.get("a", MISS) is None


async def test_a_task_that_is_cancelled_leaves_loading_to_another() -> None:
    table, source = CacheTable(), Source()
    cache = caching(table)
    got = []

    async def follow() -> None:
        got.append(await cache.get_or_set("a", source.load))

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.5):
            group.start_soon(follow)
            group.start_soon(follow)
            await cache.get_or_set("a", source.load)
            pytest.fail("not cancelled")
    assert got == ["old"] * 2
    assert source.loads in (1, 2)
    assert len(cache._flights) == 0


async def test_cancellation_at_any_request_leaves_nothing_behind() -> None:
    for at in range(1, 4):
        table, source = CacheTable(), Source(seconds=0)
        cache, scope = caching(table), anyio.CancelScope()

        def answer(
            request: Any, table: CacheTable = table, scope: Any = scope, at: int = at
        ) -> Any:
            if len(table.executor.asked) == at:
                scope.cancel()
            return table.answer(request)

        table.executor.answer = answer
        with scope:
            await cache.get_or_set("a", source.load)
            await cache.set("a", "old")
        assert len(cache._flights) == 0
        assert await cache.get_or_set("a", source.load) == "old"


@pytest.mark.parametrize("ttl", [300, None])
@pytest.mark.parametrize("update", ["delete", "clear", "set", "delete_many", "set_many"])
async def test_an_update_during_a_fill_wins(update: str, ttl: float | None) -> None:
    """Also one of another program, and if the fill's write comes later than everything."""
    for fault in (None, "late"):
        table, source = CacheTable(), Source()
        cache, other = caching(table, ttl=ttl), caching(table)
        arguments: dict[str, tuple[Any, ...]] = {
            "delete": ("a",),
            "clear": (),
            "set": ("a", "new"),
            "delete_many": (["a"],),
            "set_many": ({"a": "new"},),
        }
        async with anyio.create_task_group() as group:
            group.start_soon(cache.get_or_set, "a", source.load)
            await anyio.sleep(0.5)
            source.value = "new"
            await getattr(other, update)(
                *arguments[update], **({"ttl": None} if "set" in update else {})
            )
            table.faults.append(fault)
            # who comes later waits for no value from before the update
            assert await cache.get_or_set("a", source.load) == "new"
        table.deliver()
        for days in range(5):
            assert await cache.get("a", MISS) in ("new", MISS if days or fault else "new"), days
            await anyio.sleep(86_400)


@pytest.mark.parametrize("update", ["delete", "set"])
async def test_a_copy_of_an_update_that_comes_after_the_next_one(update: str) -> None:
    """It stores nothing, and what is being loaded since then isn't kept either."""
    table, source = CacheTable("late"), Source()
    cache = caching(table)
    await (cache.delete("a") if update == "delete" else cache.set("a", "older", ttl=1))
    await anyio.sleep(2)
    async with anyio.create_task_group() as group:
        group.start_soon(cache.get_or_set, "a", source.load)
        await anyio.sleep(0.5)
        await cache.set("a", "new")
        table.deliver()
        assert await cache.get("a", "new") == "new"
    assert await cache.get("a", "new") == "new"


async def test_what_was_loaded_for_too_long_is_not_kept() -> None:
    table, source = CacheTable(), Source(seconds=86_401)
    cache = caching(table, ttl=None)
    assert await cache.get_or_set("a", source.load) == "old"
    assert await cache.get("a", MISS) is MISS


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(
    faults=st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=8),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["update", "set", "clear", "load", "load for ever"]), st.booleans()
        ),
        max_size=8,
    ),
)
def test_no_fault_leaves_a_stale_value(
    backend: str, faults: list[Any], calls: list[tuple[str, bool]]
) -> None:
    """A value that is loaded after an update has ended is the updated one, whatever gets lost."""
    table = CacheTable(*faults)
    truth = 0

    async def load() -> int:
        value = truth
        await anyio.sleep(0.01)
        return value

    async def run() -> None:
        nonlocal truth
        caches = [caching(table), caching(table)]
        async with anyio.create_task_group() as group:
            for kind, wait in calls:
                cache = caches[wait]
                if kind == "load":
                    group.start_soon(cache.get_or_set, "a", load)
                elif kind == "load for ever":
                    group.start_soon(partial(cache.get_or_set, "a", load, ttl=None))
                else:
                    truth += 1
                    if kind == "set":
                        await cache.set("a", truth)
                    else:
                        await (cache.clear() if kind == "clear" else cache.delete("a"))
                    if wait:
                        table.deliver()
                    assert await caches[0].get("a", truth) == truth
                if wait:
                    await anyio.sleep(0.02)
        table.deliver()
        assert await caches[0].get("a", truth) == truth

    run_virtual(run, backend)


@pytest.mark.parametrize("fault", [None, "reply"])
async def test_a_set_that_has_read_an_old_version_is_sent_again(fault: str | None) -> None:
    table = CacheTable()
    cache = caching(table)
    answer = table.executor.answer
    stale = [True]

    def lagging(request: Any) -> Any:
        if stale and request.text.startswith("SELECT"):
            stale.clear()
            return []
        return answer(request)

    await cache.set("a", 1)
    table.executor.answer, table.faults = lagging, [fault]
    await cache.set("a", 2)
    assert await cache.get("a") == 2


async def test_namespaces() -> None:
    table = CacheTable()
    pages, users = caching(table, namespace="pages"), caching(table, namespace="users")
    await pages.set_many({"a": 1, "b": 2})
    await users.set("a", 3)
    await pages.clear()
    assert await pages.get_many(["a", "b"]) == {}
    assert await users.get("a") == 3
    await caching(table, namespace="pages").set("a", 4)
    assert await pages.get("a") == 4
    await anyio.sleep(10**6)
    await pages.set("a", 5)
    assert await users.get("a", MISS) is MISS
    assert await pages.get("a") == 5


async def test_an_entry_that_cannot_be_decoded_is_a_miss() -> None:
    table, source = CacheTable(), Source("new", 0)
    await caching(table, codec=BYTES).set("a", b"{")
    assert await caching(table).get("a", MISS) is MISS
    assert await caching(table).get_many(["a"]) == {}
    assert await caching(table).get_or_set("a", source.load) == "new"
    assert await caching(table).get("a") == "new"
    place = "default", "a", "value"
    table.cells[place] = (b"short", *table.cells[place][1:])
    assert await caching(table).get("a", MISS) is MISS


@pytest.mark.parametrize("error", [unavailable(), timed_out(), lost()])
async def test_an_outage_falls_through_to_the_factory(error: Exception) -> None:
    table, source = CacheTable(), Source()
    cache = caching(table)
    table.out = error
    calls: list[Any] = [lambda: cache.get_or_set("a", source.load)] * 10
    assert await all_of(calls) == ["old"] * 10
    assert source.loads == 1
    with pytest.raises(type(error)):
        await cache.get("a")
    with pytest.raises(type(error)):
        await cache.set("a", 1)
    table.out = None
    table.faults.append(error)  # only the write fails
    assert await cache.get_or_set("a", source.load) == "old"
    assert await cache.get("a", MISS) is MISS


async def test_an_outage_is_waited_for_once() -> None:
    """A task whose read fails after another's factory has returned doesn't read again."""
    table, source = CacheTable(), Source(seconds=0)
    cache = caching(table)

    delays = [1, 5, 10]

    async def out(request: Any) -> Any:
        await anyio.sleep(delays.pop(0))
        return timed_out()

    table.executor.answer = out
    calls: list[Any] = [lambda: cache.get_or_set("a", source.load)] * 2
    assert await all_of(calls) == ["old"] * 2
    assert delays == [10]


async def test_a_deletion_is_repeated_until_it_is_answered() -> None:
    table = CacheTable()
    cache = caching(table)
    await cache.set("a", 1)
    table.faults = ["request", "reply", "late"]
    await cache.delete("a")
    assert await cache.get("a", MISS) is MISS
    assert table.executor.lwts == 5
    table.out = timed_out()
    with pytest.raises(OutcomeUnknown) as info:
        await cache.delete("a")
    assert isinstance(info.value.__cause__, RequestTimeout)
    table.out = unavailable()
    with pytest.raises(Unavailable):
        await cache.delete("a")


async def test_a_mistake_is_no_outage() -> None:
    table, source = CacheTable(), Source({1, 2}, 0)
    cache = caching(table)
    with pytest.raises(InvalidInput, match="set"):
        await cache.get_or_set("a", source.load)
    table.out = ValueError("not of the client")
    with pytest.raises(ValueError, match="not of the client"):
        await cache.get_or_set("a", source.load)


async def test_a_decorated_function() -> None:
    table = CacheTable()
    cache = caching(table)
    calls = []

    @cache.cached(key=lambda user, detail=False: f"user:{user}:{detail}", ttl=5)
    async def load(user: int, detail: bool = False) -> list[Any]:
        """Load a user."""
        calls.append(user)
        return [user, detail]

    assert [await load(7), await load(7), await load(7, detail=True)] == [
        [7, False],
        [7, False],
        [7, True],
    ]
    assert calls == [7, 7]
    await load.invalidate(7)
    assert await load(7) == [7, False]
    assert calls == [7, 7, 7]
    await anyio.sleep(6)
    await load(7)
    assert calls == [7, 7, 7, 7]
    assert load.__doc__ == "Load a user."


async def test_memory_does_not_grow_with_keys() -> None:
    table, source = CacheTable(), Source(seconds=0)
    cache = caching(table)
    for number in range(1000):
        await cache.get_or_set(f"{number}", source.load)
    assert len(cache._flights) == 0


@pytest.mark.parametrize("bad", [0, -1, float("nan"), 630_720_001, True, "1", timedelta(0)])
async def test_wrong_ttls(bad: Any) -> None:
    table = CacheTable()
    cache = caching(table)
    calls: list[Any] = [
        lambda: cache.set("a", 1, ttl=bad),
        lambda: cache.set_many({"a": 1}, ttl=bad),
        lambda: cache.get_or_set("a", Source().load, ttl=bad),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match="ttl must be"):
            await call()
    with pytest.raises(InvalidInput, match="ttl must be"):
        caching(table, ttl=bad)
    with pytest.raises(InvalidInput, match="ttl must be"):
        cache.cached(key=str, ttl=bad)
    assert table.executor.asked == []


async def test_wrong_arguments() -> None:
    table = CacheTable()
    cache = caching(table)
    calls: list[tuple[str, Any]] = [
        ("key", lambda: cache.get("")),
        ("key", lambda: cache.get("x" * 9000)),
        ("key", lambda: cache.get_many(["a", 7])),  # type: ignore[list-item]
        ("keys", lambda: cache.get_many("abc")),
        ("keys", lambda: cache.delete_many("abc")),
        ("key", lambda: cache.delete("")),
        ("key", lambda: cache.set("", 1)),
        ("key", lambda: cache.get_or_set("", Source().load)),
        ("factory", lambda: cache.get_or_set("a", 7)),  # type: ignore[arg-type]
        ("key", lambda: cache.cached(key="user:1")),  # type: ignore[arg-type]
        ("value", lambda: cache.set("a", {1})),
        ("value", lambda: cache.set("a", "x" * (16 << 20))),
    ]
    for name, call in calls:
        with pytest.raises(InvalidInput) as info:
            await call()
        assert info.value.name == name
    wrong: list[dict[str, Any]] = [
        {"namespace": ""},
        {"jitter": 1.5},
        {"jitter": -1},
        {"keyspace": ""},
    ]
    for options in wrong:
        with pytest.raises(InvalidInput):
            caching(table, **options)
    assert table.executor.asked == []


def test_the_table() -> None:
    (statement,) = Cache.schema_cql("shop")
    assert statement == (
        'CREATE TABLE IF NOT EXISTS "shop"."cache" ("namespace" text, "key" text, "version" uuid,'
        ' "value" blob, PRIMARY KEY (("namespace", "key")))'
    )
