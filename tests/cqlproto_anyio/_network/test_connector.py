"""Connecting: whatever the peer does, a typed error is raised in time and nothing leaks."""

from __future__ import annotations

import gc
import ipaddress
import socket
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto.frames import write_frame
from cqlproto.messages import (
    VOID,
    AuthChallenge,
    Authenticate,
    AuthResponse,
    Options,
    Query,
    Startup,
    StatusChange,
)
from tests.cassandra.ports import free_port
from tests.support.replies import echo, error
from tests.support.server import Server, open_sockets, serving, start, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response
    from tests.support.server import Asked

SELECT = "SELECT v FROM t WHERE k = ?"
SECRET = "hunter2-in-the-clear"


async def failing(**arguments: Any) -> BaseException:
    """Return the error that connecting raises."""
    arguments.setdefault("config", cql.Config(discovery=False, connect_timeout=5))
    started = anyio.current_time()
    with pytest.raises(Exception) as info:  # the caller checks the type
        async with cql.connect(**arguments):
            pass
    took = anyio.current_time() - started
    raised = info.value
    if isinstance(raised, cql.ConnectionFailed):
        assert 0 <= raised.elapsed <= took
        assert f"{raised.host}: {raised.stage} failed after" in str(raised)
        assert isinstance(raised, OSError)
        assert raised.maybe_applied is False
    return raised


def described(raised: BaseException) -> tuple[type, Any, Any]:
    return type(raised), getattr(raised, "stage", None), getattr(raised, "host", None)


async def test_a_closed_port() -> None:
    port = free_port(["127.0.0.1"])
    before = open_sockets()
    raised = await failing(hosts="127.0.0.1", port=port)
    assert described(raised) == (cql.ConnectionFailed, "connect", f"127.0.0.1:{port}")
    assert "refused" in str(raised)
    gc.collect()
    assert open_sockets() == before


async def test_a_name_that_cannot_be_resolved() -> None:
    raised = await failing(hosts="no-such-host.invalid")
    assert described(raised) == (cql.ConnectionFailed, "resolve", "no-such-host.invalid:9042")
    assert isinstance(raised.__cause__, socket.gaierror)


async def tcp_server(group: anyio.abc.TaskGroup, serve: Callable[..., Any]) -> int:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(anyio.abc.SocketAttribute.local_port)

    async def run() -> None:
        async with listener:
            await listener.serve(serve)

    group.start_soon(run)
    return port


async def talking(serve: Callable[..., Any], **arguments: Any) -> BaseException:
    """Return the error of connecting to a server with this handler; no socket may be left."""
    gc.collect()
    before = open_sockets()
    async with anyio.create_task_group() as group:
        port = await tcp_server(group, serve)
        raised = await failing(hosts="127.0.0.1", port=port, **arguments)
        assert getattr(raised, "host", None) == f"127.0.0.1:{port}"
        group.cancel_scope.cancel()
    gc.collect()
    assert open_sockets() == before
    return raised


