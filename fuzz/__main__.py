"""``python -m fuzz``: fuzz all targets or selected ones, or run given inputs on one target.

The exit code is 0 if there was no finding, 1 if there was one, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from fuzz.runner import Outcome, run_all, table
from fuzz.targets import TARGETS

HEADER = f"{'target':14}{'executions':>14}{'per second':>12}{'features':>11}{'corpus':>9}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def replay(name: str, paths: list[Path]) -> int:
    """Run a target on input files, without Atheris. Return the exit code."""
    failed = 0
    for path in paths:
        try:
            TARGETS[name].run(path.read_bytes())
        except Exception:
            failed += 1
            _say(f"{path}:\n{traceback.format_exc()}")
        else:
            _say(f"{path}: ok")
    return 1 if failed else 0


def _report(outcome: Outcome) -> None:
    _say(table(outcome))
    if outcome.finding is None:
        return
    _say(f"  {outcome.finding}")
    if outcome.artifact is None:
        _say("  no input was written; see the log in build/fuzz")
    else:
        _say(f"  input: {outcome.artifact}")
        _say(f"  replay: python -m fuzz --target {outcome.target} {outcome.artifact}")


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="time for all targets together")
    parser.add_argument("--runs", type=int, help="executions per target, at most")
    parser.add_argument(
        "--target", action="append", choices=TARGETS, help="only this target; repeatable"
    )
    parser.add_argument("--jobs", type=int, default=2, help="targets that run at once (default 2)")
    parser.add_argument(
        "--if-possible", action="store_true", help="print a note and exit 0 if Atheris is missing"
    )
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("inputs", nargs="*", type=Path, help="input files for one --target")
    options = parser.parse_args(arguments)
    if options.list:
        for name, target in TARGETS.items():
            _say(f"{name:14}{(target.run.__doc__ or '').splitlines()[0]}")
        return 0
    targets = options.target or list(TARGETS)
    if options.inputs:
        if len(targets) != 1:
            parser.error(f"inputs need exactly one --target, got {len(targets)}")
        return replay(targets[0], options.inputs)
    if importlib.util.find_spec("atheris") is None:
        # CQLPROTO_REQUIRE_CASSANDRA forbids leaving anything out, and so fuzzing as well.
        if options.if_possible and not os.environ.get("CQLPROTO_REQUIRE_CASSANDRA"):
            _say("NOT FUZZED: Atheris is not installed; only the tests have run the fuzzers' seeds")
            return 0
        parser.error("fuzzing needs Atheris: pip install atheris")
    if options.seconds is None and options.runs is None:
        options.seconds = 600.0
    _say(HEADER)
    started = time.time()
    outcomes = run_all(
        targets,
        seconds=options.seconds,
        runs=options.runs,
        jobs=max(1, options.jobs),
        report=_report,
    )
    seconds = time.time() - started
    total = sum(outcome.executions for outcome in outcomes)
    findings = sum(outcome.finding is not None for outcome in outcomes)
    _say(
        f"{'in all':14}{total:>14,}{total / seconds:>12,.0f}  {seconds:.0f} s, {findings} findings"
    )
    return 1 if findings else 0


if __name__ == "__main__":
    # SIGTERM raises KeyboardInterrupt, so that the runner's cleanup ends the workers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main(sys.argv[1:]))
