"""The number of connections of a session, as counted by the node."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import Drop, FaultProxy, Rule
from tests.cassandra.concurrently import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = [pytest.mark.cassandra, pytest.mark.uvloop]

SELECT = "SELECT blob FROM rows WHERE id = ?"
CONTROL = 1  # the control connection


@pytest.fixture
def name() -> str:
    """What the session calls itself, since others use the node too."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
async def watcher(cassandra: Node, keyspace: str) -> AsyncIterator[cql.Session]:
    """A session that looks at the others, and has made a table."""
    quiet = cql.Config(discovery=False)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=quiet
    ) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS rows (id int PRIMARY KEY, blob blob)")
        await session.execute("INSERT INTO rows (id, blob) VALUES (1, ?)", (bytes(100_000),))
        yield session


async def seen(watcher: cql.Session, name: str) -> int:
    """Return how many connections the node has that go by a name."""
    rows = await watcher.execute("SELECT client_options FROM system_views.clients")
    options = [row.client_options or {} for row in rows]
    return sum(each.get("APPLICATION_NAME") == name for each in options)


async def become(watcher: cql.Session, name: str, count: int) -> None:
    deadline = anyio.current_time() + 30
    while (last := await seen(watcher, name)) != count:
        assert anyio.current_time() < deadline, f"{last} connections, not {count}"
        await anyio.sleep(0.02)


async def test_load_makes_more_of_them_up_to_a_bound(
    cassandra: Node, keyspace: str, watcher: cql.Session, name: str
) -> None:
    config = cql.Config(application_name=name, grow_at=8, max_connections_per_host=3)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        await become(watcher, name, CONTROL + 1)
        # as many as do not ask for another
        await all_of([partial(session.execute, SELECT, (1,))] * 7)
        assert session.statistics().connections == 1

        async def reads() -> None:
            for _ in range(20):
                assert len((await session.execute(SELECT, (1,))).one().blob) == 100_000

        await all_of([reads] * 100)
        assert session.statistics().connections == 3
        await become(watcher, name, CONTROL + 3)
    await become(watcher, name, 0)


async def test_one_with_too_many_lost_replies_is_replaced(
    cassandra: Node, keyspace: str, watcher: cql.Session, name: str
) -> None:
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        config = cql.Config(
            application_name=name, max_orphans=4, translate=lambda _: proxy.endpoint
        )
        async with cql.connect(
            proxy.host, port=proxy.port, keyspace=keyspace, config=config
        ) as session:
            await session.execute(SELECT, (1,))
            [before] = session.statistics().hosts
            rule = proxy.add(Rule(Drop(), opcode="EXECUTE", times=5))

            async def lost() -> None:
                with pytest.raises(cql.RequestTimeout):
                    await session.execute(SELECT, (1,), timeout=0.2)

            kept: list[Any] = []

            async def served() -> None:
                kept.append(await session.execute(SELECT, (1,)))

            await all_of([lost] * 5)
            assert rule.hits == 5
            await all_of([served] * 20)
            await become(watcher, name, CONTROL + 1)
            [after] = session.statistics().hosts
            assert (after.opened, after.orphans) == (before.opened + 1, 0)
            assert len(kept) == 20
    await become(watcher, name, 0)
