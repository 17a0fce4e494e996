"""The client's and the server's end of a connection, without a transport.

``receive_data`` takes bytes and ``next_event`` returns the events in them; ``send`` or ``reply``
takes a message and ``data_to_send`` returns the bytes to send. The tables of ``_state`` say which
messages may follow which, ``frames`` splits bytes into frames, and ``messages`` reads and writes
what is in a frame. This package connects the three.

base       limits, buffers and fatal errors, which both ends share
sasl       authenticators: the client's side of a SASL exchange
handshake  the client's part of the handshake, one message at a time
streams    requests and their stream ids
client     the client's end: the handshake and received messages
server     the server's end
"""

from __future__ import annotations

from cqlproto.connection.base import Limits
from cqlproto.connection.client import ClientConnection
from cqlproto.connection.sasl import Authenticator, PlainAuthenticator
from cqlproto.connection.server import ServerConnection, handshake_reply
from cqlproto.connection.streams import FrameBinder

__all__ = [
    "Authenticator",
    "ClientConnection",
    "FrameBinder",
    "Limits",
    "PlainAuthenticator",
    "ServerConnection",
    "handshake_reply",
]
