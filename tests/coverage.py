"""Branch coverage of ``cqlproto``, each module by its own tests: ``python -m tests.coverage``.

A module that is only covered because others use it can be broken without a test of its own telling
so. Here ``src/cqlproto/cqltypes/names.py`` is covered by ``tests/cqlproto/cqltypes/test_names.py``
alone (and ``test_names_*.py``, if there are such), and by what importing the package runs; that of a
package is ``test_init.py``, or named as the package is. All of it must be covered.

One process runs all of these tests once. A context of the measurement is a test module, so what
each of them covers can be told apart afterwards. Examples are fewer than usual and the same in each
run: a line that needs luck to be reached is not covered.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coverage import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "cqlproto"
TESTS = ROOT / "tests" / "cqlproto"
PACKAGE = "cqlproto"
IMPORTING = "importing"
EXAMPLES = 30


def own_tests(source: Path) -> list[Path]:
    """The test modules of a module."""
    folder = TESTS / source.relative_to(SOURCES).parent
    name = source.stem.strip("_")
    found = [folder / f"test_{name}.py", *sorted(folder.glob(f"test_{name}_*.py"))]
    if name == "init":
        found.append(folder / f"test_{folder.name}.py")
    return [path for path in found if path.exists()]


class Contexts:
    """A plugin for pytest that names the test module that runs, or is imported."""

    def __init__(self, measured: Coverage) -> None:
        self.measured = measured
        self.current = ""

    def switch(self, path: Path) -> None:
        context = str(path.relative_to(ROOT))
        if context != self.current:
            self.current = context
            self.measured.switch_context(context)

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        if isinstance(collector, pytest.Module):
            self.switch(collector.path)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.switch(item.path)
        return (yield)

    def pytest_configure(self) -> None:
        # Not before: pytest wants to be the first to import Hypothesis, and the tests' own profile
        # is loaded when it begins.
        import_all()
        import hypothesis

        hypothesis.settings.register_profile(
            "coverage",
            hypothesis.settings.default,
            database=None,
            deadline=None,
            derandomize=True,
            max_examples=EXAMPLES,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        hypothesis.settings.load_profile("coverage")


def import_all() -> None:
    """Import every module, so that what this runs counts for each of them."""
    package = importlib.import_module(PACKAGE)
    for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def run(tests: list[Path]) -> Coverage:
    """Run the tests, each test module in a context of its own; exits if one fails."""
    measured = Coverage(data_file=None, config_file=str(ROOT / "pyproject.toml"))
    measured.start()
    measured.switch_context(IMPORTING)
    options = ["-q", "--no-header", "-p", "no:cacheprovider"]
    failed = pytest.main([*options, *map(str, tests)], plugins=[Contexts(measured)])
    measured.stop()
    if failed:
        sys.exit(int(failed))
    return measured


def report(measured: Coverage, source: Path) -> dict[str, Any]:
    """What a module's own tests have covered of it, as coverage's JSON has it."""
    contexts = [IMPORTING, *(str(path.relative_to(ROOT)) for path in own_tests(source))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        measured.json_report(
            morfs=[str(source)], contexts=[f"^{name}$" for name in contexts], outfile=str(path)
        )
        found: dict[str, Any] = json.loads(path.read_text())
    [of_file] = found["files"].values()
    return dict(of_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="such as cqltypes/names.py; all if left out")
    given = parser.parse_args().modules
    sources = [SOURCES / name for name in given] or sorted(SOURCES.rglob("*.py"))
    tests = sorted({path for source in sources for path in own_tests(source)})
    measured = run(tests)
    missing = 0
    for source in sources:
        found = report(measured, source)
        lines = found["missing_lines"]
        branches = [f"{start}->{end}" for start, end in found["missing_branches"]]
        if lines or branches:
            missing += 1
            names = ", ".join(path.name for path in own_tests(source)) or "no tests of its own"
            print(f"{source.relative_to(ROOT)}: {found['summary']['percent_covered']:.1f} %")
            print(f"    by {names}")
            print(f"    lines {lines}, branches {branches}")
    print(f"{len(sources) - missing} of {len(sources)} modules are covered by their own tests.")
    sys.exit(missing > 0)


if __name__ == "__main__":
    main()
