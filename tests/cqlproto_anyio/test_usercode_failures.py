"""Exceptions of the user's code fail only the call or connection attempt that ran the code.

The session keeps working for all other callers, whatever is raised: exceptions, SystemExit,
KeyboardInterrupt, the cancellation of another task. Each test breaks a piece of user code for a
while, on a cluster of two hosts of which one is reached through this code; before and after, calls
are served.
"""

from __future__ import annotations

import asyncio
import logging
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.connection import PlainAuthenticator
from cqlproto.enums import ErrorCode
from cqlproto_anyio._network import connection as connection_module
from cqlproto_anyio._network.transport import Transport
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faults import Fault, Script, failure, settled
from tests.support.replies import echo, ints
from tests.support.server import idle, serving, start, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response
    from tests.support.fakehosts import FakeHost, FakeRequest


class Odd(BaseException):
    """A BaseException that ``except Exception`` doesn't catch."""


class Mute(BaseException):
    """A BaseException whose ``str`` raises."""

    def __str__(self) -> str:
        raise Odd("mute")


RAISED: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: LookupError("as told"),
    "cancellation": lambda: asyncio.CancelledError("of another task"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "odd": lambda: Odd("as told"),
    "mute": Mute,
    "group": lambda: BaseExceptionGroup("several", [Odd("one"), ValueError("two")]),
}
each_raised = pytest.mark.parametrize("raised", RAISED)
some_raised = pytest.mark.parametrize("raised", ["cancellation", "exit"])


class Switch:
    """Raises while it is on, and counts how often it did."""

    def __init__(self, raised: str) -> None:
        self._make = RAISED[raised]
        self.on = False
        self.count = 0

    def __call__(self) -> None:
        if self.on:
            self.count += 1
            raise self._make()


async def serves(session: cql.Session, hosts: list[FakeHost] | None = None) -> None:
    """Check that calls are served, by each of these hosts."""
    if hosts is not None:
        await connected(session, hosts)
    for key in range(10):
        assert (await session.execute(SELECT, (key,))).one().v == key


async def survives(
    cluster: FakeCluster,
    switch: Switch,
    session: cql.Session,
    kind: type[cql.CQLError] = cql.ConnectionFailed,
) -> cql.CQLError:
    """Lose a host and reach it again through code that raises; return why it was not reachable."""
    await connected(session, cluster.hosts)
    switch.on = True
    [address] = [each for each in session.statistics().hosts if each.address.startswith("10.0.0.2")]
    cluster.hosts[1].cut()
    await until(lambda: switch.count >= 2)
    await serves(session)
    error = None

    def has_failed() -> bool:
        nonlocal error
        [host] = [each for each in session.statistics().hosts if each.address == address.address]
        error = host.error
        return error is not None

    await until(has_failed)
    switch.on = False
    await serves(session, cluster.hosts)
    assert isinstance(error, kind)
    return error


# -- code that makes connections


@each_raised
async def test_a_connector(raised: str) -> None:
    cluster, switch = FakeCluster(2), Switch(raised)

    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        await anyio.lowlevel.checkpoint()
        switch()
        return await cluster.connector(endpoint)

    config = cql.Config(connector=connector, reconnection=cql.ConstantReconnection(0.002, 0.0))
    async with cql.connect(cluster.addresses[:1], config=config) as session:
        error = await survives(cluster, switch, session)
        assert "the connector raised" in str(error)
        assert type(error.__cause__) is type(RAISED[raised]())


@some_raised
async def test_a_connector_at_first(raised: str) -> None:
    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        await anyio.lowlevel.checkpoint()
        raise RAISED[raised]()

    for discovery in (True, False):
        config = cql.Config(connector=connector, discovery=discovery)
        with anyio.fail_after(5), pytest.raises(cql.ConnectionFailed, match="the connector raised"):
            async with cql.connect("node", config=config):
                pass


async def test_a_connector_that_asks_another_session() -> None:
    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        raise cql.RequestTimeout("the registry is slow")

    config = cql.Config(connector=connector)
    with pytest.raises(cql.ConnectionFailed, match="raised RequestTimeout: the registry is slow"):
        async with cql.connect("node", config=config):
            pass


