"""Attempts at one host after another: no unsafe repetition, and correct errors.

The property at the top draws the outcome of each attempt. The hosts count what they have applied,
and the test compares the count with the call's result or error. Timeouts are long unless a reply is
dropped, so that no outcome depends on the machine's load.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto.messages import Error, Rows
from cqlproto_anyio.policies import ConstantReconnection, Retry
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, replicas, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.fakehosts import V_METADATA, FakeRequest
from tests.support.faults import (
    CODES,
    PROVED,
    SUCCESS,
    Fault,
    Script,
    failure,
    preparing,
    settled,
)
from tests.support.server import idle

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from cqlproto_anyio.exceptions import CQLError
    from tests.support.fakecluster import FakeHost, FakeRequest

COUNTER = "UPDATE ks.c SET v = v + ? WHERE k = ?"
QUICK = cql.DefaultRetry(overload_delay=0.001, schema_delay=0.001)
LONG = 30.0  # seconds; longer than any call takes
SHORT = 0.02  # for a reply that never comes


class Greedy(NamedTuple):
    """Repeats every request, however unsafe."""

    next_host: bool
    delay: float = 0.0
    most: int = 6

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        return Retry(self.next_host, self.delay) if attempt < self.most else None


class Kind(NamedTuple):
    """A kind of statement.

    Attributes:
        call: sends it.
        repeatable: whether executing it twice is safe.
        reads: whether it only reads.
    """

    call: Callable[..., Awaitable[Any]]
    repeatable: bool = False
    reads: bool = False


def execute(query: str, parameters: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
    return lambda session, **options: session.execute(query, parameters, **more, **options)


def batch(*items: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
    return lambda session, **options: session.batch(items, **more, **options)


KINDS = {
    "select": Kind(execute(SELECT, (1,)), repeatable=True, reads=True),
    "plain select": Kind(execute("SELECT v FROM ks.t", None), repeatable=True, reads=True),
    "page": Kind(
        lambda session, **options: session.page(SELECT, (1,), **options),
        repeatable=True,
        reads=True,
    ),
    "insert": Kind(execute(INSERT, (1, 2))),
    "plain insert": Kind(execute("INSERT INTO ks.t (k, v) VALUES (1, 2)", None)),
    "traced insert": Kind(execute(INSERT, (1, 2), trace=True)),
    "idempotent insert": Kind(execute(INSERT, (1, 2), idempotent=True), repeatable=True),
    "lwt": Kind(execute(LWT, (1, 2))),
    "lwt called idempotent": Kind(execute(LWT, (1, 2), idempotent=True)),
    "batch": Kind(batch((INSERT, (1, 2)), "INSERT INTO ks.t (k, v) VALUES (3, 4)")),
    "idempotent batch": Kind(batch((INSERT, (1, 2)), idempotent=True), repeatable=True),
    "conditional batch": Kind(batch((LWT, (1, 2)), kind="unlogged", idempotent=True)),
    "counter": Kind(execute(COUNTER, (1, 2))),
    "counter batch": Kind(batch((COUNTER, (1, 2)), kind="counter")),
}


def _broken(way: str, applied: bool) -> Fault:
    return Fault(way, applied=applied or way == "half")


def _refused(code: int, applied: bool) -> Fault:
    return Fault("error", code, applied and code not in PROVED)


FAULTS = st.one_of(
    st.builds(_refused, st.sampled_from(CODES), st.booleans()),
    st.builds(_broken, st.sampled_from(["cut", "close", "half", "drop"]), st.booleans()),
    st.just(Fault("unprepared")),
    st.just(SUCCESS),
)


def consistent(kind: Kind, name: str, faults: list[Fault]) -> list[Fault]:
    """A single partition: UNAVAILABLE is found out before any write."""
    one_partition = "batch" not in name and "lwt" not in name
    return [
        fault._replace(applied=False)
        if fault.code == ErrorCode.UNAVAILABLE and one_partition
        else fault
        for fault in faults
    ]


POLICIES = [
    QUICK,
    cql.NoRetry(),
    Greedy(True),
    Greedy(False),
    Greedy(True, delay=0.001, most=8),
]


def attempts_of(error: CQLError) -> list[CQLError]:
    """Return the failure of each attempt, the last one included."""
    attempts = list(error.attempts) or [error]
    assert all(isinstance(each, cql.CQLError) for each in attempts)
    return cast("list[CQLError]", attempts)


def judge(kind: Kind, script: Script, error: BaseException | None) -> None:
    """Compare the call's outcome with what the hosts have applied."""
    met = [(host, fault) for host, fault in script.attempts if fault.way != "unprepared"]
    if not kind.repeatable:
        assert script.applied <= 1
    if error is None:
        assert met
        assert met[-1][1] == SUCCESS
        if not kind.reads:
            assert script.applied
        return
    assert isinstance(error, cql.CQLError)
    if kind.reads:
        assert not error.maybe_applied
    elif script.applied:
        assert error.maybe_applied
    told = attempts_of(error)
    failed = [(host, fault) for host, fault in met if fault != SUCCESS]
    told = [each for each in told if not isinstance(each, cql.Unprepared)]
    if len(told) > len(failed) and isinstance(told[-1], cql.RequestTimeout):
        told.pop()  # a busy machine: the deadline passed before a host read the request
    elif all(fault.proved for _, fault in met):
        assert not error.maybe_applied
    assert [each.host for each in told] == [str(host) for host, _ in failed]
    for each, (_, fault) in zip(told, failed, strict=True):
        if fault.way == "drop":
            assert isinstance(each, cql.RequestTimeout)
        elif isinstance(each, cql.RequestTimeout):  # before the client saw the failure
            assert each is told[-1]
            assert each.timeout == SHORT
        elif fault.way == "error":
            assert isinstance(each, cql.DatabaseError)
            assert each.code == fault.code
        else:
            assert isinstance(each, cql.ConnectionLost)
        if not kind.reads and fault.applied:
            assert each.maybe_applied
    if isinstance(error, cql.NoHostAvailable):
        assert all(isinstance(each, cql.ConnectionFailed) for each in told)
        assert all(str(each) in str(error) for each in told)
    elif not isinstance(error, cql.RequestTimeout):  # it may have waited to connect
        assert error.host == attempts_of(error)[-1].host


