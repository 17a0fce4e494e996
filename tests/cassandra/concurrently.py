"""Runs calls concurrently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["all_of"]


async def all_of(calls: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Run calls concurrently and return what each returned, in order."""
    found: list[Any] = [None] * len(calls)

    async def one(position: int, call: Callable[[], Awaitable[Any]]) -> None:
        found[position] = await call()

    async with anyio.create_task_group() as group:
        for position, call in enumerate(calls):
            group.start_soon(one, position, call)
    return found
