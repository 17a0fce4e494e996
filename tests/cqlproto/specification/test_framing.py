"""The framing of messages, byte by byte: headers of frames, segments, prefixes.

Section 2 of v3 and v4; sections 2 and 4 of v5, which calls segments frames, and frames envelopes.
"""

from __future__ import annotations

import zlib
from ipaddress import IPv4Address
from uuid import UUID

import lz4.block
import pytest

from cqlproto import (
    ClientConnection,
    Consistency,
    HandshakeCompleted,
    LocalProtocolError,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    ServerConnection,
)
from cqlproto.compression import compressor
from cqlproto.enums import FLAG_BETA, FLAG_COMPRESSED, Opcode, ProtocolVersion
from cqlproto.frames import EnvelopeReader, FrameReader, write_frame
from cqlproto.messages import (
    READY,
    Options,
    Query,
    QueryParameters,
    Startup,
    StatusChange,
    Supported,
    read_prefix,
    read_request_prefix,
    write_prefix,
    write_request_prefix,
)
from cqlproto.segments import MAX_PAYLOAD, SegmentReader, write_segment, write_segments
from cqlproto.testing import linked_pair
from tests.cqlproto.specification.notation import (
    bytes_,
    int_,
    short,
    string,
    string_list,
    string_map,
)

V3, V4, V5 = ProtocolVersion
ONE = QueryParameters(Consistency.ONE)
versions = pytest.mark.parametrize("version", ProtocolVersion)
TRACE = UUID(bytes=bytes(range(16)))


def said_by_a_client(version: ProtocolVersion) -> bytes:
    """Return OPTIONS, the first message of a connection."""
    client = ClientConnection(version=version)
    client.initiate()
    return client.data_to_send()


@pytest.mark.spec("v3 v4 2", "v5 2.4", "v5 2.4.1")
@versions
def test_a_header_has_nine_bytes_the_highest_of_a_number_first(version: int) -> None:
    data = bytes((version, 0x02, 0x01, 0x23, 0x07, 0, 0, 0x01, 0x02)) + bytes(0x102)
    assert write_frame(version, 0x02, 0x0123, 0x07, bytes(0x102)) == data
    reader = FrameReader(max_body=1 << 20, responses=False)
    reader.feed(data)
    assert reader.take() == (version, 0x02, 0x0123, 0x07, bytes(0x102))


@pytest.mark.spec("v3 v4 2.1", "v5 2.4.1.1")
@versions
def test_the_highest_bit_of_the_version_says_who_speaks(version: ProtocolVersion) -> None:
    pair = linked_pair(ClientConnection(version=version))
    assert said_by_a_client(version)[0] == version
    for responses in (False, True):
        first = version | 0x80 if responses else int(version)
        reader = FrameReader(max_body=9, responses=responses)
        reader.feed(write_frame(first, 0, 0, 5, b""))
        assert reader.take() is not None
        reader.feed(bytes((first ^ 0x80,)))
        with pytest.raises(RemoteProtocolError):
            reader.take()
    assert pair.client.version is pair.server.version is version


@pytest.mark.spec("v3 2.2")
def test_v3_has_flags_for_compression_and_tracing() -> None:
    out = bytearray()
    assert write_prefix(out, V3, TRACE) == 0x02
    assert bytes(out) == bytes(range(16))
    assert read_prefix(bytes(out), 0x02, V3) == (TRACE, (), None, 16)
    for flags in (0x04, 0x08):
        with pytest.raises(RemoteProtocolError):
            read_prefix(b"\0\0", flags, V3)
    assert FLAG_COMPRESSED == 0x01


