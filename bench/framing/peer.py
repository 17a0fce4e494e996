"""cassandra-driver and scylla-driver as contenders: their segment codec, and their connection.

The drivers read frames only in ``Connection``. So this module uses a ``Connection`` without a
socket, and passes bytes to it as the drivers' event loops do. For ``frames`` and ``read``, complete
frames are only counted; for ``receive``, they are processed as in operation, up to a callback with
the decoded rows.
"""

from __future__ import annotations

import itertools
from collections import deque
from io import BytesIO
from time import process_time
from typing import TYPE_CHECKING, Any

from cassandra.connection import Connection, locally_supported_compressions
from cassandra.protocol import ProtocolHandler
from cassandra.segment import SegmentCodec

from bench.codec import peer
from bench.codec.cases import load
from bench.codec.tasks import Task, calls
from bench.framing import cases

if TYPE_CHECKING:
    from collections.abc import Callable

about = peer.about


class _Connection(Connection):  # type: ignore[misc]  # it has no types
    """A connection without a socket."""

    def __init__(self, version: int, lz4: bool) -> None:
        super().__init__("127.0.0.1", protocol_version=version, user_type_map={})
        if lz4:
            self.compressor, self.decompressor = locally_supported_compressions["lz4"]
        if version >= 5:
            self._enable_checksumming()

    def close(self) -> None:
        raise RuntimeError(f"it was closed: {self.last_error}")

    def feed(self, data: bytes) -> None:
        """Process received bytes as the driver's event loops do."""
        self._iobuf.write(data)
        self.process_io_buffer()


class _Cutter(_Connection):
    """Counts the frames and discards them."""

    count = 0

    def process_msg(self, header: Any, body: bytes) -> None:
        self.count += 1


def prepare(case: dict[str, Any], variant: str) -> Task:
    return _WORKS[case["work"]](case)


def _codec(case: dict[str, Any]) -> Any:
    return SegmentCodec(*locally_supported_compressions["lz4"]) if case["lz4"] else SegmentCodec()


def _read(case: dict[str, Any]) -> Task:
    parts = cases.chunks(load(case, "{file}"))
    connection = _Cutter(case["version"], case["lz4"])

    def read() -> None:
        for part in parts:
            connection.feed(part)

    read()
    if connection.count != case["frames"]:
        raise ValueError("it reads another number of frames")
    return calls(read, units=case["frames"])


def _write(case: dict[str, Any]) -> Task:
    """Return the task of writing frames; the driver never lets frames share a segment."""
    frames = [cases.frame_of(5, index, case["size"]) for index in range(case["frames"])]
    codec = _codec(case)

    def write() -> bytes:
        out = []
        for frame in frames:
            buffer = BytesIO()
            codec.encode(buffer, frame)
            out.append(buffer.getvalue())
        return b"".join(out)

    connection = _Cutter(5, case["lz4"])
    connection.feed(write())
    if connection.count != len(frames):
        raise ValueError("it can't read the segment that it has written")
    return calls(write, units=len(frames))


def _encode(case: dict[str, Any]) -> Task:
    payload = cases.frame_of(5, 1, case["size"])
    codec = _codec(case)

    def call() -> bytes:
        buffer = BytesIO()
        codec.encode(buffer, payload)
        return buffer.getvalue()

    return calls(call)


def _decode(case: dict[str, Any]) -> Task:
    payload = cases.frame_of(5, 1, case["size"])
    codec = _codec(case)
    written = BytesIO()
    codec.encode(written, payload)
    data = written.getvalue()

    def call() -> Any:
        buffer = BytesIO(data)
        return codec.decode(buffer, codec.decode_header(buffer))

    if call().payload != payload:
        raise ValueError("the payload differs from the written one")
    return calls(call)


def _receive(case: dict[str, Any]) -> Task:
    version = case["version"]
    connection = _Connection(version, case["lz4"])
    metadata = peer.read_result(load(case, "v{version}.prepared"), version).column_metadata
    data = load(case, "{file}")
    ends = list(itertools.accumulate(case["sizes"]))
    parts = [data[end - size : end] for size, end in zip(case["sizes"], ends, strict=True)]
    decode = ProtocolHandler.decode_message

    def block() -> float:
        found: list[Any] = []
        request = (lambda message: found.append(len(message.parsed_rows)), decode, metadata)
        connection._requests = dict.fromkeys(range(1, case["frames"] + 1), request)
        connection.request_ids = deque()
        start = process_time()
        for part in parts:
            connection.feed(part)
        taken = process_time() - start
        if sum(found) != case["frames"]:
            raise ValueError(f"{sum(found)} responses to {case['frames']} requests")
        return taken

    block()
    return Task(lambda loops: sum(block() for _ in range(loops)), case["frames"])


_WORKS: dict[str, Callable[[dict[str, Any]], Task]] = {
    "frames": _read,
    "read": _read,
    "write": _write,
    "encode": _encode,
    "decode": _decode,
    "receive": _receive,
}
