"""Rate limits as web applications use them: by address, by API key, and during an outage."""

from __future__ import annotations

import datetime

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Decision, RateLimited, RateLimiter
from cqlproto_anyio.testing import Answer, FaultProxy, Rule

pytestmark = pytest.mark.cassandra

START = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)


class Clock:
    """A clock that a test sets: windows are counted on it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def limiter(session: cql.Session, keyspace: str) -> RateLimiter:
    limiter = RateLimiter(session, keyspace=keyspace, limit=10, per=60)
    await limiter.create_schema()
    return limiter


async def test_requests_of_one_address(limiter: RateLimiter) -> None:
    """The decision has what the response's headers need."""
    decisions = [await limiter.check("ip:1.2.3.4") for _ in range(10)]
    assert decisions[0] == Decision("ip:1.2.3.4", True, 9, 0.0, 10, False)
    assert [decision.remaining for decision in decisions] == list(range(9, -1, -1))
    assert decisions[9].raise_for_status() is decisions[9]
    refused = await limiter.check("ip:1.2.3.4")
    assert (refused.allowed, refused.remaining, refused.limit) == (False, 0, 10)
    assert 0 < refused.retry_after <= 60
    with pytest.raises(RateLimited) as info:
        refused.raise_for_status()
    error = info.value
    assert (error.key, error.limit, error.retry_after) == ("ip:1.2.3.4", 10, refused.retry_after)
    assert (await limiter.check("ip:5.6.7.8")).allowed
    await limiter.reset("ip:1.2.3.4")
    assert (await limiter.check("ip:1.2.3.4")).remaining == 9


async def test_forty_requests_at_once(limiter: RateLimiter) -> None:
    allowed = 0

    async def request() -> None:
        nonlocal allowed
        decision = await limiter.check("burst")
        allowed += decision.allowed

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(request)
    assert allowed == 10


async def test_expensive_requests(limiter: RateLimiter) -> None:
    assert (await limiter.check("report", cost=7)).remaining == 3
    refused = await limiter.check("report", cost=4)
    assert (refused.allowed, refused.remaining) == (False, 3)
    assert (await limiter.check("report", cost=3)).allowed
    with pytest.raises(cql.UsageError, match="cost"):
        await limiter.check("report", cost=11)


async def test_a_window_that_slides(session: cql.Session, keyspace: str, clock: Clock) -> None:
    """No burst at the edge of a minute: never more than the limit in any 60 seconds."""
    limiter = RateLimiter(
        session, keyspace=keyspace, table="sliding", limit=4, per=MINUTE, clock=clock
    )
    await limiter.create_schema()
    admitted: list[float] = []
    for _ in range(60):
        decision = await limiter.check("key")
        if decision.allowed:
            admitted.append((clock.now - START).total_seconds())
        clock.advance(5)
    assert len(admitted) >= 8
    for since in admitted:
        assert sum(since <= each < since + 60 for each in admitted) <= 4
    refused = decision
    while refused.allowed:
        refused = await limiter.check("key")
    clock.advance(refused.retry_after + 0.001)
    assert (await limiter.check("key")).allowed


async def test_a_token_bucket(session: cql.Session, keyspace: str, clock: Clock) -> None:
    """A burst of the limit, then one token every ten seconds."""
    limiter = RateLimiter(
        session,
        keyspace=keyspace,
        table="buckets",
        limit=6,
        per=60,
        algorithm="token_bucket",
        clock=clock,
    )
    await limiter.create_schema()
    assert [(await limiter.check("key")).allowed for _ in range(7)] == [True] * 6 + [False]
    refused = await limiter.check("key", cost=2)
    assert refused.retry_after == pytest.approx(20, abs=0.1)
    clock.advance(10.01)
    assert [(await limiter.check("key")).allowed for _ in range(2)] == [True, False]
    clock.advance(1000)
    assert [(await limiter.check("key")).allowed for _ in range(7)] == [True] * 6 + [False]


async def test_an_approximate_limit(session: cql.Session, keyspace: str) -> None:
    """Cheap far from the limit; near it, it counts exactly enough to refuse."""
    limiter = RateLimiter(
        session, keyspace=keyspace, table="rough", limit=100, per=3600, algorithm="approximate"
    )
    await limiter.create_schema()
    first = await limiter.check("key")
    assert (first.allowed, first.degraded) == (True, False)
    decisions = [await limiter.check("key", cost=5) for _ in range(60)]
    assert not decisions[-1].allowed
    assert decisions[-1].retry_after > 0
    assert 18 <= sum(decision.allowed for decision in decisions) <= 30


async def test_an_outage_of_the_database(
    shaky: cql.Session, proxy: FaultProxy, limiter: RateLimiter, keyspace: str
) -> None:
    """What happens then is the application's choice."""
    deny = RateLimiter(shaky, keyspace=keyspace, limit=10, per=60)
    allow = RateLimiter(shaky, keyspace=keyspace, limit=10, per=60, on_failure="allow")
    strict = RateLimiter(shaky, keyspace=keyspace, limit=10, per=60, on_failure="raise")
    assert (await deny.check("outage")).remaining == 9
    proxy.add(Rule(Answer("UNAVAILABLE"), opcode=["QUERY", "EXECUTE", "BATCH"]))
    denied = await deny.check("outage")
    assert (denied.allowed, denied.degraded, denied.remaining) == (False, True, 0)
    assert denied.retry_after > 0
    with pytest.raises(RateLimited):
        denied.raise_for_status()
    allowed = await allow.check("outage")
    assert (allowed.allowed, allowed.degraded, allowed.remaining) == (True, True, 0)
    with pytest.raises(cql.Unavailable):
        await strict.check("outage")
    proxy.clear()
    assert (await deny.check("outage")).remaining == 8


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, limiter: RateLimiter
) -> None:
    for limit in (0, -1, 1.5, True):
        with pytest.raises(cql.UsageError, match="limit"):
            RateLimiter(session, keyspace="shop", limit=limit, per=60)  # type: ignore[arg-type]
    for per in (0, -MINUTE, float("nan")):
        with pytest.raises(cql.UsageError, match="per"):
            RateLimiter(session, keyspace="shop", limit=1, per=per)
    with pytest.raises(cql.UsageError, match="algorithm .*token_bucket"):
        RateLimiter(session, keyspace="shop", limit=1, per=1, algorithm="leaky")  # type: ignore[arg-type]
    with pytest.raises(cql.UsageError, match="on_failure"):
        RateLimiter(session, keyspace="shop", limit=1, per=1, on_failure="open")  # type: ignore[arg-type]
    for cost in (0, -1, True):
        with pytest.raises(cql.UsageError, match="cost"):
            await limiter.check("key", cost=cost)
    with pytest.raises(cql.UsageError, match="key"):
        await limiter.check("")
    assert RateLimiter.schema_cql("shop", table="limits")
