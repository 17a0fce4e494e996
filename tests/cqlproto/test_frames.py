"""Readers of frames: any split of the stream, bounded memory and work."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.compression import compressor
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.frames import (
    HEADER_SIZE,
    SKIPPED,
    EnvelopeReader,
    FrameReader,
    RawFrame,
    write_frame,
)
from cqlproto.segments import MAX_PAYLOAD, write_segment, write_segments
from cqlproto.testing import segmented, splits
from tests.support.core_connections import (
    GARBAGE,
    cut,
)

if TYPE_CHECKING:
    from cqlproto.compression import Compressor

LIMIT = 1 << 16
LZ4 = compressor("lz4")


@st.composite
def frames(draw: st.DrawFn, *, responses: bool = True) -> RawFrame:
    return RawFrame(
        draw(st.integers(0, 127)) | (0x80 if responses else 0),
        draw(st.integers(0, 255)),
        draw(st.integers(-(2**15), 2**15 - 1)),
        draw(st.integers(0, 255)),
        draw(st.binary(max_size=40)),
    )


def reader(*, max_body: int = LIMIT, responses: bool = True) -> FrameReader:
    return FrameReader(max_body=max_body, responses=responses)


def envelopes(codec: Compressor | None, max_body: int = LIMIT) -> EnvelopeReader:
    return EnvelopeReader(max_body=max_body, responses=True, compressor=codec)


def drain(frame_reader: FrameReader | EnvelopeReader) -> list[RawFrame]:
    found = []
    while (frame := frame_reader.read()) is not None:
        found.append(frame)
    return found


def test_the_layout_of_a_frame() -> None:
    """v4 section 2"""
    data = bytes.fromhex("84 09 fffe 0c 00000003 616263")
    assert write_frame(0x84, 0x09, -2, 0x0C, b"abc") == data
    frame_reader = reader()
    frame_reader.feed(data)
    frame = frame_reader.read()
    assert frame is not None
    assert (frame.version, frame.flags, frame.stream) == (0x84, 0x09, -2)
    assert (frame.opcode, frame.body) == (0x0C, b"abc")
    assert bytes(frame) == data
    assert "version=0x84" in repr(frame)
    assert "<3 bytes>" in repr(frame)


def test_frames_are_compared_by_content() -> None:
    one = RawFrame(0x84, 0, 1, 8, b"x")
    assert one == RawFrame(0x84, 0, 1, 8, b"x")
    assert one != RawFrame(0x84, 0, 2, 8, b"x")
    assert one != bytes(one)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


@given(st.lists(frames()), st.lists(st.integers(0, 10_000)), st.lists(st.booleans()))
def test_however_the_stream_is_cut_the_frames_are_the_same(
    sent: list[RawFrame], offsets: list[int], asked: list[bool]
) -> None:
    """Also if frames are read only now and then."""
    data = b"".join(map(bytes, sent))
    frame_reader = reader()
    found = []
    fed = 0
    for index, piece in enumerate(cut(data, offsets)):
        frame_reader.feed(piece)
        fed += len(piece)
        if index >= len(asked) or asked[index]:
            found += drain(frame_reader)
        assert frame_reader.pending == fed - sum(len(bytes(frame)) for frame in found)
    found += drain(frame_reader)
    assert found == sent
    assert frame_reader.pending == 0


@given(st.lists(frames(), max_size=5), st.integers(1, 3))
def test_frames_may_be_read_one_by_one_between_pieces(sent: list[RawFrame], most: int) -> None:
    """A slow reader: more is fed before all frames have been read."""
    data = b"".join(map(bytes, sent))
    frame_reader = reader()
    found: list[RawFrame] = []
    for start in range(0, len(data), 7):
        frame_reader.feed(data[start : start + 7])
        asked = [frame_reader.read() for _ in range(most - 1)]
        found += [frame for frame in asked if frame is not None]
    assert found + drain(frame_reader) == sent


def test_a_short_frame_does_not_wait_for_the_length_of_a_long_one_before_it() -> None:
    frame_reader = reader()
    long, short = RawFrame(0x84, 0, 1, 8, bytes(100)), RawFrame(0x84, 0, 2, 8, b"")
    frame_reader.feed(bytes(long)[:50])
    assert frame_reader.read() is None
    frame_reader.feed(bytes(long)[50:] + bytes(short))
    assert frame_reader.read() == long
    frame_reader.feed(bytes(short))
    assert drain(frame_reader) == [short, short]


def test_two_pieces_at_every_split_and_byte_by_byte() -> None:
    sent = [RawFrame(0x84, 0, stream, 8, b"x" * stream) for stream in range(12)]
    data = b"".join(map(bytes, sent))
    for split in range(len(data) + 1):
        frame_reader = reader()
        frame_reader.feed(data[:split])
        found = drain(frame_reader)
        frame_reader.feed(data[split:])
        assert found + drain(frame_reader) == sent
    frame_reader = reader()
    found = []
    for byte in data:
        frame_reader.feed(bytes([byte]))
        found += drain(frame_reader)
    assert found == sent


def test_a_cheaper_way_to_the_same() -> None:
    frame_reader = reader()
    frame_reader.feed(write_frame(0x84, 1, 2, 3, b"4"))
    assert frame_reader.take() == (0x84, 1, 2, 3, b"4")
    assert frame_reader.take() is None


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_response_is_refused_at_its_first_byte_and_ever_after(data: bytes) -> None:
    for split in range(1, len(data) + 1):
        frame_reader = reader()
        frame_reader.feed(data[:split])
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="not a CQL response: the peer sent b'"):
                frame_reader.read()
        frame_reader.feed(data[split:])
        with pytest.raises(RemoteProtocolError):
            frame_reader.read()


@given(frames(), st.binary(min_size=1), st.lists(st.integers(0, 1000)))
def test_random_bytes_are_frames_or_refused(
    first: RawFrame, data: bytes, offsets: list[int]
) -> None:
    """Frames before the error are returned first, and the error stays."""
    stream = bytes(first) + data
    frame_reader = reader()
    found: list[RawFrame] = []
    try:
        for piece in cut(stream, offsets):
            frame_reader.feed(piece)
            while (frame := frame_reader.read()) is not None:
                found.append(frame)
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            frame_reader.read()
    else:
        made = b"".join(map(bytes, found))
        assert stream.startswith(made)
        assert frame_reader.pending == len(stream) - len(made)
    assert found[0] == first


def test_a_server_refuses_responses() -> None:
    frame_reader = reader(responses=False)
    frame_reader.feed(write_frame(4, 0, 0, 5, b"") + b"\x84")
    assert frame_reader.read() == RawFrame(4, 0, 0, 5, b"")
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="not a CQL request"):
            frame_reader.read()


@pytest.mark.parametrize("length", [LIMIT + 1, 2**31 - 1, -1, -(2**31)])
def test_a_length_out_of_bounds_is_refused_before_the_body_comes(length: int) -> None:
    header = bytes.fromhex("84 00 0000 08") + length.to_bytes(4, "big", signed=True)
    for split in range(HEADER_SIZE):
        frame_reader = reader()
        frame_reader.feed(header[:split])
        assert frame_reader.read() is None
        frame_reader.feed(header[split:])
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match=f"the header announces {length}"):
                frame_reader.read()


def test_the_longest_body_is_accepted() -> None:
    frame_reader = reader(max_body=10)
    frame_reader.feed(write_frame(0x84, 0, 0, 8, b"0123456789"))
    frame = frame_reader.read()
    assert frame is not None
    assert frame.body == b"0123456789"


@pytest.mark.parametrize("stream", [-(2**15) - 1, 2**15])
def test_a_stream_id_that_does_not_fit_is_a_local_error(stream: int) -> None:
    with pytest.raises(LocalProtocolError, match=str(stream)):
        write_frame(4, 0, stream, 5, b"")


@given(sent=frames(), data=st.binary(max_size=60), offsets=st.lists(st.integers(0, 100)))
def test_what_no_frame_was_made_of_can_be_taken_back(
    sent: RawFrame, data: bytes, offsets: list[int]
) -> None:
    """The reader is then as new, whatever it was waiting for."""
    whole = bytes(sent)
    frame_reader = reader()
    pieces = cut(whole + b"\x84" + data, offsets)
    given_back = b""
    for index, piece in enumerate(pieces):
        frame_reader.feed(piece)
        if frame_reader.pending >= len(whole) and frame_reader.read() == sent:
            given_back = frame_reader.take_back() + b"".join(pieces[index + 1 :])
            break
    assert given_back == b"\x84" + data
    assert (frame_reader.pending, frame_reader.take_back()) == (0, b"")
    frame_reader.feed(whole[:4])
    assert frame_reader.read() is None
    assert frame_reader.take_back() == whole[:4]
    frame_reader.feed(whole)
    assert frame_reader.read() == sent


def test_memory_grows_with_what_came_not_with_what_was_announced() -> None:
    frame_reader = reader(max_body=1 << 28)
    header = bytes.fromhex("84 00 0000 08") + (1 << 28).to_bytes(4, "big")
    tracemalloc.start()
    try:
        frame_reader.feed(header + b"x")
        assert frame_reader.read() is None
        assert tracemalloc.get_traced_memory()[1] < 4096
        for _ in range(100):
            frame_reader.feed(b"x" * 1000)
            assert frame_reader.read() is None
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()


def test_memory_is_given_back() -> None:
    frame_reader = reader(max_body=1 << 24)
    tracemalloc.start()
    try:
        frame = write_frame(0x84, 0, 0, 8, bytes(1 << 20))
        for _ in range(5):
            for start in range(0, len(frame), 1 << 16):
                frame_reader.feed(frame[start : start + (1 << 16)])
                frame_reader.read()
        frame_reader.feed(write_frame(0x84, 0, 0, 8, b""))
        assert frame_reader.read() is not None
        del frame
        assert tracemalloc.get_traced_memory()[0] < 4096
    finally:
        tracemalloc.stop()


# -- envelopes


codecs = pytest.mark.parametrize("codec", [None, LZ4], ids=["plain", "lz4"])


def part(*payloads: bytes, codec: Compressor | None = None, whole: bool = False) -> bytes:
    """Return segments that are parts of a long envelope, or self-contained."""
    return b"".join(
        write_segment(payload, self_contained=whole, compressor=codec) for payload in payloads
    )


@codecs
@given(sent=st.lists(frames(), max_size=6), data=st.data())
def test_envelopes_are_the_same_however_they_are_segmented_and_cut(
    codec: Compressor | None, sent: list[RawFrame], data: st.DataObject
) -> None:
    """v5 section 2: several envelopes in a segment, or one in several."""
    stream = data.draw(segmented([bytes(frame) for frame in sent], codec))
    frame_reader = envelopes(codec)
    found = []
    for piece in data.draw(splits(stream)):
        frame_reader.feed(piece)
        found += drain(frame_reader)
    assert found == sent
    assert frame_reader.pending == 0
    assert frame_reader.take() is None


@codecs
def test_long_envelopes_and_short_ones_between_them(codec: Compressor | None) -> None:
    noise = hashlib.shake_256(b"noise").digest(3 * MAX_PAYLOAD)
    sizes = [5, MAX_PAYLOAD - 9, MAX_PAYLOAD - 8, 0, 3 * MAX_PAYLOAD - 9, 3 * MAX_PAYLOAD - 8, 7, 7]
    sent = [RawFrame(0x85, 0, n, 8, (noise + b"x")[:size]) for n, size in enumerate(sizes)]
    stream = write_segments([bytes(frame) for frame in sent], codec)
    for step in (len(stream), 50_000):
        frame_reader = envelopes(codec, 1 << 20)
        found = []
        for start in range(0, len(stream), step):
            frame_reader.feed(stream[start : start + step])
            found += drain(frame_reader)
        assert found == sent
        assert frame_reader.pending == 0


@codecs
def test_pending_are_the_bytes_of_segments_and_of_parts(codec: Compressor | None) -> None:
    frame = write_frame(0x85, 0, 1, 8, b"0123456789")
    first, second = part(frame[:12], codec=codec), part(frame[12:], codec=codec)
    frame_reader = envelopes(codec)
    frame_reader.feed(first[:3])
    assert (frame_reader.take(), frame_reader.pending) == (None, 3)
    frame_reader.feed(first[3:] + second[:4])
    assert (frame_reader.take(), frame_reader.pending) == (None, 12 + 4)
    frame_reader.feed(second[4:])
    assert (frame_reader.take(), frame_reader.pending) == ((0x85, 0, 1, 8, b"0123456789"), 0)


ONE = write_frame(0x85, 0, 1, 8, b"0123456789")
LIES = {
    "a part in a segment of its own": (part(ONE[:9], whole=True), "ends within an envelope"),
    "a header cut short": (part(ONE[:4], whole=True), "ends within an envelope"),
    "one and a half": (part(ONE + ONE[:-1], whole=True), "ends within an envelope"),
    "a whole one between parts": (
        part(ONE[:12]) + part(ONE, whole=True),
        "self-contained segment within a long envelope",
    ),
    "the last part": (
        part(ONE[:12]) + part(ONE[12:], whole=True),
        "self-contained segment within a long envelope",
    ),
    "nothing between parts": (
        part(ONE[:12]) + part(b"", whole=True),
        "self-contained segment within a long envelope",
    ),
    "two that say they are one": (part(ONE + ONE), "more than one envelope"),
    "more than the rest": (part(ONE[:12], ONE[12:] + b"\x85"), "more than one envelope"),
    "no response": (part(b"HTTP/1.1 400", whole=True), "not a CQL response"),
    "too long": (part(write_frame(0x85, 0, 1, 8, bytes(LIMIT + 1))[:9]), "the header announces"),
    "a wrong checksum": (part(ONE, whole=True)[:-1] + b"!", "checksum"),
}


@pytest.mark.parametrize("name", LIES)
def test_segments_that_lie_are_refused_for_good(name: str) -> None:
    """Whole frames before the error are returned first; later calls raise it again."""
    lie, match = LIES[name]
    true = part(ONE, whole=True) + part(ONE[:7], ONE[7:])
    count = 2 + (name == "one and a half")
    behind = part(ONE, whole=True) * 2
    for step in (1, 7, 1 << 20):
        frame_reader = envelopes(None, LIMIT)
        found = []
        errors = []
        stream = true + lie + behind
        for start in range(0, len(stream), step):
            frame_reader.feed(stream[start : start + step])
            try:
                while (frame := frame_reader.read()) is not None:
                    found.append(bytes(frame))
            except RemoteProtocolError as exc:
                errors.append(exc)
        assert found == [ONE] * count
        assert errors
        assert len(set(map(id, errors))) == 1
        with pytest.raises(RemoteProtocolError, match=match):
            frame_reader.take()


def test_malformed_lz4_under_right_checksums_is_refused_for_good() -> None:
    class Wrong:
        def compress_block(self, data: bytes) -> bytes:
            return b"\xff" * 3

    wrong: Any = Wrong()
    frame_reader = envelopes(LZ4)
    frame_reader.feed(part(ONE, codec=wrong, whole=True) + part(ONE, codec=LZ4, whole=True))
    errors = []
    for _ in range(3):
        with pytest.raises(RemoteProtocolError, match="LZ4") as info:
            frame_reader.read()
        errors.append(info.value)
    assert errors == [errors[0]] * 3


@codecs
def test_empty_segments_say_nothing(codec: Compressor | None) -> None:
    frame_reader = envelopes(codec)
    frame_reader.feed(part(b"", codec=codec, whole=True) + part(b"", b"", codec=codec))
    assert (frame_reader.take(), frame_reader.pending) == (None, 0)
    frame_reader.feed(part(ONE[:3], b"", ONE[3:], codec=codec) + part(ONE, codec=codec, whole=True))
    assert [bytes(frame) for frame in drain(frame_reader)] == [ONE, ONE]


@codecs
@given(data=st.binary(max_size=300), offsets=st.lists(st.integers(0, 300), max_size=4))
def test_random_bytes_are_envelopes_or_refused(
    codec: Compressor | None, data: bytes, offsets: list[int]
) -> None:
    frame_reader = envelopes(codec)
    errors: list[RemoteProtocolError] = []
    for piece in cut(data, offsets):
        frame_reader.feed(piece)
        try:
            drain(frame_reader)
        except RemoteProtocolError as exc:
            errors.append(exc)
    assert all(error is errors[0] for error in errors)


# -- frames that are skipped


def skipping(segmented: bool, codec: Compressor | None = None) -> FrameReader | EnvelopeReader:
    if segmented:
        return EnvelopeReader(max_body=20, responses=True, compressor=codec, skips=True)
    return FrameReader(max_body=20, responses=True, skips=True)


def taken(frame_reader: FrameReader | EnvelopeReader) -> list[tuple[int, int, int, int, bytes]]:
    found = []
    while (parts := frame_reader.take()) is not None:
        found.append(parts)
    return found


@pytest.mark.parametrize("kind", ["frames", "segments", "lz4", "parts"])
@given(
    sizes=st.lists(st.sampled_from([0, 5, 20, 21, 40, 200_000]), max_size=5),
    offsets=st.lists(st.integers(0, 500), max_size=6),
)
@settings(max_examples=40)
def test_frames_that_are_too_long_are_announced_and_skipped(
    kind: str, sizes: list[int], offsets: list[int]
) -> None:
    sent = [write_frame(0x84, 1, n, 8, bytes(size)) for n, size in enumerate(sizes)]
    codec = LZ4 if kind == "lz4" else None
    if kind == "frames":
        stream = b"".join(sent)
    elif kind == "parts":  # each in segments of its own, as a long one is
        stream = b"".join(
            write_segment(frame[begin : begin + 100_000], self_contained=False)
            for frame in sent
            for begin in range(0, len(frame), 100_000)
        )
    else:
        stream = write_segments(sent, codec)
    frame_reader = skipping(kind != "frames", codec)
    found = []
    for piece in cut(stream, offsets):
        frame_reader.feed(piece)
        found += taken(frame_reader)
    expected: list[tuple[int, int, int, int, bytes]] = []
    for n, size in enumerate(sizes):
        if size > 20:
            expected.append((0x84 | SKIPPED, 1, n, 8, size.to_bytes(4, "big")))
            expected.append((0x84, 1, n, 8, b""))
        else:
            expected.append((0x84, 1, n, 8, bytes(size)))
    assert found == expected
    assert frame_reader.pending == 0


def test_what_is_left_of_a_frame_that_is_skipped_is_pending() -> None:
    for frame_reader in (skipping(False), skipping(True)):
        frame = write_frame(0x84, 0, 1, 8, bytes(1000))
        if isinstance(frame_reader, EnvelopeReader):
            frame_reader.feed(write_segment(frame[:500], self_contained=False))
        else:
            frame_reader.feed(frame[:500])
        assert len(taken(frame_reader)) == 1
        assert frame_reader.pending == 500


def test_a_negative_length_is_refused_where_frames_are_skipped_too() -> None:
    header = bytes.fromhex("84 00 0001 08 ffffffff")
    for frame_reader in (skipping(False), skipping(True)):
        data = header + bytes(20)
        if isinstance(frame_reader, EnvelopeReader):
            data = write_segment(data, self_contained=True)
        frame_reader.feed(data)
        with pytest.raises(RemoteProtocolError, match="the header announces -1"):
            frame_reader.take()


def test_more_than_one_envelope_in_segments_of_a_long_one_that_is_skipped() -> None:
    frame_reader = skipping(True)
    frame = write_frame(0x84, 0, 1, 8, bytes(100))
    frame_reader.feed(write_segment(frame + b"\x84", self_contained=False))
    assert frame_reader.take() is not None
    with pytest.raises(RemoteProtocolError, match="more than one envelope"):
        frame_reader.take()
