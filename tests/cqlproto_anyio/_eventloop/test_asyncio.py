"""asyncio: sockets that push, and the tasks that their callbacks run.

All other behaviour of such connections is tested by the rest of the suite, which uses them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.connection import ClientConnection
from cqlproto_anyio._eventloop._asyncio import AsyncioBackend
from cqlproto_anyio._eventloop._asyncio_socket import Receiver, SocketStream
from cqlproto_anyio._eventloop._asyncio_waiter import AsyncioRequest
from cqlproto_anyio._eventloop.auto import current_backend
from tests.conftest import FUTURES, UVLOOP
from tests.support.replies import echo, ints, preparing
from tests.support.server import (
    idle,
    open_sockets,
    serving,
    start,
    state,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP, FUTURES], indirect=True)

SELECT = "SELECT v FROM t WHERE k = ?"
NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")
ALONE = cql.Config(discovery=False)  # the server is not a cluster


@pytest.fixture
async def session(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[cql.Session]:
    """A session on a server that answers a read of k with k, over TCP."""
    pushing: list[SocketStream] = []
    usual = SocketStream.push_to

    def push_to(stream: SocketStream, receiver: Receiver) -> None:
        pushing.append(stream)
        usual(stream, receiver)

    monkeypatch.setattr(SocketStream, "push_to", push_to)
    async with serving() as server:
        server.answer = echo(server)
        port = await server.listen()
        async with cql.connect("127.0.0.1", port=port, config=ALONE) as session:
            assert len(pushing) == 1
            yield session


async def read(session: cql.Session, number: int) -> int:
    result: int = (await session.execute(SELECT, (number,))).one().v
    return result


# -- the tasks


async def test_each_task_is_itself_and_keeps_its_context(session: cql.Session) -> None:
    async def one(number: int) -> None:
        NAME.set(f"task {number}")
        for _ in range(20):
            assert await read(session, number) == number
            assert NAME.get() == f"task {number}"
            assert asyncio.current_task() is mine[number]

    mine = [asyncio.create_task(one(number)) for number in range(50)]
    await asyncio.gather(*mine)
    assert NAME.get() == "nobody"


async def test_an_error_in_one_task_is_no_matter_for_the_others(session: cql.Session) -> None:
    async def one(number: int) -> int:
        value = await read(session, number)
        if number % 3 == 0:
            raise ValueError(number)
        return value

    results = await asyncio.gather(*map(one, range(60)), return_exceptions=True)
    for number, result in enumerate(results):
        assert result == number if number % 3 else isinstance(result, ValueError)
    assert await read(session, 7) == 7


async def test_a_task_may_close_the_session_in_the_middle_of_a_read() -> None:
    async with serving() as server:
        server.answer = preparing(server)
        port = await server.listen()
        async with cql.connect("127.0.0.1", port=port, config=ALONE) as session:
            await session.prepare(SELECT)

            async def first() -> int:
                value = await read(session, 0)
                await session.aclose()
                return value

            tasks = [asyncio.create_task(first())]
            tasks += [asyncio.create_task(read(session, number)) for number in range(1, 30)]
            asked = await server.take_all(30)
            core = asked[0].peer.core
            for request in asked:  # all replies in one read
                core.reply(request.stream_id, ints(request.number))
            asked[0].peer.flush()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == 0
        assert {type(result) for result in results[1:]} <= {int, cql.SessionClosed}


async def test_many_replies_in_one_piece_wake_tasks_that_ask_again(session: cql.Session) -> None:
    async def chain(number: int) -> int:
        for step in range(100):
            assert await read(session, number + step) == number + step
        return number

    numbers = range(0, 20_000, 1_000)
    assert await asyncio.gather(*map(chain, numbers)) == list(numbers)
    await idle(session)


async def test_asyncio_in_debug_mode(session: cql.Session) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        tasks = [asyncio.create_task(read(session, number)) for number in range(50)]
        await asyncio.sleep(0)
        assert all("read" in repr(task) for task in tasks)
        assert await asyncio.gather(*tasks) == list(range(50))
    finally:
        loop.set_debug(False)


# -- cancellation


@pytest.mark.parametrize("message", [(), ("the reason",)])
async def test_cancelling_keeps_its_message(message: tuple[str, ...]) -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        task = asyncio.create_task(read(session, 1))
        await server.next()
        task.cancel(*message)
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        assert info.value.args == message
        assert state(session).orphans == 1


async def test_cancelled_at_any_turn_of_the_loop(session: cql.Session) -> None:
    for turns in range(40):
        task = asyncio.create_task(read(session, turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == turns
        await idle(session)
    assert await read(session, 3) == 3


async def test_asyncios_own_timeout() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await read(session, 1)
        late = await server.next()
        assert state(session).orphans == 1
        late.reply(ints(1))
        await idle(session)


async def test_no_cycle_keeps_a_request(session: cql.Session) -> None:
    await read(session, 1)
    gc.collect()
    gc.disable()
    try:
        for number in range(100):
            await read(session, number)
        left = [thing for thing in gc.get_objects() if isinstance(thing, AsyncioRequest)]
    finally:
        gc.enable()
    assert len(left) < 5


# -- the socket


class Told(Receiver):
    """Records the calls it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.eof = False
        self.lost: list[Exception | None] = []
        self.resumed = 0

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.eof = True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def resume_writing(self) -> None:
        self.resumed += 1


