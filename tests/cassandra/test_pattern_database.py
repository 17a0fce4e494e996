"""The database manager on a real node: retries with faults, and the gate against disguises."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import AdminNotAllowed, Database, RetryConfig
from cqlproto_anyio.testing import Answer, Drop, FaultProxy, Rule
from tests.cassandra.races import PATIENCE, Counting, connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cqlproto_anyio.testing import Fault, Side
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

_ids = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    cassandra.cql(
        f"CREATE TABLE {keyspace}.counts (id int PRIMARY KEY, n counter)",
        f'CREATE TABLE {keyspace}.texts (id int PRIMARY KEY, value text, "drop table" text)',
    )


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


# --------------------------------------------------------------------------------- retries

COUNT = "UPDATE counts SET n = n + 1 WHERE id = :id"
STORE = "INSERT INTO texts (id, value) VALUES (:id, 'stored')"
RETRY = RetryConfig(max_retries=3, initial_delay=0.01, max_delay=0.05)

FAULTS: dict[str, Callable[[], tuple[Fault, Side]]] = {
    "the reply is lost": lambda: (Drop(connection=True), "reply"),
    "the request is lost": lambda: (Drop(connection=True), "request"),
    "the reply is swallowed": lambda: (Drop(), "reply"),
    "WriteTimeout after it was applied": lambda: (Answer("WRITE_TIMEOUT"), "reply"),
    "WriteTimeout before": lambda: (Answer("WRITE_TIMEOUT"), "request"),
    "UNAVAILABLE": lambda: (Answer("UNAVAILABLE"), "request"),
    "OVERLOADED": lambda: (Answer("OVERLOADED"), "request"),
    "UNPREPARED": lambda: (Answer("UNPREPARED"), "request"),
}


async def with_faults(
    node: Node, keyspace: str, names: list[str], work: Callable[[cql.Session], Awaitable[None]]
) -> cql.CQLError | None:
    """Do something whose first statements have faults; return its error."""
    profile = cql.Profile(timeout=PATIENCE)
    async with FaultProxy(node.host, node.port) as proxy:
        for number, name in enumerate(names):
            fault, side = FAULTS[name]()
            proxy.add(Rule(fault, side=side, opcode="EXECUTE", skip=number, times=1))
        async with cql.connect(
            proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
        ) as session:
            try:
                await work(session)
            except cql.CQLError as error:
                return error
    return None


async def count_of(node: Node, keyspace: str, id: int) -> int:
    async with connected(node, keyspace) as session:
        row = (await session.execute("SELECT n FROM counts WHERE id = ?", (id,))).first()
    return 0 if row is None else row.n


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=4)
@given(names=st.lists(st.sampled_from([*FAULTS]), min_size=1, max_size=2))
def test_only_what_is_harmless_is_tried_again(
    cassandra: Node, keyspace: str, backend: str, names: list[str]
) -> None:
    """A counter counts once at most; what is idempotent gets through."""
    id = next(_ids)

    async def count(session: cql.Session) -> None:
        await Database(session, retry=RETRY).run(COUNT, {"id": id})

    async def store(session: cql.Session) -> None:
        await Database(session, retry=RETRY).run(STORE, {"id": id}, idempotent=True)

    async def run() -> None:
        error = await with_faults(cassandra, keyspace, names, count)
        counted = await count_of(cassandra, keyspace, id)
        if error is None:
            assert counted == 1
        else:
            assert counted <= error.maybe_applied
        assert await with_faults(cassandra, keyspace, names, store) is None
        async with connected(cassandra, keyspace) as session:
            row = await Database(session).run(
                "SELECT value FROM texts WHERE id = :id", {"id": id}, fetch="one"
            )
        assert row == {"value": "stored"}

    anyio.run(run, backend=backend)


async def test_what_was_certainly_not_applied_is_tried_again(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    id = next(_ids)
    database: list[Database] = []

    async def count(session: cql.Session) -> None:
        database.append(Database(session, retry=RETRY))
        await database[0].run(COUNT, {"id": id})

    assert await with_faults(cassandra, keyspace, ["UNAVAILABLE"] * 3, count) is None
    assert await count_of(cassandra, keyspace, id) == 1
    database.append(Database(session, retry=RETRY))
    with pytest.raises(cql.InvalidQuery):  # no words of a message make it a failure of the cluster
        await database[1].run("SELECT connection_timeout FROM counts")
    assert database[1].metrics().retries == 0


async def test_the_naive_retry_counts_twice(cassandra: Node, keyspace: str) -> None:
    """It looks for words in the message, whether or not repeating does harm."""
    id = next(_ids)

    async def count(session: cql.Session) -> None:
        for _ in range(3):
            try:
                await session.execute(COUNT, {"id": id})
            except Exception as error:
                if not re.search("timeout|connection|unavailable", f"{error!r}".lower()):
                    raise
            else:
                return

    await with_faults(cassandra, keyspace, ["WriteTimeout after it was applied"], count)
    assert await count_of(cassandra, keyspace, id) == 2


# -------------------------------------------------------------------------------- the gate

# what the server can parse, one token a word; braces and commas are tokens as well
ADMINISTRATION = [
    "CREATE KEYSPACE k WITH replication = { 'class' : 'SimpleStrategy' , 'dc1' : 1 }",
    "ALTER KEYSPACE k WITH durable_writes = false",
    "DROP KEYSPACE k",
    "DROP KEYSPACE IF EXISTS k",
    "CREATE TABLE t ( a int PRIMARY KEY )",
    "CREATE COLUMNFAMILY t ( a int PRIMARY KEY )",
    "CREATE TABLE IF NOT EXISTS t ( a int PRIMARY KEY )",
    "ALTER TABLE counts WITH comment = 'x'",
    "DROP TABLE counts",
    "DROP COLUMNFAMILY counts",
    "TRUNCATE counts",
    "TRUNCATE TABLE counts",
    "CREATE TYPE u ( a int )",
    "ALTER TYPE u ADD b int",
    "DROP TYPE u",
    "CREATE INDEX i ON texts ( value )",
    "CREATE CUSTOM INDEX i ON texts ( value ) USING 'StorageAttachedIndex'",
    "DROP INDEX i",
    "CREATE MATERIALIZED VIEW v AS SELECT id FROM texts WHERE id IS NOT NULL PRIMARY KEY ( id )",
    "ALTER MATERIALIZED VIEW v WITH comment = 'x'",
    "DROP MATERIALIZED VIEW v",
    "CREATE OR REPLACE FUNCTION f ( a int ) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS ''",
    "DROP FUNCTION f",
    "CREATE AGGREGATE g ( int ) SFUNC f STYPE int",
    "DROP AGGREGATE g",
    "CREATE TRIGGER r ON texts USING 'c'",
    "DROP TRIGGER r ON texts",
    "CREATE ROLE r WITH PASSWORD = 'p'",
    "ALTER ROLE r WITH SUPERUSER = true",
    "DROP ROLE r",
    "CREATE USER u WITH PASSWORD 'p' SUPERUSER",
    "ALTER USER u WITH PASSWORD 'p'",
    "DROP USER u",
    "GRANT ALL PERMISSIONS ON ALL KEYSPACES TO r",
    "GRANT r TO s",
    "REVOKE SELECT ON KEYSPACE k FROM r",
    "LIST ROLES",
    "LIST ALL PERMISSIONS OF r",
    "ADD IDENTITY 'i' TO ROLE r",
    "DROP IDENTITY 'i'",
    "USE k",  # refused by the client as well
]  # fmt: skip
HIDDEN = [
    "BEGIN BATCH INSERT INTO texts ( id ) VALUES ( 1 ) ; DROP TABLE texts ; APPLY BATCH",
    "BEGIN UNLOGGED BATCH TRUNCATE texts APPLY BATCH",
    "SELECT id FROM texts ; DROP TABLE texts",
    "DELETE FROM texts WHERE id = 1 ; GRANT r TO s",
    "INSERT INTO texts ( id , value ) VALUES ( 1 , 'it''s' ) ; DROP KEYSPACE k",
    "UPDATE texts SET value = $$ ' $$ WHERE id = 1 ; ALTER ROLE r WITH SUPERUSER = true",
]
HARMLESS = [
    "SELECT id FROM texts /* DROP TABLE texts */ WHERE id = 1 -- GRANT r TO s\n",
    'SELECT "drop table" , value AS "create" FROM texts WHERE id = 1',
    "UPDATE texts SET value = 'x' , \"drop table\" = '; TRUNCATE texts' WHERE id = 1",
    "BEGIN BATCH DELETE FROM texts WHERE id = 1 ; // DROP TABLE\n APPLY BATCH",
]

SPACES = st.sampled_from(
    [" ", "\t", "\n", "\r\n", "  ", "/**/", "/* ' */", "-- it's\n", '// "\n', "/*--*/ ", "/***/"]
)


@st.composite
def disguised(draw: st.DrawFn, texts: list[str]) -> tuple[str, str]:
    """Draw a statement, and the same with other cases, comments and spaces."""
    text = draw(st.sampled_from(texts))
    words = []
    for word in re.findall(r"'(?:[^']|'')*'|\$\$.*?\$\$|\S+", text):
        keep = word[0] in "'$" or draw(st.booleans())
        random = draw(st.integers(0, 2 ** len(word) - 1))
        letters = (
            letter.swapcase() if random >> at & 1 else letter for at, letter in enumerate(word)
        )
        words.append(word if keep else "".join(letters))
    gaps = draw(st.lists(SPACES, min_size=len(words) + 1, max_size=len(words) + 1))
    return text, "".join(map("".join, zip(gaps, [*words, ""], strict=True)))


def naive(query: str) -> bool:
    """Return whether a gate of regular expressions lets a statement pass."""
    return not re.search(
        r"--|;\s*(DROP|DELETE|UPDATE)|\b(DROP|ALTER|CREATE)\s+TABLE\b|\bTRUNCATE\b",
        query,
        re.IGNORECASE,
    )


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(found=disguised([*ADMINISTRATION, *HIDDEN]))
def test_administration_is_refused_in_every_disguise(found: tuple[str, str]) -> None:
    text, query = found

    async def run() -> None:
        nothing: Any = None  # no session: the gate is before any request
        with pytest.raises(AdminNotAllowed) as info:
            await Database(nothing).run(query)
        with pytest.raises(AdminNotAllowed):
            await Database(nothing, mode="manual").run(query)
        assert info.value.query == query
        assert info.value.statement == info.value.statement.upper()
        if text in ADMINISTRATION:
            assert info.value.statement.split()[0] == text.split()[0]

    anyio.run(run)


async def each_prepared(cassandra: Node, keyspace: str, queries: list[str]) -> list[str]:
    """Return those of the statements that the server can't parse."""
    wrong = []
    async with connected(cassandra, keyspace) as session:
        for query in queries:
            try:
                await session.prepare(query)
            except cql.InvalidSyntax:
                wrong.append(query)
            except cql.DatabaseError:
                pass  # it has understood, and misses a role or a table
    return wrong


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(queries=st.lists(disguised(ADMINISTRATION[:-1]), min_size=10, max_size=20))
def test_the_server_sees_through_the_disguises(
    cassandra: Node, keyspace: str, queries: list[tuple[str, str]]
) -> None:
    """So a gate that doesn't is no gate. Preparing executes nothing."""
    texts = [query for _, query in queries]
    assert anyio.run(each_prepared, cassandra, keyspace, texts) == []


