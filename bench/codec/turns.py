"""Worker processes that take turns.

In each round, every contender of a case measures one sample. The order is rotated from round to
round, so that disturbances of the machine affect all contenders. Samples of the same round are
compared, and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rounds import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["CYTHON", "OURS", "PURE", "SCYLLA", "Pool", "WorkerFailed", "pool"]

OURS = "cqlproto"
CYTHON = "cassandra-driver"
PURE = "cassandra-driver, pure"
SCYLLA = "scylla-driver"

_PEERS = ROOT / ".bench"
_FOLDERS = {PURE: _PEERS / "cassandra-driver-pure", SCYLLA: _PEERS / "scylla-driver"}
_EXPECTED: dict[str, dict[str, object]] = {
    CYTHON: {"kind": "Cython", "scylla": False},
    PURE: {"kind": "pure Python", "scylla": False},
    SCYLLA: {"kind": "Cython", "scylla": True},
}
_ANSWER_SECONDS = 300
_END_SECONDS = 10


class WorkerFailed(Exception):
    """A worker answered with an error."""


class _WorkerGone(WorkerFailed):
    """A worker ended or did not answer in time; it can't be used any more."""


class _Worker:
    """A worker process that answers orders, see ``bench.codec.worker``.

    Its standard error, with tracebacks of errors, goes to the terminal.
    """

    def __init__(self, name: str, module: str) -> None:
        variables = environment()
        if name in _FOLDERS:
            paths = [str(_FOLDERS[name]), variables["PYTHONPATH"]]
            variables["PYTHONPATH"] = os.pathsep.join(paths)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.codec.worker", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=variables,
        )

    def ask(self, **order: object) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(order) + "\n")
            stdin.flush()
        except BrokenPipeError as error:
            raise _WorkerGone("it has ended") from error
        # One line answers one order, so the stream's buffer is empty here.
        if not select.select([stdout], [], [], _ANSWER_SECONDS)[0]:
            raise _WorkerGone(f"no answer in {_ANSWER_SECONDS} s")
        line = stdout.readline()
        if not line:
            raise _WorkerGone("it has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Pool:
    """The workers of a run, and the problems so far.

    Arguments:
        rounds: samples of each contender.
        seconds: the minimum CPU time of a sample.
        say: called with each line to print.

    Attributes:
        workers: the running workers by name, without missing peers.
        about: the version and kind of each worker.
        problems: a line for everything that was left out.
    """

    def __init__(self, rounds: int, seconds: float, say: Callable[[str], None]) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.say = say
        self.workers: dict[str, _Worker] = {}
        self.about: dict[str, dict[str, Any]] = {}
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"PROBLEM: {text}")

    def start(self, modules: Mapping[str, str]) -> None:
        """Start workers, by name and module; end a worker that isn't what its name says."""
        for name, module in modules.items():
            missing = self._missing(name)
            if missing:
                self.problem(f"{name} is left out: {missing}")
            else:
                self.workers[name] = _Worker(name, module)
        for name, worker in list(self.workers.items()):
            try:
                about = worker.ask(order="about")
                for key, expected in _EXPECTED.get(name, {}).items():
                    if about[key] != expected:
                        raise WorkerFailed(f"its {key} is {about[key]!r}, not {expected!r}")
            except WorkerFailed as error:
                del self.workers[name]
                worker.end()
                self.problem(f"{name} is left out: {error}")
            else:
                self.about[name] = about

    def _missing(self, name: str) -> str | None:
        """Return why a peer can't be started, or None."""
        folder = _FOLDERS.get(name)
        if folder is not None and not (folder / "cassandra").is_dir():
            return f"no {folder.relative_to(ROOT)}"
        if name == CYTHON and importlib.util.find_spec("cassandra") is None:
            return "it is not installed"
        return None

    def measure(
        self, case: Mapping[str, object], contenders: Sequence[tuple[str, str]]
    ) -> list[dict[str, object]]:
        """Measure a case.

        Arguments:
            case: sent to the workers.
            contenders: pairs of a worker's name and one of its variants.

        Returns:
            for each contender that succeeded: its name, its variant and the microseconds of each
            sample.
        """
        loops: dict[tuple[str, str], int] = {}
        for name, variant in contenders:
            if name not in self.workers:
                continue
            with self._reporting(name, case):
                answer = self.workers[name].ask(
                    order="prepare", case=case, variant=variant, seconds=self.seconds
                )
                loops[name, variant] = answer["loops"]
        samples: dict[tuple[str, str], list[float]] = {contender: [] for contender in loops}
        order = list(loops)
        for turn in range(self.rounds):
            shift = turn % len(order) if order else 0
            for name, variant in (*order[shift:], *order[:shift]):
                if name not in self.workers:
                    continue
                with self._reporting(name, case):
                    answer = self.workers[name].ask(
                        order="sample", variant=variant, loops=loops[name, variant]
                    )
                    samples[name, variant].append(answer["microseconds"])
        return [
            {"contender": name, "variant": variant, "microseconds": values}
            for (name, variant), values in samples.items()
            if len(values) == self.rounds
        ]

    @contextlib.contextmanager
    def _reporting(self, name: str, case: Mapping[str, object]) -> Iterator[None]:
        """Report a failure of one contender, so that the others go on."""
        try:
            yield
        except WorkerFailed as error:
            words = " ".join(str(value) for key, value in case.items() if key != "folder")
            self.problem(f"{name}, {words}: {error}")
            if isinstance(error, _WorkerGone):
                self.workers.pop(name).end()


@contextlib.contextmanager
def pool(
    modules: Mapping[str, str], rounds: int, seconds: float, say: Callable[[str], None]
) -> Iterator[tuple[Pool, Path]]:
    """Start the workers, by name and module, with a folder for files; end them on leaving."""
    with tempfile.TemporaryDirectory(prefix="cqlproto-bench-") as folder:
        run = Pool(rounds, seconds, say)
        try:
            run.start(modules)
            yield run, Path(folder)
        finally:
            for worker in run.workers.values():
                worker.end()
