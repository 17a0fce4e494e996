"""The base of both ends: buffers, limits, compression and the end of a connection."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    Limits,
    LocalProtocolError,
    Opcode,
    RequestReceived,
    ResponseReceived,
    ResponseTooLarge,
    ResponseUnreadable,
)
from cqlproto._state import State
from cqlproto.compression import compressor
from cqlproto.connection.base import Connection, named_compressor
from cqlproto.enums import FLAG_COMPRESSED
from cqlproto.frames import write_frame
from cqlproto.messages import READY, VOID, Execute, Options, Query, Rows, SetKeyspace
from cqlproto.segments import MAX_PAYLOAD, crc24
from tests.support.core_connections import (
    METADATA,
    ONE,
    REQUESTS,
    ROWS,
    V3,
    V4,
    V5,
    Agreement,
    agreements,
    connected,
    on_v5,
    on_wire,
    ready_client,
    ready_server,
    refused,
    request_frame,
    response_frame,
    sent,
    unreadable,
)

if TYPE_CHECKING:
    from cqlproto import ProtocolVersion, ServerConnection

NOISE = hashlib.shake_256(b"noise").digest(200_000)
MIB = 1 << 20


def test_a_connection_is_one_of_two_ends() -> None:
    end = Connection(V4, Limits(), 100, responses=True)
    with pytest.raises(NotImplementedError):
        end.next_event()
    assert (end.version, end.state, end.unsent, end.data_to_send()) == (V4, State.NEW, 0, b"")


def test_compressors_by_name() -> None:
    assert named_compressor("snappy", V4).name == "snappy"
    assert named_compressor("lz4", V5).name == "lz4"
    with pytest.raises(LocalProtocolError, match="compression must be lz4 on v5, got snappy"):
        named_compressor("snappy", V5)
    for name in ("zstd", "LZ4", ""):
        with pytest.raises(LocalProtocolError, match="compression must be one of"):
            named_compressor(name, V4)


# -- what leaves


@agreements
def test_what_leaves_is_counted_and_forgotten(agreement: Agreement) -> None:
    """At both ends, from the first byte on."""
    client = ClientConnection(version=agreement.version, compression=agreement.compression)
    server = ready_server(agreement=agreement)
    assert (client.unsent, server.unsent) == (0, 0), "READY has left"
    pair = connected(*agreement)
    assert (pair.client.unsent, pair.server.unsent) == (0, 0), "so has the handshake"
    for _ in range(2):
        pair.client.send(Query("x" * 300, ONE))
        assert pair.client.unsent > 300
        [asked] = pair.to_server()
        assert isinstance(asked, RequestReceived)
        pair.server.reply(asked.stream_id, SetKeyspace("hashed"))
        assert pair.server.unsent > 6
        assert len(pair.to_client()) == 1
        assert (pair.client.unsent, pair.server.unsent) == (0, 0)
        assert (pair.client.data_to_send(), pair.server.data_to_send()) == (b"", b"")


def is_compressed(agreement: Agreement, data: bytes) -> bool:
    """Whether a frame, or the segment around it, has the compression flag."""
    if agreement.version is V5:
        plain_size = int.from_bytes(data[:5], "little") >> 17 & MAX_PAYLOAD
        return agreement.compression is not None and plain_size > 0
    return bool(data[1] & FLAG_COMPRESSED)


@agreements
def test_what_compression_would_make_longer_leaves_plain(agreement: Agreement) -> None:
    """What it makes shorter is compressed, on every version and at both ends."""
    pair = connected(*agreement)
    for content, plain in ((NOISE[:1000], True), (bytes(1000), False)):
        stream_id = pair.client.send(Execute(content, ONE, b""))
        data = pair.client.data_to_send()
        assert is_compressed(agreement, data) is not (plain or agreement.compression is None)
        pair.server.receive_data(data)
        asked = pair.server.next_event()
        assert isinstance(asked, RequestReceived)
        assert isinstance(asked.message, Execute)
        assert asked.message.statement_id == content
        pair.server.reply(stream_id, Rows.of(METADATA, 1, content, skip_metadata=True))
        data = pair.server.data_to_send()
        assert is_compressed(agreement, data) is not (plain or agreement.compression is None)
        pair.client.receive_data(data)
        event = pair.client.next_event()
        assert isinstance(event, ResponseReceived)
        assert isinstance(event.message, Rows)
        assert event.message.body.endswith(content)


# -- limits


@agreements
def test_a_response_beyond_the_limit_is_told_by_its_header(agreement: Agreement) -> None:
    client = ready_client(Limits(max_response=100), agreement)
    header = write_frame(agreement.version | 0x80, 0, sent(client), 8, bytes(MAX_PAYLOAD))[:9]
    if agreement.version is V5:
        header = on_wire(agreement, header + bytes(MAX_PAYLOAD))  # in parts: only one has come
        header = header[: -len(on_wire(agreement, bytes(9)))]
    unreadable(client, header, "at most 100 bytes, got 131,071")
    assert client.unread > 0


@agreements
def test_a_request_beyond_the_limit_is_refused(agreement: Agreement) -> None:
    """The limit applies to requests as received and decompressed."""
    pair = connected(*agreement)
    limits = Limits(max_request=1000, max_response=10)
    overhead = len(request_frame(Query("", ONE), 1, version=agreement.version))
    for length, fits in ((1000, True), (1001, False)):
        server = ready_server(limits, agreement)
        pair.client.send(Query("x" * (length - overhead), ONE))
        data = pair.client.data_to_send()
        assert (len(data) < 100) is (agreement.compression is not None)
        if fits:
            server.receive_data(data)
            assert isinstance(server.next_event(), RequestReceived)
        else:
            unreadable(server, data, "at most 991")


@pytest.mark.parametrize("name", ["lz4", "snappy"])
def test_a_response_beyond_the_limit_is_refused_before_it_is_decompressed(name: str) -> None:
    limits = Limits(max_response=2000)
    for size, fits in ((100, True), (200, False)):
        pair = connected(compression=name, limits=limits)
        pair.client.send(REQUESTS["QUERY"])
        pair.to_server()
        pair.server.reply(1, Rows.of(METADATA, 2 * size, (b"\xff" * 8) * 2 * size))
        if fits:
            assert len(pair.to_client()) == 1
        else:
            [event] = pair.to_client()
            assert isinstance(event, ResponseUnreadable)
            assert isinstance(event.error, ResponseTooLarge)
            assert event.error.size > 2000


BOMBS = {
    # A length of 2^31 before a body of 40 bytes, and the most that so many could stand for.
    "lz4": b"\x80\0\0\0" + bytes(40),
    "lz4, all that is accepted": (256 * MIB).to_bytes(4, "big") + bytes(40),
    "snappy": bytes.fromhex("8080808008") + bytes(40),
    "snappy, all that is accepted": bytes.fromhex("8080808001") + bytes(40),
}


def ends(agreement: Agreement) -> list[tuple[ClientConnection | ServerConnection, int]]:
    """Both ends, each with the version byte of the frames that it receives."""
    client = ready_client(agreement=agreement)
    sent(client)
    server = ready_server(Limits(max_request=256 * MIB), agreement)
    return [(client, agreement.version | 0x80), (server, agreement.version)]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_length_behind_which_nothing_can_follow_allocates_nothing(bomb: str) -> None:
    agreement = Agreement(V4, bomb.split(",")[0])
    for end, version in ends(agreement):
        data = write_frame(version, FLAG_COMPRESSED, 1, Opcode.ERROR, BOMBS[bomb])
        tracemalloc.start()
        try:
            unreadable(end, data, "a (de)?compressed body|got 2,147,483,648")
            assert tracemalloc.get_traced_memory()[1] < 64 * 1024
        finally:
            tracemalloc.stop()


@agreements
def test_memory_grows_with_what_came_not_with_what_was_announced(agreement: Agreement) -> None:
    """256 MiB are announced and 200 kB arrive, of which four copies may exist."""
    for end, version in ends(agreement):
        opcode = Opcode.RESULT if isinstance(end, ClientConnection) else Opcode.QUERY
        header = write_frame(version, 0, 1, opcode, b"")[:5] + (256 * MIB - 10).to_bytes(4, "big")
        data = header + NOISE
        if agreement.version is V5:
            data = on_wire(agreement, data)  # two segments: parts of a long envelope
        tracemalloc.start()
        try:
            for start in range(0, len(data), 1000):
                end.receive_data(data[start : start + 1000])
                assert end.next_event() is None
                if start == 0:
                    assert tracemalloc.get_traced_memory()[1] < 16 * 1024
            assert tracemalloc.get_traced_memory()[1] < 800_000
        finally:
            tracemalloc.stop()


@on_v5
def test_a_segment_that_announces_more_than_comes_allocates_nothing(agreement: Agreement) -> None:
    """v5 section 2.2: a length has 17 bits, so a payload has at most 128 KiB."""
    for end, _ in ends(agreement):
        size = 3 if agreement.compression is None else 5
        head = ((1 << 34) - 1).to_bytes(5, "little")[:size]
        tracemalloc.start()
        try:
            checksum = crc24(int.from_bytes(head, "little"), len(head)).to_bytes(3, "little")
            end.receive_data(head + checksum + bytes(100))
            assert end.next_event() is None
            assert tracemalloc.get_traced_memory()[1] < 16 * 1024
        finally:
            tracemalloc.stop()


@agreements
def test_what_is_no_frame_ends_a_connection_for_good(agreement: Agreement) -> None:
    noise = bytes(20) if agreement.version is V5 else b"\x00\xff"
    refused(ready_client(agreement=agreement), noise, "not a CQL|checksum")


# -- compressed frames


@pytest.mark.parametrize("version", [V3, V4], ids=str)
def test_a_compressed_frame_where_nothing_was_agreed_on(version: ProtocolVersion) -> None:
    for end, first in ends(Agreement(version)):
        opcode = Opcode.RESULT if isinstance(end, ClientConnection) else Opcode.OPTIONS
        frame = write_frame(first, FLAG_COMPRESSED, 1, opcode, bytes(5))
        unreadable(end, frame, "no compression was negotiated")


@on_v5
def test_v5_ignores_the_flag_of_compression(agreement: Agreement) -> None:
    """v5 section 2.4.1.2: the flag is deprecated and ignored, whatever the compression."""
    for end, version in ends(agreement):
        client = isinstance(end, ClientConnection)
        frame = (
            response_frame(ROWS, 1, version=5)
            if client
            else request_frame(REQUESTS["QUERY"], 1, version=5)
        )
        frame = frame[:1] + bytes([FLAG_COMPRESSED]) + frame[2:]
        assert frame[0] == version
        end.receive_data(on_wire(agreement, frame))
        event = end.next_event()
        assert isinstance(event, (ResponseReceived, RequestReceived))
        assert event.message == (ROWS if client else REQUESTS["QUERY"])


@pytest.mark.parametrize("name", ["lz4", "snappy"])
def test_what_is_compressed_may_be_nothing(name: str) -> None:
    """Servers send an empty body compressed."""
    pair = connected(V4, name)
    pair.client.send(REQUESTS["REGISTER"])
    pair.to_server()
    body = compressor(name).compress(b"")
    pair.client.receive_data(write_frame(0x84, FLAG_COMPRESSED, 1, Opcode.READY, body))
    event = pair.client.next_event()
    assert isinstance(event, ResponseReceived)
    assert event.message == READY


# -- the end


@agreements
def test_the_end_between_frames_is_clean_and_comes_last(agreement: Agreement) -> None:
    for end, version in ends(agreement):
        client = isinstance(end, ClientConnection)
        frame = (
            response_frame(VOID, 1, version=version)
            if client
            else request_frame(Options(), 1, version=version)
        )
        end.receive_data(on_wire(agreement, frame))
        end.receive_eof()
        assert isinstance(end.next_event(), ResponseReceived | RequestReceived)
        ended = end.next_event()
        assert isinstance(ended, ConnectionEnded)
        assert ended.clean
        for _ in range(2):
            assert end.next_event() is None
        assert end.state is State.CLOSED
        with pytest.raises(LocalProtocolError, match="after receive_eof"):
            end.receive_data(b"x")


@agreements
def test_the_end_within_a_frame_is_not_clean(agreement: Agreement) -> None:
    query = request_frame(REQUESTS["QUERY"], 1, version=agreement.version)
    rows = response_frame(ROWS, 1, version=agreement.version)
    for index, frame in ((0, rows), (1, query)):
        data = on_wire(agreement, frame)
        for length in range(1, len(data)):
            end, _ = ends(agreement)[index]
            end.receive_data(data[:length])
            end.receive_eof()
            ended = end.next_event()
            assert isinstance(ended, ConnectionEnded)
            assert not ended.clean
            assert end.next_event() is None


@on_v5
def test_the_end_between_the_parts_of_a_long_envelope_is_not_clean(agreement: Agreement) -> None:
    client = ready_client(agreement=agreement)
    frame = response_frame(Rows.of(METADATA, 1, bytes(MAX_PAYLOAD)), sent(client), version=5)
    parts = on_wire(agreement, frame)
    last = on_wire(agreement, frame[: MAX_PAYLOAD + 1])  # its second part is a byte long
    first = parts[: len(last) - len(on_wire(agreement, b"x"))]
    client.receive_data(first)
    assert client.next_event() is None
    client.receive_eof()
    ended = client.next_event()
    assert isinstance(ended, ConnectionEnded)
    assert not ended.clean
