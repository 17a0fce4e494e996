"""Speculative attempts: the first answer wins, all else is cleaned up, and nothing unsafe is
repeated.

Hosts hold their replies until the test releases them, so the test decides which attempt is answered
first. The delay is short where a second attempt is wanted, and an hour where none is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.faults import (
    Fault,
    Script,
    failure,
    settled,
    success,
    unprepared,
)
from tests.support.server import Outcome, idle, start, state, turns, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto.messages import Response

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]

SOON = cql.ConstantSpeculation(0.002)
TWICE = cql.ConstantSpeculation(0.002, attempts=2)
NEVER = cql.ConstantSpeculation(3600)
HELD = Fault("held")
HELD_AND_APPLIED = Fault("held", applied=True)
STAY_DOWN = ConstantReconnection(3600, 0)


async def taught(session: cql.Session, cluster: FakeCluster) -> None:
    """Wait for connections, and prepare the statements at every host."""
    await connected(session, cluster.hosts)
    for query in (SELECT, INSERT, LWT):
        prepared = await session.prepare(query)
        for host in cluster.hosts:
            host.prepared[prepared._statement.prepared.statement_id] = query


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_wins_and_the_losers_id_is_orphaned(winner: int) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD, HELD])
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await taught(session, cluster)
        call = start(group, lambda: session.execute(SELECT, (7,), speculation=SOON))
        await until(lambda: len(script.held) == 2)
        fast, slow = script.held[winner], script.held[1 - winner]
        assert slow.host is not fast.host
        assert not call.done
        fast.reply(row_v(2))
        await until(lambda: call.done)
        assert call.result.one().v == 2
        assert call.result.host == str(fast.host)
        assert session.statistics().speculative == 1
        assert state(session)[:2] == (1, 1)
        slow.reply(row_v(1))
        await idle(session)
        assert session.statistics().orphans == 0


async def test_one_that_is_answered_in_time_is_sent_once() -> None:
    cluster = FakeCluster(3)
    script = Script(cluster)
    async with session_on(cluster) as session:
        await taught(session, cluster)
        for key in range(20):
            await session.execute(SELECT, (key,), speculation=NEVER)
        assert len(script.attempts) == 20
        assert session.statistics().speculative == 0
        await settled(session)


UNSAFE: dict[str, Callable[[cql.Session], Awaitable[Any]]] = {
    "insert": lambda session: session.execute(INSERT, (1, 2), speculation=SOON),
    "plain insert": lambda session: session.execute("INSERT INTO ks.t (k) VALUES (1)"),
    "lwt": lambda session: session.execute(LWT, (1, 2), idempotent=True, speculation=SOON),
    "batch": lambda session: session.batch([(INSERT, (1, 2))], speculation=SOON),
    "conditional batch": lambda session: session.batch(
        [(LWT, (1, 2))], kind="unlogged", idempotent=True, speculation=SOON
    ),
    "ddl": lambda session: session.execute("CREATE TABLE ks.u (k int PRIMARY KEY)"),
}


@pytest.mark.parametrize("name", UNSAFE)
async def test_what_may_not_be_repeated_is_sent_once(name: str) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD])
    profile = cql.Profile(speculation=SOON)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: UNSAFE[name](session))
        await until(lambda: script.held)
        await anyio.sleep(0.03)  # much longer than the delay
        assert len(script.attempts) == 1
        script.held[0].reply(success(script.held[0]))
        await until(lambda: call.done)
        assert call.error is None
        assert session.statistics().speculative == 0
        await idle(session)


SAFE: dict[str, Callable[[cql.Session], Awaitable[Any]]] = {
    "select": lambda session: session.execute(SELECT, (1,)),
    "plain select": lambda session: session.execute("SELECT v FROM ks.t"),
    "page": lambda session: session.page(SELECT, (1,)),
    "stream": lambda session: session.stream(SELECT, (1,)).__anext__(),
    "idempotent insert": lambda session: session.execute(INSERT, (1, 2), idempotent=True),
    "idempotent batch": lambda session: session.batch([(INSERT, (1, 2))], idempotent=True),
}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("attempts", [1, 2, 9])
async def test_the_number_of_attempts_is_bounded(name: str, attempts: int) -> None:
    """The policy and the number of hosts limit the attempts."""
    cluster = FakeCluster(4)
    script = Script(cluster, [HELD] * 9)
    profile = cql.Profile(speculation=cql.ConstantSpeculation(0.001, attempts=attempts))
    most = min(attempts, 3)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: SAFE[name](session))
        await until(lambda: len(script.held) == 1 + most)
        await anyio.sleep(0.02)
        assert len(script.held) == 1 + most
        assert len(set(script.hosts)) == 1 + most
        assert session.statistics().speculative == most
        script.held[-1].reply(success(script.held[-1]))
        await until(lambda: call.done)
        assert call.error is None
        for request in script.held[:-1]:
            request.reply(success(request))
        await idle(session)


@pytest.mark.parametrize(
    "fault", [failure(ErrorCode.OVERLOADED), failure(ErrorCode.SERVER_ERROR), Fault("cut")]
)
async def test_a_second_attempt_that_fails_changes_nothing(fault: Fault) -> None:
    cluster = FakeCluster(2)
    script = Script(cluster, [HELD, fault])
    async with (
        session_on(cluster, reconnection=STAY_DOWN) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: session.execute(SELECT, (7,), speculation=TWICE))
        await until(lambda: len(script.attempts) == 2)
        await turns(30)
        assert not call.done
        script.held[0].reply(row_v(1))
        await until(lambda: call.done)
        assert call.result.one().v == 1
        assert call.result.host == str(script.held[0].host)
        [told] = call.result.attempts
        assert told.host == str(script.hosts[1])
        await idle(session)


@pytest.mark.parametrize("fault", [failure(ErrorCode.SERVER_ERROR), Fault("cut")])
@pytest.mark.parametrize("name", SAFE)
async def test_the_first_attempt_fails_and_the_second_goes_on(name: str, fault: Fault) -> None:
    """Both of two hosts were asked: the first failed, and the second one's answer is awaited."""
    cluster = FakeCluster(2)
    script = Script(cluster, [HELD, HELD])
    profile = cql.Profile(speculation=SOON)
    async with (
        session_on(cluster, reconnection=STAY_DOWN, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: SAFE[name](session))
        await until(lambda: len(script.held) == 2)
        first, second = script.held
        if fault.way == "cut":
            first.connection.cut()
        else:
            first.reply(fault.message())
        await turns(30)
        assert not call.done
        second.reply(success(second))
        await until(lambda: call.done)
        assert call.error is None
        if name != "stream":
            assert call.result.host == str(second.host)
            [told] = call.result.attempts
            assert told.host == str(first.host)
        await idle(session)


@pytest.mark.parametrize("last", [failure(ErrorCode.IS_BOOTSTRAPPING), Fault("cut")])
@pytest.mark.parametrize("name", SAFE)
async def test_all_fail_one_after_the_other(name: str, last: Fault) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD] * 3)
    profile = cql.Profile(speculation=TWICE, retry=cql.DefaultRetry(max_attempts=3))
    async with (
        session_on(cluster, reconnection=STAY_DOWN, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: SAFE[name](session))
        await until(lambda: len(script.held) == 3)
        for request, fault in zip(script.held, [Fault("cut"), Fault("cut"), last], strict=True):
            await turns(30)
            assert not call.done
            if fault.way == "cut":
                request.connection.cut()
            else:
                request.reply(fault.message())
        await until(lambda: call.done)
        assert isinstance(call.error, cql.CQLError)
        kind = cql.NoHostAvailable if last.way == "cut" else cql.IsBootstrapping
        assert type(call.error) is kind
        told = [getattr(each, "host", None) for each in call.error.attempts]
        assert told == [str(request.host) for request in script.held]
        assert call.error.maybe_applied is ("idempotent" in name)
        await settled(session)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["first", "second"])
