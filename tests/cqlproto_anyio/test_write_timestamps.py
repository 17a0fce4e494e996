"""Client timestamps of writes: one per statement, however often it is sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto.messages import Batch, Error, Execute, Query
from cqlproto_anyio._execution import context as context_module
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faults import Fault, Script, failure, success
from tests.support.server import idle, start, state, until
from tests.support.virtual_clock import time_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.fakecluster import FakeRequest

pytestmark = pytest.mark.uvloop

PLAIN = "INSERT INTO ks.t (k, v) VALUES (1, 2)"
UPDATE = "UPDATE ks.t SET v = ? WHERE k = ?"
DELETE = "DELETE FROM ks.t WHERE k = ?"


def stamp_of(request: FakeRequest) -> int | None:
    message = request.message
    if isinstance(message, (Query, Execute)):
        return message.parameters.timestamp
    assert isinstance(message, Batch)
    return message.timestamp


def stamps(cluster: FakeCluster) -> list[int | None]:
    """Return the timestamps of the statements since the last call, in order."""
    assert cluster.seen is not None
    seen, cluster.seen = cluster.seen, []
    return [
        stamp_of(request)
        for request in seen
        if isinstance(request.message, (Query, Execute, Batch)) and "system" not in request.text
    ]


WRITES: dict[str, Callable[..., Awaitable[Any]]] = {
    "insert": lambda session, **more: session.execute(INSERT, (1, 2), **more),
    "update": lambda session, **more: session.execute(UPDATE, (1, 2), **more),
    "delete": lambda session, **more: session.execute(DELETE, (1,), **more),
    "plain": lambda session, **more: session.execute(PLAIN, **more),
    "page": lambda session, **more: session.page(INSERT, (1, 2), **more),
    "traced": lambda session, **more: session.execute(INSERT, (1, 2), trace=True, **more),
    "batch": lambda session, **more: session.batch([(INSERT, (1, 2)), PLAIN], **more),
}

OTHERS: dict[str, Callable[..., Awaitable[Any]]] = {
    "select": lambda session, **more: session.execute(SELECT, (1,), **more),
    "plain select": lambda session, **more: session.execute("SELECT v FROM ks.t", **more),
    "lwt": lambda session, **more: session.execute(LWT, (1, 2), **more),
    "plain lwt": lambda session, **more: session.execute(PLAIN + " IF NOT EXISTS", **more),
    "conditional batch": lambda session, **more: session.batch([(LWT, (1, 2))], **more),
    "ddl": lambda session, **more: session.execute("TRUNCATE ks.t", **more),
}


@pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V4])
async def test_writes_have_one_and_nothing_else_has(version: ProtocolVersion) -> None:
    cluster = FakeCluster(2)
    Script(cluster)
    async with session_on(cluster, protocol_version=version) as session:
        await connected(session, cluster.hosts)
        last = 0
        for idempotent in (False, True):
            for _ in range(2):  # prepared first, then on the fast path
                for call in WRITES.values():
                    cluster.seen = []
                    before = time_ns() // 1000
                    await call(session, idempotent=idempotent)
                    found = set(stamps(cluster))
                    # a host that doesn't know the statement is sent PREPARE, and the request again
                    assert None not in found
                    for stamp in sorted(stamp for stamp in found if stamp is not None):
                        assert stamp > last
                        last = stamp
                        assert before - 1000 <= stamp <= time_ns() // 1000 + 1000
                for call in OTHERS.values():
                    cluster.seen = []
                    await call(session, idempotent=idempotent)
                    assert set(stamps(cluster)) == {None}


@pytest.mark.parametrize("where", ["session", "call", "using"])
async def test_a_profiles_timestamp_wins(where: str) -> None:
    cluster = FakeCluster(2)
    script = Script(cluster)
    profile = cql.Profile(timestamp=12345)
    async with session_on(cluster, profile=profile if where == "session" else None) as session:
        await connected(session, cluster.hosts)
        user = session.using(profile=profile) if where == "using" else session
        more = {"timestamp": 12345} if where == "call" else {}
        for call in WRITES.values():
            cluster.seen = []
            for _ in range(2):  # prepared at both hosts
                await call(user, **more)
            script.faults = [failure(ErrorCode.IS_BOOTSTRAPPING)]  # sent twice
            await call(user, idempotent=True, **more)
            assert not script.faults
            assert set(stamps(cluster)) == {12345}


async def test_the_server_makes_them_if_it_is_told_to() -> None:
    cluster = FakeCluster(2)
    script = Script(cluster)
    async with session_on(cluster, client_timestamps=False) as session:
        await connected(session, cluster.hosts)
        cluster.seen = []
        for call in WRITES.values():
            for _ in range(2):
                await call(session)
            script.faults = [failure(ErrorCode.IS_BOOTSTRAPPING)]
            await call(session, idempotent=True)
            assert not script.faults
        assert set(stamps(cluster)) == {None}


TROUBLE = {
    "refused": failure(ErrorCode.IS_BOOTSTRAPPING),
    "overloaded": failure(ErrorCode.OVERLOADED),
    "cut": Fault("cut"),
    "unprepared": Fault("unprepared"),
}


@pytest.mark.parametrize(
    ("trouble", "timeout"), [*[(name, 10.0) for name in TROUBLE], ("refused", None)]
)
@pytest.mark.parametrize("name", WRITES)
async def test_all_attempts_at_an_idempotent_write_have_one(
    name: str, trouble: str, timeout: float | None
) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster)
    policy = cql.DefaultRetry(overload_delay=0.001)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for _ in range(2):  # prepared first, then on the fast path
            await WRITES[name](session, idempotent=True)
            cluster.seen = []
            script.faults = [TROUBLE[trouble]] * (1 if trouble == "unprepared" else 2)
            for host in cluster.hosts:
                host.latency = 0.03
            if trouble == "unprepared" and name == "plain":
                continue
            await WRITES[name](session, idempotent=True, retry=policy, timeout=timeout)
            found = stamps(cluster)
            assert len(found) >= 2
            first = found[0]
            assert first is not None
            for stamp in found[1:]:
                assert stamp is not None
                assert stamp == first
            for host in cluster.hosts:
                host.latency = 0  # broken connections are replaced at once
            await connected(session, cluster.hosts)


@pytest.mark.parametrize("name", WRITES)
async def test_speculative_attempts_have_one(name: str) -> None:
    cluster = FakeCluster(3)
    script = Script(cluster)
    speculation = cql.ConstantSpeculation(0.01, attempts=2)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        for _ in range(6):
            await WRITES[name](session)
        cluster.seen = []
        script.faults = [Fault("held")] * 3
        call = start(group, lambda: WRITES[name](session, idempotent=True, speculation=speculation))
        await until(lambda: len(script.held) == 3)
        found = stamps(cluster)
        assert len(set(found)) == 1
        assert None not in found
        for request in script.held:
            request.reply(success(request))
        await until(lambda: call.done)
        assert call.error is None
        await idle(session)


@pytest.mark.parametrize("timeout", [10.0, None])
@pytest.mark.parametrize("speculation", [None, cql.ConstantSpeculation(5.0)])
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_had_to_wait_to_be_sent_keeps_its_timestamp(
    name: str, speculation: cql.Speculation | None, timeout: float | None
) -> None:
    """Its connection was full. The reply is lost; what was written since must stay."""
    cluster = FakeCluster(2)
    script = Script(cluster)
    async with (
        session_on(cluster, max_in_flight=1, max_connections_per_host=1) as session,
        anyio.create_task_group() as group,
    ):
        await connected(session, cluster.hosts)
        for _ in range(4):  # prepared at both hosts
            await WRITES[name](session)
        script.faults = [Fault("held")] * 3
        full = [start(group, lambda: WRITES[name](session)) for _ in range(2)]
        await until(lambda: len(script.held) == 2)
        cluster.seen = []
        options: dict[str, Any] = {"timeout": timeout, "speculation": speculation}
        write = start(group, lambda: WRITES[name](session, idempotent=True, **options))
        await until(lambda: state(session).waiting == 1)
        for request in script.held[:2]:
            request.reply(success(request))
        await until(lambda: len(script.held) == 3)
        await WRITES[name](session)  # the other host has room
        script.held[2].connection.cut()
        await until(lambda: write.done and all(call.done for call in full))
        assert write.error is None
        first, later, again = stamps(cluster)
        assert first is not None
        assert later is not None
        assert again == first < later
        await idle(session)


async def test_a_write_whose_connection_was_lost_before_it_was_sent() -> None:
    """It has no timestamp yet. All further attempts have the same."""
    cluster = FakeCluster(3)
    script = Script(cluster)
    async with (
        session_on(cluster, max_in_flight=1, max_connections_per_host=1) as session,
        anyio.create_task_group() as group,
    ):
        await connected(session, cluster.hosts)
        for _ in range(6):
            await session.execute(INSERT, (1, 2))
        script.faults = [*[Fault("held")] * 3, TROUBLE["refused"]]
        full = [start(group, lambda: session.execute(INSERT, (1, 2))) for _ in range(3)]
        await until(lambda: len(script.held) == 3)
        cluster.seen = []
        write = start(group, lambda: session.execute(INSERT, (1, 3), idempotent=True))
        await until(lambda: state(session).waiting == 1)
        [waits] = [each for each in session.statistics().hosts if each.waiting]
        for request in script.held:
            if str(request.host) == waits.address:
                request.connection.cut()
            else:
                request.reply(success(request))
        await until(lambda: write.done and all(call.done for call in full))
        assert write.error is None
        found = stamps(cluster)
        assert len(found) == 2
        assert None not in found
        assert len(set(found)) == 1
        await idle(session)


# -- conditional statements wait for earlier writes' timestamps


class Clock:
    """A ``time_ns`` that the test sets."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