@pytest.mark.parametrize("wrong", [None, "a stream", b""])
async def test_a_connector_that_returns_no_stream(wrong: Any) -> None:
    async def connector(endpoint: cql.Endpoint) -> Any:
        return wrong

    with pytest.raises(cql.ConnectionFailed, match=f"a {type(wrong).__name__}, not a ByteStream"):
        async with cql.connect("node", config=cql.Config(connector=connector)):
            pass


@some_raised
@pytest.mark.parametrize("step", ["authenticator", "initial_response"])
async def test_credentials(raised: str, step: str) -> None:
    cluster, switch = FakeCluster(2), Switch(raised)
    cluster.verify = lambda token: True

    class Authenticator(PlainAuthenticator):
        def initial_response(self, mechanism: str) -> bytes:
            if step == "initial_response":
                switch()
            return super().initial_response(mechanism)

    class Auth:
        async def authenticator(self, endpoint: cql.Endpoint) -> Authenticator:
            await anyio.lowlevel.checkpoint()
            if step == "authenticator":
                switch()
            return Authenticator("ann", "secret")

    config = cluster.config(reconnection=cql.ConstantReconnection(0.002, 0.0))
    async with cql.connect(cluster.addresses[:1], auth=Auth(), config=config) as session:
        error = await survives(cluster, switch, session, cql.AuthenticationFailed)
        assert "secret" not in str(error)


@each_raised
async def test_a_password_function_at_first(raised: str) -> None:
    async def password() -> str:
        raise RAISED[raised]()

    cluster = FakeCluster(1)
    auth = cql.PlainAuth("ann", password)
    with anyio.fail_after(5), pytest.raises(cql.AuthenticationFailed, match="provider raised"):
        async with cql.connect(cluster.addresses, auth=auth, config=cluster.config()):
            pass


async def test_a_provider_whose_own_task_is_cancelled() -> None:
    """The provider's CancelledError is not the session's."""
    cluster, cancelled = FakeCluster(2), False

    async def password() -> str:
        if cancelled and anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            task = asyncio.ensure_future(asyncio.sleep(3600))
            asyncio.get_running_loop().call_soon(task.cancel)
            await task
        elif cancelled:
            raise asyncio.CancelledError
        return "secret"

    auth = cql.PlainAuth("ann", password)
    cluster.verify = lambda token: True
    config = cluster.config(reconnection=cql.ConstantReconnection(0.002, 0.0))
    async with cql.connect(cluster.addresses, auth=auth, config=config) as session:
        await connected(session, cluster.hosts)
        cancelled = True
        cluster.hosts[1].cut()
        await until(lambda: any(host.failures > 1 for host in session.statistics().hosts))
        await serves(session)
        cancelled = False
        await serves(session, cluster.hosts)


@pytest.mark.parametrize("slow", ["connector", "provider"])
async def test_closing_still_cancels_what_takes_long(slow: str) -> None:
    """A real cancellation ends the session, and no attempt counts as failed because of it."""
    cluster = FakeCluster(2)
    cluster.verify = lambda token: True
    hanging, ended = False, 0

    async def hang() -> None:
        nonlocal ended
        try:
            if hanging:
                await anyio.sleep_forever()
        finally:
            ended += hanging

    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        if slow == "connector":
            await hang()
        return await cluster.connector(endpoint)

    async def password() -> str:
        if slow == "provider":
            await hang()
        return "secret"

    config = cql.Config(connector=connector)
    auth = cql.PlainAuth("ann", password)
    with anyio.fail_after(5):
        async with cql.connect(cluster.addresses, auth=auth, config=config) as session:
            await connected(session, cluster.hosts)
            hanging = True
            cluster.hosts[1].cut()
            await until(lambda: any(host.connecting for host in session.statistics().hosts))
            await turns()
        assert ended
        assert all(host.failures == 0 for host in session.statistics().hosts)


