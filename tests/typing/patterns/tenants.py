"""The types of tenants. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Locks, MigrationFailure, MigrationReport, Tenants


async def serving(executor: cql.Executor) -> None:
    tenants = Tenants(executor, replication={"class": "NetworkTopologyStrategy", "dc1": 3})
    Tenants(
        executor,
        prefix="t_",
        replication={"class": "SimpleStrategy", "replication_factor": 1},
        schema=["CREATE TABLE users (id int PRIMARY KEY)"],
        max_sessions=10,
    )
    assert_type(await tenants.create("acme"), None)
    assert_type(await tenants.drop("acme"), None)
    assert_type(await tenants.exists("acme"), bool)
    assert_type(tenants.keyspace("acme"), str)
    assert_type(tenants.schema_cql("acme"), tuple[str, ...])
    assert_type(tenants.list(), AsyncIterator[str])
    assert_type([tenant async for tenant in tenants.list()], list[str])
    acme = tenants.session("acme")
    assert_type(await acme.execute("SELECT 1"), cql.Result[cql.Row])
    an_executor: cql.Executor = acme
    Locks(an_executor, keyspace=tenants.keyspace("acme"))
    report = await tenants.migrate(["ALTER TABLE users ADD name text"], concurrency=4)
    assert_type(report, MigrationReport)
    assert_type(report.migrated, tuple[str, ...])
    assert_type(report.unchanged, tuple[str, ...])
    for failure in report.failed:
        assert_type(failure, MigrationFailure)
        assert_type((failure.tenant, failure.statement), tuple[str, str])
        assert_type(failure.error, Exception)
    assert_type(await tenants.migrate([], tenants=["acme"]), MigrationReport)


async def mistakes(executor: cql.Executor, tenants: Tenants) -> None:
    Tenants(executor)  # type: ignore[call-arg]
    Tenants(executor, replication="SimpleStrategy")  # type: ignore[arg-type]
    tenants.session(7)  # type: ignore[arg-type]
    await tenants.migrate([1])  # type: ignore[list-item]