SECOND = 1_700_000_000_000_000_000


async def test_a_conditional_statement_waits_for_the_next_millisecond() -> None:
    cluster = FakeCluster(1)
    script = Script(cluster)
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(SECOND + 400_000)
        patch.setattr(context_module, "time_ns", clock)
        async with session_on(cluster) as session, anyio.create_task_group() as group:
            await session.execute(LWT, (1, 2))  # nothing was written yet: no wait
            cluster.seen = []
            await session.execute(INSERT, (1, 2))
            [stamp] = stamps(cluster)
            assert stamp == (SECOND + 400_000) // 1000
            before = len(script.attempts)
            call = start(group, lambda: session.execute(LWT, (1, 2)))
            await anyio.sleep(0.02)
            assert not call.done  # the clock stands still
            assert len(script.attempts) == before
            clock.now = SECOND + 1_000_000
            await until(lambda: call.done)
            assert call.result.applied
            # now the clock has passed the write
            with anyio.fail_after(5):
                await session.execute(LWT, (1, 2))
                await session.batch([(LWT, (1, 2))], kind="unlogged")
            await idle(session)


class Drift(cql.Hooks):
    """Records what the hook is called with."""

    def __init__(self) -> None:
        self.told: list[cql.ClockRecord] = []

    def clock_drifted(self, record: cql.ClockRecord) -> None:
        self.told.append(record)


