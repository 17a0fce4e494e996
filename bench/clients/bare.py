"""The lower bound for a client on anyio; it tells a slow machine from a slow client.

It uses a plain anyio socket, EXECUTE frames that are packed before the clock runs (only the stream
id is set), a reader task that finds complete frames, a writer task that sends the frames of one
turn of the loop together, and one of the backend's waiters per request. It binds, routes, retries,
times out and decodes nothing.
"""

from __future__ import annotations

import asyncio
import functools
import struct
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread
import trio

from bench import jobs, worker
from bench.clients import base
from bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from bench.jobs import Job

_HEADER = struct.Struct(">BBHBI")
_SKIP_METADATA, _VALUES = 0x02, 0x01
_ERROR, _STARTUP, _PREPARE, _EXECUTE = 0x00, 0x01, 0x09, 0x0A
_RECEIVE_SIZE = 65_536
_QUERIES = {"write": jobs.WRITE, "read": jobs.READ}


class _Waiter(Protocol):
    """Awaited once by the requesting task, set once by the reader."""

    def set(self) -> None: ...
    def wait(self) -> Awaitable[object]: ...


class _AsyncioWaiter:
    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        self._future.set_result(None)

    def wait(self) -> Awaitable[object]:
        return self._future


class _TrioWaiter:
    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()

    def set(self) -> None:
        trio.lowlevel.reschedule(self._task)

    async def wait(self) -> None:
        await trio.lowlevel.wait_task_rescheduled(_abort)


def _abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


class _Wire:
    """One connection. A reply only wakes its waiter; the connection keeps the last reply."""

    def __init__(self, stream: anyio.abc.SocketStream, waiter: Callable[[], _Waiter]) -> None:
        self._stream = stream
        self._make = waiter
        self._waiters: dict[int, _Waiter] = {}
        self._free = list(range(2_048))
        self._queued: list[bytes] = []
        self._wake = anyio.Event()
        self.errors = 0
        self.last = b""

    async def read(self) -> None:
        waiters, free, unpack = self._waiters, self._free, _HEADER.unpack_from
        buffer = b""
        while True:
            data = await self._stream.receive(_RECEIVE_SIZE)
            buffer = buffer + data if buffer else data
            at, size = 0, len(buffer)
            while size - at >= 9:
                _, _, stream_id, opcode, length = unpack(buffer, at)
                end = at + 9 + length
                if end > size:
                    break
                if opcode == _ERROR:
                    self.errors += 1
                self.last = buffer[at + 9 : end]
                free.append(stream_id)
                waiters.pop(stream_id).set()
                at = end
            buffer = buffer[at:]

    async def write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            data = b"".join(self._queued)
            self._queued.clear()
            await self._stream.send(data)

    def ask(self, opcode: int, body: bytes) -> Awaitable[object]:
        stream_id = self._free.pop()
        waiter = self._waiters[stream_id] = self._make()
        if not self._queued:
            self._wake.set()
        self._queued.append(_HEADER.pack(4, 0, stream_id, opcode, len(body)) + body)
        return waiter.wait()


def _execute_body(prepared: bytes, values: Sequence[object]) -> bytes:
    cells = [_cell(value) for value in values]
    flags = _VALUES | _SKIP_METADATA
    size = len(prepared)
    return struct.pack(f">H{size}sHBH", size, prepared, 1, flags, len(cells)) + b"".join(cells)


def _cell(value: object) -> bytes:
    match value:
        case str():
            data = value.encode()
        case bool():
            data = struct.pack(">?", value)
        case int():
            data = struct.pack(">q", value)
        case float():
            data = struct.pack(">f", value)
        case _:
            raise TypeError(value)
    return struct.pack(">i", len(data)) + data


def serve(client: str, host: str, port: int) -> None:
    backend = client.split("/")[1]
    if backend == "trio":
        anyio.run(_serve, host, port, _TrioWaiter, backend="trio")
    else:
        options = {"use_uvloop": backend == "uvloop"}
        anyio.run(_serve, host, port, _AsyncioWaiter, backend="asyncio", backend_options=options)


async def _serve(host: str, port: int, waiter: Callable[[], _Waiter]) -> None:
    async with (
        await anyio.connect_tcp(host, port) as stream,
        anyio.create_task_group() as group,
    ):
        wire = _Wire(stream, waiter)
        group.start_soon(wire.read)
        group.start_soon(wire.write)
        await wire.ask(_STARTUP, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.0.0")
        prepared = {work: await _prepare(wire, query) for work, query in _QUERIES.items()}
        while job := await anyio.to_thread.run_sync(worker.receive):
            await _measure(wire, job, prepared[job.work])
        group.cancel_scope.cancel()


async def _prepare(wire: _Wire, query: str) -> bytes:
    text = query.encode()
    await wire.ask(_PREPARE, struct.pack(">i", len(text)) + text)
    # RESULT of kind Prepared: [int] kind, then the id as [short bytes].
    return wire.last[6 : 6 + int.from_bytes(wire.last[4:6], "big")]


async def _measure(wire: _Wire, job: Job, prepared: bytes) -> None:
    meter = Meter()
    meter.outcome.protocol = "v4"
    bodies = jobs.shaped(job, functools.partial(_execute_body, prepared))

    async def ask(bodies: Iterable[bytes]) -> None:
        for body in bodies:
            await wire.ask(_EXECUTE, body)

    async def run(count: int) -> None:
        await base.in_tasks(ask, base.cycled(bodies, count), job.in_flight, None)

    count = job.operations or await base.calibrated(run, job)
    meter.start()
    await run(count)
    meter.stop(count)
    jobs.check(wire.errors, 0, "errors")
    worker.reply(meter.outcome)
