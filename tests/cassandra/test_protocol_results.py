"""Every kind of RESULT that Cassandra sends, and every option of a request that changes it.

A real server sends them, and the core alone decodes them. The core refuses options that a version
lacks before it sends anything. Results of schema changes are in test_protocol_schema.py.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import BatchKind, Binder, Consistency, LocalProtocolError
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import ROWS_GLOBAL_TABLE, ROWS_METADATA_CHANGED, ROWS_NO_METADATA
from cqlproto.messages import (
    READY,
    Batch,
    BatchStatement,
    Column,
    Execute,
    Options,
    Prepare,
    QueryParameters,
    Register,
    Rows,
    SetKeyspace,
    Supported,
    Void,
)
from cqlproto.rows import decode_rows
from tests.cassandra.core import CoreConnection, query
from tests.support.core_connections import AGREEMENTS, V3, V5, agreements, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto import ProtocolVersion
    from cqlproto.messages import Request
    from tests.cassandra.conftest import Node
    from tests.support.core_connections import Agreement

pytestmark = pytest.mark.cassandra

INT = NATIVE_TYPES["int"]
ONE = Consistency.ONE
ids = itertools.count(1)


@pytest.fixture(scope="module")
def tables(cassandra: Node, keyspace: str) -> str:
    cassandra.cql(
        f"CREATE TABLE {keyspace}.t (id int, at int, v text, PRIMARY KEY (id, at))",
        f"CREATE TABLE {keyspace}.pairs (b int, a text, c int, v int, PRIMARY KEY ((a, b), c))",
        f"CREATE TABLE {keyspace}.counters (id int PRIMARY KEY, v counter)",
        f"CREATE TABLE {keyspace}.large (id int PRIMARY KEY, v blob)",
    )
    return keyspace


@pytest.fixture(scope="module")
def connections(cassandra: Node, tables: str) -> Iterator[dict[Agreement, CoreConnection]]:
    made = {one: CoreConnection(cassandra, one.version, one.compression) for one in AGREEMENTS}
    for connection in made.values():
        connection.query(f"USE {tables}")
    yield made
    for connection in made.values():
        connection.close()


@pytest.fixture
def connection(
    connections: dict[Agreement, CoreConnection], agreement: Agreement
) -> CoreConnection:
    return connections[agreement]


@pytest.fixture
def speaker(cassandra: Node, version: ProtocolVersion) -> Iterator[CoreConnection]:
    """A connection of one version, without a keyspace, for one test."""
    with CoreConnection(cassandra, version) as connection:
        yield connection


def encoded(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def filled(connection: CoreConnection, count: int = 5) -> int:
    """Write `count` rows of a new partition, and return its key."""
    key = next(ids)
    for at in range(count):
        connection.query(f"INSERT INTO t (id, at, v) VALUES ({key}, {at}, 'v{at}')")
    return key


# -- void, set_keyspace, rows


@agreements
def test_void(connection: CoreConnection) -> None:
    answer = connection.query(f"INSERT INTO t (id, at) VALUES ({next(ids)}, 1)")
    assert isinstance(answer, Void)


@versions
def test_set_keyspace(speaker: CoreConnection, tables: str) -> None:
    for name in (tables, "system"):
        answer = speaker.query(f'USE "{name}"')
        assert isinstance(answer, SetKeyspace)
        assert answer.keyspace == name
    prepared = speaker.prepare(f"USE {tables}")
    assert isinstance(speaker.execute(prepared), SetKeyspace)


@agreements
def test_rows(connection: CoreConnection, tables: str) -> None:
    key = filled(connection)
    answer = connection.query(f"SELECT id, at, v, v AS again FROM t WHERE id = {key}")
    assert isinstance(answer, Rows)
    assert answer.flags == ROWS_GLOBAL_TABLE
    assert answer.paging_state is None
    assert answer.metadata is not None
    assert answer.metadata.columns == (
        Column(tables, "t", "id", INT),
        Column(tables, "t", "at", INT),
        Column(tables, "t", "v", NATIVE_TYPES["text"]),
        Column(tables, "t", "again", NATIVE_TYPES["text"]),
    )
    assert decode_rows(answer, tuple) == [(key, at, f"v{at}", f"v{at}") for at in range(5)]


@agreements
def test_no_rows(connection: CoreConnection) -> None:
    answer = connection.query(f"SELECT * FROM t WHERE id = {-next(ids)}")
    assert isinstance(answer, Rows)
    assert (answer.row_count, answer.column_count) == (0, 3)
    assert decode_rows(answer) == []


@agreements
def test_a_result_of_many_segments(connection: CoreConnection) -> None:
    """Half of each blob can be compressed; a segment holds up to 128 KiB."""
    blob = b"".join(hashlib.sha256(bytes((n % 251, n // 251))).digest() for n in range(8_000))
    blob += bytes(len(blob))
    prepared = connection.prepare("INSERT INTO large (id, v) VALUES (?, ?)")
    keys = [next(ids) for _ in range(4)]
    for key in keys:
        connection.execute(prepared, (key, blob))
    found = connection.rows(f"SELECT v FROM large WHERE id IN ({', '.join(map(str, keys))})")
    assert found == [(blob,)] * 4


@agreements
def test_many_requests_in_flight(connection: CoreConnection) -> None:
    key = next(ids)
    write = connection.prepare("INSERT INTO t (id, at, v) VALUES (?, ?, ?)")
    read = connection.prepare("SELECT v FROM t WHERE id = ? AND at = ?")
    plain = QueryParameters(ONE)
    values = [(key, at, str(at) * (at % 7)) for at in range(400)]
    written = connection.execute_many(Binder(write, plain, connection.version), values)
    assert all(isinstance(answer, Void) for answer in written)
    asked = [row[:2] for row in values]
    found = connection.execute_many(Binder(read, plain, connection.version), asked)
    assert [decode_rows(rows, tuple) for rows in found] == [  # type: ignore[arg-type]  # Rows
        [(text,)] for _, _, text in values
    ]


@agreements
def test_pages(connection: CoreConnection) -> None:
    key = filled(connection, 7)
    prepared = connection.prepare("SELECT at FROM t WHERE id = ?")
    for skip in (False, True):
        found: list[list[Any]] = []
        state = None
        while True:
            answer = connection.execute(
                prepared, (key,), page_size=3, paging_state=state, skip_metadata=skip
            )
            assert isinstance(answer, Rows)
            assert bool(answer.flags & ROWS_NO_METADATA) == skip
            found.append([at for (at,) in decode_rows(answer, tuple)])
            state = answer.paging_state
            if state is None:
                break
        assert found == [[0, 1, 2], [3, 4, 5], [6]]


# -- prepared


@agreements
def test_prepared(connection: CoreConnection, tables: str) -> None:
    version = connection.version
    text = "SELECT v, c FROM pairs WHERE b = ? AND a = :a AND c IN ?"
    prepared = connection.prepare(text)
    assert prepared.statement_id == hashlib.md5((tables + text).encode()).digest()
    # The indices are in the order of the partition key, which differs from that of the markers.
    assert prepared.bind.key_indices == ((1, 0) if version.has_primary_key_indices else ())
    assert [(column.name, str(column.type)) for column in prepared.bind.columns] == [
        ("b", "int"),
        ("a", "text"),
        ("in(c)", "list<int>"),
    ]
    assert [column.name for column in prepared.result.columns] == ["v", "c"]
    assert (prepared.result_metadata_id is not None) == version.has_result_metadata_id
    part_of_key = connection.prepare("SELECT v FROM pairs WHERE a = 'a' AND b = ? AND c = ?")
    assert part_of_key.bind.key_indices == ()


@agreements
def test_prepared_without_columns_or_markers(connection: CoreConnection) -> None:
    prepared = connection.prepare("INSERT INTO t (id, at) VALUES (1, 1)")
    assert prepared.bind.columns == ()
    assert prepared.result.columns == ()
    if connection.version.has_result_metadata_id:
        assert prepared.result_metadata_id == hashlib.md5(b"").digest()
    assert isinstance(connection.execute(prepared), Void)


@agreements
def test_metadata_left_out(connection: CoreConnection) -> None:
    key = filled(connection)
    prepared = connection.prepare("SELECT * FROM t WHERE id = ?")
    answer = connection.execute(prepared, (key,), skip_metadata=True)
    assert isinstance(answer, Rows)
    assert answer.flags & ROWS_NO_METADATA
    assert answer.metadata is prepared.result
    assert decode_rows(answer, tuple) == [(key, at, f"v{at}") for at in range(5)]


@versions
def test_metadata_that_changed(speaker: CoreConnection, tables: str) -> None:
    table = f"{tables}.altered_{speaker.version:d}"
    speaker.query(f"CREATE TABLE {table} (id int PRIMARY KEY, v int)")
    speaker.query(f"INSERT INTO {table} (id, v) VALUES (1, 2)")
    text = f"SELECT * FROM {table} WHERE id = ?"
    before = speaker.prepare(text)
    speaker.query(f"ALTER TABLE {table} ADD w int")
    again = speaker.prepare(text)
    assert again.statement_id == before.statement_id
    assert [column.name for column in again.result.columns] == ["id", "v", "w"]
    answer = speaker.execute(before, (1,), skip_metadata=True)
    assert isinstance(answer, Rows)
    if speaker.version is V5:
        assert again.result_metadata_id != before.result_metadata_id
        assert answer.flags == ROWS_GLOBAL_TABLE | ROWS_METADATA_CHANGED
        assert answer.metadata_id == again.result_metadata_id
        assert decode_rows(answer, tuple) == [(1, 2, None)]
        answer = speaker.execute(again, (1,), skip_metadata=True)
        assert isinstance(answer, Rows)
        assert answer.metadata_id is None
        assert decode_rows(answer, tuple) == [(1, 2, None)]
        return
    # Before v5 the reply does not announce the change; here the number of columns shows it.
    assert answer.flags & ROWS_NO_METADATA
    assert answer.column_count == 3
    assert answer.metadata is None
    with pytest.raises(LocalProtocolError, match="have no metadata"):
        decode_rows(answer)
    answer = speaker.execute(before, (1,))
    assert isinstance(answer, Rows)
    assert answer.metadata is not None
    assert answer.metadata.columns == again.result.columns
    assert decode_rows(answer, tuple) == [(1, 2, None)]


# -- conditions


@agreements
def test_lightweight_transactions(connection: CoreConnection) -> None:
    key = next(ids)
    serial = {"serial_consistency": Consistency.LOCAL_SERIAL}
    insert = f"INSERT INTO t (id, at, v) VALUES ({key}, 1, 'a') IF NOT EXISTS"
    applied = connection.query(insert, **serial)
    assert isinstance(applied, Rows)
    assert decode_rows(applied, dict) == [{"[applied]": True}]
    refused = connection.query(insert, **serial)
    assert isinstance(refused, Rows)
    assert decode_rows(refused, dict) == [{"[applied]": False, "id": key, "at": 1, "v": "a"}]
    prepared = connection.prepare("UPDATE t SET v = ? WHERE id = ? AND at = ? IF v = ?")
    for old, new, row in (("a", "b", (True,)), ("a", "c", (False, "b"))):
        answer = connection.execute(prepared, (new, key, 1, old), **serial)
        assert isinstance(answer, Rows)
        # The columns depend on the outcome, so the reply has them, without the flag for a change.
        assert not answer.flags & (ROWS_NO_METADATA | ROWS_METADATA_CHANGED)
        assert decode_rows(answer, tuple) == [row]
    if connection.version.has_result_metadata_id:
        assert prepared.result_metadata_id == hashlib.md5(b"").digest()
    read = f"SELECT v FROM t WHERE id = {key}"
    for level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        assert connection.rows(read, consistency=level) == [("b",)]


@agreements
def test_conditions_in_a_batch(connection: CoreConnection) -> None:
    key = next(ids)
    statements = [
        BatchStatement(f"INSERT INTO t (id, at, v) VALUES ({key}, {at}, 'x') IF NOT EXISTS")
        for at in (1, 2)
    ]
    batch = Batch(BatchKind.UNLOGGED, statements, ONE, serial_consistency=Consistency.SERIAL)
    applied, refused = connection.ask(batch), connection.ask(batch)
    assert isinstance(applied, Rows)
    assert isinstance(refused, Rows)
    assert decode_rows(applied, tuple) == [(True,)]
    assert decode_rows(refused, tuple) == [(False, key, at, "x") for at in (1, 2)]


# -- batches and bound values


@agreements
@pytest.mark.parametrize("kind", [BatchKind.LOGGED, BatchKind.UNLOGGED], ids=str)
def test_batches(connection: CoreConnection, kind: BatchKind) -> None:
    key, stamp = next(ids), 1_234_567_890
    prepared = connection.prepare("INSERT INTO t (id, at, v) VALUES (?, ?, ?)")
    statements = [
        BatchStatement(f"INSERT INTO t (id, at, v) VALUES ({key}, 0, 'text')"),
        BatchStatement(prepared.statement_id, (encoded(key), encoded(1), b"prepared")),
        BatchStatement(
            "INSERT INTO t (id, at, v) VALUES (?, ?, ?)", (encoded(key), encoded(2), None)
        ),
    ]
    assert isinstance(connection.ask(Batch(kind, statements, ONE, timestamp=stamp)), Void)
    found = connection.rows(f"SELECT at, v, writetime(v) FROM t WHERE id = {key}")
    assert found == [(0, "text", stamp), (1, "prepared", stamp), (2, None, None)]


@agreements
def test_counter_batches(connection: CoreConnection) -> None:
    key = next(ids)
    update = BatchStatement(f"UPDATE counters SET v = v + 3 WHERE id = {key}")
    assert isinstance(connection.ask(Batch(BatchKind.COUNTER, [update] * 2, ONE)), Void)
    assert connection.rows(f"SELECT v FROM counters WHERE id = {key}") == [(6,)]


@agreements
def test_values_by_position_and_by_name(connection: CoreConnection) -> None:
    release = connection.rows("SELECT release_version FROM system.local")[0][0]
    key = next(ids)
    insert = "INSERT INTO t (id, at, v) VALUES (:id, :at, :v)"
    by_position = [encoded(key), encoded(1), b"position"]
    assert isinstance(connection.query(insert, values=by_position), Void)
    by_name = {"v": b"name", "at": encoded(2), "id": encoded(key)}
    named = {"values": list(by_name.values()), "names": list(by_name)}
    if release.startswith("6.0-alpha"):
        # a bug of this release: it takes named values by position
        return
    assert isinstance(connection.query(insert, **named), Void)
    prepared = connection.prepare(insert)
    by_name["at"] = encoded(3)
    execute = Execute(
        prepared.statement_id,
        QueryParameters(ONE, list(by_name.values()), list(by_name)),
        prepared.result_metadata_id,
    )
    assert isinstance(connection.ask(execute), Void)
    found = connection.rows(f"SELECT at, v FROM t WHERE id = {key}")
    assert found == [(1, "position"), (2, "name"), (3, "name")]


@agreements
def test_values_by_name_in_the_order_of_the_markers(connection: CoreConnection) -> None:
    """In this order, releases that take named values by position read the same."""
    key = next(ids)
    insert = "INSERT INTO t (id, at, v) VALUES (:id, :at, :v)"
    by_name = {"id": encoded(key), "at": encoded(4), "v": b"ordered"}
    named = {"values": list(by_name.values()), "names": list(by_name)}
    assert isinstance(connection.query(insert, **named), Void)
    assert connection.rows(f"SELECT at, v FROM t WHERE id = {key}") == [(4, "ordered")]


# -- options of a request


@agreements
def test_the_timestamp_of_a_request(connection: CoreConnection) -> None:
    key = next(ids)
    prepared = connection.prepare("UPDATE t SET v = ? WHERE id = ? AND at = 1")
    for value, stamp in (("late", 2_000_000), ("early", 1_000_000), ("before 1970", -5)):
        connection.execute(prepared, (value, key), timestamp=stamp)
    connection.query(f"UPDATE t SET v = 'q' WHERE id = {key} AND at = 2", timestamp=77)
    found = connection.rows(f"SELECT v, writetime(v) FROM t WHERE id = {key}")
    assert found == [("late", 2_000_000), ("q", 77)]


@agreements
def test_the_time_of_a_request(connection: CoreConnection) -> None:
    key, now = next(ids), 1_800_000_000
    write = f"INSERT INTO t (id, at, v) VALUES ({key}, 1, 'x') USING TTL 100"
    read = f"SELECT ttl(v) FROM t WHERE id = {key}"
    if not connection.version.has_now_in_seconds:
        with pytest.raises(LocalProtocolError, match="now_in_seconds needs v5"):
            connection.query(write, now_in_seconds=now)
        return
    connection.query(write, now_in_seconds=now)
    assert connection.rows(read, now_in_seconds=now + 40) == [(60,)]
    assert connection.rows(read, now_in_seconds=now + 101) == []
    prepared = connection.prepare(read)
    answer = connection.execute(prepared, (), now_in_seconds=now + 1)
    assert isinstance(answer, Rows)
    assert decode_rows(answer, tuple) == [(99,)]
    batch = Batch(BatchKind.UNLOGGED, [BatchStatement(write)], ONE, now_in_seconds=now + 50)
    connection.ask(batch)
    assert connection.rows(read, now_in_seconds=now + 101) == [(49,)]


@versions
def test_the_keyspace_of_a_request(speaker: CoreConnection, tables: str) -> None:
    insert = f"INSERT INTO t (id, at) VALUES ({next(ids)}, 1)"
    batch = Batch(BatchKind.LOGGED, [BatchStatement(insert)], ONE, keyspace=tables)
    requests: list[Request] = [query(insert, keyspace=tables), Prepare(insert, tables), batch]
    if not speaker.version.has_keyspace_option:
        for request in requests:
            with pytest.raises(LocalProtocolError, match="keyspace needs v5"):
                speaker.ask(request)
        return
    speaker.query("USE system")
    for request in requests:
        speaker.ask(request)
    prepared = speaker.prepare("SELECT at FROM t WHERE id = ?", tables)
    assert prepared.bind.columns[0].keyspace == tables
    assert isinstance(speaker.execute(prepared, (1,)), Rows)


@agreements
def test_tracing(connection: CoreConnection) -> None:
    report = connection.request(query("SELECT key FROM system.local"), trace=True)
    assert isinstance(report.message, Rows)
    assert decode_rows(report.message, tuple) == [("local",)]
    assert report.tracing_id is not None
    session = f"SELECT request FROM system_traces.sessions WHERE session_id = {report.tracing_id}"
    deadline = time.monotonic() + 20
    while not (found := connection.rows(session)):
        assert time.monotonic() < deadline, "the trace was not written"
        time.sleep(0.05)
    assert found == [("Execute CQL3 query",)]
    assert connection.request(query("SELECT key FROM system.local")).tracing_id is None
    prepare = connection.request(Prepare("SELECT v FROM t"), trace=True)
    assert prepare.tracing_id is not None


@agreements
def test_warnings(connection: CoreConnection) -> None:
    report = connection.request(query("SELECT count(*) FROM t"))
    expected = ["Aggregation query used without partition key"]
    assert list(report.warnings) == (expected if connection.version is not V3 else [])
    assert isinstance(report.message, Rows)
    many = [BatchStatement(f"INSERT INTO t (id, at) VALUES ({at}, -1)") for at in range(20)]
    report = connection.request(Batch(BatchKind.UNLOGGED, many, ONE), trace=True)
    assert isinstance(report.message, Void)
    assert report.tracing_id is not None
    if connection.version is not V3:
        (warning,) = report.warnings
        assert warning.startswith("Unlogged batch covering 20 partitions")


@agreements
def test_a_custom_payload_is_ignored(connection: CoreConnection) -> None:
    """Cassandra's default query handler ignores payloads; others need not (v4 section 2.2)."""
    payload = {"key": b"value", "empty": b"", "null": None}
    if connection.version is V3:
        with pytest.raises(LocalProtocolError, match="payload needs v4"):
            connection.request(query("SELECT key FROM system.local"), payload=payload)
        return
    for request in (query("SELECT count(*) FROM t"), Prepare("SELECT v FROM t")):
        report = connection.request(request, payload=payload, trace=True)
        assert report.payload is None
        assert report.tracing_id is not None


# -- other responses


@agreements
def test_options_and_register_when_ready(connection: CoreConnection) -> None:
    supported = connection.ask(Options())
    assert isinstance(supported, Supported)
    assert {"3/v3", "4/v4", "5/v5"} <= set(supported.options["PROTOCOL_VERSIONS"])
    assert supported.options == connection.handshake.supported
    assert connection.ask(Register(["STATUS_CHANGE"])) is READY


@agreements
def test_the_handshake_shows_in_the_server(cassandra: Node, agreement: Agreement) -> None:
    said = {"DRIVER_NAME": "cqlproto tests", "DRIVER_VERSION": str(next(ids))}
    with CoreConnection(
        cassandra, agreement.version, agreement.compression, options=said
    ) as connection:
        assert connection.handshake.compression == agreement.compression
        found = connection.rows("SELECT protocol_version, client_options FROM system_views.clients")
    (options,) = [
        (version, options) for version, options in found if said.items() <= options.items()
    ]
    assert options[0] == agreement.version
    assert options[1].get("COMPRESSION") == agreement.compression
