"""`python -m bench.sizes`: only cost against size; starts the canned server if it is needed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import servers
from bench.sizes import WorkerFailed, gates, markdown, measure, plots
from bench.sizes.worker import GROUPS

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEED_SERVER = ("asyncio in flight", "trio in flight")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables. Return 1 if a gate fails or a group can't be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sizes", description="Measure cost against size."
    )
    parser.add_argument("--rounds", type=int, help="samples of every size (7)")
    parser.add_argument(
        "--quick", action="store_true", help="take half a minute, with less accurate figures"
    )
    parser.add_argument("--only", choices=GROUPS, action="append", help="only this group")
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder")
    given = parser.parse_args(arguments)
    only: Sequence[str] = given.only or tuple(GROUPS)
    rounds = given.rounds or (3 if given.quick else 7)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        if any(name in _NEED_SERVER for name in only):
            with servers.cassandra() as upstream, servers.canned(upstream) as canned:
                data = measure(rounds, given.quick, say, canned.address, only)
        else:
            data = measure(rounds, given.quick, say, ("127.0.0.1", 0), only)
    except (servers.Unavailable, WorkerFailed, OSError) as error:
        print(f"bench.sizes: {error}", file=sys.stderr)
        return 1
    if given.json is not None:
        given.json.write_text(json.dumps(data))
    if given.plots is not None:
        say(f"written: {', '.join(plots(data, given.plots))}")
    print(markdown(data))
    failed = [gate for gate in gates(data) if gate[2] > gate[1]]
    for name, limit, found in failed:
        print(f"FAILS: {name} is {found}, at most {limit}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
