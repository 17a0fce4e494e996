"""Rate limiters: what they send, races of programs, lost replies, outages, mistakes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Decision, InvalidInput, OutcomeUnknown, RateLimited, RateLimiter
from tests.cqlproto_anyio.patterns.ratetable import RateTable
from tests.support.cancellation import cancelled_at
from tests.support.histories import Admission, within_limit
from tests.support.scripted import timed_out, unavailable

START = datetime(2024, 2, 29, 12, tzinfo=UTC)


def clock() -> datetime:
    return START + timedelta(seconds=anyio.current_time())


def limiter(table: RateTable, limit: int = 3, per: Any = 60, **options: Any) -> RateLimiter:
    return RateLimiter(
        table.executor, keyspace="shop", limit=limit, per=per, clock=clock, **options
    )


async def test_a_check_costs_one_lwt() -> None:
    table = RateTable()
    mine = limiter(table)
    assert await mine.check("a") == Decision("a", True, 2, 0.0, 3)
    assert (table.executor.lwts, table.reads) == (1, 1)
    assert await mine.check("a", cost=2) == Decision("a", True, 0, 0.0, 3)
    assert (table.executor.lwts, table.reads) == (2, 1)


async def test_a_refusal_costs_a_read_a_second_at_most() -> None:
    table = RateTable()
    mine = limiter(table, limit=1)
    assert (await mine.check("a")).allowed
    for _ in range(10):
        refused = await mine.check("a")
        assert (refused.allowed, refused.remaining, refused.retry_after) == (False, 0, 60.0)
    assert (table.executor.lwts, table.reads) == (1, 1)
    await anyio.sleep(1.5)
    for _ in range(10):
        assert (await mine.check("a")).retry_after == 58.5
    assert (table.executor.lwts, table.reads) == (1, 2)
    with pytest.raises(RateLimited) as info:
        refused.raise_for_status()
    assert (info.value.key, info.value.limit, info.value.retry_after) == ("a", 1, 60.0)
    assert str(info.value) == "'a' is over its limit of 1: try again in 60.000 s"


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket", "approximate"])
async def test_programs_that_race_admit_the_limit_together(algorithm: str) -> None:
    table = RateTable()
    programs = [limiter(table, limit=10, algorithm=algorithm) for _ in range(4)]
    decisions: list[Decision] = []

    async def ask(program: RateLimiter) -> None:
        decisions.append(await program.check("a"))

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(ask, programs[number % 4])
            await anyio.sleep(0.001 if algorithm == "approximate" else 0)
    assert sum(each.allowed for each in decisions) == 10
    assert not any(each.degraded for each in decisions)
    assert all(not each._turns._locks for each in programs)


async def test_tasks_of_one_program_cost_one_lwt_each() -> None:
    table = RateTable()
    mine = limiter(table, limit=10)
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(mine.check, "a")
    assert (table.executor.lwts, table.reads) == (10, 1)


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket"])
async def test_no_window_has_more_than_was_promised(algorithm: str) -> None:
    table = RateTable()
    programs = [limiter(table, limit=5, per=10, algorithm=algorithm) for _ in range(2)]
    admitted: list[Admission] = []
    for number in range(200):
        asked = anyio.current_time()
        if (await programs[number % 2].check("a")).allowed:
            admitted.append(Admission(asked, anyio.current_time()))
        await anyio.sleep(0.3)
    most = 5 if algorithm == "sliding_window" else 10  # a bucket refills while it is emptied
    assert within_limit(admitted, most, 10) == []
    assert len(admitted) >= 25


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket"])
async def test_a_lost_reply_counts_once(fault: str, algorithm: str) -> None:
    table = RateTable(fault)
    mine = limiter(table, algorithm=algorithm)
    assert (await mine.check("a")).remaining == 2
    table.deliver()
    assert (await mine.check("a")).remaining == 1
    assert (await limiter(table, algorithm=algorithm).check("a")).remaining == 0


async def test_what_others_have_overwritten_cannot_be_settled() -> None:
    """Eight other requests came in the time of the lost one: the ids don't reach back to it."""
    table = RateTable()
    others = limiter(table, limit=100)

    async def overtake() -> None:
        request = table.executor.asked[-1]
        table.apply(request)
        for _ in range(8):
            await others.check("a")

    original = table.attempt

    async def conditional(request: Any) -> Any:
        table.attempt = original  # type: ignore[method-assign]
        await overtake()
        return timed_out()

    for options, raises in (({}, False), ({"on_failure": "raise"}, True)):
        mine = limiter(table, limit=100, **options)
        await mine.check("a")
        table.attempt = conditional  # type: ignore[method-assign]
        if raises:
            with pytest.raises(OutcomeUnknown, match="count a request of 'a'"):
                await mine.check("a")
        else:
            decision = await mine.check("a")
            assert (decision.allowed, decision.degraded) == (False, True)


async def test_an_outage_is_decided_by_choice() -> None:
    table = RateTable()
    table.outage = unavailable()
    assert await limiter(table).check("a") == Decision("a", False, 0, 1.0, 3, degraded=True)
    allow = limiter(table, on_failure="allow")
    assert await allow.check("a") == Decision("a", True, 0, 0.0, 3, degraded=True)
    with pytest.raises(cql.Unavailable):
        await limiter(table, on_failure="raise").check("a")
    rough = limiter(table, algorithm="approximate")
    assert (await rough.check("a")).degraded
    table.outage = None
    assert (await rough.check("a")).remaining == 2
    table.outage = cql.UsageError("no table of this name")
    with pytest.raises(cql.UsageError):
        await allow.check("a")


