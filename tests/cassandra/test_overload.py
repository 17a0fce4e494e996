"""A real node with a limit of requests per second.

With THROW_ON_OVERLOAD, which the client sets by default, the node answers OVERLOADED above the
limit; otherwise it pauses reading from the connection. The client handles the former with typed
errors and a retry policy that backs off, the latter with deadlines.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.policies import DefaultRetry, NoRetry
from tests.cassandra.shared import RATE
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cassandra.fixtures import Node

KEYSPACE = "overload"
INSERT = f"INSERT INTO {KEYSPACE}.t (test, id, v) VALUES (?, ?, ?)"
SELECT = f"SELECT id, v FROM {KEYSPACE}.t WHERE test = ?"
PATIENT = DefaultRetry(max_attempts=12)
STALLS = cql.Config(startup_options={"THROW_ON_OVERLOAD": "0"})

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def limited(limited_cassandra: Node) -> Node:
    """A node with a limit, and a table with one partition per test."""
    node = limited_cassandra
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    node.cql(
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}",
        f"CREATE TABLE {KEYSPACE}.t (test text, id int, v int, PRIMARY KEY (test, id))",
    )
    return node


@pytest.fixture(autouse=True)
async def rested(limited: Node) -> None:
    """Wait until the node is below its limit again, because connecting needs requests too."""
    await anyio.sleep(1.0)


class Writing:
    """Writes rows all at once, and keeps what came of each.

    Arguments:
        session: where.
        test: the partition.
        count: how many rows.
        options: of each request.
    """

    def __init__(self, session: cql.Session, test: str, count: int, **options: Any) -> None:
        self.done: set[int] = set()
        self.errors: dict[int, cql.CQLError] = {}
        self.late = 0.0
        self._session = session
        self._test = test
        self._count = count
        self._options = options

    async def run(self) -> None:
        """Write all of them."""
        prepared = await patiently(self._session.prepare, INSERT)
        async with anyio.create_task_group() as group:
            for number in range(self._count):
                group.start_soon(self._write, prepared, number)

    async def _write(self, prepared: cql.Prepared[cql.Row], number: int) -> None:
        began = time.monotonic()
        try:
            await self._session.execute(prepared, (self._test, number, number * 7), **self._options)
        except cql.CQLError as exc:
            self.errors[number] = exc
            self.late = max(self.late, time.monotonic() - began)
        else:
            self.done.add(number)

    async def check(self) -> None:
        """Check that every acknowledged row exists, and no row that was never sent."""
        result = await patiently(
            self._session.execute, SELECT, (self._test,), idempotent=True, retry=PATIENT
        )
        rows = {row.id: row.v for row in result}
        assert self.done <= rows.keys() <= set(range(self._count))
        assert all(v == number * 7 for number, v in rows.items())
        refused = {number for number, error in self.errors.items() if not error.maybe_applied}
        assert not refused & rows.keys()


async def patiently(call: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Repeat a call while the node is overloaded, for the preparations of a test."""
    while True:
        try:
            return await call(*arguments, **options)
        except cql.ServerOverloaded:
            await anyio.sleep(0.1)


def lost(session: cql.Session) -> int:
    """Return how many connections were lost."""
    return sum(host.lost for host in session.statistics().hosts)


async def test_what_is_refused_is_typed_and_the_rest_succeeds(
    limited: Node, anyio_backend_name: str
) -> None:
    async with cql.connect(limited.address) as session:
        writing = Writing(
            session, f"refused {anyio_backend_name}", 4 * RATE, retry=NoRetry(), idempotent=True
        )
        await writing.run()
        assert writing.done
        assert writing.errors
        assert len(writing.done) + len(writing.errors) == 4 * RATE
        for error in writing.errors.values():
            assert type(error) is cql.ServerOverloaded
            assert error.host == limited.address
            assert f"{RATE} requests/second" in str(error)
        await writing.check()
        assert lost(session) == 0


async def test_the_policy_backs_off_until_all_have_had_their_turn(
    limited: Node, anyio_backend_name: str
) -> None:
    async with cql.connect(limited.address) as session:
        writing = Writing(
            session,
            f"retried {anyio_backend_name}",
            3 * RATE,
            retry=PATIENT,
            idempotent=True,
            timeout=20.0,
        )
        began = time.monotonic()
        await writing.run()
        elapsed = time.monotonic() - began
        assert not writing.errors
        assert len(writing.done) == 3 * RATE
        assert elapsed > 1.0  # a second's worth at once, the rest as the node goes on
        statistics = session.statistics()
        assert statistics.retries > 0
        # with no pauses it would have been asked many times as often
        assert statistics.retries < 12 * 3 * RATE
        await writing.check()
        assert lost(session) == 0


async def test_a_write_that_is_not_idempotent_is_not_repeated(
    limited: Node, anyio_backend_name: str
) -> None:
    async with cql.connect(limited.address) as session:
        writing = Writing(session, f"once {anyio_backend_name}", 3 * RATE, retry=PATIENT)
        await writing.run()
        assert writing.errors
        assert all(type(error) is cql.ServerOverloaded for error in writing.errors.values())
        assert all(error.maybe_applied for error in writing.errors.values())
        assert not any(error.attempts for error in writing.errors.values())
        await writing.check()


async def test_reads_stall_and_all_requests_are_served_in_time(
    limited: Node, anyio_backend_name: str
) -> None:
    async with cql.connect(limited.address, config=STALLS) as session:
        writing = Writing(session, f"stalled {anyio_backend_name}", 3 * RATE, timeout=30.0)
        began = time.monotonic()
        await writing.run()
        assert time.monotonic() - began > 1.0
        assert not writing.errors
        assert len(writing.done) == 3 * RATE
        await writing.check()
        assert session.statistics().retries == 0
        assert lost(session) == 0


async def test_deadlines_hold_while_reads_stall_and_the_session_recovers(
    limited: Node, anyio_backend_name: str
) -> None:
    timeout = 0.5
    async with cql.connect(limited.address, config=STALLS) as session:
        writing = Writing(session, f"late {anyio_backend_name}", 5 * RATE, timeout=timeout)
        await writing.run()
        assert writing.errors
        for error in writing.errors.values():
            assert type(error) is cql.RequestTimeout
            assert error.maybe_applied
        assert timeout <= writing.late < timeout + 2.0
        # what was given up is still sent or answered at the node's pace; then all is as before
        with anyio.fail_after(20):
            result = await session.execute(SELECT, (f"late {anyio_backend_name}",), timeout=20.0)
            assert writing.done <= {row.id for row in result}
            await until(lambda: not any(host.orphans for host in session.statistics().hosts))
        await session.execute(INSERT, (f"late {anyio_backend_name}", -1, 0), timeout=5.0)
        assert lost(session) == 0
        await patiently(session.execute, SELECT, (f"late {anyio_backend_name}",))
