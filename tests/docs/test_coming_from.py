"""The tables for people who come from other packages name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cqlproto_anyio import patterns
from cqlproto_anyio.patterns import kailash, rsylla

PAGE = Path(__file__).parents[2] / "docs/patterns/coming-from.md"
ROWS = [
    line.split(" | ")
    for line in PAGE.read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| Their", "| ---"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| "))
def test_our_call_exists(row: list[str]) -> None:
    assert len(row) == 4
    (name,) = re.findall(r"`([\w.]+)`", row[2])
    owner, _, method = name.partition(".")
    found = next(
        getattr(module, owner) for module in (rsylla, kailash, patterns) if hasattr(module, owner)
    )
    assert not method or callable(getattr(found, method))


def test_there_is_a_row_for_each_fault() -> None:
    assert len(ROWS) > 35
