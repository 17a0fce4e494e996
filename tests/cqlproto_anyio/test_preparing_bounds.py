"""Limits of preparing: a host that is silent or refuses delays callers only briefly."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import RESPONSE_BIT, ErrorCode, Opcode
from cqlproto.frames import write_frame
from cqlproto.messages import VOID, Prepare
from cqlproto_anyio.policies import ConstantReconnection
from cqlproto_anyio.testing import snapshot
from tests.support import replies
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.faults import failure, preparing, settled, unprepared
from tests.support.server import Outcome, serving, start, state, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost, FakeRequest
    from tests.support.server import Asked

pytestmark = pytest.mark.uvloop

V4 = ProtocolVersion.V4
STAY_DOWN = ConstantReconnection(3600, 0)


@contextmanager
def silent(cluster: FakeCluster, *hosts: FakeHost) -> Iterator[None]:
    """Make these hosts hold PREPARE; the requests are in ``cluster.waiting``."""
    usual = cluster._prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cluster,
            "_prepare",
            lambda request, message: None if request.host in hosts else usual(request, message),
        )
        yield


def asked(cluster: FakeCluster, text: str | None = None) -> Counter[FakeHost]:
    """Return the number of PREPAREs at each host, of all statements or of one."""
    assert cluster.seen is not None
    return Counter(
        request.host
        for request in cluster.seen
        if isinstance(request.message, Prepare) and text in (None, request.message.query)
    )


def numbered(number: int) -> str:
    return f"SELECT v FROM ks.t WHERE k = ? AND c = {number}"


@pytest.mark.parametrize("verb", ["prepare", "execute", "page", "stream", "batch"])
async def test_a_silent_host_is_not_the_only_one_that_is_asked(verb: str) -> None:
    cluster = FakeCluster(3)
    cluster.seen = []
    async with session_on(cluster, control_timeout=0.3) as session:
        await connected(session, cluster.hosts)
        dead = cluster.hosts[1]
        with silent(cluster, dead):
            for number in range(6):
                query = numbered(number)
                if verb == "prepare":
                    assert (await session.prepare(query)).query == query
                elif verb == "execute":
                    assert (await session.execute(query, (number,))).one().v == number
                elif verb == "page":
                    assert (await session.page(query, (number,))).rows[0].v == number
                elif verb == "stream":
                    assert [row.v async for row in session.stream(query, (number,))] == [number]
                else:
                    await session.batch([(f"{INSERT} /* {number} */", (number, 1))])
                await session.prepare(query)  # it is cached: nothing is sent
        assert asked(cluster)[dead] <= 6
        assert session.statistics().prepared >= 6
        await settled(session)


async def test_two_of_three_hosts_are_silent() -> None:
    cluster = FakeCluster(3)
    cluster.seen = []
    async with session_on(cluster, control_timeout=0.3) as session:
        await connected(session, cluster.hosts)
        with silent(cluster, *cluster.hosts[:2]):
            async with anyio.create_task_group() as group:
                calls = [
                    start(group, lambda n=n: session.prepare(numbered(n % 4)))  # type: ignore[misc]  # a lambda with a default
                    for n in range(40)
                ]
        assert [call.error for call in calls] == [None] * 40
        assert max(asked(cluster, numbered(0)).values()) == 1
        await settled(session)


async def test_later_callers_do_not_put_off_the_end() -> None:
    """One host answers only the second PREPARE, which is sent although callers keep coming. All
    callers get its outcome."""
    async with serving() as server, server.session(control_timeout=0.1) as session:
        outcomes: list[Outcome] = []
        async with anyio.create_task_group() as group:
            while len(server.asked) < 2:
                outcomes.append(start(group, lambda: session.prepare(SELECT)))
                await anyio.sleep(0.01)
            server.asked[1].reply(replies.prepared(server, SELECT))
        assert len(outcomes) > 3
        assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
        assert server.texts_seen(Prepare) == [SELECT] * 2
        assert state(session).preparing == 0


async def test_a_host_that_never_answers_costs_each_caller_its_own_time() -> None:
    async with serving() as server, server.session(control_timeout=0.1) as session:
        async with anyio.create_task_group() as group:
            hasty = start(group, lambda: session.execute(SELECT, (1,), timeout=0.02))
            patient = start(group, lambda: session.execute(SELECT, (1,), timeout=0.35))
        for outcome, timeout in ((hasty, 0.02), (patient, 0.35)):
            assert isinstance(outcome.error, cql.RequestTimeout)
            assert outcome.error.timeout == timeout
            assert outcome.error.host == "node:9042"
            assert outcome.error.maybe_applied is False
        attempts = [*patient.error.attempts]  # type: ignore[union-attr]  # it has failed
        assert attempts.pop() is patient.error
        assert {(type(each), each.stage) for each in attempts} == {
            (cql.ConnectionFailed, "prepare")
        }
        assert "no answer to PREPARE" in str(attempts[0])
        await until(lambda: state(session).preparing == 0)
        assert state(session).deadlines == 0


async def test_those_who_leave_are_not_kept() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        with silent(cluster, *cluster.hosts):
            async with anyio.create_task_group() as group:
                stays = start(group, lambda: session.prepare(SELECT))
                await until(lambda: cluster.waiting)
                for _ in range(5):
                    leave = [start(group, lambda: session.prepare(SELECT)) for _ in range(20)]
                    await until(lambda: snapshot(session).preparing == (21,))
                    for each in leave:
                        each.scope.cancel()
                    await until(lambda: snapshot(session).preparing == (1,))
                [request] = cluster.waiting
                assert isinstance(request.message, Prepare)
                request.reply(type(cluster)._prepare(cluster, request, request.message))
        assert isinstance(stays.result, cql.Prepared)
        await settled(session)


async def test_an_answer_that_comes_late_is_taken_from_whom_it_comes() -> None:
    """The first host is slow, not dead, and the second one is silent."""
    cluster = FakeCluster(2)
    cluster.seen = []
    async with session_on(cluster, control_timeout=2.0) as session:
        await connected(session, cluster.hosts)
        with silent(cluster, *cluster.hosts):
            async with anyio.create_task_group() as group:
                call = start(group, lambda: session.prepare(SELECT))
                await until(lambda: len(cluster.waiting) == 2)
                first = cluster.waiting[0]
                assert isinstance(first.message, Prepare)
                first.reply(type(cluster)._prepare(cluster, first, first.message))
        assert isinstance(call.result, cql.Prepared)
        await settled(session)


async def test_a_host_that_is_silent_when_told_again_is_left_for_another() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, control_timeout=0.05) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        forgetful = cluster.hosts[0]
        for host in cluster.hosts:
            host.prepared[handle._statement.prepared.statement_id] = SELECT
        forgetful.prepared.clear()
        with silent(cluster, forgetful):
            for key in range(4):
                result = await session.execute(handle, (key,))
                assert result.host == str(cluster.hosts[1])
        await settled(session)


async def test_the_only_host_may_be_slow_to_learn_again() -> None:
    """There is no other host, and time is left."""
    async with serving() as server, server.session(control_timeout=0.05) as session:
        server.answer = replies.echo(server)
        handle = await session.prepare(SELECT)
        told = 0

        def answer(request: Asked) -> Response | None:
            nonlocal told
            if not isinstance(request.message, Prepare):
                return replies.unprepared(request) if told < 3 else replies.ints(7)
            told += 1
            return replies.prepared(server, SELECT) if told == 3 else None

        server.answer = answer
        assert (await session.execute(handle, (1,))).one().v == 7
        assert told == 3


async def test_a_host_learns_again_within_the_deadline_of_the_call() -> None:
    """The host takes most of the time to answer that it has forgotten the statement."""
    async with (
        serving() as server,
        server.session() as session,
        anyio.create_task_group() as group,
    ):
        server.answer = replies.echo(server)
        handle = await session.prepare(SELECT)
        server.answer = lambda asked: None
        call = start(group, lambda: session.execute(handle, (1,), timeout=1.0))
        request = await server.next()
        await anyio.sleep(0.7)
        request.reply(replies.unprepared(request))
        with anyio.fail_after(0.6):
            await until(lambda: call.done)
        assert type(call.error) is cql.RequestTimeout
        await settled(session)


async def test_a_result_lists_the_hosts_that_could_not_prepare_its_statement() -> None:
    cluster = FakeCluster(3)
    bad = cluster.hosts[2]
    refused = 0

    def refuse(request: FakeRequest) -> Response | None:
        nonlocal refused
        if request.host is not bad:
            return None
        refused += 1
        return failure(ErrorCode.SERVER_ERROR).message()

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        found: list[cql.CQLError] = []
        with preparing(cluster, refuse):
            for number in range(6):
                result = await session.execute(numbered(number), (number,))
                found += result.attempts
        assert refused
        assert [type(error) for error in found] == [cql.ServerError] * refused
        assert {error.host for error in found} == {str(bad)}
        await settled(session)


async def test_one_host_of_three_has_stopped() -> None:
    """No read with a new statement fails: preparing and executing both go on at another host before
    the deadline."""
    cluster = FakeCluster(3)
    async with session_on(
        cluster, control_timeout=0.4, heartbeat_timeout=0.2, heartbeat_interval=60.0
    ) as session:
        await connected(session, cluster.hosts)
        cluster.hosts[1].pause()
        async with anyio.create_task_group() as group:
            calls = [
                start(group, lambda n=n: session.execute(numbered(n), (n,)))  # type: ignore[misc]  # a lambda with a default
                for n in range(60)
            ]
        assert [call.error for call in calls] == [None] * 60
        assert [call.result.one().v for call in calls] == [*range(60)]
        cluster.hosts[1].kill()


@pytest.mark.parametrize(
    "meet",
    [
        lambda request: failure(ErrorCode.SERVER_ERROR).message(),
        lambda request: failure(ErrorCode.INVALID).message(),
        lambda request: failure(ErrorCode.UNAUTHORIZED).message(),
        lambda request: failure(0x7777).message(),
    ],
    ids=["server error", "invalid", "unauthorized", "unknown"],
)
@pytest.mark.parametrize("verb", ["prepare", "again", "batch"])
async def test_one_host_refuses_what_others_prepare(verb: str, meet: object) -> None:
    cluster = FakeCluster(3)
    bad = cluster.hosts[2]

    def refuse(request: FakeRequest) -> Response | None:
        return meet(request) if request.host is bad else None  # type: ignore[operator]  # a function of the parametrization

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        if verb == "prepare":
            with preparing(cluster, refuse):
                for number in range(5):
                    await session.prepare(numbered(number))
        else:
            select, insert = await session.prepare(SELECT), await session.prepare(INSERT)
            for handle in (select, insert):
                for host in cluster.hosts:
                    host.prepared[handle._statement.prepared.statement_id] = handle.query
            bad.prepared.clear()
            with preparing(cluster, refuse):
                for key in range(6):
                    if verb == "again":
                        assert (await session.execute(select, (key,))).one().v == key
                    else:
                        assert (await session.batch([(insert, (key, 1))])).host != str(bad)
        assert len(cluster.connections) == 4  # no connection was closed because of it
        await settled(session)


@pytest.mark.parametrize("reply", [VOID, row_v(1)], ids=["void", "rows"])
@pytest.mark.parametrize("again", [False, True])
async def test_one_host_answers_nonsense(reply: Response, again: bool) -> None:
    """Messages that don't answer PREPARE."""
    cluster = FakeCluster(3)
    bad = cluster.hosts[2]
    usual = cluster._prepare

    def prepare(request: FakeRequest, message: Prepare) -> Response | None:
        if request.host is not bad:
            return usual(request, message)
        body = bytearray()
        reply.write_body(body, V4)
        del request.connection.core._requests[request.stream_id]  # the core would refuse this reply
        request.connection.send_raw(
            write_frame(V4 | RESPONSE_BIT, 0, request.stream_id, Opcode.RESULT, bytes(body))
        )
        return None

    async with session_on(cluster, protocol_version=V4, reconnection=STAY_DOWN) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        for host in cluster.hosts:
            host.prepared[handle._statement.prepared.statement_id] = SELECT
        bad.prepared.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "_prepare", prepare)
            for number in range(5):
                if again:
                    assert (await session.execute(handle, (number,))).one().v == number
                else:
                    await session.prepare(numbered(number))