async def http(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


async def silent(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await anyio.sleep_forever()


async def closing(stream: anyio.abc.SocketStream) -> None:
    await stream.aclose()


async def half_a_reply(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"\x84\0\0\0\x06")


async def trickling(stream: anyio.abc.SocketStream) -> None:
    """Send a reply too slowly to finish in time."""
    async with stream:
        await stream.receive()
        await stream.send(b"\x84\0\0\0\x06\0\0\xff\xff")
        while True:
            await stream.send(b"\0")
            await anyio.sleep(0.05)


async def endless(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(b"\x84\0\0\0\x06\x7f\xff\xff\xff")
        await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("serve", "kind", "told"),
    [
        (http, cql.NotCQL, "not a CQL response: the peer sent b'HTTP/1.1 400"),
        (closing, cql.ConnectionFailed, ""),
        (half_a_reply, cql.ConnectionFailed, "closed"),
        (endless, cql.NotCQL, "the header announces 2147483647"),
    ],
)
async def test_what_is_not_cassandra(serve: Any, kind: type, told: str) -> None:
    raised = await talking(serve)
    assert type(raised) is kind
    assert getattr(raised, "stage", None) == "handshake"
    assert told in str(raised)


@pytest.mark.parametrize("serve", [silent, trickling])
async def test_a_silent_server_ends_within_the_timeout(serve: Any) -> None:
    started = anyio.current_time()
    raised = await talking(serve, config=cql.Config(discovery=False, connect_timeout=0.2))
    assert anyio.current_time() - started == pytest.approx(0.2)
    assert described(raised)[:2] == (cql.ConnectionFailed, "handshake")
    assert "nothing happened within 0.2 s" in str(raised)


@pytest.mark.parametrize("serve", [silent, closing, http])
async def test_tls_with_what_does_not_speak_it(serve: Any) -> None:
    raised = await talking(serve, tls=True, config=cql.Config(discovery=False, connect_timeout=0.3))
    kind = cql.ConnectionFailed if serve is silent else cql.TLSFailed
    assert described(raised)[:2] == (kind, "tls")


async def test_a_server_that_speaks_tls_only() -> None:
    async def alert(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"\x15\x03\x03\0\x02\x02\x46")

    raised = await talking(alert)
    assert described(raised)[:2] == (cql.TLSFailed, "handshake")
    assert "pass tls=" in str(raised)


async def scripted(
    script: Callable[[Server], Any], *, client: dict[str, Any] | None = None, **config: Any
) -> tuple[BaseException, Server]:
    """Return the error of connecting to a scripted server, whose streams are closed then."""
    async with serving() as server:
        script(server)
        config.setdefault("connect_timeout", 5)
        raised = await failing(hosts="node", config=server.config(**config), **(client or {}))
        assert all(stream.closed for stream in server.clients)
        assert getattr(raised, "host", "node:9042") in ("node:9042", None)
        return raised, server
    raise AssertionError


def instead(kind: type, reply: Callable[[Asked], Response | None]) -> Callable[[Server], None]:
    """Answer one kind of handshake request differently."""

    def script(server: Server) -> None:
        usual = server.handshake
        server.handshake = lambda asked: (
            reply(asked) if isinstance(asked.message, kind) else usual(asked)
        )

    return script


@pytest.mark.parametrize("step", [Options, Startup])
@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        write_frame(0x84, 0, 0, 0x08, b"\0\0\0\x01"),
        write_frame(0x84, 0, 0, 0x55, b""),
        write_frame(0x84, 0, 0, 0x06, b"\xff\xff\0\x04"),
        write_frame(0x84, 0, 77, 0x02, b""),
        write_frame(0x83, 0, 0, 0x02, b""),
        write_frame(0x84, 1, 0, 0x06, b"\0\0\0\0"),
    ],
    ids=["text", "result", "opcode", "body", "stream", "version", "compressed"],
)
async def test_garbage_in_the_middle_of_the_handshake(step: type, garbage: bytes) -> None:
    def send(asked: Asked) -> None:
        asked.peer.send_raw(garbage)

    raised, _ = await scripted(instead(step, send), protocol_version=ProtocolVersion.V4)
    assert described(raised) == (cql.NotCQL, "handshake", "node:9042")


async def test_an_error_in_the_handshake() -> None:
    refuse = instead(Startup, lambda asked: error(ErrorCode.SERVER_ERROR, "out of coffee"))
    raised, _ = await scripted(refuse)
    assert described(raised) == (cql.ConnectionFailed, "handshake", "node:9042")
    assert "out of coffee" in str(raised)


