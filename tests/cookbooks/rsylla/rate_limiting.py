"""Ten requests a minute: counted by the page's counters, and kept by a limiter under a race."""

from __future__ import annotations

import time

import anyio

from cqlproto_anyio.patterns import RateLimiter
from cqlproto_anyio.patterns.rsylla import Session

CONFIG = """
    CREATE TABLE IF NOT EXISTS rate_limit_config (
        identifier text PRIMARY KEY, max_tokens int, bucket_size_seconds int
    )
"""
COUNTS = """
    CREATE TABLE IF NOT EXISTS request_counts (
        identifier text, bucket_time bigint, tokens counter, PRIMARY KEY (identifier, bucket_time)
    )
"""


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CONFIG)
    await session.execute(COUNTS)
    who = "api:user:123"
    insert = (
        "INSERT INTO rate_limit_config (identifier, max_tokens, bucket_size_seconds)"
        " VALUES (?, ?, ?)"
    )
    limit = {"identifier": who, "max_tokens": 10, "bucket_size_seconds": 60}
    await session.execute(insert, limit)
    select = "SELECT max_tokens, bucket_size_seconds FROM rate_limit_config WHERE identifier = ?"
    config = (await session.execute(select, {"identifier": who})).first_row()
    assert config is not None
    most, size = config.columns()
    bucket = {"identifier": who, "bucket_time": int(time.time()) // size * size}
    count = "SELECT tokens FROM request_counts WHERE identifier = ? AND bucket_time = ?"
    assert (await session.execute(count, bucket)).first_row() is None
    spend = "UPDATE request_counts SET tokens = tokens + ? WHERE identifier = ? AND bucket_time = ?"
    await session.execute(spend, {"tokens": 2, **bucket})
    spent = (await session.execute(count, bucket)).first_row()
    assert spent is not None
    assert spent[0] == 2

    limiter = RateLimiter(session.session, keyspace=keyspace, limit=most, per=size)
    await limiter.create_schema()
    admitted = 0

    async def request() -> None:
        nonlocal admitted
        decision = await limiter.check(who)
        admitted += decision.allowed

    async with anyio.create_task_group() as group:
        for _ in range(40):
            group.start_soon(request)
    assert admitted == 10  # reading the count and then adding has admitted 12
    refused = await limiter.check(who)
    assert not refused.allowed
    assert 0 < refused.retry_after <= 60
    await session.aclose()
