"""DataStax's cassandra-driver, connected to a server on the core: v3 to v5, with and without LZ4.

Hypothesis generates values. The driver reads them and binds the values that it has read; the server
must decode the values that it had sent.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import cassandra
import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.cqltypes import DateType
from cassandra.policies import FallthroughRetryPolicy, WhiteListRoundRobinPolicy
from cassandra.query import BatchStatement, SimpleStatement, tuple_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES, CQLType, Timestamp, encoder
from cqlproto.messages import SchemaChange
from cqlproto.testing import values_of
from tests.peers import cases
from tests.peers.server import Server, Statement
from tests.support.core_connections import AGREEMENTS, Agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

AXIS = [
    one for one in AGREEMENTS if one.compression != "snappy"
]  # needs a package that is not installed
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES = cases.SCALARS | cases.COLLECTIONS


class Ends(NamedTuple):
    """A driver's session, and the server that it is connected to."""

    session: Any
    server: Server
    statements: dict[str, Statement]
    agreement: Agreement


@contextlib.contextmanager
def connected(server: Server, **options: Any) -> Iterator[Any]:
    profile = ExecutionProfile(
        WhiteListRoundRobinPolicy(["127.0.0.1"]),
        retry_policy=FallthroughRetryPolicy(),
        row_factory=tuple_factory,
    )
    cluster = Cluster(
        ["127.0.0.1"],
        port=server.port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        **options,
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module", params=AXIS, ids=str)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    agreement: Agreement = request.param
    statements = cases.statements()
    version, compression = int(agreement.version), agreement.compression or False
    with (
        Server(statements) as server,
        connected(server, protocol_version=version, compression=compression) as session,
    ):
        yield Ends(session, server, statements, agreement)


def readable(cql_type: CQLType) -> st.SearchStrategy[Any]:
    """Return a strategy of values that the driver can read and bind again.

    The driver has no timestamps beyond Python's datetime, and converts them through a float, which
    changes one in 25 distant timestamps by a millisecond.
    """
    values = values_of(cql_type)
    if str(cql_type) == "timestamp":
        return values.map(lambda value: value if _is_exact(value) else EPOCH)
    return values


def _is_exact(value: Any) -> bool:
    if isinstance(value, Timestamp):
        return False
    cell = encoder(NATIVE_TYPES["timestamp"])(value)
    return bool(DateType.serialize(DateType.deserialize(cell, 4), 4) == cell)


def test_the_handshake(ends: Ends) -> None:
    for version, options in ends.server.clients:
        assert version == ends.agreement.version
        assert options.get("COMPRESSION") == ends.agreement.compression
    assert list(ends.session.cluster.metadata.keyspaces) == ["shop"]


@pytest.mark.parametrize("name", TYPES)
def test_values_are_read_and_bound_again(ends: Ends, name: str) -> None:
    cql_type = TYPES[name]
    read, write = f"SELECT {name}", f"INSERT {name}"
    ends.statements[write] = Statement({"v": cql_type})
    prepared = ends.session.prepare(write)

    @settings(
        max_examples=5,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(readable(cql_type) | st.none(), min_size=5, max_size=15))
    def check(values: list[Any]) -> None:
        ends.statements[read] = Statement({}, {"v": cql_type}, [(value,) for value in values])
        found = [value for (value,) in ends.session.execute(read)]
        assert [value is None for value in found] == [value is None for value in values]
        ends.server.bound.clear()
        for value in found:
            ends.session.execute(prepared, (value,))
        assert ends.server.bound == [(write, [value]) for value in values]

    check()


def test_empty_values(ends: Ends) -> None:
    """The driver has no empty int."""
    assert list(ends.session.execute("SELECT empty")) == [(None, "")]


def test_a_large_result(ends: Ends) -> None:
    whole = SimpleStatement("SELECT large", fetch_size=None)
    assert list(ends.session.execute(whole)) == cases.LARGE


def test_pages(ends: Ends) -> None:
    result = ends.session.execute(SimpleStatement("SELECT large", fetch_size=700))
    assert len(result.current_rows) == 700
    assert result.has_more_pages
    assert list(result) == cases.LARGE


def test_no_rows(ends: Ends) -> None:
    assert list(ends.session.execute("SELECT nothing")) == []


def test_many_in_flight(ends: Ends) -> None:
    prepared = ends.session.prepare("SELECT one")
    asked = [ends.session.execute_async(prepared, (number,)) for number in range(300)]
    assert all(list(one.result()) == cases.LARGE[:1] for one in asked)


def test_a_large_request(ends: Ends) -> None:
    blob = bytes(range(256)) * 2_000
    ends.server.bound.clear()
    ends.session.execute(ends.session.prepare("INSERT one"), (1, blob, "x" * 300_000))
    assert ends.server.bound == [("INSERT one", [1, blob, "x" * 300_000])]


def test_batches(ends: Ends) -> None:
    prepared = ends.session.prepare("INSERT one")
    batch = BatchStatement()
    batch.add(prepared, (1, b"a", "x"))
    batch.add(prepared, (2, None, "y"))
    ends.server.bound.clear()
    ends.session.execute(batch)
    assert ends.server.bound == [("INSERT one", [1, b"a", "x"]), ("INSERT one", [2, None, "y"])]


def test_a_server_that_has_forgotten(ends: Ends) -> None:
    prepared = ends.session.prepare("SELECT one")
    ends.server.forget()
    assert list(ends.session.execute(prepared, (1,))) == cases.LARGE[:1]


def test_a_result_whose_columns_change(ends: Ends) -> None:
    """v5 detects this by the metadata id; before v5, the driver keeps the columns of PREPARED."""
    name, number = cases.N["text"], cases.N["int"]
    ends.statements["SELECT changing"] = Statement({}, {"a": number}, [(1,)])
    prepared = ends.session.prepare("SELECT changing")
    assert list(ends.session.execute(prepared)) == [(1,)]
    ends.statements["SELECT changing"] = Statement({}, {"a": number, "b": name}, [(1, "b")])
    if ends.agreement.version is ProtocolVersion.V5:
        assert list(ends.session.execute(prepared)) == [(1, "b")]
        assert list(ends.session.execute(prepared)) == [(1, "b")]
    del ends.statements["SELECT changing"]


def test_errors_with_fields(ends: Ends) -> None:
    with pytest.raises(cassandra.WriteTimeout) as info:
        ends.session.execute("INSERT slow")
    assert "too slow" in str(info.value)
    assert info.value.consistency == 4
    assert (info.value.received_responses, info.value.required_responses) == (1, 2)
    assert info.value.write_type == cassandra.WriteType.SIMPLE
    with pytest.raises(cassandra.Unauthorized, match="not for you"):
        ends.session.execute("SELECT denied")
    with pytest.raises(cassandra.InvalidRequest, match="has no statement 'SELECT that'"):
        ends.session.execute("SELECT that")


def test_use(ends: Ends) -> None:
    ends.session.execute("USE shop")
    assert ends.session.keyspace == "shop"


def test_pushed_events(ends: Ends) -> None:
    """The driver forgets a keyspace after an event that it was dropped."""
    metadata = ends.session.cluster.metadata
    metadata.keyspaces["gone"] = metadata.keyspaces["shop"]
    ends.server.push(SchemaChange("DROPPED", "KEYSPACE", "gone"))
    deadline = time.monotonic() + 20
    while "gone" in metadata.keyspaces:
        assert time.monotonic() < deadline, "the event did not arrive"
        time.sleep(0.01)


def test_versions_are_negotiated() -> None:
    """The driver tries a version of DSE first, which the server refuses, and ends with v5."""
    with Server(cases.statements()) as server, connected(server) as session:
        assert session.cluster.protocol_version == 5
        assert {version for version, _ in server.clients} == {5}
        assert list(session.execute("SELECT empty")) == [(None, "")]


@pytest.mark.parametrize("agreement", AXIS, ids=str)
def test_passwords(agreement: Agreement) -> None:
    options = {
        "protocol_version": int(agreement.version),
        "compression": agreement.compression or False,
    }
    with Server(cases.statements(), password=True) as server:
        good = PlainTextAuthProvider("user", "secret")
        with connected(server, auth_provider=good, **options) as session:
            assert list(session.execute("SELECT empty")) == [(None, "")]
        bad = PlainTextAuthProvider("user", "wrong")
        with (
            pytest.raises(NoHostAvailable, match="username or password are incorrect"),
            connected(server, auth_provider=bad, **options),
        ):
            pytest.fail("connected")
