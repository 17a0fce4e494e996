"""Failures while connecting raise one typed exception in time, with the stage and the reason.

The tests simulate servers that don't speak CQL; refusals come from a real Cassandra.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute

import cqlproto_anyio as cql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import SocketStream

    from tests.cassandra.conftest import Node

QUICK = cql.Config(connect_timeout=1.0)


async def failure(
    host: str = "127.0.0.1",
    port: int = 9042,
    *,
    tls: ssl.SSLContext | bool = False,
    auth: cql.PlainAuth | None = None,
    keyspace: str | None = None,
    config: cql.Config = QUICK,
) -> cql.CQLError:
    """Return the exception of connecting, which must be in time and not an exception group."""
    started = time.monotonic()
    with pytest.raises(cql.CQLError) as info:
        async with cql.connect(
            host, port=port, tls=tls, auth=auth, keyspace=keyspace, config=config
        ):
            pytest.fail("connected")
    assert time.monotonic() - started < config.connect_timeout + 3
    return info.value


def check(error: cql.CQLError, kind: type[cql.ConnectionFailed], stage: str, *texts: str) -> None:
    assert type(error) is kind
    assert isinstance(error, OSError)
    assert error.stage == stage
    assert error.elapsed >= 0
    assert error.maybe_applied is False
    assert error.host is not None
    assert str(error).startswith(f"{error.host}: {stage} failed after ")
    for text in texts:
        assert text in str(error)


@contextlib.asynccontextmanager
async def serving(
    handle: Callable[[SocketStream], Awaitable[None]],
) -> AsyncIterator[int]:
    """Serve TCP on a free port; each connection ends with its handler."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def connected(stream: SocketStream) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream):
            async with stream:
                await handle(stream)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, connected)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


def answering(reply: bytes) -> Callable[[SocketStream], Awaitable[None]]:
    async def handle(stream: SocketStream) -> None:
        await stream.receive()
        await stream.send(reply)
        await anyio.sleep(5)

    return handle


async def silent(stream: SocketStream) -> None:
    await anyio.sleep_forever()


async def closing(stream: SocketStream) -> None:
    return


def free_port() -> int:
    with contextlib.closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_a_name_that_is_not_there() -> None:
    error = await failure("no-such-host.invalid")
    check(error, cql.ConnectionFailed, "resolve", "no-such-host.invalid", "can't be resolved")


async def test_a_closed_port() -> None:
    port = free_port()
    error = await failure(port=port)
    check(error, cql.ConnectionFailed, "connect", "refused", f"127.0.0.1:{port}")


async def test_all_of_several_hosts_are_told() -> None:
    port = free_port()
    started = time.monotonic()
    hosts = [f"127.0.0.1:{port}", "no-such-host.invalid"]
    with pytest.raises(cql.NoHostAvailable) as info:
        async with cql.connect(hosts, config=QUICK):
            pytest.fail("connected")
    assert time.monotonic() - started < 5
    assert len(info.value.attempts) == 2
    assert "2 tried" in str(info.value)
    assert "refused" in str(info.value)
    assert "can't be resolved" in str(info.value)


@pytest.mark.cassandra
async def test_the_second_host_will_do(cassandra: Node) -> None:
    hosts = [f"127.0.0.1:{free_port()}", cassandra.address]
    async with cql.connect(hosts) as session:
        result = await session.execute("SELECT key FROM system.local")
        assert result.host == cassandra.address


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("banner", [HTTP, b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 64, b"\xff" * 9])
async def test_a_server_that_speaks_something_else(banner: bytes) -> None:
    async with serving(answering(banner)) as port:
        error = await failure(port=port)
    check(error, cql.NotCQL, "handshake", f"127.0.0.1:{port}")


async def test_a_banner_before_the_request() -> None:
    async def handle(stream: SocketStream) -> None:
        await stream.send(b"SSH-2.0-OpenSSH_9.6 Debian-1\r\n")
        await anyio.sleep(5)

    async with serving(handle) as port:
        check(await failure(port=port), cql.NotCQL, "handshake", "SSH-2.0")


