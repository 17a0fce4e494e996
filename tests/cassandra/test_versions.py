"""The client in every protocol version: negotiation, and features that need a version."""

from __future__ import annotations

import itertools
from datetime import date, time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import UNSET, Duration, ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.launcher import Node

V3, V4, V5 = ProtocolVersion
AGREEMENTS = [
    (version, compression)
    for version in ProtocolVersion
    for compression in (None, "lz4", "snappy")
    if compression != "snappy" or version.has_snappy
]
fresh = itertools.count(1)


def connected(
    node: Node,
    version: ProtocolVersion | None = None,
    *,
    keyspace: str | None = None,
    profile: cql.Profile | None = None,
    **fields: Any,
) -> Any:
    config = cql.Config(protocol_version=version, **fields)
    return cql.connect(node.host, port=node.port, keyspace=keyspace, config=config, profile=profile)


@pytest.mark.parametrize(("version", "compression"), AGREEMENTS)
async def test_the_verbs_at_every_version_and_compression(
    cassandra: Node, keyspace: str, version: ProtocolVersion, compression: str | None
) -> None:
    async with connected(cassandra, version, compression=compression, keyspace=keyspace) as session:
        assert session.protocol_version is version
        table = "verbs"
        await session.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (id int, n smallint, d date, t time, u duration,"
            " v vector<float, 3>, s text, PRIMARY KEY (id, n))"
        )
        insert = f"INSERT INTO {table} (id, n, d, t, u, v, s) VALUES (?, ?, ?, ?, ?, ?, ?)"
        day, hour, span = date(2026, 11, 21), time(1, 2, 3, 456), Duration(1, 2, 3)
        rows = [(1, n, day, hour, span, [0.5, n, -1.0], "x" * 5000 * n) for n in range(30)]
        for row in rows:
            await session.execute(insert, row)
        await session.execute(insert, (2, 1, None, None, None, None, None))
        select = f"SELECT id, n, d, t, u, v, s FROM {table} WHERE id = ?"
        assert [tuple(row) for row in await session.execute(select, (1,))] == rows
        assert [tuple(row) async for row in session.stream(select, (1,), page_size=7)] == rows
        page = await session.page(select, (1,), page_size=20)
        rest = await session.page(select, (1,), page_size=20, token=page.next_token)
        assert [tuple(row) for row in [*page, *rest]] == rows
        assert tuple((await session.execute(select, (2,))).one())[2:] == (None,) * 5
        await session.execute(f"DELETE FROM {table} WHERE id = 4")
        await session.batch([(insert, (3, n, *rows[0][2:])) for n in range(3)])
        assert len(await session.execute(select, (3,))) == 3
        unique = f"INSERT INTO {table} (id, n, s) VALUES (?, ?, ?) IF NOT EXISTS"
        assert (await session.execute(unique, (4, 4, "first"))).applied
        result = await session.execute(unique, (4, 4, "second"))
        assert not result.applied
        assert result.existing["s"] == "first"
        assert (await session.execute("SELECT key FROM system.local")).one().key == "local"


async def test_the_highest_version_is_taken(cassandra: Node) -> None:
    async with connected(cassandra) as session:
        assert session.protocol_version is V5
    async with connected(cassandra, compression="snappy") as session:
        assert session.protocol_version is V4


@pytest.mark.parametrize("version", ProtocolVersion)
async def test_a_missing_keyspace_is_known_when_the_session_is_entered(
    cassandra: Node, version: ProtocolVersion
) -> None:
    with pytest.raises(cql.InvalidQuery, match="'nowhere' does not exist"):
        async with connected(cassandra, version, keyspace="nowhere"):
            raise AssertionError


async def test_what_v3_and_v4_lack(cassandra: Node, keyspace: str) -> None:
    async with connected(cassandra, V3, keyspace=keyspace) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS lacking (id int PRIMARY KEY, v int)")
        with pytest.raises(cql.ProtocolError, match="UNSET needs v4"):
            await session.execute("INSERT INTO lacking (id, v) VALUES (?, ?)", (1, UNSET))
    for version in (V3, V4):
        async with connected(cassandra, version) as session:
            with pytest.raises(cql.UsageError, match="needs protocol v5"):
                session.using(keyspace=keyspace)
            with pytest.raises(cql.UsageError, match="needs protocol v5"):
                await session.execute("SELECT * FROM lacking", keyspace=keyspace)
            with pytest.raises(cql.UsageError, match="needs protocol v5"):
                await session.execute("SELECT key FROM system.local", now_in_seconds=1)