@settings(max_examples=150)
@given(
    name=st.sampled_from(list(KINDS)),
    faults=st.lists(FAULTS, max_size=5),
    policy=st.sampled_from(POLICIES),
    version=st.sampled_from([ProtocolVersion.V5, ProtocolVersion.V4]),
    pushes=st.booleans(),
)
async def test_nothing_is_applied_twice(
    name: str, faults: list[Fault], policy: Any, version: ProtocolVersion, pushes: bool
) -> None:
    kind = KINDS[name]
    cluster = FakeCluster(3)
    cluster.pushes = pushes
    script = Script(cluster, consistent(kind, name, faults))
    drops = any(fault.way == "drop" for fault in faults)
    timeout = SHORT if drops else LONG
    async with session_on(cluster, protocol_version=version, max_orphans=100) as session:
        await connected(session, cluster.hosts)
        error: BaseException | None = None
        with anyio.fail_after(10):
            try:
                await kind.call(session, retry=policy, timeout=timeout)
            except cql.CQLError as exc:
                error = exc
        judge(kind, script, error)
        await settled(session)


# -- where attempts go


@pytest.mark.parametrize("name", ["select", "plain select", "insert", "batch", "lwt"])
async def test_each_host_once_and_then_no_more(name: str) -> None:
    """A refused request goes to each host once; the error lists all refusals."""
    cluster = FakeCluster(4)
    script = Script(cluster, [failure(ErrorCode.IS_BOOTSTRAPPING)] * 9)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.IsBootstrapping) as caught:
            await KINDS[name].call(session, retry=Greedy(True, most=9))
        assert len(script.hosts) == 4
        assert set(script.hosts) == set(cluster.hosts)
        error = caught.value
        assert [each.host for each in attempts_of(error)] == [str(host) for host in script.hosts]
        assert error.attempts[-1] is error
        assert not error.maybe_applied
        assert session.statistics().retries == 3
        await settled(session)


