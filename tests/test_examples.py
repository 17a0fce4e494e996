"""The programs in examples/ work on a real server, and stay short."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

import cqlproto_anyio as cql
from cqlproto import (
    ProtocolVersion,
    RequestReceived,
    ServerConnection,
    UnsupportedVersionReceived,
    handshake_reply,
)
from cqlproto.messages import VOID, Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cassandra.conftest import Node

EXAMPLES = Path(__file__).parent.parent / "examples"
CLIENT = EXAMPLES / "blocking_client.py"
PROXY = EXAMPLES / "recording_proxy.py"
DEMO = EXAMPLES / "demo.py"
SUPPORTED = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4"]}
FRAME = re.compile(r"(\S+) (->|<-) v(\d) (\w+) stream=(-?\d+) bytes=(\d+)")


def run_client(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(CLIENT), "--port", str(port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("path", "most"), [(CLIENT, 60), (PROXY, 80)])
def test_it_is_short(path: Path, most: int) -> None:
    assert path.read_text().count("\n") < most


# -- the blocking client


@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_client_asks_in_each_version(cassandra: Node, version: int) -> None:
    query = "SELECT key, bootstrapped FROM system.local"
    ran = run_client(cassandra.port, "--host", cassandra.host, "--highest", str(version), query)
    row = "Row(key='local', bootstrapped='COMPLETED')"
    assert (ran.returncode, ran.stdout) == (0, f"protocol v{version}\n{row}\n"), ran.stderr


def test_the_client_has_a_query_of_its_own(cassandra: Node) -> None:
    ran = run_client(cassandra.port, "--host", cassandra.host)
    assert re.fullmatch(r"protocol v5\nRow\(key='local', cql_version='[\d.]+'\)\n", ran.stdout)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_client_prints_all_rows_and_no_rows(cassandra: Node, keyspace: str) -> None:
    table = f"{keyspace}.numbers"
    for query, printed in (
        (f"CREATE TABLE {table} (n int PRIMARY KEY)", ["done"]),
        (f"SELECT n FROM {table}", []),
        (f"INSERT INTO {table} (n) VALUES (1)", ["done"]),
        (f"INSERT INTO {table} (n) VALUES (2)", ["done"]),
        (f"SELECT n FROM {table} WHERE n IN (1, 2)", ["Row(n=1)", "Row(n=2)"]),
    ):
        ran = run_client(cassandra.port, "--host", cassandra.host, query)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.splitlines() == ["protocol v5", *printed]


def test_the_client_says_what_the_server_refuses(cassandra: Node) -> None:
    ran = run_client(cassandra.port, "--host", cassandra.host, "SELEKT 1")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"{cassandra.host}:{cassandra.port}: line 1:0 ")
    assert "SELEKT" in ran.stderr
    assert ran.stderr.count("\n") == 1


@contextlib.contextmanager
def listening(serve: object) -> Iterator[int]:
    """Serve connections one after another, in a thread, on a free port."""
    assert callable(serve)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # closing the socket ends the thread
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        serve(peer)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_the_client_says_that_nobody_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ran = run_client(port)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(rf"127\.0\.0\.1:{port}: \[Errno \d+\] Connection refused\n", ran.stderr)


def test_the_client_says_that_it_is_not_cql() -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(answer) as port:
        ran = run_client(port)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"127.0.0.1:{port}: not a CQL response")


def test_the_client_says_that_the_server_has_gone() -> None:
    with listening(lambda peer: peer.recv(100)) as port:
        ran = run_client(port)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"127.0.0.1:{port}: the server closed the connection\n"


def serve_versions(
    asked: list[int], *versions: ProtocolVersion, verify: Callable[[bytes], bool] | None = None
) -> object:
    """Return a handler that serves these versions, and adds refused versions to ``asked``."""

    def serve(peer: socket.socket) -> None:
        server = ServerConnection(versions=versions)
        while data := peer.recv(65_536):
            server.receive_data(data)
            while (event := server.next_event()) is not None:
                if isinstance(event, UnsupportedVersionReceived):
                    asked.append(event.version)
                    spoken = ", ".join(f"{version:d}/v{version:d}" for version in versions)
                    text = f"Invalid or unsupported protocol version; supported are ({spoken})"
                    server.reply(event.stream_id, Error(0x000A, text))
                elif isinstance(event, RequestReceived):
                    reply = handshake_reply(event.message, supported=SUPPORTED, verify=verify)
                    server.reply(event.stream_id, reply or VOID)
            peer.sendall(server.data_to_send())

    return serve


@pytest.mark.parametrize(
    ("versions", "refused"),
    [
        ([ProtocolVersion.V3, ProtocolVersion.V4], [5]),
        ([ProtocolVersion.V3], [5]),
        ([ProtocolVersion.V4], [5]),
    ],
)
def test_the_client_goes_down_to_what_the_server_speaks(
    versions: list[ProtocolVersion], refused: list[int]
) -> None:
    asked: list[int] = []
    with listening(serve_versions(asked, *versions)) as port:
        ran = run_client(port, "TRUNCATE shop.users")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == f"protocol v{max(versions)}\ndone\n"
    assert asked == refused


def test_the_client_says_that_no_version_is_left() -> None:
    asked: list[int] = []
    with listening(serve_versions(asked, ProtocolVersion.V5)) as port:
        ran = run_client(port, "--highest", "4")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "unsupported protocol version" in ran.stderr
    assert asked == [4]


# -- the demo


async def demo_keyspaces(cassandra: Node) -> list[str]:
    async with cql.connect(cassandra.host, port=cassandra.port) as session:
        found = await session.execute(
            "SELECT keyspace_name FROM system_schema.keyspaces", row=tuple
        )
    return sorted(name for (name,) in found if name.startswith("cqlproto_demo"))


DEMONSTRATION = """
import os, runpy, signal, sys
import cqlproto_anyio as cql