# -- a keyspace per request


@pytest.fixture
async def two(cassandra: Node, keyspace: str) -> AsyncIterator[tuple[cql.Session, str, str]]:
    """Two keyspaces with a table of the same name, with different column types."""
    async with connected(cassandra, V5) as session:
        name = f"{keyspace}_{next(fresh)}"
        for each, kind in ((f"{name}_a", "int"), (f"{name}_b", "text")):
            await session.execute(
                f"CREATE KEYSPACE {each} WITH replication ="
                " {'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            await session.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {kind})", keyspace=each)
        yield session, f"{name}_a", f"{name}_b"
        for each in (f"{name}_a", f"{name}_b"):
            await session.execute(f"DROP KEYSPACE {each}")


async def test_the_same_text_in_two_keyspaces(two: tuple[cql.Session, str, str]) -> None:
    session, first, second = two
    insert, select = "INSERT INTO t (id, v) VALUES (?, ?)", "SELECT v FROM t WHERE id = ?"
    a, b = session.using(keyspace=first), session.using(keyspace=second)
    for _ in range(2):  # prepared, and found prepared
        await a.execute(insert, (1, 7))
        await b.execute(insert, (1, "seven"))
        await session.execute(insert, (2, 8), keyspace=first)
        await session.execute(insert, (2, "eight"), keyspace=second)
        assert (await a.execute(select, (1,))).one().v == 7
        assert (await b.execute(select, (1,))).one().v == "seven"
        assert (await a.execute(select, (1,), keyspace=second)).one().v == "seven"
        assert (await session.execute(select, (2,), keyspace=first)).one().v == 8
    with pytest.raises(cql.ValueConversionError):
        await a.execute(insert, (1, "seven"))
    for verbs, value in ((a, 9), (b, "nine")):
        await verbs.batch([(insert, (3, value)), "INSERT INTO t (id) VALUES (4)"])
        assert (await verbs.execute("SELECT v FROM t WHERE id = 3")).one().v == value
        assert len(await verbs.execute("SELECT id FROM t")) == 4
        found = [row.v async for row in verbs.stream("SELECT v FROM t WHERE id = ?", (3,))]
        assert found == [value]
    with pytest.raises(cql.InvalidQuery, match="No keyspace"):
        await session.execute(select, (1,))


async def test_a_handle_belongs_to_its_keyspace(two: tuple[cql.Session, str, str]) -> None:
    """A tenant's statement never silently reads another tenant's rows."""
    session, first, second = two
    a, b = session.using(keyspace=first), session.using(keyspace=second)
    handle = await a.prepare("SELECT v FROM t WHERE id = ?")
    assert (await a.execute(handle, (1,))).rows == []
    insert = await a.prepare("INSERT INTO t (id) VALUES (?)")
    for call in (
        lambda: b.execute(handle, (1,)),
        lambda: session.execute(handle, (1,)),
        lambda: a.execute(handle, (1,), keyspace=second),
        lambda: b.batch([(insert, (1,))]),
        lambda: b.page(handle, (1,)),
        lambda: anext(b.stream(handle, (1,))),
    ):
        with pytest.raises(cql.UsageError, match="was prepared in the keyspace"):
            await call()
    await a.execute("INSERT INTO t (id) VALUES (1)")
    await a.execute("INSERT INTO t (id) VALUES (2)")
    page = await a.page("SELECT * FROM t", page_size=1)
    assert page.next_token is not None
    with pytest.raises(cql.PageTokenMismatch):
        await b.page("SELECT * FROM t", page_size=1, token=page.next_token)


