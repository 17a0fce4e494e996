"""Tables of recipes: their CQL, and the check of a table that exists."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._errors import InvalidInput, SchemaMismatch
from cqlproto_anyio.patterns._schema import TableSchema, create
from tests.support.scripted import Request, Scripted, lost

TABLE = TableSchema(
    keyspace="shop",
    table="events",
    columns={
        "stream": "text",
        "bucket": "bigint",
        "head": "bigint",
        "version": "bigint",
        "id": "uuid",
        "tags": "frozen<map<text, text>>",
    },
    key=["stream", "bucket"],
    clustering=["version desc", "id"],
    static=["head"],
    options=["gc_grace_seconds = 3600"],
)
COLUMNS = [
    ("stream", "text", "partition_key", 0, "none"),
    ("bucket", "bigint", "partition_key", 1, "none"),
    ("head", "bigint", "static", -1, "none"),
    ("version", "bigint", "clustering", 0, "desc"),
    ("id", "uuid", "clustering", 1, "asc"),
    ("tags", "frozen<map<text,text>>", "regular", -1, "none"),
]


class Server:
    """A server that has the table, or gets it by CREATE TABLE."""

    def __init__(self, columns: Any = (), versions: Any = ((1, 1),)) -> None:
        self.columns = list(columns)
        self.versions = list(versions)
        self.created = 0
        self.agreed: bool | None = True
        self.failures: list[Exception] = []
        self.executor = Scripted(self.answer)
        self.unopened: list[Exception] = []
        answer, prepare = self.executor._answer, self.executor.prepare

        async def answered(request: Request) -> Any:
            made = await answer(request)
            made._agreed = self.agreed
            return made

        async def prepared(query: str, /, **options: Any) -> Any:
            made = await prepare(query, **options)
            if self.unopened:
                raise self.unopened.pop(0)
            return made

        self.executor._answer = answered  # type: ignore[method-assign]
        self.executor.prepare = prepared  # type: ignore[method-assign]

    def answer(self, request: Request) -> Any:
        if request.text.startswith("CREATE"):
            if self.failures:
                failure = self.failures.pop(0)
                if isinstance(failure, cql.AlreadyExists):
                    self.columns = COLUMNS
                return failure
            self.created += not self.columns
            self.columns = COLUMNS
            return None
        if "schema_columns" in request.text or "system_schema.columns" in request.text:
            assert request.values == {"in_keyspace": "shop", "of_table": "events"}
            names = ["column_name", "type", "kind", "position", "clustering_order"]
            return [dict(zip(names, each, strict=True)) for each in self.columns]
        local, peer = self.versions[0]
        if "peers" in request.text:
            if len(self.versions) > 1:
                self.versions.pop(0)
            return [{"schema_version": peer}]
        return [{"schema_version": local}]


def test_the_cql() -> None:
    assert TABLE.cql() == (
        'CREATE TABLE IF NOT EXISTS "shop"."events" ("stream" text, "bucket" bigint,'
        ' "head" bigint static, "version" bigint, "id" uuid, "tags" frozen<map<text, text>>,'
        ' PRIMARY KEY (("stream", "bucket"), "version", "id"))'
        ' WITH CLUSTERING ORDER BY ("version" DESC, "id" ASC) AND gc_grace_seconds = 3600'
    )
    plain = TableSchema("shop", "locks", {"name": "text", "fence": "bigint"}, key=["name"])
    assert plain.cql() == (
        'CREATE TABLE IF NOT EXISTS "shop"."locks" ("name" text, "fence" bigint,'
        ' PRIMARY KEY (("name")))'
    )
    assert plain.name == '"shop"."locks"'


def test_names_are_checked() -> None:
    for change in ({"table": "a;b"}, {"keyspace": ""}, {"columns": {'a"': "int"}}):
        with pytest.raises(InvalidInput):
            dataclasses.replace(TABLE, **change).cql()


async def test_a_new_table_is_created() -> None:
    server = Server()
    await create(server.executor, [TABLE])
    assert server.created == 1


async def test_an_existing_table_is_only_read() -> None:
    server = Server(COLUMNS)
    await create(server.executor, [TABLE])
    assert all(asked.text.startswith("SELECT") for asked in server.executor.asked)
    assert len(server.executor.asked) == 3  # its columns, and whether the nodes agree


async def test_a_table_that_a_node_has_not_opened_yet_is_awaited() -> None:
    """Another program creates it: its columns can be read before it can be used."""
    server = Server(COLUMNS)
    server.unopened = [
        cql.InvalidQuery(0x2200, "table events does not exist", {}, host="h", query=None),
        cql.ServerError(0x0000, "IllegalArgumentException: Unknown CF", {}, host="h", query=None),
    ]
    await create(server.executor, [TABLE])
    assert server.executor.prepared == ['SELECT "stream", "bucket" FROM "shop"."events"'] * 3
    server.unopened = [cql.InvalidQuery(0x2200, "does not exist", {}, host="h", query=None)] * 99
    began = anyio.current_time()
    with pytest.raises(cql.InvalidQuery, match="does not exist"):
        await create(server.executor, [TABLE])
    assert 2 < anyio.current_time() - began <= 3


async def test_fifty_tasks() -> None:
    server = Server()
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(create, server.executor, [TABLE])
    assert server.created == 1


async def test_further_columns_are_allowed() -> None:
    await create(Server([*COLUMNS, ("note", "text", "regular", -1, "none")]).executor, [TABLE])


def without(name: str) -> list[Any]:
    return [each for each in COLUMNS if each[0] != name]


@pytest.mark.parametrize(
    ("columns", "column", "expected", "actual"),
    [
        (without("head"), "head", "bigint static", None),
        (
            [*without("head"), ("head", "int", "static", -1, "none")],
            "head",
            "bigint static",
            "int static",
        ),
        (
            [*without("head"), ("head", "bigint", "regular", -1, "none")],
            "head",
            "bigint static",
            "bigint",
        ),
        (
            [*without("version"), ("version", "bigint", "clustering", 0, "asc")],
            "version",
            "bigint clustering 0 desc",
            "bigint clustering 0 asc",
        ),
        (
            [*COLUMNS, ("more", "int", "clustering", 2, "asc")],
            "more",
            "no key column",
            "int clustering 2 asc",
        ),
    ],
)
async def test_another_shape_is_an_error_that_names_the_column(
    columns: Any, column: str, expected: str, actual: str | None
) -> None:
    with pytest.raises(SchemaMismatch, match=re.escape(f"column {column}")) as info:
        await create(Server(columns).executor, [TABLE])
    assert info.value.table == '"shop"."events"'
    assert (info.value.column, info.value.expected, info.value.actual) == (column, expected, actual)


async def test_a_failure_that_passes_is_tried_again() -> None:
    server = Server()
    server.failures = [lost(), cql.AlreadyExists(0x2400, "x", {}, host="h", query=None)]
    await create(server.executor, [TABLE])  # another program has created it meanwhile
    assert not server.failures


async def test_a_failure_that_stays_is_raised() -> None:
    server = Server()
    server.failures = [cql.Unauthorized(0x2100, "no", {}, host="h", query=None)]
    with pytest.raises(cql.Unauthorized):
        await create(server.executor, [TABLE])
    server.failures = [lost() for _ in range(9)]
    with pytest.raises(cql.ConnectionLost):
        await create(server.executor, [TABLE])
    assert len(server.failures) == 4


async def test_agreement_is_awaited_if_the_session_did_not_see_it() -> None:
    server = Server(versions=[(1, 2), (2, None), (3, 3)])
    server.agreed = None
    await create(server.executor, [TABLE])
    assert server.versions == [(3, 3)] or len(server.versions) == 2


async def test_a_node_that_is_down_does_not_stop_it() -> None:
    server = Server(versions=[(1, 2)])
    server.agreed = False
    started = anyio.current_time()
    await create(server.executor, [TABLE])
    assert 2 <= anyio.current_time() - started <= 3.1
