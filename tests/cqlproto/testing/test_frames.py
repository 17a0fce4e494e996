"""Strategies return frames with every flag and prefix that is legal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto.compression import Compressor, compressor
from cqlproto.enums import FLAG_COMPRESSED, ProtocolVersion
from cqlproto.frames import EnvelopeReader, FrameReader
from cqlproto.messages import (
    Error,
    Event,
    Options,
    Query,
    Ready,
    Startup,
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
)
from cqlproto.segments import MAX_PAYLOAD, Segment, SegmentReader
from cqlproto.testing import frames, request_frames, response_frames, segmented
from tests.cqlproto.testing.examples import comes, never_comes, run_examples

if TYPE_CHECKING:
    from cqlproto.testing import Framed

V3, V4, V5 = ProtocolVersion
VERSIONS = pytest.mark.parametrize("version", ProtocolVersion)
LZ4, SNAPPY = compressor("lz4"), compressor("snappy")
CODECS = [
    (V3, LZ4),
    (V3, SNAPPY),
    (V4, LZ4),
    (V4, SNAPPY),
    *((each, None) for each in (V3, V4, V5)),
]
codecs = pytest.mark.parametrize(("version", "codec"), CODECS)


def plain_body(framed: Framed[Any], codec: Compressor | None) -> bytes:
    """Return the body of a frame, decompressed if its flags say so."""
    reader = FrameReader(max_body=1 << 20, responses=framed.frame.version >= 0x80)
    reader.feed(bytes(framed))
    frame = reader.read()
    assert frame == framed.frame
    assert reader.pending == 0
    if not frame.flags & FLAG_COMPRESSED:
        return frame.body
    assert codec is not None
    return codec.decompress(frame.body, 1 << 20)


@codecs
@given(data=st.data())
def test_requests(version: ProtocolVersion, codec: Compressor | None, data: st.DataObject) -> None:
    framed: Framed[Any] = data.draw(request_frames(version, compressor=codec))
    frame = framed.frame
    assert frame.version == version
    assert frame.stream >= 0
    assert not (isinstance(framed.message, Startup) and frame.flags & FLAG_COMPRESSED)
    body = plain_body(framed, codec)
    payload, pos = read_request_prefix(body, frame.flags, version)
    assert payload == framed.payload
    assert bool(frame.flags & 0x02) == framed.tracing
    assert read_request(frame.opcode, body, pos, version) == framed.message


@codecs
@given(data=st.data())
def test_responses(version: ProtocolVersion, codec: Compressor | None, data: st.DataObject) -> None:
    framed: Framed[Any] = data.draw(response_frames(version, compressor=codec))
    frame = framed.frame
    assert frame.version == version | 0x80
    assert (frame.stream == -1) == isinstance(framed.message, Event)
    body = plain_body(framed, codec)
    tracing_id, warnings, payload, pos = read_prefix(body, frame.flags, version)
    assert (tracing_id, tuple(warnings)) == (framed.tracing_id, framed.warnings)
    assert payload == framed.payload
    assert read_response(frame.opcode, body, pos, version) == framed.message


@VERSIONS
def test_what_may_stand_around_a_message_comes(version: ProtocolVersion) -> None:
    asked, told = request_frames(version, Query), response_frames(version, Ready)
    assert comes(asked, lambda framed: framed.tracing)
    assert comes(asked, lambda framed: not framed.frame.flags)
    assert comes(told, lambda framed: framed.tracing_id is not None)
    assert comes(told, lambda framed: not framed.frame.flags)
    found = never_comes if version is V3 else comes
    assert found(asked, lambda framed: framed.payload is not None)
    assert found(told, lambda framed: framed.payload is not None)
    assert found(told, lambda framed: bool(framed.warnings))


@pytest.mark.parametrize("codec", [LZ4, SNAPPY], ids=["lz4", "snappy"])
def test_compressed_and_plain_bodies_come(codec: Compressor) -> None:
    for wanted in (0, FLAG_COMPRESSED):
        assert comes(
            request_frames(V4, Query, compressor=codec),
            lambda framed: framed.frame.flags & FLAG_COMPRESSED == wanted,  # noqa: B023 - used here
        )
        assert comes(
            response_frames(V4, Error, compressor=codec),
            lambda framed: framed.frame.flags & FLAG_COMPRESSED == wanted,  # noqa: B023 - used here
        )


def test_what_is_asked_for_in_vain() -> None:
    for make in (request_frames, response_frames):
        with pytest.raises(InvalidArgument, match="must be None on v5"):
            make(V5, compressor=LZ4)
    wrong: Any = Error
    with pytest.raises(InvalidArgument, match="must be classes of requests, got Error"):
        request_frames(V4, wrong)
    wrong = Options
    with pytest.raises(InvalidArgument, match="must be classes of responses, got Options"):
        response_frames(V4, wrong)


def read_segments(data: bytes, codec: Compressor | None) -> list[Segment]:
    reader = SegmentReader(codec)
    reader.feed(data)
    found = list(iter(reader.read, None))
    assert reader.pending == 0
    return found


ENVELOPES = [b"\x05\0\0\x01\x05\0\0\0\0", b"\x05\0\0\x02\x05\0\0\0\x64" + bytes(100)]


@pytest.mark.parametrize("codec", [None, LZ4], ids=["plain", "lz4"])
@given(data=st.data())
def test_segments_hold_the_envelopes(codec: Compressor | None, data: st.DataObject) -> None:
    envelopes = data.draw(st.lists(response_frames(V5).map(bytes), max_size=4))
    reader = EnvelopeReader(max_body=1 << 20, responses=True, compressor=codec)
    reader.feed(data.draw(segmented(envelopes, codec)))
    assert [bytes(frame) for frame in iter(reader.read, None)] == envelopes
    assert reader.pending == 0


@given(st.data())
def test_long_envelopes_are_cut(data: st.DataObject) -> None:
    long = write_long(2 * MAX_PAYLOAD + 1)
    for envelopes in ([long], [ENVELOPES[0], long, ENVELOPES[1]], [write_long(MAX_PAYLOAD)] * 2):
        reader = EnvelopeReader(max_body=1 << 20, responses=False)
        reader.feed(data.draw(segmented(envelopes)))
        assert [bytes(frame) for frame in iter(reader.read, None)] == envelopes


def write_long(size: int) -> bytes:
    return b"\x05\0\0\x02\x05" + (size - 9).to_bytes(4) + bytes(size - 9)


def test_segments_of_every_form_come() -> None:
    def forms(data: bytes) -> list[bool]:
        return [segment.self_contained for segment in read_segments(data, None)]

    assert comes(segmented(ENVELOPES), lambda data: forms(data) == [True])
    assert comes(segmented(ENVELOPES), lambda data: forms(data) == [True, True])
    assert comes(segmented(ENVELOPES), lambda data: forms(data) == [True, False, False])
    assert comes(segmented(ENVELOPES), lambda data: forms(data) == [False] * 4)


@pytest.mark.parametrize("compressed", [True, False])
def test_compressed_and_stored_payloads_come(compressed: bool) -> None:
    def wanted(data: bytes) -> bool:
        plain_size = int.from_bytes(data[:5], "little") >> 17 & MAX_PAYLOAD
        return len(read_segments(data, LZ4)) == 1 and bool(plain_size) == compressed

    assert comes(segmented(ENVELOPES[1:], LZ4), wanted)


def test_the_examples_run() -> None:
    run_examples(frames, "request_frames", "response_frames", "segmented")
