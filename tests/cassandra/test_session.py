"""Advanced features of a session, on a real node; test_lines.py has the basic ones."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import pytest_asyncio

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from tests.cassandra.concurrently import all_of
from tests.support.server import idle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

VERSIONS = [ProtocolVersion.V5, ProtocolVersion.V4]
TABLES = (
    "CREATE TABLE IF NOT EXISTS users (id int PRIMARY KEY, name text, email text, age int)",
    "CREATE TABLE IF NOT EXISTS hits (page text PRIMARY KEY, n counter)",
    """CREATE TABLE IF NOT EXISTS rooms (
        room text, seat int, owner text static, taken boolean, PRIMARY KEY (room, seat)
    )""",
)
fresh = itertools.count(10_000)


@dataclasses.dataclass
class User:
    id: int
    name: str | None
    email: str | None = None
    age: int | None = None


@pytest.fixture(scope="module", params=VERSIONS, ids=["v5", "v4"])
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[cql.Session]:
    config = cql.Config(protocol_version=request.param)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        for statement in TABLES:
            await session.execute(statement)
        yield session


# -- many at a time


@pytest.mark.uvloop
async def test_two_thousand_executes_at_once(session: cql.Session) -> None:
    insert = "INSERT INTO users (id, name) VALUES (?, ?)"
    select = "SELECT name FROM users WHERE id = ?"
    numbers = range(2000)
    await all_of([partial(session.execute, insert, (n, f"user {n}")) for n in numbers])
    found = await all_of([partial(session.execute, select, (n,)) for n in numbers])
    assert [result.one().name for result in found] == [f"user {n}" for n in numbers]


@pytest.mark.uvloop
async def test_more_at_once_than_a_connection_takes(cassandra: Node, keyspace: str) -> None:
    config = cql.Config(max_in_flight=16, max_unsent=4096)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        query = "SELECT release_version, (int)? AS n FROM system.local"
        found = await all_of([partial(session.execute, query, (n,)) for n in range(500)])
        assert [result.one().n for result in found] == list(range(500))


# -- lightweight transactions


async def test_a_conditional_insert(session: cql.Session) -> None:
    user = User(next(fresh), "Ann", "ann@example.org", 30)
    insert = "INSERT INTO users (id, name, email, age) VALUES (:id, :name, :email, :age)"
    first = await session.execute(insert + " IF NOT EXISTS", user)
    assert first.applied
    assert first.existing is None
    again = await session.execute(insert + " IF NOT EXISTS", dataclasses.replace(user, name="Bea"))
    assert not again.applied
    assert again.existing == dataclasses.asdict(user)
    with pytest.raises(cql.ResultError):
        _ = (await session.execute(insert, user)).applied


async def test_a_row_class_on_a_conditional_insert(session: cql.Session) -> None:
    user = User(next(fresh), "Cid", None, None)
    insert = "INSERT INTO users (id, name) VALUES (?, ?) IF NOT EXISTS"
    prepared = await session.prepare(insert, row=User)
    for _ in range(2):
        result = await session.execute(prepared, (user.id, user.name))
        if result.applied:
            assert result.rows == []
        else:
            assert result.one() == user
    assert result.existing == {"id": user.id, "name": "Cid", "email": None, "age": None}
    other = next(fresh)
    for _ in range(3):  # its columns change with the outcome, back and forth
        assert (await session.execute(prepared, (other, "Dan"))).applied
        refused = await session.execute(prepared, (other, "Dan"))
        assert (refused.applied, refused.one()) == (False, User(other, "Dan"))
        await session.execute("DELETE FROM users WHERE id = ?", (other,))


async def test_a_failed_condition_tells_the_columns_of_the_condition(session: cql.Session) -> None:
    id = next(fresh)
    await session.execute("INSERT INTO users (id, name, age) VALUES (?, 'Eve', 40)", (id,))
    update = "UPDATE users SET name = ? WHERE id = ? IF age = ? AND email = ?"
    refused = await session.execute(update, ("Eva", id, 41, None))
    assert not refused.applied
    assert refused.existing == {"age": 40, "email": None}
    assert (await session.execute(update, ("Eva", id, 40, None))).applied
    missing = await session.execute(update, ("Eva", next(fresh), 41, "x"))
    assert not missing.applied
    assert missing.existing is None
    exists = await session.execute("DELETE FROM users WHERE id = ? IF EXISTS", (next(fresh),))
    assert (exists.applied, exists.existing) == (False, None)


async def test_a_row_class_that_a_refusal_does_not_fit(session: cql.Session) -> None:
    id = next(fresh)
    update = await session.prepare("UPDATE users SET age = 5 WHERE id = ? IF name = ?", row=User)
    missing = await session.execute(update, (id, "Abe"))
    assert (missing.applied, missing.existing, missing.rows) == (False, None, [])
    await session.execute("INSERT INTO users (id, name) VALUES (?, 'Zoe')", (id,))
    for _ in range(2):
        refused = await session.execute(update, (id, "Abe"))
        assert (refused.applied, refused.existing, refused.rows) == (False, {"name": "Zoe"}, [])
    assert (await session.execute(update, (id, "Zoe"))).applied


async def test_a_column_that_a_select_calls_applied(session: cql.Session) -> None:
    for seat in range(7):
        await session.execute("INSERT INTO rooms (room, seat) VALUES ('named', ?)", (seat,))
    query = """SELECT seat AS "[applied]", room FROM rooms WHERE room = 'named'"""
    as_json = """SELECT JSON seat AS "[applied]" FROM rooms WHERE room = 'named'"""
    for text, parameters in [(query, None), (query, ()), (query, ()), (as_json, ())]:
        result = await session.execute(text, parameters, page_size=2)
        assert len(result) == 7
        with pytest.raises(cql.ResultError):
            _ = result.applied


async def test_a_condition_on_null(session: cql.Session) -> None:
    id = next(fresh)
    update = "UPDATE users SET age = 1 WHERE id = ? IF email = null"
    assert (await session.execute(update, (id,))).applied  # a missing row has no email either
    await session.execute("UPDATE users SET email = 'f' WHERE id = ?", (id,))
    refused = await session.execute(update, (id,))
    assert (refused.applied, refused.existing) == (False, {"email": "f"})
    assert (await session.execute(f"DELETE FROM users WHERE id = {id} IF EXISTS")).applied


async def test_a_conditional_batch(session: cql.Session) -> None:
    room = f"room {next(fresh)}"
    take = await session.prepare(
        "INSERT INTO rooms (room, seat, taken) VALUES (?, ?, true) IF NOT EXISTS"
    )
    items = [(take, (room, 1)), (take, (room, 2))]
    result = await session.batch(items)
    assert result.applied
    assert result.existing is None
    refused = await session.batch([(take, (room, 2)), (take, (room, 3))])
    assert not refused.applied
    assert refused.existing is not None
    assert refused.existing["seat"] == 2
    assert refused.existing["taken"] is True
    left = await session.execute("SELECT seat FROM rooms WHERE room = ?", (room,))
    assert [row.seat for row in left] == [1, 2]


async def test_racing_inserts_have_one_winner(session: cql.Session) -> None:
    id = next(fresh)
    insert = "INSERT INTO users (id, name) VALUES (?, ?) IF NOT EXISTS"
    names = [f"racer {n}" for n in range(8)]
    results = await all_of([partial(session.execute, insert, (id, n)) for n in names])
    winners = [name for name, result in zip(names, results, strict=True) if result.applied]
    assert len(winners) == 1
    assert {r.existing["name"] for r in results if not r.applied} == set(winners)


# -- CQL's corners


async def test_counters(session: cql.Session) -> None:
    page = f"page {next(fresh)}"
    add = "UPDATE hits SET n = n + ? WHERE page = ?"
    await all_of([partial(session.execute, add, (n, page)) for n in range(50)])
    await session.batch([(add, (-25, page))] * 2, kind="counter")
    select = "SELECT n FROM hits WHERE page = ?"
    assert (await session.execute(select, (page,))).scalar() == sum(range(50)) - 50
    assert (await session.execute(select, (page,))).column_types == ("counter",)


async def test_static_columns(session: cql.Session) -> None:
    room = f"room {next(fresh)}"
    await session.execute("UPDATE rooms SET owner = ? WHERE room = ?", ("Gil", room))
    select = "SELECT seat, owner FROM rooms WHERE room = ?"
    assert (await session.execute(select, (room,), row=tuple)).rows == [(None, "Gil")]
    for seat in (1, 2):
        await session.execute("INSERT INTO rooms (room, seat) VALUES (?, ?)", (room, seat))
    assert (await session.execute(select, (room,), row=tuple)).rows == [(1, "Gil"), (2, "Gil")]


async def test_in_takes_a_list(session: cql.Session) -> None:
    ids = [next(fresh) for _ in range(5)]
    for id in ids:
        await session.execute("INSERT INTO users (id, name) VALUES (?, 'in')", (id,))
    select = "SELECT id FROM users WHERE id IN ?"
    assert sorted(r.id for r in await session.execute(select, (ids,))) == ids
    assert sorted(r.id for r in await session.execute(select, (tuple(ids[:2]),))) == ids[:2]
    assert (await session.execute(select, ([],))).rows == []
    two = "SELECT seat FROM rooms WHERE room IN ? AND seat IN ?"
    assert (await session.execute(two, (["none"], [1, 2]))).rows == []


async def test_ttl_timestamp_and_writetime(session: cql.Session) -> None:
    id = next(fresh)
    insert = "INSERT INTO users (id, name) VALUES (?, ?) USING TTL ? AND TIMESTAMP ?"
    await session.execute(insert, (id, "Hal", 500, 1_700_000_000_000_001))
    select = "SELECT ttl(name) AS left, writetime(name) AS at FROM users WHERE id = ?"
    row = (await session.execute(select, (id,))).one()
    assert 400 < row.left <= 500
    assert row.at == 1_700_000_000_000_001
    older = "UPDATE users SET name = 'too late' WHERE id = ?"
    await session.execute(older, (id,), timestamp=1_700_000_000_000_000)
    await session.batch([(older, (id,))], timestamp=1_700_000_000_000_000)
    find = "SELECT name FROM users WHERE id = ?"
    assert (await session.execute(find, (id,))).one().name == "Hal"
    await session.batch([(older, (id,))], timestamp=1_700_000_000_000_002)
    assert (await session.execute(find, (id,))).one().name == "too late"
    unset = "INSERT INTO users (id, name) VALUES (?, ?) USING TTL ?"
    await session.execute(unset, (next(fresh), "Ida", cql.UNSET))


async def test_select_json_and_qualified_names(session: cql.Session, keyspace: str) -> None:
    id = next(fresh)
    await session.execute(
        f"INSERT INTO {keyspace}.users JSON ?", (json.dumps({"id": id, "name": "Jo"}),)
    )
    text = (
        await session.execute(f"SELECT JSON id, name FROM {keyspace}.users WHERE id = {id}")
    ).scalar()
    assert json.loads(text) == {"id": id, "name": "Jo"}
    odd = await session.execute(
        'SELECT id AS "The Id", name AS "class" FROM users WHERE id = ?', (id,)
    )
    assert odd.columns == ("The Id", "class")
    assert odd.one()["The Id"] == id


async def test_results_of_schema_changes_and_descriptions(
    session: cql.Session, keyspace: str
) -> None:
    name = f"made_{next(fresh)}"
    for statement in (
        f"CREATE TABLE {name} (id int PRIMARY KEY)",
        f"CREATE TABLE IF NOT EXISTS {name} (id int PRIMARY KEY)",
        f"ALTER TABLE {name} ADD more text",
        f"CREATE INDEX ON {name} (more)",
        f"CREATE TYPE type_{name} (a int)",
    ):
        result = await session.execute(statement)
        assert (result.rows, result.columns) == ([], ())
    # qualified: DESCRIBE passes the keyspace of a request over
    described = await session.execute(f"DESCRIBE TABLE {keyspace}.{name}")
    assert described.columns == ("keyspace_name", "type", "name", "create_statement")
    assert described.rows[0].create_statement.startswith("CREATE TABLE")
    assert (await session.execute("DESCRIBE CLUSTER")).one().cluster
    assert (await session.execute(f"TRUNCATE {name}")).rows == []
    assert (await session.execute(f"DROP TABLE {name}")).rows == []


@dataclasses.dataclass
class Joined:
    """A row target that can't be hashed, so that nothing can be kept for it."""

    between: str

    def row_maker(self, columns: Sequence[Any]) -> Callable[[tuple[Any, ...]], str]:
        return lambda values: self.between.join(map(str, values))


