"""A keyspace for each tenant; ids that would break or collide as names; a task for each tenant."""

from __future__ import annotations

import anyio

from cqlproto_anyio.patterns import InvalidInput, Tenants
from cqlproto_anyio.patterns.rsylla import SessionBuilder

REPLICATION: dict[str, str | int] = {"class": "SimpleStrategy", "replication_factor": 1}
USERS = "CREATE TABLE users (id int PRIMARY KEY, name text, email text, created_at timestamp)"


async def main(contact: str, keyspace: str) -> None:
    builder = SessionBuilder().known_nodes([contact]).pool_size(2).compression("lz4")
    session = await builder.build()
    prefix = f"{keyspace[-8:]}_"
    tenants = Tenants(session.session, prefix=prefix, replication=REPLICATION, schema=[USERS])
    try:
        async with anyio.create_task_group() as group:
            for tenant in ("acme-co", "A", "a"):
                group.start_soon(tenants.create, tenant)
        assert {tenant async for tenant in tenants.list()} == {"acme-co", "A", "a"}

        async def sign_up(tenant: str) -> None:
            """Tasks of several tenants at once: none works in another's keyspace."""
            users = tenants.session(tenant)
            insert = "INSERT INTO users (id, name) VALUES (?, ?)"
            await users.execute(insert, (1, tenant))
            found = await users.execute("SELECT name FROM users WHERE id = ?", (1,))
            assert found.scalar() == tenant

        async with anyio.create_task_group() as group:
            for tenant in ("acme-co", "A", "a"):
                group.start_soon(sign_up, tenant)
        try:
            await tenants.create("x; DROP KEYSPACE system")
        except InvalidInput as error:
            assert error.name == "tenant"
        else:
            raise AssertionError("a hostile id was accepted")
    finally:
        async with anyio.create_task_group() as group:
            for tenant in ("acme-co", "A", "a"):
                group.start_soon(tenants.drop, tenant)
        await session.aclose()
