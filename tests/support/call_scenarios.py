"""All awaits of a session's user, as scenarios on a cluster in memory.

Each scenario waits for everything that its kind of call can wait for: a connection, an answer,
further pages, a statement that a host has forgotten, a pause before the next attempt, a second
host, schema agreement, the clock. ``World`` is the cluster and a session on it, and checks that
nothing under way is left.
"""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import encoder, parse_type
from cqlproto.enums import ErrorCode, ProtocolVersion
from cqlproto.messages import (
    VOID,
    Batch,
    BindMetadata,
    Column,
    Error,
    Prepared,
    ResultMetadata,
    Rows,
    SchemaChange,
)
from cqlproto_anyio import lwt as settling
from cqlproto_anyio._cluster import control_connection as control
from cqlproto_anyio._cluster import schema_agreement as agreement
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import INSERT, LWT, SELECT, living_tasks
from tests.support.control_connection import PACE
from tests.support.fakecluster import FakeCluster
from tests.support.fakehosts import V_METADATA
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cqlproto.messages import Prepare, Response
    from tests.support.fakehosts import FakeRequest

__all__ = ["SCENARIOS", "World", "paced", "world"]

TRACE = uuid.UUID("36b0a3e0-e5c5-11f1-862f-41340b5282c6")

PROFILE = cql.Profile(
    idempotent=True,
    retry=cql.DefaultRetry(overload_delay=0.002),
    speculation=cql.ConstantSpeculation(0.002, attempts=2),
)

# The fast path of bulk execution has no second attempts.
FAST: Any = {"speculation": None}

AT_ONCE = cql.ConstantReconnection(0.002, jitter=0.0)
"""Connections are lost hundreds of times. With ``connect_delay`` reconnecting takes longer than the
pauses of ``until``, so that it sees the hosts without connections."""


class Cluster(FakeCluster):
    """A session whose traces are found by their ids."""

    def _prepare(self, request: FakeRequest, message: Prepare) -> Response:
        described = super()._prepare(request, message)
        if "system_traces." in message.query:
            assert isinstance(described, Prepared)
            key = Column("system_traces", "sessions", "session_id", parse_type("uuid"))
            described.bind = BindMetadata((key,), (0,))
        return described