@pytest.mark.spec("v4 2.2", "v5 2.4.1.2", "v5 4")
@pytest.mark.parametrize("version", [V4, V5])
def test_flags_announce_tracing_id_warnings_and_payload_in_this_order(
    version: ProtocolVersion,
) -> None:
    warnings = short(2) + string("slow") + string("Größe")
    payload = short(2) + string("a") + bytes_(b"x") + string("b") + bytes_(None)
    out = bytearray()
    given = TRACE, ["slow", "Größe"], {"a": b"x", "b": None}
    assert write_prefix(out, version, *given) == 0x02 | 0x08 | 0x04
    assert bytes(out) == TRACE.bytes + warnings + payload
    assert read_prefix(bytes(out) + b"message", 0x0E, version) == (*given, len(out))
    assert read_prefix(warnings, 0x08, version) == (None, given[1], None, len(warnings))
    assert read_prefix(payload, 0x04, version) == (None, (), given[2], len(payload))
    # A request that asks for tracing carries no id.
    asked = bytearray()
    assert write_request_prefix(asked, version, given[2]) == 0x04
    assert bytes(asked) == payload
    assert read_request_prefix(payload, 0x06, version) == (given[2], len(payload))


@pytest.mark.spec("v3 4", "v4 4")
@pytest.mark.parametrize("version", [V3, V4])
def test_what_stands_before_a_message_is_left_out_where_no_flag_says_so(
    version: ProtocolVersion,
) -> None:
    out = bytearray()
    assert write_prefix(out, version) == write_request_prefix(out, version, None) == 0
    assert out == b""
    assert read_prefix(b"message", 0, version) == (None, (), None, 0)
    assert read_request_prefix(b"message", 0x02, version) == (None, 0)


@pytest.mark.spec("v5 2.4.1.2")
def test_the_flag_for_beta_versions_is_0x10() -> None:
    assert FLAG_BETA == 0x10


@pytest.mark.spec("v5 2.4.1.2")
def test_v5_ignores_the_flag_of_compression() -> None:
    server = ServerConnection()
    server.receive_data(write_frame(V5, FLAG_COMPRESSED, 1, Opcode.OPTIONS, b""))
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    assert event.message == Options()


@pytest.mark.spec("v3 v4 2.3", "v5 2.4.1.3")
@versions
def test_a_response_has_its_requests_stream_and_events_have_minus_one(
    version: ProtocolVersion,
) -> None:
    pair = linked_pair(ClientConnection(version=version))
    streams = [pair.client.send(Options()) for _ in range(3)]
    assert len(set(streams)) == 3
    assert all(0 <= stream <= 0x7FFF for stream in streams)
    asked = pair.to_server()
    for event in reversed(asked):
        assert isinstance(event, RequestReceived)
        pair.server.reply(event.stream_id, Supported({"N": [str(event.stream_id)]}))
    told = [event for event in pair.to_client() if isinstance(event, ResponseReceived)]
    assert [event.stream_id for event in told] == streams[::-1]
    for event in told:
        assert event.message == Supported({"N": [str(event.stream_id)]})
    pair.server.push(StatusChange("UP", (IPv4Address("10.0.0.1"), 9042)))
    pushed = pair.server.data_to_send()
    assert write_frame(version | 0x80, 0, -1, Opcode.EVENT, b"")[:5] in pushed
    server = ServerConnection()
    server.receive_data(write_frame(version, 0, -1, Opcode.OPTIONS, b""))
    with pytest.raises(RemoteProtocolError):
        server.next_event()


OPCODES = {
    0x00: "ERROR",
    0x01: "STARTUP",
    0x02: "READY",
    0x03: "AUTHENTICATE",
    0x05: "OPTIONS",
    0x06: "SUPPORTED",
    0x07: "QUERY",
    0x08: "RESULT",
    0x09: "PREPARE",
    0x0A: "EXECUTE",
    0x0B: "REGISTER",
    0x0C: "EVENT",
    0x0D: "BATCH",
    0x0E: "AUTH_CHALLENGE",
    0x0F: "AUTH_RESPONSE",
    0x10: "AUTH_SUCCESS",
}


@pytest.mark.spec("v3 v4 2.4", "v5 2.4.1.4")
def test_opcodes() -> None:
    """The same in all versions; 0x04 was CREDENTIALS in v1."""
    assert {opcode.value: opcode.name for opcode in Opcode} == OPCODES


