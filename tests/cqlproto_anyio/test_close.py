"""Closing takes a limited time, works from any task at any time, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import subprocess
from typing import Any

import anyio
import anyio.abc
import pytest

import cqlproto_anyio as cql
from tests.support.replies import echo, preparing
from tests.support.server import open_sockets, serving, start, state, turns, until
from tests.support.virtual_clock import VirtualLoop

pytestmark = [
    pytest.mark.uvloop,
    pytest.mark.futures,
    pytest.mark.usefixtures("each_version"),
]

SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"
ALONE = cql.Config(discovery=False)  # the server is not a cluster


class _Listening(cql.Hooks):
    def request_finished(self, record: cql.RequestRecord) -> None:
        pass


async def test_closed_from_another_task_while_requests_are_in_flight() -> None:
    async with serving() as server, server.session(max_in_flight=20) as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        await session.prepare(INSERT)
        started = anyio.current_time()
        async with anyio.create_task_group() as group:
            reads = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(10)]
            writes = [start(group, lambda: session.execute(INSERT, (1,))) for _ in range(10)]
            await server.until(lambda: len(server.asked) == 20)
            queued = [start(group, lambda: session.execute(INSERT, (1,))) for _ in range(5)]
            asking = start(group, lambda: session.prepare("SELECT w FROM t"))
            await turns()
            for _ in range(3):
                group.start_soon(session.aclose)
        assert anyio.current_time() - started < 0.1
        for outcome in [*reads, *writes, *queued, asking]:
            assert type(outcome.error) is cql.SessionClosed
            assert outcome.error.maybe_applied is (outcome in writes)
        assert len({id(outcome.error) for outcome in reads}) == 10


async def test_use_after_close() -> None:
    async with serving() as server:
        async with server.session() as session:
            server.answer = echo(server)
            statement = await session.prepare(SELECT)
        calls: list[Any] = [
            lambda: session.execute(SELECT, (1,)),
            lambda: session.execute(statement, (1,)),
            lambda: session.execute("SELECT v FROM t"),
            lambda: session.page(statement, (1,)),
            lambda: session.batch([(INSERT, (1,))]),
            lambda: session.batch([INSERT]),
            lambda: session.prepare("SELECT w FROM t"),
            lambda: anext(session.stream(statement, (1,))),
        ]
        for call in calls:
            with pytest.raises(cql.SessionClosed, match="closed"):
                await call()
        await session.aclose()
        assert len(server.peers) == 1


async def test_an_error_in_the_body_arrives_as_itself() -> None:
    async with serving() as server:
        server.answer = echo(server)
        for _ in range(2):
            with pytest.raises(ValueError, match="^mine$") as info:
                async with server.session() as session:
                    await session.execute(SELECT, (1,))
                    raise ValueError("mine")
            assert info.value.__context__ is None
        await until(lambda: all(peer.ended.is_set() for peer in server.peers))


async def test_an_error_in_the_body_with_requests_under_way() -> None:
    async with serving() as server:
        server.answer = preparing(server)
        error = None
        async with anyio.create_task_group() as group:
            try:
                async with server.session() as session:
                    outcome = start(group, lambda: session.execute("INSERT INTO t (k) VALUES (1)"))
                    await server.next()
                    raise ValueError("mine")
            except ValueError as exc:
                error = exc
        assert str(error) == "mine"
        assert isinstance(outcome.error, cql.SessionClosed)


class Wrapped(anyio.abc.ByteStream):
    """A stream that wraps another; the base of faulty streams."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream

    async def send(self, item: bytes) -> None:
        await self.stream.send(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        return await self.stream.receive(max_bytes)

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()


class Stubborn(Wrapped):
    """Its receive can't be cancelled."""

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        data = b""
        with anyio.CancelScope(shield=True):
            data = await self.stream.receive(max_bytes)
        return data


class Hanging(Wrapped):
    """Closing it takes for ever."""

    async def aclose(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.aclose_forcefully(self.stream)


async def test_closed_while_connecting() -> None:
    async with serving() as server:
        server.handshake = lambda asked: None
        connecting = cql.connect("node", config=server.config())
        async with anyio.create_task_group() as group:
            entering = start(group, connecting.__aenter__)
            await server.next()
            started = anyio.current_time()
            session = connecting._session
            assert session is not None
            await session.aclose()
            assert anyio.current_time() == started
        assert isinstance(entering.error, cql.SessionClosed)
        assert all(client.closed for client in server.clients)


async def test_closed_while_connecting_succeeds() -> None:
    """The last reply of the handshake is on its way to a task that can't be cancelled any more."""
    async with serving() as server:
        usual, server.handshake = server.handshake, lambda asked: None

        async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
            return Stubborn(await server.connector(endpoint))

        config = cql.Config(discovery=False, connector=connector, close_timeout=0.2)
        connecting = cql.connect("node", config=config)
        async with anyio.create_task_group() as group:
            entering = start(group, connecting.__aenter__)
            for step in ("options", "startup"):
                asked = await server.next()
                if step == "startup":
                    session = connecting._session
                    assert session is not None
                    closing = start(group, session.aclose)
                    await turns()
                reply = usual(asked)
                assert reply is not None
                asked.reply(reply)
            with anyio.fail_after(5):
                await until(lambda: closing.done)
        assert isinstance(entering.error, cql.SessionClosed)
        assert all(client.closed for client in server.clients)


async def test_closed_while_reconnecting() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        server.hold()
        await server.cut(session)
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(5)]
            await server.next()
            await session.aclose()
        assert all(type(outcome.error) is cql.SessionClosed for outcome in outcomes)


@pytest.fixture(scope="session")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own, and a client's that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=node"
        " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    mine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    mine.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_verify_locations(folder / "cert.pem")
    return mine, theirs


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
async def test_closing_is_bounded_when_the_peer_is_silent(
    encrypted: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    mine, theirs = contexts
    async with serving() as server:
        port = await server.listen(mine if encrypted else None)
        config = cql.Config(discovery=False, close_timeout=0.3)
        tls: ssl.SSLContext | bool = theirs if encrypted else False
        async with cql.connect("127.0.0.1", port=port, config=config, tls=tls) as session:
            server.answer = echo(server)
            assert (await session.execute(SELECT, (1,))).one().v == 1
            server.answer = lambda asked: None
            server.peers[0].pause()
            async with anyio.create_task_group() as group:
                # more than the sockets' buffers hold, so that the writer blocks
                text = f"INSERT INTO t (k) VALUES ('{'x' * 4_000_000}')"
                stuck = [start(group, lambda: session.execute(text)) for _ in range(4)]
                await until(lambda: state(session).in_flight == 4)
                await anyio.sleep(0.05)
                started = anyio.current_time()
                await session.aclose()
                assert anyio.current_time() - started <= 0.3
            assert all(type(outcome.error) is cql.SessionClosed for outcome in stuck)


async def test_closing_is_bounded_when_closing_the_stream_hangs() -> None:
    async with serving() as server:

        async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
            return Hanging(await server.connector(endpoint))

        config = cql.Config(discovery=False, connector=connector, close_timeout=0.2)
        started = anyio.current_time()
        async with cql.connect("node", config=config):
            pass
        assert anyio.current_time() - started == pytest.approx(0.2)


async def test_everything_ends_with_the_session() -> None:
    gc.collect()
    sockets = open_sockets()
    async with serving() as server:
        port = await server.listen()
        listening = open_sockets()
        before = tasks()
        for broken in (False, True):
            async with cql.connect("127.0.0.1", port=port, config=ALONE) as session:
                assert tasks() > before
                server.answer = echo(server)
                await session.execute(SELECT, (1,))
                server.answer = preparing(server)
                async with anyio.create_task_group() as group:
                    start(group, lambda: session.execute(SELECT, (1,), timeout=0.02))
                    waiting = start(group, lambda: session.execute(SELECT, (1,)))
                    await server.until(lambda: len(server.asked) == 2)
                    if broken:
                        server.peers[-1].close()
                    else:
                        waiting.scope.cancel()
                server.asked.clear()
            await until(lambda: all(peer.ended.is_set() for peer in server.peers))
            await turns()
            assert tasks() == before
        gc.collect()
        assert open_sockets() == listening
    gc.collect()
    assert open_sockets() <= sockets + 1  # asyncio keeps a pair of its own


def tasks() -> set[str]:
    """Return the names of all tasks, except those that serve a connection."""
    names = {info.name or "" for info in anyio.get_running_tasks()}
    with contextlib.suppress(RuntimeError):
        names |= {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if "cqlproto" in name and "tests." not in name}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_closing_survives_a_cancelled_task() -> None:
    async with serving() as server:
        stack = contextlib.AsyncExitStack()
        session = await stack.enter_async_context(server.session())
        task = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await stack.aclose()
        with pytest.raises(cql.SessionClosed):
            await session.execute("SELECT v FROM t")


def test_a_loop_that_ends_ends_the_session() -> None:
    """asyncio.run cancels the remaining tasks; nothing hangs, and only this is logged."""
    sessions = []

    async def main() -> None:
        async with serving() as server:
            port = await server.listen()
            sessions.append(await cql.connect("127.0.0.1", port=port, config=ALONE).__aenter__())

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        began = loop.time()
        runner.run(main())
    assert loop.time() - began < 0.1
    gc.collect()

    async def again() -> None:
        with pytest.raises(cql.SessionClosed):
            await sessions[0].execute("SELECT v FROM t")

    asyncio.run(again())
    with pytest.warns(ResourceWarning, match="unclosed <Session closed"):
        sessions.clear()
        gc.collect()


@pytest.mark.parametrize("hooks", [None, _Listening()], ids=["plain", "observed"])
async def test_a_session_tells_its_state_and_its_keyspace(hooks: cql.Hooks | None) -> None:
    async with serving() as server:
        async with server.session(keyspace="shop", hooks=hooks) as session:
            assert (session.closed, session.keyspace) == (False, "shop")
            assert repr(session) == "<Session open, keyspace 'shop', hosts node:9042>"
            if session.protocol_version.has_keyspace_option:
                other = session.using(keyspace="blog")
                assert other.keyspace == "blog"
                assert "open, keyspace 'blog'" in repr(other)
            other = session.using(profile=cql.Profile(timeout=1))
            assert other.keyspace == "shop"
            await other.aclose()
            for each in (session, other):
                assert each.closed
                assert repr(each) == "<Session closed, keyspace 'shop', hosts node:9042>"
        async with server.session(hooks=hooks) as session:
            assert session.keyspace is None
            assert repr(session) == "<Session open, no keyspace, hosts node:9042>"
        assert session.closed
        assert session.keyspace is None
