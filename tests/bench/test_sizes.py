"""Cost against size: the fit finds exponents, and all series run with tiny sizes."""

from __future__ import annotations

import gc
import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from bench.sizes import gates, markdown, plots
from bench.sizes.fit import fit, power_law
from bench.sizes.report import PLOTS
from bench.sizes.server import running
from bench.sizes.timing import Plan, Series, complete, ladder, measure
from bench.sizes.worker import GROUPS, WorkerFailed, groups_here, measure_group

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.sizes.timing import Prepare, Run

TINY = Plan(rounds=2, seconds=0.0, shrink=1 << 20)
SIZES = ladder(1, 100_000, 4)
NOWHERE = ("127.0.0.1", 9)


def _samples(costs: list[float], noise: float = 0.0, rounds: int = 7) -> list[list[float]]:
    dice = random.Random(2)
    return [[cost * (1 + dice.uniform(-noise, noise)) for _ in range(rounds)] for cost in costs]


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.05, 1.5, 2.0])
def test_a_power_law_is_found(exponent: float) -> None:
    costs = [3e-6 * size**exponent for size in SIZES]
    found, factor = power_law(SIZES, costs)
    assert found == pytest.approx(exponent)
    assert factor == pytest.approx(3e-6)
    assert fit(SIZES, _samples(costs, 0.05)).exponent == pytest.approx(exponent, abs=0.02)


def test_the_constant_part_hides_no_bend() -> None:
    """A line through all sizes would look linear, because half of the sizes cost the same."""
    costs = [1e-3 + 1e-6 * size + 1e-9 * size**2 for size in SIZES]
    result = fit(SIZES, _samples(costs))
    assert result.overall < 1
    assert result.exponent > 1.3
    assert costs[result.start] >= 10 * costs[0] > costs[result.start - 1]
    assert result.steps[-1] > 1.9
    assert result.least == pytest.approx(result.exponent)


def test_a_linear_cost_with_a_constant_part_is_linear() -> None:
    result = fit(SIZES, _samples([1e-4 + 1e-6 * size for size in SIZES]))
    assert 0.95 < result.exponent <= 1


def test_four_sizes_count_at_least() -> None:
    result = fit(SIZES, _samples([1.0 + size * 1e-9 for size in SIZES]))
    assert result.start == len(SIZES) - 4


def test_the_floors_growth_is_taken_off_and_no_more() -> None:
    """The machine triples the cost of a byte; the client's quadratic cost stays visible."""
    dear = [1e-9 * size * (3 if size > 4096 else 1) for size in SIZES]
    plain = [2e-8 * size for size in SIZES]
    machine = [above + cost for above, cost in zip(plain, dear, strict=True)]
    result = fit(SIZES, _samples(machine), _samples(dear))
    assert result.net == pytest.approx(1)
    assert result.exponent > 1.005
    square = [cost + 1e-12 * size**2 for size, cost in zip(SIZES, machine, strict=True)]
    assert fit(SIZES, _samples(square), _samples(dear)).net > 1.1


def test_every_round_takes_every_size_and_short_ones_are_repeated() -> None:
    turns: list[int] = []

    def make(size: int) -> Prepare:
        def prepare(count: int) -> Run:
            def run() -> None:
                turns.append(size)
                sum(range(1000 * size * count))

            return run

        return prepare

    sizes = [1, 2, 3, 4]
    kept = complete(measure(Series("key", "rows", "label", sizes, make), Plan(3, 0.0005)))
    assert turns[-12:] == [1, 2, 3, 4, 2, 3, 4, 1, 3, 4, 1, 2]
    assert [len(costs) for costs in kept["samples"]] == [3] * 4
    assert kept["repeats"][0] > kept["repeats"][3] >= 1


def test_a_plan_shrinks_the_sizes() -> None:
    assert Plan().sizes([1, 10, 100, 1000, 10_000]) == [1, 10, 100, 1000, 10_000]
    assert Plan(shrink=10).sizes([1, 10, 100, 1000, 10_000]) == [1, 10, 100, 1000]
    assert Plan(shrink=10**9).sizes([1, 10, 100, 1000, 10_000]) == [1, 10, 100, 1000]
    assert Plan(shrink=10**9).sizes([1, 10, 100, 1000, 10_000], 1) == [1, 10, 100, 1000, 10_000]


# Groups that are slow even with tiny sizes: they compile hundreds of decoders, or start a server.
SLOW = ("memory", "lists")


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """Freeze imported objects, as the worker does, so that the garbage collector skips them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def data(frozen: None) -> dict[str, Any]:
    names = tuple(name for name in GROUPS if name not in SLOW)
    with running() as address:
        series = list(groups_here(names, TINY, address))
    made = {"rounds": 2, "quick": True, "seconds": {}, "series": series}
    loaded: dict[str, Any] = json.loads(json.dumps(made))
    return loaded


def test_every_series_is_measured(data: dict[str, Any]) -> None:
    keys = [series["key"] for series in data["series"]]
    assert len(set(keys)) == len(keys) > 20
    assert {series["plot"] for series in data["series"]} == {*PLOTS} - {
        "lists",
        "lists-memory",
        "memory",
    }
    for series in data["series"]:
        assert len(series["samples"]) == len(series["sizes"]) == len(series["repeats"]) >= 4
        assert all(cost > 0 for costs in series["samples"] for cost in costs)
        assert len(series["floors"]) in (0, len(series["sizes"]))


def test_gates_and_tables_come_from_the_data(data: dict[str, Any]) -> None:
    found = gates(data)
    assert len(found) == len(data["series"]) - 1  # the series that shows the C library's effect
    assert all(name.startswith("exponent of ") and limit == 1.05 for name, limit, _ in found)
    text = markdown(data, "_static/")
    for series in data["series"]:
        assert f"| {series['label']} |" in text
        assert f"(_static/performance-{series['plot']}.svg)" in text
    assert not any(line.startswith(("# ", "## ", "####")) for line in text.splitlines())
    worse = json.loads(json.dumps(data))
    first = worse["series"][0]
    first["floors"] = []
    first["samples"] = [[size**1.2] for size in first["sizes"]]
    assert gates(worse)[0][2] == pytest.approx(1.2)
    assert "1.05 FAILS" in markdown(worse)


def test_plots_are_drawn_and_the_same_again(data: dict[str, Any], tmp_path: Path) -> None:
    few = {**data, "series": data["series"][:1] + data["series"][-1:]}
    names = plots(few, tmp_path / "a")
    assert names == ["performance-rows.svg", "performance-requests.svg"]
    assert plots(few, tmp_path / "b") == names
    for name in names:
        drawn = (tmp_path / "a" / name).read_bytes()
        assert drawn == (tmp_path / "b" / name).read_bytes()
        assert b"<svg" in drawn
        assert b"n^" in drawn
        assert os.fsencode(tmp_path) not in drawn


def test_a_group_runs_in_a_process_of_its_own() -> None:
    (first, second) = measure_group("markers", TINY, NOWHERE)
    assert first["key"] == "markers bound, ints"
    assert second["sizes"][0] == 1
    with pytest.raises(WorkerFailed, match="(?s)asyncio in flight: .*127.0.0.1:9"):
        measure_group("asyncio in flight", TINY, NOWHERE)
