"""Retry policies in a session: per profile, per call, and no further than is safe.

``tests/cqlproto_anyio/policies`` tests the default policy's table; here it is what a session does
with a decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto_anyio._execution.supervisor import Supervisor
from cqlproto_anyio.policies import Retry
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faults import Fault, Script, failure, preparing, settled
from tests.support.server import idle, start, until

if TYPE_CHECKING:
    from cqlproto.messages import Error, Prepare, Response
    from cqlproto_anyio.exceptions import CQLError
    from tests.support.fakecluster import FakeHost, FakeRequest

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]

REFUSED = failure(ErrorCode.IS_BOOTSTRAPPING)
OVERLOADED = failure(ErrorCode.OVERLOADED)


@dataclass(frozen=True)
class Recording:
    """Returns a fixed decision, and records the arguments."""

    decisions: tuple[Retry | None, ...]
    asked: list[tuple[type, int, bool, bool]] = field(default_factory=list, compare=False)

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        self.asked.append((type(error), attempt, idempotent, reads))
        return self.decisions[attempt - 1] if attempt <= len(self.decisions) else None


NEXT = Retry(next_host=True)
SAME = Retry(next_host=False)


async def test_a_policy_of_the_users_own() -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [REFUSED, OVERLOADED, failure(ErrorCode.READ_TIMEOUT)])
    policy = Recording((NEXT, SAME))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.ReadTimeout):
            await session.execute(SELECT, (1,), retry=policy)
        assert policy.asked == [
            (cql.IsBootstrapping, 1, False, True),
            (cql.ServerOverloaded, 2, False, True),
            (cql.ReadTimeout, 3, False, True),
        ]
        first, second, third = script.hosts
        assert first is not second
        assert second is third


@pytest.mark.parametrize("profile_too", [False, True])
async def test_the_calls_policy_goes_before_the_profiles(profile_too: bool) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster)
    profile = cql.Profile(retry=Recording((NEXT,)) if profile_too else cql.NoRetry())
    async with session_on(cluster, profile=profile) as session:
        await connected(session, cluster.hosts)
        for policy, attempts in ((None, 1 + profile_too), (cql.NoRetry(), 1)):
            script.faults, script.attempts = [REFUSED] * 3, []
            with pytest.raises(cql.IsBootstrapping):
                if policy is None:
                    await session.execute(SELECT, (1,))
                else:
                    await session.execute(SELECT, (1,), retry=policy)
            assert len(script.attempts) == attempts
        script.faults, script.attempts = [REFUSED] * 2, []
        other = session.using(profile=cql.Profile(retry=Recording((NEXT, NEXT))))
        assert (await other.execute(SELECT, (1,))).one().v == 1
        script.faults, script.attempts = [REFUSED] * 2, []
        result = await session.execute(SELECT, (1,), profile=other.profile)
        assert len(result.attempts) == 2


@pytest.mark.parametrize(
    "fault",
    [
        OVERLOADED,
        Fault("cut", applied=True),
        failure(ErrorCode.WRITE_TIMEOUT, applied=True),
        failure(ErrorCode.SERVER_ERROR, applied=True),
        failure(0x7777),
    ],
)
@pytest.mark.parametrize("unsafe", ["insert", "lwt", "batch"])
async def test_a_policy_is_not_asked_where_another_try_is_not_safe(
    fault: Fault, unsafe: str
) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster, [fault])
    policy = Recording((NEXT, NEXT))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.CQLError) as caught:
            if unsafe == "insert":
                await session.execute(INSERT, (1, 2), retry=policy)
            elif unsafe == "lwt":
                await session.execute(LWT, (1, 2), retry=policy, idempotent=True)
            else:
                await session.batch([(INSERT, (1, 2))], retry=policy)
        assert policy.asked == []
        assert caught.value.maybe_applied
        assert len(script.attempts) == 1
        assert session.statistics().retries == 0


async def test_no_retry() -> None:
    cluster = FakeCluster(3)
    script = Script(cluster)
    async with session_on(cluster, profile=cql.Profile(retry=cql.NoRetry())) as session:
        await connected(session, cluster.hosts)
        for fault in (REFUSED, OVERLOADED, Fault("cut")):
            script.faults, script.attempts = [fault], []
            with pytest.raises(cql.CQLError) as caught:
                await session.execute(SELECT, (1,), idempotent=True)
            assert len(script.attempts) == 1
            assert caught.value.attempts == ()
            await connected(session, cluster.hosts)
        # preparing at a host that doesn't know the statement is no retry
        script.attempts = []
        for host in cluster.hosts:
            host.prepared.clear()
        assert (await session.execute(SELECT, (5,))).one().v == 5
        assert session.statistics().retries == 0


async def test_a_policy_that_raises_is_the_callers() -> None:
    class Faulty:
        def decide(self, error: CQLError, **facts: Any) -> Retry | None:
            raise ZeroDivisionError("faulty policy")

    cluster = FakeCluster(2)
    Script(cluster, [REFUSED])
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(ZeroDivisionError):
            await session.execute(SELECT, (1,), retry=Faulty())
        await settled(session)


async def test_the_wait_is_within_what_the_policy_says() -> None:
    cluster = FakeCluster(2)
    script = Script(cluster)
    policy = Recording((Retry(next_host=True, delay=0.1),))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        script.faults = [OVERLOADED]
        started = anyio.current_time()
        await session.execute(SELECT, (1,), retry=policy)
        assert 0.05 <= anyio.current_time() - started <= 0.1  # at least half of the pause
        await settled(session)


@pytest.mark.parametrize("way", ["cancelled", "closed"])
async def test_whoever_waits_for_another_try_can_be_interrupted(way: str) -> None:
    cluster = FakeCluster(2)
    script = Script(cluster, [OVERLOADED])
    policy = Recording((Retry(next_host=True, delay=3600),))
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        call = start(group, lambda: session.execute(SELECT, (1,), retry=policy, timeout=None))
        await until(lambda: snapshot(session).pausing)
        if way == "cancelled":
            call.scope.cancel()
            await settled(session)
            await idle(session)
            assert not snapshot(session).alarms
        else:
            await session.aclose()
            await until(lambda: call.done)
            assert isinstance(call.error, cql.SessionClosed)
            assert [type(each) for each in call.error.attempts] == [cql.ServerOverloaded]
        assert len(script.attempts) == 1


async def test_the_default_bounds_its_attempts() -> None:
    cluster = FakeCluster(8)
    script = Script(cluster, [REFUSED] * 9)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.IsBootstrapping) as caught:
            await session.execute(SELECT, (1,))
        assert len(script.attempts) == len(caught.value.attempts) == 4
        assert session.statistics().retries == 3


async def test_a_host_that_cannot_prepare_is_passed_over() -> None:
    """Nothing was applied, whatever the statement: the policy decides on the next host."""
    cluster = FakeCluster(3)
    script = Script(cluster)
    refused: list[FakeRequest] = []

    def refuse(request: FakeRequest) -> Error | None:
        if request.host is cluster.hosts[0]:
            return None
        refused.append(request)
        return REFUSED.message()

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, refuse):
            for key in range(12):
                result = await session.execute(INSERT, (key, key))
                assert result.host == str(cluster.hosts[0])
        assert refused
        assert set(script.hosts) == {cluster.hosts[0]}
        assert script.applied == 12


VERBS = ["prepare", "execute", "page", "stream", "batch"]


async def prepare_by(session: cql.Session, verb: str, policy: Any) -> None:
    """Prepare a statement with a verb, under a retry policy."""
    if verb == "prepare":
        await session.using(retry=policy).prepare(SELECT)
    elif verb == "execute":
        await session.execute(SELECT, (1,), retry=policy)
    elif verb == "page":
        await session.page(SELECT, (1,), retry=policy)
    elif verb == "stream":
        assert [row async for row in session.stream(SELECT, (1,), retry=policy)]
    else:
        await session.batch([(INSERT, (1, 2))], retry=policy)


@pytest.mark.parametrize("verb", VERBS)
async def test_the_policy_is_asked_when_prepare_fails(verb: str) -> None:
    """It decides on the host, as for any other request: the same one, then the next one."""
    cluster = FakeCluster(3)
    faults = [REFUSED, OVERLOADED]
    asked: list[FakeHost] = []

    def refuse(request: FakeRequest) -> Error | None:
        asked.append(request.host)
        return faults.pop(0).message() if faults else None

    policy = Recording((SAME, NEXT))
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, refuse):
            await prepare_by(session, verb, policy)
        reads = verb != "batch"
        assert policy.asked[:2] == [
            (cql.IsBootstrapping, 1, False, reads),
            (cql.ServerOverloaded, 2, False, reads),
        ]
        first, second, third = asked[:3]
        assert first is second
        assert second is not third
        await settled(session)


@pytest.mark.parametrize("verb", VERBS)
async def test_the_policy_gives_up_when_a_connection_breaks_on_prepare(verb: str) -> None:
    cluster = FakeCluster(3)
    asked: list[FakeHost] = []

    def cut(request: FakeRequest) -> Error:
        asked.append(request.host)
        request.connection.cut()
        return REFUSED.message()

    policy = Recording(())
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, cut), pytest.raises(cql.ConnectionLost) as caught:
            await prepare_by(session, verb, policy)
        assert policy.asked == [(cql.ConnectionLost, 1, False, verb != "batch")]
        assert len(asked) == 1
        assert caught.value.maybe_applied is False
        await settled(session)


async def test_a_policy_that_raises_when_prepare_fails_is_the_callers() -> None:
    class Faulty:
        def decide(self, error: CQLError, **facts: Any) -> Retry | None:
            raise ZeroDivisionError("faulty policy")

    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with (
            preparing(cluster, lambda request: REFUSED.message()),
            pytest.raises(ZeroDivisionError),
        ):
            await session.execute(SELECT, (1,), retry=Faulty())
        await settled(session)


async def test_callers_who_share_a_prepare_follow_their_own_policies() -> None:
    """One caller gives up and another goes on; the statement is prepared for the other."""
    cluster = FakeCluster(2)
    held: list[FakeRequest] = []
    usual = cluster._prepare

    def hold(request: FakeRequest, message: Prepare) -> Response | None:
        held.append(request)
        return None if len(held) == 1 else usual(request, message)

    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "_prepare", hold)
            stops = start(group, lambda: session.execute(SELECT, (1,), retry=cql.NoRetry()))
            goes_on = start(group, lambda: session.execute(SELECT, (2,), retry=Recording((NEXT,))))
            await until(lambda: held)
            held[0].connection.cut()
            await until(lambda: stops.done and goes_on.done)
        assert isinstance(stops.error, cql.ConnectionLost)
        assert goes_on.result.one().v == 2
        assert len(held) == 2
        assert held[0].host is not held[1].host
        await settled(session)


async def test_another_host_prepares_though_it_is_busier() -> None:
    """A host that joins has no requests, so the selector prefers it each time."""
    cluster = FakeCluster(2)
    idle_one, busy = cluster.hosts
    script = Script(cluster, [Fault("held")] * 8)

    def refuse(request: FakeRequest) -> Error | None:
        return REFUSED.message() if request.host is idle_one else None

    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        calls = [start(group, lambda: session.execute("SELECT v FROM ks.t")) for _ in range(8)]
        await until(lambda: len(script.held) == 8)
        for request in script.held:
            if request.host is idle_one:
                request.reply(failure(ErrorCode.INVALID).message())
        assert any(request.host is busy for request in script.held)
        with preparing(cluster, refuse):
            for number in range(5):
                await session.prepare(f"SELECT v FROM ks.t WHERE k = ? AND n = {number}")
        for request in script.held:
            if request.host is busy:
                request.reply(failure(ErrorCode.INVALID).message())
        await until(lambda: all(call.done for call in calls))
        await idle(session)


@pytest.mark.parametrize("prepares", [False, True])
async def test_a_session_that_is_closed_between_two_attempts(
    prepares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hosts are left then; the error is SessionClosed, whatever failed before."""
    cluster = FakeCluster(3)
    Script(cluster, [OVERLOADED] * 9)

    def refuse(request: FakeRequest) -> Error | None:
        return OVERLOADED.message() if prepares else None

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)

        async def pause(supervisor: object, request: object, delay: float) -> None:
            await session.aclose()  # in the turn in which the pause ends

        monkeypatch.setattr(Supervisor, "pause", pause)
        with preparing(cluster, refuse), pytest.raises(cql.SessionClosed) as caught:
            await session.execute(SELECT, (1,))
    [before] = caught.value.attempts
    assert isinstance(before, cql.ServerOverloaded)
