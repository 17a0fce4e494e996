"""Every cell that the server accepts can be sent by the encoders, for markers in every position.

A marker stands for a value, an element, a field, a key, a list after IN, or a condition. Tests
write cells by hand (a usual cell, an empty cell and a null of each type, alone and within others)
and bind them without an encoder. If the server accepts a cell, the decoded value must encode to the
same cell.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import Consistency, RemoteProtocolError, ValueConversionError
from cqlproto.cqltypes import EMPTY, NATIVE_TYPES, decoder, encoder
from cqlproto.messages import Error, Execute, QueryParameters, Rows
from cqlproto.rows import decode_rows
from tests.cassandra.core import CoreConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages import Prepared
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

INT = bytes(4)
# A usual cell of each type; of durations there are no keys, and counters have a table of their own.
CELLS = {
    "ascii": b"a",
    "bigint": bytes(8),
    "blob": b"\1",
    "boolean": b"\1",
    "date": b"\x80\0\0\0",
    "decimal": b"\0\0\0\0\1",
    "double": bytes(8),
    "duration": bytes(3),
    "float": bytes(4),
    "inet": b"\1\2\3\4",
    "int": INT,
    "smallint": bytes(2),
    "text": b"a",
    "time": bytes(8),
    "timestamp": bytes(8),
    "timeuuid": bytes.fromhex("2c5ea4c0406711e98bad9b1deb4d3b7d"),
    "tinyint": bytes(1),
    "uuid": bytes(16),
    "varint": b"\1",
}
COLUMNS = {
    "v": "{0}",
    "l": "list<{0}>",
    "fl": "frozen<list<{0}>>",
    "t": "tuple<{0}, int>",
    "mv": "map<int, {0}>",
    "vec": "vector<{0}, 1>",
}
KEYS = ("int", "text", "uuid")
KEY_COLUMNS = {"s": "set<{0}>", "fs": "frozen<set<{0}>>", "mk": "map<{0}, int>"}

UPDATE = "UPDATE cells SET t_{0} = null WHERE id = 0 IF "
# The statement, and the kind of cells for its one marker.
POSITIONS = [
    *((f"INSERT INTO cells (id, {column}_{{0}}) VALUES (0, ?)", "list") for column in ("l", "fl")),
    *((f"INSERT INTO cells (id, {column}_{{0}}) VALUES (0, ?)", "list") for column in ("s", "fs")),
    ("INSERT INTO cells (id, v_{0}) VALUES (0, ?)", "one"),
    ("INSERT INTO cells (id, t_{0}) VALUES (0, ?)", "tuple"),
    ("INSERT INTO cells (id, mv_{0}) VALUES (0, ?)", "values"),
    ("INSERT INTO cells (id, mk_{0}) VALUES (0, ?)", "keys"),
    ("UPDATE cells SET l_{0} = l_{0} + ? WHERE id = 0", "list"),
    ("UPDATE cells SET l_{0} = l_{0} - ? WHERE id = 0", "list"),
    ("UPDATE cells SET s_{0} = s_{0} - ? WHERE id = 0", "list"),
    ("UPDATE cells SET mv_{0}[0] = ? WHERE id = 0", "one"),
    ("UPDATE cells SET mk_{0}[?] = 0 WHERE id = 0", "one"),
    (UPDATE + "v_{0} = ?", "one"),
    (UPDATE + "v_{0} != ?", "one"),
    (UPDATE + "v_{0} IN ?", "list"),
    (UPDATE + "l_{0} = ?", "list"),
    (UPDATE + "l_{0} IN ?", "lists"),
    (UPDATE + "mv_{0}[0] = ?", "one"),
    ("INSERT INTO of_{0} (k, c) VALUES (?, {1})", "one"),
    ("SELECT c FROM of_{0} WHERE k = ?", "one"),
    ("SELECT c FROM of_{0} WHERE k IN ?", "list"),
    ("SELECT c FROM of_{0} WHERE k = {1} AND c IN ?", "list"),
    ("SELECT c FROM of_{0} WHERE k = {1} AND (c) IN ?", "tuples"),
    ("SELECT c FROM of_{0} WHERE token(k) > token(?)", "one"),
]


def part(cell: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if cell is None else struct.pack(">i", len(cell)) + cell


def sequence(*cells: bytes | None, count: int | None = None) -> bytes:
    return struct.pack(">i", len(cells) if count is None else count) + b"".join(map(part, cells))


def cells_of(kind: str, usual: bytes) -> list[bytes]:
    """The cells of a kind around a usual, an empty and a null cell."""
    elements = (usual, b"", None)
    lists = [sequence(), sequence(usual, None), *(sequence(each) for each in elements)]
    tuples = [part(each) + part(each and INT) for each in elements]
    return {
        "one": [usual, b""],
        "list": lists,
        "lists": [sequence(each) for each in (*lists, None)],
        "tuple": tuples,
        "tuples": [sequence(part(each)) for each in elements],
        "values": [sequence(INT, each, count=1) for each in elements],
        "keys": [sequence(each, INT, count=1) for each in elements],
    }[kind]


@pytest.fixture(scope="module")
def connection(cassandra: Node, keyspace: str) -> Iterator[CoreConnection]:
    with CoreConnection(cassandra) as connection:
        connection.query(f"USE {keyspace}")
        columns = [
            f"{column}_{name} {kind.format(name)}"
            for name in CELLS
            for column, kind in (COLUMNS if name == "duration" else COLUMNS | KEY_COLUMNS).items()
        ]
        connection.query(f"CREATE TABLE cells (id int PRIMARY KEY, {', '.join(columns)})")
        for name in KEYS:
            connection.query(f"CREATE TABLE of_{name} (k {name}, c {name}, PRIMARY KEY (k, c))")
        yield connection


def error_of(connection: CoreConnection, prepared: Prepared, cell: bytes) -> Error | None:
    """Bind a cell as it is, and return the ERROR that answers."""
    parameters = QueryParameters(Consistency.ONE, values=[cell])
    message = Execute(prepared.statement_id, parameters, prepared.result_metadata_id)
    answer = connection.request(message, metadata=prepared.result).message
    return answer if isinstance(answer, Error) else None


def sent_as(cql_type: CQLType, cell: bytes) -> Any:
    """Return the cell of the value that a cell is read as, or why there is none."""
    try:
        return encoder(cql_type)(decoder(cql_type)(cell))
    except (RemoteProtocolError, ValueConversionError) as exc:
        return exc


@pytest.mark.parametrize("name", CELLS)
def test_what_the_server_takes_is_sent(connection: CoreConnection, name: str) -> None:
    usual = CELLS[name]
    literal = {"ascii": "'a'", "text": "'a'", "inet": "'1.2.3.4'"}.get(name)
    literal = literal or f"blobAs{name.capitalize()}(0x{usual.hex()})"
    literal = f"0x{usual.hex()}" if name == "blob" else literal
    taken: list[str] = []
    wrong: list[str] = []
    for statement, kind in POSITIONS:
        if "of_" in statement and name not in KEYS:
            continue
        if name == "duration" and any(f"{column}_" in statement for column in KEY_COLUMNS):
            continue
        prepared = connection.prepare(statement.format(name, literal))
        (column,) = prepared.bind.columns
        for cell in cells_of(kind, usual):
            if error_of(connection, prepared, cell) is None:
                taken.append(kind)
                sent = sent_as(column.type, cell)
                if sent != cell:
                    wrong.append(f"{statement}: {column.type} {cell.hex()}: {sent!r}")
    assert wrong == []
    assert {"one", "list", "tuple", "values", "lists"} <= set(taken)


def test_nulls_in_a_list_find_what_is_null(connection: CoreConnection) -> None:
    """``IF v IN ?`` with a null holds for a row without a value."""
    connection.query("INSERT INTO cells (id) VALUES (7)")
    prepared = connection.prepare("UPDATE cells SET t_int = null WHERE id = 7 IF v_int IN ?")
    for values, applied in (([1], False), ([1, None], True), ([None], True), ([], False)):
        answer = connection.execute(prepared, (values,))
        assert isinstance(answer, Rows)
        assert decode_rows(answer, tuple)[0][0] is applied


@pytest.mark.parametrize("name", NATIVE_TYPES)
def test_each_type_has_an_empty_value(name: str) -> None:
    """Whether a server takes it is the server's to say; those of fixed size refuse it."""
    assert encoder(NATIVE_TYPES[name])(EMPTY) == b""
