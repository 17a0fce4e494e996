"""Passwords and TLS on a real node that requires both, also while the node hangs or restarts."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import cqlproto_anyio as cql
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

LOCAL = "SELECT key FROM system.local WHERE key = ?"
CONFIG = cql.Config(connect_timeout=5.0)
PASSWORD = cql.PlainAuth("cassandra", "cassandra")


def connecting(
    node: Node,
    host: str | None = None,
    *,
    auth: cql.Auth | None = PASSWORD,
    tls: ssl.SSLContext | bool | None = None,
    config: cql.Config = CONFIG,
) -> AbstractAsyncContextManager[cql.Session]:
    """Connect as the node wants it, but for what is given."""
    context = node.tls_context() or False if tls is None else tls
    return cql.connect(host or node.host, port=node.port, auth=auth, tls=context, config=config)


async def failure(connect: AbstractAsyncContextManager[cql.Session]) -> cql.ConnectionFailed:
    started = time.monotonic()
    with pytest.raises(cql.ConnectionFailed) as info:
        async with connect:
            pytest.fail("connected")
    assert time.monotonic() - started < CONFIG.connect_timeout + 3
    assert info.value.maybe_applied is False
    return info.value


# -- who one is


class Counted:
    """A password that is asked for, plainly or by a coroutine."""

    def __init__(self, password: str = "cassandra") -> None:
        self.password = password
        self.calls = 0

    def now(self) -> str:
        self.calls += 1
        return self.password

    async def soon(self) -> str:
        await anyio.lowlevel.checkpoint()
        return self.now()


@pytest.mark.parametrize("name", ["now", "soon"])
@pytest.mark.parametrize("pooled", [1, 3])
async def test_a_password_is_asked_for_once_per_connection(
    secure_cassandra: Node, name: str, pooled: int
) -> None:
    """As many times as the server counts connections: those of the pool, and the control one."""
    counted = Counted()
    auth = cql.PlainAuth("cassandra", getattr(counted, name))
    application = f"asked-{uuid.uuid4()}"
    config = cql.Config(connections_per_host=pooled, application_name=application)
    clients = "SELECT username, client_options FROM system_views.clients"
    for turn in (1, 2):
        async with connecting(secure_cassandra, auth=auth, config=config) as session:
            await until(lambda: session.statistics().hosts[0].connections == pooled)
            for _ in range(10):
                assert (await session.execute(LOCAL, ("local",))).one().key == "local"
            found = [
                client.username
                for client in await session.execute(clients, consistency=cql.Consistency.ONE)
                if (client.client_options or {}).get("APPLICATION_NAME") == application
            ]
            assert found == ["cassandra"] * (pooled + 1)
        assert counted.calls == turn * (pooled + 1)


async def test_wrong_credentials(secure_cassandra: Node) -> None:
    secret = "wr0ng-secret"
    error = await failure(connecting(secure_cassandra, auth=cql.PlainAuth("cassandra", secret)))
    assert type(error) is cql.AuthenticationFailed
    assert error.stage == "handshake"
    assert "incorrect" in str(error)
    assert secret not in str(error) + repr(error)
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in told.stack if frame.filename != __file__]
    assert secret not in "".join(traceback.StackSummary.from_list(frames).format())
    unknown = await failure(connecting(secure_cassandra, auth=cql.PlainAuth("nobody", "x")))
    assert type(unknown) is cql.AuthenticationFailed
    empty = await failure(connecting(secure_cassandra, auth=cql.PlainAuth("", "")))
    assert type(empty) is cql.AuthenticationFailed


async def test_no_credentials(secure_cassandra: Node) -> None:
    error = await failure(connecting(secure_cassandra, auth=None))
    assert type(error) is cql.AuthenticationFailed
    assert "PasswordAuthenticator" in str(error)
    assert "pass auth=" in str(error)


async def test_a_password_that_cannot_be_had(secure_cassandra: Node) -> None:
    def broken() -> str:
        raise LookupError("the vault at 10.0.0.1 says no")

    error = await failure(connecting(secure_cassandra, auth=cql.PlainAuth("cassandra", broken)))
    assert type(error) is cql.AuthenticationFailed
    assert "LookupError" in str(error)
    assert "vault" not in str(error)
    assert isinstance(error.__cause__, LookupError)
    with pytest.raises(cql.ConfigError, match="the password must be a str, got a NoneType"):
        async with connecting(
            secure_cassandra,
            auth=cql.PlainAuth("cassandra", lambda: None),  # type: ignore[arg-type]
        ):
            pytest.fail("connected")


async def test_a_password_that_takes_for_ever(secure_cassandra: Node) -> None:
    async def forever() -> str:
        await anyio.sleep_forever()
        return ""

    config = cql.Config(connect_timeout=0.3)
    auth = cql.PlainAuth("cassandra", forever)
    error = await failure(connecting(secure_cassandra, auth=auth, config=config))
    assert "within 0.3 s" in str(error)


async def test_what_a_role_may_not_do(secure_cassandra: Node) -> None:
    async with connecting(secure_cassandra) as admin:
        await admin.execute(
            "CREATE ROLE IF NOT EXISTS guest WITH password = 'ünsafe \U0001f511' AND login = true"
        )
    guest = cql.PlainAuth("guest", "ünsafe \U0001f511")
    async with connecting(secure_cassandra, auth=guest) as session:
        with pytest.raises(cql.Unauthorized, match="guest") as info:
            await session.execute(
                "CREATE KEYSPACE mine WITH replication"
                " = {'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
        assert info.value.maybe_applied is False
        assert (await session.execute(LOCAL, ("local",))).one().key == "local"


# -- TLS


async def test_the_certificate_must_be_trusted(secure_cassandra: Node) -> None:
    node = secure_cassandra
    context = ssl.create_default_context()
    context.load_cert_chain(str(node.cert_path), str(node.key_path))
    error = await failure(connecting(node, tls=context))
    assert type(error) is cql.TLSFailed
    assert error.stage == "tls"
    assert "the certificate isn't trusted" in str(error)
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert type(await failure(connecting(node, tls=True))) is cql.TLSFailed


async def test_the_name_must_be_the_certificates(secure_cassandra: Node) -> None:
    async with connecting(secure_cassandra, "localhost") as session:
        assert (await session.execute(LOCAL, ("local",))).one().key == "local"
    error = await failure(connecting(secure_cassandra, "127.1"))
    assert type(error) is cql.TLSFailed
    assert "127.1" in str(error)
    assert "isn't trusted" in str(error)


async def test_a_client_certificate_is_wanted(secure_cassandra: Node) -> None:
    """With TLS 1.3 the server's refusal comes after the client's handshake is through."""
    anonymous = ssl.create_default_context(cafile=secure_cassandra.ca_path)
    error = await failure(connecting(secure_cassandra, tls=anonymous))
    assert isinstance(error, cql.ConnectionFailed)
    assert error.stage in ("tls", "handshake")
    older = ssl.create_default_context(cafile=secure_cassandra.ca_path)
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    error = await failure(connecting(secure_cassandra, tls=older))
    assert type(error) is cql.TLSFailed
    assert error.stage == "tls"


async def test_no_tls_where_it_is_wanted(secure_cassandra: Node) -> None:
    error = await failure(connecting(secure_cassandra, tls=False))
    assert error.stage == "handshake"
    assert "TLS" in str(error)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_every_version_of_tls(secure_cassandra: Node, version: ssl.TLSVersion) -> None:
    context = secure_cassandra.tls_context()
    assert context is not None
    context.minimum_version = context.maximum_version = version
    async with connecting(secure_cassandra, tls=context) as session:
        assert (await session.execute(LOCAL, ("local",))).one().key == "local"
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.uvloop
async def test_large_values_through_tls(secure_cassandra: Node) -> None:
    async with connecting(secure_cassandra) as session:
        await session.execute(
            "CREATE KEYSPACE IF NOT EXISTS tls WITH replication"
            " = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        await session.execute("CREATE TABLE IF NOT EXISTS tls.blobs (id int PRIMARY KEY, b blob)")
        blobs = [bytes([number]) * (1 << 20) for number in range(8)]

        async def one(number: int) -> None:
            insert = "INSERT INTO tls.blobs (id, b) VALUES (?, ?)"
            await session.execute(insert, (number, blobs[number]))
            select = "SELECT b FROM tls.blobs WHERE id = ?"
            blobs[number] = (await session.execute(select, (number,))).one().b

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
        assert blobs == [bytes([number]) * (1 << 20) for number in range(8)]


# -- a node that hangs or comes back


@contextlib.contextmanager
def paused(node: Node) -> Iterator[None]:
    node.pause()
    time.sleep(0.2)  # its threads stop one by one
    try:
        yield
    finally:
        node.resume()


@pytest.mark.uvloop
async def test_closing_does_not_wait_for_a_silent_peer(secure_cassandra: Node) -> None:
    async with connecting(secure_cassandra) as session:
        await session.execute(LOCAL, ("local",))
        with paused(secure_cassandra):
            with pytest.raises(cql.RequestTimeout):
                await session.execute(LOCAL, ("local",), timeout=0.1)
            errors: list[Exception] = []

            async def waiting() -> None:
                try:
                    await session.execute(LOCAL, ("local",))
                except cql.SessionClosed as error:
                    errors.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(waiting)
                await anyio.sleep(0.05)
                started = time.monotonic()
                await session.aclose()
                assert time.monotonic() - started < 3
            assert len(errors) == 1


async def test_connecting_to_a_node_that_hangs(secure_cassandra: Node) -> None:
    config = cql.Config(connect_timeout=0.5)
    with paused(secure_cassandra):
        error = await failure(connecting(secure_cassandra, config=config))
    assert "within 0.5 s" in str(error)
    assert error.stage == "tls"


async def refused(session: cql.Session, prepared: cql.Prepared[cql.Row]) -> None:
    """Repeat a request until the node refuses connections."""
    while True:
        try:
            await session.execute(prepared, ("local",), timeout=2.0)
        except cql.ConnectionFailed as error:
            assert not error.maybe_applied  # it only reads
            if error.stage == "connect":
                assert "refused" in str(error)
                return
        await anyio.sleep(0.01)


def test_sessions_outlive_a_restart(secure_cassandra: Node) -> None:
    """One restart, which takes a while, for a session on each event loop."""
    node = secure_cassandra
    step = threading.Barrier(3, timeout=90)

    async def outlive() -> None:
        async with connecting(node) as session:
            prepared = await session.prepare(LOCAL)
            assert (await session.execute(prepared, ("local",))).one().key == "local"
            await anyio.to_thread.run_sync(step.wait)  # it is killed
            await anyio.to_thread.run_sync(step.wait)
            with anyio.fail_after(10):
                await refused(session, prepared)
            await anyio.to_thread.run_sync(step.wait)  # it comes back
            await anyio.to_thread.run_sync(step.wait)
            assert (await session.execute(prepared, ("local",))).one().key == "local"
            assert (await session.execute("SELECT key FROM system.local")).one().key == "local"

    def run(backend: str) -> None:
        try:
            anyio.run(outlive, backend=backend)
        except BaseException:
            step.abort()
            raise

    with ThreadPoolExecutor() as pool:
        sessions = [pool.submit(run, backend) for backend in ("asyncio", "trio")]
        with contextlib.suppress(threading.BrokenBarrierError):
            step.wait()
            node.kill()
            try:
                step.wait()
                step.wait()
            finally:
                node.up()
            step.wait()
        for each in sessions:
            each.result()
