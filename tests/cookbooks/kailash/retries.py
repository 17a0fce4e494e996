"""An overloaded node: what is safe is tried again, within one deadline; what isn't is not."""

from __future__ import annotations

import time

import cqlproto_anyio as cql
from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, NodeExecutionError, RetryConfig
from cqlproto_anyio.testing import Answer, Delay, FaultProxy, Rule

CREATE = "CREATE TABLE IF NOT EXISTS stamps (id int PRIMARY KEY, n int)"
SELECT = "SELECT n FROM stamps WHERE id = 1"


async def main(host: str, port: int, keyspace: str) -> None:
    async with FaultProxy(host, port) as proxy:
        profile = cql.Profile(retry=cql.NoRetry())
        async with cql.connect(
            proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
        ) as session:
            await session.execute(CREATE)
            await use(proxy, session)


async def use(proxy: FaultProxy, session: cql.Session) -> None:
    config = RetryConfig(max_retries=3, initial_delay=0.01, max_delay=0.05, jitter=True)
    node = AsyncSQLDatabaseNode(name="stamps", session=session, retry_config=config)
    busy = proxy.add(Rule(Answer("OVERLOADED"), statement="SELECT n%", times=2))
    await node.async_run(query=SELECT)
    assert busy.hits == 2

    # a write whose reply is lost may have been applied: it isn't sent again
    lost = Rule(Answer("WRITE_TIMEOUT"), side="reply", statement="INSERT%")
    proxy.add(lost)
    try:
        await node.async_run(query="INSERT INTO stamps (id, n) VALUES (1, 1) IF NOT EXISTS")
    except NodeExecutionError:
        assert lost.hits == 1
    else:
        raise AssertionError("the error was hidden")
    proxy.remove(lost)

    # none of the words of a message decide: a syntax error isn't tried again
    seen = proxy.add(Rule(Delay(0), statement="SELECT 'timeout%"))
    try:
        await node.async_run(query="SELECT 'timeout connection' FROM")
    except cql.InvalidSyntax:
        assert seen.hits == 1
    else:
        raise AssertionError("a statement that is none was executed")

    # no retries is one attempt, and there is no pause after the last
    proxy.add(Rule(Answer("OVERLOADED"), statement="SELECT n%"))
    once = AsyncSQLDatabaseNode(name="once", session=session, retry_config={"max_retries": 0})
    began = time.monotonic()
    try:
        await once.async_run(query=SELECT)
    except NodeExecutionError:
        assert time.monotonic() - began < 1
    else:
        raise AssertionError("an overloaded node has answered")
