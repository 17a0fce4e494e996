"""Fixtures of real Cassandra servers; tests/conftest.py loads them for every test.

==================== ============================================================================
``cassandra``        a node without passwords or TLS, one for the whole run
``secure_cassandra`` a node with passwords, and TLS that asks for a client certificate; started
                     when the first test wants it, one for the whole run
``start_cluster``    a function that starts a cluster of the test's own, for killing and pausing;
                     it ends with the test's module
``line``             a node of the release that ``CQLPROTO_LINE`` names, with passwords; it ends
                     with the test's module
``keyspace``         the name of a keyspace on ``cassandra``, made for the module, dropped after it
==================== ============================================================================

``CQLPROTO_TEST_HOST=host:port`` names a server that runs already and stands in for ``cassandra``.
With ``CQLPROTO_REQUIRE_CASSANDRA=1`` a machine that cannot run Cassandra fails the tests; else it
skips them.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.cassandra import java
from tests.cassandra.launcher import Cluster, Node, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.terminal import TerminalReporter

__all__ = ["Cluster", "Node", "Options", "StartCluster"]

FIXTURES = {"cassandra", "secure_cassandra", "start_cluster", "line"}
TEST_HOST = os.environ.get("CQLPROTO_TEST_HOST", "")
LINE = os.environ.get("CQLPROTO_LINE", "3.11.19")
REQUIRED = os.environ.get("CQLPROTO_REQUIRE_CASSANDRA", "0") not in ("", "0")


class StartCluster(Protocol):
    def __call__(self, options: Options | None = None) -> Cluster:
        """Start a cluster and return it when all its nodes serve CQL."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("cassandra")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the jars before the first test, whose time limit is not made for downloads."""
    if session.config.option.collectonly:
        return
    names = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    releases = {LINE} if "line" in names else set()
    if names & (FIXTURES - {"line"}):
        releases.add(java.CASSANDRA_VERSION)
    for release in releases:
        if java.missing(release) is None:
            java.fetch(release)


def pytest_report_header() -> str:
    server = TEST_HOST or f"{java.CASSANDRA_VERSION}, started by the tests"
    return f"Cassandra: {server}" + ("; a skipped test fails the run" if REQUIRED else "")


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if REQUIRED and (skipped := terminalreporter.getreports("skipped")):
        terminalreporter.write_line(
            f"{len(skipped)} skipped: with CQLPROTO_REQUIRE_CASSANDRA no test may be", red=True
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter: TerminalReporter | None = session.config.pluginmanager.get_plugin("terminalreporter")
    if REQUIRED and exitstatus == 0 and reporter is not None and reporter.getreports("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def _can_start() -> None:
    if reason := java.missing():
        (pytest.fail if REQUIRED else pytest.skip)(f"no Cassandra: {reason}")


@pytest.fixture(scope="session")
def cassandra(request: pytest.FixtureRequest) -> Iterator[Node]:
    if TEST_HOST:
        host, _, port = TEST_HOST.rpartition(":")
        yield Node(host, int(port))
        return
    request.getfixturevalue("_can_start")
    with Cluster() as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="session")
def secure_cassandra(_can_start: None) -> Iterator[Node]:
    with Cluster(Options(auth=True, tls="mutual")) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def line() -> Iterator[Node]:
    if reason := java.missing(LINE):
        (pytest.fail if REQUIRED else pytest.skip)(f"no Cassandra {LINE}: {reason}")
    with Cluster(Options(release=LINE, auth=True)) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def start_cluster(_can_start: None) -> Iterator[StartCluster]:
    with contextlib.ExitStack() as stack:

        def start(options: Options | None = None) -> Cluster:
            return stack.enter_context(Cluster(options))

        yield start


@pytest.fixture(scope="module")
def keyspace(request: pytest.FixtureRequest, cassandra: Node) -> Iterator[str]:
    words = re.sub(r"\W+", "_", request.module.__name__.rpartition(".")[2]).lower()
    name = f"{words[:30]}_{uuid.uuid4().hex[:8]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    cassandra.cql(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    yield name
    cassandra.cql(f"DROP KEYSPACE {name}")
