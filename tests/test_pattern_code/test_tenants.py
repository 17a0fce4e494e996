"""Tenants as an application uses them: one keyspace for each customer of a notes service."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Cache, Tenants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.cassandra

CREATE_USERS = "CREATE TABLE users (id int PRIMARY KEY, email text)"
CREATE_NOTES = "CREATE TABLE notes (user int, id timeuuid, body text, PRIMARY KEY (user, id))"
ADD_NAME = "ALTER TABLE users ADD name text"
ADD_PHONE = "ALTER TABLE users ADD phone text"
ADD_CITY = "ALTER TABLE users ADD city text"
ONE_REPLICA: dict[str, str | int] = {"class": "SimpleStrategy", "replication_factor": 1}


@pytest.fixture
async def tenants(session: cql.Session) -> AsyncIterator[Tenants]:
    tenants = Tenants(
        session,
        prefix=f"t{uuid.uuid4().hex[:6]}_",
        replication=ONE_REPLICA,
        schema=[CREATE_USERS, CREATE_NOTES],
    )
    yield tenants
    for tenant in [tenant async for tenant in tenants.list()]:
        await tenants.drop(tenant)


async def test_a_customer_signs_up_works_and_leaves(session: cql.Session, tenants: Tenants) -> None:
    assert not await tenants.exists("acme")
    await tenants.create("acme")
    await tenants.create("globex")
    assert await tenants.exists("acme")
    acme, globex = tenants.session("acme"), tenants.session("globex")
    insert = "INSERT INTO users (id, email) VALUES (?, ?)"
    await acme.execute(insert, (1, "ann@acme.example"))
    await globex.execute(insert, (1, "bob@globex.example"))
    await acme.batch([(insert, (2, "cid@acme.example"))])
    select = "SELECT email FROM users WHERE id = ?"
    assert (await acme.execute(select, (1,))).scalar() == "ann@acme.example"
    assert (await globex.execute(select, (1,))).scalar() == "bob@globex.example"
    prepared = await acme.prepare(select)
    assert (await acme.execute(prepared, (2,))).scalar() == "cid@acme.example"
    assert (await globex.execute(select, (2,))).first() is None
    everyone = [row.id async for row in acme.stream("SELECT id FROM users")]
    assert sorted(everyone) == [1, 2]
    assert len((await acme.page("SELECT id FROM users", page_size=1)).rows) == 1
    qualified = f"SELECT email FROM {tenants.keyspace('acme')}.users WHERE id = 1"
    assert (await session.execute(qualified)).scalar() == "ann@acme.example"
    assert tenants.session("acme") is acme

    assert sorted([tenant async for tenant in tenants.list()]) == ["acme", "globex"]
    await tenants.drop("acme")
    await tenants.drop("acme")
    assert [tenant async for tenant in tenants.list()] == ["globex"]
    assert (await globex.execute(select, (1,))).scalar() == "bob@globex.example"
    with pytest.raises(cql.DatabaseError):
        await acme.execute(select, (1,))


async def test_two_requests_create_a_customer_who_uses_a_recipe(tenants: Tenants) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(tenants.create, "acme")
    await tenants.session("acme").execute("INSERT INTO users (id) VALUES (1)")
    await tenants.create("acme")
    users = await tenants.session("acme").execute("SELECT id FROM users")
    assert users.scalars() == [1]
    # a recipe within a tenant
    cache = Cache(tenants.session("acme"), keyspace=tenants.keyspace("acme"))
    await cache.create_schema()
    await cache.set("plan", "gold")
    assert await cache.get("plan") == "gold"


async def test_migrations_go_on_after_a_failure(tenants: Tenants) -> None:
    """One tenant's table was altered by hand; the others are migrated, and the report names it."""
    for tenant in ("acme", "globex"):
        await tenants.create(tenant)
    await tenants.session("globex").execute(ADD_NAME)
    report = await tenants.migrate([ADD_NAME, ADD_PHONE], concurrency=2)
    assert (report.migrated, report.unchanged) == (("acme",), ())
    (failure,) = report.failed
    assert (failure.tenant, failure.statement) == ("globex", ADD_NAME)
    assert isinstance(failure.error, cql.InvalidQuery)
    with_phone = "INSERT INTO users (id, phone) VALUES (1, '555')"
    with pytest.raises(cql.InvalidQuery):  # a tenant's migration stops where it fails
        await tenants.session("globex").execute(with_phone)

    await tenants.session("globex").execute("ALTER TABLE users DROP name")
    again = await tenants.migrate([ADD_NAME, ADD_PHONE])
    assert (again.migrated, again.unchanged, again.failed) == (("globex",), ("acme",), ())
    for tenant in ("acme", "globex"):
        await tenants.session(tenant).execute(with_phone)

    # a trial migration of one tenant
    report = await tenants.migrate([ADD_CITY], tenants=["globex"])
    assert report.migrated == ("globex",)
    with pytest.raises(cql.InvalidQuery):
        await tenants.session("acme").execute("SELECT city FROM users")
    with pytest.raises(cql.UsageError, match="tenants"):
        await tenants.migrate([ADD_CITY], tenants="globex")


