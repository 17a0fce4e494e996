"""Tenants on a real node: creations that race, lost replies, crashes, and the naive version."""

from __future__ import annotations

import random
import tracemalloc
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SchemaMismatch, Tenants
from cqlproto_anyio.testing import Drop, FaultProxy, Rule
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import Counting, connected, in_other_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

SIMPLE: dict[str, str | int] = {"class": "SimpleStrategy", "replication_factor": 1}
USERS = "CREATE TABLE users (id int PRIMARY KEY, email text)"
NAME = "ALTER TABLE users ADD name text"
PHONE = "ALTER TABLE users ADD phone text"
CITY = "ALTER TABLE users ADD city text"


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


@pytest.fixture
async def prefix(session: cql.Session) -> AsyncIterator[str]:
    prefix = f"t{uuid.uuid4().hex[:8]}_"
    yield prefix
    tenants = Tenants(session, prefix=prefix, replication=SIMPLE)
    for tenant in [tenant async for tenant in tenants.list()]:
        await tenants.drop(tenant)


def tenants(session: cql.Session, prefix: str, *schema: str) -> Tenants:
    return Tenants(session, prefix=prefix, replication=SIMPLE, schema=schema or [USERS])


async def columns(session: cql.Session, keyspace: str) -> set[str]:
    query = (
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?"
    )
    return set((await session.execute(query, (keyspace, "users"))).scalars())


async def create_ten_times(session: cql.Session, keyspace: str, prefix: str) -> None:
    """Create a tenant: the second process of a race."""
    await all_of([lambda: tenants(session, prefix, USERS, NAME).create("acme")] * 10)


async def test_fifty_create_one_tenant(
    session: cql.Session, cassandra: Node, keyspace: str, prefix: str
) -> None:
    mine = tenants(session, prefix, USERS, NAME)
    other = partial(in_other_process, create_ten_times, cassandra, keyspace, prefix)
    creations: list[Any] = [partial(mine.create, "acme")] * 50
    await all_of([*creations, other])
    assert await columns(session, mine.keyspace("acme")) == {"id", "email", "name"}
    assert [tenant async for tenant in mine.list()] == ["acme"]


async def test_the_naive_tenants(session: cql.Session, prefix: str) -> None:
    """The id is pasted into the text: some don't parse, some share a keyspace, one injects."""

    async def create(tenant: str) -> None:
        await session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {prefix}{tenant} WITH replication ="
            " {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        await session.using(keyspace=f"{prefix}{tenant}".lower()).execute(USERS)

    with pytest.raises(cql.InvalidSyntax):
        await create("acme-co")
    outcomes = await all_of([partial(attempt, partial(create, "acme"))] * 10)
    assert sum(isinstance(each, cql.AlreadyExists) for each in outcomes) == 9
    with pytest.raises(cql.AlreadyExists):
        await create("ACME")  # another tenant's keyspace

    mine = tenants(session, prefix)
    for tenant in ("b-c", "B-C"):
        await mine.create(tenant)
        await mine.session(tenant).execute("INSERT INTO users (id, email) VALUES (1, ?)", (tenant,))
    for tenant in ("b-c", "B-C"):
        found = await mine.session(tenant).execute("SELECT email FROM users")
        assert found.scalars() == [tenant]


async def attempt(function: Any) -> Any:
    try:
        return await function()
    except cql.CQLError as error:
        return error


async def test_two_programs_migrate_at_once(
    session: cql.Session, cassandra: Node, keyspace: str, prefix: str
) -> None:
    mine = tenants(session, prefix)
    await all_of([partial(mine.create, tenant) for tenant in ("a", "b")])
    other = partial(in_other_process, migrate_once, cassandra, keyspace, prefix)
    here = partial(migrate_once, session, keyspace, prefix)
    assert await all_of([here, other, here]) == [[], [], []]
    assert set((await mine.migrate([NAME, PHONE, CITY])).unchanged) == {"a", "b"}
    for tenant in ("a", "b"):
        assert {"name", "phone", "city"} < await columns(session, mine.keyspace(tenant))


async def migrate_once(session: cql.Session, keyspace: str, prefix: str) -> list[str]:
    """Migrate all tenants; return the failures: the second process of a race."""
    report = await tenants(session, prefix).migrate([NAME, PHONE, CITY])
    return [f"{each.tenant}: {each.error}" for each in report.failed]


async def test_a_lost_migration_goes_on(
    session: cql.Session, cassandra: Node, keyspace: str, prefix: str
) -> None:
    """The connection is lost after a statement was executed, or before; the next run goes on."""
    await tenants(session, prefix).create("acme")
    async with (
        FaultProxy(cassandra.host, cassandra.port) as proxy,
        cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as shaky,
    ):
        drop, mine = Drop(connection=True), tenants(shaky, prefix)
        proxy.add(Rule(drop, side="reply", statement="ALTER %phone%", times=1))
        proxy.add(Rule(drop, side="request", statement="ALTER %city%", times=1))
        for statement in (PHONE, CITY):
            (failure,) = (await mine.migrate([NAME, PHONE, CITY])).failed
            assert failure.statement == statement
            assert isinstance(failure.error, cql.CQLError)
            assert failure.error.maybe_applied
        report = await mine.migrate([NAME, PHONE, CITY])
        assert (report.migrated, report.failed) == (("acme",), ())
    assert {"name", "phone", "city"} < await columns(session, f"{prefix}acme")


async def test_a_program_that_dies_while_it_creates(session: cql.Session, prefix: str) -> None:
    mine = tenants(session, prefix, USERS, NAME, PHONE)
    with anyio.move_on_after(random.uniform(0.02, 0.4)):
        await mine.create("acme")
    await tenants(session, prefix, USERS, NAME, PHONE).create("acme")
    assert await columns(session, f"{prefix}acme") == {"id", "email", "name", "phone"}
    assert (await mine.migrate([USERS, NAME, PHONE])).unchanged == ("acme",)


async def test_what_a_creation_costs(cassandra: Node, keyspace: str, prefix: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        mine = tenants(session, prefix)
        await mine.create("acme")
        batches = [each for each in counting.records if each.verb == "batch"]
        releases = [each for each in counting.records if each.query.startswith("DELETE holder")]
        assert (len(batches), len(releases)) == (1, 1)  # LWTs
        counting.records.clear()
        await mine.create("acme")
        assert len(counting.records) == 6
        assert counting.reads == 6  # one of them prepares a statement, and reads nothing


async def test_sessions_of_ten_thousand_tenants(session: cql.Session, prefix: str) -> None:
    mine = Tenants(session, prefix=prefix, replication=SIMPLE, max_sessions=100)
    for number in range(200):
        mine.session(f"t{number}")
    tracemalloc.start()
    for number in range(10_000):
        mine.session(f"t{number}")
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 500_000


async def test_a_table_of_another_shape(session: cql.Session, prefix: str) -> None:
    mine = tenants(session, prefix)
    await session.execute(mine.schema_cql("acme")[0])
    table = "CREATE TABLE tenant_migrations (name text PRIMARY KEY)"
    await mine.session("acme").execute(table)
    with pytest.raises(SchemaMismatch):
        await mine.create("acme")
    (failure,) = (await mine.migrate([NAME])).failed
    assert isinstance(failure.error, SchemaMismatch)
