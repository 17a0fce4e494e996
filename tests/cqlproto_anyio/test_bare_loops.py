"""The client in the event loops of programs, without a test runner around them.

How anyio detects the running event loop differs between these loops, between tasks and callbacks,
and with whether sniffio is installed (with trio it always is).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bareloops import SCENARIOS

ROOT = Path(__file__).parent.parent.parent


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["asyncio"],
        ["asyncio", "--without-sniffio"],
        ["uvloop"],
        ["uvloop", "--without-sniffio"],
        ["trio"],
    ],
    ids=" ".join,
)
def test_the_client_keeps_going(arguments: list[str]) -> None:
    ran = run("tests.support.bareloops", *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"played {len(SCENARIOS)}\n"
    assert ran.stderr == ""


def test_tasks_that_run_their_own_loop() -> None:
    ran = run("tests.support.nestedloops")
    assert ran.returncode == 0, ran.stderr
