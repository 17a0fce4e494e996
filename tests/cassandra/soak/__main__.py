"""``python -m tests.cassandra.soak --seconds 600``: repeat all faults, and print a table."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

from tests.cassandra.launcher import Cluster
from tests.cassandra.shared import OPTIONS
from tests.cassandra.soak.crew import Crew
from tests.cassandra.soak.faults import FAULTS, QUICK, Scene, settled
from tests.cassandra.soak.report import table


def main() -> int:
    """Run, print the table, and return 1 if there is any problem."""
    every = (*FAULTS, *(fault for fault in QUICK if fault not in FAULTS))
    names = [fault.__name__ for fault in every]
    parser = argparse.ArgumentParser(prog="python -m tests.cassandra.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="no fault begins after that")
    parser.add_argument("--backends", default="asyncio,trio", help="also uvloop")
    parser.add_argument(
        "--quick", action="store_true", help="run each fault as briefly as possible"
    )
    parser.add_argument("--fault", action="append", choices=names, help="only this; repeatable")
    parser.add_argument("--cluster", type=Path, help="the folder of three nodes that run already")
    arguments = parser.parse_args()
    chosen = [fault for fault in every if fault.__name__ in (arguments.fault or ())]
    faults = chosen or (QUICK if arguments.quick else FAULTS)
    ends = time.monotonic() + arguments.seconds
    with contextlib.ExitStack() as stack:
        if arguments.cluster:
            cluster = Cluster.open(arguments.cluster)
        else:
            cluster = settled(stack.enter_context(Cluster(OPTIONS["three_nodes"])))
        hosts = [node.address for node in cluster.nodes]
        crew = stack.enter_context(Crew(hosts, arguments.backends.split(",")))
        scene = Scene(cluster, crew, arguments.quick)
        rounds = 0
        try:
            while not rounds or time.monotonic() < ends:
                for fault in faults:
                    if not rounds or time.monotonic() < ends:
                        seen = len(crew.figures)
                        fault(scene)
                        for figures in crew.figures[seen:]:
                            _print(figures.brief())
                rounds += 1
        finally:
            _print(table(crew.figures))
    problems = [problem for figures in crew.figures for problem in figures.problems()]
    _print("\n".join(problems) or f"all is well, after {rounds} rounds")
    return 1 if problems else 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
