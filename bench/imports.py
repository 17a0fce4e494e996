"""What `import cqlproto_anyio` costs above what every anyio program imports anyway.

Every run is a fresh interpreter that imports anyio and its asyncio backend first, then ours, with a
clock reading between; so each run is its own baseline. The first run writes the bytecode and isn't
counted.
"""

from __future__ import annotations

import subprocess
import sys

from bench.rounds import ROOT, Figure, WorkerFailed, environment

_SNIPPET = """
import time
a = time.perf_counter()
import anyio, anyio._backends._asyncio
b = time.perf_counter()
import {module}
c = time.perf_counter()
print(b - a, c - b)
"""


def import_times(module: str, runs: int) -> tuple[Figure, Figure]:
    """Return the times of anyio with its asyncio backend and of `module` on top, in ms."""
    base: list[float] = []
    above: list[float] = []
    for run in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-c", _SNIPPET.format(module=module)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            check=False,
        )
        if done.returncode != 0:
            raise WorkerFailed(done.stderr.strip().rpartition("\n")[2])
        if run:
            first, second = map(float, done.stdout.split())
            base.append(first * 1e3)
            above.append(second * 1e3)
    return Figure(tuple(base)), Figure(tuple(above))
