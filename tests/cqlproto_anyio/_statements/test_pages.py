"""The loop that fetches pages: one request ahead, and none is left under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import ProtocolVersion
from cqlproto._events import ResponseReceived
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import VOID, Column, ResultMetadata, Rows
from cqlproto_anyio._eventloop.request import Request
from cqlproto_anyio._statements.pages import Pages

if TYPE_CHECKING:
    from cqlproto.messages import Response

METADATA = ResultMetadata.of([Column("ks", "t", "v", NATIVE_TYPES["int"])], ProtocolVersion.V4)


class Source:
    """A result of some pages of two rows; records its calls.

    Attributes:
        steps: the calls, in order: ``send``, ``receive`` and ``decode``, each with its page.
        refuses: the page that can't be decoded.
        void: whether the first reply has no rows.
    """

    def __init__(self, pages: int, *, refuses: int | None = None, void: bool = False) -> None:
        self.pages = pages
        self.refuses = refuses
        self.void = void
        self.steps: list[tuple[str, int]] = []
        self.requests: list[Request] = []

    async def send(self, paging_state: bytes | None) -> Request:
        self.steps.append(("send", int(paging_state or b"0")))
        self.requests.append(Request("SELECT", None))
        return self.requests[-1]

    async def receive(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        number = int(paging_state or b"0")
        assert request is self.requests[number]
        self.steps.append(("receive", number))
        state = b"%d" % (number + 1) if number + 1 < self.pages else None
        message: Response = Rows.of(METADATA, 2, bytes([number]), paging_state=state)
        return ResponseReceived(1, VOID if self.void else message, None)

    def accept(self, event: ResponseReceived, *, first: bool) -> Rows | None:
        message: Any = event.message
        assert first is (len(self.requests) == 1)
        return None if self.void else message

    def decode(self, message: Rows) -> list[int]:
        number = bytes(message.body[message.offset :])[0]
        self.steps.append(("decode", number))
        if number == self.refuses:
            raise ValueError(number)
        return [number, number]


async def all_rows(pages: Pages[int]) -> list[int]:
    rows = []
    await pages.begin()
    while pages.request is not None:
        rows += await pages.fetch()
    return rows


async def test_the_next_page_is_requested_before_this_one_is_decoded() -> None:
    source = Source(3)
    pages = Pages(source)
    assert await all_rows(pages) == [0, 0, 1, 1, 2, 2]
    assert pages.count == 6
    assert source.steps == [
        ("send", 0),
        ("receive", 0),
        ("send", 1),
        ("decode", 0),
        ("receive", 1),
        ("send", 2),
        ("decode", 1),
        ("receive", 2),
        ("decode", 2),
    ]


async def test_no_page_is_requested_beyond_the_rows_that_are_wanted() -> None:
    source = Source(9)
    pages = Pages(source, 4)
    assert await all_rows(pages) == [0, 0, 1, 1, 2, 2]
    assert pages.count == 6  # one page more than wanted shows that there are more
    assert len(source.requests) == 3


async def test_the_first_request_may_be_sent_already() -> None:
    source = Source(2)
    pages = Pages(source, request=await source.send(None))
    assert await pages.fetch() == [0, 0]
    assert await pages.fetch() == [1, 1]
    assert pages.request is None


async def test_a_result_without_rows() -> None:
    pages = Pages(Source(1, void=True))
    assert await all_rows(pages) == []
    assert pages.event.message is VOID


async def test_a_page_that_cannot_be_decoded_gives_the_next_one_up() -> None:
    source = Source(3, refuses=1)
    pages = Pages(source)
    with pytest.raises(ValueError, match="1"):
        await all_rows(pages)
    assert pages.request is None
    assert [request.done for request in source.requests] == [False, False, True]
