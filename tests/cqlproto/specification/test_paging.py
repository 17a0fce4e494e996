"""Paging: a page size, a paging state, the next page (section 8, of v5 7)."""

from __future__ import annotations

import pytest

from cqlproto import (
    ClientConnection,
    Consistency,
    ProtocolVersion,
    RequestReceived,
    ResponseReceived,
    decoder,
)
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import Column, Query, QueryParameters, ResultMetadata, Rows
from cqlproto.testing import linked_pair
from tests.cqlproto.specification.notation import bytes_, int_

COLUMNS = [Column("k", "t", "n", NATIVE_TYPES["int"])]
TABLE = list(range(7))


def answer(query: Query, version: ProtocolVersion) -> Rows:
    """Answer as a server does: with the page after the paging state."""
    params = query.parameters
    assert params.page_size is not None
    start = int.from_bytes(params.paging_state or b"", "big")
    page = TABLE[start : start + params.page_size]
    stop = start + len(page)
    state = stop.to_bytes(4, "big") if stop < len(TABLE) else None
    content = b"".join(bytes_(int_(number)) for number in page)
    metadata = ResultMetadata.of(COLUMNS, version)
    return Rows.of(metadata, len(page), content, paging_state=state)


@pytest.mark.spec("v3 v4 8", "v5 7")
@pytest.mark.parametrize("version", ProtocolVersion)
@pytest.mark.parametrize("page_size", [1, 3, 7, 100])
def test_pages_make_up_the_result(page_size: int, version: ProtocolVersion) -> None:
    pair = linked_pair(ClientConnection(version=version))
    decode = decoder(COLUMNS, tuple)
    found: list[int] = []
    state = None
    pages = 0
    while True:
        params = QueryParameters(Consistency.ONE, page_size=page_size, paging_state=state)
        pair.client.send(Query("SELECT n FROM t", params))
        [asked] = pair.to_server()
        assert isinstance(asked, RequestReceived)
        assert isinstance(asked.message, Query)
        pair.server.reply(asked.stream_id, answer(asked.message, version))
        [told] = pair.to_client()
        assert isinstance(told, ResponseReceived)
        rows = told.message
        assert isinstance(rows, Rows)
        assert (rows.flags & 0x02 != 0) == (rows.paging_state is not None)
        found += [number for (number,) in decode(rows)]
        pages += 1
        state = rows.paging_state
        if state is None:
            break
    assert found == TABLE
    assert pages == -(-len(TABLE) // page_size)