async def test_answers_in_one_read(order: slice) -> None:
    """The refusal and the other host's answer arrive before the caller runs."""
    cluster = FakeCluster(2)
    script = Script(cluster, [HELD, HELD])
    profile = cql.Profile(speculation=SOON)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: session.execute(SELECT, (7,), speculation=SOON))
        await until(lambda: len(script.held) == 2)
        replies: list[Response] = [failure(ErrorCode.SERVER_ERROR).message(), row_v(7)]
        for request, reply in list(zip(script.held, replies, strict=True))[order]:
            request.reply(reply)
        await until(lambda: call.done)
        assert call.error is None
        assert call.result.one().v == 7
        await idle(session)


@pytest.mark.parametrize("name", ["select", "idempotent insert", "idempotent batch"])
async def test_the_second_host_does_not_know_the_statement(name: str) -> None:
    """The second host is sent PREPARE, and answers; the first attempt is abandoned."""
    cluster = FakeCluster(2)
    script = Script(cluster, [HELD])
    profile = cql.Profile(speculation=SOON)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        other: list[Any] = []

        def answer(request: Any) -> Any:
            if not other and script.attempts:
                other.append(request.host)
                return unprepared(request)
            return script.answer(request)

        cluster.answer = answer
        call = start(group, lambda: SAFE[name](session))
        await until(lambda: call.done)
        assert call.error is None
        [held] = script.held
        assert call.result.host == str(other[0])
        assert other[0] is not held.host
        assert state(session)[:2] == (1, 1)
        held.reply(success(held))
        await idle(session)


