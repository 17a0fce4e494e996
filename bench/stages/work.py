"""One measurement: the stages of a session's requests on one event loop, and the whole.

``python -m bench.stages.work JSON`` prints the figures as JSON, in microseconds per request.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
import trio

import cqlproto_anyio as cql
from bench import jobs
from cqlproto import ClientConnection, ProtocolVersion, RequestReceived, ServerConnection
from cqlproto.connection import handshake_reply
from cqlproto.rows import decode_rows
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._network.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_FLIGHT = 128
STAGES = {
    "plan": "options, statement, deadline; at the end, the result",
    "bind": "values packed into an EXECUTE frame",
    "frame": "stream id, queue, joining the frames to send",
    "write": "the system call send, with the frames of one turn",
    "read": "the system call recv",
    "parse": "frames cut, replies read",
    "wake": "the waiting task is resumed",
    "decode": "decoding the row",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What to measure, and against which canned server."""

    backend: str
    work: str
    host: str
    port: int
    quick: bool = False


class Stages:
    """The stages of one kind of request, on the objects of a session.

    Arguments:
        session: connected, over v4.
        prepared: the prepared statement.
        values: its parameters.
        repeats: the number of samples for a median.
    """

    def __init__(
        self, session: cql.Session, prepared: cql.Prepared[Any], values: Any, repeats: int
    ) -> None:
        self._session = session
        self._prepared = prepared
        self._values = values
        self._repeats = repeats
        self._request_class = current_backend().request_class
        self.binder: Any = None

    def each(self, run: Callable[[], object], count: int = IN_FLIGHT) -> float:
        """Return the CPU time per operation, in microseconds; short runs are repeated."""
        times = 1
        while (spent := _cpu(run, times)) < 0.01:
            times *= 2
        samples = [spent, *(_cpu(run, times) for _ in range(self._repeats - 1))]
        return statistics.median(samples) / times / count * 1e6

    async def execute(self) -> None:
        await self._session.execute(self._prepared, self._values)

    async def reply(self) -> Any:
        """Return the event that answers a request, and keep its binder."""
        seen: list[Any] = []
        submit = Connection.submit

        def look(connection: Connection, request: Any) -> None:
            seen.append(request)
            submit(connection, request)

        with _replaced(Connection, "submit", look):
            await self.execute()
        [request] = seen
        self.binder = request.binder
        return request.value

    async def answered_at_once(self, event: Any) -> float:
        """Run all of a request except for the connection and the wait."""

        def submit(connection: Connection, request: Any) -> None:
            request.connection = connection
            request.complete(event)

        count = 5_000
        samples = []
        with _replaced(Connection, "submit", submit):
            for _ in range(self._repeats):
                began = time.process_time()
                for _ in range(count):
                    await self.execute()
                samples.append((time.process_time() - began) / count * 1e6)
        return statistics.median(samples)

    def request(self) -> Any:
        """Make a request as ``execute`` does."""
        return self._request_class("", 10.0, self.binder, self._values)

    async def woken(self, event: Any, turn: Callable[[], Any]) -> float:
        """Run tasks that wait for requests, and answer the requests as the connection does."""
        waiting: list[Any] = []
        rounds = 400
        running = IN_FLIGHT

        async def worker() -> None:
            nonlocal running
            for _ in range(rounds):
                request = self.request()
                waiting.append(request)
                await request
            running -= 1

        def answer() -> None:
            answered = waiting[:]
            waiting.clear()
            for request in answered:
                request.answer(event)

        async with anyio.create_task_group() as group:
            for _ in range(IN_FLIGHT):
                group.start_soon(worker)
            while len(waiting) < IN_FLIGHT:
                await turn()
            began = time.process_time()
            await _drive(answer, lambda: running > 0, turn)
            spent = time.process_time() - began
        return spent / rounds / IN_FLIGHT * 1e6

    async def whole(self, count: int) -> float:
        """Return the client's CPU time per request against the server."""
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                await self.execute()

        began = time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(IN_FLIGHT):
                group.start_soon(worker)
        return (time.process_time() - began) / count * 1e6


async def _drive(
    answer: Callable[[], None], more: Callable[[], bool], turn: Callable[[], Any]
) -> None:
    """Answer waiting requests turn by turn; on asyncio in a callback, which may resume tasks."""
    if turn is _asyncio_turn:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def again() -> None:
            answer()
            if more():
                loop.call_soon(again)
            else:
                done.set_result(None)

        loop.call_soon(again)
        await done
        return
    while more():
        answer()
        await turn()


async def _asyncio_turn() -> None:
    await asyncio.sleep(0)


async def _trio_turn() -> None:
    await trio.lowlevel.checkpoint()