async def pair() -> tuple[SocketStream, anyio.abc.SocketStream]:
    """Return a client's stream, and an anyio stream as its other end."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (only,) = listener.listeners
    assert isinstance(only, anyio.abc.SocketListener)
    port = only.extra(anyio.abc.SocketAttribute.local_port)
    others: list[anyio.abc.SocketStream] = []
    backend = current_backend()
    assert isinstance(backend, AsyncioBackend)
    async with anyio.create_task_group() as group:

        async def accept() -> None:
            others.append(await only.accept())

        group.start_soon(accept)
        stream = await anyio.connect_tcp("127.0.0.1", port)
        owned = await backend.adopt(stream)
    await listener.aclose()
    assert isinstance(owned, SocketStream)
    return owned, others[0]


async def test_read_as_a_stream_and_then_pushed() -> None:
    mine, other = await pair()
    async with mine, other:
        await other.send(b"one two")
        assert await mine.receive(3) == b"one"
        await mine.send(b"asked")
        assert await other.receive() == b"asked"
        told = Told()
        mine.push_to(told)
        assert told.data == b" two"
        await other.send(b" three")
        await until(lambda: told.data == b" two three")
        await other.send_eof()
        await until(lambda: told.eof)
        mine.write(b"still heard")
        assert await other.receive() == b"still heard"
        assert told.lost == []
    assert told.lost == [None]


async def test_a_peer_that_never_stops_does_not_fill_the_memory() -> None:
    mine, other = await pair()
    async with mine, other:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await other.send(bytes(1 << 20))
                sent += 1

        async with anyio.create_task_group() as group:
            group.start_soon(flood)
            assert await mine.receive(1) == b"\0"
            stalled = -1
            while sent != stalled:
                stalled = sent
                await anyio.sleep(0.2)
            assert sum(map(len, mine._chunks)) < 1 << 20
            group.cancel_scope.cancel()


async def test_writing_waits_for_the_peer() -> None:
    mine, other = await pair()
    async with mine, other:
        told = Told()
        mine.push_to(told)
        while mine.writable:
            mine.write(bytes(1 << 20))
        assert told.resumed == 0
        with anyio.move_on_after(5):
            while told.resumed == 0:
                await other.receive(1 << 20)
        assert told.resumed == 1
        assert mine.writable


def close_hard(other: anyio.abc.SocketStream) -> None:
    raw = other.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.mark.parametrize("pushed", [False, True])
async def test_the_peer_resets(pushed: bool) -> None:
    mine, other = await pair()
    told = Told()
    if pushed:
        mine.push_to(told)
    close_hard(other)
    await other.aclose()
    if pushed:
        await until(lambda: told.lost)
        assert isinstance(told.lost[0], ConnectionResetError)
    else:
        with pytest.raises(anyio.BrokenResourceError):
            await mine.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await mine.send(b"x")
        mine.push_to(told)
        assert len(told.lost) == 1
    await mine.aclose()


async def test_the_peer_ends_before_anyone_is_told() -> None:
    mine, other = await pair()
    await other.send(b"last words")
    await other.aclose()
    assert await mine.receive() == b"last words"
    with pytest.raises(anyio.EndOfStream):
        await mine.receive()
    told = Told()
    mine.push_to(told)
    assert told.eof
    await mine.aclose()


async def test_closed_by_us() -> None:
    mine, other = await pair()
    await mine.send(b"x")
    await mine.send_eof()
    assert await other.receive() == b"x"
    with pytest.raises(anyio.EndOfStream):
        await other.receive()
    await mine.aclose()
    await mine.aclose()
    for call in (mine.receive, lambda: mine.send(b"x")):
        with pytest.raises(anyio.ClosedResourceError):
            await call()
    await other.aclose()


async def test_no_descriptor_is_left(session: cql.Session) -> None:
    [host] = session.statistics().hosts
    port = int(host.address.rpartition(":")[2])

    async def use() -> None:
        async with cql.connect("127.0.0.1", port=port, config=ALONE) as other:
            assert await read(other, 1) == 1

    before = open_sockets()
    for turns in range(30):  # cancelled at any turn: connecting, sending, closing
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await use()
    await until(lambda: open_sockets() <= before)


# -- faults in what is pushed


FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "garbage": (lambda peer: peer.send_raw(b"HTTP/1.1 500 Oops\r\n\r\n"), "checksum"),
    "the end": (lambda peer: peer.close(), "closed the connection"),
    "an unused id": (
        lambda peer: peer.send_raw(peer.frame(31_000, 8, b"\0\0\0\1")),
        "where no request is in flight",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults_over_tcp(fault: str) -> None:
    does, told = FAULTS[fault]
    async with serving() as server:
        server.answer = preparing(server)
        port = await server.listen()
        async with cql.connect("127.0.0.1", port=port, config=ALONE) as session:
            await session.prepare(SELECT)
            async with anyio.create_task_group() as group:
                calls = [start(group, lambda: read(session, 1)) for _ in range(20)]
                await server.until(lambda: len(server.asked) == 20)
                does(server.peers[0])
            assert {type(call.error) for call in calls} == {cql.ConnectionLost}
            with pytest.raises(cql.ConnectionLost, match=told):
                raise calls[0].error or AssertionError
            server.answer = echo(server)
            assert await read(session, 5) == 5


async def test_a_bug_of_ours_hangs_nobody(
    session: cql.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await read(session, 1)

    def broken(core: ClientConnection) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(ClientConnection, "next_event", broken)
        with pytest.raises(cql.ConnectionLost, match="ZeroDivisionError: a bug"):
            await read(session, 2)
    assert await read(session, 3) == 3
