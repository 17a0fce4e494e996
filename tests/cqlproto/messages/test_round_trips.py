"""Round trips of every message in every version, however its frame is split.

The frames have tracing, warnings, a custom payload and a compressed body. They are split in two at
every offset and byte by byte, and on v5 put into segments in every way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.compression import Compressor, compressor
from cqlproto.enums import FLAG_COMPRESSED, ProtocolVersion
from cqlproto.frames import EnvelopeReader, FrameReader
from cqlproto.messages import (
    AuthChallenge,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Batch,
    Error,
    Event,
    Execute,
    Message,
    Options,
    Prepare,
    Prepared,
    Query,
    Ready,
    Register,
    Rows,
    SchemaChange,
    SetKeyspace,
    Startup,
    Supported,
    Void,
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
)
from cqlproto.testing import every_split, request_frames, response_frames, segmented

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqlproto.frames import RawFrame
    from cqlproto.testing import Framed

V3, V4, V5 = ProtocolVersion
LIMIT = 1 << 20
LZ4, SNAPPY = compressor("lz4"), compressor("snappy")
REQUESTS = [Startup, Options, AuthResponse, Register, Query, Prepare, Execute, Batch]
RESPONSES = [
    *(Ready, Authenticate, Supported, AuthChallenge, AuthSuccess, Error, Event),
    *(Void, Rows, SetKeyspace, Prepared, SchemaChange),
]
# On v5 it is segments that are compressed.
FRAMES: list[tuple[ProtocolVersion, Compressor | None]] = [
    *((version, codec) for version in (V3, V4) for codec in (None, LZ4, SNAPPY)),
    (V5, None),
]
NAMES = [f"v{version:d}-{codec.name if codec else 'plain'}" for version, codec in FRAMES]
versions = pytest.mark.parametrize(("version", "codec"), FRAMES, ids=NAMES)
codecs = pytest.mark.parametrize("codec", [None, LZ4], ids=["plain", "lz4"])


def check(framed: Framed[Any], frame: RawFrame, codec: Compressor | None = None) -> None:
    """Compare a frame that was read with its parts."""
    assert frame == framed.frame
    body = frame.body
    if frame.flags & FLAG_COMPRESSED:
        assert codec is not None
        body = codec.decompress(body, LIMIT)
    version = ProtocolVersion(frame.version & 0x7F)
    if frame.version & 0x80:
        tracing_id, warnings, payload, pos = read_prefix(body, frame.flags, version)
        assert (tracing_id, tuple(warnings)) == (framed.tracing_id, framed.warnings)
        message: Message = read_response(frame.opcode, body, pos, version)
    else:
        payload, pos = read_request_prefix(body, frame.flags, version)
        message = read_request(frame.opcode, body, pos, version)
    assert payload == framed.payload
    assert message == framed.message
    assert type(message) is type(framed.message)
    out = bytearray()
    framed.message.write_body(out, version)
    again = bytearray()
    message.write_body(again, version)
    assert again == out == body[pos:]


def read_pieces(
    reader: FrameReader | EnvelopeReader, pieces: Iterable[bytes]
) -> Sequence[RawFrame]:
    """Feed pieces, reading after each, and return the frames; no bytes may be left."""
    found: list[RawFrame] = []
    for piece in pieces:
        reader.feed(piece)
        found += iter(reader.read, None)
    assert reader.pending == 0
    return found


def check_every_split(framed: Framed[Any], codec: Compressor | None) -> None:
    data = bytes(framed)
    responses = framed.frame.version >= 0x80
    frames: list[RawFrame] = []
    for pieces in [*every_split(data), [data[i : i + 1] for i in range(len(data))]]:
        [frame] = read_pieces(FrameReader(max_body=LIMIT, responses=responses), pieces)
        assert frame == framed.frame
        frames.append(frame)
    check(framed, frames[0], codec)


@versions
@pytest.mark.parametrize("kind", REQUESTS)
@settings(max_examples=30)
@given(data=st.data())
def test_requests(
    kind: type[Any], version: ProtocolVersion, codec: Compressor | None, data: st.DataObject
) -> None:
    check_every_split(data.draw(request_frames(version, kind, compressor=codec)), codec)


@versions
@pytest.mark.parametrize("kind", RESPONSES)
@settings(max_examples=30)
@given(data=st.data())
def test_responses(
    kind: type[Any], version: ProtocolVersion, codec: Compressor | None, data: st.DataObject
) -> None:
    check_every_split(data.draw(response_frames(version, kind, compressor=codec)), codec)


def check_segments(framed: Framed[Any], codec: Compressor | None, data: st.DataObject) -> None:
    stream = data.draw(segmented([bytes(framed)], codec))
    responses = framed.frame.version >= 0x80
    frames: list[RawFrame] = []
    for pieces in [*every_split(stream), [stream[i : i + 1] for i in range(len(stream))]]:
        reader = EnvelopeReader(max_body=LIMIT, responses=responses, compressor=codec)
        [frame] = read_pieces(reader, pieces)
        assert frame == framed.frame
        frames.append(frame)
    check(framed, frames[0])


@codecs
@pytest.mark.parametrize("kind", REQUESTS)
@settings(max_examples=20)
@given(data=st.data())
def test_requests_in_segments(
    kind: type[Any], codec: Compressor | None, data: st.DataObject
) -> None:
    check_segments(data.draw(request_frames(V5, kind)), codec, data)


@codecs
@pytest.mark.parametrize("kind", RESPONSES)
@settings(max_examples=20)
@given(data=st.data())
def test_responses_in_segments(
    kind: type[Any], codec: Compressor | None, data: st.DataObject
) -> None:
    check_segments(data.draw(response_frames(V5, kind)), codec, data)


@codecs
@settings(max_examples=30)
@given(data=st.data())
def test_many_messages_in_segments(codec: Compressor | None, data: st.DataObject) -> None:
    sent: list[Framed[Any]] = data.draw(st.lists(response_frames(V5), max_size=5))
    stream = data.draw(segmented([bytes(framed) for framed in sent], codec))
    for pieces in every_split(stream):
        reader = EnvelopeReader(max_body=LIMIT, responses=True, compressor=codec)
        found = read_pieces(reader, pieces)
        assert found == [framed.frame for framed in sent]
    for framed, frame in zip(sent, found, strict=True):
        check(framed, frame)
