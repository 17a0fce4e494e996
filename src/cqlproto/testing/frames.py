"""Strategies for whole frames of both directions (v4 section 2, v5 section 2).

A frame is a message with a stream id, flags, and a prefix that the flags announce. :class:`Framed`
has the frame and its parts, so a test can compare what a reader returns with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto.connection.base import EVENT_STREAM
from cqlproto.enums import FLAG_COMPRESSED, FLAG_TRACING, RESPONSE_BIT
from cqlproto.frames import RawFrame
from cqlproto.messages import Event, Message, Startup, write_prefix, write_request_prefix
from cqlproto.segments import MAX_PAYLOAD, write_segment
from cqlproto.testing import _notations as some
from cqlproto.testing.client_messages import requests
from cqlproto.testing.server_messages import responses

if TYPE_CHECKING:
    from cqlproto.compression import Compressor
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages import Request, Response

__all__ = ["Framed", "request_frames", "response_frames", "segmented"]

M = TypeVar("M", bound=Message)
R = TypeVar("R", bound="Request")
S = TypeVar("S", bound="Response")

# A compressor that never shortens a payload, so payloads are stored uncompressed.
_STORED: Any = SimpleNamespace(compress_block=lambda data: data)

_STREAMS = st.integers(0, (1 << 15) - 1)
_MOST_WARNINGS = 3


@dataclass(frozen=True, slots=True)
class Framed(Generic[M]):
    """A frame and its parts; ``bytes`` returns the bytes of the frame.

    Attributes:
        frame: the whole frame; its body is compressed if the flags say so.
        message: the message.
        tracing: whether a request requests a trace.
        tracing_id: the tracing id of a response, or None.
        warnings: the warnings of a response.
        payload: the custom payload, or None.
    """

    frame: RawFrame
    message: M
    tracing: bool = False
    tracing_id: UUID | None = None
    warnings: Sequence[str] = ()
    payload: Mapping[str, bytes | None] | None = None

    def __bytes__(self) -> bytes:
        return bytes(self.frame)


def _check(version: ProtocolVersion, compressor: Compressor | None) -> None:
    if compressor is not None and version.has_segments:
        raise InvalidArgument(
            "compressor must be None on v5, which compresses segments: use segmented()"
        )


def _payloads(version: ProtocolVersion) -> st.SearchStrategy[dict[str, bytes | None] | None]:
    return some.maybe(some.payloads) if version.has_warnings else st.none()


@st.composite
def _request_frames(
    draw: st.DrawFn,
    version: ProtocolVersion,
    kinds: tuple[type[Any], ...],
    compressor: Compressor | None,
) -> Framed[Any]:
    message = draw(requests(version, *kinds))
    tracing = draw(some.flags)
    payload = draw(_payloads(version))
    body = bytearray()
    flags = write_request_prefix(body, version, payload)
    message.write_body(body, version)
    if tracing:
        flags |= FLAG_TRACING
    # STARTUP negotiates the compression and is never compressed itself (v4 section 5).
    if compressor is not None and not isinstance(message, Startup) and draw(some.flags):
        body[:] = compressor.compress(bytes(body))
        flags |= FLAG_COMPRESSED
    frame = RawFrame(version, flags, draw(_STREAMS), message.opcode, bytes(body))
    return Framed(frame, message, tracing=tracing, payload=payload)


def request_frames(
    version: ProtocolVersion, *kinds: type[R], compressor: Compressor | None = None
) -> st.SearchStrategy[Framed[R]]:
    """Return a strategy for the frames of requests.

    Some request a trace; on v4 and v5 some have a custom payload.

    Arguments:
        version: the version of the frames.
        kinds: as for :func:`requests`.
        compressor: compresses some of the bodies, except that of STARTUP; None on v5.

    Raises:
        InvalidArgument: a compressor is given on v5, or a class is not a request.

    For example, a test that a server's end reads them:

        >>> from hypothesis import given
        >>> from cqlproto import ProtocolVersion, RequestReceived, ServerConnection
        >>> from cqlproto.messages import Options
        >>> @given(request_frames(ProtocolVersion.V4, Options))
        ... def test_a_server_reads_it(sent):
        ...     server = ServerConnection()
        ...     server.receive_data(bytes(sent))
        ...     event = server.next_event()
        ...     assert isinstance(event, RequestReceived)
        ...     assert (event.message, event.payload) == (sent.message, sent.payload)
        >>> test_a_server_reads_it()
    """
    _check(version, compressor)
    requests(version, *kinds)
    return _request_frames(version, kinds, compressor)


@st.composite
def _response_frames(
    draw: st.DrawFn,
    version: ProtocolVersion,
    kinds: tuple[type[Any], ...],
    compressor: Compressor | None,
) -> Framed[Any]:
    message = draw(responses(version, *kinds))
    tracing_id = draw(some.maybe(st.uuids()))
    warnings: list[str] = []
    if version.has_warnings:
        warnings = draw(st.lists(some.texts, max_size=_MOST_WARNINGS))
    payload = draw(_payloads(version))
    body = bytearray()
    flags = write_prefix(body, version, tracing_id, warnings, payload)
    message.write_body(body, version)
    if compressor is not None and draw(some.flags):
        body[:] = compressor.compress(bytes(body))
        flags |= FLAG_COMPRESSED
    stream = EVENT_STREAM if isinstance(message, Event) else draw(_STREAMS)
    frame = RawFrame(version | RESPONSE_BIT, flags, stream, message.opcode, bytes(body))
    return Framed(frame, message, tracing_id=tracing_id, warnings=tuple(warnings), payload=payload)


def response_frames(
    version: ProtocolVersion, *kinds: type[S], compressor: Compressor | None = None
) -> st.SearchStrategy[Framed[S]]:
    """Return a strategy for the frames of responses.

    Some have a tracing id; on v4 and v5 some have warnings and a custom payload. Events have the
    stream id -1, all others any that a client may choose.

    Arguments:
        version: the version of the frames.
        kinds: as for :func:`responses`.
        compressor: compresses some of the bodies; None on v5.

    Raises:
        InvalidArgument: a compressor is given on v5, or a class is not a response.

    For example, a test of a reader of frames:

        >>> from hypothesis import given
        >>> from cqlproto import FrameReader, ProtocolVersion
        >>> @given(response_frames(ProtocolVersion.V4), response_frames(ProtocolVersion.V4))
        ... def test_two_in_a_row(one, other):
        ...     reader = FrameReader(max_body=1 << 20, responses=True)
        ...     reader.feed(bytes(one) + bytes(other))
        ...     assert [reader.read(), reader.read()] == [one.frame, other.frame]
        >>> test_two_in_a_row()
    """
    _check(version, compressor)
    responses(version, *kinds)
    return _response_frames(version, kinds, compressor)


@st.composite
def _segmented(draw: st.DrawFn, envelopes: Sequence[bytes], compressor: Compressor | None) -> bytes:
    out = bytearray()
    waiting = bytearray()

    def write(payload: bytes, *, self_contained: bool) -> None:
        codec = None if compressor is None else draw(st.sampled_from([compressor, _STORED]))
        out.extend(write_segment(payload, self_contained=self_contained, compressor=codec))

    def flush() -> None:
        if waiting:
            write(bytes(waiting), self_contained=True)
            waiting.clear()

    for envelope in envelopes:
        is_long = len(envelope) > MAX_PAYLOAD
        if is_long or (len(envelope) > 1 and draw(some.flags)):
            flush()
            at_least = -(-len(envelope) // MAX_PAYLOAD)
            count = draw(st.integers(max(2, at_least), max(2, min(len(envelope), at_least + 3))))
            size = -(-len(envelope) // count)
            for start in range(0, len(envelope), size):
                write(envelope[start : start + size], self_contained=False)
            continue
        if len(waiting) + len(envelope) > MAX_PAYLOAD or draw(some.flags):
            flush()
        waiting += envelope
    flush()
    return bytes(out)


def segmented(
    envelopes: Sequence[bytes], compressor: Compressor | None = None
) -> st.SearchStrategy[bytes]:
    """Return a strategy for the segments of version 5 around whole envelopes (v5 section 2).

    A sender decides how many envelopes share a segment, whether an envelope is split, and, with
    LZ4, which payloads are compressed. The strategy returns all variants; they are equivalent.

    Arguments:
        envelopes: whole frames of v5, each as bytes, in the order of sending.
        compressor: LZ4, if the handshake agreed on it.

        >>> from hypothesis import given, strategies as st
        >>> from cqlproto import ProtocolVersion, SegmentReader
        >>> two = st.lists(request_frames(ProtocolVersion.V5).map(bytes), min_size=2, max_size=2)
        >>> @given(two, st.data())
        ... def test_the_same_envelopes(envelopes, data):
        ...     reader = SegmentReader()
        ...     reader.feed(data.draw(segmented(envelopes)))
        ...     payloads = b""
        ...     while (segment := reader.read()) is not None:
        ...         payloads += segment.payload
        ...     assert payloads == b"".join(envelopes)
        >>> test_the_same_envelopes()
    """
    return _segmented(envelopes, compressor)