@some_raised
async def test_translation(raised: str) -> None:
    cluster, switch = FakeCluster(2), Switch(raised)

    def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
        if endpoint.address == cluster.hosts[1].address:
            switch()
        return endpoint

    async with session_on(cluster, translate=translate) as session:
        await connected(session, cluster.hosts)
        switch.on = True
        cluster.tell_topology("NEW_NODE", cluster.hosts[1])
        await until(lambda: switch.count)
        await serves(session)
        switch.on = False
        cluster.tell_topology("NEW_NODE", cluster.hosts[1])
        await serves(session, cluster.hosts)


@some_raised
async def test_a_host_filter(raised: str) -> None:
    """The filter's earlier decision about a host is kept."""
    cluster, switch = FakeCluster(2), Switch(raised)

    def host_filter(host: cql.Host) -> bool:
        switch()
        return True

    routing = cql.Routing(host_filter=host_filter)
    async with session_on(cluster, routing=routing) as session:
        await connected(session, cluster.hosts)
        switch.on = True
        cluster.hosts[1].cut()
        new = cluster.add()
        cluster.tell_topology("NEW_NODE", new)
        await until(lambda: switch.count >= 3)
        await serves(session, cluster.hosts[:2])


async def test_a_host_filter_that_always_raises() -> None:
    def host_filter(host: cql.Host) -> bool:
        raise LookupError("no such rack")

    cluster = FakeCluster(2)
    with pytest.raises(cql.ConfigError, match="host_filter raised LookupError: no such rack"):
        async with session_on(cluster, routing=cql.Routing(host_filter=host_filter)):
            pass


# -- transports


