"""The checks of recipes find what is wrong; gates and tables; every work on a real node, tiny."""

from __future__ import annotations

import collections
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from bench import figures, parts, rounds
from bench.jobs import Job, Outcome
from bench.patterns import part, work
from bench.patterns.work import WORKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.cassandra.conftest import Node

EACH = 5
WORKERS = 4


class Memory:
    """Does all works right, or wrong: then it looks first and acts after a checkpoint."""

    def __init__(self, naive: bool) -> None:
        self.naive = naive
        self.values: dict[str, Any] = {}
        self.turns: dict[str, anyio.Lock] = collections.defaultdict(anyio.Lock)

    async def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        async with contextlib.AsyncExitStack() as stack:
            if not self.naive:
                await stack.enter_async_context(self.turns[key])
            before = self.values.get(key)
            await checkpoint()
            self.values[key] = change(before)
            return before

    async def prepare(self, work: str, key: str, count: int) -> None:
        self.values[key] = {"sell": count, "visit": True}.get(work)

    async def read(self, work: str, key: str) -> object:
        await checkpoint()
        return None if self.naive else expected(work, key)

    async def act(self, work: str, key: str, id: str, number: int) -> None:
        if work in ("write", "append"):
            await self.change(key, lambda before: [*(before or []), number])
        elif work == "logout":
            self.values[key] = False
        elif work == "visit":
            await self.change(key, lambda before: before)
        elif work != "post":
            await self.change(key, lambda before: (before or 0) + (-1 if work == "sell" else 1))

    async def off(self, name: str, key: str, count: int) -> int:
        value: Any = self.values.get(key)
        if name in ("write", "append"):
            return work.unlike(value, count)
        return int(value) if name in ("sell", "visit") else count - value

    async def acquire(self, key: str) -> str:
        if not self.naive:
            await self.turns[key].acquire()
        return key

    async def release(self, lease: str) -> None:
        if not self.naive:
            self.turns[lease].release()

    async def once(self, work: str, id: str, step: Callable[[str], Awaitable[None]]) -> None:
        steps = ["load"] if work == "fill" else [*STEPS, *STEPS[: self.naive]]
        if self.naive or id not in self.values:
            self.values[id] = True
            for name in steps:
                await step(name)

    async def check(self, work: str, key: str, limit: int) -> bool:
        before = await self.change(
            key, lambda spent: (spent or 0) + (self.naive or (spent or 0) < limit)
        )
        return self.naive or (before or 0) < limit


expected = work.expected
STEPS = list(work.STEPS)


async def wrong(name: str, naive: bool, keys: list[str]) -> int:
    """Return how many results of a turn are wrong."""
    programs = [Memory(naive)] * work.PROGRAMS
    turn = WORKS[name].kind(programs, name, keys, WORKERS, EACH)
    for key in keys:
        await turn.prepare(key)
    async with anyio.create_task_group() as group:
        for worker in range(WORKERS):
            group.start_soon(turn.run, worker)
    return await turn.wrong()


JUDGED = [name for name, each in WORKS.items() if each.wrong and name != "edit"]


@pytest.mark.parametrize("name", JUDGED)
@pytest.mark.parametrize("shared", [True, False])
async def test_right_results_are_not_called_wrong(name: str, shared: bool) -> None:
    keys = [f"key-{number}" for number in range(1 if shared else WORKERS)]
    assert await wrong(name, False, keys) == 0


@pytest.mark.parametrize("name", JUDGED)
async def test_wrong_results_are_found(name: str) -> None:
    found = await wrong(name, True, ["key-0"])
    if WORKS[name].kind is work.Reading:
        assert found == WORKERS * EACH  # each of them, whatever runs at the same time
    elif name in ("sliding_window", "token_bucket", "approximate"):
        assert found == WORKERS  # so many are above the limit
    else:
        assert found > 0


@given(st.lists(st.integers(0, 9)), st.integers(10, 12))
def test_missing_and_repeated_numbers_are_counted(found: list[int], count: int) -> None:
    counts = collections.Counter(found)
    missing = count - len(counts)
    assert work.unlike(found, count) == missing + sum(each - 1 for each in counts.values())


def sample(client: str, recipe: str, in_flight: int = 1, **more: Any) -> dict[str, Any]:
    usual = {"one_key": False, "rate": [100, 300, 200], "requests": [2.0], "wrong": [0, 0, 0]}
    return {
        "client": client,
        "recipe": recipe,
        "in_flight": in_flight,
        "count": 50,
        **usual,
        **more,
    }


