"""A pytest plugin that runs tasks in a random order.

    python -m pytest -p tests.randomly --random-order-of-tasks=SEED tests/cqlproto_anyio

An event loop does not guarantee which of two ready tasks runs first. asyncio always runs them in
the order in which they became ready, so code may rely on this order unnoticed. With the option, the
order in each test depends on the test's name and the seed; the report of a failure has the seed.
Sockets are real, and some tests use real time, so the same seed usually, but not always, gives the
same order.

trio takes ready tasks as a batch and shuffles the batch with a random generator of its own. The
plugin seeds this generator, as Hypothesis does.

asyncio's queue holds two kinds of callbacks. Steps of tasks may run in any order, and the plugin
shuffles them. All other callbacks keep their places, because asyncio relies on their order:
``connection_made`` is called before the first ``data_received``, a transport's reader is added
before the task that waits for the connection is woken, and a future's callbacks run in the order in
which they were added. Each turn of the loop takes the whole queue, so the plugin shuffles the steps
of one turn before the first runs, and delays none to a later turn. uvloop's queue is not
accessible: tests on uvloop run in the usual order.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import virtual_clock
from tests.support.virtual_clock import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ShufflingLoop", "ShufflingVirtualLoop"]

_OPTION = "--random-order-of-tasks"


def _is_step(handle: asyncio.Handle) -> bool:
    """Whether a callback runs a step of a task: the first, the next, or a wakeup."""
    function = handle._callback  # type: ignore[attr-defined]
    return isinstance(getattr(function, "__self__", None), asyncio.Task)


class _Ready(deque[asyncio.Handle]):
    """The loop's queue, which is shuffled when the first callback of a turn is taken."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self.turn_begins = False
        self._random = source

    def popleft(self) -> asyncio.Handle:
        if self.turn_begins:
            self.turn_begins = False
            places = [place for place, handle in enumerate(self) if _is_step(handle)]
            steps = [self[place] for place in places]
            self._random.shuffle(steps)
            for place, step in zip(places, steps, strict=True):
                self[place] = step
        return super().popleft()


class _Shuffles:
    """Makes a loop of asyncio's run the tasks that are ready in a turn in a random order."""

    def __init__(self, source: random.Random) -> None:
        super().__init__()
        self._ready = _Ready(source)

    def _run_once(self) -> None:
        self._ready.turn_begins = True
        super()._run_once()  # type: ignore[misc]


class ShufflingLoop(_Shuffles, asyncio.SelectorEventLoop):
    """asyncio's loop, with a random order of the tasks that are ready in the same turn.

    Arguments:
        source: the random generator.
    """


class ShufflingVirtualLoop(_Shuffles, VirtualLoop):  # type: ignore[misc]
    """As :class:`ShufflingLoop`, on virtual time."""


# -- the plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION,
        metavar="SEED",
        help="run tasks in a random order, on asyncio and trio: any text, or 'any' for a new one",
    )


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption(_OPTION)
    if seed is not None:
        if seed == "any":
            seed = str(random.SystemRandom().getrandbits(32))
        config.pluginmanager.register(_Shuffler(seed), "random-order-of-tasks")


class _Shuffler:
    """Runs all tests with random orders of tasks."""

    def __init__(self, seed: str) -> None:
        from trio._core import _run

        assert hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
        _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        self._trio_random: random.Random = _run._r
        self._seed = seed
        self._name = ""
        # one object each, because pytest compares parameters
        self._asyncio = ("asyncio", {"loop_factory": lambda: ShufflingLoop(self._source())})
        self._virtual = ("asyncio", {"loop_factory": lambda: ShufflingVirtualLoop(self._source())})

    def _source(self) -> random.Random:
        return random.Random(f"{self._seed} {self._name}")

    def pytest_report_header(self) -> str:
        return f"tasks run in a random order: {_OPTION}={self._seed}"

    @pytest.hookimpl(trylast=True)  # after tests/cqlproto_anyio/conftest.py
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
                parameters = item.callspec.params
                backend = parameters.get("anyio_backend")
                if backend == "asyncio":
                    parameters["anyio_backend"] = self._asyncio
                elif backend is not None and backend is virtual_clock.virtual("asyncio"):
                    parameters["anyio_backend"] = self._virtual

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._name = item.nodeid
        self._trio_random.seed(f"{self._seed} {self._name}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            report.sections.append(("order of tasks", f"{_OPTION}={self._seed}"))
        return report
