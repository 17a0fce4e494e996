"""The types of shared sessions and of the registry. Checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SessionRegistry, SharedSession, TooManySessions


async def sharing() -> None:
    shared = SharedSession("db1", port=9043, keyspace="shop", auth=cql.PlainAuth("a", "b"), wait=30)
    SharedSession(["db1", cql.Endpoint("10.0.0.1")], tls=True, local_dc="eu")
    SharedSession(profile=cql.Profile(timeout=1), config=cql.Config())
    assert_type(await shared.get(), cql.Session)
    assert_type(await shared.aclose(), None)
    async with shared as session:
        assert_type(session, cql.Session)
    SharedSession(prot=9042)  # type: ignore[call-arg]
    SharedSession("db1", 9042)  # type: ignore[arg-type]
    SharedSession(port="9042")  # type: ignore[arg-type]


async def registering(own: cql.Session) -> None:
    pool = SessionRegistry(max_sessions=10)
    session = await pool.acquire("db1", keyspace="shop", auth=cql.PlainAuth("a", "b"))
    assert_type(session, cql.Session)
    assert_type(await pool.acquire(session=own), cql.Session)
    async with pool.hold("db1", tls=True) as held:
        assert_type(held, cql.Session)
    assert_type(await pool.release(session), None)
    assert_type(len(pool), int)
    assert_type(await pool.aclose(), None)
    await pool.acquire(session="db1")  # type: ignore[arg-type]
    await pool.acquire(prot=9042)  # type: ignore[call-arg]
    await pool.release("db1")  # type: ignore[arg-type]
    SessionRegistry(10)  # type: ignore[call-arg]


def failing(error: TooManySessions) -> None:
    assert_type(error.limit, int)
