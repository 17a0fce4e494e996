"""Runs one worker process per target, several at once, and reads the outcomes from their logs."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Outcome", "last_moment", "read_log", "run_all", "table"]

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "fuzz"
WORKER = (sys.executable, "-m", "fuzz.worker")
# A worker is killed this many seconds after its end time, or after its start if that is later.
# On a busy machine, importing with instrumentation takes longer than a target's share of a short
# run, so the last targets may start with no time left. libFuzzer itself stops on a hanging input.
PATIENCE = 90.0

_STATISTIC = re.compile(r"^stat::number_of_executed_units: *(\d+)", re.MULTILINE)
_STATUS = re.compile(
    r"^#(\d+)\t.*?(?:cov: (\d+) )?(?:ft: (\d+) )?(?:corp: (\d+)/.*)?$", re.MULTILINE
)
_PROGRESS = re.compile(r"^#\d+\t.*\bft: (\d+) corp: (\d+)", re.MULTILINE)
_ARTIFACT = re.compile(r"Test unit written to (\S+)")
_EXCEPTION = re.compile(r"=== Uncaught Python exception: ===\n(.*)")
_VERDICT = re.compile(r"ERROR: libFuzzer: (.*)")


class Outcome(NamedTuple):
    """The outcome of one worker.

    Attributes:
        target: the name of the target.
        executions: how often the target was called.
        seconds: how long the worker ran, including its start.
        features: libFuzzer's features: distinct counts of branches that inputs have reached.
        corpus: the number of inputs that reach all these features.
        finding: what went wrong, or None.
        artifact: the input that caused the finding, if the worker could write it.
    """

    target: str
    executions: int
    seconds: float
    features: int
    corpus: int
    finding: str | None = None
    artifact: Path | None = None


class _Running(NamedTuple):
    target: str
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float
    until: float | None


def last_moment(started: float, until: float) -> float:
    """Return the time at which a worker is killed, from its start and end times, in seconds."""
    return max(started, until) + PATIENCE


def read_log(target: str, log: str, code: int, seconds: float) -> Outcome:
    """Parse a worker's output into an outcome.

    Arguments:
        target: the name of the target.
        log: the complete output of the worker.
        code: the exit status of the worker; any but 0 is a finding.
        seconds: how long the worker ran.
    """
    statistic = _STATISTIC.search(log)
    counts = [int(match[1]) for match in _STATUS.finditer(log)]
    executions = int(statistic[1]) if statistic else max(counts, default=0)
    progress = _PROGRESS.findall(log)
    features, corpus = map(int, progress[-1]) if progress else (0, 0)
    if code == 0:
        return Outcome(target, executions, seconds, features, corpus)
    said = _EXCEPTION.search(log) or _VERDICT.search(log)
    found = said[1] if said else f"the worker ended with status {code}"
    written = _ARTIFACT.search(log)
    artifact = Path(written[1]) if written else None
    return Outcome(target, executions, seconds, features, corpus, found, artifact)


def _start(target: str, until: float | None, runs: int | None) -> _Running:
    folder = FOLDER / target
    folder.mkdir(parents=True, exist_ok=True)
    command = [*WORKER, target, str(folder)]
    if until is not None:
        command += ["--until", str(until)]
    if runs is not None:
        command += ["--runs", str(runs)]
    path = folder / "log"
    path.unlink(missing_ok=True)  # a concurrent run keeps writing to its own, unlinked file
    log = path.open("w+b")
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )
    return _Running(target, process, log, time.time(), until)


def _finish(running: _Running) -> Outcome:
    code = running.process.wait()
    running.log.seek(0)
    log = running.log.read().decode(errors="replace")
    running.log.close()
    return read_log(running.target, log, code, time.time() - running.started)


def run_all(
    targets: Sequence[str],
    *,
    seconds: float | None,
    runs: int | None,
    jobs: int,
    report: Callable[[Outcome], object],
) -> list[Outcome]:
    """Run one worker per target.

    Arguments:
        targets: the names of the targets.
        seconds: the time for all targets together; None for no limit.
        runs: the maximum number of executions per target; None for no limit.
        jobs: how many workers run at once.
        report: called with each outcome when its worker ends.
    """
    end = None if seconds is None else time.time() + seconds
    waiting = list(targets)
    running: list[_Running] = []
    outcomes: list[Outcome] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                until = None
                if end is not None:
                    # Share the remaining time between the rounds that the waiting targets need.
                    rounds = -(-len(waiting) // jobs)
                    until = time.time() + (end - time.time()) / rounds
                running.append(_start(waiting.pop(0), until, runs))
            time.sleep(0.05)
            for each in list(running):
                if each.process.poll() is not None:
                    running.remove(each)
                    outcomes.append(_finish(each))
                    report(outcomes[-1])
                elif each.until is not None and time.time() > last_moment(each.started, each.until):
                    each.process.kill()
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()
            each.log.close()
    return outcomes


def table(outcome: Outcome) -> str:
    """Return the outcome as a line of the table."""
    speed = outcome.executions / outcome.seconds if outcome.seconds else 0.0
    verdict = "ok" if outcome.finding is None else "FINDING"
    return (
        f"{outcome.target:14}{outcome.executions:>14,}{speed:>12,.0f}"
        f"{outcome.features:>11,}{outcome.corpus:>9,}  {verdict}"
    )
