"""Traces of a real node: of every kind of request, complete, and of one that failed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio.tracing import Trace, TraceNotFound, fetch_trace
from tests.cassandra.concurrently import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

VERSIONS = list(ProtocolVersion)


@pytest.fixture(scope="module", params=VERSIONS, ids=str)
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[cql.Session]:
    """A session whose defaults would break reading a trace, if they applied to it."""
    config = cql.Config(protocol_version=request.param)
    profile = cql.Profile(max_rows=10, page_size=2, consistency=cql.Consistency.LOCAL_ONE)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, profile=profile, config=config
    ) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, v int)")
        yield session


def check(trace: Trace, tracing_id: uuid.UUID | None) -> None:
    """Check the properties of every complete trace."""
    assert trace.id == tracing_id
    assert trace.duration is not None
    assert 0 < trace.duration < 10
    assert trace.coordinator is not None
    assert trace.started_at is not None
    assert abs(trace.started_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert trace.events
    for event in trace.events:
        assert event.activity
        assert event.elapsed is not None
        assert abs(event.at - trace.started_at) < timedelta(seconds=10)
    moments = [event.at for event in trace.events]
    assert moments == sorted(moments)
    # an activity of 6.0 has lines of its own
    lines = sum(len(event.activity.splitlines()) for event in trace.events)
    assert len(str(trace).splitlines()) == 1 + lines


async def test_a_plain_query(session: cql.Session) -> None:
    result = await session.execute("SELECT key FROM system.local", trace=True)
    trace = await fetch_trace(session, result.tracing_id)
    check(trace, result.tracing_id)
    assert trace.command == "QUERY"
    assert str(trace.client) == "127.0.0.1"
    assert trace.request == "Execute CQL3 query"
    assert trace.parameters["query"] == "SELECT key FROM system.local"
    assert trace.parameters["consistency_level"] == "LOCAL_ONE"


async def test_a_prepared_statement_a_page_and_a_batch(session: cql.Session) -> None:
    insert = "INSERT INTO t (id, v) VALUES (?, ?)"
    written = await session.execute(insert, (1, 2), trace=True)
    check(await fetch_trace(session, written.tracing_id), written.tracing_id)
    page = await session.page("SELECT v FROM t WHERE id = ?", (1,), trace=True)
    trace = await fetch_trace(session, page.tracing_id)
    check(trace, page.tracing_id)
    assert "Execute CQL3 prepared query" in str(trace)
    batch = await session.batch([(insert, (1, 3)), (insert, (2, 3))], trace=True)
    trace = await fetch_trace(session, batch.tracing_id)
    check(trace, batch.tracing_id)
    assert "batch" in str(trace.request).lower()


async def test_the_session_may_trace_everything(session: cql.Session) -> None:
    """Reading a trace is not traced itself."""
    tracing = session.using(profile=cql.Profile(trace=True, consistency=cql.Consistency.ONE))
    result = await tracing.execute("SELECT key FROM system.local")
    check(await fetch_trace(tracing, result.tracing_id), result.tracing_id)
    traced = await session.execute(
        "SELECT parameters FROM system_traces.sessions",
        profile=cql.Profile(consistency=cql.Consistency.ONE, max_rows=100_000, page_size=5000),
    )
    assert traced.rows
    for row in traced.rows:
        assert "WHERE session_id" not in (row.parameters or {}).get("query", "")


async def test_many_at_once(session: cql.Session) -> None:
    async def one(number: int) -> None:
        result = await session.execute("SELECT v FROM t WHERE id = ?", (number,), trace=True)
        check(await fetch_trace(session, result.tracing_id), result.tracing_id)

    await all_of([partial(one, number) for number in range(20)])


async def test_a_request_that_was_not_traced(session: cql.Session) -> None:
    result = await session.execute("SELECT key FROM system.local")
    with pytest.raises(cql.UsageError, match="pass trace=True"):
        await fetch_trace(session, result.tracing_id)


async def test_there_is_no_such_trace(session: cql.Session) -> None:
    with pytest.raises(TraceNotFound, match="isn't there after 0.2 s"):
        await fetch_trace(session, uuid.uuid1(), timeout=0.2)
