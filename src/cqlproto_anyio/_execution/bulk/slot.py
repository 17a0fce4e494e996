"""A slot: the request of one row after the other.

A bulk call has at most as many slots as rows may be under way. When a row's reply arrives, its slot
is free for the next row, so no object is made per row. Nothing awaits a slot: the connection calls
:meth:`Slot.answer`, which counts the row and lets the bulk call go on when the replies of this read
are all counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.messages.results import Rows, Void
from cqlproto_anyio._eventloop.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto._events import ResponseReceived

__all__ = ["ReadSlot", "Slot"]


class Slot(Request):
    """The request of one row at a time.

    Attributes:
        bulk: the bulk call.
        index: the row's place among all rows, from 0.
        row: the row, as the caller gave it.
        items: the rows of a batch with their values; empty for a single row.
        stamp: the timestamp of the row's write; None if it isn't known.
    """

    __slots__ = ("bulk", "index", "items", "row")
    bulk: Any  # its class stands above this module
    connection: Any  # Connection | None; one that has replied is there
    message: Any  # None between two batches
    items: Sequence[tuple[int, Any, Sequence[Any]]]
    stamp: Any  # int | None

    def __init__(self, bulk: Any) -> None:
        super().__init__(bulk.query, bulk.settings.timeout, None, (), bulk.statement, bulk.settings)
        self.bulk = bulk
        self.done = True
        self.row: Any = None
        self.index = 0
        self.items = ()
        self.stamp = None

    def answer(self, value: Any) -> None:
        # The hot path: one call per row, for a write that has succeeded.
        if self.done:
            return
        self.done = True
        bulk = self.bulk
        if value is None or type(value.message) is not Void or value.notes or self.items:
            bulk.arrived(self, value)
            return
        bulk.count += 1
        self.row = None
        self.values = ()
        bulk.free.append(self)
        if not bulk.will_go_on:
            bulk.will_go_on = True
            self.connection.answered.append(bulk.go_on)

    complete = answer

    def awaitable(self, make: Callable[..., Request]) -> Request:
        """Return the same request as one that a task can await, for further attempts."""
        request = make(
            self.query, self.timeout, self.binder, self.values, self.statement, self.settings
        )
        request.connection = self.connection
        request.stream_id = self.stream_id
        request.deadline = self.deadline
        if self.stamp is not None:
            request.stamp = self.stamp
        return request


class ReadSlot(Slot):
    """The request of a row whose result is wanted."""

    __slots__ = ("finished",)

    def __init__(self, bulk: Any) -> None:
        super().__init__(bulk)
        self.value = None
        self.finished = False

    def answer(self, value: Any) -> None:
        if self.done:
            return
        self.done = True
        bulk = self.bulk
        if value is None or value.notes or not is_whole(value, bulk.settings.max_rows):
            bulk.arrived(self, value)
            return
        self.value = value
        bulk.finished(self)
        if not bulk.will_go_on:
            bulk.will_go_on = True
            self.connection.answered.append(bulk.go_on)

    complete = answer


def is_whole(event: ResponseReceived, max_rows: int) -> bool:
    """Return whether a reply is the whole result of a statement."""
    message = event.message
    if type(message) is Rows:
        return message.paging_state is None and message.row_count <= max_rows
    return type(message) is Void
