"""The linked pair of a client and a server."""

from __future__ import annotations

import doctest
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto.testing.linked
from cqlproto import (
    ClientConnection,
    ConnectionEnded,
    Consistency,
    HandshakeCompleted,
    HandshakeFailed,
    LocalProtocolError,
    PlainAuthenticator,
    ProtocolVersion,
    RemoteProtocolError,
    RequestReceived,
    ResponseReceived,
    ServerConnection,
)
from cqlproto.messages import VOID, Error, Options, Query, QueryParameters, SetKeyspace
from cqlproto.testing import LinkedPair, linked_pair

ONE = QueryParameters(Consistency.ONE)
VERSIONS = pytest.mark.parametrize("version", ProtocolVersion, ids=str)
# What v5 puts around the frames that leave together (v5 section 2.1).
SEGMENT = 6 + 4


def test_it_needs_no_hypothesis() -> None:
    program = (
        "import sys; sys.modules['hypothesis'] = None;"
        "from cqlproto.testing import LinkedPair, linked_pair;"
        "linked_pair(); LinkedPair()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_example_in_its_text() -> None:
    assert doctest.testmod(cqlproto.testing.linked) == (0, 7)


def test_a_pair_can_be_made_of_given_ends() -> None:
    client, server = ClientConnection(compression="lz4"), ServerConnection()
    pair = linked_pair(client, server)
    assert pair.client is client
    assert pair.server is server
    assert client.available > 0


@given(
    st.sampled_from(ProtocolVersion), st.none() | st.integers(1, 50) | st.lists(st.integers(-5, 90))
)
def test_however_bytes_are_cut_the_events_are_the_same(
    version: ProtocolVersion, split: int | list[int] | None
) -> None:
    pair = linked_pair(ClientConnection(version=version), split=split)
    texts = ["", "a", "b" * 50]
    ids = [pair.client.send(Query(text, ONE)) for text in texts]
    assert [
        (event.stream_id, event.message)
        for event in pair.to_server()
        if isinstance(event, RequestReceived)
    ] == [(n, Query(text, ONE)) for n, text in zip(ids, texts, strict=True)]
    for n in ids:
        pair.server.reply(n, SetKeyspace(str(n)))
    assert [
        (event.stream_id, event.message)
        for event in pair.to_client()
        if isinstance(event, ResponseReceived)
    ] == [(n, SetKeyspace(str(n))) for n in ids]


class Recording(ServerConnection):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []

    def receive_data(self, data: bytes) -> None:
        self.pieces.append(len(data))
        super().receive_data(data)


@pytest.mark.parametrize(
    ("split", "pieces"),
    [
        (None, [18]),
        (1, [1] * 18),
        (7, [7, 7, 4]),
        (18, [18]),
        ([9], [9, 9]),
        ([20, 3, 3, 0, -1, 18], [3, 15]),
        ([], [18]),
    ],
)
def test_the_pieces(split: Any, pieces: list[int]) -> None:
    server = Recording()
    pair = linked_pair(ClientConnection(version=ProtocolVersion.V4), server)
    server.pieces.clear()
    pair.split = split
    pair.client.send(Options())
    pair.client.send(Options())
    assert len(pair.to_server()) == 2
    assert server.pieces == pieces


@VERSIONS
def test_no_more_than_asked_for_is_carried(version: ProtocolVersion) -> None:
    pair = linked_pair(ClientConnection(version=version))
    around = SEGMENT if version.has_segments else 0
    pair.client.send(Options())
    assert pair.in_transit == (0, 0)
    assert pair.to_server(0) == []
    assert pair.in_transit == (9 + around, 0)
    assert pair.to_server(8 + around) == []
    assert pair.in_transit == (1, 0)
    [asked] = pair.to_server(100)
    assert isinstance(asked, RequestReceived)
    pair.server.reply(asked.stream_id, Error(0, "no"))
    assert pair.to_client(9) == []
    assert pair.in_transit[1] > 0
    assert len(pair.to_client()) == 1


@VERSIONS
@pytest.mark.parametrize(("carried", "clean"), [(0, True), (5, False), (9, False), (13, True)])
def test_a_cut_loses_what_is_on_the_way_and_is_told_to_both(
    version: ProtocolVersion, carried: int, clean: bool
) -> None:
    pair = linked_pair(ClientConnection(version=version))
    for _ in range(2):
        pair.client.send(Query("x", ONE))
    pair.to_server()
    pair.server.reply(1, VOID)
    if version.has_segments and carried == 13:
        carried += SEGMENT
    pair.to_client(carried)
    pair.client.send(Options())
    pair.to_server(3)
    [for_client], [for_server] = pair.cut()
    assert isinstance(for_client, ConnectionEnded)
    assert isinstance(for_server, ConnectionEnded)
    assert for_client.clean is clean
    assert not for_server.clean
    pair.server.reply(2, VOID)
    assert (pair.to_client(), pair.to_server()) == ([], [])
    assert pair.in_transit == (0, 0)
    with pytest.raises(LocalProtocolError, match="closed"):
        pair.client.send(Options())


@VERSIONS
def test_what_came_before_an_error_is_returned_first(version: ProtocolVersion) -> None:
    pair = linked_pair(ClientConnection(version=version))
    pair.client.send(Options())
    pair.server.receive_data(b"\x84 is no request")
    with pytest.raises(RemoteProtocolError, match="not a CQL request|checksum"):
        pair.to_server()
    pair = linked_pair(ClientConnection(version=version))
    pair.client.send(Query("x", ONE))
    pair.to_server()
    pair.server.reply(1, VOID)
    data = pair.server.data_to_send()
    pair.client.receive_data(data + data)
    assert len(pair.to_client()) == 1
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="no request is in flight"):
            pair.to_client()
        with pytest.raises(RemoteProtocolError, match="no request is in flight"):
            pair.run(lambda _: VOID)
    with pytest.raises(RemoteProtocolError, match="no request is in flight"):
        pair.cut()


