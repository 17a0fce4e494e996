"""The adapter of rsylla's names: which value goes to which marker, options, and what is refused."""

from __future__ import annotations

import datetime
import uuid
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import Consistency
from cqlproto.messages import (
    VOID,
    Batch,
    BindMetadata,
    Column,
    Execute,
    Prepare,
    Prepared,
    Query,
    ResultMetadata,
)
from cqlproto_anyio.patterns import rsylla
from tests.support.replies import ints, statement_id
from tests.support.server import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from cqlproto.messages import Response
    from tests.support.server import Asked, Server

# the markers of each statement, as a server names them
MARKERS = {
    "SELECT range": "sensor text, ts int, ts int",
    "INSERT ttl": "id int, [ttl] int",
    "INSERT both": "id int, ttl int, [ttl] int",
    "INSERT typed": "id uuid, day date",
    "SELECT json": "[json] text",
    "INSERT one": "id int",
    "INSERT none": "",
}


@asynccontextmanager
async def sessions() -> AsyncIterator[tuple[Server, rsylla.Session]]:
    async with serving() as server:

        def answer(asked: Asked) -> Response:
            message = asked.message
            if isinstance(message, Prepare):
                identity = statement_id(asked.text)
                server.texts[identity] = asked.text
                markers = [each.split() for each in MARKERS[message.query].split(", ") if each]
                columns = tuple(
                    Column("k", "t", name, NATIVE_TYPES[kind]) for name, kind in markers
                )
                return Prepared(
                    identity, b"r", BindMetadata(columns), ResultMetadata((), b"", False)
                )
            return ints(1, 2) if isinstance(message, Query) else VOID

        server.answer = answer
        async with server.session() as session:
            yield server, rsylla.Session(session)


def sent(server: Server) -> list[Asked]:
    return [each for each in server.seen if not isinstance(each.message, Prepare)]


def options(asked: Asked) -> Any:
    assert isinstance(asked.message, Query | Execute)
    return asked.message.parameters


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("query", "values", "cells"),
    [
        ("SELECT range", {"ts": 3, "sensor": "a"}, [b"a", number(3), number(3)]),
        ("SELECT range", {"sensor": "a", "from": 1, "to": 2}, [b"a", number(1), number(2)]),
        ("INSERT ttl", {"ttl": 60, "id": 1}, [number(1), number(60)]),
        ("INSERT ttl", {"[ttl]": 60, "id": 1}, [number(1), number(60)]),
        ("INSERT both", {"[ttl]": 60, "ttl": 2, "id": 1}, [number(1), number(2), number(60)]),
        ("INSERT one", {"id": None}, [None]),
        ("INSERT none", {}, []),
        ("SELECT json", {"json": "{}"}, [b"{}"]),
    ],
)
async def test_values_go_to_their_markers(
    query: str, values: Mapping[str, Any], cells: list[bytes | None]
) -> None:
    async with sessions() as (server, session):
        prepared = await session.prepare(query)
        await session.execute_prepared(prepared, values)
        (asked,) = sent(server)
        assert list(asked.values) == cells


@pytest.mark.parametrize(
    ("query", "values", "words"),
    [
        ("SELECT range", {"sensor": "a"}, "got sensor"),
        ("SELECT range", {"from": 1, "sensor": "a", "to": 2}, "sensor not in its place"),
        ("INSERT both", {"id": 1, "ttl": 5}, r"id, ttl, \[ttl\]"),  # one value is never both
        ("INSERT one", {"id": 1, "name": 2}, "got id, name"),
        ("INSERT one", {}, "must be for id"),
        ("INSERT none", {"id": 1}, "no marker"),
        ("INSERT typed", {"id": "ann", "day": 1}, "id must be a uuid, got 'ann'"),
        ("INSERT typed", {"id": None, "day": 10**9}, "day must be a date"),
    ],
)
async def test_values_without_a_marker_are_refused(
    query: str, values: Mapping[str, Any], words: str
) -> None:
    async with sessions() as (server, session):
        prepared = await session.prepare(query)
        with pytest.raises(cql.UsageError, match=words) as caught:
            await session.execute_prepared(prepared, values)
        assert isinstance(caught.value, rsylla.ScyllaError)
        assert sent(server) == []


