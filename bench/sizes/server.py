"""A small server that sends bytes made in advance: `python -m bench.sizes.server` prints its port.

The protocol core answers the handshake and PREPARE. An EXECUTE is answered with a body made in
advance: one blob or many rows, in the size that the statement's text names. Any other statement is
answered with one row, so the server can replace the canned server. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.sizes.decoding import BODY_TYPES, body_of_rows
from bench.sizes.material import LIMITS, Wire, blob_body, columns, metadata, row_content, rows_body
from cqlproto import ProtocolVersion, RequestReceived, ServerConnection, handshake_reply
from cqlproto.messages import BindMetadata, Execute, Prepare, Prepared, Query, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.messages import ResultMetadata

__all__ = ["running", "statement"]

ROOT = Path(__file__).parents[2]
_SUPPORTED = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4"]}
_ASKED = re.compile(r"SELECT (\w+) FROM bench.bodies WHERE size = (\d+)")
_MARKERS = 1


def statement(kind: str, size: int) -> str:
    """Return the statement whose answer has this size; the kind is ``cell`` or ``rows``."""
    return f"SELECT {kind} FROM bench.bodies WHERE size = {size} AND key = ?"


@contextlib.contextmanager
def running() -> Iterator[tuple[str, int]]:
    """Start a server process, yield its address, and end it on leaving."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.sizes.server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server of bodies ended with status {process.wait()}")
        yield "127.0.0.1", int(line)
    finally:
        process.communicate()


class _Answers:
    """The prepared statements, and the bytes of their replies."""

    def __init__(self) -> None:
        self.known: dict[bytes, tuple[ResultMetadata, bytes]] = {}
        self._last: tuple[object, bytes] = ((), b"")

    def prepare(self, query: str) -> Prepared:
        identity = query.encode()[-120:]
        asked = _ASKED.match(query)
        if asked is None:
            types: tuple[str, ...] = ("text", "text", "text")
            body = rows_body(3, 1, row_content(types, 1))
        elif asked[1] == "cell":
            types = ("blob",)
            body = blob_body(int(asked[2]))
        else:
            types = BODY_TYPES
            body = body_of_rows(int(asked[2]))[1]
        result = metadata(types)
        self.known[identity] = result, body
        bind = BindMetadata(columns(("text",) * _MARKERS))
        return Prepared(identity, bytes(16), bind, result)

    def reply(self, wire: Wire, stream_id: int, statement_id: bytes) -> bytes:
        """Return the bytes of a reply; the last reply is cached."""
        key = (wire.version, stream_id, statement_id)
        if key != self._last[0]:
            self._last = key, wire.reply(stream_id, self.known[statement_id][1])
        return self._last[1]


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._core = ServerConnection(limits=LIMITS)
        self._wires = {version: Wire(version) for version in ProtocolVersion}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        core = self._core
        core.receive_data(data)
        out: list[bytes] = []
        while isinstance(event := core.next_event(), RequestReceived):
            message = event.message
            if isinstance(message, Execute):
                # The core can't write raw bytes: let it write an empty reply, and discard it.
                core.reply(event.stream_id, Rows.of(metadata(("int",)), 0, b""))
                core.data_to_send()
                wire = self._wires[core.version]
                out.append(self._answers.reply(wire, event.stream_id, message.statement_id))
                continue
            if isinstance(message, Prepare):
                core.reply(event.stream_id, self._answers.prepare(message.query))
            elif isinstance(message, Query):
                core.reply(event.stream_id, Rows.of(metadata(("text",)), 0, b""))
            else:
                reply = handshake_reply(message, supported=_SUPPORTED)
                assert reply is not None
                core.reply(event.stream_id, reply)
            out.append(core.data_to_send())
        if out:
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    answers = _Answers()
    server = await loop.create_server(lambda: _Peer(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
