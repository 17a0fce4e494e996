"""Inputs of the measurements: columns, encoded rows, connections, replies.

Rows repeat after a thousand rows, blobs after a mebibyte. This is longer than LZ4's window, so
repetition does not improve the compression.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto import (
    ClientConnection,
    Consistency,
    Limits,
    ProtocolVersion,
    ServerConnection,
    handshake_reply,
)
from cqlproto._events import HandshakeCompleted, RequestReceived
from cqlproto.compression import compressor
from cqlproto.cqltypes import encoder, parse_type
from cqlproto.enums import FLAG_COMPRESSED, RESPONSE_BIT, ROWS_NO_METADATA, Opcode, ResultKind
from cqlproto.frames import write_frame
from cqlproto.messages import BindMetadata, Column, Prepared, QueryParameters, ResultMetadata
from cqlproto.rows import Binder
from cqlproto.segments import write_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CHUNK",
    "FIXED",
    "LIMITS",
    "MIXED",
    "TEXTS",
    "Wire",
    "binder",
    "blob",
    "blob_body",
    "chunks",
    "metadata",
    "row_content",
    "rows_body",
    "values",
]

CHUNK = 65_536
"""The maximum number of bytes in a read."""
LIMITS = Limits(max_response=256 << 20, max_request=32 << 20)

FIXED = ("int", "bigint", "double", "timestamp", "uuid")
TEXTS = ("uuid", "text", "text", "timestamp", "int")
MIXED = ("int", "text", "double", "uuid", "timestamp", "bigint", "boolean", "blob", "date", "float")

_DISTINCT = 1000
_BLOB_PERIOD = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = Struct(">iiii")
_LENGTH = Struct(">i")
_VALUES: dict[str, Callable[[int], Any]] = {
    "int": lambda n: n * 7919,
    "bigint": lambda n: n * 1_000_000_007,
    "double": lambda n: n / 7,
    "float": lambda n: n / 8,
    "timestamp": lambda n: _EPOCH + timedelta(milliseconds=n * 1_000_003),
    "uuid": lambda n: UUID(int=n * 0x1234_5678_9ABC_DEF0_1234_5678_9ABC),
    "text": lambda n: f"the text of row number {n}",
    "boolean": lambda n: n % 2 == 0,
    "blob": lambda n: n.to_bytes(12, "big"),
    "date": lambda n: (_EPOCH + timedelta(days=n)).date(),
}


def values(types: Sequence[str], number: int) -> tuple[Any, ...]:
    """Return a row of values; each number gives a different row."""
    return tuple([_VALUES[name](number) for name in types])


def columns(types: Sequence[str], table: str = "sizes") -> tuple[Column, ...]:
    return tuple(
        Column("bench", table, f"column_{at}", parse_type(name)) for at, name in enumerate(types)
    )


def metadata(types: Sequence[str], table: str = "sizes") -> ResultMetadata:
    """Return new metadata of a result with these columns, not yet used for decoding."""
    return ResultMetadata.of(columns(types, table), ProtocolVersion.V4)


def row_content(types: Sequence[str], count: int) -> bytes:
    """Return ``count`` encoded rows, as in a Rows message (v4 section 4.2.5.2)."""
    encoders = [encoder(parse_type(name)) for name in types]
    rows = []
    for number in range(min(count, _DISTINCT)):
        cells = [
            encode(value) for encode, value in zip(encoders, values(types, number), strict=True)
        ]
        rows.append(b"".join([_LENGTH.pack(len(cell)) + cell for cell in cells]))
    times, rest = divmod(count, _DISTINCT)
    return b"".join(rows) * times + b"".join(rows[:rest]) if times else b"".join(rows)


def rows_body(column_count: int, count: int, content: bytes) -> bytes:
    """Return the body of a RESULT without metadata."""
    return _HEAD.pack(ResultKind.ROWS, ROWS_NO_METADATA, column_count, count) + content


@lru_cache(maxsize=1)
def _words() -> bytes:
    """Return a mebibyte of words, which LZ4 compresses to about half."""
    dice = random.Random(1)
    words = [dice.randbytes(12) for _ in range(2048)]
    return b"".join(dice.choices(words, k=_BLOB_PERIOD // 12 + 1))[:_BLOB_PERIOD]


def blob(size: int) -> bytes:
    times, rest = divmod(size, _BLOB_PERIOD)
    return _words() * times + _words()[:rest]


def blob_body(size: int) -> bytes:
    """Return the body of a RESULT with one row of one blob, ``size`` bytes in all."""
    data = blob(size - _HEAD.size - _LENGTH.size)
    return rows_body(1, 1, _LENGTH.pack(len(data)) + data)


def binder(types: Sequence[str], result: ResultMetadata, version: ProtocolVersion) -> Binder:
    """Return the binder of a statement with these markers, already compiled."""
    prepared = Prepared(bytes(16), bytes(16), BindMetadata(columns(types)), result)
    made = Binder(prepared, _parameters(), version)
    row = values(types, 1)
    for _ in range(600):
        made.frame(1, row)
    return made


def _parameters() -> QueryParameters:
    return QueryParameters(Consistency.LOCAL_QUORUM, skip_metadata=True, page_size=5000)


class Wire:
    """A protocol version and a compression: creates connections and a server's replies.

    Arguments:
        version: the protocol version.
        compression: ``"lz4"`` or None.

    Attributes:
        name: the name in the tables.
        codec: the compressor, or None.
    """

    def __init__(self, version: ProtocolVersion, compression: str | None = None) -> None:
        self.version = version
        self.name = f"v{version:d}" + (f" {compression.upper()}" if compression else "")
        self._compression = compression
        self.codec = compressor(compression) if compression else None

    def connected(self) -> ClientConnection:
        """Return a client's connection after the handshake."""
        client = ClientConnection(
            version=self.version, compression=self._compression, limits=LIMITS
        )
        server = ServerConnection(limits=LIMITS)
        supported = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4"]}
        client.initiate()
        while True:
            server.receive_data(client.data_to_send())
            request = server.next_event()
            assert isinstance(request, RequestReceived)
            reply = handshake_reply(request.message, supported=supported)
            assert reply is not None
            server.reply(request.stream_id, reply)
            client.receive_data(server.data_to_send())
            if isinstance(client.next_event(), HandshakeCompleted):
                return client

    def reply(self, stream_id: int, body: bytes) -> bytes:
        """Return a RESULT with this body, as bytes on the wire."""
        version = self.version | RESPONSE_BIT
        if self.version.has_segments:
            frame = write_frame(version, 0, stream_id, Opcode.RESULT, body)
            return write_segments([frame], self.codec)
        if self.codec is not None:
            body = self.codec.compress(body)
            return write_frame(version, FLAG_COMPRESSED, stream_id, Opcode.RESULT, body)
        return write_frame(version, 0, stream_id, Opcode.RESULT, body)


def chunks(data: bytes, size: int = CHUNK) -> list[bytes]:
    """Cut bytes into chunks as a socket would return them."""
    return [data[at : at + size] for at in range(0, len(data), size)]
