"""Bulk execution under faults: every row ends exactly once, and none is applied twice unasked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Batch
from tests.support.cluster_sessions import (
    INSERT,
    SELECT,
    connected,
    replicas,
    session_on,
    topology_of,
)
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.faults import CODES, Fault, failure, settled, unprepared
from tests.support.server import start, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeRequest

pytestmark = pytest.mark.uvloop

TIMEOUT = 5.0


def rows_of(request: FakeRequest) -> list[int]:
    """Return the rows of a request, by their second value, or the only one."""
    message = request.message
    if isinstance(message, Batch):
        return [int.from_bytes(each.values[-1], "big") for each in message.statements]  # type: ignore[arg-type]  # bytes
    return [int.from_bytes(request.values[-1], "big")]


class Faulty:
    """Lets the n-th attempt at each row meet the n-th fault of its list.

    A batch meets the next fault of its first row.

    Attributes:
        applied: how many times each row was applied.
    """

    def __init__(self, cluster: FakeCluster, faults: Sequence[Sequence[Fault]]) -> None:
        self.faults = {row: list(each) for row, each in enumerate(faults)}
        self.applied: Counter[int] = Counter()
        cluster.answer = self.answer

    def answer(self, request: FakeRequest) -> Response | None:
        rows = rows_of(request)
        left = self.faults.get(rows[0], [])
        fault = left.pop(0) if left else Fault("success", applied=True)
        if fault.applied:
            self.applied.update(rows)
        if fault.way == "success":
            return row_v(rows[0]) if request.text.startswith("SELECT") else VOID
        if fault.way == "error":
            return fault.message()
        if fault.way == "unprepared":
            return unprepared(request)
        if fault.way == "cut":
            request.connection.cut()
        return None  # no reply, until the deadline


FAULTS = st.one_of(
    st.sampled_from(
        [
            Fault("unprepared"),
            Fault("cut"),
            Fault("cut", applied=True),
            Fault("drop"),
            Fault("drop", applied=True),
            failure(ErrorCode.OVERLOADED),
            failure(ErrorCode.INVALID),
            failure(ErrorCode.WRITE_TIMEOUT, applied=True),
        ]
    ),
    st.sampled_from(CODES).map(failure),
)
LISTS = st.lists(
    st.one_of(st.just([]), st.just([]), st.lists(FAULTS, max_size=3)), min_size=1, max_size=25
)


@given(
    faults=LISTS,
    idempotent=st.booleans(),
    concurrency=st.integers(1, 12),
    batch=st.sampled_from([1, 1, 4]),
    asynchronous=st.booleans(),
    hosts=st.integers(1, 3),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_row_ends_once(
    faults: list[list[Fault]],
    idempotent: bool,
    concurrency: int,
    batch: int,
    asynchronous: bool,
    hosts: int,
) -> None:
    cluster = FakeCluster(hosts)
    script = Faulty(cluster, faults)
    rows = [(number // 6, number) for number in range(len(faults))]

    async def later() -> AsyncIterator[tuple[int, int]]:
        for row in rows:
            yield row

    told: list[int] = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        source: Any = later() if asynchronous else iter(rows)
        done = await session.execute_many(
            INSERT,
            source,
            concurrency=concurrency,
            max_errors=len(rows),
            idempotent=idempotent,
            batch=batch,
            timeout=TIMEOUT,
            progress=told.append,
        )
        await settled(session)
    failed = {each.index: each for each in done.failures}
    assert len(failed) == len(done.failures)
    assert done.count + len(failed) == len(rows) == sum(told)
    for index, row in enumerate(rows):
        applied = script.applied[index]
        if index in failed:
            failure = failed[index]
            assert failure.row == row
            error = failure.error
            assert isinstance(error, cql.CQLError)
            assert applied == 0 or error.maybe_applied, error
        else:
            assert applied >= 1
        if not idempotent:
            assert applied <= 1


@given(
    faults=LISTS,
    ordered=st.booleans(),
    concurrency=st.integers(1, 12),
    asynchronous=st.booleans(),
)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_every_read_has_its_result(
    faults: list[list[Fault]], ordered: bool, concurrency: int, asynchronous: bool
) -> None:
    cluster = FakeCluster(3)
    Faulty(cluster, faults)
    keys = [(number,) for number in range(len(faults))]

    async def later() -> AsyncIterator[tuple[int]]:
        for key in keys:
            yield key

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        pairs = [
            pair
            async for pair in session.map(
                SELECT,
                later() if asynchronous else keys,
                concurrency=concurrency,
                ordered=ordered,
                return_errors=True,
                timeout=TIMEOUT,
            )
        ]
        await settled(session)
    seen = [key for key, _ in pairs]
    assert (seen if ordered else sorted(seen)) == keys
    for key, result in pairs:
        if isinstance(result, cql.Result):
            assert result.scalar() == key[0]
        else:
            assert isinstance(result, cql.CQLError)


async def test_rows_go_to_their_replicas() -> None:
    cluster = FakeCluster(
        6, keyspaces={"ks": {"class": "SimpleStrategy", "replication_factor": "1"}}
    )
    cluster.seen = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute_many(INSERT, [(number, 0) for number in range(60)])
        async for _ in session.map(SELECT, [(number,) for number in range(60)]):
            pass
        topology = topology_of(cluster)
        executed = [each for each in cluster.seen if each.values]
        first: dict[Any, FakeRequest] = {}
        for request in executed:  # those that were sent again had met an unprepared host
            first.setdefault((request.text, request.number), request)
        assert len(first) == 120
        for request in first.values():
            assert request.host in replicas(cluster, request.number, topology)
        assert len({request.host for request in first.values()}) > 3


async def test_a_host_that_is_lost_in_the_middle() -> None:
    """Rows under way there go to others, if they may be sent twice."""
    cluster = FakeCluster(3)
    script = Faulty(cluster, [])
    lost: list[int] = []

    def rows() -> Iterator[tuple[int, int]]:
        for number in range(500):
            if number == 200:
                cluster.hosts[1].kill()
                lost.append(number)
            yield (number, number)

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        done = await session.execute_many(INSERT, rows(), idempotent=True, concurrency=50)
        assert done == cql.BulkResult(500, ())
        assert set(script.applied) == set(range(500))
        assert lost
        await settled(session)


async def test_the_only_host_comes_back() -> None:
    """A load goes on when its only connection is replaced."""
    cluster = FakeCluster(1)
    script = Faulty(cluster, [[], [], [Fault("cut", applied=True)]])
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        done = await session.execute_many(
            INSERT, [(n, n) for n in range(100)], idempotent=True, concurrency=8
        )
        assert done == cql.BulkResult(100, ())
        assert set(script.applied) == set(range(100))
        await settled(session)


async def test_what_may_have_been_applied_is_not_sent_again() -> None:
    cluster = FakeCluster(3)
    held: list[FakeRequest] = []

    def answer(request: FakeRequest) -> Response | None:
        held.append(request)
        return None

    cluster.answer = answer
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        call = start(
            group,
            lambda: session.execute_many(
                INSERT, [(n, n) for n in range(12)], max_errors=100, concurrency=12
            ),
        )
        await until(lambda: len(held) == 12)
        victim = held[0].host
        there = [each for each in held if each.host is victim]
        cluster.answer = lambda request: VOID
        victim.kill()
        for each in held:
            if each.host is not victim:
                each.reply(VOID)
        await until(lambda: call.done)
        failures = call.result.failures
        assert sorted(each.index for each in failures) == sorted(
            rows_of(request)[0] for request in there
        )
        assert all(isinstance(each.error, cql.ConnectionLost) for each in failures)
        assert all(each.error.maybe_applied for each in failures)
        assert len(held) == 12


async def test_retries_have_the_timestamp_of_the_first_attempt() -> None:
    cluster = FakeCluster(3)
    stamps: dict[int, list[int | None]] = {}

    def answer(request: FakeRequest) -> Response:
        message: Any = request.message
        stamp = (message if isinstance(message, Batch) else message.parameters).timestamp
        again = [stamps.setdefault(row, []) for row in rows_of(request)]
        for each in again:
            each.append(stamp)
        if len(again[0]) == 1:
            return failure(ErrorCode.SERVER_ERROR).message()
        return VOID

    cluster.answer = answer
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for batch in (1, 4):
            stamps.clear()
            rows = [(n // 8, n) for n in range(24)]
            done = await session.execute_many(INSERT, rows, idempotent=True, batch=batch)
            assert done.count == 24
            assert all(len(each) == 2 and len(set(each)) == 1 for each in stamps.values())
            first = [stamps[row][0] or 0 for row in range(24)]
            assert first == sorted(first)
            assert len(set(first)) == (24 if batch == 1 else 6)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_timestamps_are_in_the_order_of_rows(idempotent: bool) -> None:
    """Also of rows that were sent again, or could not be sent at once."""
    cluster = FakeCluster(3)
    faults: list[list[Fault]] = [[]] * 5
    faults += [[Fault("unprepared")], [failure(ErrorCode.IS_BOOTSTRAPPING)]] * 5
    stamps: dict[int, int] = {}
    script = Faulty(cluster, faults)

    def answer(request: FakeRequest) -> Response | None:
        message: Any = request.message
        stamps[request.number] = message.parameters.timestamp
        return script.answer(request)

    cluster.answer = answer
    async with session_on(cluster, max_in_flight=4) as session:
        await connected(session, cluster.hosts)
        prepared = await session.prepare(INSERT)

        def rows() -> Iterator[tuple[int, int]]:
            for number in range(30):
                if number == 20:
                    prepared._statement.outdate()
                yield (number, number)

        done = await session.execute_many(prepared, rows(), idempotent=idempotent)
        assert done.count == 30
        in_order = [stamps[row] for row in range(30)]
        assert in_order == sorted(set(in_order))