async def test_replicas_come_before_others() -> None:
    cluster = FakeCluster(
        6, keyspaces={"ks": {"class": "SimpleStrategy", "replication_factor": "2"}}
    )
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for key in range(30):
            script = Script(cluster, [failure(ErrorCode.IS_BOOTSTRAPPING)] * 3)
            await session.execute(SELECT, (key,))
            assert set(script.hosts[:2]) == set(replicas(cluster, key))
            assert len(set(script.hosts)) == 4


async def test_what_passes_with_time_starts_again_at_the_first_host() -> None:
    cluster = FakeCluster(2)
    script = Script(cluster, [failure(ErrorCode.OVERLOADED)] * 3)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        result = await session.execute(SELECT, (1,), retry=QUICK)
        assert result.one().v == 1
        assert len(script.hosts) == 4
        assert set(script.hosts[:2]) == set(script.hosts[2:]) == set(cluster.hosts)
        assert [type(each) for each in result.attempts] == [cql.ServerOverloaded] * 3
        assert result.host == str(script.hosts[-1])


async def test_the_same_host_again() -> None:
    cluster = FakeCluster(3)
    timed_out = failure(ErrorCode.READ_TIMEOUT, received=2, required=2, data_present=False)
    script = Script(cluster, [timed_out])
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        result = await session.execute(SELECT, (1,))
        assert result.one().v == 1
        assert len(script.hosts) == 2
        assert len(set(script.hosts)) == 1


async def test_the_same_host_is_gone_and_the_next_is_asked() -> None:
    cluster = FakeCluster(2)
    script = Script(cluster, [Fault("cut")])
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,), retry=Greedy(False))
        assert len(set(script.hosts)) == 2


@pytest.mark.parametrize("way", ["cut", "close", "half"])
async def test_every_host_breaks(way: str) -> None:
    """The error names each attempt: the host, the stage and the reason."""
    cluster = FakeCluster(3)
    script = Script(cluster, [Fault(way)] * 3)
    async with session_on(cluster, reconnection=ConstantReconnection(60, 0)) as session:
        await connected(session, cluster.hosts)
        policy = cql.DefaultRetry(max_attempts=3)
        with pytest.raises(cql.NoHostAvailable) as caught:
            await session.execute(INSERT, (1, 2), idempotent=True, retry=policy)
        error = caught.value
        assert len(error.attempts) == 3
        assert error.maybe_applied
        lines = str(error).splitlines()
        assert lines[0].startswith("no host is available, 3 tried")
        for line, host in zip(lines[1:], script.hosts, strict=True):
            assert "ConnectionLost" in line
            assert str(host) in line
            assert "request failed after" in line
        await settled(session)


async def test_the_first_host_is_lost_and_the_others_are_down() -> None:
    """The call waits for a new connection to the first host."""
    cluster = FakeCluster(2)
    Script(cluster, [Fault("cut", applied=True)])
    async with session_on(cluster, reconnection=ConstantReconnection(60, 0)) as session:
        await connected(session, cluster.hosts)
        cluster.hosts[1].kill()
        await connected(session, cluster.hosts[:1])
        result = await session.execute(INSERT, (1, 2), idempotent=True)
        assert result.host == str(cluster.hosts[0])
        assert [type(each) for each in result.attempts] == [cql.ConnectionLost]


async def test_all_hosts_are_gone_for_good() -> None:
    cluster = FakeCluster(2)

    def kill_all(request: FakeRequest) -> None:
        for host in cluster.hosts:
            host.kill()

    async with session_on(cluster, reconnection=ConstantReconnection(60, 0)) as session:
        await connected(session, cluster.hosts)
        cluster.answers["gone.t"] = kill_all
        with pytest.raises(cql.ConnectionLost) as caught:
            await session.execute("SELECT v FROM gone.t")
        assert caught.value.maybe_applied is False


# -- one deadline for all attempts


async def test_a_wait_before_a_retry_counts() -> None:
    """The deadline passes during the pause; the error lists the attempt before the pause."""
    cluster = FakeCluster(3)
    script = Script(cluster, [failure(ErrorCode.OVERLOADED, applied=True)])
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        policy = cql.DefaultRetry(overload_delay=60)
        with pytest.raises(cql.RequestTimeout) as caught, anyio.fail_after(10):
            await session.execute(INSERT, (1, 2), idempotent=True, retry=policy, timeout=0.05)
        assert len(script.attempts) == 1
        error = caught.value
        assert [type(each) for each in error.attempts] == [cql.ServerOverloaded]
        assert error.maybe_applied
        await settled(session)