async def test_what_was_given_up_may_have_been_applied() -> None:
    """The other host refuses after PREPARE: the first one may have written."""
    cluster = FakeCluster(2)
    script = Script(
        cluster, [HELD_AND_APPLIED, Fault("unprepared"), failure(ErrorCode.UNAUTHORIZED)]
    )
    async with session_on(cluster) as session:
        await taught(session, cluster)
        with pytest.raises(cql.Unauthorized) as caught:
            await session.execute(INSERT, (1, 2), idempotent=True, speculation=SOON)
        assert script.applied == 1
        assert caught.value.maybe_applied
        script.held[0].reply(success(script.held[0]))
        await idle(session)


@pytest.mark.parametrize("sent", [1, 2, 3])
@pytest.mark.parametrize("name", SAFE)
async def test_a_cancelled_caller_leaves_nothing(name: str, sent: int) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD] * 3)
    profile = cql.Profile(speculation=TWICE)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: SAFE[name](session))
        await until(lambda: len(script.held) >= sent)
        call.scope.cancel()
        await settled(session)
        # an attempt that began at the same moment may still be under way
        await until(lambda: len(script.held) == session.statistics().orphans)
        seen = len(script.held)
        await anyio.sleep(0.01)
        assert session.statistics().orphans == seen
        assert len(script.held) == seen
        for request in script.held:
            request.reply(success(request))
        await idle(session)


async def test_the_deadline_ends_all_attempts() -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD_AND_APPLIED] * 3)
    async with session_on(cluster) as session:
        await taught(session, cluster)
        with pytest.raises(cql.RequestTimeout) as caught, anyio.fail_after(10):
            await session.execute(INSERT, (1, 2), idempotent=True, speculation=TWICE, timeout=0.1)
        assert caught.value.maybe_applied
        sent = len(script.held)  # all three, unless the machine is very busy
        assert 1 <= sent <= 3
        assert state(session)[:2] == (sent, sent)
        for request in script.held:
            request.reply(success(request))
        await idle(session)


async def test_closing_the_session_ends_all_attempts() -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [HELD] * 3)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await taught(session, cluster)
        call = start(group, lambda: session.execute(SELECT, (1,), speculation=TWICE))
        await until(lambda: len(script.held) == 3)
        await session.aclose()
        await until(lambda: call.done)
        assert isinstance(call.error, cql.SessionClosed)


# -- percentiles


async def test_a_percentile_needs_requests_to_learn_from() -> None:
    cluster = FakeCluster(2)
    policy = cql.PercentileSpeculation(50.0, least=0.001, most=0.002, window=100)
    script = Script(cluster)
    profile = cql.Profile(speculation=policy)
    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        script.faults = [HELD]
        call = start(group, lambda: session.execute(SELECT, (1,)))
        await until(lambda: script.held)
        await anyio.sleep(0.02)
        assert session.statistics().speculative == 0  # there are too few samples
        script.held.pop().reply(row_v(1))
        await until(lambda: call.done)
        for key in range(policy.samples):
            await session.execute(SELECT, (key,))
        await idle(session)  # on a busy machine the last request may have been sent twice
        before = session.statistics().speculative
        script.faults = [HELD]
        assert (await session.execute(SELECT, (5,))).one().v == 5
        assert session.statistics().speculative == before + 1
        script.held.pop().reply(row_v(1))
        await idle(session)


