"""Turns of the tasks of one program: one task per key at a time, in the order in which they came.

Tasks that race for one row by conditional writes make each other's Paxos rounds fail. With turns,
only one task of each program takes part in the race.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

__all__ = ["Turns"]


class Turns:
    """The turns of each key; keys that no task uses take no memory."""

    def __init__(self) -> None:
        # a semaphore for one task for each key, and how many tasks use it
        self._locks: dict[Hashable, tuple[anyio.Semaphore, int]] = {}

    @asynccontextmanager
    async def turn(self, key: Hashable, within: float | None = None) -> AsyncIterator[bool]:
        """Wait for the turn of this task, and keep it until the end of the block.

        Arguments:
            key: what the tasks compete for.
            within: how long to wait, in seconds; None for no limit. Then the block gets False.
        """
        free, users = self._locks.get(key) or (anyio.Semaphore(1), 0)
        self._locks[key] = free, users + 1
        mine = False
        try:
            try:
                free.acquire_nowait()
                mine = True
            except anyio.WouldBlock:
                with anyio.move_on_after(within):
                    await free.acquire()
                    mine = True
            yield mine
        finally:
            if mine:
                free.release()
            _, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = free, users - 1