async def test_values_are_by_name() -> None:
    async with sessions() as (server, session):
        prepared = await session.prepare("INSERT one")
        batch = rsylla.Batch("unlogged")
        batch.append_prepared(prepared)
        wrong: Any = [1]
        with pytest.raises(TypeError, match="list"):
            await session.execute("INSERT one", wrong)
        with pytest.raises(TypeError, match="list"):
            await session.execute_prepared(prepared, wrong)
        with pytest.raises(TypeError, match="int"):
            await session.batch(batch, wrong)
        with pytest.raises(rsylla.ScyllaError, match="1 statements, got 2"):
            await session.batch(batch, [{}, {}])
        assert sent(server) == []


async def test_uuids_and_dates_of_the_pages() -> None:
    async with sessions() as (server, session):
        id = uuid.uuid4()
        for values in (
            {"id": str(id), "day": 1},
            {"id": id, "day": datetime.date(1970, 1, 2)},
        ):
            await session.execute("INSERT typed", values)
        first, second = (list(asked.values) for asked in sent(server))
        assert first == second == [id.bytes, number(2**31 + 1)]


async def test_a_text_is_prepared_once() -> None:
    async with sessions() as (server, session):
        for id in range(3):
            await session.execute("INSERT one", {"id": id})
        batch = rsylla.Batch()
        for _ in range(2):
            batch.append_statement("INSERT one")
        await session.batch(batch, [{"id": 1}, {"id": 2}])
        kinds = [type(each.message) for each in server.seen]
        assert kinds == [Prepare, Execute, Execute, Execute, Batch]


async def test_a_statement_belongs_to_its_keyspace() -> None:
    """A batch doesn't write to a table of the same name in the keyspace that is used now."""
    async with sessions() as (server, session):
        await session.use_keyspace("Shop")
        assert session.get_keyspace() == "shop"
        prepared = await session.prepare("INSERT one")
        batch = rsylla.Batch("unlogged")
        batch.append_prepared(prepared)
        await session.use_keyspace("other")
        with pytest.raises(cql.UsageError, match="'shop' and can't be executed in 'other'"):
            await session.batch(batch, [{"id": 1}])
        assert sent(server) == []
        await session.execute_prepared(prepared, {"id": 1})
        assert len(sent(server)) == 1


async def test_use_is_a_method() -> None:
    async with sessions() as (server, session):
        with pytest.raises(cql.UsageError, match="USE would change the keyspace"):
            await session.execute("USE other")
        assert (sent(server), session.get_keyspace()) == ([], None)


async def test_options_are_those_of_one_object() -> None:
    async with sessions() as (server, session):
        query = rsylla.Query("SELECT v")
        tuned = query.with_consistency("localquorum").with_page_size(7).with_timestamp(5)
        for each in (query, tuned):
            await session.query(each)
        prepared = await session.prepare("INSERT one")
        other = prepared.with_consistency("ALL").with_timestamp(5)
        for statement in (other, prepared):
            await session.execute_prepared(statement, {"id": 1})
        plain, first, second, third = (options(asked) for asked in sent(server))
        assert (first.consistency, first.page_size) == (Consistency.LOCAL_QUORUM, 7)
        assert (second.consistency, second.timestamp) == (Consistency.ALL, 5)
        assert plain.page_size != 7
        assert third.consistency is plain.consistency is not Consistency.ALL
        assert third.timestamp != 5


async def test_a_batch_keeps_its_statements() -> None:
    batch = rsylla.Batch("counter")
    batch.append_statement("UPDATE one")
    tuned = batch.with_consistency("ONE").set_idempotent(False)
    tuned.append_query(rsylla.Query("UPDATE two"))
    assert (batch.statements_count(), tuned.statements_count()) == (1, 2)


