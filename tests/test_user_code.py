"""Code as users write it. This file is the contract: it changes only with the public API.

Each test is a piece of an application, on asyncio and on trio, against a real Cassandra. It uses
only public names.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import gc
import typing
import uuid

import anyio
import attrs
import msgspec
import pydantic
import pytest

import cqlproto_anyio as cql

if typing.TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = [pytest.mark.cassandra, pytest.mark.uvloop]


@dataclasses.dataclass
class User:
    id: uuid.UUID
    email: str
    name: str | None = None


@attrs.frozen
class Line:
    product: str
    amount: int


class Place(pydantic.BaseModel):
    road: str = pydantic.Field(alias="street")
    number: int


@dataclasses.dataclass
class Order:
    id: int
    place: Place | None
    lines: list[Line]
    by_day: dict[datetime.date, Line] = dataclasses.field(default_factory=dict)


class Point(typing.NamedTuple):
    sensor: str
    at: datetime.datetime
    value: float


class Struct(msgspec.Struct):
    sensor: str
    value: float


class Model(pydantic.BaseModel):
    sensor: str
    value: float


USERS = "CREATE TABLE IF NOT EXISTS users (id uuid PRIMARY KEY, email text, name text)"
POINTS = (
    "CREATE TABLE IF NOT EXISTS points"
    " (sensor text, at timestamp, value double, PRIMARY KEY (sensor, at))"
)
ADD_POINT = "INSERT INTO points (sensor, at, value) VALUES (?, ?, ?)"


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        await session.execute(USERS)
        await session.execute(POINTS)
        yield session


async def test_the_first_five_minutes(session: cql.Session) -> None:
    id = uuid.uuid4()
    await session.execute("INSERT INTO users (id, email) VALUES (?, ?)", (id, "ann@example.org"))
    result = await session.execute("SELECT * FROM users WHERE id = ?", (id,))
    row = result.one()
    assert row.email == "ann@example.org"
    assert row["email"] == "ann@example.org"
    assert row.name is None
    assert [row.email for row in result] == ["ann@example.org"]
    assert result.columns == ("id", "email", "name")
    assert len(result) == 1


async def test_rows_as_a_class_of_ones_own(session: cql.Session) -> None:
    user = User(uuid.uuid4(), "bea@example.org")
    insert = "INSERT INTO users (id, email, name) VALUES (:id, :email, :name)"
    await session.execute(insert, user)
    found = (
        await session.execute("SELECT * FROM users WHERE id = ?", (user.id,), row=User)
    ).first()
    assert found == user
    missing = await session.execute("SELECT * FROM users WHERE id = ?", (uuid.uuid4(),), row=User)
    assert missing.first() is None
    with pytest.raises(cql.RowNotFound):
        missing.one()


async def test_every_row_target(session: cql.Session) -> None:
    at = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC)
    await session.execute(ADD_POINT, ("targets", at, 1.5))
    everything = "SELECT * FROM points WHERE sensor = 'targets'"
    assert (await session.execute(everything, row=tuple)).rows == [("targets", at, 1.5)]
    assert (await session.execute(everything, row=dict)).one() == {
        "sensor": "targets",
        "at": at,
        "value": 1.5,
    }
    assert (await session.execute(everything, row=Point)).one() == Point("targets", at, 1.5)
    two = "SELECT sensor, value FROM points WHERE sensor = 'targets'"
    assert (await session.execute(two, row=Struct)).one() == Struct("targets", 1.5)
    assert (await session.execute(two, row=Model)).one() == Model(sensor="targets", value=1.5)
    assert (await session.execute("SELECT count(*) FROM points")).scalar() >= 1


async def test_objects_within_objects(session: cql.Session) -> None:
    await session.execute("CREATE TYPE IF NOT EXISTS place (street text, number int)")
    await session.execute("CREATE TYPE IF NOT EXISTS line (product text, amount int)")
    await session.execute(
        "CREATE TABLE IF NOT EXISTS orders (id int PRIMARY KEY, place frozen<place>,"
        " lines list<frozen<line>>, by_day map<date, frozen<line>>)"
    )
    insert = "INSERT INTO orders (id, place, lines, by_day) VALUES (:id, :place, :lines, :by_day)"
    day = datetime.date(2024, 2, 29)
    order = Order(
        1, Place(street="Elm", number=3), [Line("tea", 2), Line("cup", 1)], {day: Line("tea", 2)}
    )
    await session.execute(insert, order)
    select = "SELECT * FROM orders WHERE id = ?"
    assert (await session.execute(select, (1,), row=Order)).one() == order
    await session.execute(insert, Order(2, None, [Line("tea", 2)], {}))
    second = (await session.execute(select, (2,), row=Order)).one()
    assert (second.place, second.lines) == (None, [Line("tea", 2)])
    lines = await session.execute("SELECT lines FROM orders WHERE id = 1", row=list[Line])
    assert lines.one() == order.lines
    with pytest.raises(cql.RowMappingError, match="column 'place' of row 0: it is null") as info:
        await session.execute("SELECT place FROM orders WHERE id = 2", row=dict[str, Place])
    assert info.value.column == "place"


async def test_what_a_result_gives(session: cql.Session) -> None:
    ann, bob = uuid.uuid4(), uuid.uuid4()
    insert = "INSERT INTO users (id, email) VALUES (?, ?)"
    await session.execute(insert, (ann, "ann@example.org"))
    await session.execute(insert, (bob, "bob@example.org"))
    both = await session.execute("SELECT email, id FROM users WHERE id IN ?", ([ann, bob],))
    assert sorted(both.scalars()) == ["ann@example.org", "bob@example.org"]
    assert both[0] == both.rows[0]
    assert both[1:] == both.rows[1:]
    one = await session.execute("SELECT * FROM users WHERE id = ?", (ann,))
    row = one.one_or_none()
    assert row is not None
    assert dict(row) == {"id": ann, "email": "ann@example.org", "name": None}
    assert row.keys() == ("id", "email", "name")
    assert "email" in row
    assert "e-mail" not in row
    none = await session.execute("SELECT name FROM users WHERE id = ?", (uuid.uuid4(),))
    assert none.one_or_none() is None
    assert none.scalar(default="nobody") == "nobody"
    count = await session.execute("SELECT count(*) FROM users", row=int)
    assert count.one() >= 2
    assert not session.closed
    assert session.keyspace is not None


async def test_a_lightweight_transaction(session: cql.Session) -> None:
    user = {"id": uuid.uuid4(), "email": "cid@example.org"}
    insert = "INSERT INTO users (id, email) VALUES (:id, :email) IF NOT EXISTS"
    result = await session.execute(insert, user)
    assert result.applied
    assert result.existing is None
    again = await session.execute(insert, user)
    assert not again.applied
    assert again.existing is not None
    assert again.existing["email"] == "cid@example.org"
    plain = await session.execute("SELECT * FROM users WHERE id = ?", (user["id"],))
    with pytest.raises(cql.ResultError, match="applied"):
        _ = plain.applied


async def test_pages_with_a_token_for_the_browser(session: cql.Session) -> None:
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    for minute in range(25):
        at = start + datetime.timedelta(minutes=minute)
        await session.execute(ADD_POINT, ("paged", at, float(minute)))
    query = "SELECT value FROM points WHERE sensor = ?"
    token = None
    pages: list[list[float]] = []
    while True:
        page = await session.page(query, ("paged",), page_size=10, token=token)
        pages.append([row.value for row in page.rows])
        token = page.next_token
        if token is None:
            break
    assert [value for page in pages for value in page] == [float(n) for n in range(25)]
    assert len(pages[0]) == 10

    first = await session.page(query, ("paged",), page_size=10)
    with pytest.raises(cql.PageTokenMismatch):
        await session.page(query, ("another",), page_size=10, token=first.next_token)


async def test_a_stream_with_an_early_end(session: cql.Session) -> None:
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    for second in range(50):
        at = start + datetime.timedelta(seconds=second)
        await session.execute(ADD_POINT, ("streamed", at, float(second)))
    query = "SELECT sensor, at, value FROM points WHERE sensor = ?"
    seen = []
    async for point in session.stream(query, ("streamed",), row=Point, page_size=7):
        seen.append(point.value)
        if len(seen) == 10:
            break
    assert seen == [float(n) for n in range(10)]
    total = 0
    async for page in session.stream(query, ("streamed",), row=Point, page_size=7).pages():
        total += len(page)
    assert total == 50


async def test_a_batch(session: cql.Session) -> None:
    one, two = uuid.uuid4(), uuid.uuid4()
    insert = await session.prepare("INSERT INTO users (id, email) VALUES (?, ?)")
    await session.batch(
        [
            (insert, (one, "d@example.org")),
            ("UPDATE users SET name = ? WHERE id = ?", ("Dan", one)),
            f"INSERT INTO users (id, email) VALUES ({two}, 'e@example.org')",
        ]
    )
    rows = await session.execute("SELECT email, name FROM users WHERE id IN ?", ([one, two],))
    assert sorted(map(tuple, rows), key=str) == [("d@example.org", "Dan"), ("e@example.org", None)]


async def test_a_prepared_statement_shared_by_tasks(session: cql.Session) -> None:
    select = await session.prepare("SELECT * FROM users WHERE id = ?", row=User)
    ids = [uuid.uuid4() for _ in range(200)]
    found: list[User] = []

    async def write_and_read(id: uuid.UUID) -> None:
        await session.execute(
            "INSERT INTO users (id, email) VALUES (?, ?)", (id, f"{id}@example.org")
        )
        found.append((await session.execute(select, (id,))).one())

    async with anyio.create_task_group() as group:
        for id in ids:
            group.start_soon(write_and_read, id)
    assert sorted(user.id for user in found) == sorted(ids)
    assert all(user.email == f"{user.id}@example.org" for user in found)


async def test_options_on_every_verb(session: cql.Session) -> None:
    id = uuid.uuid4()
    await session.execute(
        "INSERT INTO users (id, email) VALUES (?, ?)",
        (id, "f@example.org"),
        consistency=cql.Consistency.ONE,
        timestamp=1_700_000_000_000_000,
        timeout=5,
        idempotent=True,
    )
    writetime = await session.execute(
        "SELECT writetime(email) FROM users WHERE id = ?", (id,), row=tuple
    )
    assert writetime.one() == (1_700_000_000_000_000,)
    traced = await session.execute("SELECT * FROM users WHERE id = ?", (id,), trace=True)
    assert isinstance(traced.tracing_id, uuid.UUID)
    fast = cql.Profile(consistency="one", timeout=2.0)
    await session.execute("SELECT * FROM users WHERE id = ?", (id,), profile=fast)
    await session.execute("SELECT * FROM users WHERE id = ?", (id,), profile=fast, timeout=30)
    patient = session.using(timeout=30).using(consistency="local_one")
    assert (patient.profile.timeout, str(patient.profile.consistency)) == (30, "LOCAL_ONE")
    assert (await patient.execute("SELECT id FROM users WHERE id = ?", (id,))).one().id == id
    with pytest.raises(cql.ConfigError, match="consistency must be ANY, ONE, .* got 'quorom'"):
        await session.execute("SELECT * FROM users", consistency="quorom")  # type: ignore[call-overload]
    with pytest.raises(cql.ConfigError, match="timeout must be a positive number .* got True"):
        await session.execute("SELECT * FROM users", timeout=True)
    with pytest.raises(cql.UsageError, match="timestamp=5 can't go with a condition"):
        await session.execute("DELETE FROM users WHERE id = ? IF EXISTS", (id,), timestamp=5)
    for n in range(5):
        await session.execute("INSERT INTO users (id, email) VALUES (?, ?)", (uuid.uuid4(), f"{n}"))
    paged = await session.page("SELECT * FROM users", page_size=2)
    assert (len(paged.rows), paged.next_token is None) == (2, False)
    unpaged = await session.page("SELECT * FROM users", page_size=None)
    assert (len(unpaged.rows), unpaged.next_token) == (
        len(await session.execute("SELECT * FROM users")),
        None,
    )
    with pytest.raises(TypeError, match="timeot"):
        await session.execute("SELECT * FROM users", timeot=3)  # type: ignore[call-overload]


async def test_a_timeout_is_a_timeout_error(session: cql.Session) -> None:
    await session.execute("CREATE TABLE IF NOT EXISTS blobs (id int PRIMARY KEY, body blob)")
    await session.execute("INSERT INTO blobs (id, body) VALUES (1, ?)", (bytes(8 << 20),))
    # Many pieces take at least a millisecond, which is the resolution of uvloop's clock.
    slow = "SELECT body FROM blobs WHERE id = 1"
    with pytest.raises(TimeoutError) as info:
        await session.execute(slow, timeout=1e-6)
    assert isinstance(info.value, cql.RequestTimeout)
    with pytest.raises(TimeoutError), anyio.fail_after(0):
        await session.execute("SELECT * FROM users WHERE id = ?", (uuid.uuid4(),))
    assert (await session.execute("SELECT key FROM system.local")).one().key == "local"


async def test_an_error_in_the_body_arrives_as_it_is(cassandra: Node) -> None:
    with pytest.raises(ValueError, match="^mine$"):
        async with cql.connect(cassandra.host, port=cassandra.port):
            raise ValueError("mine")


@pytest.mark.parametrize("hosts", ["127.0.0.1", ["127.0.0.1", "127.0.0.2"]])
async def test_a_cluster_that_is_not_there(hosts: str | list[str]) -> None:
    """One except clause is enough, however many nodes were tried."""
    with pytest.raises(cql.ConnectionFailed) as info:
        async with cql.connect(hosts, port=9):
            pass
    error = info.value
    assert isinstance(error, OSError)
    assert (error.stage, error.maybe_applied) == ("connect", False)
    assert error.host in ("127.0.0.1:9", "127.0.0.2:9")
    assert 0 <= error.elapsed < 5
    assert len(error.attempts) == (0 if isinstance(hosts, str) else len(hosts))


async def test_a_session_without_a_block(cassandra: Node) -> None:
    """For notebooks, and for hooks of frameworks."""
    session = await cql.connect(cassandra.host, port=cassandra.port, wait=30)
    assert (await session.execute("SELECT key FROM system.local")).one().key == "local"
    await session.aclose()
    with pytest.raises(cql.SessionClosed):
        await session.execute("SELECT key FROM system.local")
    async with await cql.connect(cassandra.host, port=cassandra.port) as session:
        assert (await session.execute("SELECT key FROM system.local")).one().key == "local"
    assert session.closed


async def test_a_session_that_is_forgotten(cassandra: Node) -> None:
    session = await cql.connect(cassandra.host, port=cassandra.port)
    stream = session.stream("SELECT key FROM system.local")
    del session
    assert (await anext(stream)).key == "local"  # an open stream uses the session
    with pytest.warns(
        ResourceWarning, match="unclosed <Session .*'await session.aclose\\(\\)'"
    ) as told:
        del stream
        gc.collect()
    assert told[0].filename == __file__
    await anyio.sleep(0.01)


async def test_an_exit_stack_and_another_task_may_close(cassandra: Node) -> None:
    stack = contextlib.AsyncExitStack()
    session = await stack.enter_async_context(cql.connect(cassandra.host, port=cassandra.port))
    async with anyio.create_task_group() as group:
        group.start_soon(stack.aclose)
    with pytest.raises(cql.SessionClosed):
        await session.execute("SELECT key FROM system.local")


async def test_first_mistakes_are_told_with_what_to_do(session: cql.Session) -> None:
    query: typing.Any = "SELECT * FROM users WHERE id = ?"
    verb: typing.Any = session.execute
    batch: typing.Any = session.batch
    connect: typing.Any = cql.connect
    with pytest.raises(cql.InvalidSyntax, match="write \\? or :name for a value, not %s"):
        await verb("SELECT * FROM users WHERE id = %s", (uuid.uuid4(),))
    with pytest.raises(TypeError, match=r"parameters are one sequence: execute\(query, \(1, 2\)\)"):
        await verb(query, uuid.uuid4(), 2)
    with pytest.raises(cql.InvalidQuery, match="has bind markers: pass their values"):
        await verb(query)
    with pytest.raises(
        cql.ParameterError, match='the server folds :userId to userid: .* :"userId"'
    ):
        await verb("SELECT * FROM users WHERE id = :userId", {"userId": uuid.uuid4()})
    with pytest.raises(TypeError, match=r"the parameters are one sequence, \(query, \(1, 2\)\)"):
        await batch([("INSERT INTO users (id, email) VALUES (?, ?)", uuid.uuid4(), "a")])
    with pytest.raises(TypeError, match=r"write \(value,\) for a single one"):
        await verb(query, "abc")
    with pytest.raises(cql.ConfigError, match="pass cql.PlainAuth"):
        connect(auth=("ann", "secret"))
    with pytest.raises(TypeError, match="by name: port="):
        connect(["db1"], 9042)


async def test_errors_are_typed_and_say_what_is_wrong(session: cql.Session) -> None:
    with pytest.raises(cql.InvalidSyntax, match="SELEKT"):
        await session.execute("SELEKT * FROM users")
    with pytest.raises(cql.ValueConversionError, match="'id' \\(uuid\\)") as conversion:
        await session.execute("SELECT * FROM users WHERE id = ?", (12,))
    assert conversion.value.column == "id"
    with pytest.raises(cql.ParameterError, match="2 .* 1"):
        await session.execute("SELECT * FROM users WHERE id = ?", (uuid.uuid4(), 1))
    with pytest.raises(TypeError, match="str"):
        await session.execute("SELECT * FROM users WHERE id = ?", "abc")
    with pytest.raises(cql.UsageError, match="keyspace"):
        await session.execute("/* sly */ USE system")
    with pytest.raises(cql.CQLError) as error:
        await session.execute("INSERT INTO nowhere (id) VALUES (?)", (1,))
    assert isinstance(error.value, cql.InvalidQuery)
    assert error.value.maybe_applied is False
    assert error.value.host is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_natively(session: cql.Session) -> None:
    async with asyncio.timeout(5):
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(session.execute("SELECT key FROM system.local"))
                for _ in range(20)
            ]
    assert {task.result().one().key for task in tasks} == {"local"}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await session.execute("SELECT key FROM system.local")
