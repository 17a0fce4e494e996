"""Prepared statements on several hosts: prepared once where needed, again after schema changes, and
kept while in use."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import ErrorCode
from cqlproto.messages import (
    VOID,
    Error,
    Execute,
    Prepare,
    Prepared,
)
from cqlproto_anyio.policies import ConstantReconnection
from cqlproto_anyio.testing import snapshot
from tests.support import replies
from tests.support.altered_schema import ADDRESS, LONGER, Schema
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faults import Script, failure, preparing, settled, unprepared
from tests.support.server import idle, serving, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost, FakeRequest
    from tests.support.server import Asked

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]

V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5
STAY_DOWN = ConstantReconnection(3600, 0)
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]


def prepares(cluster: FakeCluster, text: str | None = None) -> Counter[FakeHost]:
    """Return the number of PREPAREs at each host, of all statements or of one."""
    assert cluster.seen is not None
    return Counter(
        request.host
        for request in cluster.seen
        if isinstance(request.message, Prepare) and text in (None, request.message.query)
    )


def executions(cluster: FakeCluster) -> list[Execute]:
    assert cluster.seen is not None
    return [each.message for each in cluster.seen if isinstance(each.message, Execute)]


async def test_each_host_is_told_when_it_is_asked_and_not_before() -> None:
    cluster = FakeCluster(4)
    cluster.seen = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        assert sum(prepares(cluster).values()) == 1
        for key in range(60):
            await session.execute(handle, (key,))
        assert prepares(cluster) == dict.fromkeys(cluster.hosts, 1)
        # a host that comes back has forgotten the statement: only it is sent PREPARE again
        cluster.seen.clear()
        back = cluster.hosts[2]
        back.kill()
        await until(lambda: session.statistics().connections == 3)
        back.revive()
        await connected(session, cluster.hosts)
        assert prepares(cluster) == {}
        for key in range(60):
            await session.execute(handle, (key,))
        assert prepares(cluster) == {back: 1}
        assert session.statistics().retries == 0


@pytest.mark.parametrize("verb", ["execute", "page", "batch", "stream"])
async def test_two_hundred_at_once_prepare_once_per_host(verb: str) -> None:
    cluster = FakeCluster(3)
    cluster.seen = []
    async with session_on(cluster, max_connections_per_host=1) as session:
        await connected(session, cluster.hosts)
        select = await session.prepare(SELECT)
        insert = await session.prepare(INSERT)
        for host in cluster.hosts:
            host.prepared.clear()
        cluster.seen.clear()
        usual = cluster._prepare
        forgotten = 0
        unknown = cluster._unknown

        def count(request: FakeRequest) -> Error | None:
            nonlocal forgotten
            error = unknown(request)
            forgotten += error is not None
            return error

        patch = pytest.MonkeyPatch()
        patch.setattr(cluster, "_prepare", lambda request, message: None)
        patch.setattr(cluster, "_unknown", count)

        async def one(key: int) -> None:
            if verb == "batch":
                await session.batch([(insert, (key, key))])
            elif verb == "stream":
                assert [row.v async for row in session.stream(select, (key,))] == [key]
            elif verb == "page":
                assert (await session.page(select, (key,))).rows[0].v == key
            else:
                assert (await session.execute(select, (key,))).one().v == key

        async with anyio.create_task_group() as group:
            for key in range(200):
                group.start_soon(one, key)
            # the replies to PREPARE come when all executions were answered UNPREPARED
            await until(lambda: forgotten == 200)
            await until(lambda: len(snapshot(session).preparing) == 3)
            await turns(1000)  # a turn may read a single one of the 200
            patch.undo()
            for request in cluster.waiting:
                assert isinstance(request.message, Prepare)
                request.reply(usual(request, request.message))
        assert prepares(cluster) == dict.fromkeys(cluster.hosts, 1)
        await idle(session)


async def test_unchanged_metadata_keeps_its_objects() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        handle = await session.prepare(SELECT)
        await session.execute(handle, (1,))
        statement = handle._statement
        before = statement.prepared
        binders = dict(statement.binders)
        cluster.hosts[0].prepared.clear()
        assert (await session.execute(handle, (2,))).one().v == 2
        assert statement.prepared is before
        assert statement.prepared.result is before.result
        assert statement.binders == binders
        assert handle.columns[0].name == "v"


@pytest.mark.parametrize("version", [V5, V4])
@pytest.mark.parametrize("told", ["by unprepared", "by the reply"])
async def test_changed_columns_are_swapped_with_their_id(
    version: ProtocolVersion, told: str
) -> None:
    cluster = FakeCluster(2)
    schema = Schema(cluster)
    async with session_on(cluster, protocol_version=version) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, schema.prepare):
            handle = await session.prepare("SELECT * FROM ks.t WHERE k = ?")
            for _ in range(8):
                assert tuple((await session.execute(handle, (1,))).one()) == (7,)
            schema.alter()
            if told == "by unprepared":
                for host in cluster.hosts:
                    host.prepared.clear()
            for _ in range(8):
                row = (await session.execute(handle, (1,))).one()
                assert row._asdict() == {"u": "a", "v": 8}
            prepared = handle._statement.prepared
            assert [column.name for column in prepared.result.columns] == ["u", "v"]
            if version is V5:
                # the columns and their id are one object, replaced as a whole
                assert prepared.result_metadata_id == b"generation 1"
                assert schema.ids[-1] == b"generation 1"
                assert all(schema.skipped)
            else:
                assert not any(schema.skipped)
                assert set(schema.ids) == {None}


@pytest.mark.parametrize("verb", ["execute", "text", "page", "batch", "stream"])
@pytest.mark.parametrize("evicted", [False, True])
async def test_a_type_is_altered_and_values_of_its_new_form_go_through(
    verb: str, evicted: bool
) -> None:
    """Without UNPREPARED: after the event the statement is prepared again before its next use."""
    cluster = FakeCluster(2)
    cluster.seen = []
    schema = Schema(cluster)
    schema.markers = [ADDRESS]
    text = "INSERT INTO ks.t (a) VALUES (?)"
    async with session_on(cluster, max_prepared=1 if evicted else 100) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(text)

            async def write(value: Any) -> None:
                if verb == "page":
                    await session.page(handle, (value,))
                elif verb == "batch":
                    await session.batch([(handle, (value,))])
                elif verb == "stream":
                    assert [row async for row in session.stream(handle, (value,))] == []
                else:
                    await session.execute(handle if verb == "execute" else text, (value,))

            if verb == "batch":
                cluster.answer = lambda request: VOID
            for _ in range(6):
                await write({"street": "a"})
            new = {"street": "a", "zip": "b"}
            with pytest.raises(cql.ValueConversionError):
                await write(new)
            if evicted:
                await session.execute("SELECT v FROM ks.t WHERE a = ?", ({"street": "a"},))
            schema.markers = [LONGER]
            assert cluster.tell_schema("UPDATED", "ks", "address", target="TYPE") >= 1
            await until(lambda: handle._statement.stale)
            forgotten: list[FakeRequest] = []
            usual = cluster._unknown

            def unknown(request: FakeRequest) -> Error | None:
                error = usual(request)
                if error is not None:
                    forgotten.append(request)
                return error

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cluster, "_unknown", unknown)
                for _ in range(6):
                    await write(new)
            assert forgotten == []


async def test_a_change_elsewhere_does_not_concern_it() -> None:
    cluster = FakeCluster(1)
    cluster.seen = []
    Script(cluster)
    async with session_on(cluster) as session:
        handle = await session.prepare(SELECT)
        await session.execute(handle, (1,))
        cluster.seen.clear()
        cluster.tell_schema("UPDATED", "other", "t")
        await turns(50)
        await session.execute(handle, (1,))
        assert prepares(cluster, SELECT) == {}
        cluster.tell_schema("UPDATED", "ks", "t")
        await until(lambda: handle._statement.stale)
        await session.execute(handle, (1,))
        assert prepares(cluster, SELECT) == {cluster.hosts[0]: 1}


async def test_a_handle_outlives_the_cache() -> None:
    cluster = FakeCluster(2)
    cluster.seen = []
    async with session_on(cluster, max_prepared=2) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        for key in range(6):
            await session.execute(handle, (key,))
        for number in range(5):
            await session.prepare(f"SELECT v FROM ks.t WHERE k = ? AND c = {number}")
        assert session.statistics().prepared == 2
        cluster.seen.clear()
        for key in range(6):
            assert (await session.execute(handle, (key,))).one().v == key
        assert prepares(cluster) == {}
        for host in cluster.hosts:
            host.prepared.clear()
        for key in range(6):
            assert (await session.execute(handle, (key,))).one().v == key
        assert prepares(cluster, SELECT) == dict.fromkeys(cluster.hosts, 1)
        assert session.statistics().prepared == 2


def _cut(request: FakeRequest) -> None:
    request.connection.cut()


def _refuse(code: int) -> Callable[[FakeRequest], Response]:
    return lambda request: failure(code).message()


@pytest.mark.parametrize(
    "meet",
    [_cut, _refuse(ErrorCode.IS_BOOTSTRAPPING), _refuse(ErrorCode.OVERLOADED)],
    ids=["cut", "bootstrapping", "overloaded"],
)
@pytest.mark.parametrize("verb", ["prepare", "execute", "page", "stream", "batch"])
async def test_preparing_moves_on_to_another_host(meet: Any, verb: str) -> None:
    cluster = FakeCluster(3)
    met: list[FakeHost] = []

    def first_two(request: FakeRequest) -> Response | None:
        if len(met) == 2:
            return None
        met.append(request.host)
        found: Response | None = meet(request)
        return found or failure(ErrorCode.SERVER_ERROR).message()

    async with session_on(cluster, reconnection=STAY_DOWN) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, first_two):
            if verb == "prepare":
                assert (await session.prepare(SELECT)).columns[0].name == "v"
            elif verb == "execute":
                assert (await session.execute(SELECT, (3,))).one().v == 3
            elif verb == "page":
                assert (await session.page(SELECT, (3,))).rows[0].v == 3
            elif verb == "stream":
                assert [row.v async for row in session.stream(SELECT, (3,))] == [3]
            else:
                await session.batch([(INSERT, (1, 2))])
        assert len(set(met)) == 2
        await settled(session)


async def test_a_statement_gets_another_id_when_it_is_prepared_again() -> None:
    """As after the server was upgraded. The new id is used from then on."""
    async with serving() as server, server.session() as session:
        server.answer = replies.echo(server)
        handle = await session.prepare(SELECT)
        prepared = 0

        def answer(asked: Asked) -> Response:
            nonlocal prepared
            if isinstance(asked.message, Prepare):
                prepared += 1
                usual = replies.prepared(server, SELECT)
                server.texts[b"new"] = SELECT
                return Prepared(b"new", usual.result_metadata_id, usual.bind, usual.result)
            assert isinstance(asked.message, Execute)
            if asked.message.statement_id != b"new":
                return replies.unprepared(asked)
            return replies.ints(7)

        server.answer = answer
        for _ in range(3):
            assert (await session.execute(handle, (1,))).one().v == 7
        assert prepared == 1


async def test_a_refused_statement_is_refused_at_once() -> None:
    cluster = FakeCluster(3)
    cluster.seen = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with (
            preparing(cluster, _refuse(ErrorCode.SYNTAX_ERROR)),
            pytest.raises(cql.InvalidSyntax) as caught,
        ):
            await session.execute("SELEC ?", (1,))
        assert sum(prepares(cluster).values()) == 1
        assert not caught.value.maybe_applied
        assert caught.value.host


async def test_a_host_that_forgets_at_once_is_left_for_another() -> None:
    cluster = FakeCluster(2)
    forgetful = cluster.hosts[0]

    def answer(request: FakeRequest) -> Response:
        return unprepared(request) if request.host is forgetful else VOID

    cluster.answer = answer
    cluster.seen = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for key in range(10):
            result = await session.execute(INSERT, (key, key))
            assert result.host == str(cluster.hosts[1])
        assert prepares(cluster)[cluster.hosts[1]] <= 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "answer", unprepared)
            with pytest.raises(cql.Unprepared) as caught:
                await session.execute(INSERT, (1, 1))
            assert not caught.value.maybe_applied
            assert len(caught.value.attempts) == 2
        assert len(executions(cluster)) < 100