class Breaking(anyio.abc.ByteStream):
    """A transport that raises an unexpected exception."""

    def __init__(self, stream: anyio.abc.ByteStream, switch: Switch, steps: str) -> None:
        self._stream = stream
        self._switch = switch
        self._steps = steps

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        data = await self._stream.receive(max_bytes)
        if "receive" in self._steps:
            self._switch()
        return data

    async def send(self, item: bytes) -> None:
        if "send" in self._steps:
            await anyio.lowlevel.checkpoint()
            self._switch()
        await self._stream.send(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._stream.aclose()
        if "aclose" in self._steps:
            self._switch()


@some_raised
@pytest.mark.parametrize("steps", ["receive", "send", "send, aclose", "aclose"])
async def test_a_transport(raised: str, steps: str) -> None:
    """It fails its own connection, and attempts to open others while it is broken."""
    cluster, switch = FakeCluster(2), Switch(raised)

    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        stream = await cluster.connector(endpoint)
        return Breaking(stream, switch, steps if endpoint.address == "10.0.0.2" else "")

    config = cql.Config(
        connector=connector,
        reconnection=cql.ConstantReconnection(0.002, 0.0),
        heartbeat_interval=3600,
    )
    async with cql.connect(cluster.addresses[:1], config=config) as session:
        await connected(session, cluster.hosts)
        switch.on = True
        if steps == "aclose":
            cluster.hosts[1].cut()
        while not switch.count:
            await session.execute(SELECT, (1,), timeout=5)
            await anyio.sleep(0.001)
        await serves(session)
        switch.on = False
        await serves(session, cluster.hosts)


@pytest.mark.parametrize("step", ["send", "receive"])
async def test_a_transport_that_uses_another_session(step: str) -> None:
    """The other session's errors don't change the state of this session."""

    class Other(Breaking):
        async def receive(self, max_bytes: int = 65_536) -> bytes:
            if step == "receive":
                raise cql.SessionClosed("the other session is closed")
            return await super().receive(max_bytes)

        async def send(self, item: bytes) -> None:
            if step == "send":
                raise cql.SessionClosed("the other session is closed")
            await super().send(item)

    cluster = FakeCluster(1)

    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        return Other(await cluster.connector(endpoint), Switch("odd"), "")

    for discovery in (True, False):
        config = cql.Config(connector=connector, discovery=discovery)
        with pytest.raises(cql.ConnectionFailed, match="transport raised SessionClosed: the other"):
            async with cql.connect(cluster.addresses, config=config):
                pass
    assert not cluster.connections


async def test_a_transport_that_ends_as_sockets_do() -> None:
    """An empty read ends the connection, and is not repeated."""
    cluster, ends = FakeCluster(1), False

    class Plain(Breaking):
        async def receive(self, max_bytes: int = 65_536) -> bytes:
            try:
                return await self._stream.receive(max_bytes)
            except anyio.EndOfStream:
                return b""

    async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        stream = Plain(await cluster.connector(endpoint), Switch("odd"), "")
        if ends:
            cluster.connections[-1].close()
        return stream

    config = cql.Config(
        connector=connector, discovery=False, reconnection=cql.ConstantReconnection(0.002, 0.0)
    )
    with anyio.fail_after(5):
        async with cql.connect(cluster.addresses, config=config) as session:
            ends = True
            cluster.connections[0].close()
            await until(lambda: session.statistics().hosts[0].failures > 1)
            assert "closed the connection" in str(session.statistics().hosts[0].error)
            ends = False
            await serves(session, cluster.hosts)


# -- hooks and policies


@some_raised
async def test_hooks(raised: str) -> None:
    cluster, switch = FakeCluster(2), Switch(raised)

    class Broken(cql.Hooks):
        def _fail(self, record: object) -> None:
            switch()

        host_added = host_removed = host_up = host_down = _fail
        connection_opened = connection_lost = control_moved = _fail

    async with session_on(cluster, hooks=Broken()) as session:
        await connected(session, cluster.hosts)
        switch.on = True
        for host in cluster.hosts:
            host.cut()
        await until(lambda: switch.count >= 7)
        await serves(session, cluster.hosts)


@some_raised
async def test_a_hook_of_a_request(raised: str) -> None:
    """It runs in the caller's task: SystemExit and the like are raised, all else is logged."""
    switch = Switch(raised)

    class Broken(cql.Hooks):
        def request_finished(self, record: cql.RequestRecord) -> None:
            switch()

    cluster = FakeCluster(2)
    async with session_on(cluster, hooks=Broken()) as session:
        await serves(session)
        switch.on = True
        if raised in ("exit", "interrupt"):
            with pytest.raises(type(RAISED[raised]())):
                await session.execute(SELECT, (1,))
        else:
            await serves(session)
        switch.on = False
        await serves(session)


@some_raised
async def test_a_reconnection_policy(raised: str) -> None:
    cluster, switch = FakeCluster(2), Switch(raised)

    class Policy:
        def delay(self, failures: int, fraction: float) -> float:
            switch()
            return 0.002

    async with session_on(cluster, reconnection=Policy()) as session:
        await connected(session, cluster.hosts)
        switch.on = True
        cluster.hosts[1].kill()
        await until(lambda: switch.count > 1)
        await serves(session)
        assert any(host.failures for host in session.statistics().hosts)


@some_raised
async def test_a_retry_policy(raised: str) -> None:
    """It runs in the caller's task; its exception comes with the failure as context."""
    cluster = FakeCluster(2)

    class Policy(cql.DefaultRetry):
        def decide(self, error: cql.CQLError, **facts: Any) -> cql.Retry | None:
            raise RAISED[raised]()

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        await serves(session)
        cluster.answer = lambda request: failure(ErrorCode.OVERLOADED).message()
        with pytest.raises(type(RAISED[raised]())) as info:
            await session.execute(SELECT, (1,), retry=Policy())
        assert isinstance(info.value.__cause__, cql.ServerOverloaded)
        cluster.answer = cluster.usual_answer
        await serves(session)
        await settled(session)


@pytest.mark.parametrize("wrong", ["again", True, cql.Retry(True, -1.0), cql.Retry(True, math.nan)])
async def test_a_retry_policy_that_decides_nonsense(wrong: Any) -> None:
    class Policy(cql.DefaultRetry):
        def decide(self, error: cql.CQLError, **facts: Any) -> Any:
            return wrong

    cluster = FakeCluster(2)
    cluster.answer = lambda request: failure(ErrorCode.OVERLOADED).message()
    async with session_on(cluster) as session:
        with pytest.raises(cql.ConfigError) as info:
            await session.execute(SELECT, (1,), retry=Policy())
        assert isinstance(info.value.__cause__, cql.ServerOverloaded)
        await settled(session)


@some_raised
@pytest.mark.parametrize("step", ["tracker", "attempts", "delay", "record", "hash"])
async def test_a_speculation_policy(raised: str, step: str) -> None:
    """Calls are answered without speculation."""
    switch = Switch(raised)
    switch.on = True

    class Tracker:
        @property
        def attempts(self) -> int:
            if step == "attempts":
                switch()
            return 1

        def delay(self) -> float | None:
            if step == "delay":
                switch()
            return 0.001

        def record(self, seconds: float) -> None:
            if step == "record":
                switch()

    class Policy:
        def tracker(self) -> Any:
            if step == "tracker":
                switch()
            return Tracker()

        def __hash__(self) -> int:
            if step == "hash" and in_flight():
                switch()
            return 1

    cluster = FakeCluster(2)
    async with session_on(cluster) as session:

        def in_flight() -> bool:
            return session.statistics().in_flight > 0

        await connected(session, cluster.hosts)
        profile = cql.Profile(speculation=Policy())
        for key in range(3):
            assert (await session.execute(SELECT, (key,), profile=profile)).one().v == key
        assert switch.count
        await settled(session)


# -- values


class Number:
    """A number that can be packed some times; then it raises."""

    def __init__(self, value: int, raised: str, times: int = 0) -> None:
        self._value = value
        self._raised = raised
        self.times = times
        self.asked = 0

    def __index__(self) -> int:
        self.asked += 1
        if self.asked > self.times:
            raise RAISED[self._raised]()
        return self._value


@some_raised
@pytest.mark.parametrize("verb", ["execute", "stream", "batch"])
async def test_a_value_that_is_packed_in_the_callers_task(raised: str, verb: str) -> None:
    """The caller gets the exception; nothing is sent and nothing is left."""
    cluster = FakeCluster(1)

    async def call() -> None:
        values = (Number(1, raised),)
        if verb == "stream":
            async for _ in session.stream(SELECT, values):
                pass
        elif verb == "batch":
            await session.batch([("UPDATE ks.t SET v = ?", values)])
        else:
            await getattr(session, verb)(SELECT, values)

    async with session_on(cluster) as session:
        await serves(session)
        kind = type(RAISED[raised]())
        with pytest.raises(kind):
            await call()
        await idle(session)
        await serves(session)


@some_raised
async def test_a_value_that_is_packed_for_a_second_host(raised: str) -> None:
    """The first attempt goes on, and is answered."""
    cluster = FakeCluster(3)
    script = Script(cluster)
    number = Number(7, raised, 1000)
    asked = 0

    def hold(request: FakeRequest) -> Response | None:
        nonlocal asked
        if number.asked and not asked:
            number.times = asked = number.asked
            script.faults = [Fault("held")]
        return script.answer(request)

    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        await serves(session)
        cluster.answer = hold
        soon = cql.ConstantSpeculation(0.1, attempts=2)
        call = start(group, lambda: session.execute(SELECT, (number,), speculation=soon))
        await until(lambda: script.held and number.asked > asked)
        await serves(session)
        assert not call.done
        script.held[0].reply(cluster.usual_answer(script.held[0]))
        await until(lambda: call.done)
        assert call.result.one().v == 7
        assert session.statistics().speculative == 0
        await settled(session)
        await serves(session)


@each_raised
async def test_a_value_that_waits_for_its_turn(raised: str) -> None:
    """The value is packed after another request was answered, in another task than its caller's."""
    async with (
        serving() as server,
        server.session(max_in_flight=1) as session,
        anyio.create_task_group() as group,
    ):
        server.answer = echo(server)
        assert (await session.execute("SELECT v FROM t WHERE v = ?", (1,))).scalar() == 1
        server.answer = lambda asked: None
        first = start(group, lambda: session.execute("SELECT v FROM t WHERE v = ?", (1,)))
        held = await server.next()
        ended: list[BaseException] = []

        async def second() -> None:
            try:
                await session.execute("SELECT v FROM t WHERE v = ?", (Number(2, raised),))
            except BaseException as exc:
                ended.append(exc)

        group.start_soon(second)
        third = start(group, lambda: session.execute("SELECT v FROM t WHERE v = ?", (3,)))
        await until(lambda: session.statistics().waiting == 2)
        server.answer = echo(server)
        held.reply(ints(1))
        await until(lambda: ended and first.done and third.done)
        [error] = ended
        if raised == "generator exit":  # Python closes a coroutine that this is thrown into
            assert type(error) is RuntimeError
            assert type(error.__cause__) is GeneratorExit
        elif raised == "exception":
            assert type(error) is cql.ValueConversionError
        else:
            assert type(error) is type(RAISED[raised]())
        assert first.result.scalar() == 1
        assert third.result.scalar() == 3
        await idle(session)


async def test_a_value_of_a_second_attempt() -> None:
    """The error describes the first attempt, which may have been applied."""
    cluster = FakeCluster(2)
    Script(cluster, [failure(ErrorCode.OVERLOADED)])
    retry = cql.DefaultRetry(overload_delay=0.001)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        prepared = await session.prepare(INSERT)
        for host in cluster.hosts:
            host.prepared[prepared._statement.prepared.statement_id] = INSERT
        number = Number(7, "exception", 1)
        with pytest.raises(cql.ValueConversionError) as info:
            await session.execute(INSERT, (1, number), idempotent=True, retry=retry, trace=True)
        assert [type(each) for each in info.value.attempts] == [cql.ServerOverloaded]
        assert info.value.maybe_applied  # by the first attempt
        await settled(session)
        await serves(session)


class Payload(Mapping[str, bytes]):
    """A payload that can be read some times; then it raises."""

    def __init__(self, times: int) -> None:
        self._times = times

    def __getitem__(self, key: str) -> bytes:
        return b"value"

    def __iter__(self) -> Iterator[str]:
        self._times -= 1
        if self._times < 0:
            raise LookupError("as told")
        return iter(["key"])

    def __len__(self) -> int:
        return 1


async def test_a_payload_that_raises() -> None:
    """It is read in the caller's task only."""
    cluster = FakeCluster(3)
    script = Script(cluster, [Fault("held"), Fault("held")])
    soon = cql.ConstantSpeculation(0.001)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.ConfigError, match="raised LookupError"):
            await session.execute(SELECT, (1,), payload=Payload(0))
        call = start(
            group,
            lambda: session.execute(SELECT, (1,), payload=Payload(1), speculation=soon),
        )
        await until(lambda: len(script.held) == 2)
        assert [request.payload for request in script.held] == [{"key": b"value"}] * 2
        script.held[1].reply(cluster.usual_answer(script.held[1]))
        await until(lambda: call.done)
        assert call.result.one().v == 1
        script.held[0].reply(cluster.usual_answer(script.held[0]))
        await settled(session)


