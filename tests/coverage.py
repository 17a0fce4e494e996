"""Branch coverage of ``cqlproto``, each module by its own tests: ``python -m tests.coverage``.

If a module is covered only because others use it, its own tests may miss a fault. So only the lines
that ``tests/cqlproto/cqltypes/test_names.py`` (and ``test_names_*.py``) or importing the package
runs count for ``src/cqlproto/cqltypes/names.py``. For a package's ``__init__.py``, the tests are
``test_init.py``, or the module with the package's name. Every line and branch must be covered.

pytest-xdist runs all tests of ``cqlproto`` once, with a worker per core; a failing test fails the
command. This is the run of ``make test`` on Python 3.11. Each test module is a context of the
measurement, so the report can separate what each of them covers. Hypothesis runs few examples, the
same in each run, so that no line is covered by luck. The unit tests on the newest other Python run
all examples.
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
"""The variable with the folder for the workers' measurements."""


def own_tests(source: Path) -> list[Path]:
    """Return the test modules of a module."""
    folder = TESTS / source.relative_to(SOURCES).parent
    name = source.stem.strip("_")
    found = [folder / f"test_{name}.py", *sorted(folder.glob(f"test_{name}_*.py"))]
    if name == "init":
        found.append(folder / f"test_{folder.name}.py")
    return [path for path in found if path.exists()]


class Contexts:
    """The workers' plugin: measures in the context of the running or imported test module."""

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
        # Not before: pytest must be the first to import Hypothesis, and the tests' profile is
        # loaded at the start of the session.
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
    """Start measuring when pytest loads this module as a plugin, in a worker of xdist."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        pluginmanager.register(Contexts())


def clear_caches() -> None:
    """Clear the caches of functions, so that a test module does not use results of another.

    Caches of classes stay, because test modules have values of these classes since their import.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == PACKAGE and name != "cqlproto.cqltypes.uservalues":
            for attribute in vars(module).values():
                if isinstance(attribute, functools._lru_cache_wrapper):
                    attribute.cache_clear()


def import_all() -> None:
    """Import every module, so that the lines run by importing count for each of them."""
    package = importlib.import_module(PACKAGE)
    for found in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def run(tests: list[Path], folder: Path) -> Coverage:
    """Run the tests, each test module in its own context; exit if a test fails.

    Arguments:
        tests: the test modules.
        folder: the folder for the workers' measurements.
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
    """Return the coverage of a module by its own tests, in the form of coverage's JSON."""
    contexts = [IMPORTING, *(str(path.relative_to(ROOT)) for path in own_tests(source))]
    path = Path(os.environ[FOLDER]) / "report.json"
    measured.json_report(
        morfs=[str(source)], contexts=[f"^{name}$" for name in contexts], outfile=str(path)
    )
    found: dict[str, Any] = json.loads(path.read_text())
    [of_file] = found["files"].values()
    return dict(of_file)


def missing(measured: Coverage, source: Path) -> str:
    """Return a line on the parts of a module that its own tests don't cover; empty if none."""
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
    """Measure the modules on the command line; exit with 1 if anything is not covered."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "modules", nargs="*", help="a module such as cqltypes/names.py; default: all"
    )
    given = parser.parse_args().modules
    sources = [SOURCES / name for name in given] or sorted(SOURCES.rglob("*.py"))
    tests = {path for source in sources for path in own_tests(source)}
    if not given:  # also the tests that belong to no module
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
