"""The two ends of a connection, without the connection.

Bytes go in by ``receive_data``, come out as events by ``next_event``; messages go in by ``send`` or
``reply`` and come out as bytes by ``data_to_send``. What may happen when stands in ``_state``; how
bytes are cut stands in ``frames``; what they mean, in ``messages``. This package is the glue.

base       what both ends share: limits, buffers, the error that ends everything
sasl       who answers when a server asks for credentials
handshake  the client's part of the handshake, one message at a time
client     the client's end: stream ids and their replies
server     the server's end
"""

from __future__ import annotations

from cqlproto.connection.base import Limits
from cqlproto.connection.client import ClientConnection, FrameBinder
from cqlproto.connection.sasl import Authenticator, PlainAuthenticator
from cqlproto.connection.server import ServerConnection, handshake_reply

__all__ = [
    "Authenticator",
    "ClientConnection",
    "FrameBinder",
    "Limits",
    "PlainAuthenticator",
    "ServerConnection",
    "handshake_reply",
]
