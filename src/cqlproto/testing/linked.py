"""A linked pair: a client's and a server's end, connected in memory.

The test decides when bytes move, how many, and how they are split, so every order of events and
every split is reproducible. The bytes are the same as on a socket; no part of either end is
replaced.

    >>> from cqlproto.messages import VOID, Query, QueryParameters
    >>> from cqlproto import Consistency
    >>> pair = linked_pair(split=1)
    >>> stream_id = pair.client.send(Query("TRUNCATE t", QueryParameters(Consistency.ONE)))
    >>> [asked] = pair.to_server()
    >>> pair.server.reply(asked.stream_id, VOID)
    >>> pair.to_client()
    [ResponseReceived(stream_id=1, message=Void(), tracing_id=None, warnings=(), payload=None)]
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from cqlproto._events import (
    HandshakeCompleted,
    HandshakeFailed,
    RequestReceived,
    UnsupportedVersionReceived,
)
from cqlproto.connection import ClientConnection, ServerConnection, handshake_reply
from cqlproto.enums import ErrorCode
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cqlproto._events import Event
    from cqlproto.messages import Response

__all__ = ["SUPPORTED", "LinkedPair", "linked_pair"]

# The default options of a server.
SUPPORTED: Mapping[str, Sequence[str]] = {
    "COMPRESSION": ("snappy", "lz4"),
    "CQL_VERSION": ("3.4.7",),
    "PROTOCOL_VERSIONS": ("3/v3", "4/v4", "5/v5", "6/v6-beta"),
}


class LinkedPair:
    """A :class:`ClientConnection` and a :class:`ServerConnection`, and the bytes between them.

    Arguments:
        client: the client's end; a new one by default.
        server: the server's end; a new one by default.
        split: how the bytes of each transfer are split: None does not split them, a number splits
            them into pieces of that many bytes, a sequence splits them at these offsets.

    Attributes:
        client, server, split: as given; ``split`` may be changed at any time.
    """

    __slots__ = ("_cut", "_to_client", "_to_server", "client", "server", "split")

    def __init__(
        self,
        client: ClientConnection | None = None,
        server: ServerConnection | None = None,
        *,
        split: int | Sequence[int] | None = None,
    ) -> None:
        self.client = client or ClientConnection()
        self.server = server or ServerConnection()
        self.split = split
        self._to_client = bytearray()
        self._to_server = bytearray()
        self._cut = False

    @property
    def in_transit(self) -> tuple[int, int]:
        """The numbers of bytes on the way to the server and to the client."""
        return len(self._to_server), len(self._to_client)

    def to_server(self, most: int | None = None) -> list[Event]:
        """Transfer bytes from the client to the server, and return the server's events.

        Arguments:
            most: the most bytes to transfer; the rest stays in transit. None transfers all.

        Raises:
            RemoteProtocolError: the server raises it. If there were events before the error, they
                are returned, and the next call raises the error.
        """
        self._to_server += self.client.data_to_send()
        return self._carry(self._to_server, self.server, most)

    def to_client(self, most: int | None = None) -> list[Event]:
        """Transfer bytes from the server to the client, and return the client's events.

        See :meth:`to_server`.
        """
        self._to_client += self.server.data_to_send()
        return self._carry(self._to_client, self.client, most)

    def run(
        self, answer: Callable[[RequestReceived | UnsupportedVersionReceived], Response | None]
    ) -> list[Event]:
        """Transfer bytes both ways until neither end has an event.

        Arguments:
            answer: returns the server's reply to a request, or None for no reply.

        Returns:
            the client's events.

        Raises:
            RemoteProtocolError: either end raises it; as for :meth:`to_server`.
        """
        events: list[Event] = []
        try:
            while True:
                asked = self.to_server()
                for event in asked:
                    if isinstance(event, (RequestReceived, UnsupportedVersionReceived)):
                        response = answer(event)
                        if response is not None:
                            self.server.reply(event.stream_id, response)
                told = self.to_client()
                events += told
                if not asked and not told:
                    return events
        except RemoteProtocolError:
            if events:
                return events
            raise

    def handshake(
        self,
        *,
        supported: Mapping[str, Sequence[str]] = SUPPORTED,
        verify: Callable[[bytes], bool] | None = None,
    ) -> HandshakeCompleted | HandshakeFailed:
        """Run the handshake as with an ordinary server, and return its outcome.

        Arguments:
            supported, verify: as for :func:`~cqlproto.handshake_reply`.

        Raises:
            LocalProtocolError: the handshake was begun before.
        """

        def answer(event: RequestReceived | UnsupportedVersionReceived) -> Response | None:
            if isinstance(event, RequestReceived):
                return handshake_reply(event.message, supported=supported, verify=verify)
            spoken = ", ".join(f"{number:d}/v{number:d}" for number in self.server.versions)
            return Error(
                ErrorCode.PROTOCOL_ERROR,
                f"Invalid or unsupported protocol version ({event.version});"
                f" supported versions are ({spoken})",
            )

        self.client.initiate()
        events = self.run(answer)
        assert isinstance(events[-1], (HandshakeCompleted, HandshakeFailed))
        return events[-1]

    def cut(self) -> tuple[list[Event], list[Event]]:
        """End the connection for both ends. Bytes in transit, and those sent later, are lost.

        Returns:
            the remaining events of the client and of the server, ConnectionEnded last.

        Raises:
            RemoteProtocolError: an end had failed before.
        """
        self._cut = True
        self._to_client.clear()
        self._to_server.clear()
        self.client.receive_eof()
        self.server.receive_eof()
        return _take(self.client, ()), _take(self.server, ())

    def _carry(
        self, transit: bytearray, end: ClientConnection | ServerConnection, most: int | None
    ) -> list[Event]:
        if self._cut:
            transit.clear()
        load = bytes(transit[:most])
        del transit[:most]
        return _take(end, self._pieces(load))

    def _pieces(self, load: bytes) -> Iterator[bytes]:
        if isinstance(self.split, int):
            offsets: Sequence[int] = range(self.split, len(load), self.split)
        else:
            offsets = sorted({offset for offset in self.split or () if 0 < offset < len(load)})
        start = 0
        for offset in offsets:
            yield load[start:offset]
            start = offset
        if start < len(load):
            yield load[start:]


def _take(
    end: ClientConnection | ServerConnection, pieces: Iterator[bytes] | tuple[()]
) -> list[Event]:
    """Pass the pieces to one end, one by one, and return its events."""
    events: list[Event] = []
    waiting = deque(pieces)
    try:
        while True:
            event = end.next_event()
            if event is not None:
                events.append(event)
            elif waiting:
                end.receive_data(waiting.popleft())
            else:
                return events
    except RemoteProtocolError:
        if events:
            return events
        raise


def linked_pair(
    client: ClientConnection | None = None,
    server: ServerConnection | None = None,
    *,
    split: int | Sequence[int] | None = None,
    supported: Mapping[str, Sequence[str]] = SUPPORTED,
    verify: Callable[[bytes], bool] | None = None,
) -> LinkedPair:
    """Return a linked pair after the handshake.

    Arguments:
        client, server, split: as for :class:`LinkedPair`.
        supported, verify: as for :meth:`LinkedPair.handshake`.

    Raises:
        LocalProtocolError: the handshake failed.
    """
    pair = LinkedPair(client, server, split=split)
    event = pair.handshake(supported=supported, verify=verify)
    if isinstance(event, HandshakeFailed):
        raise LocalProtocolError(f"the handshake failed: {event.reason}")
    return pair