# -- rows


@some_raised
@pytest.mark.parametrize("verb", ["execute", "stream"])
async def test_a_row_target(raised: str, verb: str) -> None:
    class Target:
        def row_maker(self, columns: Any) -> Callable[[tuple[Any, ...]], Any]:
            def make(values: tuple[Any, ...]) -> Any:
                raise RAISED[raised]()

            return make

    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        await serves(session)
        with pytest.raises((type(RAISED[raised]()), cql.RowMappingError)):
            if verb == "stream":
                async for _ in session.stream(SELECT, (1,), row=Target()):
                    pass
            else:
                await getattr(session, verb)(SELECT, (1,), row=Target())
        await idle(session)
        await serves(session)


# -- the log


async def test_a_log_filter_that_raises() -> None:
    cluster = FakeCluster(2)

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit(3)

    class Broken(cql.Hooks):
        def host_down(self, record: cql.HostRecord) -> None:
            raise LookupError

    logger, broken = logging.getLogger("cqlproto_anyio"), Filter()
    async with session_on(cluster, hooks=Broken()) as session:
        await connected(session, cluster.hosts)
        logger.addFilter(broken)
        try:
            cluster.hosts[1].cut()
            await until(lambda: any(host.lost for host in session.statistics().hosts))
            await serves(session, cluster.hosts)
        finally:
            logger.removeFilter(broken)


