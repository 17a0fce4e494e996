"""cqlproto as a contender: its readers and writers, and its connection."""

from __future__ import annotations

import itertools
from time import process_time
from typing import TYPE_CHECKING, Any

from bench.codec import ours
from bench.codec.cases import load
from bench.codec.tasks import Task, calls
from bench.framing import cases
from cqlproto import Consistency, ProtocolVersion, ResponseReceived
from cqlproto.compression import compressor
from cqlproto.connection import ClientConnection
from cqlproto.cqltypes import parse_type
from cqlproto.frames import EnvelopeReader, FrameReader
from cqlproto.messages import BindMetadata, Column, Prepared, QueryParameters, ResultMetadata, Rows
from cqlproto.rows import Binder, decode_rows
from cqlproto.segments import SegmentReader, write_segment, write_segments
from cqlproto.testing import linked_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cqlproto.compression import Compressor

about = ours.about
_MAX_BODY = 256 * 1024 * 1024


def write_files(folder: Path) -> None:
    """Write the PREPARED of the received rows, which the peers' workers need."""
    for version in (ProtocolVersion.V4, ProtocolVersion.V5):
        out = bytearray()
        _prepared(version).write_body(out, version)
        (folder / f"v{version:d}.prepared").write_bytes(out)


def segments(frames: list[bytes], lz4: bool) -> bytes:
    """Return segments that contain these frames."""
    return write_segments(frames, _compressor({"lz4": lz4}))


def prepare(case: dict[str, Any], variant: str) -> Task:
    return _WORKS[case["work"]](case, variant)


def _compressor(case: dict[str, Any]) -> Compressor | None:
    return compressor("lz4") if case.get("lz4") else None


def _drain(reader: FrameReader | EnvelopeReader) -> int:
    count = 0
    while reader.read() is not None:
        count += 1
    return count


def _stream(reader: FrameReader | EnvelopeReader, data: bytes, frames: int) -> Task:
    """Return the task of feeding a stream in chunks and reading its frames."""
    parts = cases.chunks(data)

    def read() -> int:
        count = 0
        for part in parts:
            reader.feed(part)
            count += _drain(reader)
        return count

    if read() != frames:
        raise ValueError("it reads another number of frames")
    return calls(read, units=frames)


def _frames(case: dict[str, Any], variant: str) -> Task:
    data = load(case, "{file}")
    return _stream(FrameReader(max_body=_MAX_BODY, responses=True), data, case["frames"])


def _read(case: dict[str, Any], variant: str) -> Task:
    reader = EnvelopeReader(max_body=_MAX_BODY, responses=True, compressor=_compressor(case))
    return _stream(reader, load(case, "{file}"), case["frames"])


def _write(case: dict[str, Any], variant: str) -> Task:
    frames = [cases.frame_of(5, index, case["size"]) for index in range(case["frames"])]
    codec = _compressor(case)
    if write_segments(frames, codec) != load(case, "{file}"):
        raise ValueError("the written segments differ from the read ones")
    return calls(lambda: write_segments(frames, codec), units=len(frames))


def _encode(case: dict[str, Any], variant: str) -> Task:
    payload = cases.frame_of(5, 1, case["size"])
    codec = _compressor(case)
    return calls(lambda: write_segment(payload, self_contained=True, compressor=codec))


def _decode(case: dict[str, Any], variant: str) -> Task:
    payload = cases.frame_of(5, 1, case["size"])
    codec = _compressor(case)
    data = write_segment(payload, self_contained=True, compressor=codec)
    reader = SegmentReader(codec)

    def call() -> Any:
        reader.feed(data)
        return reader.read()

    if call().payload != payload:
        raise ValueError("the payload differs from the written one")
    return calls(call)


def _prepared(version: ProtocolVersion) -> Prepared:
    columns = tuple(
        Column("bench", "rows", name, parse_type(cql_type))
        for name, cql_type in (("id", "int"), ("name", "text"))
    )
    metadata_id = bytes(16) if version.has_result_metadata_id else None
    metadata = ResultMetadata.of(columns, version)
    return Prepared(bytes(16), metadata_id, BindMetadata(columns, (0,)), metadata)


def _receive(case: dict[str, Any], variant: str) -> Task:
    """Send requests, untimed, and receive their responses."""
    version = ProtocolVersion(case["version"])
    compression = "lz4" if case["lz4"] else None
    client = ClientConnection(version=version, compression=compression)
    linked_pair(client=client)
    binder = Binder(_prepared(version), QueryParameters(Consistency.LOCAL_ONE), version)
    data = load(case, "{file}")
    sizes = case["sizes"]
    ends = list(itertools.accumulate(sizes))
    parts = [data[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    take: Callable[[], int]
    next_event = client.next_event

    def events() -> int:
        count = 0
        for part in parts:
            client.receive_data(part)
            while next_event() is not None:
                count += 1
        return count

    def rows() -> int:
        count = 0
        for part in parts:
            client.receive_data(part)
            while (event := next_event()) is not None:
                assert isinstance(event, ResponseReceived)
                message = event.message
                assert isinstance(message, Rows)
                count += len(decode_rows(message, tuple))
        return count

    take = rows if variant == "rows" else events

    def block() -> float:
        for _ in range(case["frames"]):
            client.send_bound(binder, (1, "name"))
        client.data_to_send()
        start = process_time()
        count = take()
        taken = process_time() - start
        if count != case["frames"] or client.in_flight:
            raise ValueError(f"{count} responses to {case['frames']} requests")
        return taken

    block()
    return Task(lambda loops: sum(block() for _ in range(loops)), case["frames"])


_WORKS: dict[str, Callable[[dict[str, Any], str], Task]] = {
    "frames": _frames,
    "read": _read,
    "write": _write,
    "encode": _encode,
    "decode": _decode,
    "receive": _receive,
}