async def test_profiles_and_keyspaces_go_together(two: tuple[cql.Session, str, str]) -> None:
    session, first, second = two
    quick = cql.Profile(timeout=5.0)
    a = session.using(keyspace=first).using(profile=quick)
    assert a.profile.timeout == 5.0
    await a.execute("INSERT INTO t (id, v) VALUES (1, 1)")
    assert (await a.execute("SELECT v FROM t WHERE id = 1", profile=quick)).one().v == 1
    b = a.using(profile=cql.Profile(keyspace=second))
    assert (await b.execute("SELECT v FROM t WHERE id = 1")).rows == []
    assert (await b.using(keyspace=first).execute("SELECT v FROM t WHERE id = 1")).one().v == 1


async def test_the_server_forgets_statements_of_two_keyspaces(
    two: tuple[cql.Session, str, str], cassandra: Node
) -> None:
    """Each is prepared again in its own keyspace, after the table is dropped and created again."""
    session, first, second = two
    a, b = session.using(keyspace=first), session.using(keyspace=second)
    select = "SELECT * FROM t WHERE id = ?"
    for verbs in (a, b):
        await verbs.execute(select, (1,))
    for verbs, kind in ((a, "bigint"), (b, "boolean")):
        await verbs.execute("DROP TABLE t")
        await verbs.execute(f"CREATE TABLE t (id int PRIMARY KEY, w {kind})")
    await a.execute("INSERT INTO t (id, w) VALUES (?, ?)", (1, 1 << 40))
    await b.execute("INSERT INTO t (id, w) VALUES (?, ?)", (1, True))
    assert (await a.execute(select, (1,))).one()._asdict() == {"id": 1, "w": 1 << 40}
    assert (await b.execute(select, (1,))).one()._asdict() == {"id": 1, "w": True}


async def test_the_servers_now(cassandra: Node, keyspace: str) -> None:
    async with connected(cassandra, V5, keyspace=keyspace) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS fading (id int PRIMARY KEY, v int)")
        now = 2_000_000_000
        insert = "INSERT INTO fading (id, v) VALUES (?, ?) USING TTL 100"
        await session.execute(insert, (1, 1), now_in_seconds=now)
        await session.batch([(insert, (2, 2))], now_in_seconds=now)
        for query, parameters in (
            ("SELECT v FROM fading WHERE id = ?", (1,)),
            ("SELECT v FROM fading WHERE id = 2", None),
        ):
            for later, count in ((50, 1), (150, 0)):
                result = await session.execute(query, parameters, now_in_seconds=now + later)
                assert len(result) == count


# -- columns that change under a prepared statement


@pytest.mark.parametrize("version", [V4, V5])
async def test_columns_change_while_they_are_read(
    cassandra: Node, keyspace: str, version: ProtocolVersion
) -> None:
    """A name is dropped and added again with another type; no reply is read by another's columns.

    Every row is either without the column, or has it as some ALTER that was sent made it.
    """
    kinds = {"int": 5, "text": "five", "boolean": True, "bigint": 1 << 40}
    async with connected(cassandra, version, keyspace=keyspace) as session:
        table = f"changing_{next(fresh)}"
        await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, k text)")
        await session.execute(f"INSERT INTO {table} (id, k) VALUES (1, 'here')")
        select = f"SELECT * FROM {table} WHERE id = ?"
        handle = await session.prepare(select)
        seen: set[Any] = set()
        ended = False

        async def read(query: Any) -> None:
            while not ended:
                row = (await session.execute(query, (1,), row=dict)).one()
                value = row.pop("v", None)
                assert row.pop("id") == 1
                assert row.pop("k") == "here"
                assert all(name.startswith("v_") for name in row)
                others = [each for each in row.values() if each is not None]
                for each in [value, *others]:
                    assert each is None or (type(each), each) in [
                        (type(known), known) for known in kinds.values()
                    ]
                    seen.add(each)

        async def change() -> None:
            nonlocal ended
            try:
                for number, (kind, value) in enumerate([*kinds.items()] * 2):
                    name = f"v_{kind}_{number}"
                    await session.execute(f"ALTER TABLE {table} ADD {name} {kind}")
                    await session.execute(f"UPDATE {table} SET {name} = ? WHERE id = 1", (value,))
                    await anyio.sleep(0.05)
                    await session.execute(f"ALTER TABLE {table} DROP {name}")
            finally:
                ended = True

        async with anyio.create_task_group() as group:
            for query in (select, handle, select, handle):
                group.start_soon(read, query)
            group.start_soon(change)
        assert seen >= set(kinds.values())
