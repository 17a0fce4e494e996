"""The time of `import cqlproto_anyio`, on top of the modules that every anyio program imports.

Each run is a new interpreter that imports anyio and its asyncio backend first, then cqlproto_anyio,
and reads the clock in between; so each run has its own baseline. The first run isn't counted. It
writes the bytecode to a separate folder, because the checkout may be read-only or the environment
may disable bytecode. The peers' packages are imported the same way.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from bench import figures
from bench.parts import PEERS
from bench.rounds import ROOT, WorkerFailed, environment, rounded, said

if TYPE_CHECKING:
    from bench.parts import Context, Gate

_SNIPPET = """
import time
a = time.perf_counter()
import anyio, anyio._backends._asyncio
b = time.perf_counter()
import {modules}
c = time.perf_counter()
print(b - a, c - b)
"""
MODULES = {
    "cqlproto": "cqlproto_anyio",
    "acsylla": "acsylla",
    "rsylla": "rsylla",
    "scyllapy": "scyllapy",
    "coodie": "coodie.aio",
    "cassandra-driver": "cassandra.cluster",
    "scylla-driver": "cassandra.cluster",
}
_RUNS_A_ROUND = 3


def measure(context: Context) -> dict[str, Any]:
    """Time the imports of all clients, in turns."""
    runs = context.rounds * (1 if context.quick else _RUNS_A_ROUND)
    clients = context.present(("cqlproto", *PEERS))
    base: list[float] = []
    above: dict[str, list[float]] = {client: [] for client in clients}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="cqlproto-bench-") as cache:
        for turn in range(runs + 1):
            context.say(f"import: {turn} of {runs}")
            for client in clients:
                if client in left_out:
                    continue
                try:
                    first, second = _import_times(client, cache)
                except WorkerFailed as error:
                    left_out[client] = str(error)
                    context.problem(f"import: {client}: {error}")
                    continue
                if turn:
                    base.append(rounded(first * 1e3))
                    above[client].append(rounded(second * 1e3))
    found = {client: values for client, values in above.items() if values}
    return {"base_ms": base, "above_ms": found, "left_out": left_out}


def _import_times(client: str, cache: str) -> tuple[float, float]:
    variables = environment(client) | {"PYTHONPYCACHEPREFIX": cache}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SNIPPET.format(modules=MODULES[client])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=variables,
        check=False,
    )
    if done.returncode != 0:
        raise WorkerFailed(said(done.stderr))
    base, above = map(float, done.stdout.split())
    return base, above


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return no gates."""
    del data
    return []


def markdown(data: dict[str, Any]) -> str:
    rows = []
    if data["base_ms"]:
        rows.append(("anyio with its asyncio backend", figures.spread(data["base_ms"])))
    for client, values in data["above_ms"].items():
        rows.append((f"`{MODULES[client]}` of {client} on top", figures.spread(values)))
    return "\n".join(
        [
            "Milliseconds in a fresh interpreter, its bytecode written, above what anyio takes.\n",
            figures.table(("module", "ms"), rows),
            figures.left_out(data),
        ]
    )
