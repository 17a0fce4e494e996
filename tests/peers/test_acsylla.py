"""acsylla, on Scylla's C++ driver, connected to a server on the core.

Hypothesis generates values. The driver reads them and binds the values that it has read; the server
must decode the values that it had sent. The driver always uses v4, without compression. It returns
varints and vectors as bytes. It does not support decimals: it writes the digits of the text as the
number's bytes, and can't read decimals.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import acsylla
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqlproto.cqltypes import Date, Duration, Time, Timestamp
from cqlproto.testing import values_of
from tests.peers import cases
from tests.peers.server import Server, Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = {name: each for name, each in cases.SCALARS.items() if name != "decimal"}
TYPES |= cases.COLLECTIONS


class Ends:
    """A driver's session, and the server that it is connected to."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.run = runner.run
        self.statements = cases.statements()
        self.server = Server(self.statements)
        self.session: Any = None

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        result = self.run(self.session.execute(acsylla.create_statement(text)))
        return [tuple(value for _, value in row) for row in result.all()]

    def bound(self, text: str, *values: list[Any]) -> list[Any]:
        """Prepare a statement and bind lists of values; return the statements."""
        prepared = self.run(self.session.create_prepared(text))
        statements = [prepared.bind() for _ in values]
        for statement, each in zip(statements, values, strict=True):
            statement.bind_list(each)
        return statements

    def write(self, text: str, *values: list[Any]) -> None:
        async def write_all() -> None:
            for statement in statements:
                await self.session.execute(statement)

        statements = self.bound(text, *values)
        self.run(write_all())


async def connected(server: Server, **options: Any) -> Any:
    cluster = acsylla.create_cluster(
        ["127.0.0.1"], port=server.port, log_level="disabled", **options
    )
    return await cluster.create_session()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Yield one loop for all tests, because the driver leaves open sockets in each loop."""
    runner = asyncio.Runner()
    yield runner
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        runner.close()
        del runner
        gc.collect()


@pytest.fixture(scope="module")
def ends(runner: asyncio.Runner) -> Iterator[Ends]:
    ends = Ends(runner)
    with ends.server:
        options = {"protocol_version": acsylla.ProtocolVersion.V4}
        ends.session = runner.run(connected(ends.server, **options))
        yield ends
        runner.run(ends.session.close())


def tamed(value: Any) -> Any:
    """Return a similar value that the driver can read and bind.

    The driver only has Python's dates and times, binds text up to its first NUL, rounds the
    milliseconds of distant timestamps, and reads an empty duration as a text that it can't bind.
    """
    if isinstance(value, str):
        return value.replace("\0", "0")
    if isinstance(value, Date):
        return datetime.date(1970, 1, 1)
    if isinstance(value, Time):
        return datetime.time(1, 2, 3, 4)
    if isinstance(value, Timestamp):
        return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    if isinstance(value, datetime.datetime):
        return value.replace(microsecond=0)
    if value == Duration(0, 0, 0):
        return Duration(0, 0, 1)
    if isinstance(value, dict):
        return type(value)((tamed(key), tamed(item)) for key, item in value.items())
    if isinstance(value, list | set | frozenset | tuple):
        return type(value)([tamed(item) for item in value])
    return value


@pytest.mark.parametrize("name", TYPES)
def test_values_are_read_and_bound_again(ends: Ends, name: str) -> None:
    cql_type = TYPES[name]
    read, write = f"SELECT {name}", f"INSERT {name}"
    ends.statements[write] = Statement({"v": cql_type})

    @settings(
        max_examples=15,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(values_of(cql_type).map(tamed) | st.none(), min_size=5, max_size=15))
    def check(values: list[Any]) -> None:
        ends.statements[read] = Statement({}, {"v": cql_type}, [(value,) for value in values])
        found = ends.rows(read)
        assert [value is None for (value,) in found] == [value is None for value in values]
        ends.server.bound.clear()
        ends.write(write, *[list(row) for row in found])
        assert ends.server.bound == [(write, [value]) for value in values]

    check()


def test_the_handshake(ends: Ends) -> None:
    assert ends.server.clients
    for version, options in ends.server.clients:
        assert version == 4
        assert "COMPRESSION" not in options


def test_no_v5(runner: asyncio.Runner) -> None:
    with (
        Server(cases.statements()) as server,
        pytest.raises(acsylla.errors.CassErrorLibBadParams),
    ):
        runner.run(connected(server, protocol_version=acsylla.ProtocolVersion.V5))


def test_empty_values(ends: Ends) -> None:
    """The driver has no empty int."""
    assert ends.rows("SELECT empty") == [(None, "")]


def test_a_large_result(ends: Ends) -> None:
    assert ends.rows("SELECT large") == cases.LARGE
    assert ends.rows("SELECT nothing") == []


def test_pages(ends: Ends) -> None:
    statement = acsylla.create_statement("SELECT large", page_size=700)
    found: list[tuple[Any, ...]] = []
    for last in (False, False, False, False, True):
        result = ends.run(ends.session.execute(statement))
        found += [tuple(value for _, value in row) for row in result.all()]
        assert result.has_more_pages() != last
        if not last:
            statement.set_page_state(result.page_state())
    assert found == cases.LARGE


def test_many_in_flight(ends: Ends) -> None:
    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*[ends.session.execute(one) for one in statements])

    statements = ends.bound("SELECT one", *[[number] for number in range(300)])
    assert [result.count() for result in ends.run(all_of_them())] == [1] * 300


def test_a_large_request(ends: Ends) -> None:
    blob = hashlib.sha256(b"").digest() * 20_000
    ends.server.bound.clear()
    ends.write("INSERT one", [1, blob, "x" * 300_000])
    assert ends.server.bound == [("INSERT one", [1, blob, "x" * 300_000])]


def test_batches(ends: Ends) -> None:
    batch = acsylla.create_batch_logged()
    for statement in ends.bound("INSERT one", [1, b"a", "x"], [2, None, "y"]):
        batch.add_statement(statement)
    ends.server.bound.clear()
    ends.run(ends.session.execute_batch(batch))
    assert ends.server.bound == [("INSERT one", [1, b"a", "x"]), ("INSERT one", [2, None, "y"])]


def test_a_server_that_has_forgotten(ends: Ends) -> None:
    (statement,) = ends.bound("SELECT one", [1])
    ends.server.forget()
    assert ends.run(ends.session.execute(statement)).count() == 1


def test_errors(ends: Ends) -> None:
    errors = acsylla.errors
    for text, kind, message in (
        ("INSERT slow", errors.CassErrorServerWriteTimeout, "too slow"),
        ("SELECT denied", errors.CassErrorServerUnauthorized, "not for you"),
        ("SELECT that", errors.CassErrorServerInvalidQuery, "has no statement"),
    ):
        with pytest.raises(kind, match=message):
            ends.rows(text)


def test_passwords(runner: asyncio.Runner) -> None:
    with Server(cases.statements(), password=True) as server:
        session = runner.run(connected(server, username="user", password="secret"))
        runner.run(session.close())
        with pytest.raises(acsylla.errors.CassErrorServerBadCredentials):
            runner.run(connected(server, username="user", password="wrong"))
