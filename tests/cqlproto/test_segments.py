"""Segments: vectors, every split, and every flipped bit (v5 section 2)."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import LocalProtocolError, RemoteProtocolError, segments
from cqlproto.compression import Compressor, compressor
from cqlproto.segments import (
    MAX_PAYLOAD,
    Segment,
    SegmentReader,
    crc24,
    write_segment,
    write_segments,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "compressed.jsonl"
LZ4 = compressor("lz4")
compressions = pytest.mark.parametrize("codec", [None, LZ4], ids=["plain", "lz4"])


def generated(recipe: list[dict[str, Any]], payload: bytes = b"") -> bytes:
    """Return the bytes of a recipe of the vectors."""
    out = bytearray()
    for step in recipe:
        if "hex" in step:
            out += bytes.fromhex(step["hex"])
        elif "repeat" in step:
            out += bytes.fromhex(step["repeat"]) * step["times"]
        elif "sha256ctr" in step:
            blocks = range(step["length"] // 32 + 1)
            made = [hashlib.sha256(f"{step['sha256ctr']}:{i}".encode()).digest() for i in blocks]
            out += b"".join(made)[: step["length"]]
        else:
            offset, length = step["slice"]
            out += payload[offset : offset + length]
    return bytes(out)


def part(data: dict[str, Any], name: str, payload: bytes = b"") -> bytes:
    text = data[f"{name}_hex"]
    found = generated(data[f"{name}_gen"], payload) if text is None else bytes.fromhex(text)
    assert hashlib.sha256(found).hexdigest() == data[f"{name}_sha256"]
    return found


def vectors() -> list[Any]:
    rows = [json.loads(line) for line in VECTORS.read_text().splitlines()]
    return [pytest.param(row, id=row["name"]) for row in rows if row["kind"] != "frame"]


def read_all(data: bytes, codec: Compressor | None, size: int = 1 << 20) -> list[Segment]:
    reader = SegmentReader(codec)
    found = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        while (segment := reader.read()) is not None:
            found.append(segment)
    assert reader.pending == 0
    return found


@pytest.mark.parametrize("vector", vectors())
def test_vectors(vector: dict[str, Any]) -> None:
    """Made by an independent implementation; compressed ones are only read."""
    codec = LZ4 if vector["compression"] == "lz4" else None
    payload = part(vector, "payload")
    parts = vector.get("segments", [vector | {"payload_offset": 0}])
    wire = [part(each, "segment", payload) for each in parts]
    for each, data in zip(parts, wire, strict=True):
        start = each["payload_offset"]
        inside = payload[start : start + each["payload_len"]]
        [segment] = read_all(data, codec)
        assert (segment.payload, segment.self_contained) == (inside, each["self_contained"])
        made = write_segment(inside, self_contained=each["self_contained"], compressor=codec)
        if each["stored_uncompressed"]:
            assert made == data
        else:
            assert [found.payload for found in read_all(made, codec)] == [inside]
    if vector["kind"] == "split" and codec is None:
        assert write_segments([payload]) == b"".join(wire)


@pytest.mark.parametrize("vector", vectors()[:4])
def test_every_split(vector: dict[str, Any]) -> None:
    data = part(vector, "segment") * 3
    whole = [segment.payload for segment in read_all(data, None)]
    for size in range(1, len(data)):
        assert [segment.payload for segment in read_all(data, None, size)] == whole


@compressions
@settings(max_examples=60, deadline=None)
@given(
    envelopes=st.lists(st.binary(min_size=1, max_size=2000), max_size=6), size=st.integers(1, 3000)
)
def test_envelopes_come_back(codec: Compressor | None, envelopes: list[bytes], size: int) -> None:
    found = read_all(write_segments(envelopes, codec), codec, size)
    assert b"".join(segment.payload for segment in found) == b"".join(envelopes)
    assert all(segment.self_contained for segment in found)
    assert len(found) == bool(envelopes)


@compressions
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([MAX_PAYLOAD], [(MAX_PAYLOAD, True)]),
        ([MAX_PAYLOAD + 1], [(MAX_PAYLOAD, False), (1, False)]),
        ([2 * MAX_PAYLOAD], [(MAX_PAYLOAD, False)] * 2),
        ([MAX_PAYLOAD, 1], [(MAX_PAYLOAD, True), (1, True)]),
        ([9, MAX_PAYLOAD + 5, 9, 9], [(9, True), (MAX_PAYLOAD, False), (5, False), (18, True)]),
    ],
)
def test_envelopes_share_segments_or_are_split(
    codec: Compressor | None, sizes: list[int], expected: list[tuple[int, bool]]
) -> None:
    """v5 section 2: a long envelope has its own segments, in order."""
    envelopes = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    found = read_all(write_segments(envelopes, codec), codec)
    assert [(len(segment.payload), segment.self_contained) for segment in found] == expected
    assert b"".join(segment.payload for segment in found) == b"".join(envelopes)


def test_what_compression_would_lengthen_is_stored_plain() -> None:
    noise = hashlib.sha256(b"noise").digest()
    data = write_segment(noise, self_contained=True, compressor=LZ4)
    assert noise in data
    assert int.from_bytes(data[:5], "little") >> 17 & MAX_PAYLOAD == 0
    assert [segment.payload for segment in read_all(data, LZ4)] == [noise]


def test_headers_of_every_length_and_kind_and_with_reserved_bits() -> None:
    """More headers than are cached, each more than once."""
    for size in [*range(1100), 70_000, *range(1100)]:
        for self_contained in (True, False):
            data = write_segment(bytes(size), self_contained=self_contained)
            head = size | self_contained << 17
            assert data[:6] == (head | crc24(head, 3) << 24).to_bytes(6, "little")
            reserved = head | size % 64 << 18
            other = (reserved | crc24(reserved, 3) << 24).to_bytes(6, "little") + data[6:]
            for segment in read_all(data + other, None):
                assert (len(segment.payload), segment.self_contained) == (size, self_contained)
    assert len(segments._starts) <= segments._CACHED
    assert len(segments._read) <= segments._CACHED


@compressions
@pytest.mark.parametrize("size", [0, 1, 200, 70_000])
def test_payloads_are_found_where_they_lie(codec: Compressor | None, size: int) -> None:
    payload = hashlib.shake_256(b"noise").digest(size)
    sent = write_segment(payload, self_contained=True, compressor=codec)
    reader = SegmentReader(codec)
    locate = reader.locator()
    assert locate() is None
    reader.feed(sent * 2)
    for _ in range(2):
        found = locate()
        assert found is not None
        data, start, stop, self_contained = found
        assert (data[start:stop], self_contained) == (payload, True)
        assert data is reader._data, "noise is stored plain, and no copy made of it"
    assert locate() is None
    assert reader.pending == 0


def test_a_payload_that_is_too_long() -> None:
    with pytest.raises(LocalProtocolError, match="got 131072"):
        write_segment(bytes(MAX_PAYLOAD + 1), self_contained=False)


@compressions
def test_every_wrong_bit_is_noticed(codec: Compressor | None) -> None:
    data = write_segment(b"an envelope" * 3, self_contained=True, compressor=codec)
    for bit in range(len(data) * 8):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        reader = SegmentReader(codec)
        reader.feed(bytes(wrong))
        with pytest.raises(RemoteProtocolError, match="checksum"):
            reader.read()


@compressions
@given(data=st.binary(max_size=200))
def test_random_bytes_are_segments_or_a_protocol_error(
    codec: Compressor | None, data: bytes
) -> None:
    reader = SegmentReader(codec)
    reader.feed(data)
    try:
        segment = reader.read()
    except RemoteProtocolError:
        return
    assert segment is None or len(segment.payload) <= MAX_PAYLOAD


@given(payload=st.binary(max_size=60), plain=st.integers(1, MAX_PAYLOAD))
def test_a_payload_under_right_checksums_that_is_no_lz4(payload: bytes, plain: int) -> None:
    head = (len(payload) | plain << 17 | 1 << 34).to_bytes(5, "little")
    checksum = zlib.crc32(payload, zlib.crc32(b"\xfa\x2d\x55\xca")).to_bytes(4, "little")
    reader = SegmentReader(LZ4)
    reader.feed(
        head + crc24(int.from_bytes(head, "little"), 5).to_bytes(3, "little") + payload + checksum
    )
    try:
        segment = reader.read()
    except RemoteProtocolError:
        return
    assert segment is not None and len(segment.payload) == plain


def test_what_was_refused_is_refused_again() -> None:
    head = (3 | 9 << 17 | 1 << 34).to_bytes(5, "little")
    payload = b"\xff" * 3
    checksum = zlib.crc32(payload, zlib.crc32(b"\xfa\x2d\x55\xca")).to_bytes(4, "little")
    malformed = (
        head + crc24(int.from_bytes(head, "little"), 5).to_bytes(3, "little") + payload + checksum
    )
    right = write_segment(b"right", self_contained=True, compressor=LZ4)
    for wrong in (malformed, b"\0" * 8, right[:-1] + b"!"):
        reader = SegmentReader(LZ4)
        reader.feed(right + wrong + right)
        segment = reader.read()
        assert segment is not None and segment.payload == b"right"
        for _ in range(3):
            with pytest.raises(RemoteProtocolError, match="checksum|LZ4"):
                reader.read()


def test_the_checksum_of_headers() -> None:
    """Against the bit by bit definition (v5 section 2)."""
    for data in (b"\0\0\0", b"\xff\xff\3", b"\1\2\3", b"\1\2\3\4\5"):
        crc = 0x875060
        for byte in data:
            crc ^= byte << 16
            for _ in range(8):
                crc <<= 1
                if crc & 0x1000000:
                    crc ^= 0x1974F0B
        assert crc24(int.from_bytes(data, "little"), len(data)) == crc


def test_a_segment_shows_its_size() -> None:
    assert repr(Segment(b"abc", True)) == "Segment(<3 bytes, self-contained>)"
    assert repr(Segment(b"abc", False)) == "Segment(<3 bytes, part>)"