class Wire:
    """Both ends of a connection without I/O, and the bytes of one turn."""

    def __init__(self, binder: Any, values: Any, reply: Any) -> None:
        self.client = ClientConnection(version=ProtocolVersion.V4)
        self.server = ServerConnection()
        self._binder = binder
        self._values = values
        self._reply = reply
        self.client.initiate()
        while self._carry():
            pass

    def _carry(self) -> bool:
        data = self.client.data_to_send()
        self.server.receive_data(data)
        while (event := self.server.next_event()) is not None:
            assert isinstance(event, RequestReceived)
            supported = {"COMPRESSION": [], "CQL_VERSION": ["3.4.7"]}
            reply = handshake_reply(event.message, supported=supported)
            self.server.reply(event.stream_id, self._reply if reply is None else reply)
        self.client.receive_data(self.server.data_to_send())
        self.events()
        return bool(data)

    def events(self) -> None:
        next_event = self.client.next_event
        while next_event() is not None:
            pass

    def send(self) -> bytes:
        """Queue the requests of one turn, and return their bytes."""
        send = self.client.send_bound
        for _ in range(IN_FLIGHT):
            send(self._binder, self._values)
        return self.client.data_to_send()

    def answer(self, asked: bytes) -> bytes:
        """Return the bytes of all replies."""
        self.server.receive_data(asked)
        while (event := self.server.next_event()) is not None:
            assert isinstance(event, RequestReceived)
            self.server.reply(event.stream_id, self._reply)
        return self.server.data_to_send()

    def timed(self, repeats: int) -> tuple[float, float, bytes, bytes]:
        """Return the microseconds of sending and of parsing, and the bytes of both directions."""
        sending, parsing = [], []
        asked = answered = b""
        for _ in range(repeats * 40):
            began = time.perf_counter_ns()
            asked = self.send()
            sending.append(time.perf_counter_ns() - began)
            answered = self.answer(asked)
            began = time.perf_counter_ns()
            self.client.receive_data(answered)
            self.events()
            parsing.append(time.perf_counter_ns() - began)
        unit = IN_FLIGHT * 1000
        return statistics.median(sending) / unit, statistics.median(parsing) / unit, asked, answered


def _cpu(run: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - began


@contextlib.contextmanager
def _replaced(thing: object, name: str, function: object) -> Iterator[None]:
    usual = getattr(thing, name)
    setattr(thing, name, function)
    try:
        yield
    finally:
        setattr(thing, name, usual)


def _carried(data: bytes, repeats: int) -> tuple[float, float]:
    """Return the microseconds of the system calls send and recv, per request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        two, _ = listener.accept()
    with one, two:
        sending, receiving = [], []
        for _ in range(repeats * 40):
            began = time.thread_time_ns()
            one.sendall(data)
            sending.append(time.thread_time_ns() - began)
            began = time.thread_time_ns()
            left = len(data)
            while left:
                left -= len(two.recv(262_144))
            receiving.append(time.thread_time_ns() - began)
    unit = IN_FLIGHT * 1000
    return statistics.median(sending) / unit, statistics.median(receiving) / unit


async def _measure(asked: Asked) -> dict[str, float]:
    repeats = 3 if asked.quick else 9
    config = cql.Config(protocol_version=ProtocolVersion.V4, discovery=False)
    async with cql.connect(asked.host, port=asked.port, config=config) as session:
        row = jobs.items()[0]
        query, values = (jobs.WRITE, row) if asked.work == "write" else (jobs.READ, row[:1])
        stages = Stages(session, await session.prepare(query), values, repeats)
        await stages.whole(2_000)  # compiles all decoders and packers
        event = await stages.reply()
        turn = _trio_turn if asked.backend == "trio" else _asyncio_turn
        bind = stages.each(lambda: [stages.binder.frame(1, values) for _ in range(IN_FLIGHT)])
        made = stages.each(lambda: [stages.request() for _ in range(IN_FLIGHT)])
        decode = 0.0
        if asked.work == "read":
            message = event.message
            decode_rows(message)
            decoder = message.metadata.cache[cql.Row]
            decode = stages.each(lambda: [decoder(message) for _ in range(IN_FLIGHT)])
        sending, parse, request, answer = Wire(stages.binder, values, event.message).timed(repeats)
        write, _ = _carried(request, repeats)
        _, read = _carried(answer, repeats)
        return {
            "plan": await stages.answered_at_once(event) - decode,
            "bind": bind,
            "frame": max(sending - bind, 0.0),
            "write": write,
            "read": read,
            "parse": parse,
            "wake": max(await stages.woken(event, turn) - made, 0.0),
            "decode": decode,
            "whole": await stages.whole(10_000 if asked.quick else 40_000),
        }


def main() -> None:
    asked = Asked(**json.loads(sys.argv[1]))
    if asked.backend == "trio":
        found = anyio.run(_measure, asked, backend="trio")
    else:
        options = {"use_uvloop": asked.backend == "uvloop"}
        found = anyio.run(_measure, asked, backend="asyncio", backend_options=options)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
