"""The servers of the benchmark: a real Cassandra, and the canned server (bench/canned).

`CQLPROTO_HOSTS` (`host[:port],..`, of which the first is used) names the Cassandra; without it, one
is started for the run and stopped after it. cargo builds the canned server if its source has
changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Address: TypeAlias = tuple[str, int]

_CANNED = Path(__file__).parent / "canned"
_DEFAULT_PORT = 9042
# Several saturated nodes on one machine wait long for one another, so timeouts are longer.
_PATIENT = {f"{what}_request_timeout": "30s" for what in ("read", "range", "write", "truncate")}


class Unavailable(Exception):
    """A server of the benchmark can't run on this machine; the text says why."""


def parse_address(text: str) -> Address:
    """Read `host`, `host:port` or `[v6]:port`."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text.strip(), str(_DEFAULT_PORT)
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def cassandra() -> Iterator[Address]:
    """Yield the address of the Cassandra in the environment, or of one started for the run.

    Raises:
        Unavailable: none is named, and none can be started on this machine.
    """
    with _nodes("CQLPROTO_HOSTS", 1) as address:
        yield address


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[Address]:
    """As :func:`cassandra`, for a cluster of several nodes, which `CQLPROTO_CLUSTER` may name.

    Raises:
        Unavailable: none is named, and none can be started on this machine.
    """
    with _nodes("CQLPROTO_CLUSTER", nodes) as address:
        yield address


@contextlib.contextmanager
def _nodes(variable: str, count: int) -> Iterator[Address]:
    if hosts := os.environ.get(variable):
        yield parse_address(hosts.split(",")[0])
        return
    from tests.cassandra.java import LauncherError, missing
    from tests.cassandra.launcher import Cluster, Options

    if reason := missing():
        raise Unavailable(f"{reason}; or set {variable} to a running cluster")
    with contextlib.ExitStack() as stack:
        try:
            settings = _PATIENT if count > 1 else {}
            options = Options(nodes=count, settings=settings, optimize=True)
            launched = stack.enter_context(Cluster(options))
        except LauncherError as error:
            raise Unavailable(str(error)) from error
        yield parse_address(launched.nodes[0].address)


class Canned:
    """A running canned server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = parse_address(self._line())

    def executed(self) -> int:
        """Return how many EXECUTE requests the server has answered so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"the canned server ended with status {self._process.wait()}")
        return line.strip()


@contextlib.contextmanager
def canned(upstream: Address) -> Iterator[Canned]:
    """Build and start the canned server in front of `upstream`.

    Raises:
        Unavailable: cargo is missing, or the server can't be built or started.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Unavailable("the canned server is written in Rust: install cargo")
    try:
        subprocess.run(
            [
                cargo,
                "build",
                "--release",
                "--quiet",
                "--offline",
                "--manifest-path",
                _CANNED / "Cargo.toml",
            ],
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise Unavailable("cargo could not build the canned server") from error
    host, port = upstream
    process = subprocess.Popen(
        [_CANNED / "target/release/canned", "127.0.0.1:0", f"{host}:{port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Canned(process)
    finally:
        # Closing its standard input ends the server.
        process.communicate()