async def test_a_rejected_version() -> None:
    text = (
        "Invalid or unsupported protocol version (4); supported versions are"
        " (3/v3, 5/v5, 6/v6-beta)"
    )
    raised, _ = await scripted(
        instead(Options, lambda asked: error(ErrorCode.PROTOCOL_ERROR, text)),
        protocol_version=ProtocolVersion.V4,
    )
    assert described(raised) == (cql.VersionRejected, "handshake", "node:9042")
    assert isinstance(raised, cql.VersionRejected)
    assert list(raised.supported_versions) == [3, 5]
    assert raised.next_version is ProtocolVersion.V3


@pytest.mark.parametrize("newest", ProtocolVersion)
async def test_the_version_is_negotiated_downwards(newest: ProtocolVersion) -> None:
    """Each attempt has a socket of its own; the client closes those that were refused."""
    async with serving() as server:
        server.versions = [version for version in ProtocolVersion if version <= newest]
        async with server.session(compression="lz4") as session:
            assert session.protocol_version is newest
            server.answer = echo(server)
            assert (await session.execute("SELECT v FROM t WHERE k = ?", (7,))).one().v == 7
            assert server.rejected_versions == ([] if newest is ProtocolVersion.V5 else [5])
            *refused, _ = server.clients
            assert [client.closed for client in refused] == [True] * len(refused)


async def test_versions_that_cannot_be_read_are_gone_through_one_by_one() -> None:
    seen = []

    def refuse(asked: Asked) -> Response:
        seen.append(asked.peer.core.version)
        return error(ErrorCode.PROTOCOL_ERROR, "Invalid or unsupported protocol version")

    raised, _ = await scripted(instead(Options, refuse))
    assert described(raised) == (cql.VersionRejected, "handshake", "node:9042")
    assert seen == [5, 4, 3]


@pytest.mark.parametrize("ending", ["timeout", "cancelled"])
async def test_the_way_down_is_bounded_and_leaves_no_socket(ending: str) -> None:
    """The second attempt hangs: all share one deadline, and every transport is closed."""
    async with serving() as server:
        server.versions = (ProtocolVersion.V3, ProtocolVersion.V4)
        server.handshake = lambda asked: None
        config = server.config(connect_timeout=0.2 if ending == "timeout" else 20.0)
        async with anyio.create_task_group() as group:
            connecting = start(group, cql.connect("node", config=config).__aenter__)
            await server.next()
            assert server.rejected_versions == [5]
            if ending == "cancelled":
                connecting.scope.cancel()
        if ending == "timeout":
            assert isinstance(connecting.error, cql.ConnectionFailed)
            assert described(connecting.error) == (
                cql.ConnectionFailed,
                "handshake",
                "node:9042",
            )
        else:
            assert (connecting.error, connecting.result) == (None, None)
        assert [client.closed for client in server.clients] == [True, True]


async def test_a_fixed_version_is_not_negotiated() -> None:
    async with serving() as server:
        server.versions = (ProtocolVersion.V3, ProtocolVersion.V4)
        with pytest.raises(cql.VersionRejected) as info:
            async with server.session(protocol_version=ProtocolVersion.V5):
                raise AssertionError
        assert info.value.next_version is ProtocolVersion.V4
        assert len(server.clients) == 1


async def test_snappy_is_spoken_up_to_v4() -> None:
    async with serving() as server, server.session(compression="snappy") as session:
        assert session.protocol_version is ProtocolVersion.V4
        assert server.rejected_versions == []


async def test_a_node_of_an_older_version_lowers_that_of_the_session() -> None:
    """Prepared statements keep working; what only the newer version can express is refused."""
    async with serving() as server, server.session(keyspace="shop") as session:
        server.answer = echo(server)
        query = "SELECT v FROM t WHERE k = ?"
        handle = await session.prepare(query)
        insert = await session.prepare("INSERT INTO t (k) VALUES (?)")
        assert (await session.execute(handle, (1,))).one().v == 1
        assert (await session.execute(handle, (1,), now_in_seconds=5)).one().v == 1
        server.versions = (ProtocolVersion.V3, ProtocolVersion.V4)
        await server.cut(session)
        for number in range(3):
            assert (await session.execute(handle, (number,))).one().v == number
            assert (await session.execute(query, (number,))).one().v == number
        assert session.protocol_version is ProtocolVersion.V4
        assert [row.v async for row in session.stream(handle, (4,))] == [4]
        await session.batch([(insert, (1,))])
        with pytest.raises(cql.UsageError, match="needs protocol v5"):
            await session.execute(handle, (1,), now_in_seconds=5)
        with pytest.raises(cql.UsageError, match="needs protocol v5"):
            session.using(keyspace="other")


