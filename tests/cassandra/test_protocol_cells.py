"""Cells without a value, and types that are sent as class names, in every version."""

from __future__ import annotations

import datetime
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import (
    EMPTY,
    UNSET,
    BatchKind,
    Binder,
    Consistency,
    Duration,
    LocalProtocolError,
    ProtocolVersion,
)
from cqlproto.cqltypes import NATIVE_TYPES, CQLType, ListType, MapType, TupleType, VectorType
from cqlproto.enums import ErrorCode
from cqlproto.messages import Batch, BatchStatement, Execute, QueryParameters, Rows
from cqlproto.messages import Query as QueryMessage
from cqlproto.rows import decode_rows
from tests.cassandra.core import CoreConnection, ServerSaid
from tests.support.core_connections import V3, V4, V5, agreements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cassandra.conftest import Node
    from tests.support.core_connections import Agreement

pytestmark = pytest.mark.cassandra

N = NATIVE_TYPES
# The types for which the server accepts an empty cell, and the value that is read back.
EMPTY_IS_A_VALUE: dict[str, Any] = {
    **dict.fromkeys(("ascii", "text"), ""),
    "blob": b"",
    **dict.fromkeys(("bigint", "boolean", "decimal", "double", "float", "inet", "int"), EMPTY),
    **dict.fromkeys(("timestamp", "timeuuid", "uuid", "varint"), EMPTY),
}
EMPTY_IS_REFUSED = ("date", "duration", "smallint", "time", "tinyint")
OTHERS = {
    "frozen_list": "frozen<list<int>>",
    "numbers": "list<int>",
    "pair": "tuple<int, text>",
    "vector": "vector<float, 2>",
}
# A type without an id in a version comes as CUSTOM, with the name of a Java class. By CQL type: the
# type, the end of the class name, a value, and the versions in which it comes as CUSTOM.
PACKAGE = "org.apache.cassandra.db.marshal."
CLASS_NAMES: dict[str, tuple[CQLType, str, Any, set[ProtocolVersion]]] = {
    "date": (N["date"], "SimpleDateType", datetime.date(2024, 2, 29), {V3}),
    "time": (N["time"], "TimeType", datetime.time(1, 2, 3), {V3}),
    "smallint": (N["smallint"], "ShortType", -32768, {V3}),
    "tinyint": (N["tinyint"], "ByteType", 127, {V3}),
    "duration": (N["duration"], "DurationType", Duration(1, 2, 3), {V3, V4}),
    "vector<float, 2>": (
        VectorType(N["float"], 2),
        f"VectorType({PACKAGE}FloatType , 2)",
        [0.5, -1.0],
        {V3, V4, V5},
    ),
    "vector<text, 2>": (
        VectorType(N["text"], 2),
        f"VectorType({PACKAGE}UTF8Type , 2)",
        ["a", ""],
        {V3, V4, V5},
    ),
    "list<tinyint>": (ListType(N["tinyint"]), "ByteType", [1, -2], {V3}),
    "map<date, duration>": (
        MapType(N["date"], N["duration"]),
        "DurationType",
        {datetime.date(2024, 2, 29): Duration(-1, 0, -3)},
        {V3, V4},
    ),
    "tuple<time, vector<smallint, 1>>": (
        TupleType((N["time"], VectorType(N["smallint"], 1))),
        f"VectorType({PACKAGE}ShortType , 1)",
        (datetime.time(4, 5), [6]),
        {V3, V4, V5},
    ),
}
keys = itertools.count()


@pytest.fixture(scope="module")
def cells_keyspace(cassandra: Node, keyspace: str) -> str:
    types = dict.fromkeys((*EMPTY_IS_A_VALUE, *EMPTY_IS_REFUSED))
    columns = [f"v_{name} {cql_type or name}" for name, cql_type in (types | OTHERS).items()]
    cassandra.cql(f"CREATE TABLE {keyspace}.cells (id int PRIMARY KEY, {', '.join(columns)})")
    return keyspace


@pytest.fixture
def connection(
    cassandra: Node, cells_keyspace: str, agreement: Agreement
) -> Iterator[CoreConnection]:
    with CoreConnection(cassandra, agreement.version, agreement.compression) as connection:
        connection.query(f"USE {cells_keyspace}")
        yield connection


def write(connection: CoreConnection, name: str, key: int, value: Any) -> None:
    prepared = connection.prepare(f"INSERT INTO cells (id, v_{name}) VALUES (?, ?)")
    connection.execute(prepared, (key, value))