def warnings_of(log: pytest.LogCaptureFixture) -> int:
    return sum("clock was set back" in each.getMessage() for each in log.records)


async def test_a_clock_that_was_ahead_for_one_write(caplog: pytest.LogCaptureFixture) -> None:
    """The hook is called; nodes make the timestamps; no write is silently lost to that one."""
    cluster = FakeCluster(1)
    script = Script(cluster)
    hooks = Drift()
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(SECOND)
        patch.setattr(context_module, "time_ns", clock)
        async with session_on(cluster, hooks=hooks) as session:
            for call in (*WRITES.values(), *OTHERS.values()):
                await call(session)  # prepared
                clock.now += 10**6
            clock.now += 3600 * 10**9
            await session.execute(INSERT, (1, 2))
            clock.now = SECOND + 10**9
            cluster.seen = []
            for call in WRITES.values():
                for idempotent in (False, True):
                    await call(session, idempotent=idempotent)
                await call(session, speculation=cql.ConstantSpeculation(5.0), idempotent=True)
            assert set(stamps(cluster)) == {None}
            before = len(script.attempts)
            for name in ("lwt", "plain lwt", "conditional batch"):
                with pytest.raises(cql.ClockDrifted, match=r"3,59\d\.\d+ s behind") as caught:
                    await OTHERS[name](session)
                assert not caught.value.maybe_applied
                assert 3590 < caught.value.drift < 3600
            assert len(script.attempts) == before
            await session.execute(SELECT, (1,))
            [record] = hooks.told
            assert 3590 < record.drift < 3600
            assert record.stamping is False
            assert warnings_of(caplog) == 1
            # other sessions are not affected
            another = FakeCluster(1)
            Script(another)
            async with session_on(another) as other:
                assert (await other.execute(LWT, (1, 2))).applied
            # in the end the session works as before
            clock.now = SECOND + 3601 * 10**9
            cluster.seen = []
            await session.execute(INSERT, (1, 2))
            assert stamps(cluster) == [clock.now // 1000]
            clock.now += 10**6
            assert (await session.execute(LWT, (1, 2))).applied


async def test_after_a_small_step_back_timestamps_go_on_and_conditions_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster(1)
    script = Script(cluster)
    hooks = Drift()
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(SECOND)
        patch.setattr(context_module, "time_ns", clock)
        async with (
            session_on(cluster, hooks=hooks) as session,
            anyio.create_task_group() as group,
        ):
            for call in WRITES.values():
                await call(session)
            cluster.seen = []
            await session.execute(INSERT, (1, 2))
            clock.now -= 40 * 10**6
            for call in WRITES.values():
                await call(session)
            found = [stamp for stamp in stamps(cluster) if stamp is not None]
            assert found == sorted(set(found))
            assert len(found) == 8
            assert [record.stamping for record in hooks.told] == [True]
            assert warnings_of(caplog) == 1
            with pytest.raises(cql.ClockDrifted):  # the wait would exceed the deadline
                await session.execute(LWT, (1, 2), timeout=0.01)
            before = len(script.attempts)
            waiting = start(group, lambda: session.execute(LWT, (1, 2)))
            await until(lambda: snapshot(session).pausing)
            assert len(script.attempts) == before
            clock.now = SECOND + 10**9
            await until(lambda: waiting.done)
            assert waiting.result.applied


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_that_is_sent_again_keeps_its_timestamp(name: str) -> None:
    """The clock changes in between."""
    cluster = FakeCluster(3)
    script = Script(cluster)
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(SECOND)
        patch.setattr(context_module, "time_ns", clock)
        async with session_on(cluster) as session, anyio.create_task_group() as group:
            await connected(session, cluster.hosts)
            for _ in range(8):
                await WRITES[name](session, idempotent=True)
            for step in (-5 * 10**9, 5 * 10**9, -100 * 10**6):
                cluster.seen = []
                script.faults = [Fault("held")]
                clock.now += 20 * 10**9
                call = start(group, lambda: WRITES[name](session, idempotent=True))
                await until(lambda: len(script.held) == 1)
                clock.now += step
                [first] = stamps(cluster)
                held = script.held.pop()
                held.reply(Error(ErrorCode.IS_BOOTSTRAPPING, "not yet"))
                await until(partial(getattr, call, "done"))
                assert call.error is None
                assert set(stamps(cluster)) == {first}
                clock.now += 20 * 10**9


@pytest.mark.parametrize("way", ["closed", "cancelled", "late"])
async def test_that_wait_can_be_interrupted(way: str) -> None:
    cluster = FakeCluster(1)
    script = Script(cluster)
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(SECOND)
        patch.setattr(context_module, "time_ns", clock)
        async with session_on(cluster) as session, anyio.create_task_group() as group:
            await session.prepare(LWT)
            await session.execute(INSERT, (1, 2))
            before = len(script.attempts)
            timeout = 0.05 if way == "late" else None
            call = start(group, lambda: session.execute(LWT, (1, 2), timeout=timeout))
            await until(lambda: snapshot(session).pausing or call.done)
            if way == "cancelled":
                call.scope.cancel()
            elif way == "closed":
                await session.aclose()
            if way != "cancelled":
                await until(lambda: call.done)
                kind = cql.SessionClosed if way == "closed" else cql.RequestTimeout
                assert isinstance(call.error, kind)
                assert not call.error.maybe_applied
            await until(lambda: not snapshot(session).pausing)
            assert len(script.attempts) == before
            if way != "closed":
                await idle(session)
