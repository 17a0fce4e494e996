"""Basic use of the client on one release of any line of Cassandra.

``CQLPROTO_LINE`` names the release; by default an old one, which speaks v4 and has neither
``system_views`` nor ``peers_v2``. ``make servers`` runs this on every line from 2.1 on. Where a
line lacks a feature, the test says what its users get instead: a typed error.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import itertools
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto import UNSET, Duration, ProtocolVersion
from tests.cassandra.concurrently import all_of
from tests.cassandra.lines import highest_version, line_of
from tests.cassandra.shared import LINE

if TYPE_CHECKING:
    import contextlib
    from collections.abc import AsyncIterator

    from cqlproto_anyio.executor import BatchName
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

RELEASE = line_of(LINE)
HIGHEST = ProtocolVersion(highest_version(LINE))
fresh = itertools.count(1)

TABLES = (
    "CREATE TABLE users (id int PRIMARY KEY, name text, email text)",
    "CREATE TABLE hits (page text PRIMARY KEY, n counter)",
    """CREATE TABLE rooms (
        room text, seat int, owner text static, taken boolean, PRIMARY KEY (room, seat)
    ) WITH CLUSTERING ORDER BY (seat DESC)""",
    "CREATE TYPE address (street text, number int, codes list<int>)",
    """CREATE TABLE people (
        id int PRIMARY KEY, home frozen<address>, past list<frozen<address>>, tags set<text>,
        scores map<text, int>, pair frozen<tuple<int, text>>, nested map<int, frozen<list<text>>>
    )""",
)

TYPES: dict[str, tuple[tuple[int, int], list[Any]]] = {
    "ascii": ((2, 1), ["plain", ""]),
    "bigint": ((2, 1), [-(2**63), 2**63 - 1]),
    "blob": ((2, 1), [b"\x00\xff", b""]),
    "boolean": ((2, 1), [True, False]),
    "date": ((2, 2), [datetime.date(1969, 7, 20), datetime.date(9999, 12, 31)]),
    "decimal": ((2, 1), [decimal.Decimal("-1.50"), decimal.Decimal("1E+10")]),
    "double": ((2, 1), [-0.1, 1e300]),
    "duration": ((3, 10), [Duration(14, 3, 12)]),
    "float": ((2, 1), [0.5]),
    "inet": ((2, 1), [ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1")]),
    "int": ((2, 1), [-(2**31), 2**31 - 1]),
    "smallint": ((2, 2), [-(2**15), 2**15 - 1]),
    "text": ((2, 1), ["gr\u00fc\u00df \U0001f600", ""]),
    "time": ((2, 2), [datetime.time(23, 59, 59, 999_999)]),
    "timestamp": ((2, 1), [datetime.datetime(1969, 12, 31, 23, 59, tzinfo=datetime.UTC)]),
    "timeuuid": ((2, 1), [uuid.UUID("8a172b50-c8bd-11ee-9a41-325096b39f47")]),
    "tinyint": ((2, 2), [-128, 127]),
    "uuid": ((2, 1), [uuid.UUID("4d39fe27-4dc1-4d5c-ae8d-1c1b0d2c35f1")]),
    "varchar": ((2, 1), ["x"]),
    "varint": ((2, 1), [-(2**70), 0]),
    "vector<float, 3>": ((5, 0), [[0.5, -1.0, 2.0]]),
}


@dataclasses.dataclass
class User:
    id: int
    name: str | None
    email: str | None = None


def connecting(node: Node, **arguments: Any) -> contextlib.AbstractAsyncContextManager[cql.Session]:
    auth = cql.PlainAuth(node.username or "", node.password or "")
    return cql.connect(node.host, port=node.port, **{"auth": auth, **arguments})


@pytest.fixture(scope="module")
async def keyspace_of_line(line: Node, anyio_backend: object) -> str:
    name = f"line_{uuid.uuid4().hex[:12]}"
    async with connecting(line) as session:
        made = await session.execute(
            f"CREATE KEYSPACE {name} WITH replication ="
            " {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        assert made.schema_agreed is True
    return name  # it ends with the node


@pytest.fixture(scope="module")
async def session(line: Node, keyspace_of_line: str) -> AsyncIterator[cql.Session]:
    async with connecting(line, keyspace=keyspace_of_line) as session:
        for statement in TABLES:
            await session.execute(statement)
        yield session


# -- connecting


async def test_the_highest_version_is_agreed(session: cql.Session) -> None:
    assert session.protocol_version is HIGHEST
    query = "SELECT release_version FROM system.local WHERE key = ?"
    assert (await session.execute(query, ("local",))).scalar() == LINE
    assert len(session.statistics().hosts) == 1


async def test_other_versions(line: Node, session: cql.Session) -> None:
    query = "SELECT key FROM system.local WHERE key = :key"
    for version in ProtocolVersion:
        connected = connecting(line, config=cql.Config(protocol_version=version))
        if version > HIGHEST:
            with pytest.raises(cql.VersionRejected) as refused:
                async with connected:
                    pass
            assert refused.value.next_version is not None
            continue
        async with connected as other:
            assert (await other.execute(query, {"key": "local"})).scalar() == "local"
            assert other.protocol_version is version


@pytest.mark.parametrize("name", ["lz4", "snappy"])
async def test_compression(line: Node, keyspace_of_line: str, name: str) -> None:
    async with connecting(line, config=cql.Config(compression=name)) as session:
        query = "SELECT * FROM system.local WHERE key = ?"
        assert (await session.execute(query, ("local",))).one().cluster_name == "cqlproto"


async def test_a_wrong_password(line: Node) -> None:
    with pytest.raises(cql.AuthenticationFailed):
        async with connecting(line, auth=cql.PlainAuth("cassandra", "wrong")):
            pass


async def test_a_keyspace_that_does_not_exist(line: Node) -> None:
    with pytest.raises(cql.InvalidQuery):
        async with connecting(line, keyspace="nowhere"):
            pass


async def test_keyspace_of_one_request(session: cql.Session, keyspace_of_line: str) -> None:
    if HIGHEST.has_keyspace_option:
        other = session.using(keyspace="system")
        assert (await other.execute("SELECT key FROM local")).scalar() == "local"
    else:
        with pytest.raises(cql.UsageError, match="needs protocol v5"):
            session.using(keyspace="system")


# -- values


def known_types() -> list[str]:
    return [name for name, (first, _) in TYPES.items() if first <= RELEASE]


async def test_values(session: cql.Session) -> None:
    names = known_types()
    columns = [f"v{number}" for number in range(len(names))]
    table = f"typed{next(fresh)}"
    declared = ", ".join(f"{column} {name}" for column, name in zip(columns, names, strict=True))
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {declared})")
    markers = ", ".join("?" * (1 + len(columns)))
    insert = f"INSERT INTO {table} (id, {', '.join(columns)}) VALUES ({markers})"
    select = f"SELECT {', '.join(columns)} FROM {table} WHERE id = ?"
    rows = [
        [TYPES[name][1][0] for name in names],
        [TYPES[name][1][-1] for name in names],
        [None] * len(names),
    ]
    for number, values in enumerate(rows):
        await session.execute(insert, (number, *values))
        found = await session.execute(select, (number,), row=tuple)
        assert list(found.one()) == values
    assert found.column_types == tuple("text" if name == "varchar" else name for name in names)


async def test_types_that_the_line_lacks(session: cql.Session) -> None:
    for name in TYPES.keys() - set(known_types()):
        with pytest.raises((cql.InvalidQuery, cql.InvalidSyntax, cql.InvalidConfiguration)):
            await session.execute(f"CREATE TABLE lacking (id int PRIMARY KEY, v {name})")


async def test_collections_and_user_types(session: cql.Session) -> None:
    home = {"street": "Main", "number": 3, "codes": [1, 2]}
    person = {
        "id": next(fresh),
        "home": home,
        "past": [home, {"street": None, "number": None, "codes": None}],
        "tags": {"a", "b"},
        "scores": {"x": 1},
        "pair": (7, None),
        "nested": {1: ["y", ""]},
    }
    names = ", ".join(person)
    markers = ", ".join(f":{name}" for name in person)
    await session.execute(f"INSERT INTO people ({names}) VALUES ({markers})", person)
    row = (await session.execute("SELECT * FROM people WHERE id = ?", (person["id"],))).one()
    assert (row.home.street, row.home.number, row.home.codes) == ("Main", 3, (1, 2))
    assert [each.street for each in row.past] == ["Main", None]
    assert (row.tags, dict(row.scores), row.pair) == ({"a", "b"}, {"x": 1}, (7, None))
    assert {key: list(value) for key, value in row.nested.items()} == {1: ["y", ""]}


async def test_unset(session: cql.Session) -> None:
    number = next(fresh)
    insert = "INSERT INTO users (id, name, email) VALUES (?, ?, ?)"
    await session.execute(insert, (number, "Ann", "ann@example.org"))
    if HIGHEST.has_unset:
        await session.execute(insert, (number, "Bea", UNSET))
        row = (await session.execute("SELECT * FROM users WHERE id = ?", (number,))).one()
        assert (row.name, row.email) == ("Bea", "ann@example.org")
    else:
        with pytest.raises(cql.LocalProtocolError, match="unset"):
            await session.execute(insert, (number, "Bea", UNSET))


async def test_a_value_of_another_type(session: cql.Session) -> None:
    with pytest.raises(cql.ValueConversionError) as refused:
        await session.execute("INSERT INTO users (id, name) VALUES (?, ?)", ("one", "Ann"))
    assert refused.value.column == "id"


async def test_a_mebibyte(session: cql.Session) -> None:
    table = f"blobs{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v blob)")
    value = bytes(range(256)) * 4096
    await session.execute(f"INSERT INTO {table} (id, v) VALUES (?, ?)", (1, value))
    assert (await session.execute(f"SELECT v FROM {table} WHERE id = ?", (1,))).scalar() == value


# -- reading


async def test_pages(session: cql.Session) -> None:
    room = f"room {next(fresh)}"
    insert = "INSERT INTO rooms (room, seat) VALUES (?, ?)"
    await all_of([partial(session.execute, insert, (room, seat)) for seat in range(250)])
    query = "SELECT seat FROM rooms WHERE room = ?"
    expected = list(reversed(range(250)))
    result = await session.execute(query, (room,), page_size=40)
    assert [row.seat for row in result] == expected
    streamed = [row.seat async for row in session.stream(query, (room,), page_size=40)]
    assert streamed == expected
    paged: list[int] = []
    token: str | None = None
    while True:
        page = await session.page(query, (room,), page_size=40, token=token)
        paged += [row.seat for row in page.rows]
        if (token := page.next_token) is None:
            break
    assert paged == expected


async def test_row_classes_and_static_columns(session: cql.Session) -> None:
    number = next(fresh)
    user = User(number, "Ann", None)
    insert = "INSERT INTO users (id, name, email) VALUES (:id, :name, :email)"
    await session.execute(insert, user)
    found = await session.execute("SELECT * FROM users WHERE id = ?", (number,), row=User)
    assert found.one() == user
    room = f"room {number}"
    await session.execute("INSERT INTO rooms (room, owner) VALUES (?, ?)", (room, "Bea"))
    row = (await session.execute("SELECT * FROM rooms WHERE room = ?", (room,))).one()
    assert (row.owner, row.seat, row.taken) == ("Bea", None, None)


async def test_many_at_once(session: cql.Session) -> None:
    numbers = [next(fresh) for _ in range(500)]
    insert = "INSERT INTO users (id, name) VALUES (?, ?)"
    select = "SELECT name FROM users WHERE id = ?"
    await all_of([partial(session.execute, insert, (n, f"user {n}")) for n in numbers])
    found = await all_of([partial(session.execute, select, (n,)) for n in numbers])
    assert [result.scalar() for result in found] == [f"user {n}" for n in numbers]


async def test_warnings_and_payloads(session: cql.Session) -> None:
    if HIGHEST >= ProtocolVersion.V4:
        counted = await session.execute("SELECT count(*) FROM users", payload={"key": b"value"})
        assert ("Aggregation" in "".join(counted.warnings)) == (RELEASE >= (2, 2))
    else:
        with pytest.raises(cql.CQLError, match="payload"):
            await session.execute("SELECT count(*) FROM users", payload={"key": b"value"})


async def test_tracing(session: cql.Session) -> None:
    result = await session.execute("SELECT * FROM users WHERE id = ?", (1,), trace=True)
    trace = await session.trace(result)
    assert trace.events
    assert trace.request


# -- writing


async def test_lightweight_transactions(session: cql.Session) -> None:
    number = next(fresh)
    insert = "INSERT INTO users (id, name) VALUES (?, ?) IF NOT EXISTS"
    assert (await session.execute(insert, (number, "Ann"))).applied
    refused = await session.execute(insert, (number, "Bea"))
    assert (refused.applied, refused.existing) == (
        False,
        {"id": number, "name": "Ann", "email": None},
    )
    update = "UPDATE users SET name = ? WHERE id = ? IF name = ?"
    assert (await session.execute(update, ("Cid", number, "Ann"))).applied
    lost = await session.execute(update, ("Dan", number, "Ann"))
    assert lost.existing == {"name": "Cid"}
    assert (
        await session.execute("UPDATE users SET name = ? WHERE id = ? IF EXISTS", ("Eve", -1))
    ).existing is None


async def test_batches(session: cql.Session) -> None:
    numbers = [next(fresh) for _ in range(3)]
    insert = "INSERT INTO users (id, name) VALUES (?, ?)"
    kinds: tuple[BatchName, ...] = ("logged", "unlogged")
    for kind in kinds:
        await session.batch([(insert, (n, kind)) for n in numbers], kind=kind)
        found = await session.execute("SELECT name FROM users WHERE id IN ?", (numbers,))
        assert [row.name for row in found] == [kind] * 3
    count = "UPDATE hits SET n = n + ? WHERE page = ?"
    await session.batch([(count, (1, "a")), (count, (2, "a"))], kind="counter")
    await session.execute(count, (4, "a"))
    assert (await session.execute("SELECT n FROM hits WHERE page = ?", ("a",))).scalar() % 7 == 0
    only = "INSERT INTO users (id, name) VALUES (?, ?) IF NOT EXISTS"
    assert not (await session.batch([(only, (numbers[0], "taken"))])).applied


async def test_timestamps_and_lifetimes(session: cql.Session) -> None:
    number = next(fresh)
    insert = "INSERT INTO users (id, name) VALUES (?, ?) USING TTL ?"
    await session.execute(insert, (number, "Ann", 1000), timestamp=1_700_000_000_000_000)
    query = "SELECT writetime(name), ttl(name) FROM users WHERE id = ?"
    written, left = tuple((await session.execute(query, (number,))).one())
    assert written == 1_700_000_000_000_000
    assert 900 < left <= 1000
    await session.execute("DELETE FROM users WHERE id = ?", (number,), timestamp=1)
    assert (await session.execute(query, (number,))).first() is not None


# -- the schema, and what is refused


async def test_a_table_is_altered_under_a_statement(session: cql.Session) -> None:
    table = f"altered{next(fresh)}"
    made = await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    assert made.schema_agreed is True
    everything = await session.prepare(f"SELECT * FROM {table} WHERE id = ?")
    await session.execute(f"INSERT INTO {table} (id, a) VALUES (?, ?)", (1, 2))
    assert tuple((await session.execute(everything, (1,))).one()) == (1, 2)
    await session.execute(f"ALTER TABLE {table} ADD b text")
    await session.execute(f"INSERT INTO {table} (id, b) VALUES (?, ?)", (1, "new"))
    assert tuple((await session.execute(everything, (1,))).one()) == (1, 2, "new")
    await session.execute(f"DROP TABLE {table}")
    with pytest.raises(cql.DatabaseError):
        await session.execute(everything, (1,))
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    assert (await session.execute(everything, (1,))).first() is None


async def test_errors_have_a_class_of_their_own(
    session: cql.Session, keyspace_of_line: str
) -> None:
    with pytest.raises(cql.InvalidSyntax):
        await session.execute("SELEC key FROM system.local")
    with pytest.raises(cql.InvalidQuery):
        await session.execute("SELECT nothing FROM users")
    with pytest.raises(cql.AlreadyExists) as refused:
        await session.execute(TABLES[0])
    assert (refused.value.keyspace, refused.value.table) == (keyspace_of_line, "users")


async def test_json(session: cql.Session) -> None:
    query = "SELECT JSON id, name FROM users WHERE id = ?"
    number = next(fresh)
    await session.execute("INSERT INTO users (id, name) VALUES (?, ?)", (number, "Ann"))
    if RELEASE >= (2, 2):
        found = (await session.execute(query, (number,))).scalar()
        assert found == f'{{"id": {number}, "name": "Ann"}}'
    else:
        with pytest.raises(cql.InvalidSyntax):
            await session.execute(query, (number,))


# -- faults


async def test_a_node_that_hangs_and_goes_on(line: Node, session: cql.Session) -> None:
    query = "SELECT * FROM users WHERE id = ?"
    await session.execute(query, (1,))
    line.pause()
    try:
        with pytest.raises(cql.RequestTimeout):
            await session.execute(query, (1,), timeout=0.3)
    finally:
        line.resume()
    await session.execute(query, (1,))
