"""A client's and a server's core with a relay between them, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto import (
    ClientConnection,
    HandshakeCompleted,
    ProtocolVersion,
    RequestReceived,
    ServerConnection,
    handshake_reply,
)
from cqlproto.messages import READY, VOID, BindMetadata, Prepare, Prepared, Register
from cqlproto_anyio.testing.relay import End, Hold, Later, Relay, Send, Statements
from cqlproto_anyio.testing.rules import Rules
from tests.support.replies import columns, rows_of, statement_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto import Event
    from cqlproto.messages import Request, Response
    from cqlproto_anyio.testing import Entry, Rule, Side
    from cqlproto_anyio.testing.relay import Step, Target

SUPPORTED = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4", "snappy"]}
ONE_ROW = rows_of(columns("v"), [(1,)])
WAYS = [
    (ProtocolVersion.V3, None),
    (ProtocolVersion.V3, "lz4"),
    (ProtocolVersion.V4, None),
    (ProtocolVersion.V4, "lz4"),
    (ProtocolVersion.V4, "snappy"),
    (ProtocolVersion.V5, None),
    (ProtocolVersion.V5, "lz4"),
]
WAY_IDS = [f"v{version:d}-{compression}" for version, compression in WAYS]


def usual(event: RequestReceived) -> Response | None:
    """Answer any request as a server does."""
    message = event.message
    reply = handshake_reply(message, supported=SUPPORTED)
    if reply is not None:
        return reply
    if isinstance(message, Prepare):
        found = statement_id(message.query)
        metadata = ONE_ROW.metadata
        assert metadata is not None
        return Prepared(found, b"metadata", BindMetadata(()), metadata)
    if isinstance(message, Register):
        return READY
    return VOID


class Wired:
    """Carries bytes between the ends until nothing happens.

    Attributes:
        later, holds, ends: the steps that are not carried out, in order.
        asked: the server's events after the handshake.
        events: the client's events after the handshake.
        passed: all bytes that came out of the relay, by target.
        sent: all bytes that went in, by side.
    """

    def __init__(
        self,
        version: ProtocolVersion,
        compression: str | None,
        *rules: Rule,
        seed: int = 1,
        cut: Callable[[bytes], Sequence[bytes]] = lambda data: [data],
        statements: Statements | None = None,
    ) -> None:
        self.client = ClientConnection(version=version, compression=compression)
        self.server = ServerConnection()
        self.rules = Rules(seed)
        self.log: list[Entry] = []
        self.relay = Relay(7, self.rules, statements or Statements(), self.log.append)
        self.answer: Callable[[RequestReceived], Response | None] = usual
        self.cut = cut
        self.later: list[Later] = []
        self.holds: list[Hold] = []
        self.ends: list[End] = []
        self.asked: list[Request] = []
        self.events: list[Event] = []
        self.sent: dict[Side, bytes] = {"request": b"", "reply": b""}
        self.passed: dict[Target, bytes] = {"node": b"", "client": b""}
        for rule in rules:
            self.rules.add(rule)

    def handshake(self) -> Wired:
        """Complete the handshake; forget the bytes that passed in it."""
        self.client.initiate()
        self.run()
        assert any(isinstance(event, HandshakeCompleted) for event in self.events)
        self.events.clear()
        self.asked.clear()
        return self

    def run(self) -> None:
        """Carry bytes until nothing happens any more."""
        while True:
            asked = self.client.data_to_send()
            self.carry("request", asked)
            self.serve()
            told = self.server.data_to_send()
            self.carry("reply", told)
            while (event := self.client.next_event()) is not None:
                self.events.append(event)
            if not asked and not told:
                return

    def carry(self, side: Side, data: bytes) -> None:
        """Give bytes to the relay, in pieces, and carry out its steps."""
        self.sent[side] += data
        if data:
            for piece in self.cut(data):
                self.do(self.relay.receive(side, piece))

    def do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Send):
                assert step.data
                self.deliver(step.to, step.data)
            elif isinstance(step, Later):
                self.later.append(step)
            elif isinstance(step, Hold):
                self.holds.append(step)
            else:
                self.ends.append(step)

    def deliver(self, to: Target, data: bytes) -> None:
        self.passed[to] += data
        (self.server if to == "node" else self.client).receive_data(data)

    def serve(self) -> None:
        while (event := self.server.next_event()) is not None:
            assert isinstance(event, RequestReceived)
            self.asked.append(event.message)
            reply = self.answer(event)
            if reply is not None:
                self.server.reply(event.stream_id, reply)
