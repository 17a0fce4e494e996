"""Code that was written for rsylla, with its import line changed."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns.rsylla import (
    Batch,
    PreparedStatement,
    Query,
    QueryResult,
    Row,
    ScyllaError,
    Session,
    SessionBuilder,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


@pytest.fixture
async def scylla(cassandra: Node, keyspace: str, anyio_backend: object) -> AsyncIterator[Session]:
    builder = SessionBuilder().known_node(f"{cassandra.host}:{cassandra.port}")
    session = await builder.use_keyspace(keyspace, False).pool_size(1).build()
    async with session:
        yield session


async def test_connect_and_read(cassandra: Node, keyspace: str) -> None:
    session = await Session.connect([f"{cassandra.host}:{cassandra.port}"])
    assert session.get_keyspace() is None
    await session.use_keyspace(keyspace, False)
    assert session.get_keyspace() == keyspace
    assert await session.await_schema_agreement() is True
    result = await session.execute("SELECT key FROM system.local")
    assert isinstance(result, QueryResult)
    row = result.first_row()
    assert isinstance(row, Row)
    assert row.columns() == ["local"]
    assert isinstance(session.session, cql.Session)
    await session.aclose()


async def test_builders_leave_one_another_alone(cassandra: Node, keyspace: str) -> None:
    plain = SessionBuilder().known_nodes([f"{cassandra.host}:{cassandra.port}"])
    scoped = plain.use_keyspace(keyspace, True).user("ann", "secret").compression(None)
    timed = scoped.connection_timeout(3000).tcp_nodelay(True).tcp_keepalive(None)
    async with await plain.build() as first, await timed.build() as second:
        assert (first.get_keyspace(), second.get_keyspace()) == (None, keyspace)
    assert "secret" not in repr(timed)
    with pytest.raises(ValueError, match="pool_size"):
        plain.pool_size(0)
    with pytest.raises(ValueError, match="compression"):
        plain.compression("zip")  # type: ignore[arg-type]


async def test_values_come_back_as_they_were(scylla: Session) -> None:
    """Doubles, small and large numbers, empty lists, sets, maps, datetimes and UUIDs."""
    await scylla.execute(
        "CREATE TABLE IF NOT EXISTS kinds (id uuid PRIMARY KEY, d double, b bigint, l list<int>,"
        " s set<text>, m map<text, double>, t timestamp, n int)"
    )
    id = uuid.uuid4()
    moment = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    values = {
        "id": id,
        "d": 0.1,
        "b": 5,
        "l": [1, 2, 3],
        "s": {"a"},
        "m": {"a": 1.5},
        "t": moment,
        "n": None,
    }
    await scylla.execute(
        "INSERT INTO kinds (id, d, b, l, s, m, t, n) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values
    )
    result = await scylla.execute("SELECT * FROM kinds WHERE id = ?", {"id": id})
    assert result.first_row_typed() == values
    row = result.single_row()
    assert row.as_dict() == values
    assert (row[0], row.get(0), len(row)) == (id, id, 8)
    assert [spec["name"] for spec in result.col_specs()] == list(row.as_dict())
    milliseconds = {"id": id, "t": 1_709_208_000_000}
    await scylla.execute("INSERT INTO kinds (id, t) VALUES (?, ?)", milliseconds)
    after = (await scylla.execute("SELECT t FROM kinds")).first_row()
    assert after is not None
    assert after[0] == moment


async def test_results_can_be_read_again(scylla: Session) -> None:
    await scylla.execute("CREATE TABLE IF NOT EXISTS numbers (id int PRIMARY KEY)")
    for number in range(3):
        await scylla.execute("INSERT INTO numbers (id) VALUES (?)", {"id": number})
    result = await scylla.query(Query("SELECT id FROM numbers").with_page_size(2))
    assert (len(result), bool(result)) == (3, True)
    assert sorted(row[0] for row in result) == [0, 1, 2]
    assert sorted(row[0] for row in result) == [0, 1, 2]
    assert len(result.rows()) == len(result.rows_typed()) == 3
    with pytest.raises(ValueError, match="3"):
        result.single_row()
    empty = await scylla.execute("SELECT id FROM numbers WHERE id = 9")
    assert (len(empty), bool(empty), empty.first_row(), empty.warnings()) == (0, False, None, [])


async def test_names_of_the_pages(scylla: Session) -> None:
    """Values of markers without a name of their own: ttl, and two ends of a range."""
    await scylla.execute(
        "CREATE TABLE IF NOT EXISTS points"
        " (sensor text, ts bigint, value double, PRIMARY KEY (sensor, ts))"
    )
    insert = "INSERT INTO points (sensor, ts, value) VALUES (?, ?, ?) USING TTL ?"
    for ts in range(10):
        await scylla.execute(insert, {"sensor": "a", "ts": ts, "value": ts / 2, "ttl": 60})
    select = "SELECT ts FROM points WHERE sensor = ? AND ts >= ? AND ts <= ?"
    found = await scylla.execute(select, {"sensor": "a", "ts_start": 3, "ts_end": 5})
    assert [row[0] for row in found.rows()] == [3, 4, 5]
    with pytest.raises(ScyllaError, match="sensor"):  # a value that isn't in its marker's place
        await scylla.execute(select, {"ts_start": 3, "sensor": "a", "ts_end": 5})
    with pytest.raises(ScyllaError):
        await scylla.execute(select, {"sensor": "a"})


async def test_prepared_statements_and_batches(scylla: Session) -> None:
    await scylla.execute("CREATE TABLE IF NOT EXISTS users (id int PRIMARY KEY, name text)")
    prepared = await scylla.prepare("INSERT INTO users (id, name) VALUES (?, ?) IF NOT EXISTS")
    assert isinstance(prepared, PreparedStatement)
    assert prepared.get_statement().startswith("INSERT")
    assert prepared.get_id()
    taken = {"id": 1, "name": "Ann"}
    quorum = prepared.with_consistency("QUORUM").with_serial_consistency("LOCAL_SERIAL")
    first = (await scylla.execute_prepared(quorum, taken)).first_row()
    second = (await scylla.execute_prepared(prepared, taken)).first_row()
    assert first is not None
    assert second is not None
    assert first[0] is True
    assert second.columns() == [False, 1, "Ann"]

    batch = Batch("logged")
    batch.append_statement("INSERT INTO users (id, name) VALUES (?, ?)")
    batch.append_prepared(await scylla.prepare("UPDATE users SET name = ? WHERE id = ?"))
    batch.append_query(Query("DELETE FROM users WHERE id = 9"))
    assert batch.statements_count() == 3
    values = [{"id": 2, "name": "Bob"}, {"name": "Anna", "id": 1}, {}]
    await scylla.batch(batch.with_timeout(5000), values)
    rows = await scylla.execute("SELECT name FROM users")
    assert sorted(row[0] for row in rows) == ["Anna", "Bob"]
    with pytest.raises(ScyllaError, match="3.*1"):
        await scylla.batch(batch, [{}])
    with pytest.raises(ValueError, match="logged"):
        Batch("loged")  # type: ignore[arg-type]


async def test_options_make_new_queries(scylla: Session) -> None:
    query = Query("SELECT key FROM system.local")
    tuned = query.with_consistency("one").with_timeout(5000).with_tracing(True).set_idempotent(True)
    assert (query.is_idempotent(), tuned.is_idempotent()) == (False, True)
    assert tuned.get_contents() == query.get_contents()
    assert (await scylla.query(query)).tracing_id() is None
    traced = (await scylla.query(tuned)).tracing_id()
    assert traced is not None
    uuid.UUID(traced)
    with pytest.raises(ValueError, match="consistency"):
        query.with_consistency("quorom")
    with pytest.raises(ValueError, match="page_size"):
        query.with_page_size(0)


async def test_errors_are_of_one_class(scylla: Session) -> None:
    with pytest.raises(ScyllaError) as info:
        await scylla.execute("SELECT * FROM nothing")
    assert isinstance(info.value, cql.InvalidQuery)