async def test_a_silent_server() -> None:
    async with serving(silent) as port:
        error = await failure(port=port, config=cql.Config(connect_timeout=0.3))
        check(error, cql.ConnectionFailed, "handshake", "nothing happened within 0.3 s")


async def test_a_server_that_trickles() -> None:
    """A byte now and then must not renew the deadline."""

    async def handle(stream: SocketStream) -> None:
        while True:
            await stream.send(b"\x84")
            await anyio.sleep(0.2)

    async with serving(handle) as port:
        await failure(port=port, config=cql.Config(connect_timeout=0.6))


async def test_a_server_that_closes_at_once() -> None:
    async with serving(closing) as port:
        error = await failure(port=port)
    assert isinstance(error, cql.ConnectionFailed)
    assert error.stage == "handshake"
    assert "closed" in str(error) or "reset" in str(error)


async def test_tls_against_a_server_without() -> None:
    async with serving(answering(HTTP)) as port:
        error = await failure(port=port, tls=ssl.create_default_context())
    check(error, cql.TLSFailed, "tls", "doesn't seem to speak TLS")


async def test_tls_against_a_server_that_closes() -> None:
    async def handle(stream: SocketStream) -> None:
        await stream.receive()

    async with serving(handle) as port:
        error = await failure(port=port, tls=ssl.create_default_context())
    assert type(error) is cql.TLSFailed
    assert error.stage == "tls"


async def test_tls_against_a_silent_server() -> None:
    async with serving(silent) as port:
        error = await failure(
            port=port, tls=ssl.create_default_context(), config=cql.Config(connect_timeout=0.3)
        )
    check(error, cql.ConnectionFailed, "tls", "within 0.3 s")


@pytest.mark.cassandra
async def test_tls_against_cassandra_without(cassandra: Node) -> None:
    error = await failure(cassandra.host, cassandra.port, tls=True)
    assert type(error) is cql.TLSFailed
    assert error.stage == "tls"


@pytest.mark.cassandra
async def test_a_keyspace_that_is_not_there(cassandra: Node) -> None:
    error = await failure(cassandra.host, cassandra.port, keyspace="nowhere")
    assert isinstance(error, cql.InvalidQuery)
    assert "'nowhere' does not exist" in str(error)
    assert error.host == cassandra.address
    error = await failure(cassandra.host, cassandra.port, keyspace='a"; DROP')
    assert isinstance(error, cql.InvalidQuery)


@pytest.mark.cassandra
async def test_an_unused_password_does_no_harm(cassandra: Node) -> None:
    auth = cql.PlainAuth("anyone", "anything")
    async with cql.connect(cassandra.host, port=cassandra.port, auth=auth) as session:
        assert len(await session.execute("SELECT key FROM system.local")) == 1


@pytest.mark.parametrize(
    ("hosts", "port", "text"),
    [
        ([], 9042, "hosts is empty"),
        ("", 9042, "contact point"),
        ("db1:port", 9042, "must be host or host:port"),
        ("db1", 0, "port must be a TCP port"),
        ("db1", 70_000, "port must be a TCP port"),
        ([5], 9042, "a contact point must be a str or an Endpoint, got a int"),
    ],
)
async def test_contact_points_that_are_none(hosts: list[str], port: int, text: str) -> None:
    with pytest.raises(cql.ConfigError, match=text):
        cql.connect(hosts, port=port)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"compression": "zstd"}, "compression must be .*, got 'zstd'"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"max_in_flight": 40_000}, "max_in_flight"),
        ({"max_prepared": 0}, "max_prepared"),
    ],
)
async def test_a_config_that_is_none(settings: dict[str, object], text: str) -> None:
    with pytest.raises(cql.ConfigError, match=text):
        cql.Config(**settings)  # type: ignore[arg-type]
