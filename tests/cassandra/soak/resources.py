"""Counts the resources of a process: descriptors, tasks, objects, memory."""

from __future__ import annotations

import gc
import os
import sys

import anyio
import sniffio

from cqlproto_anyio._eventloop.request import Request
from cqlproto_anyio._network.connection import Connection
from tests.cassandra.soak.terms import Resources

__all__ = ["measure", "settled"]

_PAUSE = 0.25


def _tasks() -> int:
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    import asyncio

    return len(asyncio.all_tasks())


def _descriptors() -> tuple[int, int]:
    names = os.listdir("/proc/self/fd")
    sockets = 0
    for name in names:
        try:
            sockets += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:  # the descriptor of the listing itself
            continue
    return len(names) - 1, sockets


def measure() -> Resources:
    """Return the resources in use, after a garbage collection."""
    gc.collect()
    descriptors, sockets = _descriptors()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    objects = gc.get_objects()
    return Resources(
        sockets=sockets,
        descriptors=descriptors,
        tasks=_tasks(),
        requests=sum(issubclass(type(each), Request) for each in objects),
        connections=sum(issubclass(type(each), Connection) for each in objects),
        blocks=sys.getallocatedblocks(),
        rss=pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
    )


async def settled(before: Resources, seconds: float) -> Resources:
    """Wait until no more is in use than before, up to `seconds`; return what is in use then."""
    now = measure()
    for _ in range(int(seconds / _PAUSE)):
        if not now.more_than(before):
            break
        await anyio.sleep(_PAUSE)
        now = measure()
    return now