async def test_a_row_target_of_ones_own(session: cql.Session) -> None:
    id = next(fresh)
    await session.execute("INSERT INTO users (id, name) VALUES (?, 'Kit')", (id,))
    query = "SELECT id, name FROM users WHERE id = ?"
    prepared = await session.prepare(query, row=Joined("+"))
    for _ in range(2):
        assert (await session.execute(query, (id,), row=Joined("-"))).rows == [f"{id}-Kit"]
        assert (await session.execute(prepared, (id,))).one() == f"{id}+Kit"
        assert (await session.page(prepared, (id,))).rows == [f"{id}+Kit"]
        assert [row async for row in session.stream(prepared, (id,))] == [f"{id}+Kit"]


async def test_the_server_warns(session: cql.Session) -> None:
    result = await session.execute("SELECT count(*) FROM users")
    assert any("without partition key" in text for text in result.warnings)
    again = await session.execute("SELECT count(*) FROM users", ())
    assert any("without partition key" in text for text in again.warnings)
    insert = "INSERT INTO users (id, name) VALUES (?, ?)"
    large = await session.batch([(insert, (next(fresh), "x" * 4000)) for _ in range(2)])
    assert any("exceeding specified" in text for text in large.warnings)
    plain = await session.execute("SELECT id FROM users WHERE id = ?", (1,))
    assert list(plain.warnings) == []


