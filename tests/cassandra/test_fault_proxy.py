"""The fault proxy in front of a real node: traffic passes unchanged unless a rule matches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio.testing import Answer, Corrupt, Cut, Delay, Drop, FaultProxy, Garbage, Rule

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

V3, V4, V5 = ProtocolVersion
WAYS = [(version, codec) for version in (V3, V4, V5) for codec in (None, "lz4")]


@pytest.fixture(scope="module")
def table(cassandra: Node, keyspace: str) -> str:
    name = f"{keyspace}.orders"
    cassandra.cql(f"CREATE TABLE {name} (id int PRIMARY KEY, note text)")
    return name


@pytest.fixture(params=WAYS, ids=[f"v{version:d}-{codec}" for version, codec in WAYS])
def spoken(request: pytest.FixtureRequest) -> dict[str, Any]:
    version, codec = request.param
    return {"protocol_version": version, "compression": codec}


@pytest.mark.parametrize("way", ["tcp", "memory"])
async def test_it_is_not_noticed(
    cassandra: Node, table: str, spoken: dict[str, Any], way: str
) -> None:
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        if way == "memory":
            spoken = {**spoken, "connector": proxy.connector}
        config = cql.Config(**spoken)
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:
            insert, long = f"INSERT INTO {table} (id, note) VALUES (?, ?)", "long " * 60_000
            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(session.execute, insert, (number, f"note {number}"))
                group.start_soon(session.execute, insert, (100, long))
            rows = await session.execute(f"SELECT id, note FROM {table}", page_size=30)
            found = {row.id: row.note for row in rows}
            assert found == {**{n: f"note {n}" for n in range(100)}, 100: long}
            with pytest.raises(cql.InvalidSyntax):
                await session.execute("SELEKT")
        assert list(proxy.log) == []


async def test_faults_strike_what_they_name(
    cassandra: Node, table: str, spoken: dict[str, Any]
) -> None:
    insert = f"INSERT INTO {table} (id, note) VALUES (?, ?)"
    select = f"SELECT note FROM {table} WHERE id = ?"
    async with FaultProxy(cassandra.host, cassandra.port, seed=1) as proxy:
        config = cql.Config(**spoken)
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:

            async def note(number: int) -> str:
                text: str = (await session.execute(select, (number,))).one().note
                return text

            await session.execute(insert, (1, "one"))
            # the reply is lost, what was asked is done
            lost = proxy.add(Rule(Drop(), opcode="EXECUTE", statement=insert, times=1))
            with pytest.raises(cql.RequestTimeout):
                await session.execute(insert, (1, "two"), timeout=0.5)
            assert await note(1) == "two"
            # the request is lost
            proxy.add(Rule(Drop(), side="request", opcode="EXECUTE", statement=insert, times=1))
            with pytest.raises(cql.RequestTimeout):
                await session.execute(insert, (1, "three"), timeout=0.5)
            assert await note(1) == "two"
            # in a batch, by the ids of prepared statements
            in_batch = proxy.add(Rule(Answer("WRITE_TIMEOUT"), opcode="BATCH", statement=insert))
            prepared = await session.prepare(insert)
            with pytest.raises(cql.WriteTimeout):
                await session.batch([(prepared, (1, "four"))])
            proxy.remove(in_batch)
            assert await note(1) == "two"
            # the node has forgotten, it seems
            forgotten = proxy.add(Rule(Answer("UNPREPARED"), opcode="EXECUTE", times=1))
            await session.execute(insert, (1, "five"))
            assert await note(1) == "five"
            slow = proxy.add(Rule(Delay(0.1), statement=select, times=1))
            assert await note(1) == "five"
            assert [rule.hits for rule in (lost, in_batch, forgotten, slow)] == [1, 1, 1, 1]
            for fault in (Cut(20), Cut(reset=True), Garbage(), Drop(connection=True)):
                rule = proxy.add(Rule(fault, opcode="EXECUTE", times=1))
                with pytest.raises(cql.ConnectionLost):
                    await session.execute(insert, (1, "six"))
                assert rule.hits == 1
                assert await note(1) == "six"
            # on its way to the node: the node closes the connection, or says that it is no CQL
            rule = proxy.add(Rule(Corrupt(0), side="request", opcode="EXECUTE", times=1))
            with pytest.raises(cql.CQLError):
                await session.execute(insert, (1, "seven"), timeout=3)
            assert rule.hits == 1
            assert await note(1) == "six"


async def test_the_node_is_away_and_back(cassandra: Node, spoken: dict[str, Any]) -> None:
    query = "SELECT key FROM system.local"
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        config = cql.Config(**spoken, connect_timeout=5)
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:
            proxy.refuse = True
            proxy.cut_all(reset=True)
            with pytest.raises(cql.CQLError):
                await session.execute(query, timeout=1)
            proxy.refuse = False
            with anyio.fail_after(20):
                while True:
                    try:
                        assert len(await session.execute(query, timeout=2)) == 1
                        break
                    except cql.CQLError:
                        await anyio.sleep(0.05)
