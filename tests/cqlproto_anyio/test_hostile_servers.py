"""Servers that send too early, too much, or what they must not: ``connect`` ends in time."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion, RequestReceived, ServerConnection, handshake_reply
from cqlproto.enums import RESPONSE_BIT, Opcode
from cqlproto.frames import write_frame
from cqlproto.messages import READY, VOID, Startup, StatusChange
from cqlproto.messages.events import Event
from cqlproto.messages.responses import Supported
from tests.support.server import SUPPORTED, open_sockets, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cqlproto.messages import Response
    from tests.support.server import Asked

pytestmark = pytest.mark.uvloop

V4 = ProtocolVersion.V4


def frame(stream_id: int, message: Any) -> bytes:
    """Return a frame as a v4 server sends it."""
    body = bytearray()
    message.write_body(body, V4)
    return write_frame(V4 | RESPONSE_BIT, 0, stream_id, Opcode(message.opcode), bytes(body))


EVENT = frame(-1, Event(StatusChange("DOWN", (ip_address("10.0.0.9"), 9042))))
MANY = EVENT * (70_000 // len(EVENT))  # more than one read asks for


Said = tuple["Response | None", bytes]  # an answer, and the bytes that follow it in the same write


def usual(event: RequestReceived) -> Said:
    """Answer as a server does in the handshake; nothing else is answered."""
    if event.stream_id:
        return None, b""
    return handshake_reply(event.message, supported=SUPPORTED), b""


def after_ready(*what: bytes) -> Callable[[RequestReceived], Said]:
    """Return a script that sends these bytes in one write with READY."""

    def script(event: RequestReceived) -> Said:
        reply, _ = usual(event)
        return reply, b"".join(what) if isinstance(event.message, Startup) else b""

    return script


@asynccontextmanager
async def speaking(script: Callable[[RequestReceived], Said]) -> AsyncIterator[int]:
    """Run a TCP server with a script, and yield its port. No socket may be left."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        core = ServerConnection(versions=[V4])
        ahead = False
        try:
            async with stream:
                while True:
                    data = await stream.receive()
                    if not ahead:
                        core.receive_data(data)
                    while not ahead and (event := core.next_event()) is not None:
                        assert isinstance(event, RequestReceived)
                        reply, more = script(event)
                        # the stream ids of what it sent too early are wrong
                        ahead = more != b""
                        if reply is not None:
                            core.reply(event.stream_id, reply)
                        await stream.send(core.data_to_send() + more)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    gc.collect()
    before = open_sockets()
    async with anyio.create_task_group() as group:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def run() -> None:
            async with listener:
                await listener.serve(serve)

        group.start_soon(run)
        yield port
        group.cancel_scope.cancel()
    gc.collect()
    assert open_sockets() == before


def config(**fields: Any) -> cql.Config:
    fields.setdefault("connect_timeout", 2.0)
    fields.setdefault("control_timeout", 0.2)
    return cql.Config(protocol_version=V4, **fields)


EARLY = {
    "events": (EVENT * 3,),
    "many events": (MANY,),
    "an answer": (frame(1, READY),),
    "another answer": (frame(1, VOID),),
    "an answer to what is never asked": (frame(99, VOID),),
    "events and an answer": (EVENT, frame(1, READY), EVENT),
    "many events and an answer": (MANY, frame(1, READY), MANY),
    "many events and another answer": (MANY, frame(1, VOID)),
    "many events and all answers": (MANY, *[frame(number, VOID) for number in range(1, 9)]),
    "half an event": (EVENT[:-1],),
}


@pytest.mark.parametrize("early", list(EARLY.values())[4:6])
async def test_what_comes_too_early(early: tuple[bytes, ...]) -> None:
    """The client may take it for an answer; nothing hangs, and nothing is left."""
    async with speaking(after_ready(*early)) as port:
        for discovery, keyspace in ((True, None), (False, "ks")):
            settings = config(connect_timeout=0.1, control_timeout=0.03, discovery=discovery)
            with anyio.fail_after(10), suppress(cql.ConnectionFailed, cql.NoHostAvailable):
                async with cql.connect(
                    "127.0.0.1", port=port, keyspace=keyspace, config=settings
                ) as session:
                    with suppress(cql.CQLError):
                        await session.execute("SELECT v FROM t", timeout=0.02)


async def test_an_answer_before_its_request_is_told() -> None:
    async with speaking(after_ready(EVENT, frame(1, VOID))) as port:
        with pytest.raises(cql.NotCQL, match="on stream 1, where no request is in flight") as info:
            await connecting(port)
        assert info.value.stage == "handshake"


async def connecting(port: int, **fields: Any) -> None:
    with anyio.fail_after(10):
        async with cql.connect("127.0.0.1", port=port, config=config(**fields)):
            pass


@pytest.mark.parametrize("early", EARLY.values(), ids=EARLY)
async def test_in_one_read(early: tuple[bytes, ...]) -> None:
    """One read returns more than the client asks a stream for at a time: it keeps the rest."""
    async with serving() as server:
        server.versions = [V4]

        def after(asked: Asked) -> Response | None:
            reply = server.usual_handshake(asked)
            if isinstance(asked.message, Startup):
                asked.reply(READY)
                asked.peer.send_raw(b"".join(early))
                asked.peer.pause()
                return None
            return reply

        server.handshake = after
        settings = server.config(
            connect_timeout=60, control_timeout=60, discovery=True, protocol_version=V4
        )
        with anyio.fail_after(10), anyio.move_on_after(0.03), suppress(cql.ConnectionFailed):
            async with cql.connect("node", config=settings):
                pass


async def test_a_message_of_the_handshake_that_is_too_long() -> None:
    def script(event: RequestReceived) -> Said:
        return Supported({f"OPTION{number}": ["x" * 60_000] for number in range(40)}), b""

    async with speaking(script) as port:
        with pytest.raises(cql.NotCQL, match="more than 1,048,576 bytes for one message"):
            await connecting(port)