async def test_warnings_and_traces_of_all_pages(session: cql.Session) -> None:
    for seat in range(5):
        await session.execute("INSERT INTO rooms (room, seat) VALUES ('traced', ?)", (seat,))
    query = "SELECT seat FROM rooms WHERE room = ?"
    for _ in range(2):
        result = await session.execute(query, ("traced",), page_size=2, trace=True)
        assert result.scalars() == [*range(5)]
        assert result.tracing_id == result.tracing_ids[0]
        assert len({*result.tracing_ids}) == len(result.tracing_ids) == 3
    stream = session.stream(query, ("traced",), page_size=2, trace=True)
    assert [row.seat async for row in stream] == [*range(5)]
    assert (stream.columns, stream.column_types) == (("seat",), ("int",))
    assert len({*stream.tracing_ids}) == 3


async def test_a_trace_can_be_found(session: cql.Session) -> None:
    for result in (
        await session.execute("SELECT * FROM users WHERE id = ?", (1,), trace=True),
        await session.execute("SELECT * FROM users WHERE id = 1", trace=True),
        await session.batch(["DELETE FROM users WHERE id = -1"], trace=True),
    ):
        assert isinstance(result.tracing_id, uuid.UUID)
        find = "SELECT * FROM system_traces.sessions WHERE session_id = ?"
        found = 0
        with anyio.fail_after(10):
            while not found:  # the server writes it when it has time
                await anyio.sleep(0.02)
                one = cql.Consistency.ONE
                found = len(await session.execute(find, (result.tracing_id,), consistency=one))
    assert (await session.execute("SELECT * FROM users WHERE id = 1")).tracing_id is None


