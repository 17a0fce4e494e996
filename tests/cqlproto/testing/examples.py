"""Running the examples in docstrings, and searching for an example of a strategy."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, Phase, find, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

# For what is asked of many kinds one by one.
FEW = settings(max_examples=max(5, settings().max_examples // 4))

# The first that is found will do, and the same each time.
SEARCH = settings(
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=5000,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def run_examples(module: ModuleType, *objects: str) -> None:
    """Run the examples of a module's docstring and of the named objects, which must have one.

    Each docstring runs on its own, with the names of its module.
    """
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(verbose=False)
    found = [test for test in finder.find(module) if test.examples]
    names = {test.name.removeprefix(f"{module.__name__}.") for test in found}
    assert set(objects) <= names, f"without an example: {set(objects) - names}"
    for test in found:
        assert runner.run(test).failed == 0, test.name


def never_comes(strategy: SearchStrategy[T], unwanted: Callable[[T], bool]) -> bool:
    """Whether no example has the property."""

    @given(strategy)
    def check(value: T) -> None:
        assert not unwanted(value)

    check()
    return True


def comes(strategy: SearchStrategy[T], wanted: Callable[[T], bool]) -> bool:
    """Check that an example has the property; raises NoSuchExample if none does."""
    return wanted(find(strategy, wanted, settings=SEARCH))
