"""The examples of the documentation and README run, and print the output that they show."""

from __future__ import annotations

import contextlib
import inspect
import re
import shutil
import socket
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import hypothesis
import pytest

import cqlproto_anyio as cql
from tests.cassandra.fixtures import TEST_HOST
from tests.docs.pages import DOCS, ROOT, Page, pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cassandra.conftest import Node

WITHOUT_SERVER = ["testing.md", "types.md"]
WITH_SERVER = [
    "bulk.md",
    "clusters.md",
    "concurrency.md",
    "errors.md",
    "fault-proxy.md",
    "first-steps.md",
    "observing.md",
    "own-transport.md",
    "reading-and-writing.md",
    *(page for page in pages() if page.startswith("patterns/")),
]


def test_every_page_with_examples_is_run() -> None:
    assert sorted([*WITHOUT_SERVER, *WITH_SERVER, "connecting.md"]) == sorted(pages())


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("example", "right"),
    [
        ("print(1)\n# > 1", True),
        ("print(1)\nprint('a long one')\n# > 1\n# > a ... one", True),
        ("import anyio\nawait anyio.sleep(0)\nprint(1)\n# > 1", True),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))", True),
        ("print(1)", False),
        ("print(1)\n# > 2", False),
        ("print(1)\n# > 1\n# > 2", False),
        ("pass\n# > 1", False),
        ("assert False", False),
    ],
)
async def test_what_a_page_says_has_to_be_so(
    example: str, right: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"Text.\n\n```python\n{example}\n```\n")
    with contextlib.nullcontext() if right else pytest.raises(AssertionError):
        await Page(path, capsys).run()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_keyspaces_of_a_page_have_names_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    ran: list[object] = []
    page = """
        ran.append('CREATE KEYSPACE shop WITH ..')
        ran.append(dict(prefix="page_"))
        print(ran[-1], "shop", "workshop", "page_acme")
        # > {'prefix': 'page_'} shop workshop page_acme
    """
    path.write_text(f"```python\n{inspect.cleandoc(page)}\n```\n")
    await Page(path, capsys, own="mine_", ran=ran).run()
    assert ran == ["CREATE KEYSPACE mine_shop WITH ..", {"prefix": "mine_page_"}]


def redirect(monkeypatch: pytest.MonkeyPatch, nodes: dict[str, Node]) -> None:
    """Redirect the usual addresses in the pages to the tests' nodes."""
    connect, create_connection = cql.connect, socket.create_connection
    connect_tcp = anyio.connect_tcp

    def where(host: str, port: int) -> tuple[str, int]:
        node = nodes.get(host) if port == 9042 else None
        return (host, port) if node is None else (node.host, node.port)

    def connect_to(hosts: Any, *, port: int = 9042, **arguments: Any) -> Any:
        names = [hosts] if isinstance(hosts, str) else list(hosts)
        names = ["{}:{}".format(*where(name, port)) if name in nodes else name for name in names]
        return connect(names[0] if isinstance(hosts, str) else names, port=port, **arguments)

    def create_connection_to(address: tuple[str, int], *rest: Any, **more: Any) -> socket.socket:
        return create_connection(where(*address), *rest, **more)

    async def connect_tcp_to(host: str, port: int) -> anyio.abc.SocketStream:
        return await connect_tcp(*where(host, port))

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp_to)
    monkeypatch.setattr(cql, "connect", connect_to)
    monkeypatch.setattr(socket, "create_connection", create_connection_to)


@pytest.fixture
def few_examples() -> Iterator[None]:
    """Run the pages' property tests with fewer examples than the tests of the package.

    One of them fails, as the page says, and is not shrunk, because that takes hundreds of examples.
    """
    hypothesis.settings.register_profile(
        "pages",
        parent=hypothesis.settings(),
        max_examples=40,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("pages")
    yield
    hypothesis.settings.load_profile("cqlproto")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", WITHOUT_SERVER)
@pytest.mark.usefixtures("few_examples")
async def test_a_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    await Page(DOCS / name, capsys).run()


@pytest.mark.parametrize("name", WITH_SERVER)
async def test_a_page_with_a_server(
    name: str,
    cassandra: Node,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    redirect(monkeypatch, {"127.0.0.1": cassandra})
    own = f"p{uuid.uuid4().hex[:6]}_" if name.startswith("patterns/") else ""
    async with contextlib.AsyncExitStack() as stack:
        if own and TEST_HOST:  # other nodes go, with all keyspaces
            stack.push_async_callback(drop_keyspaces, cassandra, own)
        await Page(DOCS / name, capsys, own=own, stack=stack).run()


async def drop_keyspaces(node: Node, prefix: str) -> None:
    async with cql.connect(node.host, port=node.port) as session:
        names = await session.execute("SELECT keyspace_name FROM system_schema.keyspaces")
        for name in names.scalars():
            if name.startswith(prefix):
                await session.execute(f"DROP KEYSPACE {name}", timeout=60)


async def test_the_page_on_connecting(
    cassandra: Node,
    secure_cassandra: Node,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    redirect(monkeypatch, {"127.0.0.1": cassandra, "db.example.org": secure_cassandra})
    for path, name in (
        (secure_cassandra.ca_path, "ca.pem"),
        (secure_cassandra.cert_path, "client.pem"),
        (secure_cassandra.key_path, "client.key"),
    ):
        assert path is not None
        shutil.copy(path, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    await Page(DOCS / "connecting.md", capsys).run()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_readme(
    cassandra: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """README's example prints the release, which depends on the server."""
    redirect(monkeypatch, {"127.0.0.1": cassandra})
    page = Page(ROOT / "README.md", capsys)
    for line, source in page.blocks:
        assert re.fullmatch(r"\d+\.\d+\.\S+\n", await page.run_block(line, source))
