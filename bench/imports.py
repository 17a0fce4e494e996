"""What `import cqlproto_anyio` costs above what every anyio program imports anyway.

Every run is a fresh interpreter that imports anyio and its asyncio backend first, then ours, with a
clock reading between; so each run is its own baseline. The first run isn't counted: it writes the
bytecode, into a folder of its own, as the environment may forbid it or a checkout be read-only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

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
    with tempfile.TemporaryDirectory(prefix="cqlproto-bench-") as cache:
        variables = environment() | {"PYTHONPYCACHEPREFIX": cache}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        times = [_import_times(module, variables) for _ in range(runs + 1)][1:]
    base, above = zip(*times, strict=True)
    return Figure(base), Figure(above)


def _import_times(module: str, variables: dict[str, str]) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _SNIPPET.format(module=module)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=variables,
        check=False,
    )
    if done.returncode != 0:
        raise WorkerFailed(done.stderr.strip().rpartition("\n")[2])
    base, above = map(float, done.stdout.split())
    return base * 1e3, above * 1e3
