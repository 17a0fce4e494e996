"""TLS: which certificates are trusted for which node, client certificates, and TLS versions.

The servers are the tests' own, on several loopback addresses, each with its own certificate;
tests/cassandra tests certificates with a real node.
"""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream

import cqlproto_anyio as cql
from cqlproto_anyio._network.stream import Attempt, open_stream
from tests.support.replies import echo
from tests.support.server import Peer, Server, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SELECT = "SELECT v FROM t WHERE v = ?"
CONFIG = cql.Config(discovery=False, connect_timeout=5.0)
ONE, OTHER = "127.0.0.1", "127.0.0.2"
EXTENSIONS = """
[leaf]
subjectAltName = {names}
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
authorityKeyIdentifier = keyid
"""


class Authority:
    """Signs certificates, like a cluster's own authority."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key"
            " -out ca.pem -addext keyUsage=critical,keyCertSign -addext"
            " subjectKeyIdentifier=hash"
        )
        self.certificate = folder / "ca.pem"

    def _openssl(self, command: str) -> None:
        words = ["openssl", *command.split()]
        subprocess.run(words, cwd=self._folder, check=True, capture_output=True)

    def issue(self, *names: str, days: int = 2) -> tuple[Path, Path]:
        """Return the files of a certificate for these names and of its key."""
        stem = f"{names[0]}_{days}"
        cert, key = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        if not cert.exists():
            alternatives = ", ".join(f"{'IP' if _is_ip(name) else 'DNS'}:{name}" for name in names)
            (self._folder / f"{stem}.cnf").write_text(EXTENSIONS.format(names=alternatives))
            self._openssl(
                f"req -newkey rsa:2048 -nodes -subj /CN=somebody -keyout {key} -out {stem}.csr"
            )
            self._openssl(
                f"x509 -req -in {stem}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days}"
                f" -extfile {stem}.cnf -extensions leaf -out {cert}"
            )
        return cert, key

    def server(self, *names: str, days: int = 2) -> ssl.SSLContext:
        """Return the context of a node with these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*names, days=days))
        return context

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context."""
        return ssl.create_default_context(cafile=str(self.certificate))


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


class Nodes:
    """Servers with TLS that share their answers.

    Attributes:
        server: gives the answers of all nodes.
        served: the addresses with a successful handshake.
        refusals: the errors of the other handshakes, on the server's side.
    """

    def __init__(self, server: Server, group: anyio.abc.TaskGroup) -> None:
        self.server = server
        self.served: list[str] = []
        self.refusals: list[Exception] = []
        self._group = group

    async def start(self, context: ssl.SSLContext, address: str = ONE) -> str:
        """Start a node and return its contact point."""
        listener = await anyio.create_tcp_listener(local_host=address)

        async def serve(stream: anyio.abc.ByteStream) -> None:
            try:
                wrapped = await TLSStream.wrap(
                    stream, ssl_context=context, server_side=True, standard_compatible=False
                )
                self.served.append(address)
                peer = Peer(self.server, wrapped)
                self.server.peers.append(peer)
                await peer.serve()
            except* (ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream) as group:
                self.refusals += group.exceptions
            finally:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()

        async def accept() -> None:
            async with listener:
                await listener.serve(serve)

        self._group.start_soon(accept)
        return f"{address}:{listener.extra(anyio.abc.SocketAttribute.local_port)}"


@asynccontextmanager
async def nodes() -> AsyncIterator[Nodes]:
    async with serving() as server:
        server.answer = echo(server)
        assert server._group is not None
        yield Nodes(server, server._group)


async def works(points: str | list[str], **arguments: Any) -> None:
    async with cql.connect(points, **{"config": CONFIG, **arguments}) as session:
        assert (await session.execute(SELECT, (1,))).scalar() == 1


async def failure(point: str, **arguments: Any) -> cql.ConnectionFailed:
    started = anyio.current_time()
    with pytest.raises(cql.ConnectionFailed) as info:
        await works(point, **arguments)
    assert anyio.current_time() - started < 1  # it failed at once, without waiting for a time limit
    return info.value


# -- the node's certificate


async def test_each_node_has_a_certificate_of_its_own(authority: Authority) -> None:
    async with nodes() as cluster:
        points = [await cluster.start(authority.server(each), each) for each in (ONE, OTHER)]
        async with cql.connect(points, config=CONFIG, tls=authority.trusting()) as session:
            await until(lambda: {ONE, OTHER} <= set(cluster.served))
            hosts = {(await session.execute(SELECT, (1,))).host for _ in range(50)}
            assert hosts == set(points)


async def test_a_node_with_its_neighbours_certificate(authority: Authority) -> None:
    """The node is not used, and the session uses the other one."""
    async with nodes() as cluster:
        good = await cluster.start(authority.server(ONE), ONE)
        bad = await cluster.start(authority.server(ONE), OTHER)
        error = await failure(bad, tls=authority.trusting())
        assert type(error) is cql.TLSFailed
        assert OTHER in str(error)
        assert error.host == bad
        async with cql.connect([bad, good], config=CONFIG, tls=authority.trusting()) as session:
            for number in range(20):
                result = await session.execute(SELECT, (number,))
                assert (result.scalar(), result.host) == (number, good)
            seen = {host.address: host for host in session.statistics().hosts}
            assert seen[bad].status != "UP"
        assert set(cluster.served) == {ONE}


async def test_no_password_is_sent_to_a_node_that_is_not_trusted(
    authority: Authority, stranger: Authority
) -> None:
    asked: list[str] = []

    def password() -> str:
        asked.append("password")
        return "secret"

    def verify(token: bytes) -> bool:
        raise AssertionError("a password came")

    async with nodes() as cluster:
        cluster.server.verify = verify
        for context in (authority.server(OTHER), stranger.server(ONE)):
            point = await cluster.start(context)
            auth = cql.PlainAuth("ann", password)
            error = await failure(point, tls=authority.trusting(), auth=auth)
            assert type(error) is cql.TLSFailed
        assert cluster.served == []
        assert cluster.server.peers == []


async def test_an_expired_certificate(authority: Authority) -> None:
    async with nodes() as cluster:
        point = await cluster.start(authority.server(ONE, days=-1))
        error = await failure(point, tls=authority.trusting())
        assert type(error) is cql.TLSFailed
        assert "expired" in str(error)


async def test_what_the_system_trusts(
    authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tls=True`` trusts the system's authorities, and checks names."""
    async with nodes() as cluster:
        good = await cluster.start(authority.server(ONE))
        misnamed = await cluster.start(authority.server(OTHER))
        assert type(await failure(good, tls=True)) is cql.TLSFailed
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        await works(good, tls=True)
        assert type(await failure(misnamed, tls=True)) is cql.TLSFailed
        monkeypatch.setenv("SSL_CERT_FILE", str(stranger.certificate))
        assert type(await failure(good, tls=True)) is cql.TLSFailed