async def test_a_caller_whose_stack_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that fails in a full stack doesn't stop the connection for other callers."""
    is_full = False

    class FullStack(Transport):
        """Raises in place of being woken, while the stack is full."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            usual = self.wake

            def wake() -> None:
                if is_full:
                    raise RecursionError
                usual()

            self.wake = wake

    monkeypatch.setattr(connection_module, "Transport", FullStack)
    async with serving() as server:
        server.answer = echo(server)
        async with server.session() as session:
            await session.execute(SELECT, (1,))
            await idle(session)
            is_full = True
            with pytest.raises(RecursionError):
                await session.execute(SELECT, (2,))
            is_full = False
            assert (await session.execute(SELECT, (3,), timeout=5)).scalar() == 3


# -- programs that end

INTERRUPTED = """
import signal, sys
import anyio, trio
import cqlproto_anyio as cql
from tests.support.fakecluster import FakeCluster

ended, where, cluster = [], WHERE, FakeCluster(1)

def at(place):
    global where
    if place == where:
        where = None
        signal.raise_signal(signal.SIGINT)

class Stream(anyio.abc.ByteStream):
    def __init__(self, stream):
        self.stream = stream

    async def receive(self, max_bytes=65536):
        data = await self.stream.receive(max_bytes)
        at("receive" if serving else "")
        return data

    async def send(self, item):
        at("send" if serving else "")
        await self.stream.send(item)

    async def aclose(self):
        await self.stream.aclose()

    async def send_eof(self):
        pass