way, script = sys.argv.pop(1), sys.argv.pop(1)
sys.argv[0] = script
count = 0
usual = cql.Session.execute

async def execute(self, query, *arguments, **options):
    global count
    count += 1
    if count == 200 and way == "interrupted":
        os.kill(os.getpid(), signal.SIGINT)
    if count == 200 and way == "failing":
        query = "SELEKT"
        arguments = ()
    return await usual(self, query, *arguments, **options)

if way != "through":
    cql.Session.execute = execute
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("way", "backend", "code"),
    [
        ("through", "asyncio", 0),
        ("failing", "asyncio", 1),
        ("interrupted", "asyncio", 130),
        ("interrupted", "trio", 130),
    ],
)
async def test_the_demo_leaves_nothing_behind(
    cassandra: Node, way: str, backend: str, code: int
) -> None:
    before = await demo_keyspaces(cassandra)
    ran = await anyio.run_process(
        [sys.executable, "-c", DEMONSTRATION, way, str(DEMO), "--backend", backend],
        env={**os.environ, "CQLPROTO_HOSTS": f"{cassandra.host}:{cassandra.port}"},
        check=False,
    )
    assert ran.returncode == code, ran.stderr.decode()
    assert b"Traceback" not in ran.stderr
    assert (b"20,000 rows written" in ran.stdout) == (way == "through")
    assert await demo_keyspaces(cassandra) == before


# -- the recording proxy


