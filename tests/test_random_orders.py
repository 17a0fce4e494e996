"""The plugin for random orders of tasks (tests/randomly.py), and test modules that run with it.

These modules have the most tasks that wait for one another: requests, lost connections, preparing,
limits and cancellation. They run in a process of their own, with two seeds. Run other modules and
seeds by hand, with the plugin's option.
"""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.randomly import ShufflingLoop

ROOT = Path(__file__).parent.parent
MODULES = [
    *("test_requests.py", "test_loss.py", "test_bounds.py", "test_cancellation.py"),
    "_statements/test_preparer.py",
]


async def _order(count: int) -> list[int]:
    """Return the order in which ``count`` tasks took three steps each."""
    order: list[int] = []

    async def walk(number: int) -> None:
        for _ in range(3):
            order.append(number)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(walk, number)
    return order


def _on_asyncio(seed: int) -> list[int]:
    loop = ShufflingLoop(random.Random(seed))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_order(5))


def test_tasks_of_asyncio_run_in_the_order_of_the_seed() -> None:
    orders = [_on_asyncio(seed) for seed in range(5)]
    assert orders == [_on_asyncio(seed) for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    for order in orders:  # no task is two turns ahead
        for turn in range(3):
            assert sorted(order[5 * turn : 5 * turn + 5]) == list(range(5))


def test_callbacks_of_asyncio_keep_their_order_and_their_places() -> None:
    """Callbacks keep their places, also between steps of tasks."""
    called: list[str] = []

    async def step() -> None:
        called.append("task")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = []
        for number in range(10):
            loop.call_soon(called.append, f"callback {number}")
            tasks.append(loop.create_task(step()))
        await asyncio.wait(tasks)

    with asyncio.Runner(loop_factory=lambda: ShufflingLoop(random.Random(7))) as runner:
        runner.run(main())
    expected = [each for number in range(10) for each in (f"callback {number}", "task")]
    assert called == expected


PROBE = """
import asyncio

import anyio
import pytest


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", range(6))
@pytest.mark.anyio
async def test_order(anyio_backend, number):
    order = []

    async def walk(number):
        order.append(number)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(walk, number)
    print("order", order)
    assert order != sorted(order)


@pytest.mark.anyio
async def test_that_fails(anyio_backend):
    assert False
"""


def _pytest(seed: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "tests.randomly", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, f"--random-order-of-tasks={seed}", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_plugin(tmp_path: Path) -> None:
    """Both backends are shuffled, a seed always gives the same order, a failure shows the seed."""
    probe = tmp_path / "test_probe.py"
    probe.write_text(PROBE)
    arguments = ["-v", "-s", "-c", "/dev/null", "--rootdir", str(tmp_path), str(probe)]
    first, second = [_pytest("7", *arguments).stdout for _ in range(2)]
    assert "2 failed, 12 passed" in first
    assert first.count("--random-order-of-tasks=7") == 3  # in the header, and with each failure
    assert len(_orders(first)) == 12
    assert len(set(_orders(first))) > 6
    assert _orders(first) == _orders(second)


def _orders(text: str) -> list[str]:
    return re.findall(r"order (\[.*\])", text)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", ["1", "2"])
def test_modules(seed: str) -> None:
    modules = [f"tests/cqlproto_anyio/{name}" for name in MODULES]
    done = _pytest(seed, "-q", "-k", "not asyncio+uvloop", *modules)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