@pytest.mark.spec("v3 v4 2.5", "v5 2.4.1.5")
def test_a_length_has_four_bytes_and_a_bound() -> None:
    limit = 256 << 20
    reader = FrameReader(max_body=limit, responses=True)
    reader.feed(b"\x84\0\0\0\x08" + int_(limit))
    assert reader.take() is None
    for length in (limit + 1, -1):
        reader = FrameReader(max_body=limit, responses=True)
        reader.feed(b"\x84\0\0\0\x08" + int_(length))
        with pytest.raises(RemoteProtocolError):
            reader.take()


def crc24(data: bytes) -> int:
    """Return the CRC24, computed bit by bit: polynomial 0x1974F0B, initial value 0x875060."""
    crc = 0x875060
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1974F0B
    return crc


def crc32(data: bytes) -> bytes:
    return zlib.crc32(b"\xfa\x2d\x55\xca" + data).to_bytes(4, "little")


def bits(*fields: tuple[int, int]) -> bytes:
    """Pack numbers, given with their widths in bits, lowest first."""
    value = shift = 0
    for number, size in fields:
        value |= number << shift
        shift += size
    return value.to_bytes(shift // 8, "little")


@pytest.mark.spec("v5 2.1")
@pytest.mark.parametrize("self_contained", [True, False])
@pytest.mark.parametrize("size", [0, 1, 300, MAX_PAYLOAD])
def test_an_uncompressed_segment(size: int, self_contained: bool) -> None:
    payload = bytes(index % 251 for index in range(size))
    head = bits((size, 17), (self_contained, 1), (0, 6))
    data = head + crc24(head).to_bytes(3, "little") + payload + crc32(payload)
    assert write_segment(payload, self_contained=self_contained) == data
    reader = SegmentReader()
    reader.feed(data)
    segment = reader.read()
    assert segment is not None
    assert (segment.payload, segment.self_contained) == (payload, self_contained)


@pytest.mark.spec("v5 2.2")
@pytest.mark.parametrize("self_contained", [True, False])
@pytest.mark.parametrize("size", [300, MAX_PAYLOAD])
def test_a_compressed_segment(size: int, self_contained: bool) -> None:
    """The checksum is that of the compressed payload."""
    payload = bytes(index % 11 for index in range(size))
    block = lz4.block.compress(payload, store_size=False)
    head = bits((len(block), 17), (size, 17), (self_contained, 1), (0, 5))
    data = head + crc24(head).to_bytes(3, "little") + block + crc32(block)
    codec = compressor("lz4")
    assert write_segment(payload, self_contained=self_contained, compressor=codec) == data
    reader = SegmentReader(codec)
    reader.feed(data)
    segment = reader.read()
    assert segment is not None
    assert (segment.payload, segment.self_contained) == (payload, self_contained)


@pytest.mark.spec("v5 2")
def test_segments_hold_whole_envelopes_or_parts_of_one() -> None:
    short_one = write_frame(V5, 0, 1, Opcode.OPTIONS, b"")
    long_one = write_frame(V5, 0, 2, Opcode.QUERY, bytes(2 * MAX_PAYLOAD))
    stream = write_segments([short_one, short_one, long_one, short_one])
    segments = SegmentReader()
    segments.feed(stream)
    found = list(iter(segments.read, None))
    assert [segment.self_contained for segment in found] == [True, False, False, False, True]
    assert found[0].payload == short_one * 2
    assert b"".join(segment.payload for segment in found[1:4]) == long_one
    envelopes = EnvelopeReader(max_body=1 << 20, responses=False)
    envelopes.feed(stream)
    sent = [short_one, short_one, long_one, short_one]
    assert [bytes(frame) for frame in iter(envelopes.read, None)] == sent


STARTUP = {"CQL_VERSION": "3.0.0"}
STARTUP_FRAME = b"\x05\0\0\0\x01" + int_(len(string_map(STARTUP))) + string_map(STARTUP)


@pytest.mark.spec("v5 2.3", "v5 2.3.1")
def test_the_handshake_is_unframed_and_all_after_it_is_framed() -> None:
    client = ClientConnection(version=V5)
    client.initiate()
    assert client.data_to_send() == b"\x05\0\0\0\x05" + int_(0)
    supported = string_map({})
    client.receive_data(b"\x85\0\0\0\x06" + int_(2) + supported)
    assert client.next_event() is None
    assert client.data_to_send() == STARTUP_FRAME
    client.receive_data(b"\x85\0\0\0\x02" + int_(0))
    assert isinstance(client.next_event(), HandshakeCompleted)
    stream = client.send(Options())
    envelope = b"\x05\0" + short(stream) + b"\x05" + int_(0)
    assert client.data_to_send() == write_segment(envelope, self_contained=True)


@pytest.mark.spec("v5 2.3.1")
def test_a_servers_reply_to_startup_is_unframed_and_the_next_is_framed() -> None:
    server = ServerConnection()
    server.receive_data(STARTUP_FRAME)
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    assert event.message == Startup(STARTUP)
    server.reply(0, READY)
    assert server.data_to_send() == b"\x85\0\0\0\x02" + int_(0)
    options = write_frame(V5, 0, 7, Opcode.OPTIONS, b"")
    server.receive_data(write_segment(options, self_contained=True))
    event = server.next_event()
    assert isinstance(event, RequestReceived)
    server.reply(7, Supported({}))
    answer = write_frame(0x85, 0, 7, Opcode.SUPPORTED, short(0))
    assert server.data_to_send() == write_segment(answer, self_contained=True)


@pytest.mark.spec("v5 2.3.2")
def test_v5_compresses_segments_with_lz4_alone_and_need_not() -> None:
    """For stored payloads the text sets the compressed length to 0, servers the plain one."""
    with pytest.raises(LocalProtocolError):
        ClientConnection(version=V5, compression="snappy")
    codec = compressor("lz4")
    payload = bytes(range(50))
    head = bits((50, 17), (0, 17), (1, 1), (0, 5))
    stored = head + crc24(head).to_bytes(3, "little") + payload + crc32(payload)
    assert write_segment(payload, self_contained=True, compressor=codec) == stored
    pair = linked_pair(ClientConnection(version=V5, compression="lz4"))
    text = "x" * 10_000
    pair.client.send(Query(text, ONE))
    [event] = pair.to_server()
    assert isinstance(event, RequestReceived)
    assert isinstance(event.message, Query)
    assert event.message.query == text


@pytest.mark.spec("v3 v4 5")
@pytest.mark.parametrize("version", [V3, V4])
def test_an_lz4_body_begins_with_its_plain_length(version: ProtocolVersion) -> None:
    block = lz4.block.compress(bytes(256), store_size=False)
    codec = compressor("lz4")
    assert codec.compress(bytes(256)) == int_(256) + block
    assert codec.decompress(int_(256) + block, 256) == bytes(256)
    check_compression(version, "lz4")


@pytest.mark.spec("v3 v4 5")
@pytest.mark.parametrize("version", [V3, V4])
def test_a_snappy_body_is_raw_snappy(version: ProtocolVersion) -> None:
    # A length of 3, and three literal bytes.
    assert compressor("snappy").decompress(b"\x03\x08abc", 3) == b"abc"
    check_compression(version, "snappy")


def check_compression(version: ProtocolVersion, name: str) -> None:
    """STARTUP is never compressed; later frames are if their flag says so."""
    client = ClientConnection(version=version, compression=name)
    client.initiate()
    client.data_to_send()
    supported = short(1) + string("COMPRESSION") + string_list([name])
    client.receive_data(bytes((version | 0x80, 0, 0, 0, 6)) + int_(len(supported)) + supported)
    assert client.next_event() is None
    options = string_map({"CQL_VERSION": "3.0.0", "COMPRESSION": name})
    startup = bytes((version, 0, 0, 0, 1)) + int_(len(options)) + options
    assert client.data_to_send() == startup
    client.receive_data(bytes((version | 0x80, 0, 0, 0, 2)) + int_(0))
    assert isinstance(client.next_event(), HandshakeCompleted)
    client.send(Query("x" * 10_000, ONE))
    data = client.data_to_send()
    assert (data[0], data[1]) == (version, 0x01)
    assert len(data) < 1000
    assert compressor(name).decompress(data[9:], 1 << 20).startswith(int_(10_000) + b"x")
    client.send(Options())
    assert client.data_to_send()[1] == 0
