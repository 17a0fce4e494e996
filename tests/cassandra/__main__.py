"""Starts and controls Cassandra nodes from a shell.

python -m tests.cassandra run -- python examples/demo.py    with CQLPROTO_HOSTS set; ends with it
python -m tests.cassandra start DIR --nodes 3 --port 9042   stays until `stop DIR`
python -m tests.cassandra kill DIR 2                        also pause, resume, up
python -m tests.cassandra stop DIR
python -m tests.cassandra check                             fetch the jars, or print what is missing
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cassandra.java import CASSANDRA_VERSION, LauncherError, fetch, missing
from tests.cassandra.launcher import Cluster, Options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=1, choices=[1, 2, 3])
    parser.add_argument("--port", type=int, default=0, help="of CQL; by default a free one")
    parser.add_argument("--storage-port", type=int, default=0)
    parser.add_argument("--jmx-port", type=int)
    parser.add_argument("--auth", action="store_true", help="role cassandra, password cassandra")
    parser.add_argument("--tls", nargs="?", const="server", choices=["server", "mutual"])
    parser.add_argument("--heap", default=Options.heap)
    parser.add_argument("--release", default=CASSANDRA_VERSION, help="Cassandra's version")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", dest="settings")


def _parsed(arguments: argparse.Namespace) -> Options:
    given = vars(arguments)
    names = ("nodes", "port", "storage_port", "jmx_port", "auth", "tls", "heap", "release")
    pairs = (setting.partition("=") for setting in arguments.settings)
    settings = {name: json.loads(value) for name, _, value in pairs}
    return Options(**{name: given[name] for name in names}, settings=settings, optimize=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cassandra",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="start nodes, run a command, end them")
    _options(run)
    run.add_argument("argv", nargs="+", metavar="COMMAND")
    start = commands.add_parser("start", help="start nodes and leave them running")
    start.add_argument("folder", type=Path)
    _options(start)
    for name in ("kill", "pause", "resume", "up"):
        one = commands.add_parser(name)
        one.add_argument("folder", type=Path)
        one.add_argument("node", type=int)
    commands.add_parser("stop", help="end all nodes").add_argument("folder", type=Path)
    commands.add_parser("check", help="print what is missing, or fetch the jars")
    return parser


@contextlib.contextmanager
def _signals_go_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ignore SIGINT, which the terminal also sends to the child, and pass SIGTERM to the child."""
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    passed = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)
        signal.signal(signal.SIGTERM, passed)


def _run(options: Options, command: Sequence[str]) -> int:
    if reason := missing(options.release):
        raise LauncherError(f"{reason}; or set CQLPROTO_HOSTS to the hosts of a cluster that runs")
    sys.stderr.write(f"starting Cassandra {options.release} ..\n")
    with Cluster(options) as cluster:
        environment = os.environ | {"CQLPROTO_HOSTS": cluster.hosts}
        process = subprocess.Popen(command, env=environment)
        with _signals_go_to(process):
            return process.wait()


def _do(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "run":
            return _run(_parsed(arguments), arguments.argv)
        case "check":
            fetch()
        case "start":
            cluster = Cluster(_parsed(arguments), arguments.folder)
            cluster.start()
            sys.stdout.write(f"{cluster.hosts}\n")
        case "stop":
            Cluster.open(arguments.folder).stop()
        case action:
            node = Cluster.open(arguments.folder).nodes[arguments.node - 1]
            {"kill": node.kill, "pause": node.pause, "resume": node.resume, "up": node.up}[action]()
    return 0


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return _do(arguments)
    except LauncherError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
