"""The examples in the texts of a module, run as they stand, and a search for examples."""

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
    """Run the examples of a module; each of the named objects has one, and so may its essay.

    Each text stands alone, apart from what its module has, as its reader would run it.
    """
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(verbose=False)
    found = [test for test in finder.find(module) if test.examples]
    names = {test.name.removeprefix(f"{module.__name__}.") for test in found}
    assert set(objects) <= names, f"without an example: {set(objects) - names}"
    for test in found:
        assert runner.run(test).failed == 0, test.name


def never_comes(strategy: SearchStrategy[T], unwanted: Callable[[T], bool]) -> bool:
    """Whether what is unwanted stays away in as many examples as other tests have."""

    @given(strategy)
    def check(value: T) -> None:
        assert not unwanted(value)

    check()
    return True


def comes(strategy: SearchStrategy[T], wanted: Callable[[T], bool]) -> bool:
    """Whether the strategy gives what is wanted; NoSuchExample is raised if it does not."""
    return wanted(find(strategy, wanted, settings=SEARCH))
