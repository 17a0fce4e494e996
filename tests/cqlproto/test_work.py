"""The work of the readers of frames and segments is linear in the number of bytes.

The tests count copied bytes instead of seconds, so they do not depend on the machine.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cqlproto.compression import compressor
from cqlproto.frames import HEADER_SIZE, EnvelopeReader, FrameReader, write_frame
from cqlproto.segments import SegmentReader, write_segments

LZ4 = compressor("lz4")
# Where the readers are written, and what they are made on.
MODULES = {
    kind.__module__
    for reader in (FrameReader, EnvelopeReader, SegmentReader)
    for kind in reader.__mro__
    if kind is not object
}


class Copies:
    """Counts the bytes that readers copy.

    It replaces ``bytes`` and ``bytearray`` in their modules. Deleting from the front of a
    ``bytearray`` copies nothing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        copies = self
        self.count = 0

        class Data(bytes):
            def __new__(cls, data: Any = b"") -> Data:
                copies.count += len(data)
                return super().__new__(cls, data)

            def __getitem__(self, key: Any) -> Any:
                found = super().__getitem__(key)
                return Data(found) if isinstance(key, slice) else found

        class Kept(bytearray):
            def __iadd__(self, data: Any) -> Any:  # type: ignore[misc]  # as bytearray has it
                copies.count += len(data)
                return super().__iadd__(data)

            def __getitem__(self, key: Any) -> Any:
                found = super().__getitem__(key)
                if not isinstance(key, slice):
                    return found
                copies.count += len(range(*key.indices(len(self))))
                return Kept(found)

            def __setitem__(self, key: Any, data: Any) -> None:
                copies.count += len(self) + len(data)
                super().__setitem__(key, data)

        self.of = Data
        for name in MODULES:
            monkeypatch.setattr(f"{name}.bytes", Data, raising=False)
            monkeypatch.setattr(f"{name}.bytearray", Kept, raising=False)


SMALL = write_frame(0x84, 0, 0, 8, bytes(91))
# Frames, in pieces of what size they come, and how many frames are asked for after each.
WORK: dict[str, tuple[list[bytes], int, int]] = {
    "one large frame in small pieces": ([write_frame(0x84, 0, 0, 8, bytes(1 << 22))], 1024, 9),
    "large frames across pieces": ([write_frame(0x84, 0, 0, 8, bytes(70_000))] * 40, 4096, 9),
    "small frames in one piece": ([SMALL] * 8000, 1 << 30, 10_000),
    "small frames across pieces": ([SMALL] * 8000, 299, 9),
    "small frames, lagging": ([SMALL] * 8000, 299, 1),
    "small frames byte by byte": ([SMALL] * 400, 1, 9),
}


@pytest.mark.parametrize("kind", ["frames", "segments", "segments of lz4"])
@pytest.mark.parametrize("name", WORK)
def test_every_byte_is_copied_a_few_times_only(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be hundreds of times if each piece or frame copied the whole buffer."""
    sent, step, most = WORK[name]
    data = b"".join(sent)
    frame_reader: FrameReader | EnvelopeReader
    copies = Copies(monkeypatch)
    if kind == "frames":
        frame_reader = FrameReader(max_body=1 << 30, responses=True)
    else:
        codec = LZ4 if kind.endswith("lz4") else None
        if codec is not None:
            plain = codec.decompress_block
            codec = SimpleNamespace(
                compress_block=codec.compress_block,
                decompress_block=lambda data, length: copies.of(plain(data, length)),
            )
        frame_reader = EnvelopeReader(max_body=1 << 30, responses=True, compressor=codec)
        # as many segments as frames: that many are met
        data = b"".join(write_segments([frame], codec) for frame in sent)
    copies.count = 0
    found = 0
    for begin in range(0, len(data), step):
        frame_reader.feed(copies.of(data[begin : begin + step]))
        for _ in range(most):
            if frame_reader.take() is None:
                break
            found += 1
    while frame_reader.take() is not None:
        found += 1
    assert (found, frame_reader.pending) == (len(sent), 0)
    size = max(len(data), sum(map(len, sent)))
    pieces = -(-len(data) // step)
    assert sum(map(len, sent)) - HEADER_SIZE * len(sent) <= copies.count, "once is what it takes"
    assert copies.count < 8 * size + 20 * pieces, "headers are looked at again for each piece"