async def test_all_attempts_share_the_time() -> None:
    """Each host would answer within the whole timeout, but not within what is left of it."""
    cluster = FakeCluster(3)
    script = Script(cluster, [failure(ErrorCode.IS_BOOTSTRAPPING)] * 2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.latency = 0.2
        with pytest.raises(cql.RequestTimeout) as caught, anyio.fail_after(10):
            await session.execute("SELECT v FROM ks.t", timeout=0.3)
        assert len(script.attempts) <= 2
        told = caught.value.attempts
        assert [type(each) for each in told] == [cql.IsBootstrapping, cql.RequestTimeout]
        assert [each.host for each in attempts_of(caught.value)] == [
            str(host) for host in script.hosts
        ]
        for host in cluster.hosts:
            host.latency = 0
        await idle(session)


async def test_a_wait_for_a_connection_counts() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    script = Script(cluster)
    async with session_on(cluster, connect_timeout=60.0) as session:
        await connected(session, cluster.hosts)
        host.vanish()
        host.cut()
        await connected(session, [])
        for name, kind in KINDS.items():
            with pytest.raises(cql.RequestTimeout) as caught, anyio.fail_after(10):
                await kind.call(session, timeout=0.02)
            assert not caught.value.maybe_applied, name
            assert not caught.value.attempts, name
            await settled(session)
        assert not script.attempts
        host.kill()


async def test_preparing_on_several_hosts_counts() -> None:
    cluster = FakeCluster(3)
    Script(cluster)
    prepares = 0

    def count(request: FakeRequest) -> None:
        nonlocal prepares
        prepares += 1
        if prepares < 3:
            request.connection.cut()
        else:
            request.host.pause()

    async with session_on(cluster, reconnection=ConstantReconnection(60, 0)) as session:
        await connected(session, cluster.hosts)
        with (
            preparing(cluster, count),
            anyio.fail_after(10),
            pytest.raises(cql.RequestTimeout) as caught,
        ):
            await session.execute(INSERT, (1, 2), timeout=0.1)
        assert prepares == 3
        assert not caught.value.maybe_applied
        assert [type(each) for each in caught.value.attempts] == [
            *[cql.ConnectionLost] * 2,
            cql.RequestTimeout,
        ]
        for host in cluster.hosts:
            host.resume()
        await idle(session)


async def test_all_pages_of_execute_share_the_time() -> None:
    cluster = FakeCluster(1)
    pages = 0

    def endless(request: FakeRequest) -> Response:
        nonlocal pages
        pages += 1
        page = row_v(pages)
        return Rows.of(V_METADATA, 1, page.content, paging_state=b"%d" % pages)

    cluster.answer = endless
    async with session_on(cluster) as session:
        cluster.hosts[0].latency = 0.01
        with pytest.raises(cql.RequestTimeout), anyio.fail_after(10):
            await session.execute("SELECT v FROM ks.t", timeout=0.2)
        assert 1 < pages <= 21
        cluster.hosts[0].latency = 0
        await idle(session)


async def test_each_page_may_be_tried_at_every_host() -> None:
    cluster = FakeCluster(3)
    refused: list[FakeHost] = []
    pages = 0

    def answer(request: FakeRequest) -> Response:
        nonlocal pages
        if len(refused) < 2:
            refused.append(request.host)
            return Error(ErrorCode.IS_BOOTSTRAPPING, "not yet")
        assert request.host not in refused
        refused.clear()
        pages += 1
        state = b"%d" % pages if pages < 5 else None
        return Rows.of(V_METADATA, 1, row_v(pages).content, paging_state=state)

    cluster.answer = answer
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        result = await session.execute("SELECT v FROM ks.t")
        assert [row.v for row in result] == [1, 2, 3, 4, 5]
        assert [type(each) for each in result.attempts] == [cql.IsBootstrapping] * 10
        pages = 0
        stream = session.stream("SELECT v FROM ks.t")
        assert [row.v async for row in stream] == [1, 2, 3, 4, 5]
        assert session.statistics().retries == 20
        await settled(session)
