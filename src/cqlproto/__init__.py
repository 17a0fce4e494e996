"""A sans-IO implementation of Cassandra's native protocol.

Bytes in, events out; messages in, bytes out. There is no socket, clock, thread or random number
here, so it runs on any transport, in any test and under any fuzzer.

    >>> from cqlproto import ClientConnection, ServerConnection
    >>> client, server = ClientConnection(), ServerConnection()
    >>> client.initiate()
    >>> server.receive_data(client.data_to_send())
    >>> server.next_event()
    RequestReceived(stream_id=0, message=Options(), tracing=False, payload=None)

Messages are in ``cqlproto.messages``, types and values in ``cqlproto.cqltypes``, rows in
``cqlproto.rows``, frames for proxies that relay without decoding in ``cqlproto.frames``.
"""

from __future__ import annotations

from cqlproto._events import (
    ConnectionEnded,
    Event,
    HandshakeCompleted,
    HandshakeFailed,
    PushReceived,
    RequestReceived,
    RequestUnreadable,
    ResponseReceived,
    ResponseUnreadable,
    UnsupportedVersionReceived,
)
from cqlproto._version import __version__
from cqlproto.connection import (
    Authenticator,
    ClientConnection,
    Limits,
    PlainAuthenticator,
    ServerConnection,
    handshake_reply,
)
from cqlproto.cqltypes import EMPTY, UNSET, Date, Duration, Time, Timestamp
from cqlproto.enums import BatchKind, Consistency, ErrorCode, Opcode, ProtocolVersion, ResultKind
from cqlproto.exceptions import (
    CQLError,
    LocalProtocolError,
    MessageTooLarge,
    ProtocolError,
    RemoteProtocolError,
    ResponseTooLarge,
    RowMappingError,
    ValueConversionError,
)
from cqlproto.frames import EnvelopeReader, FrameReader, RawFrame, write_frame
from cqlproto.rows import Binder, Row, RowTarget, decoder
from cqlproto.segments import Segment, SegmentReader, write_segment, write_segments

__all__ = [
    "EMPTY",
    "UNSET",
    "Authenticator",
    "BatchKind",
    "Binder",
    "CQLError",
    "ClientConnection",
    "ConnectionEnded",
    "Consistency",
    "Date",
    "Duration",
    "EnvelopeReader",
    "ErrorCode",
    "Event",
    "FrameReader",
    "HandshakeCompleted",
    "HandshakeFailed",
    "Limits",
    "LocalProtocolError",
    "MessageTooLarge",
    "Opcode",
    "PlainAuthenticator",
    "ProtocolError",
    "ProtocolVersion",
    "PushReceived",
    "RawFrame",
    "RemoteProtocolError",
    "RequestReceived",
    "RequestUnreadable",
    "ResponseReceived",
    "ResponseTooLarge",
    "ResponseUnreadable",
    "ResultKind",
    "Row",
    "RowMappingError",
    "RowTarget",
    "Segment",
    "SegmentReader",
    "ServerConnection",
    "Time",
    "Timestamp",
    "UnsupportedVersionReceived",
    "ValueConversionError",
    "__version__",
    "decoder",
    "handshake_reply",
    "write_frame",
    "write_segment",
    "write_segments",
]
