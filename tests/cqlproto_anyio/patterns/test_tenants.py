"""Tenants: names, creation by many tasks, migrations that stop and go on, bounded memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import anyio
import pytest

from cqlproto_anyio.exceptions import InvalidQuery
from cqlproto_anyio.patterns import InvalidInput, LockTimeout, MigrationFailure, Tenants
from tests.cqlproto_anyio.patterns.keyspaces import Keyspaces
from tests.support.scripted import Scripted, timed_out

USERS = "CREATE TABLE users (id int PRIMARY KEY)"
NOTES = "CREATE TABLE notes (id int PRIMARY KEY)"
NAME = "ALTER TABLE users ADD name text"
PHONE = "ALTER TABLE users ADD phone text"
SIMPLE: dict[str, str | int] = {"class": "SimpleStrategy", "replication_factor": 1}


def tenants(server: Keyspaces, **options: Any) -> Tenants:
    return Tenants(server, **{"replication": SIMPLE, "schema": [USERS, NOTES], **options})


async def test_a_tenant_is_created_once_by_many_tasks() -> None:
    server = Keyspaces()
    mine = tenants(server)
    server.slow = 0.1
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(mine.create, "acme-co")
    assert server.schemas == {"tenant_acme_2dco": [USERS, NOTES]}
    assert server.changes == list(mine.schema_cql("acme-co"))
    assert len(mine._turns._locks) == 0
    server.asked.clear()
    await mine.create("acme-co")
    assert len(server.asked) == 5


async def test_two_programs_create_a_tenant() -> None:
    """The lease keeps them apart, so that each statement is executed once."""
    server = Keyspaces()
    server.slow = 1.0
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(tenants(server).create, "acme")
    assert server.schemas == {"tenant_acme": [USERS, NOTES]}
    assert server.changes.count(USERS) == server.changes.count(NOTES) == 1


async def test_a_program_that_never_ends() -> None:
    server = Keyspaces()
    await tenants(server, schema=[]).create("acme")
    server.slow = 1000.0
    async with anyio.create_task_group() as group:
        group.start_soon(tenants(server).create, "acme")
        await anyio.sleep(1)
        with pytest.raises(LockTimeout) as info:
            await tenants(server).create("acme")
        assert info.value.holder == "a migration"
        assert 100 < info.value.waited < 130
        group.cancel_scope.cancel()


async def test_tables_of_an_older_program_are_kept() -> None:
    server = Keyspaces()
    server.schemas["tenant_acme"] = [USERS]
    await tenants(server).create("acme")
    assert server.schemas["tenant_acme"] == [USERS, NOTES]


async def test_ids_are_listed_and_others_skipped() -> None:
    server = Keyspaces()
    mine = tenants(server, schema=[])
    ids = ["a", "A", "a-b", "a_b", "_41"]
    for id in ids:
        await mine.create(id)
        assert await mine.exists(id)
    for foreign in ("system", "system_auth", "tenant_A", "tenant__zz", "shop", "tenant_"):
        server.schemas[foreign] = []
    assert [tenant async for tenant in mine.list()] == ids
    assert [t async for t in tenants(server, prefix="system").list()] == []
    await mine.drop("A")
    await mine.drop("A")
    assert not await mine.exists("A")
    assert [tenant async for tenant in mine.list()] == ["a", "a-b", "a_b", "_41"]
    async for _ in mine.list():
        break


async def test_a_migration_stops_where_it_fails_and_goes_on() -> None:
    server = Keyspaces()
    mine = tenants(server)
    for tenant in ("a", "b", "c"):
        await mine.create(tenant)
    server.schemas["tenant_b"].append(NAME)  # by hand
    report = await mine.migrate([NAME, PHONE])
    assert (report.migrated, report.unchanged) == (("a", "c"), ())
    (failure,) = report.failed
    assert (failure.tenant, failure.statement) == ("b", NAME)
    assert isinstance(failure.error, InvalidQuery)
    again = await mine.migrate([NAME, PHONE])  # it isn't taken for applied the second time
    assert (again.unchanged, len(again.failed)) == (("a", "c"), 1)
    server.schemas["tenant_b"].remove(NAME)
    last = await mine.migrate([NAME, PHONE])
    assert (last.migrated, last.unchanged, last.failed) == (("b",), ("a", "c"), ())
    assert server.schemas["tenant_b"] == [USERS, NOTES, NAME, PHONE]


@pytest.mark.parametrize("executed", [True, False])
async def test_a_statement_whose_outcome_is_unknown(executed: bool) -> None:
    """The next run finds out whether it was applied."""
    server = Keyspaces()
    mine = tenants(server)
    await mine.create("a")
    server.broken[NAME] = timed_out(), executed
    report = await mine.migrate([NAME, PHONE])
    assert isinstance(report.failed[0].error, TimeoutError)
    server.broken.clear()
    report = await mine.migrate([NAME, PHONE])
    assert (report.migrated, report.failed) == (("a",), ())
    assert server.schemas["tenant_a"] == [USERS, NOTES, NAME, PHONE]
    assert (await mine.migrate([NAME, PHONE])).unchanged == ("a",)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.15, 0.25, 0.35])
async def test_a_cancelled_migration_goes_on(delay: float) -> None:
    server = Keyspaces()
    mine = tenants(server)
    for tenant in ("a", "b"):
        await mine.create(tenant)
    server.slow = 0.1
    with anyio.move_on_after(delay):
        await mine.migrate([NAME, PHONE], concurrency=1)
    for table in server.leases.values():
        assert table.holder("lease") is None
    server.slow = 0.0
    report = await mine.migrate([NAME, PHONE])
    assert report.failed == ()
    for tenant in ("a", "b"):
        assert server.schemas[f"tenant_{tenant}"] == [USERS, NOTES, NAME, PHONE]


async def test_new_tenants_begin_with_the_migrations() -> None:
    server = Keyspaces()
    await tenants(server).create("old")
    mine = tenants(server, schema=[USERS, NOTES, NAME])
    await mine.create("new")
    report = await mine.migrate([NAME])
    assert (report.migrated, report.unchanged, report.failed) == (("old",), ("new",), ())


async def test_some_tenants_at_a_time() -> None:
    server = Keyspaces()
    mine = tenants(server)
    for number in range(6):
        await mine.create(f"t{number}")
    server.slow = 1.0
    began = anyio.current_time()
    report = await mine.migrate([NAME], concurrency=2, tenants=["t5", "t0", "t5", "t2", "t9"])
    assert 2 <= anyio.current_time() - began < 3
    assert report.migrated == ("t5", "t0", "t2")
    assert [each.tenant for each in report.failed] == ["t9"]
    assert isinstance(report.failed[0], MigrationFailure)
    assert (await mine.migrate([])).unchanged == tuple(f"t{number}" for number in range(6))


async def test_a_session_is_kept_for_the_latest_tenants() -> None:
    server = Keyspaces()
    mine = tenants(server, max_sessions=2)
    first: Any = mine.session("a")
    assert first.name == "tenant_a"
    assert mine.session("a") is first
    mine.session("b")
    assert mine.session("a") is first
    mine.session("c")
    assert mine.session("a") is first  # b was used least recently
    mine.session("d")
    mine.session("e")
    assert mine.session("a") is not first
    assert server.asked == []


def test_ten_thousand_tenants_keep_memory_flat() -> None:
    server = Keyspaces()
    mine = tenants(server, max_sessions=100)
    for number in range(200):
        mine.session(f"t{number}")
    tracemalloc.start()
    for number in range(10_000):
        mine.session(f"t{number}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert server.made == 10_200
    assert grown < 500_000


HOSTILE: list[Any] = [
    "", "a b", "a;b", 'a"b', "x'; DROP KEYSPACE system; --", "ä", "a\0", "a" * 60, "../a", None, 7,
    b"a",
]  # fmt: skip


@pytest.mark.parametrize("bad", HOSTILE)
async def test_hostile_ids(bad: Any) -> None:
    server = Keyspaces()
    mine = tenants(server)
    for call in (mine.keyspace, mine.session, mine.schema_cql):
        with pytest.raises(InvalidInput, match="tenant must be"):
            call(bad)
    for ask in (mine.create, mine.drop, mine.exists):
        with pytest.raises(InvalidInput, match="tenant must be"):
            await ask(bad)
    with pytest.raises(InvalidInput, match="tenant must be"):
        await mine.migrate([NAME], tenants=["a", bad])
    assert server.asked == []


def test_keyspaces_of_the_server_are_no_tenants() -> None:
    for prefix, id in [("", "system"), ("system_", "auth"), ("sys", "tem_x")]:
        with pytest.raises(InvalidInput, match="keyspace of the server"):
            tenants(Keyspaces(), prefix=prefix).keyspace(id)


def test_replication_is_quoted() -> None:
    odd: dict[str, str | int] = {"class": "NetworkTopologyStrategy", "eu-1": 3, "o'dc": "2"}
    (keyspace, *_) = tenants(Keyspaces(), replication=odd).schema_cql("a")
    assert keyspace == (
        'CREATE KEYSPACE IF NOT EXISTS "tenant_a" WITH replication ='
        " {'class': 'NetworkTopologyStrategy', 'eu-1': '3', 'o''dc': '2'}"
    )


WRONG: list[tuple[str, Any]] = [
    ("prefix", 't"'),
    ("prefix", "T"),
    ("prefix", "a" * 41),
    ("prefix", None),
    ("replication", {}),
    ("replication", "SimpleStrategy"),
    ("replication", {"class": None}),
    ("replication", {"class": True}),
    ("schema", "CREATE TABLE t"),
    ("schema", [""]),
    ("schema", [7]),
    ("max_sessions", 0),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_settings(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as info:
        tenants(Keyspaces(), **{name: value})
    assert info.value.name == name


async def test_wrong_calls() -> None:
    mine = tenants(Keyspaces())
    wrong: list[tuple[Any, Any]] = [("ALTER TABLE x", 1), ([7], 1), ([NAME], 0)]
    for statements, concurrency in wrong:
        with pytest.raises(InvalidInput):
            await mine.migrate(statements, concurrency=concurrency)
    with pytest.raises(InvalidInput, match="session must be a session"):
        Tenants(Scripted(lambda request: None), replication=SIMPLE)