# -- sessions


async def test_two_sessions_in_one_loop(cassandra: Node, keyspace: str) -> None:
    async with (
        cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as one,
        cql.connect(cassandra.host, port=cassandra.port, keyspace="system") as two,
    ):
        results = await all_of(
            [
                lambda: one.execute("SELECT count(*) FROM users"),
                lambda: two.execute("SELECT key FROM local"),
            ]
        )
        assert results[1].one().key == "local"
        await one.aclose()
        assert (
            await two.execute("SELECT key FROM local WHERE key = ?", ("local",))
        ).scalar() == "local"


async def test_a_session_as_a_fixture_keeps_it(cassandra: Node) -> None:
    """Opened in one task, used in others, closed in a third, as fixtures of frameworks do."""
    stack = contextlib.AsyncExitStack()
    held: list[cql.Session] = []

    async def set_up() -> None:
        held.append(
            await stack.enter_async_context(cql.connect(cassandra.host, port=cassandra.port))
        )

    async def use() -> None:
        assert (await held[0].execute("SELECT key FROM system.local")).one().key == "local"

    for step in (set_up, use, use, stack.aclose):
        async with anyio.create_task_group() as group:
            group.start_soon(step)
    with pytest.raises(cql.SessionClosed):
        await held[0].execute("SELECT key FROM system.local")


@pytest.mark.uvloop
async def test_cancelled_calls_leave_the_session_whole(session: cql.Session) -> None:
    query = "SELECT * FROM users WHERE id = ?"

    async def cancelled(after: float) -> None:
        with anyio.move_on_after(after):
            await session.execute(query, (1,))

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(cancelled, number * 0.00005)
    await idle(session)  # else stream ids were lost
    insert = "INSERT INTO users (id, name) VALUES (?, ?)"
    await session.execute(insert, (1, "still here"))
    assert (await session.execute(query, (1,))).one().name == "still here"


@pytest_asyncio.fixture
async def native(cassandra: Node) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port) as session:
        yield session


@pytest.mark.asyncio
async def test_a_fixture_of_pytest_asyncio(native: cql.Session) -> None:
    result = await native.execute("SELECT key FROM system.local WHERE key = ?", ("local",))
    assert result.one().key == "local"
    with pytest.raises(cql.InvalidSyntax):
        await native.execute("SELEKT")