async def connector(endpoint):
    at("connector")
    return Stream(await cluster.connector(endpoint))

def translate(endpoint):
    at("translate")
    return endpoint

async def main():
    global serving
    config = cql.Config(connector=connector, translate=translate, discovery=DISCOVERY)
    try:
        async with cql.connect(cluster.addresses, config=config) as session:
            serving = True
            while True:
                await session.execute("SELECT v FROM ks.t WHERE k = ?", (1,))
    finally:
        ended.append(True)

serving = False
try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted", ended)
"""


@pytest.mark.parametrize(
    ("where", "discovery"),
    [
        ("connector", False),
        ("connector", True),
        ("translate", True),
        ("send", False),
    ],
)
def test_an_interrupt_while_the_session_works_is_the_programs(where: str, discovery: bool) -> None:
    """trio raises it wherever Python is executing: not in a task of the session."""
    script = INTERRUPTED.replace("WHERE", repr(where), 1).replace("DISCOVERY", repr(discovery))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "interrupted [True]\n"), ran.stderr


EXITS = """
import asyncio, sys
from contextlib import suppress
import cqlproto_anyio as cql
from tests.support.fakecluster import FakeCluster

async def main():
    cluster = FakeCluster(1)
    cluster.pushes = True
    cluster.answer = lambda request: None
    config = cluster.config(discovery=False)
    async with cql.connect(cluster.addresses, config=config) as session:
        async def ask(number):
            row = (await session.execute("SELECT v FROM ks.t WHERE k = ?", (number,))).one()
            if number == 0:
                sys.exit(7)
            told.append(row.v)

        tasks = [asyncio.create_task(ask(number)) for number in range(3)]
        while len(cluster.waiting) < 3:
            await asyncio.sleep(0.001)
        for request in cluster.waiting:  # all in one read
            connection = request.connection
            connection.core.reply(request.stream_id, cluster.usual_answer(request))
        connection.flush()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await asyncio.wait(tasks)
        told.append(session.statistics().hosts[0].lost)

told = []
loop = RUN.new_event_loop()
task = loop.create_task(main())
try:
    loop.run_until_complete(task)
except SystemExit as exc:
    told.append(f"exit {exc.code}")
task.cancel()
loop.run_until_complete(task)
print(sorted(told, key=str))
"""


@pytest.mark.parametrize("library", ["asyncio", "uvloop"])
def test_a_task_that_ends_the_program_harms_no_other(library: str) -> None:
    """The call that parses its reply runs the task; other tasks' replies are in the same read."""
    script = f"import {library} as RUN\n{EXITS}"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "[0, 1, 2, 'exit 7']\n"), ran.stderr