def test_it_runs_until_nothing_happens() -> None:
    pair = linked_pair(split=2)
    for text in ("a", "b", "c"):
        pair.client.send(Query(text, ONE))

    def answer(event: Any) -> Any:
        return None if event.message.query == "b" else SetKeyspace(event.message.query)

    events = pair.run(answer)
    assert [event.message for event in events if isinstance(event, ResponseReceived)] == [
        SetKeyspace("a"),
        SetKeyspace("c"),
    ]
    assert pair.client.in_flight == 1
    assert pair.run(answer) == []
    pair.server.receive_eof()
    assert pair.run(answer) == []
    assert pair.server.next_event() is None, "its end has been told"


@VERSIONS
def test_a_run_that_meets_an_error_returns_what_came_before(version: ProtocolVersion) -> None:
    pair = linked_pair(ClientConnection(version=version))
    pair.client.send(Query("a", ONE))
    pair.to_server()
    pair.server.reply(1, VOID)
    data = pair.server.data_to_send()
    pair.client.receive_data(data + b"HTTP/1.1")
    assert len(pair.run(lambda _: VOID)) == 1
    with pytest.raises(RemoteProtocolError, match="HTTP|checksum"):
        pair.run(lambda _: VOID)


def test_handshakes_that_fail() -> None:
    def refuse(_: bytes) -> bool:
        return False

    client = ClientConnection(authenticator=PlainAuthenticator("me", "x"))
    assert isinstance(LinkedPair(client).handshake(verify=refuse), HandshakeFailed)
    with pytest.raises(LocalProtocolError, match="the handshake failed: the server requests"):
        linked_pair(verify=refuse)
    with pytest.raises(LocalProtocolError, match="does not support lz4"):
        linked_pair(ClientConnection(compression="lz4"), supported={})
    client = ClientConnection(version=ProtocolVersion.V4)
    server = ServerConnection(versions=(ProtocolVersion.V5,))
    with pytest.raises(LocalProtocolError, match=r"version \(4\); supported versions are \(5/v5\)"):
        linked_pair(client, server)


def test_a_handshake_is_made_once() -> None:
    pair = LinkedPair()
    event = pair.handshake(supported={"ODD": ["1"]})
    assert isinstance(event, HandshakeCompleted)
    assert event.supported == {"ODD": ["1"]}
    with pytest.raises(LocalProtocolError, match="called before"):
        pair.handshake()
