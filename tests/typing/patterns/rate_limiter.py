"""The types of rate limits. Checked by mypy, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, assert_type

from cqlproto_anyio.patterns import Decision, RateLimited, RateLimiter

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def limiting(executor: cql.Executor) -> None:
    limiter = RateLimiter(executor, keyspace="shop", limit=100, per=60)
    RateLimiter(
        executor,
        keyspace="shop",
        table="limits",
        limit=100,
        per=timedelta(minutes=1),
        algorithm="token_bucket",
        on_failure="allow",
    )
    assert_type(await limiter.create_schema(), None)
    assert_type(RateLimiter.schema_cql("shop"), tuple[str, ...])
    decision = await limiter.check("ip:1.2.3.4", cost=2)
    assert_type(decision, Decision)
    assert_type((decision.allowed, decision.degraded), tuple[bool, bool])
    assert_type((decision.key, decision.limit, decision.remaining), tuple[str, int, int])
    assert_type(decision.retry_after, float)
    assert_type(decision.raise_for_status(), Decision)
    assert_type(await limiter.reset("ip:1.2.3.4"), None)
    decision.allowed = True  # type: ignore[misc]


async def mistakes(executor: cql.Executor, limiter: RateLimiter) -> None:
    RateLimiter(executor, keyspace="shop", limit=100)  # type: ignore[call-arg]
    RateLimiter(executor, keyspace="shop", limit=1, per=1, algorithm="leaky")  # type: ignore[arg-type]
    RateLimiter(executor, keyspace="shop", limit=1, per=1, on_failure="open")  # type: ignore[arg-type]
    await limiter.check("key", 2)  # type: ignore[call-arg]
    await limiter.check("key", cost=1.5)  # type: ignore[arg-type]


def failing(error: RateLimited) -> None:
    assert_type((error.key, error.limit, error.retry_after), tuple[str, int, float])
