"""Every kind of ERROR that can be provoked from a single Cassandra node, in every version.

Errors that need several nodes are in test_protocol_cluster.py. kinds.py lists errors that can't be
provoked; a test here checks that together these are all codes of the protocol.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

import tests.cassandra.test_protocol_cluster
from cqlproto import (
    BatchKind,
    ClientConnection,
    Consistency,
    ErrorCode,
    FrameReader,
    LocalProtocolError,
    Opcode,
    ProtocolVersion,
    write_frame,
)
from cqlproto.messages import (
    Batch,
    BatchStatement,
    Error,
    Execute,
    Prepare,
    QueryParameters,
    Register,
    Startup,
    read_response,
)
from tests.cassandra.core import CoreConnection, Refused, query
from tests.cassandra.kinds import NOT_PROVOKED, PROVOKED, provokes
from tests.cqlproto.messages import vectors
from tests.support.core_connections import GARBAGE, V3, V4, V5, versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.messages import Message
    from tests.cassandra.conftest import Node

assert tests.cassandra.test_protocol_cluster  # imported for its use of `provokes`

ONE = Consistency.ONE


@pytest.fixture(scope="module")
def tables(cassandra: Node, keyspace: str) -> str:
    body = "RETURNS NULL ON NULL INPUT RETURNS int LANGUAGE java AS"
    cassandra.cql(
        f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int, d double)",
        f"INSERT INTO {keyspace}.t (id, v, d) VALUES (1, 0, NaN)",
        f"CREATE FUNCTION {keyspace}.fails(a int, b list<text>) {body}"
        " 'throw new RuntimeException(\"on purpose\");'",
    )
    return keyspace


@pytest.fixture
def connection(cassandra: Node, tables: str, version: ProtocolVersion) -> Iterator[CoreConnection]:
    with CoreConnection(cassandra, version) as connection:
        connection.query(f"USE {tables}")
        yield connection


@pytest.fixture(scope="module")
def limited(limited_cassandra: Node) -> Node:
    """A node with low limits: for tombstones, change data capture and requests per second."""
    node = limited_cassandra
    blob = "00" * 200_000
    node.cql(
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE k.dead (id int, at int, PRIMARY KEY (id, at))",
        *[f"DELETE FROM k.dead WHERE id = 1 AND at = {at}" for at in range(30)],
        *[f"DELETE FROM k.dead WHERE id = 2 AND at = {at}" for at in range(10)],
        "CREATE TABLE k.captured (id int PRIMARY KEY, v blob) WITH cdc = true",
    )
    with CoreConnection(node) as connection:
        for at in range(10):  # fills the space for CDC
            connection.request(
                query(f"INSERT INTO k.captured (id, v) VALUES ({at}, 0x{blob[:400_000]})")
            )
    return node


def refusal(connection: CoreConnection, text: str, code: ErrorCode, **parameters: Any) -> Error:
    error = connection.refusal(query(text, **parameters))
    assert error.code == code, error
    assert error.message
    assert error.extra == b""
    return error


# -- the statement


@provokes(ErrorCode.SYNTAX_ERROR)
@versions
def test_syntax_error(connection: CoreConnection) -> None:
    error = refusal(connection, "SELEKT 1", ErrorCode.SYNTAX_ERROR)
    assert error.fields == {}
    assert connection.refusal(Prepare("INSERT INTO")).code == ErrorCode.SYNTAX_ERROR


@provokes(ErrorCode.INVALID)
@versions
def test_invalid(connection: CoreConnection) -> None:
    error = refusal(connection, "SELECT nowhere FROM t", ErrorCode.INVALID)
    assert "nowhere" in error.message
    counter = BatchStatement("INSERT INTO t (id) VALUES (1)")
    assert connection.refusal(Batch(BatchKind.COUNTER, [counter], ONE)).code == ErrorCode.INVALID
    # The connection can still be used.
    assert connection.rows("SELECT v FROM t") == [(0,)]


@provokes(ErrorCode.CONFIG_ERROR)
@versions
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE KEYSPACE nowhere WITH replication = {'class': 'Nowhere'}",
        "CREATE TABLE u (id int PRIMARY KEY) WITH compaction = {'class': 'java.lang.String'}",
        "CREATE TABLE u (id int PRIMARY KEY) WITH caching = {'keys': 'some'}",
        "CREATE CUSTOM INDEX ON t (v) USING 'nowhere'",
    ],
)
def test_config_error(connection: CoreConnection, statement: str) -> None:
    assert refusal(connection, statement, ErrorCode.CONFIG_ERROR).fields == {}


@provokes(ErrorCode.ALREADY_EXISTS)
@versions
def test_already_exists(connection: CoreConnection, tables: str) -> None:
    code = ErrorCode.ALREADY_EXISTS
    error = refusal(connection, "CREATE TABLE t (id int PRIMARY KEY)", code)
    assert error.fields == {"keyspace": tables, "table": "t"}
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    error = refusal(connection, f"CREATE KEYSPACE {tables} WITH replication = {replication}", code)
    assert error.fields == {"keyspace": tables, "table": ""}


@provokes(ErrorCode.UNPREPARED)
@versions
def test_unprepared(connection: CoreConnection) -> None:
    unknown = bytes(range(16))
    error = connection.refusal(Execute(unknown, QueryParameters(ONE), b"x"))
    assert error.code == ErrorCode.UNPREPARED
    assert error.fields == {"statement_id": unknown}
    batch = Batch(BatchKind.LOGGED, [BatchStatement(unknown)], ONE)
    assert connection.refusal(batch).fields == {"statement_id": unknown}


@provokes(ErrorCode.FUNCTION_FAILURE)
@versions
def test_function_failure(connection: CoreConnection, tables: str) -> None:
    for call, expected in (
        ("fails(id, ['a'])", (tables, "fails", ["int", "list<text>"])),
        ("id / v", ("system", "_divide", ["int", "int"])),
    ):
        error = connection.refusal(query(f"SELECT {call} FROM t"))
        if connection.version is V3:
            assert error.code == ErrorCode.INVALID
            assert error.fields == {}
        else:
            assert error.code == ErrorCode.FUNCTION_FAILURE
            names = ("keyspace", "function", "argument_types")
            assert error.fields == dict(zip(names, expected, strict=True))


@provokes(ErrorCode.SERVER_ERROR)
@versions
def test_server_error(connection: CoreConnection) -> None:
    """Cassandra answers so to input that it does not handle, such as a NaN cast to a decimal."""
    error = refusal(connection, "SELECT cast(d AS decimal) FROM t", ErrorCode.SERVER_ERROR)
    assert error.message.startswith("java.lang.NumberFormatException")


@provokes(ErrorCode.UNAVAILABLE)
@versions
@pytest.mark.parametrize(
    ("level", "required"), [(Consistency.TWO, 2), (Consistency.THREE, 3)], ids=str
)
def test_unavailable(connection: CoreConnection, level: Consistency, required: int) -> None:
    for text in ("SELECT * FROM t WHERE id = 1", "INSERT INTO t (id) VALUES (2)"):
        error = refusal(connection, text, ErrorCode.UNAVAILABLE, consistency=level)
        assert error.fields == {"consistency": level, "required": required, "alive": 1}


# -- credentials


@provokes(ErrorCode.BAD_CREDENTIALS)
@versions
@pytest.mark.parametrize("login", [("cassandra", "wrong"), ("nobody", ""), ("", "")])
def test_bad_credentials(
    secure_cassandra: Node, version: ProtocolVersion, login: tuple[str, str]
) -> None:
    with pytest.raises(Refused) as info:
        CoreConnection(secure_cassandra, version, login=login)
    event = info.value.event
    assert event.authentication
    assert event.error is not None
    assert event.error.code == ErrorCode.BAD_CREDENTIALS
    assert event.next_version is None


@provokes(ErrorCode.UNAUTHORIZED)
@pytest.mark.parametrize("compression", [None, "lz4"])
@versions
def test_unauthorized(
    secure_cassandra: Node, version: ProtocolVersion, compression: str | None
) -> None:
    role = f"weak_{version:d}_{compression}".lower()
    with CoreConnection(secure_cassandra, version, compression) as connection:
        connection.query(f"CREATE ROLE {role} WITH PASSWORD = 'pw' AND LOGIN = true")
    weak = CoreConnection(secure_cassandra, version, compression, login=(role, "pw"))
    with weak:
        error = refusal(weak, "SELECT * FROM system_auth.roles", ErrorCode.UNAUTHORIZED)
        assert role in error.message
        refusal(weak, "CREATE ROLE other", ErrorCode.UNAUTHORIZED)
        assert weak.rows("SELECT key FROM system.local") == [("local",)]


# -- limits


@provokes(ErrorCode.READ_FAILURE)
@versions
def test_read_failure(limited: Node, version: ProtocolVersion) -> None:
    """v3 has no code for a failure, so the server reports a read timeout."""
    fields: dict[str, object]
    with CoreConnection(limited, version) as connection:
        error = connection.refusal(query("SELECT * FROM k.dead WHERE id = 1"))
        fields = {"consistency": ONE, "received": 0, "required": 1, "data_present": False}
        if version is V3:
            assert error.code == ErrorCode.READ_TIMEOUT
        else:
            assert error.code == ErrorCode.READ_FAILURE
            fields["failures"] = 1
        if version is V5:
            fields["reasons"] = {IPv4Address("127.0.0.1"): 1}  # READ_TOO_MANY_TOMBSTONES
        assert error.fields == fields
        report = connection.request(query("SELECT * FROM k.dead WHERE id = 2"))
        if version is not V3:
            (warning,) = report.warnings
            assert "10 tombstone cells" in warning


@provokes(ErrorCode.WRITE_FAILURE)
@versions
def test_write_failure(limited: Node, version: ProtocolVersion) -> None:
    """A replica refuses a write because the CDC log is full. v3 has no code for a failure."""
    insert = "INSERT INTO k.captured (id) VALUES (1)"
    several = [BatchStatement(f"INSERT INTO k.captured (id) VALUES ({at})") for at in range(4)]
    fields: dict[str, object]
    with CoreConnection(limited, version) as connection:
        for request, write_type in (
            (query(insert), "SIMPLE"),
            (query("INSERT INTO k.captured (id) VALUES (77) IF NOT EXISTS"), "SIMPLE"),
            (Batch(BatchKind.LOGGED, several, ONE), "BATCH"),
            (Batch(BatchKind.UNLOGGED, several, ONE), "UNLOGGED_BATCH"),
        ):
            error = connection.refusal(request)
            fields = {"consistency": ONE, "received": 0, "required": 1, "write_type": write_type}
            if version is V3:
                assert error.code == ErrorCode.WRITE_TIMEOUT
            else:
                assert error.code == ErrorCode.WRITE_FAILURE
                fields["failures"] = 1
            if version is V5:
                fields["reasons"] = {IPv4Address("127.0.0.1"): 0}  # UNKNOWN
            assert error.fields == fields


@provokes(ErrorCode.OVERLOADED)
@versions
def test_overloaded(limited: Node, version: ProtocolVersion) -> None:
    options = {"THROW_ON_OVERLOAD": "1"}
    with CoreConnection(limited, version, options=options) as connection:
        streams = [connection.core.send(query("SELECT key FROM system.local")) for _ in range(400)]
        connection.flush()
        answers = [connection.reply(stream).message for stream in streams]
    errors = [answer for answer in answers if isinstance(answer, Error)]
    assert 0 < len(errors) < len(answers)
    assert {error.code for error in errors} == {ErrorCode.OVERLOADED}
    assert errors[0].fields == {}
    assert "100 requests/second" in errors[0].message


# -- the protocol itself


class Raw:
    """A socket for arbitrary bytes."""

    def __init__(self, node: Node) -> None:
        self._socket = socket.create_connection((node.host, node.port), 10)

    def ask(self, data: bytes) -> tuple[int, int, Error]:
        """Send bytes, and return version byte, stream and ERROR of the answer."""
        self._socket.sendall(data)
        reader = FrameReader(max_body=1 << 20, responses=True)
        while (parts := reader.take()) is None:
            chunk = self._socket.recv(65_536)
            assert chunk, "the server closed the connection"
            reader.feed(chunk)
        version, _, stream, opcode, body = parts
        error = read_response(opcode, body, 0, V4)
        assert isinstance(error, Error)
        return version, stream, error

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def raw(cassandra: Node) -> Iterator[Raw]:
    made = Raw(cassandra)
    yield made
    made.close()


# The stream id of requests made by `framed`. Errors about the connection come on stream 0 up to
# Cassandra 5.0.8, and on the request's stream in later releases.
OWN = 5
EITHER = (0, OWN)


def framed(version: int, message: Message, flags: int = 0) -> bytes:
    body = bytearray()
    message.write_body(body, ProtocolVersion(version))
    return write_frame(version, flags, OWN, message.opcode, bytes(body))


@provokes(ErrorCode.PROTOCOL_ERROR)
@pytest.mark.parametrize("version", [7, 63, 127])
def test_an_unsupported_version(raw: Raw, version: int) -> None:
    """The error comes in a version that the server chooses, and lists the versions it speaks."""
    answered, stream, error = raw.ask(write_frame(version, 0, OWN, Opcode.OPTIONS, b""))
    assert answered == 0x85
    assert stream in EITHER
    assert error.code == ErrorCode.PROTOCOL_ERROR
    assert "4/v4, 5/v5, 6/v6-beta)" in error.message


def test_a_beta_version_without_its_flag(raw: Raw) -> None:
    answered, stream, error = raw.ask(write_frame(6, 0, OWN, Opcode.OPTIONS, b""))
    assert answered == 0x86
    assert stream in EITHER
    assert "USE_BETA" in error.message


@versions
@pytest.mark.parametrize("request_name", ["QUERY", "REGISTER"])
def test_a_request_before_startup(raw: Raw, version: ProtocolVersion, request_name: str) -> None:
    message = query("SELECT key FROM system.local")
    early = message if request_name == "QUERY" else Register(["STATUS_CHANGE"])
    answered, stream, error = raw.ask(framed(version, early))
    assert answered == 0x80 | version
    assert stream in EITHER
    assert error.code == ErrorCode.PROTOCOL_ERROR
    assert f"Unexpected message {request_name}" in error.message


@versions
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Missing value CQL_VERSION"),
        ({"CQL_VERSION": "9"}, "Invalid version value: 9"),
        ({"CQL_VERSION": "3.0.0", "COMPRESSION": "zstd"}, "Unknown compression algorithm: zstd"),
    ],
)
def test_startup_with_wrong_options(
    raw: Raw, version: ProtocolVersion, options: dict[str, str], text: str
) -> None:
    answered, stream, error = raw.ask(framed(version, Startup(options)))
    assert (answered, stream, error.code) == (0x80 | version, 5, ErrorCode.PROTOCOL_ERROR)
    assert text in error.message


def test_snappy_is_refused_on_v5(raw: Raw, cassandra: Node) -> None:
    with pytest.raises(LocalProtocolError, match="snappy"):
        ClientConnection(version=V5, compression="snappy")
    startup = Startup({"CQL_VERSION": "3.0.0", "COMPRESSION": "snappy"})
    answered, stream, error = raw.ask(framed(5, startup))
    assert (answered, stream, error.code) == (0x85, 5, ErrorCode.PROTOCOL_ERROR)
    assert "Snappy compression is not supported in protocol V5" in error.message


@versions
@pytest.mark.parametrize(("opcode", "text"), [(0x44, "Unknown opcode 68"), (0x08, "direction")])
def test_an_opcode_that_is_not_a_request(
    raw: Raw, version: ProtocolVersion, opcode: int, text: str
) -> None:
    """The error has the request's stream id, but comes in the server's preferred version."""
    answered, stream, error = raw.ask(write_frame(version, 0, 5, opcode, b""))
    assert (answered, stream, error.code) == (0x85, 5, ErrorCode.PROTOCOL_ERROR)
    assert text in error.message


@versions
def test_a_body_that_ends_early(raw: Raw, version: ProtocolVersion) -> None:
    """An error, or a connection reset: from 5.0.9 on the reset may overtake the error."""
    try:
        answered, stream, error = raw.ask(write_frame(version, 0, OWN, Opcode.STARTUP, b"\0\7"))
    except ConnectionResetError:
        return
    assert (answered, error.code) == (0x80 | version, ErrorCode.PROTOCOL_ERROR)
    assert stream in EITHER


def test_http(raw: Raw) -> None:
    answered, stream, error = raw.ask(GARBAGE["HTTP"])
    assert (answered, error.code) == (0x85, ErrorCode.PROTOCOL_ERROR)
    assert stream in (0, int.from_bytes(GARBAGE["HTTP"][2:4], "big"))


@versions
def test_an_invalid_paging_state(connection: CoreConnection) -> None:
    """The protocol error answers this request only; the connection stays open."""
    text = "SELECT * FROM t"
    error = refusal(
        connection, text, ErrorCode.PROTOCOL_ERROR, page_size=1, paging_state=b"nonsense"
    )
    assert "paging state" in error.message
    assert connection.rows("SELECT v FROM t") == [(0,)]


@versions
def test_an_unknown_event_type(connection: CoreConnection) -> None:
    error = connection.refusal(Register(["NOWHERE"]))
    assert error.code == ErrorCode.PROTOCOL_ERROR
    assert "NOWHERE" in error.message


# -- all of them


def test_every_code_is_provoked_or_has_a_vector() -> None:
    assert set(PROVOKED) | set(NOT_PROVOKED) == set(ErrorCode)
    assert not set(PROVOKED) & set(NOT_PROVOKED)
    held = {vector.message.code for vector in vectors.load() if isinstance(vector.message, Error)}
    assert set(NOT_PROVOKED) <= held