async def test_what_was_begun_before_an_older_node_was_met_is_begun_again() -> None:
    async with serving() as newer, serving() as older:
        older.versions = (ProtocolVersion.V3, ProtocolVersion.V4)
        older.texts, older.described = newer.texts, newer.described  # both know what one prepares
        newer.answer = older.answer = echo(newer)
        go_on = newer.hold()

        async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
            return await (newer if endpoint.address == "newer" else older).connector(endpoint)

        config = cql.Config(connector=connector, discovery=False)
        async with cql.connect(["newer", "older"], config=config) as session:
            assert session.protocol_version is ProtocolVersion.V4
            await newer.until(lambda: newer.asked)
            assert newer.peers[0].core.version is ProtocolVersion.V5
            go_on()
            await until(lambda: all(host.connections for host in session.statistics().hosts))
            assert [peer.core.version for peer in newer.peers] == [
                ProtocolVersion.V5,
                ProtocolVersion.V4,
            ]
            assert newer.peers[0].ended.is_set()
            handle = await session.prepare(SELECT)
            async with anyio.create_task_group() as group:
                calls = [start(group, lambda: session.execute(handle, (1,))) for _ in range(20)]
            hosts = {call.result.host for call in calls}
            assert hosts == {"newer:9042", "older:9042"}
        assert all(client.closed for client in (*newer.clients, *older.clients))


@pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V4])
async def test_a_missing_keyspace(version: ProtocolVersion) -> None:
    def refuse(asked: Asked) -> Response:
        assert isinstance(asked.message, Query)
        if version is ProtocolVersion.V5:
            assert asked.message.parameters.keyspace == 'Odd "one"'
        else:
            assert asked.message.query == 'USE "Odd ""one"""'
        return error(ErrorCode.INVALID, "Keyspace does not exist")

    raised, _ = await scripted(
        instead(Query, refuse), client={"keyspace": 'Odd "one"'}, protocol_version=version
    )
    assert isinstance(raised, cql.InvalidQuery)
    assert raised.host == "node:9042"
    assert "Keyspace does not exist" in str(raised)


async def test_a_keyspace_that_is_never_set() -> None:
    raised, _ = await scripted(
        instead(Query, lambda asked: None), client={"keyspace": "shop"}, connect_timeout=0.1
    )
    assert described(raised) == (cql.ConnectionFailed, "keyspace", "node:9042")


async def test_an_event_while_the_keyspace_is_set() -> None:
    """An event without a registration does no harm."""

    def reply(asked: Asked) -> Response:
        asked.peer.core.push(StatusChange("UP", (ipaddress.ip_address("10.0.0.1"), 9042)))
        return VOID

    async with serving() as server:
        instead(Query, reply)(server)
        server.answer = echo(server)
        async with server.session(keyspace="shop") as session:
            assert (await session.execute(SELECT, (3,))).one().v == 3


@pytest.mark.parametrize("name", ["lz4", "snappy"])
async def test_a_compression_that_the_server_lacks(name: str) -> None:
    def script(server: Server) -> None:
        server.supported = {"COMPRESSION": ["zstd"]}

    raised, server = await scripted(script, compression=name)
    assert described(raised) == (cql.ConnectionFailed, "handshake", "node:9042")
    assert f"does not support {name} compression, but zstd" in str(raised)
    assert not any(isinstance(each.message, Startup) for each in server.asked)


