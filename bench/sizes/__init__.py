"""Cost against size: checks that the cost grows linearly with the amount of work.

Each series measures the cost of growing amounts of one thing (rows, columns, bind markers, requests
in flight, bytes of a body, column lists) and fits a power law. :mod:`bench.sizes.fit` describes the
fit, :mod:`bench.sizes.timing` the measurement. :func:`gates` returns the exponents and their
limits.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bench.sizes.plot import plots
from bench.sizes.report import gates, markdown
from bench.sizes.timing import Plan
from bench.sizes.worker import GROUPS, WorkerFailed, measure_group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.servers import Address

__all__ = ["WorkerFailed", "gates", "markdown", "measure", "plots"]

QUICK_SHRINK = 16
QUICK_SECONDS = 0.003


def measure(
    rounds: int,
    quick: bool,
    say: Callable[[str], None],
    address: Address,
    only: Sequence[str] = (),
) -> dict[str, object]:
    """Measure all series, each group in its own process.

    Arguments:
        rounds: samples of every size; 7 take about five minutes.
        quick: smaller sizes and shorter samples.
        say: called with a line of progress.
        address: host and port of the canned server (``bench.servers``).
        only: the names of the groups to measure; all if empty.

    Returns:
        all samples as JSON values, for :func:`markdown`, :func:`plots` and :func:`gates`.

    Raises:
        WorkerFailed: a group could not be measured.
    """
    plan = Plan(rounds, QUICK_SECONDS, QUICK_SHRINK) if quick else Plan(rounds)
    series: list[dict[str, Any]] = []
    seconds: dict[str, float] = {}
    for name in only or GROUPS:
        say(f"cost against size: {name}")
        start = time.monotonic()
        series += measure_group(name, plan, address)
        seconds[name] = round(time.monotonic() - start, 1)
    return {"rounds": rounds, "quick": quick, "seconds": seconds, "series": series}
