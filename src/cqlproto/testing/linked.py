"""A client's and a server's end, linked: a whole connection in memory, with nothing between.

Bytes move only when they are told to, as many and in such pieces as the test wants, so every order
of events and every cut can be had again. What is carried is what a socket would carry; nothing of
the two ends is replaced.

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

# What a server offers unless a test says otherwise.
SUPPORTED: Mapping[str, Sequence[str]] = {
    "COMPRESSION": ("snappy", "lz4"),
    "CQL_VERSION": ("3.4.7",),
    "PROTOCOL_VERSIONS": ("3/v3", "4/v4", "5/v5", "6/v6-beta"),
}


class LinkedPair:
    """A :class:`ClientConnection` and a :class:`ServerConnection`, and the bytes between them.

    Arguments:
        client: the client's end; a new one if it is left out.
        server: the server's end; a new one if it is left out.
        split: how each load of bytes is cut: None carries it whole, a number in pieces of so many
            bytes, a sequence of numbers at these offsets, counted from the load's beginning.

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
        """How many bytes have left the client and not reached the server, and the other way."""
        return len(self._to_server), len(self._to_client)

    def to_server(self, most: int | None = None) -> list[Event]:
        """Carry what the client has to send, and return what the server makes of it.

        Arguments:
            most: carry so many bytes at most; the others stay in transit. None carries all.

        Raises:
            RemoteProtocolError: the server does. If there were events before the error, they are
                returned, and the next call raises it.
        """
        self._to_server += self.client.data_to_send()
        return self._carry(self._to_server, self.server, most)

    def to_client(self, most: int | None = None) -> list[Event]:
        """Carry what the server has to send, and return what the client makes of it.

        As :meth:`to_server`, the other way round.
        """
        self._to_client += self.server.data_to_send()
        return self._carry(self._to_client, self.client, most)

    def run(
        self, answer: Callable[[RequestReceived | UnsupportedVersionReceived], Response | None]
    ) -> list[Event]:
        """Carry bytes both ways until nothing happens any more.

        Arguments:
            answer: returns what the server replies to a request, or None to leave it open.

        Returns:
            the client's events.

        Raises:
            RemoteProtocolError: either end does; as for :meth:`to_server`.
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
        """Let the two shake hands as with an ordinary server, and return how that ended.

        Arguments:
            supported, verify: as for :func:`~cqlproto.handshake_reply`.

        Raises:
            LocalProtocolError: it was begun before.
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
        """End the connection for both ends; what is in transit is lost, and what they send later.

        Returns:
            what is left for the client and for the server, ConnectionEnded last.

        Raises:
            RemoteProtocolError: an end had met an error before.
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
    """Give the pieces to one end, one by one, and return its events."""
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
    """Return a pair whose handshake is done.

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