def read(connection: CoreConnection, name: str, key: int, expression: str = "{}") -> Any:
    column = expression.format(f"v_{name}")
    ((value,),) = connection.rows(f"SELECT {column} FROM cells WHERE id = {key}")
    return value


@agreements
def test_empty_and_null_differ(connection: CoreConnection) -> None:
    for name, empty in EMPTY_IS_A_VALUE.items():
        key = next(keys)
        write(connection, name, key, empty)
        again = read(connection, name, key)
        assert again == empty
        assert type(again) is type(empty)
        as_blob = "{}" if name == "blob" else f"{name}AsBlob({{}})"
        assert read(connection, name, key, as_blob) == b""
        write(connection, name, key, None)
        assert read(connection, name, key) is None


@agreements
def test_the_server_refuses_some_empty_values(connection: CoreConnection) -> None:
    for name in EMPTY_IS_REFUSED:
        with pytest.raises(ServerSaid, match="[Ee]xpected") as info:
            write(connection, name, next(keys), EMPTY)
        assert info.value.error.code == ErrorCode.INVALID


@agreements
def test_empty_collections_are_none_unless_frozen(connection: CoreConnection) -> None:
    key = next(keys)
    write(connection, "numbers", key, [])
    write(connection, "frozen_list", key, [])
    assert read(connection, "numbers", key) is None
    assert read(connection, "frozen_list", key) == []


@agreements
def test_a_short_tuple_and_a_null_in_one(connection: CoreConnection) -> None:
    for value, kept in (((1,), (1, None)), ((None, "a"), (None, "a")), ((None,), (None, None))):
        key = next(keys)
        write(connection, "pair", key, value)
        assert read(connection, "pair", key) == kept


@agreements
def test_unset_leaves_a_column_as_it_is(connection: CoreConnection) -> None:
    if not connection.version.has_unset:
        prepared = connection.prepare("INSERT INTO cells (id, v_int) VALUES (?, ?)")
        with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
            plain = QueryParameters(Consistency.ONE)
            Binder(prepared, plain, connection.version).frame(1, (1, UNSET))
        with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
            unset = QueryParameters(Consistency.ONE, values=[bytes(4), UNSET])
            connection.send(Execute(prepared.statement_id, unset))
        with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
            unset = QueryParameters(Consistency.ONE, values=[UNSET], names=["id"])
            connection.send(QueryMessage("SELECT * FROM cells WHERE id = :id", unset))
        # Nothing was sent, so the connection can still be used.
        assert connection.core.in_flight == 0
        assert connection.rows("SELECT key FROM system.local") == [("local",)]
        return
    for name, empty in (*EMPTY_IS_A_VALUE.items(), ("vector", [1.0, 2.0]), ("numbers", [1])):
        key = next(keys)
        write(connection, name, key, UNSET)
        assert read(connection, name, key) is None
        write(connection, name, key, empty)
        write(connection, name, key, UNSET)
        assert read(connection, name, key) == empty
    prepared = connection.prepare("INSERT INTO cells (id, v_int) VALUES (?, ?)")
    with pytest.raises(ServerSaid, match="unset") as info:
        connection.execute(prepared, (UNSET, 1))
    assert info.value.error.code == ErrorCode.INVALID
    with pytest.raises(ServerSaid, match="null"):
        connection.execute(prepared, (None, 1))
    statement = BatchStatement(prepared.statement_id, (next(keys).to_bytes(4, "big"), UNSET))
    connection.ask(Batch(BatchKind.UNLOGGED, [statement], Consistency.ONE))


@agreements
@pytest.mark.parametrize("name", CLASS_NAMES)
def test_types_sent_as_class_names_are_decoded_and_bound(
    connection: CoreConnection, name: str
) -> None:
    cql_type, java_class, value, by_class = CLASS_NAMES[name]
    prepared = connection.prepare(f"SELECT ({name})? AS v FROM system.local")
    assert prepared.bind.columns[0].type == cql_type
    assert prepared.result.columns[0].type == cql_type
    comes_by_class = (PACKAGE + java_class).encode() in prepared.result.raw
    assert comes_by_class == (connection.version in by_class)
    answer = connection.execute(prepared, (value,))
    assert isinstance(answer, Rows)
    assert decode_rows(answer, tuple) == [(value,)]