async def test_a_paused_host_costs_no_more_than_the_delay() -> None:
    """The other hosts answer its requests one after another, soon after the delay."""
    cluster = FakeCluster(3)
    Script(cluster)
    profile = cql.Profile(speculation=cql.ConstantSpeculation(0.01), timeout=20.0)
    async with session_on(cluster, profile=profile, max_orphans=1000) as session:
        await taught(session, cluster)
        cluster.hosts[1].pause()
        slowest = []
        for key in range(60):
            started = anyio.current_time()
            assert (await session.execute(SELECT, (key,))).one().v == key
            slowest.append(anyio.current_time() - started)
        assert max(slowest) == pytest.approx(0.01)  # without speculation it would be 20 s
        assert 1 <= session.statistics().speculative <= 60
        cluster.hosts[1].resume()
        await idle(session)


async def test_a_host_that_is_back_in_time_is_asked() -> None:
    """There is no other host when the delay ends, and one a moment later."""
    cluster = FakeCluster(2)
    Script(cluster)
    profile = cql.Profile(speculation=cql.ConstantSpeculation(0.01), timeout=20.0)
    async with session_on(cluster, profile=profile) as session:
        await taught(session, cluster)
        cluster.hosts[1].kill()
        await connected(session, cluster.hosts[:1])
        cluster.hosts[0].pause()
        async with anyio.create_task_group() as group:
            outcome = start(group, lambda: session.execute(SELECT, (7,)))
            await anyio.sleep(0.1)  # the host is asked as soon as it is back
            assert not outcome.done
            cluster.hosts[1].revive()
        assert outcome.result.one().v == 7
        assert outcome.result.host == str(cluster.hosts[1])
        cluster.hosts[0].resume()
        await idle(session)


# -- any order of events


REPLIES = ["success", "refused", "server error", "unprepared", "cut"]


@settings(max_examples=120)
@given(
    what=st.sampled_from(["select", "idempotent insert", "idempotent batch"]),
    hosts=st.integers(2, 4),
    policy=st.sampled_from([SOON, TWICE]),
    retry=st.sampled_from([cql.NoRetry(), cql.DefaultRetry(overload_delay=0.001)]),
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(REPLIES), st.booleans()), max_size=8
    ),
)
async def test_whatever_happens_the_call_ends_and_tells_the_truth(
    what: str, hosts: int, policy: Any, retry: Any, steps: list[tuple[int, str, bool]]
) -> None:
    """Replies come in any order; the last attempts are answered with success."""
    cluster = FakeCluster(hosts)
    script = Script(cluster, [HELD] * 60)
    profile = cql.Profile(speculation=policy, retry=retry, timeout=30.0)
    applied: list[str] = []
    proved = True

    def reply(outcome: Outcome, index: int, way: str, applies: bool) -> None:
        nonlocal proved
        request = script.held.pop(index % len(script.held))
        if not request.connection.is_open:
            return
        if way in ("success", "server error", "cut"):
            proved = False
            if (applies or way == "success") and not outcome.done:
                applied.append(way)
        if way == "success":
            request.reply(success(request))
        elif way == "refused":
            request.reply(failure(ErrorCode.INVALID).message())
        elif way == "server error":
            request.reply(failure(ErrorCode.SERVER_ERROR).message())
        elif way == "unprepared":
            request.reply(unprepared(request))
        else:
            request.connection.cut()

    async with (
        session_on(cluster, profile=profile) as session,
        anyio.create_task_group() as group,
    ):
        await taught(session, cluster)
        call = start(group, lambda: SAFE[what](session))
        for index, way, applies in steps:
            await until(lambda: script.held or call.done)
            if call.done:
                break
            reply(call, index, way, applies)
            await turns(5)
        while not call.done:
            while script.held:
                reply(call, 0, "success", True)
            await anyio.sleep(0.001)
        if call.error is not None:
            assert isinstance(call.error, cql.CQLError)
            if what == "select":
                assert not call.error.maybe_applied
            elif applied:
                assert call.error.maybe_applied
        elif what != "select":
            assert applied
        for request in script.held:
            request.reply(success(request))
        script.faults = []
        await settled(session)
