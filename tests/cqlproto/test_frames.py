"""Frames: cut out of a stream however it comes, bounded in memory and in work."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.frames import HEADER_SIZE, FrameReader, RawFrame, write_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 1 << 16

GARBAGE = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "TLS alert": bytes.fromhex("15030100020228"),
    "TLS ServerHello": bytes.fromhex("160303003d020000390303") + bytes(50),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "SMTP": b"220 mail.example.org ESMTP\r\n",
    "MySQL": bytes.fromhex("4a0000000a") + b"8.0.36\0" + bytes(67),
    "zero": b"\0",
    "a request": write_frame(4, 0, 0, 5, b""),
}


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


def drain(frame_reader: FrameReader) -> list[RawFrame]:
    found = []
    while (frame := frame_reader.read()) is not None:
        found.append(frame)
    return found


def cut(data: bytes, offsets: Iterable[int]) -> list[bytes]:
    """Cut the data at offsets; two equal ones leave an empty piece."""
    bounds = [0, *sorted(offset % (len(data) + 1) for offset in offsets), len(data)]
    return [data[start:stop] for start, stop in zip(bounds, bounds[1:], strict=False)]


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
    """Also if frames are asked for only now and then."""
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
    """A slow reader: more is fed before what is there has been read."""
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
    """What came before the error is delivered first, and the error stays."""
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
            with pytest.raises(RemoteProtocolError, match=f"{length} bytes is announced"):
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


WORK = {
    "one large frame in small pieces": (write_frame(0x84, 0, 0, 8, bytes(1 << 24)), 1024),
    "large frames across pieces": (write_frame(0x84, 0, 0, 8, bytes(70_000)) * 300, 4096),
    "small frames in one piece": (write_frame(0x84, 0, 0, 8, bytes(91)) * 40_000, 1 << 30),
    "small frames across pieces": (write_frame(0x84, 0, 0, 8, bytes(91)) * 40_000, 299),
    "small frames byte by byte": (write_frame(0x84, 0, 0, 8, bytes(91)) * 3000, 1),
}


@pytest.mark.parametrize("most", [1, 1_000_000], ids=["lagging", "keeping up"])
@pytest.mark.parametrize("name", WORK)
def test_work_grows_with_the_bytes_not_with_their_square(name: str, most: int) -> None:
    """If all that is kept were copied for each piece or each frame, that would be gigabytes.

    Counted are seconds of the processor: 0.1 or less is usual, ten and more with such copying.
    """
    data, step = WORK[name]
    frame_reader = reader(max_body=1 << 30)
    count = 0
    start = time.thread_time()
    for begin in range(0, len(data), step):
        frame_reader.feed(data[begin : begin + step])
        for _ in range(most):
            if frame_reader.take() is None:
                break
            count += 1
    while frame_reader.take() is not None:
        count += 1
    spent = time.thread_time() - start
    assert frame_reader.pending == 0
    assert count * HEADER_SIZE < len(data)
    assert spent < 2