@pytest.mark.parametrize("name", ["lz4", "snappy"])
async def test_compression(name: str) -> None:
    async with serving() as server, server.session(compression=name) as session:
        server.answer = echo(server)
        long = "SELECT v FROM t -- " + "x" * 10_000
        for _ in range(2):
            assert (await session.execute(SELECT, (12,))).one().v == 12
            assert (await session.execute(long)).one().v == 0


async def test_startup_says_who_we_are() -> None:
    async with serving() as server:
        seen: dict[str, str] = {}
        usual = server.handshake

        def handshake(asked: Asked) -> Response | None:
            if isinstance(asked.message, Startup):
                seen.update(asked.message.options)
            return usual(asked)

        server.handshake = handshake
        options = {"X": "y", "DRIVER_NAME": "mine"}
        config: dict[str, Any] = {"application_name": "shop", "application_version": "1.2"}
        async with server.session(**config, startup_options=options):
            assert seen["APPLICATION_NAME"] == "shop"
            assert seen["APPLICATION_VERSION"] == "1.2"
            assert (seen["X"], seen["DRIVER_NAME"]) == ("y", "mine")
            assert seen["THROW_ON_OVERLOAD"] == "1"
            assert "DRIVER_VERSION" in seen


# -- credentials


def wants_password(server: Server) -> None:
    server.verify = lambda token: token == f"\0ann\0{SECRET}".encode()


def says_nothing_of(secret: str, raised: BaseException) -> bool:
    told = f"{raised}{raised!r}{vars(raised)}"
    return secret not in told


async def test_credentials_that_are_refused() -> None:
    auth = cql.PlainAuth("ann", SECRET + "!")
    raised, _ = await scripted(wants_password, client={"auth": auth})
    assert described(raised) == (cql.AuthenticationFailed, "handshake", "node:9042")
    assert "incorrect" in str(raised)
    assert SECRET not in "".join(traceback.format_exception(raised))
    assert SECRET not in repr(auth)


async def test_credentials_that_are_wanted_and_not_given() -> None:
    raised, server = await scripted(wants_password)
    assert described(raised) == (cql.AuthenticationFailed, "handshake", "node:9042")
    assert "PasswordAuthenticator" in str(raised)
    assert "pass auth=" in str(raised)


async def test_challenges_without_end() -> None:
    """Such errors are not about missing credentials."""

    def asks_on(server: Server) -> None:
        usual = server.handshake

        def handshake(asked: Asked) -> Response | None:
            if isinstance(asked.message, Startup):
                return Authenticate("org.example.Endless")
            return AuthChallenge(b"") if isinstance(asked.message, AuthResponse) else usual(asked)

        server.handshake = handshake

    raised, _ = await scripted(asks_on, client={"auth": cql.PlainAuth("ann", SECRET)})
    assert described(raised) == (cql.AuthenticationFailed, "handshake", "node:9042")
    assert str(raised).endswith("the server sent more than 100 challenges")


async def test_credential_providers() -> None:
    calls = []

    def plain() -> str:
        calls.append("sync")
        return SECRET

    async def slow() -> str:
        await anyio.lowlevel.checkpoint()
        calls.append("async")
        return SECRET

    for provider in (SECRET, plain, slow):
        async with serving() as server:
            wants_password(server)
            auth = cql.PlainAuth("ann", provider)
            async with cql.connect("node", auth=auth, config=server.config()) as session:
                server.answer = echo(server)
                server.peers[0].close()
                await turns()
                assert (await session.execute(SELECT, (1,))).one().v == 1
                assert SECRET not in repr(session)
                assert len(server.peers) == 2
    assert calls == ["sync"] * 2 + ["async"] * 2  # once for each connection


