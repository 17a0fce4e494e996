"""Defaults, limits and counts in README, SECURITY.md and the pages are those of the sources.

A claim is a quotation with the value filled in from the sources. Claims about behaviour are tested
where the behaviour is.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import tomllib
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto import Limits, ProtocolVersion
from cqlproto.connection.handshake import MAX_CHALLENGES
from cqlproto.cqltypes.exact import MOST_BYTES, MOST_DIGITS
from cqlproto_anyio._cluster.racing import STAGGER
from cqlproto_anyio._cluster.system_tables import MAX_BYTES, MAX_PAGES, MAX_ROWS, MAX_TIME
from cqlproto_anyio._eventloop.deadlines import SLICE
from cqlproto_anyio._execution.attempts import _SOUND
from cqlproto_anyio._execution.walk import MAX_REFUSALS
from cqlproto_anyio._metadata.tablets import _LONGEST as LONGEST_TABLET
from cqlproto_anyio._network.connector import _LONGEST as LONGEST_HANDSHAKE
from cqlproto_anyio._network.heartbeats import LEAST_RATE, LEAST_SKIPPED_RATE
from cqlproto_anyio._network.host_state import LONGEST_URGENT, HostState
from cqlproto_anyio._network.pool import MAX_SHARDS
from cqlproto_anyio._statements.preparer import _PATIENCE
from cqlproto_anyio._statements.server_warnings import MAX_KINDS
from cqlproto_anyio.policies.timestamps import MOST_AHEAD
from cqlproto_anyio.testing.link import _HELD_BYTES
from tests.cassandra.java import CASSANDRA_VERSION
from tests.cassandra.lines import LINES, highest_version, java_version
from tests.cassandra.shared import LINE
from tests.docs.pages import ROOT

CONFIG, PROFILE, LIMITS = cql.Config(), cql.Profile(), Limits()
RECONNECTION = cql.ExponentialReconnection()
MiB = 1024 * 1024
WORDS = {
    0.1: "a tenth",
    0.5: "half a second",
    1: "a second",
    2: "two",
    6: "six",
    60: "a minute",
}
SECURITY = (ROOT / "SECURITY.md").read_text()
ERRORS = (ROOT / "docs" / "errors.md").read_text()
URGENT = inspect.signature(HostState).parameters["urgent"].default


def words(value: float) -> str:
    """Return how the texts write this number."""
    return WORDS.get(value, f"{value:g}")


CLAIMS: dict[str, list[str]] = {
    "README.md": [f"a JDK {java_version(CASSANDRA_VERSION)} and Maven", "write 20,000 rows"],
    "SECURITY.md": [
        f"(`Limits.max_response`, {LIMITS.max_response // MiB} MiB)",
        f"messages of the handshake ({LONGEST_HANDSHAKE // MiB} MiB)",
        f"authentication challenges ({MAX_CHALLENGES})",
        f"system tables ({MAX_ROWS:,} rows, {MAX_BYTES // MiB} MiB)",
    ],
    "docs/clusters.md": [
        f"`Config.max_connections_per_host`, {CONFIG.most_connections} by default",
        f"waits {RECONNECTION.base:g} s after the first failure and twice as long after each",
        f"after each further one, up to {words(RECONNECTION.maximum)}.",
        f"tries again {URGENT:g} s after the last failure, and then at intervals",
        f"at intervals that double up to {LONGEST_URGENT:g} s",
        f"set back by up to {words(MOST_AHEAD / 1e6)}",
        f"silent for {words(_PATIENCE)} of `Config.control_timeout`",
        f"if a node refuses, it asks up to {words(MAX_REFUSALS - 1)} others",
        f"if that is set, and {MAX_SHARDS} otherwise",
        f"`Config.refresh_interval`, {CONFIG.refresh_interval:g} s by default",
    ],
    "docs/concurrency.md": [
        f"`Config.max_connections_per_host`, {CONFIG.most_connections} by default",
    ],
    "docs/connecting.md": [
        f"| `Config.connect_timeout` | {CONFIG.connect_timeout:g} s |",
        f"| `Config.start_timeout` | {CONFIG.start_limit:g} s |",
        f"the session tries the next one {words(STAGGER)} later",
        f"The client asks for protocol version {max(ProtocolVersion):d} and goes down",
        f"the highest version that the server speaks, at least {min(ProtocolVersion):d}.",
    ],
    "docs/design.md": [
        f"{words(STAGGER)} later if the one before doesn't answer",
        f"A message of the handshake may have {LONGEST_HANDSHAKE // MiB} MiB,",
        f"with up to {MAX_CHALLENGES} challenges.",
        f"A system table may have {MAX_PAGES:,} pages, {MAX_ROWS:,} rows",
        f"{MAX_ROWS:,} rows and {MAX_BYTES // MiB} MiB,",
        f"and take {words(MAX_TIME)} times `control_timeout`.",
        f"A tablet may have {LONGEST_TABLET // 1024} KiB.",
        f"Up to `max_connections_per_host` shards are used, or {MAX_SHARDS}.",
        f"grown by {LEAST_RATE // 1024} KiB for each second",
        f"({LEAST_SKIPPED_RATE // MiB} MiB for one that is skipped)",
        f"a page of {LIMITS.max_response // MiB} MiB may take its time",
        f"for {words(_PATIENCE)} of `control_timeout`",
        f"up to {words(MAX_REFUSALS - 1)} others are asked",
        f"at most once {words(_SOUND)} for each statement",
        f"A decimal has at most {MOST_BYTES // 1024} KiB.",
        f"The default consistency is {PROFILE.consistency.name}.",
        f"expired in slices of {SLICE}",
        f"So beyond {words(MOST_AHEAD / 1e6).replace('a ', 'one ')} the session makes none",
    ],
    "docs/errors.md": [
        f"The default is {PROFILE.timeout:g} seconds",
        f"sends a request at most {cql.DefaultRetry().max_attempts} times",
    ],
    "docs/fault-proxy.md": [f"at most {_HELD_BYTES // MiB} MiB of delayed frames"],
    "docs/first-steps.md": [
        f"a JDK {java_version(CASSANDRA_VERSION)} and Maven",
        f"Cassandra {LINES[0].rpartition('.')[0]} or later",
        "20,000 rows",
    ],
    "docs/index.md": [
        f"versions {min(ProtocolVersion):d} to {max(ProtocolVersion):d}",
    ],
    "docs/observing.md": [f"for up to {MAX_KINDS} kinds"],
    "docs/own-transport.md": [f"{LIMITS.max_streams:,} requests can be in flight"],
    "docs/reading-and-writing.md": [
        f"has more than `max_rows` rows, {PROFILE.max_rows:,} by default",
        f"The default is {PROFILE.consistency.name}.",
    ],
    "docs/types.md": [
        f"up to {MOST_DIGITS - 1:,} digits (an unscaled value of {MOST_BYTES // 1024} KiB)",
        f"at most {MOST_BYTES:,} are sent",
    ],
    "CONTRIBUTING.md": [
        f"a JDK {java_version(CASSANDRA_VERSION)} and Maven",
        f"by default one of {LINE.rpartition('.')[0]}",
    ],
}


def text_of(page: str) -> str:
    """Return a text with single spaces in place of line breaks."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text())