@settings(max_examples=10)
@given(
    values=st.lists(
        st.lists(
            st.sampled_from(
                [
                    "a--b",
                    "DROP TABLE x",
                    "; GRANT a TO b",
                    "/*",
                    "*/",
                    "//",
                    "''",
                    '"',
                    " ",
                    ":a",
                    "?",
                ]
            )
        ).map("".join),
        min_size=5,
        max_size=10,
    )
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_literals_and_comments_pass(
    cassandra: Node, keyspace: str, backend: str, values: list[str]
) -> None:
    async def run() -> None:
        async with connected(cassandra, keyspace) as session:
            database = Database(session)
            for value in values:
                id = next(_ids)
                literal = f"$${value}$$" if "'" in value else f"'{value}'"
                await database.run(f"INSERT INTO texts (id, value) VALUES ({id}, {literal})")
                query = f"SELECT value FROM texts /* {value.replace('*', '')} */ WHERE id = {id}"
                assert await database.run(query, fetch="one") == {"value": value}

    anyio.run(run, backend=backend)


async def test_statements_on_rows_pass(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        for query in HARMLESS:
            await Database(session).run(query)
    assert len(counting.records) == len(HARMLESS)


async def test_the_naive_gate(session: cql.Session) -> None:
    """It refuses literals, and lets statements pass that the server executes."""
    assert not naive("INSERT INTO texts (id, value) VALUES (1, 'a--b')")
    assert not naive("INSERT INTO texts (id, value) VALUES (1, 'DROP TABLE x')")
    passed = [query for query in ADMINISTRATION if naive(query)]
    assert len(passed) > len(ADMINISTRATION) // 2
    sly = "CREATE/**/TABLE sly (id int PRIMARY KEY)"
    assert naive(sly)
    await session.execute(sly)
    await session.execute("DROP/**/TABLE sly")