async def test_a_credential_provider_that_fails() -> None:
    def plain() -> str:
        raise LookupError(f"no such key: {SECRET}")

    async def slow() -> str:
        raise LookupError(f"no such key: {SECRET}")

    for provider in (plain, slow):
        auth = cql.PlainAuth("ann", provider)
        raised, server = await scripted(wants_password, client={"auth": auth})
        assert isinstance(raised, cql.AuthenticationFailed)
        assert "LookupError" in str(raised)
        assert says_nothing_of(SECRET, raised)
        assert isinstance(raised.__cause__, LookupError)
        assert server.peers == []
    raised, _ = await scripted(
        wants_password,
        client={"auth": cql.PlainAuth("ann", lambda: 12345)},  # type: ignore[arg-type]
    )
    assert isinstance(raised, cql.ConfigError)
    assert "12345" not in str(raised)


async def test_a_credential_provider_that_hangs() -> None:
    async def slow() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    auth = cql.PlainAuth("ann", slow)
    raised, _ = await scripted(wants_password, client={"auth": auth}, connect_timeout=0.1)
    assert isinstance(raised, cql.ConnectionFailed)


async def test_no_token_is_shown() -> None:
    assert SECRET not in repr(AuthResponse(SECRET.encode()))


# -- connectors and contact points


async def test_what_a_connector_raises() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    for raises, kind in [
        (TimeoutError("too slow"), cql.ConnectionFailed),
        (OSError(113, "No route to host"), cql.ConnectionFailed),
        (Odd(1, 2), cql.ConnectionFailed),
    ]:

        def script(server: Server, raises: Exception = raises) -> None:
            server.refuse = raises

        with anyio.fail_after(5):
            raised, _ = await scripted(script)
        assert type(raised) is kind
        assert raised.__cause__ is raises


async def test_the_first_contact_point_is_dead_and_the_second_good() -> None:
    dead = free_port(["127.0.0.1"])
    async with serving() as server:
        server.answer = echo(server)
        port = await server.listen()
        points = [f"127.0.0.1:{dead}", f"127.0.0.1:{port}"]
        async with cql.connect(points, config=cql.Config(discovery=False)) as session:
            result = await session.execute(SELECT, (2,))
            assert (result.one().v, result.host) == (2, f"127.0.0.1:{port}")


async def test_all_contact_points_are_dead() -> None:
    one, two = free_port(["127.0.0.1"]), free_port(["127.0.0.1"])
    names = [f"127.0.0.1:{one}", f"127.0.0.1:{two}", "no-such-host.invalid"]
    raised = await failing(hosts=names)
    assert type(raised) is cql.NoHostAvailable
    assert [type(attempt) for attempt in raised.attempts] == [cql.ConnectionFailed] * 3
    stages = [attempt.stage for attempt in raised.attempts]  # type: ignore[attr-defined]  # NoHostAvailable has them
    assert sorted(stages) == ["connect", "connect", "resolve"]
    for name in names:
        assert name in str(raised)


async def test_entering_twice() -> None:
    async with serving() as server:
        connecting = cql.connect("node", config=server.config())
        async with connecting:
            with pytest.raises(cql.UsageError, match="can be entered once"):
                await connecting.__aenter__()
        with pytest.raises(cql.UsageError, match="can be entered once"):
            await connecting.__aenter__()
        assert len(server.peers) == 1


async def test_nothing_is_done_before_entering() -> None:
    async with serving() as server:
        cql.connect("node", config=server.config())
        await turns()
        assert server.peers == []


async def test_cancelled_while_connecting() -> None:
    for step in (None, Options, Startup, AuthResponse, Query):
        async with serving() as server:
            wants_password(server)
            if step is not None:
                instead(step, lambda asked: None)(server)
            auth = cql.PlainAuth("ann", SECRET)
            connecting = cql.connect("node", keyspace="ks", auth=auth, config=server.config())
            async with anyio.create_task_group() as group:
                entering = start(group, connecting.__aenter__)
                if step is not None:
                    await server.next()
                entering.scope.cancel()
            assert not entering.done
            assert all(stream.closed for stream in server.clients)
            await turns()
            assert all(peer.ended.is_set() for peer in server.peers)