async def test_results_are_read_by_position_and_by_name() -> None:
    async with sessions() as (_, session):
        result = await session.execute("SELECT v")
    assert [row[0] for row in result] == [row.get(-1) for row in result] == [1, 2]
    assert result.rows_typed() == [{"v": 1}, {"v": 2}]
    assert result.first_row_typed() == {"v": 1}
    assert result.col_specs() == [{"name": "v", "typ": "int"}]
    assert (len(result), bool(result), result.warnings(), result.tracing_id()) == (
        2,
        True,
        [],
        None,
    )
    row = result.rows()[0]
    assert (repr(row), len(row), row.columns()) == ("Row(columns=1)", 1, [1])
    with pytest.raises(ValueError, match="there are 2"):
        result.single_row()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: rsylla.SessionBuilder().pool_size(0), "pool_size"),
        (lambda: rsylla.SessionBuilder().connection_timeout(-1), "duration_ms"),
        (lambda: rsylla.SessionBuilder().compression("zip"), "compression"),  # type: ignore[arg-type]
        (lambda: rsylla.SessionBuilder().use_keyspace('a"; DROP', True), "keyspace"),
        (lambda: rsylla.SessionBuilder().use_keyspace("k" * 49), "keyspace"),
        (lambda: rsylla.Query("").with_page_size(0), "page_size"),
        (lambda: rsylla.Query("").with_timeout(True), "timeout_ms"),
        (lambda: rsylla.Query("").with_consistency("quorom"), "quorom"),
        (lambda: rsylla.Query("").with_serial_consistency("ONE"), "serial_consistency"),
        (lambda: rsylla.Batch("loged"), "logged"),  # type: ignore[arg-type]
    ],
)
def test_wrong_settings_are_refused(call: Any, word: str) -> None:
    with pytest.raises(cql.UsageError, match=word):
        call()


def test_builders_are_new_objects() -> None:
    plain = rsylla.SessionBuilder().known_node("db1")
    scoped = plain.use_keyspace("Shop", False).user("ann", "secret")
    assert (scoped._arguments["keyspace"], plain._arguments) == ("shop", {})
    assert plain.use_keyspace("Shop", True)._arguments["keyspace"] == "Shop"
    assert "secret" not in repr(scoped._arguments)


NAMES = {
    "SessionBuilder": "known_node known_nodes use_keyspace connection_timeout pool_size user"
    " compression tcp_nodelay tcp_keepalive build",
    "Session": "connect execute query prepare execute_prepared batch use_keyspace"
    " await_schema_agreement get_cluster_data get_keyspace",
    "Query": "with_consistency with_serial_consistency with_page_size with_timestamp with_timeout"
    " with_tracing is_idempotent set_idempotent get_contents",
    "PreparedStatement": "with_consistency with_serial_consistency with_page_size with_timestamp"
    " with_tracing is_idempotent set_idempotent get_statement get_id",
    "Batch": "append_statement append_query append_prepared with_consistency with_timestamp"
    " with_serial_consistency with_timeout with_tracing is_idempotent set_idempotent"
    " statements_count",
    "QueryResult": "rows first_row single_row rows_typed first_row_typed col_specs tracing_id"
    " warnings __iter__ __len__ __bool__",
    "Row": "columns as_dict get __getitem__ __len__",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_names_are_those_of_rsylla(name: str) -> None:
    """Names of rsylla 0.1.1; also of the package itself where it is installed."""
    methods = NAMES[name].split()
    assert [each for each in methods if not hasattr(getattr(rsylla, name), each)] == []
    if find_spec("rsylla") is not None:  # the bench installs it
        theirs = import_module("rsylla")
        assert [each for each in methods if not hasattr(getattr(theirs, name), each)] == []
