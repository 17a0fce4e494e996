"""Hints for common mistakes of beginners, such as the names of other libraries."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.exceptions._hints import fold_hint, server_hint
from tests.support.cluster_sessions import SELECT, session_on
from tests.support.fakecluster import FakeCluster

SYNTAX = "line 1:41 no viable alternative at input '%' (..)"


@pytest.mark.parametrize(
    ("message", "query", "hint"),
    [
        (SYNTAX, "SELECT v FROM t WHERE k = %s", "write ? or :name for a value, not %s"),
        (SYNTAX, "SELECT v FROM t WHERE k = %(k)s", "write ? or :name for a value, not %(k)s"),
        (SYNTAX, "SELECT v FROM t WHERE k = $1", "write ? or :name for a value, not $1"),
        (SYNTAX, "SELECT v FROM t WHERE k = '%s' AND", None),
        (SYNTAX, "SELECT v FROM t -- %s\nWHER", None),
        (SYNTAX, "SELEKT", None),
        (SYNTAX, None, None),
        (SYNTAX, "%s" * (1 << 16), None),
        ("Invalid amount of bind variables", "SELECT ?", "pass their values"),
        ("There were 1 markers(?) in CQL but 0 bound variables", None, "pass their values"),
        ("No keyspace has been specified. USE a keyspace", None, "pass keyspace= to connect()"),
        ("Undefined column name userid in table ks.t", "SELECT userId FROM t", 'write "userId"'),
        ("Undefined column name userid in table ks.t", "SELECT userid FROM t", None),
        ("Undefined column name userid", 'SELECT "userId", userid FROM t', None),
        ("unconfigured table users", "SELECT * FROM ks.Users", 'write "Users"'),
        ("Unauthorized", "SELECT %s", None),
    ],
)
def test_hints_on_what_the_server_says(message: str, query: str | None, hint: str | None) -> None:
    found = server_hint(message, query)
    assert (found is None) == (hint is None)
    assert hint is None or (found is not None and hint in found)


def test_names_that_differ_by_case() -> None:
    assert "the server folds :userId to userid" in fold_hint(["userid"], ["a", "userId", 5])
    assert fold_hint(["userid"], ["name"]) == fold_hint([], ["userId"]) == ""


WRONG_ITEMS: list[tuple[Any, str]] = [
    ("INSERT", "takes a list of statements, not a str"),
    (b"INSERT", "not a bytes"),
    ({"a": 1}, "not a dict"),
    (5, "not a int"),
    ([("INSERT INTO t (k) VALUES (?)", 1, "a")], "a tuple of 3: the parameters are one sequence"),
    (("INSERT INTO t (k) VALUES (?)", (1,)), r"got a tuple: write batch\(\[\(query"),
    ([["INSERT INTO t (k) VALUES (?)", (1,)]], "got a list"),
    ([(1, "INSERT INTO t (k) VALUES (?)")], "item 1 of a batch must be a statement"),
    ([None], "got a NoneType"),
]


async def test_batches_of_something_else() -> None:
    async with session_on(FakeCluster(1)) as session:
        for items, match in WRONG_ITEMS:
            with pytest.raises(TypeError, match=match):
                await session.batch(items)


@pytest.mark.parametrize("hooked", [False, True])
async def test_parameters_one_by_one(hooked: bool) -> None:
    class Told(cql.Hooks):
        def request_finished(self, record: cql.RequestRecord) -> None:
            """Makes ``connect`` return an instrumented session."""

    async with session_on(FakeCluster(1), hooks=Told() if hooked else None) as session:
        verbs: Any = session
        with pytest.raises(TypeError, match=r"one sequence: execute\(query, \(1, 2\)\)"):
            await verbs.execute(SELECT, 1, 2)
        with pytest.raises(TypeError, match=r"one sequence: page\(query, \(1, 2\)\)"):
            await verbs.page(SELECT, 1, 2)
        with pytest.raises(TypeError, match=r"one sequence: stream\(query, \(1, 2\)\)"):
            await anext(verbs.stream(SELECT, 1, 2))
        for name, match in (
            ("parameters", "parameters go by position"),
            ("fetch_size", "write page_size="),
            ("timeot", "argument 'timeot'$"),
        ):
            with pytest.raises(TypeError, match=match):
                await verbs.execute(SELECT, **{name: (1,)})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"username": "ann"}, "write auth=cql.PlainAuth"),
        ({"ssl": True}, "write tls="),
        ({"contact_points": ["db1"]}, "write hosts, the first argument"),
        ({"compression": "lz4"}, r"write config=cql.Config\(compression=..\)"),
        ({"timeout": 5}, r"write profile=cql.Profile\(timeout=..\)"),
        ({"nonsense": 5}, "argument 'nonsense'$"),
    ],
)
def test_arguments_of_other_libraries(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(TypeError, match=match):
        cql.connect(**arguments)


def test_arguments_by_position() -> None:
    connect: Any = cql.connect
    with pytest.raises(TypeError, match="all else by name: port="):
        connect(["db1"], 9042)
    with pytest.raises(TypeError, match="pass several hosts as one list"):
        connect("db1", "db2")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"auth": ("ann", "hunter2")}, "a tuple: pass cql.PlainAuth"),
        ({"auth": cql.PlainAuth}, "the class PlainAuth: pass cql.PlainAuth"),
        ({"tls": "yes"}, "pass True, or an ssl.SSLContext"),
        ({"config": {}}, "pass cql.Config"),
        ({"profile": cql.Profile}, "the class Profile: pass cql.Profile"),
        ({"hosts": "cql://db1:9042/ks"}, "must be host or host:port, got the URL"),
    ],
)
def test_arguments_of_another_type(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(cql.ConfigError, match=match) as info:
        cql.connect(**arguments)
    assert "hunter2" not in str(info.value)


MISSING = """
import sys
for name in ("hypothesis", "lz4", "lz4.block", "cramjam"):
    sys.modules[name] = None
from cqlproto.compression import compressor
import cqlproto.testing
for attempt in (
    lambda: compressor("lz4"),
    lambda: compressor("snappy"),
    lambda: cqlproto.testing.requests,
):
    try:
        attempt()
    except Exception as error:
        print(type(error).__name__, error)
from cqlproto.testing import linked_pair
"""


def test_packages_that_are_missing_are_named() -> None:
    """The hints name packages of the package index, not the extras of this library."""
    ran = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lz4, snappy, hypothesis = ran.stdout.splitlines()
    assert lz4.endswith("pip install lz4")
    assert snappy.endswith("pip install cramjam")
    assert hypothesis.startswith("ImportError cqlproto.testing.requests needs Hypothesis")
    assert hypothesis.endswith("pip install hypothesis")
