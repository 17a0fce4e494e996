"""A plugin of pytest's that lets tasks run in a random order.

    python -m pytest -p tests.randomly --random-order-of-tasks=SEED tests/cqlproto_anyio

An event loop promises nothing about which of two tasks that are ready runs first, but asyncio runs
them in the order in which they became ready, each time, and code comes to rely on it unseen. With
the option every test runs in an order that its name and the seed give; a failure's report says the
seed. Sockets are real, and time is for some tests, so the same seed doesn't always give the same
order, but mostly.

On trio there is nothing to do but to ask: it takes what is ready as a batch, and shuffles the batch
by a generator of its own if deterministic scheduling is allowed, which Hypothesis does likewise.

On asyncio the loop's queue holds callbacks of two kinds. The steps of tasks may come in any order,
and are shuffled. All others stay where they are, for asyncio itself counts on them: a transport is
told ``connection_made`` before its first ``data_received``, its reader is added before the one who
waits for the connection is woken, a future's callbacks run in the order in which they were added.
Each turn of the loop takes the whole queue; so the steps that a turn finds there change places
among themselves, before the first is taken, and no step ever waits for another turn. uvloop keeps
its queue to itself: tests on it run as always.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clock
from tests.support.clock import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["ShufflingLoop", "ShufflingVirtualLoop"]

_OPTION = "--random-order-of-tasks"


def _is_step(handle: asyncio.Handle) -> bool:
    """Whether a callback runs a task: its first step, the next, or what wakes it."""
    function = handle._callback  # type: ignore[attr-defined]
    return isinstance(getattr(function, "__self__", None), asyncio.Task)


class _Ready(deque[asyncio.Handle]):
    """The loop's queue; the first that is taken in a turn shuffles it."""

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
    """asyncio's loop, but that tasks which are ready in the same turn run in a random order.

    Arguments:
        source: of random numbers.
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
    """Has all tests run in random orders."""

    def __init__(self, seed: str) -> None:
        from trio._core import _run

        assert hasattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
        _run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
        self._trio_random: random.Random = _run._r
        self._seed = seed
        self._name = ""
        # one object each, since pytest compares parameters
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
                elif backend is not None and backend is clock.virtual("asyncio"):
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