@pytest.mark.parametrize(
    ("page", "claim"), [(page, claim) for page, claims in CLAIMS.items() for claim in claims]
)
def test_a_default_or_limit_is_that_of_the_sources(page: str, claim: str) -> None:
    assert claim in text_of(page)


def test_the_demo_writes_as_many_rows_as_is_said() -> None:
    assert "\nROWS = 20_000\n" in (ROOT / "examples" / "demo.py").read_text()


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/first-steps.md", "CONTRIBUTING.md"])
def test_the_python_and_the_dependency(page: str) -> None:
    least = project()["requires-python"].removeprefix(">=")
    assert f"Python {least} or later" in text_of(page)
    if page != "CONTRIBUTING.md":
        assert "anyio is the only dependency" in text_of(page)
        assert [name.partition(">=")[0] for name in project()["dependencies"]] == ["anyio"]
        named = re.search(r"pip install '\.\[([\w,]+)\]'", text_of(page))
        assert named is not None
        assert set(named[1].split(",")) <= set(project()["optional-dependencies"])


def rows_of_the_readme() -> list[list[str]]:
    table = re.findall(r"^\|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in table]


def test_each_release_in_the_readme_is_tested_with_its_protocol() -> None:
    said: dict[str, str] = {}
    for _, versions, *_ in rows_of_the_readme():
        releases = re.findall(r"\d+\.\d+(?:\.\d+)?(?:-\w+)?", versions.partition(", v")[0])
        protocols = re.findall(r"\bv(\d)\b", versions)
        if protocols:
            said |= dict.fromkeys(releases, protocols[-1])
    assert said == {release: str(highest_version(release)) for release in LINES}
    assert CASSANDRA_VERSION in said


def test_the_suite_for_each_release_has_as_many_tests_as_is_said() -> None:
    tree = ast.parse((ROOT / "tests" / "cassandra" / "test_lines.py").read_text())
    names = [getattr(node, "name", "") for node in tree.body]
    count = sum(name.startswith("test_") for name in names)
    assert f"| {LINE}, v{highest_version(LINE)} | one suite of {count} tests |" in text_of(
        "README.md"
    )


@pytest.mark.parametrize("client", ["acsylla", "cassandra-driver", "rsylla", "scyllapy"])
def test_the_published_rates_are_within_those_of_the_readme(client: str) -> None:
    said = re.search(rf"([\d.]+) to ([\d.]+) times that of {client}\b", text_of("README.md"))
    assert said is not None
    gate = rf"^\| live, .*/s at 128 in flight on .* of {client}'s \|[^|]*\| ([\d.]+) \|"
    found = re.findall(gate, (ROOT / "docs" / "performance.md").read_text(), re.MULTILINE)
    assert len(found) >= 2
    assert all(float(said[1]) <= float(rate) <= float(said[2]) for rate in found)


def test_the_errors_have_the_base_classes_that_the_page_says() -> None:
    rows = re.findall(
        r"^\|[^|]*\| \{py:exc\}`~(\w+)\.(\w+)`, (?:also )?an? (.*?) \|$", ERRORS, re.MULTILINE
    )
    bases = {name: re.findall(r"`(\w+)`", said.partition(", with")[0]) for _, name, said in rows}
    assert len(bases) >= 5
    for name, said in bases.items():
        assert said, name
        for base in said:
            found = getattr(cql, base, None) or getattr(builtins, base)
            assert issubclass(getattr(cql, name), found), (name, base)


def test_every_error_of_the_page_is_a_cql_error() -> None:
    names = re.findall(r"\{py:exc\}`~(\w+)\.(\w+)`", ERRORS)
    assert len(names) > 10
    for module, name in names:
        assert issubclass(getattr(importlib.import_module(module), name), cql.CQLError), name


def test_the_tests_that_security_names_exist() -> None:
    [sentence] = re.findall(r"Peers that break these limits are in (.*?)\.\n", SECURITY, re.DOTALL)
    folder = ROOT
    names = re.findall(r"`([\w/]+\.py)`", sentence)
    assert len(names) >= 5
    for name in names:
        path = ROOT / name if name.startswith("tests/") else folder / name
        assert path.exists(), path
        folder = path.parent if name.startswith("tests/") else folder
