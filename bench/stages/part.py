"""The benchmark's part about stages: workers in turns, and a table. It has no gates."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench import rounds as turns
from bench.stages.work import IN_FLIGHT, STAGES, Asked

if TYPE_CHECKING:
    from collections.abc import Callable

BACKENDS = ("asyncio", "uvloop", "trio")
WORKS = ("write", "read")
_SECONDS = 120


def _worker(asked: Asked) -> dict[str, float]:
    """Measure in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.stages.work", json.dumps(dataclasses.asdict(asked))],
        capture_output=True,
        text=True,
        cwd=turns.ROOT,
        env=turns.environment(),
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise turns.WorkerFailed(turns.said(done.stderr))
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(
    rounds: int, quick: bool, say: Callable[[str], None], address: tuple[str, int]
) -> dict[str, Any]:
    """Measure the stages of writes and reads on each event loop.

    Arguments:
        rounds: samples of each stage.
        quick: fewer repetitions within a sample.
        say: called with a line of progress.
        address: host and port of the canned server.

    Raises:
        WorkerFailed: a worker ended with an error.
    """
    cells = [(work, backend) for work in WORKS for backend in BACKENDS]
    samples: dict[tuple[str, str], list[dict[str, float]]] = {cell: [] for cell in cells}
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds}")
        shift = turn % len(cells)
        for work, backend in (*cells[shift:], *cells[:shift]):
            asked = Asked(backend, work, *address, quick=quick)
            samples[work, backend].append(_worker(asked))
    return {
        "rounds": rounds,
        "in_flight": IN_FLIGHT,
        "samples": [
            {
                "work": work,
                "backend": backend,
                "us": {name: [each[name] for each in found] for name in found[0]},
            }
            for (work, backend), found in samples.items()
        ],
    }


def markdown(data: dict[str, Any]) -> str:
    """Return the tables: medians of microseconds per request, and the range of the whole."""
    text = (
        "Microseconds of CPU for each request of one session over v4, prepared single-row"
        f" statements, {data['in_flight']} in flight, median of {data['rounds']} rounds. Each stage"
        " is run by itself on the objects of a real session. The whole is measured against the"
        " canned server in the same process. *The rest* is the difference: turns of the event loop"
        " and passing replies to their requests."
    )
    lines = [
        text,
        "",
        *(f"- **{name}**: {what}" for name, what in STAGES.items()),
        "",
    ]
    cells = data["samples"]
    lines.append("| | " + " | ".join(f"{c['work']}s, {c['backend']}" for c in cells) + " |")
    lines.append("|---" * (len(cells) + 1) + "|")
    medians = [{name: statistics.median(each) for name, each in c["us"].items()} for c in cells]
    lines += [
        f"| {name} | " + " | ".join(f"{each[name]:.2f}" for each in medians) + " |"
        for name in STAGES
    ]
    rests = [each["whole"] - sum(each[name] for name in STAGES) for each in medians]
    lines.append("| the rest | " + " | ".join(f"{rest:.2f}" for rest in rests) + " |")
    wholes = [
        f"**{each['whole']:.2f}** ({min(c['us']['whole']):.2f} - {max(c['us']['whole']):.2f})"
        for each, c in zip(medians, cells, strict=True)
    ]
    lines.append("| the whole | " + " | ".join(wholes) + " |")
    return "\n".join(lines) + "\n"


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return no gates; the canned part has those of the whole request."""
    return []
