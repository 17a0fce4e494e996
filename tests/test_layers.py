"""Modules respect the layers, and importing the core loads no I/O modules.

The contracts in pyproject.toml check the imports in the sources. A test in a new interpreter checks
which modules are loaded when the core is imported, including the standard library's own imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Not `time`: every interpreter has loaded it before its first line.
IMPURE = {
    *("asyncio", "concurrent.futures", "multiprocessing", "subprocess", "threading"),
    *("_socket", "http", "select", "selectors", "signal", "socket", "ssl"),
    *("logging", "pickle", "random", "secrets"),
    *("anyio", "cqlproto_anyio", "trio"),
}

# Isolated from site-packages and the environment: only the standard library and the sources.
BARE = [sys.executable, "-I", "-S", "-W", "error", "-c"]
IMPORT_ALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import cqlproto, importlib, pkgutil
for module in pkgutil.walk_packages(cqlproto.__path__, "cqlproto."):
    if not module.name.startswith("cqlproto.testing"):
        importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""


def test_modules_import_only_from_layers_below() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_core_loads_nothing_impure_and_needs_no_dependency() -> None:
    ran = subprocess.run(
        [*BARE, IMPORT_ALL, str(ROOT / "src")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    loaded = set(json.loads(ran.stdout))
    assert "cqlproto.wire" in loaded
    assert loaded & IMPURE == set()
