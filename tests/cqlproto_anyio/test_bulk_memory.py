"""The memory of bulk execution doesn't depend on the number of rows."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import anyio.lowlevel
import pytest

from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.faults import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROWS = 100_000
FEWER = 10_000
# Of the allocator, each of at most 512 bytes: far less than one for each of a thousand rows.
MOST_BLOCKS = 1_000


class Samples:
    """Rows, and how many blocks of memory are allocated while they are read."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.blocks: list[int] = []

    def rows(self) -> Iterator[tuple[int, int]]:
        for number in range(self._count):
            if number % (self._count // 5) == self._count // 10:
                gc.collect()
                self.blocks.append(sys.getallocatedblocks())
            yield (number % 1000, number % 100)

    async def rows_later(self) -> AsyncIterator[tuple[int, int]]:
        for row in self.rows():
            yield row
            if row[0] == 0:
                await anyio.lowlevel.checkpoint()

    def check(self) -> None:
        first, *others = self.blocks
        assert len(others) == 4
        assert max(others) - first < MOST_BLOCKS, self.blocks


@pytest.mark.parametrize(("batch", "count"), [(1, ROWS), (10, FEWER)])
async def test_writes(batch: int, count: int) -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        samples = Samples(count)
        done = await session.execute_many(INSERT, samples.rows(), batch=batch)
        assert done.count == count
        samples.check()
        await settled(session)


async def test_writes_from_an_asynchronous_source() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        samples = Samples(FEWER)
        assert (await session.execute_many(INSERT, samples.rows_later())).count == FEWER
        samples.check()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_reads(ordered: bool, asynchronous: bool) -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        samples = Samples(FEWER)
        if asynchronous:
            keys = (row[:1] async for row in samples.rows_later())
            results = session.map(SELECT, keys, ordered=ordered)
        else:
            results = session.map(SELECT, (row[:1] for row in samples.rows()), ordered=ordered)
        count = 0
        async for (key,), result in results:
            count += result.one().v == key
        assert count == FEWER
        samples.check()


def test_what_is_kept_is_noticed() -> None:
    """The measure itself: rows that are kept make more blocks."""
    samples = Samples(FEWER)
    kept = [[*row] for row in samples.rows()]
    assert len(kept) == FEWER
    with pytest.raises(AssertionError):
        samples.check()
