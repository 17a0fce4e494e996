"""Branch coverage of ``cqlproto``, each module by its own tests: ``python -m tests.coverage``.

A module that is only covered because others use it can be broken without a test of its own telling
so. Here ``src/cqlproto/cqltypes/names.py`` is covered by ``tests/cqlproto/cqltypes/test_names.py``
alone (and ``test_names_*.py``, if there are such), and by what importing the package runs; what is
in a package itself by ``test_init.py``, or what is named as the package is. All must be covered.

As many processes as there are cores run all tests of ``cqlproto`` once, and a failure of one fails
the command: this is how ``make test`` runs them on Python 3.11. A context of the measurement is a
test module, so what each of them covers can be told apart afterwards. Examples are fewer than usual
and the same in each run: a line that needs luck to be reached is not covered. The unit tests on the
newest other Python try all examples.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
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
EXAMPLES = 10
FOLDER = "CQLPROTO_COVERAGE_FOLDER"
"""The variable that tells workers where to write what they measured."""


def own_tests(source: Path) -> list[Path]:
    """The test modules of a module."""
    folder = TESTS / source.relative_to(SOURCES).parent
    name = source.stem.strip("_")
    found = [folder / f"test_{name}.py", *sorted(folder.glob(f"test_{name}_*.py"))]
    if name == "init":
        found.append(folder / f"test_{folder.name}.py")
    return [path for path in found if path.exists()]


class Contexts:
    """A plugin of a worker's that measures, and names the test module that runs or is imported."""

    def __init__(self) -> None:
        path = Path(os.environ[FOLDER]) / f".coverage.{os.getpid()}"
        self.measured = Coverage(data_file=str(path), config_file=str(ROOT / "pyproject.toml"))
        self.measured.start()
        self.measured.switch_context(IMPORTING)
        self.current = ""

    def switch(self, path: Path) -> None:
        context = str(path.relative_to(ROOT))
        if context != self.current:
            self.current = context
            clear_caches()
            self.measured.switch_context(context)

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        if isinstance(collector, pytest.Module):
            self.switch(collector.path)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        from hypothesis import settings

        for item in items:
            test: Any = getattr(item, "obj", None)
            own = getattr(test, "_hypothesis_internal_use_settings", None)
            if own is not None and own.max_examples > EXAMPLES:
                test._hypothesis_internal_use_settings = settings(own, max_examples=EXAMPLES)

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

    def pytest_sessionfinish(self) -> None:
        self.measured.stop()
        self.measured.save()


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Start to measure as soon as pytest loads this module as a plugin, in a worker of xdist's."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pluginmanager.register(Contexts())


def clear_caches() -> None:
    """Forget what functions keep, so that the tests of one module find nothing of another's.

    But for classes: tests have values of them from when they were imported.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PACKAGE and name != "cqlproto.cqltypes.uservalues":
            for attribute in vars(module).values():
                if isinstance(attribute, functools._lru_cache_wrapper):
                    attribute.cache_clear()


def import_all() -> None:
    """Import every module, so that what this runs counts for each of them."""
    package = importlib.import_module(PACKAGE)
    for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def run(tests: list[Path], folder: Path) -> Coverage:
    """Run the tests, each test module in a context of its own; exits if one fails.

    Arguments:
        tests: the test modules.
        folder: what the workers write their measurements into.
    """
    os.environ[FOLDER] = str(folder)
    workers = min(os.cpu_count() or 1, len(tests))
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.coverage"]
    failed = pytest.main([*options, f"-n{workers}", "--dist=loadfile", *map(str, tests)])
    if failed:
        sys.exit(int(failed))
    measured = Coverage(
        data_file=str(folder / ".coverage"), config_file=str(ROOT / "pyproject.toml")
    )
    measured.combine([str(folder)])
    return measured


def report(measured: Coverage, source: Path) -> dict[str, Any]:
    """What a module's own tests have covered of it, as coverage's JSON has it."""
    contexts = [IMPORTING, *(str(path.relative_to(ROOT)) for path in own_tests(source))]
    path = Path(os.environ[FOLDER]) / "report.json"
    measured.json_report(
        morfs=[str(source)], contexts=[f"^{name}$" for name in contexts], outfile=str(path)
    )
    found: dict[str, Any] = json.loads(path.read_text())
    [of_file] = found["files"].values()
    return dict(of_file)


def missing(measured: Coverage, source: Path) -> str:
    """What a module's own tests have not covered of it; an empty text if nothing is missing."""
    found = report(measured, source)
    lines = found["missing_lines"]
    branches = [f"{start}->{end}" for start, end in found["missing_branches"]]
    if not lines and not branches:
        return ""
    names = ", ".join(path.name for path in own_tests(source)) or "no tests of its own"
    return (
        f"{source.relative_to(ROOT)}: {found['summary']['percent_covered']:.1f} %"
        f" by {names}\n    lines {lines}, branches {branches}\n"
    )


def main() -> None:
    """Measure what the command line names, and exit with 1 if anything is not covered."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="such as cqltypes/names.py; all if left out")
    given = parser.parse_args().modules
    sources = [SOURCES / name for name in given] or sorted(SOURCES.rglob("*.py"))
    tests = {path for source in sources for path in own_tests(source)}
    if not given:  # those that are no module's own as well
        tests.update(TESTS.rglob("test_*.py"))
    with tempfile.TemporaryDirectory() as folder:
        measured = run(sorted(tests), Path(folder))
        found = [text for source in sources if (text := missing(measured, source))]
    sys.stdout.write("".join(found))
    covered = len(sources) - len(found)
    sys.stdout.write(f"{covered} of {len(sources)} modules are covered by their own tests.\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
