"""Iterating over rows that are read page by page.

A class rather than an async generator: a loop over it may be left at any point and needs no
clean-up, on trio too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Self

__all__ = ["Fetched"]

T = TypeVar("T")


class Fetched(Generic[T]):
    """Items that a function fetches, some at a time, for ``async for``.

    One task at a time may read it.

    Arguments:
        fetch: returns the next items, of which there may be none; None at the end.
    """

    __slots__ = ("_fetch", "_items")

    def __init__(self, fetch: Callable[[], Awaitable[Iterable[T] | None]]) -> None:
        self._fetch = fetch
        self._items: deque[T] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            items = await self._fetch()
            if items is None:
                raise StopAsyncIteration
            self._items.extend(items)
        return self._items.popleft()
