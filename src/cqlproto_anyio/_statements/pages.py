"""Fetching the pages of a result: the next page is requested before the current one is decoded.

So the server makes a page while the client works on the one before, and at most one request is
under way. ``execute``, ``stream`` and the reader of the system tables all fetch their pages here;
each says how a page is requested, awaited and decoded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from cqlproto._events import ResponseReceived
    from cqlproto.messages.results import Rows
    from cqlproto_anyio._eventloop.request import Request

__all__ = ["PageSource", "Pages"]

R = TypeVar("R")


class PageSource(Protocol[R]):
    """Requests the pages of one result, and reads them."""

    async def send(self, paging_state: bytes | None) -> Request:
        """Send the request for the page that a paging state leads to; None for the first page.

        A request that couldn't be sent yet is returned as well; :meth:`receive` sends it.
        """
        ...

    async def receive(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        """Return the reply to a request for a page; raises what ends the call."""
        ...

    def accept(self, event: ResponseReceived, *, first: bool) -> Rows | None:
        """Return the message of a page; None if the first reply has no rows.

        Raises:
            RemoteProtocolError: a reply is not what was asked for.
        """
        ...

    def decode(self, message: Rows) -> list[R]:
        """Return the rows of a page."""
        ...


class Pages(Generic[R]):
    """The pages of one result, in order.

    Arguments:
        source: requests and reads the pages.
        most: how many rows are wanted; no further page is requested once there are more.
        request: the request for the first page, if it was sent already.

    Attributes:
        request: the request for the next page, or None.
        event: the reply that brought the latest page.
        count: how many rows have come.
    """

    __slots__ = ("_most", "_paging_state", "_source", "count", "event", "request")

    event: ResponseReceived

    def __init__(
        self, source: PageSource[R], most: float = math.inf, request: Request | None = None
    ) -> None:
        self._source = source
        self._most = most
        self._paging_state: bytes | None = None
        self.request = request
        self.count = 0

    async def begin(self) -> None:
        """Request the first page."""
        self.request = await self._source.send(None)

    async def fetch(self) -> list[R]:
        """Return the rows of the page that was requested; request the one after it."""
        request = self.request
        assert request is not None
        event = await self._source.receive(request, self._paging_state)
        self.request = None
        return await self.take(event)

    async def take(self, event: ResponseReceived) -> list[R]:
        """Return the rows of a page that was received; request the one after it."""
        self.event = event
        message = self._source.accept(event, first=self._paging_state is None)
        if message is None:
            return []
        self.count += message.row_count
        following = message.paging_state
        if following is not None and self.count <= self._most:
            self._paging_state = following
            self.request = await self._source.send(following)
        try:
            return self._source.decode(message)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Give up the request for the next page."""
        request, self.request = self.request, None
        if request is not None:
            request.abandon()
