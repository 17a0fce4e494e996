"""Relay bytes between CQL clients and a node unchanged, and print each frame."""

import argparse
import asyncio
from asyncio import StreamReader, StreamWriter
from contextlib import closing

from cqlproto import CQLError, EnvelopeReader, FrameReader, Opcode, ProtocolVersion
from cqlproto.compression import compressor
from cqlproto.messages import Startup
from cqlproto.wire import Reader

NAMES = {opcode.value: opcode.name for opcode in Opcode}


class Recorder:
    """Prints the frames of one connection; decodes only the body of STARTUP."""

    def __init__(self, client: str) -> None:
        self.client, self.compression = client, ""
        self.readers: list[FrameReader | EnvelopeReader] = [
            FrameReader(max_body=1 << 28, responses=responses) for responses in (False, True)
        ]

    def read(self, responses: bool, data: bytes) -> None:
        self.readers[responses].feed(data)
        while (frame := self.readers[responses].read()) is not None:
            version, name = frame.version & 0x7F, NAMES.get(frame.opcode, hex(frame.opcode))
            where = f"{self.client} {'<-' if responses else '->'} v{version}"
            print(f"{where} {name} stream={frame.stream} bytes={len(frame.body)}", flush=True)
            if frame.opcode == Opcode.STARTUP:  # the same in all versions
                startup = Startup.read_body(Reader(frame.body), ProtocolVersion.V4)
                self.compression = startup.options.get("COMPRESSION", "").lower()
            elif version >= 5 and frame.opcode in (Opcode.READY, Opcode.AUTHENTICATE):
                codec = compressor(self.compression) if self.compression else None
                for side, old in enumerate(self.readers):  # segments from here on
                    if isinstance(old, FrameReader):
                        new = EnvelopeReader(max_body=1 << 28, responses=side > 0, compressor=codec)
                        new.feed(old.take_back())
                        self.readers[side] = new

    async def relay(self, source: StreamReader, sink: StreamWriter, responses: bool) -> None:
        with closing(sink):
            while data := await source.read(65_536):
                try:
                    if self.readers:
                        self.read(responses, data)
                except CQLError as error:
                    self.readers.clear()
                    print(f"{self.client} is relayed, but no longer read: {error}", flush=True)
                sink.write(data)
                await sink.drain()


async def serve(port: int, node: list[str]) -> None:
    async def accept(from_client: StreamReader, to_client: StreamWriter) -> None:
        recorder = Recorder("{}:{}".format(*to_client.get_extra_info("peername")))
        try:
            from_node, to_node = await asyncio.open_connection(*node)
            there = recorder.relay(from_client, to_node, False)
            await asyncio.gather(there, recorder.relay(from_node, to_client, True))
        except OSError as error:
            print(f"{recorder.client} {error}", flush=True)
            to_client.close()

    async with await asyncio.start_server(accept, "127.0.0.1", port) as server:
        print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9043)
    parser.add_argument("--node", type=lambda text: text.rsplit(":", 1), default="127.0.0.1:9042")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.port, args.node))
    except (OSError, KeyboardInterrupt) as error:
        raise SystemExit(str(error) or 130) from None
