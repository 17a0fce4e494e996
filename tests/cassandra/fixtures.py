"""Fixtures of real Cassandra servers; tests/conftest.py loads them for every test.

===================== ===========================================================================
``cassandra``         a node without passwords or TLS
``secure_cassandra``  a node with passwords, and TLS that asks for a client certificate
``spare_cassandra``   a node to kill and to pause; a test must leave it running
``limited_cassandra`` a node with low limits: of requests a second, tombstones and captured changes
``three_nodes``       a cluster of three nodes, to kill and to pause as well
``two_datacenters``   a cluster of three nodes, two in the data centre eu and one in us
``growing_cluster``   a cluster of two nodes, and a third that is not started yet
``line``              a node of the release that ``CQLPROTO_LINE`` names, with passwords
``keyspace``          the name of a keyspace on ``cassandra``, made for the module, dropped after it
===================== ===========================================================================

shared.py has their options, and documents when they start and end.

``CQLPROTO_TEST_HOST=host:port`` names a running server to use as ``cassandra``. On a machine that
can't run Cassandra, these tests are skipped; with ``CQLPROTO_REQUIRE_CASSANDRA=1`` they fail.
"""

from __future__ import annotations

import os
import re
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.cassandra import java
from tests.cassandra.launcher import Cluster, Node
from tests.cassandra.shared import OPTIONS, Servers, in_order, needs

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from _pytest.terminal import TerminalReporter

__all__ = ["Cluster", "Node"]

TEST_HOST = os.environ.get("CQLPROTO_TEST_HOST", "")
REQUIRED = os.environ.get("CQLPROTO_REQUIRE_CASSANDRA", "0") not in ("", "0")


_servers = pytest.StashKey[Servers]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needs(item):
            item.add_marker("cassandra")
    items[:] = in_order(items)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch the jars before the first test, whose time limit is too short for downloads."""
    session.stash[_servers] = Servers(session.items, {"cassandra"} if TEST_HOST else ())
    if session.config.option.collectonly:
        return
    names = set().union(*map(needs, session.items))
    for release in {OPTIONS[name].release for name in names}:
        if java.missing(release) is None:
            java.fetch(release)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    servers = item.session.stash[_servers]
    if java.missing() is None:
        servers.before(item)
    result = yield
    servers.after(item)
    return result


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
    if _servers in session.stash:
        session.stash[_servers].end()


def _get(request: pytest.FixtureRequest) -> Cluster:
    """Return the cluster that has the name of the fixture."""
    name = str(request.fixturename)
    if reason := java.missing(OPTIONS[name].release):
        (pytest.fail if REQUIRED else pytest.skip)(f"no Cassandra for {name}: {reason}")
    return request.session.stash[_servers].get(name)


@pytest.fixture(scope="session")
def cassandra(request: pytest.FixtureRequest) -> Node:
    if TEST_HOST:
        host, _, port = TEST_HOST.rpartition(":")
        return Node(host, int(port))
    return _get(request).nodes[0]


@pytest.fixture(scope="session")
def secure_cassandra(request: pytest.FixtureRequest) -> Node:
    return _get(request).nodes[0]


@pytest.fixture(scope="session")
def spare_cassandra(request: pytest.FixtureRequest) -> Node:
    return _get(request).nodes[0]


@pytest.fixture(scope="session")
def limited_cassandra(request: pytest.FixtureRequest) -> Node:
    return _get(request).nodes[0]


@pytest.fixture(scope="session")
def line(request: pytest.FixtureRequest) -> Node:
    return _get(request).nodes[0]


@pytest.fixture(scope="session")
def three_nodes(request: pytest.FixtureRequest) -> Cluster:
    return _get(request)


@pytest.fixture(scope="session")
def two_datacenters(request: pytest.FixtureRequest) -> Cluster:
    return _get(request)


@pytest.fixture(scope="session")
def growing_cluster(request: pytest.FixtureRequest) -> Cluster:
    return _get(request)


@pytest.fixture(scope="module")
def keyspace(request: pytest.FixtureRequest, cassandra: Node) -> Iterator[str]:
    words = re.sub(r"\W+", "_", request.module.__name__.rpartition(".")[2]).lower()
    name = f"{words[:30]}_{uuid.uuid4().hex[:8]}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    cassandra.cql(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    yield name
    cassandra.cql(f"DROP KEYSPACE {name}")