class World:
    """A cluster of three hosts, and a session.

    Attributes:
        cluster: the hosts.
        session: the session, after :meth:`begin`.
        unique: a new number each time, so that statements are new each time.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.session: cql.Session
        self.unique = 0
        self._tasks = 0
        self._attempts: Counter[object] = Counter()
        cluster.answer = self._answer
        cluster.answers["system_traces.sessions"] = self._trace
        cluster.answers["system_traces.events"] = lambda request: _rows(
            {"event_id": "timeuuid"}, []
        )

    async def begin(self, session: cql.Session) -> None:
        """Use a session and wait until it is idle."""
        self.session = session
        await until(self._is_connected)
        self._tasks = living_tasks()
        await self.rest()

    # -- the hosts' replies

    def _answer(self, request: FakeRequest) -> Response | None:
        text = request.text
        if isinstance(request.message, Batch):
            return VOID
        attempt: tuple[object, ...] = (text, *request.values, self._state(request))
        self._attempts[attempt] += 1
        count = self._attempts[attempt]
        if "overloaded" in text and count < 3:
            return Error(ErrorCode.OVERLOADED, "too much to do", {})
        if "slow" in text and count == 1 and self._is_connected():  # another host is left to ask
            return None
        if "schema" in text:
            return SchemaChange("UPDATED", "TABLE", "ks", "t")
        if "pages" in text:
            number = int(self._state(request) or b"0")
            following = b"%d" % (number + 1) if number < 2 else None
            return Rows.of(
                V_METADATA, 1, b"\0\0\0\x04\0\0\0" + bytes([number]), paging_state=following
            )
        if "traced" in text:
            request.reply(self.cluster.usual_answer(request), tracing_id=TRACE)
            return None
        return self.cluster.usual_answer(request)

    @staticmethod
    def _state(request: FakeRequest) -> bytes | None:
        message: Any = request.message
        state: bytes | None = message.parameters.paging_state
        return state

    def _trace(self, request: FakeRequest) -> Response:
        """Return a trace that is complete at the third read."""
        self._attempts["trace"] += 1
        complete = self._attempts["trace"] % 3 == 0
        return _rows(
            {
                "command": "text",
                "client": "inet",
                "coordinator": "inet",
                "duration": "int",
                "parameters": "map<text, text>",
                "request": "text",
                "started_at": "timestamp",
            },
            [{"command": "QUERY", "duration": 5 if complete else None}],
        )

    # -- work that is left

    async def rest(self) -> None:
        """Answer all requests, and wait until nothing under way is left."""
        await until(lambda: self._is_over() and not self.left())
        assert not self.cluster.errors

    def check_given_up(self) -> None:
        """An abandoned request is an orphan at once, before its reply comes."""
        for each in snapshot(self.session).connections:
            assert each.in_flight == each.requests + each.orphans

    def _is_over(self) -> bool:
        waiting, self.cluster.waiting = self.cluster.waiting, []
        for request in waiting:
            if "traced" not in request.text:  # that request was answered
                request.reply(self.cluster.usual_answer(request))
        return not waiting and self._is_connected()

    def _is_connected(self) -> bool:
        """Return whether each host has a connection, beside the control connection."""
        statistics = self.session.statistics()
        each = [host.connections for host in statistics.hosts]
        return (
            each == [1, 1, 1]
            and statistics.control is not None
            and not any(host.connecting for host in statistics.hosts)
            and len(self.cluster.connections) == 4
            and not self.cluster.connecting
        )

    def left(self) -> dict[str, object]:
        """Return the kinds of work under way, and how much of each."""
        now = snapshot(self.session)
        everything = now.connections
        left = {
            "tasks": living_tasks() - self._tasks,
            "connections": len(self.cluster.connections) - len(everything),
            "draining": now.draining,
            "stream ids": sum(each.in_flight for each in everything),
            "requests": sum(each.requests for each in everything),
            "orphans": sum(each.orphans for each in everything),
            "in turn": sum(each.waiting for each in everything),
            "deadlines": now.deadlines,
            "alarms": now.alarms,
            "waiting calls": now.waiting_calls,
            "pauses": now.pausing,
            "preparing": len(now.preparing),
        }
        return {name: count for name, count in left.items() if count}

    def ended(self) -> dict[str, object]:
        """Return what is left of a closed session."""
        left = self.left()
        del left["tasks"]
        return left


def _rows(described: dict[str, str], rows: list[dict[str, Any]]) -> Rows:
    columns = [Column("ks", "t", name, parse_type(kind)) for name, kind in described.items()]
    content = b""
    for row in rows:
        for column in columns:
            value = row.get(column.name)
            if value is None:
                content += b"\xff\xff\xff\xff"
            else:
                data = encoder(column.type)(value)
                content += len(data).to_bytes(4, "big") + data
    return Rows.of(ResultMetadata.of(columns, ProtocolVersion.V4), len(rows), content)


# -- the calls. Each is awaited as a whole, step by step.


async def execute(world: World) -> None:
    """Three pages; every host has forgotten the statement when it is executed the second time."""
    query = f"SELECT v FROM ks.pages{world.unique} WHERE k = ?"
    result = await world.session.execute(query, (1,))
    assert [row.v for row in result] == [0, 1, 2]
    for host in world.cluster.hosts:
        host.prepared.clear()
    result = await world.session.execute(query, (2,))
    assert [row.v for row in result] == [0, 1, 2]


async def execute_text(world: World) -> None:
    result = await world.session.execute(f"SELECT v FROM ks.pages{world.unique}")
    assert [row.v for row in result] == [0, 1, 2]


async def page(world: World) -> None:
    query = f"SELECT v FROM ks.pages{world.unique} WHERE k = ?"
    first = await world.session.page(query, (1,))
    second = await world.session.page(query, (1,), token=first.next_token)
    assert [row.v for row in second] == [1]


async def stream(world: World) -> None:
    rows = world.session.stream(f"SELECT v FROM ks.pages{world.unique} WHERE k = ?", (1,))
    assert [row.v async for row in rows] == [0, 1, 2]


async def stream_of_text(world: World) -> None:
    rows = world.session.stream(f"SELECT v FROM ks.pages{world.unique} -- overloaded")
    assert [page async for page in rows.pages()] == [[(0,)], [(1,)], [(2,)]]


async def batch(world: World) -> None:
    """Statements that the hosts must prepare, one after the other."""
    items = [(f"INSERT INTO ks.t{world.unique}_{n} (k) VALUES (?)", (1,)) for n in range(3)]
    await world.session.batch(items)
    for host in world.cluster.hosts:
        host.prepared.clear()
    await world.session.batch(items)


async def prepare(world: World) -> None:
    await world.session.prepare(f"SELECT v FROM ks.t{world.unique}")


async def retry(world: World) -> None:
    query = f"SELECT v FROM ks.overloaded{world.unique} WHERE k = ?"
    result = await world.session.execute(query, (7,))
    assert [row.v for row in result] == [7]


async def speculate(world: World) -> None:
    query = f"SELECT v FROM ks.slow{world.unique} WHERE k = ?"
    result = await world.session.execute(query, (7,))
    assert [row.v for row in result] == [7]


async def conditional(world: World) -> None:
    """A conditional statement waits until the servers' clocks have passed a write's timestamp."""
    await world.session.execute(INSERT, (1, 2))
    await world.session.execute(LWT, (1, 2))


async def change_schema(world: World) -> None:
    """The other hosts have the schema at the third read."""
    cluster = world.cluster
    last = cluster.hosts[-1]
    reads = 0

    def look(request: FakeRequest) -> Response:
        nonlocal reads
        reads += 1
        if reads == 3:
            last.change(schema_version=None)
        return cluster.system_answer(request)

    last.change(schema_version=uuid.uuid4())
    cluster.answers["system.peers_v2"] = cluster.answers["system.local"] = look
    try:
        await world.session.execute(f"ALTER TABLE ks.schema{world.unique} ADD x int")
    finally:
        last.change(schema_version=None)
        del cluster.answers["system.peers_v2"], cluster.answers["system.local"]


async def trace(world: World) -> None:
    query = f"SELECT v FROM ks.traced{world.unique}"
    result = await world.session.execute(query, trace=True)
    assert result.tracing_id == TRACE
    found = await world.session.trace(result)
    assert found.duration == 5e-6


async def settle(world: World) -> None:
    error = cql.RequestTimeout("no answer")
    error.query, error.maybe_applied = LWT, True
    found = await cql.settle(
        world.session, error, SELECT, (3,), applied=lambda row: row == (4,), grace=0.02
    )
    assert not found


async def later() -> AsyncIterator[tuple[int, int]]:
    """Rows with an await before each."""
    for number in range(4):
        await anyio.lowlevel.checkpoint()
        yield (number // 2, number)


async def load(world: World) -> None:
    query = f"INSERT INTO ks.t (k, v) VALUES (?, ?) /* {world.unique} overloaded */"
    rows = [(number, number) for number in range(3)]
    done = await world.session.execute_many(query, rows, concurrency=2, **FAST)
    assert done == cql.BulkResult(3, ())


async def load_batches(world: World) -> None:
    query = f"INSERT INTO ks.t (k, v) VALUES (?, ?) /* {world.unique} */"
    done = await world.session.execute_many(query, later(), concurrency=3, batch=2, **FAST)
    assert done == cql.BulkResult(4, ())


async def results(world: World) -> None:
    query = f"SELECT v FROM ks.t WHERE k = ? /* {world.unique} pages */"
    async with world.session.map(query, [(1,), (2,), (3,)], concurrency=2, **FAST) as pairs:
        async for _, result in pairs:
            assert len(result) == 3


async def results_later(world: World) -> None:
    query = f"SELECT v FROM ks.t WHERE k = ? AND v = ? /* {world.unique} overloaded */"
    found = [key async for key, _ in world.session.map(query, later(), concurrency=2, **FAST)]
    assert found == [(0, 0), (0, 1), (1, 2), (1, 3)]


SCENARIOS: list[Callable[[World], Awaitable[None]]] = [
    load,
    load_batches,
    results,
    results_later,
    execute,
    execute_text,
    page,
    stream,
    stream_of_text,
    batch,
    prepare,
    retry,
    speculate,
    conditional,
    change_schema,
    trace,
    settle,
]


@asynccontextmanager
async def paced() -> AsyncIterator[None]:
    """Shorten the pauses between periodic tasks."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in {**PACE, "FIRST_DELAY": 0.002, "LONGEST_DELAY": 0.005}.items():
            patch.setattr(control, name, seconds)
        patch.setattr(agreement, "FIRST_PAUSE", 0.001)
        patch.setattr(agreement, "LONGEST_PAUSE", 0.001)
        patch.setattr(settling, "_FIRST_PAUSE", 0.01)
        yield


@asynccontextmanager
async def world(*, pushes: bool = False, **fields: Any) -> AsyncIterator[World]:
    """A cluster and an idle session; at the end nothing may be left of them."""
    before = living_tasks()
    cluster = Cluster(3)
    cluster.pushes = pushes
    made = World(cluster)
    config = cluster.config(**{"reconnection": AT_ONCE, **fields})
    async with paced():
        async with cql.connect(cluster.addresses, config=config, profile=PROFILE) as session:
            await made.begin(session)
            yield made
        await until(lambda: living_tasks() == before and not cluster.connections)
    assert not cluster.errors
