"""One proxy per node, and how a client reaches them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import Answer, Drop, ProxiedCluster, Rule
from tests.support.replies import echo
from tests.support.server import Server, open_sockets, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SELECT = "SELECT v FROM t WHERE k = ?"


@asynccontextmanager
async def cluster(count: int = 3) -> AsyncIterator[tuple[list[Server], ProxiedCluster]]:
    """Run some servers and proxies of them; no socket is left at the end."""
    before = open_sockets()
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving()) for _ in range(count)]
        nodes = []
        for server in servers:
            server.answer = echo(server)
            nodes.append(cql.Endpoint("127.0.0.1", await server.listen()))
        async with ProxiedCluster(nodes, seed=2) as proxies:
            yield servers, proxies
    await until(lambda: open_sockets() <= before)


# the servers have no system tables of a cluster
ALONE = cql.Config(discovery=False)


async def ask(host: str, number: int, config: cql.Config = ALONE) -> int:
    async with cql.connect(host, config=config) as session:
        row = (await session.execute(SELECT, (number,))).one()
        found: int = row.v
        return found


async def test_each_node_has_its_proxy() -> None:
    async with cluster() as (servers, proxies):
        assert len(set(proxies.contact_points)) == 3
        for number, point in enumerate(proxies.contact_points):
            assert await ask(point, number) == number
            assert [len(server.peers) > 0 for server in servers] == [
                index <= number for index in range(3)
            ]
        ports = [proxy.port for proxy in proxies.proxies]
        proxies[1].refuse = True
        proxies[1].refuse = False
        assert [proxy.port for proxy in proxies.proxies] == ports
        assert repr(proxies).startswith("<ProxiedCluster of 127.0.0.1:")


async def test_translation() -> None:
    async with cluster() as (_, proxies):
        for proxy in proxies.proxies:
            node = proxy.node
            assert proxies.translate(node) == proxy.endpoint
            assert proxies.translate(proxy.endpoint) == proxy.endpoint
            named = cql.Endpoint(node.address, node.port, "db.example")
            there = cql.Endpoint(proxy.host, proxy.port, "db.example")
            assert proxies.translate(named) == there
            assert proxies[node] is proxies[str(node)] is proxy
        assert proxies[0] is proxies.proxies[0]
        with pytest.raises(LookupError, match=r"no proxy is for 127\.0\.0\.9:1"):
            proxies.translate(cql.Endpoint("127.0.0.9", 1))
        for wrong in ("127.0.0.1", "127.0.0.1:x", "elsewhere"):  # the first is of three nodes
            with pytest.raises(LookupError):
                proxies[wrong]


async def test_the_connector_finds_the_node() -> None:
    async with cluster() as (servers, proxies):
        config = cql.Config(connector=proxies.connector, connect_timeout=2, discovery=False)
        for number, proxy in enumerate(proxies.proxies):
            assert await ask(str(proxy.node), number, config) == number
            assert proxy.accepted >= 1
            assert len(servers[number].peers) == proxy.accepted
        with pytest.raises(cql.ConnectionFailed, match=r"no proxy is for 127\.0\.0\.9:9042"):
            await ask("127.0.0.9", 1, config)


async def test_a_rule_counts_for_all() -> None:
    async with cluster() as (_, proxies):
        once = proxies.add(Rule(Answer("INVALID"), opcode="EXECUTE", times=1))
        with pytest.raises(cql.InvalidQuery):
            await ask(proxies.contact_points[1], 1)
        for number, point in enumerate(proxies.contact_points):
            assert await ask(point, number) == number
        assert once.hits == 1
        with pytest.raises(cql.ConfigError, match="was added before"):
            proxies.add(once)
        proxies.remove(once)
        proxies.add(once)
        proxies.clear()
        own = proxies[2].add(Rule(Answer("INVALID"), opcode="EXECUTE"))
        assert await ask(proxies.contact_points[0], 7) == 7
        with pytest.raises(cql.InvalidQuery):
            await ask(proxies.contact_points[2], 7)
        assert own.hits == 1


async def test_what_one_node_prepared_is_known_of_all() -> None:
    async with cluster(2) as (servers, proxies):
        assert await ask(proxies.contact_points[0], 1) == 1
        statement = next(iter(servers[0].texts))
        assert proxies[1]._statements.texts((statement,)) == (SELECT,)


async def test_all_at_once() -> None:
    async with cluster(2) as (_, proxies):
        proxies.pause()
        assert all(proxy.paused for proxy in proxies.proxies)
        proxies.resume()
        assert not any(proxy.paused for proxy in proxies.proxies)
        clients = [await proxy.connector(proxy.node) for proxy in proxies.proxies]
        assert proxies.cut_all(reset=True) == 2
        for client in clients:
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                await client.receive()
            await client.aclose()


async def test_names_are_resolved() -> None:
    async with ProxiedCluster(["localhost:9999"], listen=None) as proxies:
        assert proxies[cql.Endpoint("127.0.0.1", 9999)] is proxies[0]
        assert proxies["localhost"] is proxies[0]


async def test_an_error_of_the_body_leaves_as_it_is() -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as info:
        async with cluster():
            raise error
    assert info.value is error


async def test_wrong_arguments() -> None:
    wrong: tuple[list[str] | str, ...] = ([], "127.0.0.1")
    for nodes in wrong:
        with pytest.raises(cql.ConfigError, match="nodes must be a sequence of at least one node"):
            ProxiedCluster(nodes)
    with pytest.raises(cql.ConfigError, match="one is given twice"):
        ProxiedCluster(["127.0.0.1", "127.0.0.1:9042"])
    assert ProxiedCluster(["a"]).seed != ProxiedCluster(["a"]).seed
    before = open_sockets()
    with pytest.raises(OSError):
        async with ProxiedCluster(["127.0.0.1"], listen="192.0.2.1"):
            raise AssertionError
    assert open_sockets() == before
    assert Rule(Drop()).hits == 0
