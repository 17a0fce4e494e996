"""The cache on a real node: stampedes, updates during a fill, faults, and a naive cache."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Cache
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


@pytest.fixture(scope="module", autouse=True)
def tables(cassandra: Node, keyspace: str) -> None:
    for statement in Cache.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(f"CREATE TABLE {keyspace}.naive (key text PRIMARY KEY, value text)")


class NaiveCache:
    """What cookbooks show: read, load, write."""

    def __init__(self, session: cql.Session) -> None:
        self._session = session

    async def get(self, key: str) -> Any:
        select = "SELECT value FROM naive WHERE key = ?"
        found = (await self._session.execute(select, (key,))).scalar(default=None)
        return None if found is None else json.loads(found)

    async def get_or_set(self, key: str, factory: Callable[[], Awaitable[Any]]) -> Any:
        found = await self.get(key)
        if found is None:
            found = await factory()
            insert = "INSERT INTO naive (key, value) VALUES (?, ?) USING TTL 300"
            await self._session.execute(insert, (key, json.dumps(found)))
        return found

    async def delete(self, key: str) -> None:
        await self._session.execute("DELETE FROM naive WHERE key = ?", (key,))


class Source:
    """What is cached: a value, which takes 50 ms to load."""

    def __init__(self, value: Any = "old") -> None:
        self.value = value
        self.loads = 0

    async def load(self) -> Any:
        self.loads += 1
        value = self.value
        await anyio.sleep(0.05)
        if isinstance(value, Exception):
            raise value
        return value


async def test_a_hundred_tasks_load_once(cassandra: Node, keyspace: str) -> None:
    async with connected(cassandra, keyspace) as session:
        cache, naive = Cache(session, keyspace=keyspace), NaiveCache(session)
        key, source, naively = uuid.uuid4().hex, Source(), Source()
        calls: list[Any] = [partial(cache.get_or_set, key, source.load)] * 100
        assert await all_of(calls) == ["old"] * 100
        assert source.loads == 1
        await all_of([partial(naive.get_or_set, key, naively.load)] * 100)
        assert naively.loads > 10


async def test_a_factory_that_fails_wakes_all(cassandra: Node, keyspace: str) -> None:
    async with connected(cassandra, keyspace) as session:
        cache, key, source = Cache(session, keyspace=keyspace), uuid.uuid4().hex, Source()
        source.value = LookupError("gone")

        async def call() -> bool:
            with pytest.raises(LookupError, match="gone"):
                await cache.get_or_set(key, source.load)
            return True

        assert all(await all_of([call] * 100))
        assert source.loads == 1
        source.value = None
        assert await cache.get_or_set(key, source.load) is None
        assert await cache.get(key, "missing") is None


async def delete(session: cql.Session, keyspace: str, key: str) -> None:
    """Delete an entry, as another program does."""
    await Cache(session, keyspace=keyspace).delete(key)


async def test_a_deletion_by_another_process_during_a_fill(cassandra: Node, keyspace: str) -> None:
    """The value that was loaded before is not kept; the naive cache keeps it."""
    async with connected(cassandra, keyspace) as session:
        cache, naive, key = Cache(session, keyspace=keyspace), NaiveCache(session), uuid.uuid4().hex
        for ours in (True, False):
            loading, deleted = anyio.Event(), anyio.Event()

            async def load(loading: anyio.Event = loading, deleted: anyio.Event = deleted) -> str:
                loading.set()
                await deleted.wait()
                return "old"

            async with anyio.create_task_group() as group:
                group.start_soon((cache if ours else naive).get_or_set, key, load)
                await loading.wait()
                if ours:
                    await in_other_process(delete, cassandra, keyspace, key)
                else:
                    await naive.delete(key)
                deleted.set()
            assert await (cache if ours else naive).get(key) == (None if ours else "old")


async def test_a_hit_is_one_read(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        cache, key, source = Cache(session, keyspace=keyspace), uuid.uuid4().hex, Source()
        costs = []
        for call in (
            cache.get_or_set(key, source.load),
            cache.get_or_set(key, source.load),
            cache.get(key),
            cache.set(key, 1),
            cache.delete(key),
        ):
            counting.records.clear()
            await call
            costs.append((counting.lwts, counting.reads, len(counting.records)))
        assert costs == [(1, 1, 2), (0, 1, 1), (0, 1, 1), (1, 1, 2), (1, 0, 1)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(
    faults=st.lists(st.sampled_from([*FAULTS, None]), max_size=5),
    updates=st.lists(st.sampled_from(["delete", "set", "clear"]), min_size=1, max_size=3),
)
def test_no_fault_leaves_a_stale_value(
    cassandra: Node, keyspace: str, backend: str, faults: list[str | None], updates: list[str]
) -> None:
    """Readers load while a writer with a bad network updates: what is read later is new."""
    key = uuid.uuid4().hex
    truth = 0

    async def load() -> int:
        value = truth
        await anyio.sleep(0.02)
        return value

    async def run() -> None:
        nonlocal truth
        async with (
            connected(cassandra, keyspace) as session,
            faulty(cassandra, keyspace, faults) as shaky,
        ):
            readers = [Cache(each, keyspace=keyspace, namespace=key) for each in (session, shaky)]
            writer = Cache(shaky, keyspace=keyspace, namespace=key)
            for kind in updates:
                async with anyio.create_task_group() as group:
                    for reader in readers:
                        group.start_soon(reader.get_or_set, key, load)
                    await anyio.sleep(0.01)
                    truth += 1
                    while True:
                        try:
                            if kind == "set":
                                await writer.set(key, truth)
                            else:
                                await (writer.clear() if kind == "clear" else writer.delete(key))
                            break
                        except cql.ServerOverloaded:  # it was not executed
                            continue
                    assert await readers[0].get(key, truth) == truth
                    assert await readers[0].get_or_set(key, load) == truth
            await anyio.sleep(1.6 if "the request is late" in faults else 0)
            assert await readers[0].get(key, truth) == truth

    anyio.run(run, backend=backend)
