"""Faults on three real nodes with replication factor 3, under load on asyncio and on trio.

No acknowledged write is lost, no row is wrong, no deadline is missed, idempotent requests succeed,
and no resources leak. This is the short form of ``python -m tests.cassandra.soak``, see there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.cassandra.soak.crew import Crew
from tests.cassandra.soak.faults import QUICK, Scene, settled
from tests.cassandra.soak.report import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cassandra.conftest import Cluster

# The first of them waits for three nodes to start, the last for three to start again.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def scene(three_nodes: Cluster) -> Iterator[Scene]:
    cluster = settled(three_nodes)
    with Crew([node.address for node in cluster.nodes]) as crew:
        yield Scene(cluster, crew, quick=True)


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.__name__)
def test_a_fault_under_load(scene: Scene, fault: Callable[[Scene], None]) -> None:
    seen = len(scene.crew.figures)
    fault(scene)
    figures = scene.crew.figures[seen:]
    assert {each.backend for each in figures} == {"asyncio", "trio"}
    problems = [problem for each in figures for problem in each.problems()]
    assert not problems, f"{table(figures)}\n" + re.sub(r"(?m)^", "- ", "\n".join(problems))