class Proxy:
    """The proxy's process, and its port."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self.process = process

    def stop(self) -> list[str]:
        """End the proxy and return the lines that it printed."""
        self.process.terminate()
        out, err = self.process.communicate(timeout=30)
        assert err == ""
        return out.splitlines()


@contextlib.contextmanager
def recording(host: str, port: int) -> Iterator[Proxy]:
    command = [sys.executable, "-W", "error", str(PROXY), "--port", "0", "--node", f"{host}:{port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            listens = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
            assert listens is not None
            yield Proxy(process, int(listens[1]))
        finally:
            process.kill()


def frames(lines: list[str]) -> list[tuple[str, int, str, int, int]]:
    """Return (direction, version, name, stream, bytes) of each line; each must be a frame."""
    found = []
    for line in lines:
        frame = FRAME.fullmatch(line)
        assert frame is not None, line
        found.append((frame[2], int(frame[3]), frame[4], int(frame[5]), int(frame[6])))
    return found


@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_proxy_shows_a_conversation(cassandra: Node, version: int) -> None:
    with recording(cassandra.host, cassandra.port) as proxy:
        ran = run_client(proxy.port, "--highest", str(version))
        assert ran.stdout.startswith(f"protocol v{version}\nRow("), ran.stderr
        seen = frames(proxy.stop())
    assert {frame[1] for frame in seen} == {version}
    assert [(way, name, stream) for way, _, name, stream, _ in seen] == [
        ("->", "OPTIONS", 0),
        ("<-", "SUPPORTED", 0),
        ("->", "STARTUP", 0),
        ("<-", "READY", 0),
        ("->", "QUERY", 1),
        ("<-", "RESULT", 1),
    ]
    query = len("SELECT key, cql_version FROM system.local") + 4 + 2 + (4 if version == 5 else 1)
    assert [seen[0][4], seen[3][4], seen[4][4]] == [0, 0, query]


@pytest.mark.parametrize(
    ("version", "compression"),
    [(5, None), (5, "lz4"), (4, None), (4, "lz4"), (4, "snappy"), (3, "lz4")],
)
async def test_the_proxy_follows_much_traffic(
    cassandra: Node, keyspace: str, version: int, compression: str | None
) -> None:
    """Many concurrent requests, bodies of several segments, and compression."""
    config = cql.Config(
        protocol_version=ProtocolVersion(version),
        compression=compression,
        discovery=False,  # one connection
    )
    table = f"{keyspace}.blobs_{version}_{compression}"
    noise = bytes(index * index % 251 for index in range(300_000))
    insert = f"INSERT INTO {table} (n, data) VALUES (?, ?)"
    with recording(cassandra.host, cassandra.port) as proxy:
        async with cql.connect("127.0.0.1", port=proxy.port, config=config) as session:
            create = f"CREATE TABLE IF NOT EXISTS {table} (n int PRIMARY KEY, data blob)"
            await session.execute(create, timeout=60)
            await session.execute(insert, (0, noise))
            async with anyio.create_task_group() as group:
                for number in range(1, 100):
                    group.start_soon(session.execute, insert, (number, b"x" * number))
            found = await session.execute(f"SELECT n, data FROM {table}")
            rows = {row.n: row.data for row in found}
        seen = frames(await anyio.to_thread.run_sync(proxy.stop))
    assert rows == {0: noise, **{number: b"x" * number for number in range(1, 100)}}
    assert {frame[1] for frame in seen} == {version}
    sent = [frame for frame in seen if frame[0] == "->"]
    names = [frame[2] for frame in sent]
    assert names.count("EXECUTE") == 100
    assert names.count("STARTUP") == 1
    longest = max(frame[4] for frame in sent)
    if compression is None or version == 5:  # v5 compresses segments instead of frames
        assert longest > len(noise)
    else:
        assert longest < len(noise) // 10
    answered = sorted(frame[3] for frame in seen if frame[0] == "<-")
    assert answered == sorted(frame[3] for frame in sent)


@pytest.mark.parametrize(("version", "compression"), [(4, None), (5, None), (5, "lz4")])
async def test_the_proxy_follows_a_login(version: int, compression: str | None) -> None:
    """On v5, AUTH_RESPONSE is already in segments."""
    config = cql.Config(
        protocol_version=ProtocolVersion(version), compression=compression, discovery=False
    )
    auth = cql.PlainAuth("ann", "secret")
    serve = serve_versions([], *ProtocolVersion, verify=lambda token: token == b"\0ann\0secret")
    with listening(serve) as node, recording("127.0.0.1", node) as proxy:
        async with cql.connect("127.0.0.1", port=proxy.port, auth=auth, config=config) as session:
            await session.execute("TRUNCATE shop.users")
        seen = frames(await anyio.to_thread.run_sync(proxy.stop))
    assert [(way, name) for way, _, name, _, _ in seen] == [
        ("->", "OPTIONS"),
        ("<-", "SUPPORTED"),
        ("->", "STARTUP"),
        ("<-", "AUTHENTICATE"),
        ("->", "AUTH_RESPONSE"),
        ("<-", "AUTH_SUCCESS"),
        ("->", "QUERY"),
        ("<-", "RESULT"),
    ]


def test_the_proxy_relays_what_it_cannot_read(cassandra: Node) -> None:
    with recording(cassandra.host, cassandra.port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = sock.recv(1000)
        lines = proxy.stop()
    assert answer[:1] == b"\x85"  # the server's ERROR was relayed
    assert len(lines) == 1
    assert "relayed, but no longer read" in lines[0]


def test_the_proxy_serves_on_when_the_node_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with recording("127.0.0.1", port) as proxy:
        for _ in range(2):
            ran = run_client(proxy.port)
            assert (ran.returncode, ran.stdout) == (1, "")
            assert ran.stderr.startswith(f"127.0.0.1:{proxy.port}: ")
        lines = proxy.stop()
    assert len(lines) == 2
    assert all(str(port) in line for line in lines)


def test_the_proxy_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, str(PROXY), "--port", str(port)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "address already in use" in ran.stderr
    assert ran.stderr.count("\n") == 1
