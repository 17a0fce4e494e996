"""Schema changes: the result of the statement, and the event for clients that registered.

Every target is created, updated and dropped, in every version. v3 has no functions and aggregates
as targets; the server reports an update of their keyspace instead.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cqlproto.messages import READY, Register, SchemaChange, Void
from tests.cassandra.core import CoreConnection
from tests.support.core_connections import V3, versions

if TYPE_CHECKING:
    from cqlproto import ProtocolVersion
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


class Step(NamedTuple):
    """A statement, and the change that it makes in the keyspace ``{ks}``.

    ``arguments`` are those of a function or an aggregate; ``{pair}`` stands for the name of a type.
    """

    statement: str
    change: str
    target: str
    name: str | None = None
    arguments: list[str] | None = None

    def expected(self, keyspace: str, pair: str, version: ProtocolVersion) -> SchemaChange:
        if self.arguments is None:
            return SchemaChange(self.change, self.target, keyspace, self.name)
        if version is V3:
            return SchemaChange("UPDATED", "KEYSPACE", keyspace)
        arguments = [argument.format(pair=pair) for argument in self.arguments]
        return SchemaChange(self.change, self.target, keyspace, self.name, arguments)


BODY = "CALLED ON NULL INPUT RETURNS int LANGUAGE java AS"
REPLICATION = "{{'class': 'SimpleStrategy', 'replication_factor': 1}}"
AGGREGATE = "AGGREGATE {ks}.total(int) SFUNC plus STYPE int"
STEPS = [
    Step(f"CREATE KEYSPACE {{ks}} WITH replication = {REPLICATION}", "CREATED", "KEYSPACE"),
    Step("ALTER KEYSPACE {ks} WITH durable_writes = false", "UPDATED", "KEYSPACE"),
    Step('CREATE TYPE {ks}."Pair" (a int)', "CREATED", "TYPE", "Pair"),
    Step('ALTER TYPE {ks}."Pair" ADD b text', "UPDATED", "TYPE", "Pair"),
    Step("CREATE TABLE {ks}.t (id int PRIMARY KEY, v int)", "CREATED", "TABLE", "t"),
    Step("ALTER TABLE {ks}.t ADD w int", "UPDATED", "TABLE", "t"),
    Step("CREATE INDEX by_v ON {ks}.t (v)", "UPDATED", "TABLE", "t"),
    Step("DROP INDEX {ks}.by_v", "UPDATED", "TABLE", "t"),
    Step(
        f"CREATE FUNCTION {{ks}}.plus(a int, b int) {BODY} 'return a + b;'",
        *("CREATED", "FUNCTION", "plus", ["int", "int"]),
    ),
    Step(
        f"CREATE OR REPLACE FUNCTION {{ks}}.plus(a int, b int) {BODY} 'return b + a;'",
        *("UPDATED", "FUNCTION", "plus", ["int", "int"]),
    ),
    Step(
        f"CREATE FUNCTION {{ks}}.size(p \"Pair\", l list<text>) {BODY} 'return 1;'",
        *("CREATED", "FUNCTION", "size", ["{pair}", "list<text>"]),
    ),
    Step(f"CREATE {AGGREGATE} INITCOND 0", "CREATED", "AGGREGATE", "total", ["int"]),
    Step(f"CREATE OR REPLACE {AGGREGATE} INITCOND 1", "UPDATED", "AGGREGATE", "total", ["int"]),
    Step("DROP AGGREGATE {ks}.total(int)", "DROPPED", "AGGREGATE", "total", ["int"]),
    Step("DROP FUNCTION {ks}.plus(int, int)", "DROPPED", "FUNCTION", "plus", ["int", "int"]),
    Step("DROP TABLE {ks}.t", "DROPPED", "TABLE", "t"),
    Step(
        "DROP FUNCTION {ks}.size",
        *("DROPPED", "FUNCTION", "size", ["{pair}", "list<text>"]),
    ),
    Step('DROP TYPE {ks}."Pair"', "DROPPED", "TYPE", "Pair"),
    Step("DROP KEYSPACE {ks}", "DROPPED", "KEYSPACE"),
]


@versions
def test_every_change_of_the_schema(
    cassandra: Node, keyspace: str, version: ProtocolVersion
) -> None:
    name = f"{keyspace}_v{version:d}"
    watched = CoreConnection(cassandra, version)
    changing = CoreConnection(cassandra, version)
    with watched, changing, contextlib.ExitStack() as stack:
        stack.callback(cassandra.cql, f"DROP KEYSPACE IF EXISTS {name}")
        assert watched.ask(Register(["SCHEMA_CHANGE"])) is READY
        for step in STEPS:
            result = changing.query(step.statement.format(ks=name))
            event = watched.wait_for(
                lambda event: isinstance(event, SchemaChange) and event.keyspace == name
            )
            # Only the result of a CREATE names a user-defined type with its keyspace.
            pair = '"Pair"' if step.change == "DROPPED" else f"{name}.Pair"
            assert result == step.expected(name, pair, version), step.statement
            assert event == step.expected(name, '"Pair"', version), step.statement
        assert changing.pushes == []


@versions
def test_a_statement_that_changes_nothing_is_void(
    cassandra: Node, keyspace: str, version: ProtocolVersion
) -> None:
    with CoreConnection(cassandra, version) as connection:
        connection.query(f"USE {keyspace}")
        connection.query("CREATE TABLE IF NOT EXISTS there (id int PRIMARY KEY)")
        again = "CREATE TABLE IF NOT EXISTS there (id int PRIMARY KEY)"
        for statement in (again, "DROP TYPE IF EXISTS nowhere"):
            assert isinstance(connection.query(statement), Void)
