"""Users' mistakes in a request raise one typed exception, and the session remains usable.

After each test, the next statement on the session works.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import time
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.connection import Limits
from tests.support.server import losses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

KINDS = (
    "ascii ascii, bigint bigint, blob blob, boolean boolean, date date, decimal decimal,"
    " double double, duration duration, float float, inet inet, smallint smallint, text text,"
    " time time, timestamp timestamp, timeuuid timeuuid, tinyint tinyint, uuid uuid,"
    ' varint varint, list list<int>, "set" set<int>, map map<text, int>,'
    " tuple tuple<int, text>, place frozen<place>, vector vector<float, 2>"
)
TABLES = (
    "CREATE TABLE IF NOT EXISTS items (id int, at int, name text, PRIMARY KEY (id, at))",
    "CREATE TABLE IF NOT EXISTS hits (id int PRIMARY KEY, n counter)",
    "CREATE TYPE IF NOT EXISTS place (street text, no int)",
    f"CREATE TABLE IF NOT EXISTS kinds (id int PRIMARY KEY, {KINDS})",
)
INSERT = "INSERT INTO items (id, at, name) VALUES (?, ?, ?)"
SELECT = "SELECT * FROM items WHERE id = ?"


@pytest.fixture(scope="module")
async def shared(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        for statement in TABLES:
            await session.execute(statement)
        yield session


@pytest.fixture
async def session(shared: cql.Session) -> AsyncIterator[cql.Session]:
    before = losses(shared)
    with anyio.fail_after(20):
        yield shared
    await shared.execute(INSERT, (0, 0, "it goes on"))
    assert losses(shared) == before, "the connection was lost"


# -- values

NAIVE = datetime.datetime(2024, 2, 29)
BAD_VALUES: list[tuple[str, Any, str]] = [
    ("id", "1", "must be an integer, got str '1'"),
    ("id", 1 << 31, "out of range: must be -2147483648 to 2147483647"),
    ("id", True, "not a boolean"),
    ("id", 1.0, "must be an integer"),
    ("ascii", "ä", "not an ASCII character at index 0"),
    ("bigint", 1 << 63, "out of range"),
    ("blob", "text", "bytes"),
    ("boolean", 1, "must be a bool"),
    ("date", NAIVE, "take its .date()"),
    ("date", "29.2.2024", "ISO 8601"),
    ("decimal", 1.1, "use Decimal"),
    ("decimal", decimal.Decimal("NaN"), "must be finite"),
    ("decimal", decimal.Decimal("-Infinity"), "must be finite"),
    ("double", "1.0", "a float or an int"),
    ("double", 10**400, "too large"),
    ("duration", 5, "a Duration or a timedelta"),
    ("duration", datetime.timedelta.max, "out of range"),
    ("float", 1e39, "too large"),
    ("inet", "300.1.1.1", "must be an IP address"),
    ("inet", ipaddress.ip_address("fe80::1%eth0"), "zone"),
    ("smallint", 32_768, "-32768 to 32767"),
    ("text", b"bytes", "must be a str"),
    ("text", "\ud800", "surrogates"),
    ("time", datetime.time(1, tzinfo=datetime.UTC), "time zone"),
    ("time", 86_400_000_000_000, "within a day"),
    ("timestamp", NAIVE, "without a time zone"),
    ("timestamp", "2024-02-29", "an aware datetime"),
    ("timestamp", 1 << 63, "out of range"),
    ("timeuuid", uuid.uuid4(), "must be a UUID of version 1, not 4"),
    ("tinyint", -129, "-128 to 127"),
    ("uuid", "nonsense", "must be a UUID"),
    ("varint", "5", "must be an integer"),
    ("list", "12", "list<int>"),
    ("set", [1, None], "null"),
    ("list", [1, "2"], "element 1"),
    ("set", {1, "2"}, "must be an integer"),
    ("map", [("a", 1)], "must be a mapping"),
    ("map", {"a": "b"}, "value 0"),
    ("map", {1: 1}, "key 0"),
    ("tuple", (1, "a", 2), "3 elements, the type has 2"),
    ("tuple", ("a", 1), "element 0"),
    ("place", {"street": "a", "number": 1}, "no field 'number', the type has street, no"),
    ("place", {"no": "1"}, "field no"),
    ("place", "street", "a mapping, an object with fields or a tuple"),
    ("vector", [1.0], "1 elements, the type has 2"),
    ("vector", {1.0, 2.0}, "order"),
    ("set", [cql.UNSET], "UNSET"),
]


@pytest.mark.parametrize(
    ("column", "value", "text"), BAD_VALUES, ids=[f"{column}" for column, _, _ in BAD_VALUES]
)
async def test_a_wrong_value_names_its_column(
    session: cql.Session, column: str, value: Any, text: str
) -> None:
    if column == "id":
        query, values = "INSERT INTO kinds (id) VALUES (?)", [value]
    else:
        query, values = f'INSERT INTO kinds (id, "{column}") VALUES (?, ?)', [0, value]
    for _ in range(2):  # the second time the statement is known
        with pytest.raises(cql.ValueConversionError) as info:
            await session.execute(query, values)
        assert isinstance(info.value, ValueError)
        assert info.value.column == column
        assert f"column '{column}'" in str(info.value)
        assert text in str(info.value)
        assert info.value.maybe_applied is False
    with pytest.raises(cql.ValueConversionError, match=f"'{column}'"):
        await session.batch([(query, values)])
    with pytest.raises(cql.ValueConversionError, match=f"'{column}'"):
        await session.page(query, values)
    with pytest.raises(cql.ValueConversionError, match=f"'{column}'"):
        await anext(aiter(session.stream(query, values)))
    with pytest.raises(cql.ValueConversionError, match=f"'{column}'"):
        await session.execute(query, values, trace=True)


# -- parameters


@dataclasses.dataclass
class Item:
    id: int
    name: str


BAD_PARAMETERS: list[tuple[str, Any, type[Exception], str]] = [
    (INSERT, (1, 2), cql.ParameterError, "2 values for 3 bind markers (id, at, name)"),
    (INSERT, (1,), cql.ParameterError, "1 value for 3 bind markers"),
    (INSERT, (), cql.ParameterError, "0 values for 3 bind markers"),
    (SELECT, (1, 2), cql.ParameterError, "2 values for 1 bind marker (id)"),
    ("SELECT * FROM items", (1,), cql.ParameterError, "1 value for 0 bind markers (none)"),
    (SELECT, "1", TypeError, "got a str: write (value,)"),
    (SELECT, b"1", TypeError, "got a bytes: write (value,)"),
    (SELECT, {1}, TypeError, "got a set"),
    (SELECT, 1, TypeError, "got a int"),
    (SELECT, iter([1]), TypeError, "got a list_iterator"),
    (SELECT, Item, TypeError, "got a type"),
    (SELECT, {}, cql.ParameterError, "no value for id (markers: id)"),
    (SELECT, {"Id": 1}, cql.ParameterError, "no value for id (markers: id)"),
    (SELECT, {"id": 1, "nme": 2}, cql.ParameterError, "no marker is called nme (markers: id)"),
    (SELECT, {"id": 1, 2: 2}, cql.ParameterError, "no marker is called 2"),
    (INSERT, Item(1, "a"), cql.ParameterError, "Item has no field for at"),
    (
        "SELECT * FROM items WHERE id IN (?, ?)",
        {"id": 1},
        cql.ParameterError,
        "'id' stands for 2 markers: use :name markers",
    ),
    (
        "SELECT * FROM items WHERE id IN ?",
        {"in(id)": [1]},
        cql.ParameterError,
        "'in(id)' is not an identifier",
    ),
    (
        "SELECT * FROM items WHERE id = ? LIMIT ?",
        {"id": 1, "[limit]": 1},
        cql.ParameterError,
        "'[limit]' is not an identifier",
    ),
    (INSERT + " USING TTL ?", {"[ttl]": 1}, cql.ParameterError, "'[ttl]' is not an identifier"),
]


@pytest.mark.parametrize(("query", "parameters", "kind", "text"), BAD_PARAMETERS)
async def test_wrong_parameters(
    session: cql.Session, query: str, parameters: Any, kind: type[Exception], text: str
) -> None:
    prepared = await session.prepare(query)
    for each in (query, prepared):
        with pytest.raises(kind) as info:
            await session.execute(each, parameters)
        assert text in str(info.value)
        if query.startswith("INSERT"):
            with pytest.raises(kind) as info:
                await session.batch([(each, parameters)])
            assert text in str(info.value)
        with pytest.raises(kind) as info:
            await session.page(each, parameters)
        assert text in str(info.value)


async def test_markers_may_be_named(session: cql.Session) -> None:
    await session.execute(INSERT, {"id": 7, "at": 1, "name": "a"})
    query = (
        "SELECT name FROM items WHERE id IN (:one, :two) AND at IN :at PER PARTITION LIMIT :most"
    )
    parameters = {"one": 7, "two": 8, "at": [1, 2], "most": 3}
    assert (await session.execute(query, parameters)).one().name == "a"
    repeated = "SELECT name FROM items WHERE id = :n AND at = :n"
    assert (await session.execute(repeated, {"n": 7})).first() is None
    quoted = 'SELECT name FROM items WHERE id = :"The Id"'
    assert (await session.execute(quoted, {"The Id": 7})).one().name == "a"


async def test_markers_without_parameters(session: cql.Session) -> None:
    with pytest.raises(cql.InvalidQuery, match="bind variables"):
        await session.execute(SELECT)
    with pytest.raises(cql.ParameterError, match="0 values for 1"):
        await session.execute(await session.prepare(SELECT))


# -- statements

BAD_STATEMENTS: list[tuple[Any, type[Exception], str]] = [
    ("SELEKT * FROM items", cql.InvalidSyntax, "SELEKT"),
    ("", cql.InvalidSyntax, "EOF"),
    ("SELECT * FROM items; SELECT * FROM items", cql.InvalidSyntax, "SELECT"),
    ("SELECT * FROM nowhere", cql.InvalidQuery, "table nowhere does not exist"),
    ("SELECT * FROM nowhere.items", cql.InvalidQuery, "keyspace nowhere does not exist"),
    ("SELECT colour FROM items", cql.InvalidQuery, "colour"),
    ("SELECT * FROM items WHERE name = 'a'", cql.InvalidQuery, "ALLOW FILTERING"),
    ("INSERT INTO items (id, at, name) VALUES (1, 2, '\ud800')", cql.CQLError, "UTF-8"),
    ("USE system", cql.UsageError, "pass keyspace= to connect()"),
    ("uSe system", cql.UsageError, "keyspace="),
    ('  -- a comment\n /* another */ Use "system";', cql.UsageError, "keyspace="),
    ("// one\r USE system", cql.UsageError, "keyspace="),
    (b"SELECT * FROM items", TypeError, "not a bytes"),
    (["SELECT * FROM items"], TypeError, "not a list"),
    (None, TypeError, "not a NoneType"),
]


@pytest.mark.parametrize(("query", "kind", "text"), BAD_STATEMENTS)
async def test_wrong_statements(
    session: cql.Session, query: Any, kind: type[Exception], text: str
) -> None:
    for call in (
        lambda: session.execute(query),
        lambda: session.execute(query, ()),
        lambda: session.page(query),
        lambda: session.prepare(query),
        lambda: anext(aiter(session.stream(query))),
    ):
        with pytest.raises(kind) as info:
            await call()
        assert text in str(info.value)
        assert getattr(info.value, "maybe_applied", False) is False
        if isinstance(info.value, cql.DatabaseError):
            assert info.value.query == query
            assert info.value.host is not None


async def test_what_exists_is_named(session: cql.Session, keyspace: str) -> None:
    with pytest.raises(cql.AlreadyExists) as info:
        await session.execute("CREATE TABLE items (id int PRIMARY KEY)")
    assert (info.value.keyspace, info.value.table) == (keyspace, "items")


# -- options

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"page_size": 0}, cql.ConfigError, "page_size must be .*, got 0"),
    ({"page_size": True}, cql.ConfigError, "page_size must be .*, got True"),
    ({"page_size": 1 << 31}, cql.ConfigError, "page_size"),
    ({"timeout": -1}, cql.ConfigError, "timeout must be .*, got -1"),
    ({"timeout": 0}, cql.ConfigError, "timeout must be .*, got 0"),
    ({"timeout": "1"}, cql.ConfigError, "timeout must be .*, got '1'"),
    ({"timeout": float("nan")}, cql.ConfigError, "timeout must be .*, got nan"),
    ({"max_rows": 0}, cql.ConfigError, "max_rows must be .*, got 0"),
    ({"consistency": "MANY"}, cql.ConfigError, "consistency must be .*, got 'MANY'"),
    ({"serial_consistency": cql.Consistency.ONE}, cql.ConfigError, "SERIAL"),
    ({"timestamp": 1.5}, cql.ConfigError, "timestamp must be .*, got 1.5"),
    ({"timestamp": 1 << 63}, cql.ConfigError, "timestamp"),
    ({"timestamp": -(1 << 63)}, cql.ConfigError, "timestamp"),
    ({"timestamp": "now"}, cql.ConfigError, "timestamp must be .*, got 'now'"),
    ({"payload": {"a": 1}}, cql.ConfigError, "payload"),
    ({"payload": 5}, cql.ConfigError, "payload"),
    ({"payload": {1: b""}}, cql.ConfigError, "payload"),
    ({"profile": 5}, cql.ConfigError, "profile must be a Profile, got"),
    ({"time_out": 1}, TypeError, "time_out"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD_OPTIONS)
async def test_wrong_options(
    session: cql.Session, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    for call in (
        lambda: session.execute(SELECT, (1,), **options),
        lambda: session.execute("SELECT * FROM items", **options),
        lambda: session.page(SELECT, (1,), **options),
        lambda: session.batch([(INSERT, (1, 1, "a"))], **options),
        lambda: anext(aiter(session.stream(SELECT, (1,), **options))),
    ):
        with pytest.raises(kind, match=text):
            await call()


# -- row targets


class Unfit:
    def __init__(self, name: str, colour: str) -> None: ...


@pytest.mark.parametrize(
    ("columns", "target", "text"),
    [
        ("*", Unfit, "row=Unfit: no column for colour, the row has id, at, name"),
        ("*", int, "row=int"),
        ("*", 5, "row=5"),
        ("*", [], "row=[]"),
        ("id, id", dict, "'id' comes more than once"),
        ("id, at, id", Item, "'id' comes more than once"),
    ],
)
async def test_a_row_target_that_does_not_fit(
    session: cql.Session, columns: str, target: Any, text: str
) -> None:
    await session.execute(INSERT, (3, 1, "a"))
    query = f"SELECT {columns} FROM items WHERE id = ?"
    for call in (
        lambda: session.execute(query, (3,), row=target),
        lambda: session.execute(query.replace("?", "3"), row=target),
        lambda: session.page(query, (3,), row=target),
        lambda: anext(aiter(session.stream(query, (3,), row=target))),
    ):
        with pytest.raises(cql.RowMappingError) as info:
            await call()
        assert isinstance(info.value, TypeError)
        assert text in str(info.value)
    assert len(await session.execute(query, (3,))) == 1


# -- batches


async def test_wrong_batches(session: cql.Session) -> None:
    plain, hit = (
        "INSERT INTO items (id, at) VALUES (1, 1)",
        "UPDATE hits SET n = n + 1 WHERE id = 1",
    )
    with pytest.raises(cql.InvalidQuery, match="[Cc]ounter"):
        await session.batch([plain, hit])
    with pytest.raises(cql.UsageError, match="statement 1 of the batch is an INSERT"):
        await session.batch([plain], kind="counter")
    with pytest.raises(cql.UsageError, match="is SELECT: a batch takes INSERT, UPDATE and DELETE"):
        await session.batch(["SELECT * FROM items"])
    with pytest.raises(cql.UsageError, match="kind='loged'"):
        await session.batch([plain], kind="loged")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of statements, not a str"):
        await session.batch(plain)
    with pytest.raises(TypeError, match="list of statements, not a int"):
        await session.batch(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got a int"):
        await session.batch([5])  # type: ignore[list-item]
    with pytest.raises(cql.UsageError, match="keyspace="):
        await session.batch([plain, "USE system"])
    with pytest.raises(cql.UsageError, match="at most 65535 statements"):
        await session.batch([plain] * 70_000)
    with pytest.raises(cql.InvalidQuery, match="too large"):
        await session.batch([(INSERT, (n, 1, "x" * 60_000)) for n in range(2)])


async def test_an_empty_batch_does_nothing(session: cql.Session) -> None:
    assert (await session.batch([])).rows == []


# -- sizes


async def test_a_request_over_the_limit_is_not_sent(session: cql.Session) -> None:
    text = "x" * (17 << 20)
    with pytest.raises(cql.RequestTooLarge, match=r"at most 16,777,216 bytes, got 17,825,\d+"):
        await session.execute(INSERT, (1, 1, text))
    with pytest.raises(cql.RequestTooLarge, match="at most 16,777,216"):
        started = time.monotonic()
        await session.execute(f"INSERT INTO items (id, at, name) VALUES (1, 1, '{text}')")
    assert time.monotonic() - started < 4, "looking into a long text takes long"
    with pytest.raises(cql.RequestTooLarge, match="at most 16,777,216"):
        await session.batch([(INSERT, (1, 1, "x" * (9 << 20)))] * 2)


async def test_the_servers_own_limit_leaves_the_connection(cassandra: Node, keyspace: str) -> None:
    config = cql.Config(limits=Limits(max_request=64 << 20))
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        await session.execute(TABLES[0])
        with pytest.raises(cql.InvalidQuery, match="Request is too big|exceeds allowed maximum"):
            await session.execute(INSERT, (1, 1, "x" * (17 << 20)))
        await session.execute(INSERT, (1, 1, "x"))
        assert losses(session) == 0


async def test_more_rows_than_execute_collects(session: cql.Session) -> None:
    for at in range(12):
        await session.execute(INSERT, (4, at, "a"))
    for _ in range(2):  # the second time the statement and its decoder are known
        assert len(await session.execute(SELECT, (4,))) == 12
        with pytest.raises(cql.ResultTooLarge, match="stream"):
            await session.execute(SELECT, (4,), max_rows=10)
    with pytest.raises(cql.ResultTooLarge, match="stream"):
        await session.execute(SELECT, (4,), max_rows=10, page_size=3)
    assert len(await session.execute(SELECT, (4,), max_rows=12, page_size=3)) == 12


# -- tokens


async def test_a_foreign_page_token(session: cql.Session) -> None:
    for at in range(4):
        await session.execute(INSERT, (5, at, "a"))
    token = (await session.page(SELECT, (5,), page_size=2)).next_token
    assert token is not None
    for query, parameters in (
        (SELECT, (6,)),
        (f"{SELECT} ", (5,)),
        ("SELECT * FROM items WHERE id = 5", None),
    ):
        with pytest.raises(cql.PageTokenMismatch, match="another query"):
            await session.page(query, parameters, token=token)
    for damaged in ("", "abc", token[:-4] + "é", token[:10], "AAAA" + token[4:]):
        with pytest.raises(cql.PageTokenMismatch):
            await session.page(SELECT, (5,), token=damaged)
    with pytest.raises(TypeError, match="token is a bytes, not a str"):
        await session.page(SELECT, (5,), token=token.encode())  # type: ignore[call-overload]
    assert len((await session.page(SELECT, (5,), page_size=5, token=token)).rows) == 2


async def test_a_token_cut_short(session: cql.Session) -> None:
    for at in range(4):
        await session.execute(INSERT, (5, at, "a"))
    token = (await session.page(SELECT, (5,), page_size=2)).next_token
    assert token is not None
    for damaged in (token[:-8], token[:-1], token + "A", token + "AAAA"):
        with pytest.raises(cql.PageTokenMismatch):
            await session.page(SELECT, (5,), token=damaged)


# -- results and sessions


async def test_a_result_is_not_what_was_asked_of_it(session: cql.Session) -> None:
    for at in range(2):
        await session.execute(INSERT, (6, at, "a"))
    result = await session.execute(SELECT, (6,))
    with pytest.raises(cql.MultipleRows, match="there are 2"):
        result.one()
    with pytest.raises(cql.ResultError, match="IF"):
        _ = result.applied
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(result)
    with pytest.raises(AttributeError, match="no column 'colour', the row has id, at, name"):
        _ = result.rows[0].colour
    with pytest.raises(KeyError, match="colour"):
        result.rows[0]["colour"]


async def test_a_closed_session(cassandra: Node) -> None:
    async with cql.connect(cassandra.host, port=cassandra.port) as session:
        prepared = await session.prepare("SELECT * FROM system.local WHERE key = ?")
    for call in (
        lambda: session.execute("SELECT * FROM system.local"),
        lambda: session.execute(prepared, ("local",)),
        lambda: session.page(prepared, ("local",)),
        lambda: session.prepare("SELECT key FROM system.local"),
        lambda: session.batch(["INSERT INTO a.b (c) VALUES (1)"]),
        lambda: anext(aiter(session.stream(prepared, ("local",)))),
    ):
        with pytest.raises(cql.SessionClosed, match="the session is closed") as info:
            await call()
        assert info.value.maybe_applied is False
    await session.aclose()