def data(*samples: dict[str, Any]) -> dict[str, Any]:
    memory = [{"recipe": "lock", "before_mib": [40.0], "peak_mib": [49.0]}]
    return {"samples": samples, "left_out": {}, "keys": 1000, "memory": memory}


def test_gates_are_on_wrong_results_round_trips_and_memory() -> None:
    found = data(
        sample(part.OURS, "lock"),
        sample(part.OURS, "append", requests=[1.0, 1.2, 1.5]),
        sample(part.OURS, "append", 64, requests=[9.0], wrong=[0, 2, 1]),
        sample(part.NAIVE, "append", wrong=[7]),
    )
    assert [(gate.limit, gate.measured, gate.met) for gate in parts.gates("patterns", found)] == [
        (0, 3, False),
        (2.1, 2.0, True),
        (1.1, 1.2, False),
        (8.0, 9.0, False),
    ]


def test_table_has_both_clients_in_a_row() -> None:
    ours = sample(part.OURS, "append", 8, one_key=True)
    naive = sample(part.NAIVE, "append", 8, one_key=True, rate=[200, 300, 50], wrong=[1, 0, 30])
    page = parts.markdown("patterns", data(ours, naive, sample(part.OURS, "set")))
    row = "| EventStore: append | 8, one key | 200 (100 - 300) | 2.00 | 200 (50.0 - 300) | 2.00 |"
    assert f"{row} 1.00 | 31 of 150: events lost |" in page
    assert "| Cache: set | 1 | 200 (100 - 300) | 2.00 | - | - | - | - |" in page
    assert "| Locks: acquire, release | 40.0 | 49.0 |" in page


def test_sample_of_a_recipe_has_its_round_trips_and_wrong_results() -> None:
    outcome = Outcome(count=10, seconds=1.0, requests=25, wrong=3)
    found = rounds.Sample("x", "recipe", 8, [outcome], "lock", True).to_json()
    assert (found["requests"], found["wrong"]) == ([2.5], [3])
    assert (found["recipe"], found["one_key"]) == ("lock", True)
    assert "requests" not in rounds.Sample("x", "read", 8, [outcome]).to_json()
    assert figures.number(found["rate"][0]) == "10.0"


@pytest.fixture(scope="module")
def tables(cassandra: Node) -> Iterator[tuple[str, int]]:
    """Create the tables of recipes in a keyspace of their own; yield the server's address."""
    address = (cassandra.host, cassandra.port)
    name = f"bench_{uuid.uuid4().hex[:8]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    cassandra.cql(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    with pytest.MonkeyPatch.context() as patch, rounds.workers(address) as them:
        patch.setenv("CQLPROTO_BENCH_KEYSPACE", name)
        them.measure(Job(part.OURS, "setup", *address))
        yield address
        them.measure(Job(part.OURS, "drop", *address))
    cassandra.cql(f"DROP KEYSPACE {name}")


CLIENTS = ["recipes/asyncio", "recipes/trio", "naive/rsylla"]


@pytest.mark.parametrize(
    "client", [each for each in CLIENTS if parts.installed(each.split("/")[1])]
)
def test_every_work_on_a_server(client: str, tables: tuple[str, int]) -> None:
    found: dict[str, Outcome] = {}
    ours = client != part.NAIVE

    def job(name: str, **more: Any) -> Job:
        host, port = tables
        usual = {"work": "recipe", "operations": 6, "in_flight": 2, "recipe": name}
        return Job(client, host=host, port=port, **{**usual, **more})

    with rounds.workers(tables) as them:
        for name, each in WORKS.items():
            found[name] = them.measure(job(name))
            if each.shared and not each.slow:
                found[f"{name}, one key"] = them.measure(job(name, one_key=True))
        for name in ("lock", "hit", "set", "count"):  # their statements are prepared now
            found[name] = them.measure(job(name))
        assert them.measure(job("hit", operations=0, seconds=0.01)).operations >= 4
        if ours:
            assert them.measure(job("lock", work="keys", operations=30)).count == 30
    assert {each.count for each in found.values()} == {6}
    assert found["hit"].requests == 6
    if ours:
        assert [name for name, each in found.items() if each.wrong] == []
        assert found["set"].requests == found["count"].requests == 12
        assert found["lock"].requests == 6 * 2 + 2  # a read before the first use of each key
    else:
        assert found["get"].wrong == 6  # columns by position
        assert found["set"].requests == 6