# -- the node's name


async def opened(point: str, context: ssl.SSLContext, server_name: str | None) -> TLSStream:
    address, _, port = point.rpartition(":")
    endpoint = cql.Endpoint(address, int(port), server_name)
    attempt = Attempt(endpoint, anyio.current_time)
    with anyio.fail_after(5):
        stream = await open_stream(attempt, tls=context, connector=None)
    assert isinstance(stream, TLSStream)
    return stream


async def test_the_server_name_is_what_is_checked(authority: Authority) -> None:
    """Nodes behind a proxy share an address and differ by the server name."""
    names: list[str | None] = []
    context = authority.server("node-a.example")
    context.sni_callback = lambda connection, name, _: names.append(name)
    async with nodes() as cluster:
        point = await cluster.start(context)
        stream = await opened(point, authority.trusting(), "node-a.example")
        await anyio.aclose_forcefully(stream)
        for wrong in ("node-b.example", None):
            with pytest.raises(cql.TLSFailed, match="isn't trusted") as info:
                await opened(point, authority.trusting(), wrong)
            assert (wrong or ONE) in str(info.value)
        assert names == ["node-a.example", "node-b.example", None]


# -- client certificates


async def test_client_certificates(authority: Authority, stranger: Authority) -> None:
    asking = authority.server(ONE)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(authority.certificate)
    known, unknown, anonymous = (authority.trusting() for _ in range(3))
    known.load_cert_chain(*authority.issue("client"))
    unknown.load_cert_chain(*stranger.issue("client"))
    async with nodes() as cluster:
        point = await cluster.start(asking)
        await works(point, tls=known)
        for context in (unknown, anonymous):
            # with TLS 1.3 the refusal comes after the client's handshake is complete
            error = await failure(point, tls=context)
            assert error.stage in ("tls", "handshake")
            assert "certificate" in str(error).lower()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            error = await failure(point, tls=context)
            assert (type(error), error.stage) == (cql.TLSFailed, "tls")
        assert len(cluster.refusals) == 4


# -- the user's own contexts


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_version_is_the_contexts(authority: Authority, version: ssl.TLSVersion) -> None:
    exact, other = authority.trusting(), authority.trusting()
    exact.minimum_version = exact.maximum_version = version
    wrong = {ssl.TLSVersion.TLSv1_2: ssl.TLSVersion.TLSv1_3}.get(version, ssl.TLSVersion.TLSv1_2)
    other.minimum_version = other.maximum_version = wrong
    context = authority.server(ONE)
    context.minimum_version = context.maximum_version = version
    async with nodes() as cluster:
        point = await cluster.start(context)
        await works(point, tls=exact)
        error = await failure(point, tls=other)
        assert (type(error), error.stage) == (cql.TLSFailed, "tls")


async def test_what_is_old_is_not_spoken_by_default(authority: Authority) -> None:
    """``tls=True`` is ``ssl.create_default_context()``: TLS 1.2 at least, whatever is offered."""
    contexts: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def noted() -> ssl.SSLContext:
        contexts.append(make())
        return contexts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", noted)
        cql.connect(ONE, tls=True)
    (context,) = contexts
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_who_gives_up_verification_has_to_say_so_himself(stranger: Authority) -> None:
    """The context is used as it is: the client changes none of its settings."""
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    async with nodes() as cluster:
        point = await cluster.start(stranger.server("elsewhere.example"))
        await works(point, tls=careless)
        assert type(await failure(point, tls=stranger.trusting())) is cql.TLSFailed
        nameless = stranger.trusting()
        nameless.check_hostname = False
        await works(point, tls=nameless)
        assert not nameless.check_hostname
        assert nameless.verify_mode is ssl.CERT_REQUIRED
