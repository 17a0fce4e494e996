"""The process of one client: a session, and the objects of two programs on it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

import cqlproto_anyio as cql
from bench import worker
from bench.meter import Meter
from bench.patterns.work import PROGRAMS, WORKS, Acting, Limiting, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.jobs import Job, Outcome

_CLIENTS = "SELECT port, request_count FROM system_views.clients"


def serve(client: str, host: str, port: int) -> None:
    """Run the jobs that arrive on standard input."""
    if client == "naive/rsylla":
        asyncio.run(_naive(f"{host}:{port}"))
        # rsylla's threads can't be stopped, and panic when the interpreter exits.
        sys.stderr.flush()
        os._exit(0)
    anyio.run(_ours, host, port, backend=client.split("/")[1])


async def _ours(host: str, port: int) -> None:
    from bench.patterns.ours import Ours

    async with cql.connect(host, port=port) as session:
        await _Turns([Ours(session) for _ in range(PROGRAMS)], cql.__version__).serve()


async def _naive(address: str) -> None:
    from rsylla import Session

    from bench.patterns.naive import Naive

    connect: Any = Session.connect  # its type hints say that it is not async
    programs = [Naive(await connect([address]))] * PROGRAMS
    await _Turns(programs, importlib.metadata.version("rsylla")).serve()


class _Turns:
    def __init__(self, programs: Sequence[Any], version: str) -> None:
        self._programs, self._version = programs, version
        self._number = 0
        self._ready: set[str] = set()

    async def serve(self) -> None:
        while job := await anyio.to_thread.run_sync(worker.receive):
            if job.work in ("setup", "drop"):
                await getattr(self._programs[0], job.work)()
                outcome = Meter().outcome
            elif job.work == "keys":
                outcome = await self._keys(job)
            else:
                # So many that half of a limit is more than all workers have in flight.
                least = 8 if WORKS[job.recipe].kind is Limiting else 2
                each = job.operations // job.in_flight
                if not each:
                    first = await self._turn(job, least)
                    each = max(least, int(job.seconds * first.rate / job.in_flight))
                outcome = await self._turn(job, each)
            outcome.version = self._version
            worker.reply(outcome)

    async def _turn(self, job: Job, each: int) -> Outcome:
        kind = WORKS[job.recipe].kind
        kept = kind is Reading
        self._number += 1
        prefix = f"{job.recipe}-{os.getpid():x}-{'k' if kept else self._number}"
        keys = [f"{prefix}-{at}" for at in range(1 if job.one_key else job.in_flight)]
        turn = kind(self._programs, job.recipe, keys, job.in_flight, each)
        async with anyio.create_task_group() as group:
            for key in set(keys) - self._ready:
                group.start_soon(turn.prepare, key)
        self._ready.update(keys if kept else ())
        meter, before = Meter(), await self._requests()
        meter.start()
        async with anyio.create_task_group() as group:
            for number in range(job.in_flight):
                group.start_soon(turn.run, number)
        meter.stop(each * job.in_flight)
        meter.outcome.requests = await self._requests() - before - 1  # without the one that asks
        meter.outcome.wrong = await turn.wrong()
        return meter.outcome

    async def _requests(self) -> int:
        """Return how many requests the server has received on the connections of this process."""
        ports, clients = _ports(), await self._programs[0].clients(_CLIENTS)
        return sum(count for port, count in clients if port in ports)

    async def _keys(self, job: Job) -> Outcome:
        """Use many keys, and measure the memory from a tenth of them on."""
        meter, few, kind, work = Meter(), job.operations // 10, WORKS[job.recipe].kind, job.recipe
        if work == "tenant":  # a session for each key, without the read
            kind, work = Acting, "session"

        async def use(numbers: Iterator[int]) -> None:
            for number in numbers:
                turn = kind(self._programs, work, [f"{work}-{os.getpid():x}-{number}"], 1, 1)
                await turn.prepare(turn.keys[0])
                await turn.run(0)

        for numbers in (iter(range(few)), iter(range(few, job.operations))):
            meter.start()
            async with anyio.create_task_group() as group:
                for _ in range(job.in_flight):
                    group.start_soon(use, numbers)
        meter.stop(job.operations)
        return meter.outcome


def _ports() -> set[int]:
    """Return the local ports of this process's connections."""
    sockets = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(each))
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {int(each[1].split(":")[1], 16) for each in lines if f"socket:[{each[9]}]" in sockets}