async def test_an_estimate_costs_no_lwt_below_half_of_the_limit() -> None:
    table = RateTable()
    programs = [limiter(table, limit=100, algorithm="approximate") for _ in range(3)]
    for number in range(50):
        decision = await programs[number % 3].check("a")
        assert (decision.allowed, decision.remaining) == (True, 99 - number)
    assert (table.executor.lwts, table.reads) == (0, 50)
    assert len(table.shares["a"]) == 3
    for number in range(50):
        decision = await programs[number % 3].check("a")
        assert (decision.allowed, decision.remaining) == (True, 49 - number)
    assert table.executor.lwts >= 50
    assert not (await programs[0].check("a")).allowed
    assert not (await limiter(table, limit=100, algorithm="approximate").check("a")).allowed


async def test_an_estimate_counts_slots_of_time() -> None:
    table = RateTable()
    mine = limiter(table, limit=10, per=100, algorithm="approximate")
    admitted: list[Admission] = []
    for _ in range(300):
        asked = anyio.current_time()
        if (await mine.check("a")).allowed:
            admitted.append(Admission(asked, asked))
        await anyio.sleep(3)
    assert within_limit(admitted, 10, 100) == []
    assert len(admitted) >= 60
    await anyio.sleep(200)
    assert table.rows("a") == []


async def test_reset_forgets_what_was_spent() -> None:
    for algorithm in ("sliding_window", "token_bucket", "approximate"):
        table = RateTable()
        mine = limiter(table, limit=4, algorithm=algorithm)
        await mine.reset("a")
        while (await mine.check("a")).allowed:
            pass
        await mine.reset("a")
        assert (await mine.check("a")).remaining == 3
        assert (await limiter(table, limit=4, algorithm=algorithm).check("a")).remaining == 2


async def test_reset_wins_against_other_programs() -> None:
    table = RateTable()
    mine, other = limiter(table), limiter(table)
    await other.check("a")

    async def ask() -> None:
        for _ in range(3):
            await other.check("a")

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        group.start_soon(mine.reset, "a")
    assert (await mine.check("a")).remaining >= 0


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket", "approximate"])
async def test_a_check_may_be_cancelled_at_every_await(algorithm: str) -> None:
    table = RateTable()
    mine = limiter(table, limit=20, algorithm=algorithm)
    for number in range(1, 20):
        cancelled = await cancelled_at(number, mine.check("a"))
        assert mine._turns._locks == {}
        share = mine._shares.get("a")
        assert share is None or share.pending == 0
        if not cancelled:
            break
    assert 1 < number < 19  # it was cancelled at each, and then not at all
    # what may have been counted is counted, and not more
    assert 20 - number - 1 <= (await mine.check("a")).remaining < 20
    remaining = (await limiter(table, limit=20, algorithm=algorithm).check("a")).remaining
    assert remaining <= (await mine.check("a")).remaining + 1


async def test_a_partition_lives_as_long_as_it_counts() -> None:
    table = RateTable()
    mine = limiter(table, per=timedelta(seconds=60))
    await mine.check("a")
    assert table.executor.asked[-1].values["ttl"] == 61
    await anyio.sleep(60)
    assert (await mine.check("a")).remaining == 2
    await anyio.sleep(62)
    assert table.state("a") is None
    assert (await mine.check("a")).remaining == 2


async def test_many_keys_take_bounded_memory() -> None:
    table = RateTable()
    for algorithm in ("sliding_window", "approximate"):
        mine = limiter(table, limit=100, algorithm=algorithm)
        for number in range(2500):
            await mine.check(f"ip:{number}")
        assert len(mine._states) <= 1000
        assert len(mine._shares) <= 1000
        assert not mine._turns._locks


def test_the_table() -> None:
    (statement,) = RateLimiter.schema_cql("shop")
    assert statement == (
        'CREATE TABLE IF NOT EXISTS "shop"."rate_limits" ("key" text, "slot" bigint,'
        ' "writer" uuid, "state" frozen<tuple<frozen<list<uuid>>, frozen<list<bigint>>,'
        ' frozen<list<bigint>>>> static, "spent" bigint,'
        ' PRIMARY KEY (("key"), "slot", "writer"))'
    )


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("limit", {"limit": 0}),
    ("limit", {"limit": True}),
    ("limit", {"limit": 2**62}),
    ("per", {"per": 0}),
    ("per", {"per": float("inf")}),
    ("per", {"per": timedelta(days=-1)}),
    ("algorithm", {"algorithm": "leaky"}),
    ("algorithm", {"algorithm": None}),
    ("on_failure", {"on_failure": "open"}),
    ("keyspace", {"keyspace": "a b"}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_wrong_settings(name: str, wrong: dict[str, Any]) -> None:
    options: Any = {"keyspace": "shop", "limit": 1, "per": 1, **wrong}
    with pytest.raises(InvalidInput) as info:
        RateLimiter(RateTable().executor, **options)
    assert info.value.name == name


async def test_wrong_arguments() -> None:
    table = RateTable()
    mine = limiter(table)
    for cost in (0, -1, 4, 1.0, True):
        with pytest.raises(InvalidInput, match="cost must be an int from 1 to 3"):
            await mine.check("a", cost=cost)  # type: ignore[arg-type]
    for key in ("", "x" * 2000, None):
        with pytest.raises(InvalidInput, match="key"):
            await mine.check(key)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="key"):
            await mine.reset(key)  # type: ignore[arg-type]
    naive = RateLimiter(
        table.executor, keyspace="shop", limit=1, per=1, clock=lambda: datetime(2024, 1, 1)
    )
    with pytest.raises(InvalidInput, match="clock"):
        await naive.check("a")
    assert all(each.text.startswith("SELECT") for each in table.executor.asked)
