"""Fixtures of the recipes' user code: a keyspace for each module and event loop, and sessions."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import FaultProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.cassandra.conftest import Node


@pytest.fixture(scope="module")
def keyspace(
    request: pytest.FixtureRequest, cassandra: Node, anyio_backend: object
) -> Iterator[str]:
    """Return the name of a keyspace that the other event loop's tests don't use."""
    words = re.sub(r"\W+", "_", request.module.__name__.rpartition(".")[2]).lower()
    name = f"{words[:30]}_{uuid.uuid4().hex[:8]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    cassandra.cql(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    yield name
    cassandra.cql(f"DROP KEYSPACE {name}")


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        yield session


@pytest.fixture
async def proxy(cassandra: Node, anyio_backend: object) -> AsyncIterator[FaultProxy]:
    """Return a proxy before the node, to which a test adds outages."""
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        yield proxy


@pytest.fixture
async def shaky(
    proxy: FaultProxy, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    """Return a session through the proxy; it gives up early and doesn't retry."""
    profile = cql.Profile(timeout=2.0, retry=cql.NoRetry())
    async with cql.connect(
        proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
    ) as session:
        yield session
