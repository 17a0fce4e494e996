"""Measures one group of series in its own process: `python -m bench.sizes.worker GROUP PLAN`.

So caches, event loops and the heap of one group don't affect another. The process is configured not
to return memory to the system (see ENVIRONMENT). Otherwise the figures above some mebibytes would
show the C library: it unmaps large blocks and trims the heap at changing thresholds, and each new
page costs more than copying its contents. One group is measured again without this setting, to show
the difference.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.sizes import decoding, flight, memory, requests, transport
from bench.sizes.timing import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.servers import Address

__all__ = ["GROUPS", "WorkerFailed", "groups_here", "measure_group"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""Settings of the GNU C library; others ignore them."""

GROUPS: dict[str, Callable[[Plan, Address], Iterator[dict[str, Any]]]] = {
    "rows": lambda plan, _: decoding.page_series(plan),
    "columns": lambda plan, _: decoding.column_series(plan),
    "compile": lambda plan, _: decoding.compile_series(plan),
    "markers": lambda plan, _: requests.marker_series(plan),
    "core in flight": lambda plan, _: flight.core_series(plan),
    "asyncio in flight": functools.partial(flight.client_series, backend="asyncio"),
    "trio in flight": functools.partial(flight.client_series, backend="trio"),
    "bodies": lambda plan, _: decoding.body_series(plan),
    "bodies, memory given back": lambda plan, _: decoding.body_series(plan, given_back=True),
    "socket": lambda plan, _: transport.socket_series(plan),
    "requests": lambda plan, _: requests.request_series(plan),
    "lists": lambda plan, _: decoding.list_series(plan),
    "memory": lambda plan, _: memory.memory_series(plan),
}
_PLAIN = ("bodies, memory given back",)


class WorkerFailed(Exception):
    """A group could not be measured; the text is the end of its output."""


def groups_here(names: tuple[str, ...], plan: Plan, address: Address) -> Iterator[dict[str, Any]]:
    """Measure groups in this process."""
    for name in names:
        yield from GROUPS[name](plan, address)


def measure_group(name: str, plan: Plan, address: Address) -> list[dict[str, Any]]:
    """Measure a group in its own process.

    Raises:
        WorkerFailed: the process failed.
    """
    environment = dict(os.environ) if name in _PLAIN else {**os.environ, **ENVIRONMENT}
    told = json.dumps({"plan": dataclasses.asdict(plan), "address": list(address)})
    done = subprocess.run(
        [sys.executable, "-m", "bench.sizes.worker", name, told],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise WorkerFailed(f"{name}: {done.stderr.strip()[-2000:]}")
    measured: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> int:
    name, told = sys.argv[1:]
    # A full collection runs before each sample: let it skip the imported objects.
    gc.collect()
    gc.freeze()
    given = json.loads(told)
    host, port = given["address"]
    series = list(groups_here((name,), Plan(**given["plan"]), (host, port)))
    print(json.dumps(series))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
