"""The names of the package, and when Hypothesis is imported."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import cqlproto.testing
from tests.cqlproto.testing.examples import run_examples

MODULES = ["client_messages", "frames", "linked", "pieces", "server_messages", "values"]


def test_nothing_imports_hypothesis_before_it_is_needed() -> None:
    program = (
        "import sys, cqlproto.cqltypes, cqlproto.testing;"
        "assert 'hypothesis' not in sys.modules;"
        "cqlproto.testing.cql_types;"
        "assert 'hypothesis' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = cqlproto.testing.anything


@pytest.mark.parametrize("missing", ["hypothesis", "another"])
def test_hypothesis_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def no_such_module(name: str) -> object:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("cqlproto.testing.import_module", no_such_module)
    said = "pip install hypothesis" if missing == "hypothesis" else "No module named 'another'"
    with pytest.raises(ImportError, match=said):
        _ = cqlproto.testing.requests


def test_the_package_offers_what_its_modules_do() -> None:
    offered: list[str] = []
    for name in MODULES:
        module = import_module(f"cqlproto.testing.{name}")
        for exported in set(module.__all__) & set(cqlproto.testing.__all__):
            assert getattr(cqlproto.testing, exported) is getattr(module, exported)
            offered.append(exported)
    assert sorted(offered) == sorted(cqlproto.testing.__all__)


def test_no_submodule_hides_what_the_package_offers() -> None:
    assert set(MODULES) & set(cqlproto.testing.__all__) == set()


def test_the_example_runs() -> None:
    run_examples(cqlproto.testing)
