"""What is too long to be sent or received, and what cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqlproto import (
    Binder,
    Limits,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
    RequestReceived,
)
from cqlproto.frames import HEADER_SIZE, write_frame
from cqlproto.messages import VOID, Query, QueryParameters, Rows
from tests.cqlproto.peers import (
    METADATA,
    ONE,
    PREPARED,
    REQUESTS,
    V4,
    connected,
    ready_client,
    refused,
    sent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESSIONS = pytest.mark.parametrize("compression", [None, "lz4", "snappy"])


@COMPRESSIONS
def test_a_message_too_large_leaves_the_connection_usable(compression: str | None) -> None:
    limits = Limits(max_request=100, max_streams=1)
    pair = connected(compression=compression, limits=limits)
    overhead = HEADER_SIZE + 4 + 3
    binder = Binder(PREPARED, ONE, V4)
    fits = 100 - len(binder.frame(1, [1, ""]))
    for _ in range(3):
        with pytest.raises(MessageTooLarge) as info:
            pair.client.send(Query("x" * (101 - overhead), ONE))
        assert (info.value.size, info.value.limit) == (101, 100)
        with pytest.raises(MessageTooLarge) as info:
            pair.client.send_bound(binder, [1, "x" * (fits + 1)])
        assert (info.value.size, info.value.limit) == (101, 100)
        assert (pair.client.data_to_send(), pair.client.in_flight) == (b"", 0)
        assert pair.client.unsent == 0
    sends: list[Callable[[], int]] = [
        lambda: pair.client.send(Query("x" * (100 - overhead), ONE)),
        lambda: pair.client.send_bound(binder, [1, "x" * fits]),
    ]
    for send in sends:
        assert send() == 1
        [asked] = pair.to_server()
        assert isinstance(asked, RequestReceived)
        pair.server.reply(1, VOID)
        assert len(pair.to_client()) == 1


def test_a_message_that_cannot_be_written_leaks_nothing() -> None:
    client = ready_client(Limits(max_streams=1))
    bad = Query("x", QueryParameters(ONE.consistency, page_size=0))
    with pytest.raises(LocalProtocolError, match="page"):
        client.send(bad)
    binder = Binder(PREPARED, ONE, V4)
    for values in ([1], ["not an int", "x"], [1, object()]):
        with pytest.raises((LocalProtocolError, ValueError)):
            client.send_bound(binder, values)
    assert (client.in_flight, client.unsent, client.data_to_send()) == (0, 0, b"")
    assert sent(client) == 1


def test_a_response_beyond_the_limit_is_refused_by_its_header() -> None:
    client = ready_client(Limits(max_response=100))
    stream_id = sent(client)
    refused(client, write_frame(0x84, 0, stream_id, 8, bytes(101))[:9], "101 bytes is announced")


def test_a_response_beyond_the_limit_is_refused_before_it_is_decompressed() -> None:
    limits = Limits(max_response=2000)
    for size, fits in ((100, True), (200, False)):
        pair = connected(compression="lz4", limits=limits)
        pair.client.send(REQUESTS["QUERY"])
        pair.to_server()
        pair.server.reply(1, Rows.of(METADATA, 2 * size, (b"\xff" * 8) * 2 * size))
        if fits:
            assert len(pair.to_client()) == 1
        else:
            with pytest.raises(RemoteProtocolError, match="limit is 2000"):
                pair.to_client()
