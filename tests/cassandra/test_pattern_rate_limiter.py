"""Rate limits on a real node: races, a second process, faults, and naive limits that fail."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.patterns import Decision, RateLimiter
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process
from tests.support.histories import Admission, within_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import cqlproto_anyio as cql
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    for statement in RateLimiter.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(f"CREATE TABLE {keyspace}.naive (key text PRIMARY KEY, spent counter)")


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def fresh() -> str:
    return uuid.uuid4().hex


async def ask(limiter: RateLimiter, key: str, times: int, pause: float = 0) -> list[Admission]:
    """Ask as one worker; return what was admitted, and when."""
    admitted = []
    for _ in range(times):
        asked = time.monotonic()
        decision = await limiter.check(key)
        if decision.allowed:
            admitted.append(Admission(asked, time.monotonic()))
        await anyio.sleep(pause)
    return admitted


async def ask_with_many(
    session: cql.Session,
    keyspace: str,
    key: str,
    options: dict[str, Any],
    workers: int = 20,
    times: int = 1,
    pause: float = 0,
) -> list[Admission]:
    """Ask with workers of one program: the second process of the races."""
    limiter = RateLimiter(session, keyspace=keyspace, **options)
    calls: list[Any] = [partial(ask, limiter, key, times, pause)] * workers
    return [each for admitted in await all_of(calls) for each in admitted]


async def ask_in_two_processes(
    session: cql.Session, node: Node, keyspace: str, *arguments: Any
) -> list[Admission]:
    mine = partial(ask_with_many, session, keyspace, *arguments)
    other = partial(in_other_process, ask_with_many, node, keyspace, *arguments)
    return [Admission(*each) for found in await all_of([mine, other]) for each in found]


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket"])
async def test_forty_workers_of_two_processes_get_the_limit(
    session: cql.Session, cassandra: Node, keyspace: str, algorithm: str
) -> None:
    key = fresh()
    options = {"limit": 10, "per": 3600, "algorithm": algorithm, "on_failure": "raise"}
    admitted = await ask_in_two_processes(session, cassandra, keyspace, key, options, 20)
    assert len(admitted) == 10
    assert within_limit(admitted, 10, 3600) == []


async def test_no_window_has_more_than_the_limit(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """Two processes ask all the time, for several windows."""
    key = fresh()
    options = {"limit": 5, "per": 0.5, "on_failure": "raise"}
    admitted = await ask_in_two_processes(session, cassandra, keyspace, key, options, 3, 40, 0.04)
    assert within_limit(admitted, 5, 0.5) == []
    assert len(admitted) >= 10


async def test_the_naive_limit_lets_too_many_pass(session: cql.Session) -> None:
    """Read a counter, compare, add one."""
    key = fresh()
    barrier = anyio.Event()
    waiting = 0

    async def check() -> list[Admission]:
        nonlocal waiting
        asked = time.monotonic()
        select = "SELECT spent FROM naive WHERE key = ?"
        spent = (await session.execute(select, (key,))).scalar(0)
        waiting += 1
        if waiting == 40:
            barrier.set()
        await barrier.wait()  # all have read before the first one adds, as in a burst
        if spent >= 10:
            return []
        await session.execute("UPDATE naive SET spent = spent + 1 WHERE key = ?", (key,))
        return [Admission(asked, time.monotonic())]

    calls: list[Any] = [check] * 40
    admitted = [each for found in await all_of(calls) for each in found]
    assert within_limit(admitted, 10, 3600) == [
        f"a cost of {40 - place} was admitted from {each.asked} on"
        for place, each in enumerate(sorted(admitted))
        if 40 - place > 10
    ]


async def test_an_estimate_stays_near_the_limit(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    key = fresh()
    options = {"limit": 40, "per": 3600, "algorithm": "approximate", "on_failure": "raise"}
    admitted = await ask_in_two_processes(session, cassandra, keyspace, key, options, 4, 10)
    assert 40 <= len(admitted) <= 48  # 8 workers may be in flight when half of it is passed
    assert not (await RateLimiter(session, keyspace=keyspace, **options).check(key)).allowed  # type: ignore[arg-type]


async def test_what_a_check_costs(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:

        async def cost(limiter: RateLimiter, key: str) -> tuple[bool, int, int, int]:
            counting.records.clear()
            allowed = (await limiter.check(key)).allowed
            return allowed, counting.lwts, counting.reads, len(counting.records)

        for algorithm in ("sliding_window", "token_bucket"):
            limiter = RateLimiter(
                session,
                keyspace=keyspace,
                limit=2,
                per=60,
                algorithm=algorithm,
            )
            key = fresh()
            assert await cost(limiter, key) == (True, 1, 1, 2)
            assert await cost(limiter, key) == (True, 1, 0, 1)
            assert await cost(limiter, key) == (False, 0, 0, 0)
        rough = RateLimiter(session, keyspace=keyspace, limit=4, per=60, algorithm="approximate")
        key = fresh()
        assert await cost(rough, key) == (True, 0, 1, 2)
        assert await cost(rough, key) == (True, 0, 1, 2)
        assert await cost(rough, key) == (True, 1, 1, 2)
        assert await cost(rough, key) == (True, 1, 1, 2)
        assert await cost(rough, key) == (False, 0, 1, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_rows_expire(session: cql.Session, keyspace: str) -> None:
    async def check(algorithm: Any) -> None:
        limiter = RateLimiter(
            session, keyspace=keyspace, limit=10, per=1, algorithm=algorithm, on_failure="raise"
        )
        key = fresh()
        assert (await limiter.check(key)).remaining == 9
        await anyio.sleep(3.2)
        rows = await session.execute("SELECT * FROM rate_limits WHERE key = ?", (key,))
        assert rows.rows == []
        assert (await limiter.check(key)).remaining == 9

    algorithms = ("sliding_window", "token_bucket", "approximate")
    await all_of([*(partial(check, each) for each in algorithms)])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=2)
@given(
    faults=st.lists(st.lists(st.sampled_from([*FAULTS, None]), max_size=3), min_size=2, max_size=3),
    algorithm=st.sampled_from(["sliding_window", "token_bucket"]),
)
def test_no_fault_admits_too_many(
    cassandra: Node, keyspace: str, backend: str, faults: list[list[str | None]], algorithm: Any
) -> None:
    """Programs with bad networks of their own: what was admitted is counted, once."""
    key = fresh()
    options: Any = {"keyspace": keyspace, "limit": 6, "per": 3600, "algorithm": algorithm}

    async def program(mine: list[str | None]) -> list[Decision]:
        async with faulty(cassandra, keyspace, mine) as session:
            limiter = RateLimiter(session, **options)
            return [await limiter.check(key) for _ in range(4)]

    async def run() -> None:
        found = await all_of([*(partial(program, mine) for mine in faults)])
        decisions = [each for made in found for each in made]
        allowed = sum(each.allowed for each in decisions)
        unknown = sum(each.degraded for each in decisions)
        await anyio.sleep(0.6)  # what comes late is refused by then
        async with connected(cassandra, keyspace) as session:
            decision = await RateLimiter(session, **options).check(key)
        spent = 6 - decision.remaining - decision.allowed
        assert allowed <= 6
        assert allowed <= spent <= allowed + unknown

    anyio.run(run, backend=backend)
