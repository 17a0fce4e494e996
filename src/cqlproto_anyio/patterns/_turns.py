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
    """The turns of each key. Keys that no task waits for take no memory."""

    __slots__ = ("_locks",)

    def __init__(self) -> None:
        # the lock of each key, and how many tasks use it
        self._locks: dict[Hashable, tuple[anyio.Lock, int]] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def turn(self, key: Hashable, within: float | None = None) -> AsyncIterator[bool]:
        """Wait for the turn of this task; the block has it until its end.

        Arguments:
            key: what the tasks compete for.
            within: how long to wait, in seconds; None for no limit.

        Yields:
            whether the task has its turn; False if it did not come in time.
        """
        lock, users = self._locks.get(key) or (anyio.Lock(), 0)
        self._locks[key] = lock, users + 1
        mine = False
        try:
            try:
                lock.acquire_nowait()
                mine = True
            except anyio.WouldBlock:
                with anyio.move_on_after(within):
                    await lock.acquire()
                    mine = True
            yield mine
        finally:
            if mine:
                lock.release()
            _, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, users - 1