@pytest.mark.parametrize("again", [False, True])
async def test_what_three_hosts_refuse_is_wrong(again: bool) -> None:
    cluster = FakeCluster(5)
    cluster.seen = []
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        if again:
            for host in cluster.hosts:
                host.prepared.clear()
        cluster.seen.clear()
        with (
            preparing(cluster, lambda request: failure(ErrorCode.INVALID).message()),
            pytest.raises(cql.InvalidQuery) as caught,
        ):
            await (session.execute(handle, (1,)) if again else session.prepare(numbered(1)))
        assert len(caught.value.attempts) == 3
        assert caught.value.maybe_applied is False
        assert sum(asked(cluster).values()) == 3
        # the failure isn't cached
        assert (await session.execute(handle, (1,))).one().v == 1
        await settled(session)


@pytest.mark.parametrize("attempts", [4, 7])
async def test_all_hosts_but_one_are_gone(attempts: int) -> None:
    """The retry policy bounds how many hosts are asked; it may allow all of them."""
    cluster = FakeCluster(7)
    policy = cql.DefaultRetry(max_attempts=attempts)
    asked: list[FakeHost] = []
    async with session_on(
        cluster, reconnection=STAY_DOWN, profile=cql.Profile(retry=policy)
    ) as session:
        await connected(session, cluster.hosts)

        def cut(request: FakeRequest) -> Response | None:
            asked.append(request.host)
            if len(asked) < 7:
                request.connection.cut()
                return VOID
            return None

        with preparing(cluster, cut):
            if attempts == 7:
                await session.prepare(SELECT)
            else:
                with pytest.raises(cql.NoHostAvailable) as caught:
                    await session.prepare(SELECT)
                hosts = [getattr(each, "host", None) for each in caught.value.attempts]
                assert hosts == [*map(str, asked)]
        assert len(asked) == len(set(asked)) == attempts
        await settled(session)


async def test_forgotten_in_a_batch_by_a_host_that_refuses() -> None:
    """A host refuses both statements of a batch; the other host executes it."""
    cluster = FakeCluster(2)
    bad = cluster.hosts[0]
    cluster.answer = lambda request: unprepared(request) if request.host is bad else VOID
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for number in range(4):
            items = [(f"{INSERT} /* {number} {each} */", (1, 2)) for each in range(2)]
            assert (await session.batch(items)).host == str(cluster.hosts[1])
        await settled(session)
