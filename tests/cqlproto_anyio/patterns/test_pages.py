"""Iterating over rows that are fetched some at a time, and the memory of what was seen last."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from cqlproto_anyio.patterns._pages import Fetched

if TYPE_CHECKING:
    from collections.abc import Sequence


def fetching(*pages: Sequence[int]) -> Fetched[int]:
    left = list(pages)

    async def fetch() -> Sequence[int] | None:
        return left.pop(0) if left else None

    return Fetched(fetch)


async def test_items_in_order_across_empty_pages() -> None:
    assert [each async for each in fetching([1, 2], [], [3], [])] == [1, 2, 3]
    assert [each async for each in fetching()] == []


async def test_a_loop_may_be_left_at_any_point() -> None:
    async for each in fetching([1, 2]):
        if each == 1:
            break
    gc.collect()  # an async generator would be warned about here


async def test_errors_reach_the_loop() -> None:
    async def fetch() -> list[int] | None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await anext(Fetched(fetch))