def names(session: cql.Session, prefix: str = "tenant_") -> Tenants:
    return Tenants(
        session, prefix=prefix, replication={"class": "NetworkTopologyStrategy", "dc1": 3}
    )


async def test_ids_and_keyspaces(session: cql.Session) -> None:
    """Each id has a keyspace of its own, whatever Cassandra folds."""
    tenants = names(session)
    assert tenants.keyspace("acme") == "tenant_acme"
    assert tenants.keyspace("acme-co") == "tenant_acme_2dco"
    assert tenants.keyspace("acme_co") == "tenant_acme__co"
    assert tenants.keyspace("A") == "tenant__41"
    ids = ["a", "A", "a_", "a-", "_a", "a_2d", "a__", "41", "_41"]
    assert len({tenants.keyspace(id) for id in ids}) == len(ids)
    assert any("'dc1'" in line for line in tenants.schema_cql("acme"))
    assert names(session, prefix="").keyspace("acme") == "acme"


@pytest.mark.parametrize(
    "bad", ["", "a b", "a;b", 'a"b', "x'; DROP KEYSPACE system; --", "ä", "a\0", "a" * 60, "../a"]
)
async def test_hostile_ids_are_refused_before_anything_is_sent(
    session: cql.Session, bad: str
) -> None:
    tenants = names(session)
    with pytest.raises(cql.UsageError, match="tenant"):
        tenants.keyspace(bad)
    with pytest.raises(cql.UsageError, match="tenant"):
        tenants.session(bad)
    with pytest.raises(cql.UsageError, match="tenant"):
        await tenants.create(bad)
    with pytest.raises(cql.UsageError, match="tenant"):
        await tenants.drop(bad)
    with pytest.raises(cql.UsageError, match="tenant"):
        await tenants.exists(bad)


async def test_wrong_settings_are_refused(session: cql.Session) -> None:
    with pytest.raises(cql.UsageError, match="prefix"):
        names(session, prefix='t"')
    with pytest.raises(cql.UsageError, match="replication"):
        Tenants(session, replication={})
    with pytest.raises(cql.UsageError, match="max_sessions"):
        Tenants(session, replication=ONE_REPLICA, max_sessions=0)
    with pytest.raises(cql.UsageError, match="concurrency"):
        await names(session).migrate([ADD_NAME], concurrency=0)


async def test_sessions_of_many_tenants_are_bounded(session: cql.Session) -> None:
    tenants = Tenants(session, replication=ONE_REPLICA, max_sessions=2)
    first = tenants.session("a")
    assert tenants.session("a") is first
    tenants.session("b")
    tenants.session("c")
    assert tenants.session("a") is not first
