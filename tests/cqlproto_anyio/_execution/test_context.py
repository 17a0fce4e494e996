"""What the calls of a session share: waiting for a connection, notes of replies, schema, clock."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import encoder, parse_type
from cqlproto.messages import SchemaChange
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._execution import context as context_module
from cqlproto_anyio._execution.context import SessionContext
from cqlproto_anyio._metadata.tablets import PAYLOAD_KEY, Tablet
from cqlproto_anyio._settings.profile import DEFAULTS
from cqlproto_anyio._settings.resolved import Settings
from cqlproto_anyio.policies.timestamps import ClockBehind, Timestamps
from tests.support.cluster_sessions import SELECT, living_tasks
from tests.support.fakecluster import FakeCluster
from tests.support.server import start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._statements.statement import Statement

_encode = encoder(parse_type("tuple<bigint, bigint, list<tuple<uuid, int>>>"))

SECOND = 1_700_000_000_000_000_000
MINUTE = cql.ConstantReconnection(60.0, jitter=0.0)


@asynccontextmanager
async def context_on(cluster: FakeCluster, **fields: Any) -> AsyncIterator[SessionContext]:
    """A context that is connected to all hosts of a cluster."""
    before = living_tasks()
    fields.setdefault("reconnection", MINUTE)
    context = SessionContext(
        [host.endpoint for host in cluster.hosts],
        backend=current_backend(),
        made_at=("here.py", 1),
        config=cluster.config(**fields),
        auth=None,
        tls=None,
        keyspace=None,
        local_dc=None,
    )
    await context.supervisor.start()
    try:
        await until(lambda: all(pool.connections for pool in context.cluster.all_pools))
        yield context
    finally:
        await context.supervisor.aclose()
    assert not cluster.connections
    assert living_tasks() == before


def request_of(context: SessionContext, timeout: float = 60.0) -> Request:
    request = context.request_class(SELECT, timeout)
    request.deadline = context.timer.deadline(timeout)
    return request


async def prepared(context: SessionContext, query: str = SELECT) -> Statement:
    """Prepare a statement."""
    connection = await first_connection(context)
    settings = Settings(DEFAULTS, context.wires, None)
    outcome = await context.preparer.prepared(
        query, settings, context.timer.deadline(60.0), connection
    )
    assert outcome.statement is not None
    return outcome.statement


async def first_connection(context: SessionContext) -> Connection:
    return await context.any_connection(SELECT, None, context.timer.deadline(60.0))


async def lose(context: SessionContext, cluster: FakeCluster) -> None:
    """Break all connections, for a while."""
    for host in cluster.hosts:
        host.vanish()
        host.cut()
    await until(lambda: not context.statistics().connections)


# -- connections


async def test_a_connection_is_there_or_is_waited_for() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with context_on(cluster, discovery=False, connect_timeout=0.05) as context:
        began = anyio.current_time()
        connection = await first_connection(context)
        assert anyio.current_time() == began
        assert connection.endpoint == host.endpoint
        await lose(context, cluster)
        async with anyio.create_task_group() as group:
            call = start(group, lambda: first_connection(context))
            await turns()
            assert not call.done
            host.revive()
            context.cluster.host_up(host.endpoint)
            await until(lambda: call.done)
        assert call.result.lost is None
        assert call.result is not connection


async def test_nobody_waits_for_a_connection_beyond_the_deadline() -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster, discovery=False, connect_timeout=60.0) as context:
        await lose(context, cluster)
        began = anyio.current_time()
        with pytest.raises(cql.RequestTimeout, match=r"within 0.5 s: SELECT w") as caught:
            await context.any_connection("SELECT w", 0.5, context.timer.deadline(0.25))
        assert anyio.current_time() - began == pytest.approx(0.25)
        assert caught.value.timeout == 0.5


async def test_closing_ends_the_wait_for_a_connection() -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster, discovery=False, connect_timeout=60.0) as context:
        await lose(context, cluster)
        async with anyio.create_task_group() as group:
            call = start(group, lambda: first_connection(context))
            await turns()
            await context.supervisor.aclose()
        assert isinstance(call.error, cql.SessionClosed)
        with pytest.raises(cql.SessionClosed):
            await first_connection(context)


async def test_a_connection_is_chosen_for_the_values() -> None:
    keyspaces = {"ks": {"class": "SimpleStrategy", "replication_factor": "1"}}
    cluster = FakeCluster(4, keyspaces=keyspaces)
    async with context_on(cluster) as context:
        statement = await prepared(context)
        deadline = context.timer.deadline(60.0)
        choices = {
            key: {
                (await context.any_connection(SELECT, None, deadline, statement, (key,))).name
                for _ in range(5)
            }
            for key in range(20)
        }
        assert {len(hosts) for hosts in choices.values()} == {1}
        assert len(set.union(*choices.values())) == 4


async def test_a_host_that_is_slow_to_prepare_is_helped_by_another() -> None:
    cluster = FakeCluster(2)
    async with context_on(cluster, control_timeout=5.0) as context:
        slow = await first_connection(context)
        other = context.preparer.other([slow])
        assert other is not None
        assert other.endpoint != slow.endpoint
        assert context.preparer.other([slow, other]) is None
        other.owner = None  # as a connection that is in no pool
        assert context.preparer.other([other]) is not None


# -- replies


def reply(warnings: tuple[str, ...] = (), payload: dict[str, bytes] | None = None) -> Any:
    return cast("ResponseReceived", SimpleNamespace(warnings=warnings, payload=payload))


async def test_warnings_are_logged_with_the_request(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster) as context:
        request = request_of(context)
        request.connection = await first_connection(context)
        context.take_notes(request, reply())
        assert not caplog.records
        context.take_notes(request, reply(("too many tombstones",)))
        [record] = caplog.records
        assert str(cluster.hosts[0]) in record.getMessage()
        assert "too many tombstones" in record.getMessage()
        assert SELECT in record.getMessage()


async def test_tablets_are_learned_for_the_statement() -> None:
    cluster = FakeCluster(1)
    payload = {PAYLOAD_KEY: bytes(_encode((0, 9, [(cluster.hosts[0].host_id, 0)])))}
    async with context_on(cluster) as context:
        request = request_of(context)
        tablets = context.cluster.selector.tablets
        context.take_notes(request, reply(payload=payload))
        assert len(tablets) == 0
        request.statement = await prepared(context)
        context.take_notes(request, reply(payload=payload))
        assert ("ks", "t") in tablets


# -- the schema


@pytest.mark.parametrize(
    ("target", "name", "left"),
    [
        ("KEYSPACE", None, {("other", "t")}),
        ("TABLE", "t", {("ks", "u"), ("other", "t")}),
        ("TABLE", None, {("ks", "t"), ("ks", "u"), ("other", "t")}),
        ("TYPE", "t", {("ks", "t"), ("ks", "u"), ("other", "t")}),
    ],
)
async def test_what_a_change_of_the_schema_outdates(
    target: str, name: str | None, left: set[tuple[str, str]]
) -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster) as context:
        tablets = context.cluster.selector.tablets
        tables = {("ks", "t"), ("ks", "u"), ("other", "t")}
        for keyspace, table in tables:
            tablets.learn(keyspace, table, Tablet(0, 9, ((cluster.hosts[0].host_id, 0),)))
        statement = await prepared(context)
        context.cluster.schema_changed(SchemaChange("DROPPED", target, "elsewhere", name))
        assert not statement.stale
        context.cluster.schema_changed(SchemaChange("DROPPED", target, "ks", name))
        assert statement.stale
        assert {table for table in tables if table in tablets} == left


CHANGE = SchemaChange("CREATED", "TABLE", "ks", "new")


async def test_hosts_agree_on_a_change() -> None:
    cluster = FakeCluster(2)
    async with context_on(cluster) as context:
        connection = await first_connection(context)
        statement = await prepared(context)
        cluster.set_schema_version(cluster.hosts[1])
        async with anyio.create_task_group() as group:
            deadline = context.timer.deadline(60.0)
            call = start(group, lambda: context.agree(CHANGE, connection, deadline))
            await turns()
            assert statement.stale
            # prepared at a host that may not have heard of the change
            statement = await prepared(context)
            assert not statement.stale
            cluster.set_schema_version()
        assert call.result is True
        assert statement.stale


@pytest.mark.parametrize(
    ("setting", "left", "took"), [(0.3, 60.0, 0.3), (60.0, 0.2, 0.2), (60.0, -5.0, 0.0)]
)
async def test_agreement_is_bounded(setting: float, left: float, took: float) -> None:
    cluster = FakeCluster(2)
    async with context_on(cluster, schema_agreement_timeout=setting) as context:
        cluster.set_schema_version(cluster.hosts[1])
        began = anyio.current_time()
        deadline = context.timer.clock() + left
        assert await context.agree(CHANGE, None, deadline) is False
        assert anyio.current_time() - began == pytest.approx(took)


@pytest.mark.parametrize("fields", [{"discovery": False}, {"schema_agreement_timeout": 0}])
async def test_hosts_that_are_not_asked(fields: dict[str, Any]) -> None:
    cluster = FakeCluster(2)
    async with context_on(cluster, **fields) as context:
        statement = await prepared(context)
        assert await context.agree(CHANGE, None, context.timer.deadline(60.0)) is None
        assert statement.stale


# -- the clock


class Clock:
    """A wall clock that follows the event loop's, with an offset.

    Attributes:
        offset: in nanoseconds; the clock was set back if it falls.
    """

    def __init__(self) -> None:
        self.offset = SECOND - round(anyio.current_time() * 1e9)

    def __call__(self) -> int:
        return self.offset + round(anyio.current_time() * 1e9)


def on_clock(context: SessionContext) -> Clock:
    """Let a context make timestamps from a clock that the test can set."""
    clock = Clock()
    context.stamps = Timestamps(clock, lambda ahead: None)
    return clock


async def waited(context: SessionContext, timeout: float = 60.0) -> float:
    """Return how long a conditional statement waits, in seconds."""
    began = anyio.current_time()
    await context.outlast_writes(request_of(context, timeout))
    return anyio.current_time() - began


async def test_a_conditional_statement_outlasts_the_millisecond_of_a_write() -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster) as context:
        on_clock(context)
        assert await waited(context) == 0.0
        await anyio.sleep(0.0004)
        context.stamps.fresh()
        assert await waited(context) == pytest.approx(0.0006, abs=1e-6)
        assert await waited(context) == 0.0


async def test_a_conditional_statement_outlasts_a_clock_that_was_set_back() -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster) as context:
        clock = on_clock(context)
        context.stamps.fresh()
        clock.offset -= 500_000_000
        assert await waited(context) == pytest.approx(0.501, abs=1e-6)
        context.stamps.fresh()
        clock.offset -= 500_000_000
        with pytest.raises(cql.ClockDrifted) as caught:
            await waited(context, timeout=0.4)
        assert caught.value.drift == pytest.approx(0.501, abs=1e-6)
        await anyio.sleep(0.4999)
        with pytest.raises(cql.RequestTimeout):  # a drift of a millisecond is none
            await waited(context, timeout=0.0005)
        context.stamps.fresh()
        clock.offset -= 1_100_000_000
        with pytest.raises(cql.ClockDrifted):
            await waited(context)


async def test_a_clock_that_is_set_back_all_the_time_is_waited_for_a_second() -> None:
    cluster = FakeCluster(1)
    async with context_on(cluster) as context:
        clock = on_clock(context)
        context.stamps.fresh()

        async def set_back() -> None:
            while True:
                clock.offset -= 100_000_000
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as group:
            group.start_soon(set_back)
            await turns()
            took = await waited(context)
            group.cancel_scope.cancel()
        assert 1.0 <= took < 1.2


class Drift(cql.Hooks):
    def __init__(self) -> None:
        self.told: list[tuple[float, bool]] = []

    def clock_drifted(self, record: cql.ClockRecord) -> None:
        self.told.append((record.drift, record.stamping))


async def test_a_clock_that_was_set_back_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(context_module, "time_ns", clock)
    cluster, hooks = FakeCluster(1), Drift()
    async with context_on(cluster, hooks=hooks) as context:
        assert context.timestamps is not None
        first = context.timestamps()
        clock.offset -= 1_000_000_000 - 1_000
        assert context.timestamps() == first + 1
        [(drift, makes)] = hooks.told
        assert drift == pytest.approx(1.0)
        assert makes
        assert "timestamps go on from that one" in caplog.text
        clock.offset -= 2_000_000_000
        with pytest.raises(ClockBehind):
            context.timestamps()
        drift, makes = hooks.told[1]
        assert drift == pytest.approx(3.0)
        assert not makes
        assert "the nodes make the timestamps" in caplog.text


async def test_timestamps_that_the_servers_make() -> None:
    async with context_on(FakeCluster(1), client_timestamps=False) as context:
        assert context.timestamps is None


# -- statistics


async def test_statistics() -> None:
    cluster = FakeCluster(2)
    async with context_on(cluster) as context:
        found = context.statistics()
        assert (found.prepared, found.retries, found.speculative) == (0, 0, 0)
        await prepared(context)
        context.retries, context.speculative = 3, 4
        found = context.statistics()
        assert {each.address for each in found.hosts} == {str(host) for host in cluster.hosts}
        assert found.control in {str(host) for host in cluster.hosts}
        assert (found.prepared, found.retries, found.speculative) == (1, 3, 4)
    async with context_on(cluster, discovery=False) as context:
        assert context.statistics().control is None
