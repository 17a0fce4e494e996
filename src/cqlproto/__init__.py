"""A sans-IO implementation of Cassandra's native protocol.

It turns received bytes into events and messages into bytes to send. It uses no socket, clock,
thread or random number, so it works with any transport and can be tested and fuzzed without one.

    >>> from cqlproto import ClientConnection, ServerConnection
    >>> client, server = ClientConnection(), ServerConnection()
    >>> client.initiate()
    >>> server.receive_data(client.data_to_send())
    >>> server.next_event()
    RequestReceived(stream_id=0, message=Options(), tracing=False, payload=None)

``cqlproto.messages`` has the messages, ``cqlproto.cqltypes`` types and values, ``cqlproto.rows``
the decoding of rows and the binding of parameters, and ``cqlproto.frames`` frames, for proxies that
relay them without decoding.
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
