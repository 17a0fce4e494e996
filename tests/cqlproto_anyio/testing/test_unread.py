"""Traffic that a relay can't parse passes unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import (
    Consistency,
    ProtocolVersion,
    RemoteProtocolError,
)
from cqlproto.messages import (
    QueryParameters,
)
from cqlproto.segments import write_segment
from cqlproto.testing import splits
from cqlproto_anyio.testing import (
    Answer,
    Drop,
    Rule,
)
from cqlproto_anyio.testing.relay import Relay, Send, Statements
from cqlproto_anyio.testing.rules import Rules
from tests.cqlproto_anyio.testing.wired import Wired

if TYPE_CHECKING:
    from cqlproto_anyio.testing import Side

V3, V4, V5 = ProtocolVersion
SIDES: tuple[Side, ...] = ("request", "reply")
ONE = QueryParameters(Consistency.ONE)
INSERT = "INSERT INTO orders (id) VALUES (1)"
SELECT = "SELECT v FROM orders"


def _fresh(*rules: Rule) -> tuple[Relay, list[Any]]:
    log: list[Any] = []
    known = Rules(1)
    for rule in rules:
        known.add(rule)
    return Relay(1, known, Statements(), log.append), log


@given(st.data())
def test_what_is_no_cql_is_relayed_unread(data: st.DataObject) -> None:
    relay, log = _fresh(Rule(Drop(connection=True)), Rule(Drop(connection=True), side="request"))
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x83" + data.draw(st.binary())  # of TLS
    answer = b"\x16\x03\x03" + data.draw(st.binary(max_size=9))
    passed: dict[str, bytes] = {"node": b"", "client": b""}
    pieces = [("request", piece) for piece in data.draw(splits(hello))]
    pieces += [("reply", piece) for piece in data.draw(splits(answer))]
    for side, piece in pieces:
        for step in relay.receive(side, piece):  # type: ignore[arg-type]  # side is drawn
            assert isinstance(step, Send)
            passed[step.to] += step.data
    for side in SIDES:
        for step in relay.finish(side):
            assert isinstance(step, Send)
            passed[step.to] += step.data
    assert passed == {"node": hello, "client": answer}
    assert [entry.fault for entry in log] == [None]
    assert log[0].note.startswith("relayed unread: ")


def test_what_was_kept_of_the_other_side_passes_too() -> None:
    relay, _ = _fresh()
    assert relay.receive("request", b"\x04\0\0") == []
    assert relay.receive("reply", b"HTTP/1.1 400") == [
        Send("node", b"\x04\0\0"),
        Send("client", b"HTTP/1.1 400"),
    ]


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_segments_that_break_the_rules_are_not_read(compression: str | None) -> None:
    for payload, long in ((b"\x05\0\0", False), (b"\x05\0\0\1\5\0\0\0\4body", True)):
        wired = Wired(V5, compression).handshake()
        codec = wired.relay._codec
        data = b""
        if long:
            data = write_segment(b"\x05\0\0\1\5", self_contained=False, compressor=codec)
        data += write_segment(payload, self_contained=True, compressor=codec)
        assert wired.relay.receive("request", data) == [Send("node", data)]
        assert "self-contained" in wired.log[0].note


def test_what_is_no_whole_frame_passes_at_the_end() -> None:
    relay, log = _fresh()
    assert relay.receive("request", b"\x04\0\0\1") == []
    assert relay.finish("request") == [Send("node", b"\x04\0\0\1")]
    assert relay.finish("request") == []
    assert log == []


MALFORMED = {
    "an unknown version": b"\x06\0\0\1\x07\0\0\0\4SEL?",
    "an unknown opcode": b"\x04\0\0\1\x77\0\0\0\0",
    "a short text": b"\x04\0\0\1\x07\0\0\0\5\0\0\0\x09S",
    "compressed without compression": b"\x04\1\0\1\x07\0\0\0\5\0\0\0\x09S",
    "a batch of nothing": b"\x04\0\0\1\x0d\0\0\0\1\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_about_nothing(name: str) -> None:
    by_text, by_any = Rule(Drop(), statement="%", side="request"), Rule(Drop(), side="request")
    relay, log = _fresh(by_text, by_any)
    assert relay.receive("request", MALFORMED[name]) == []
    assert (by_text.hits, by_any.hits) == (0, 1)
    assert log[0].statements == ()


def test_a_malformed_answer_to_prepare_teaches_nothing() -> None:
    for answer in (
        b"\x84\0\0\1\x08\0\0\0\5\0\0\0\4\0",  # RESULT, cut in the id
        b"\x84\0\0\1\x08\0\0\0\4\0\0\0\1",  # RESULT of another kind
        b"\x84\0\0\1\x00\0\0\0\x06\0\0\0\0\0\0",  # ERROR
    ):
        relay, _ = _fresh()
        prepare = b"\x04\0\0\1\x09\0\0\0\5\0\0\0\1S"
        assert relay.receive("request", prepare) == [Send("node", prepare)]
        assert relay.receive("reply", answer) == [Send("client", answer)]
        assert relay._statements._texts == {}


def test_an_answer_in_an_unknown_version_is_in_the_nearest() -> None:
    relay, _ = _fresh(Rule(Answer("PROTOCOL_ERROR"), opcode="OPTIONS"))
    [step] = relay.receive("request", b"\x42\0\0\3\5\0\0\0\0")
    assert isinstance(step, Send)
    assert step.data[0] == 0x85
    assert step.data[2:5] == b"\0\3\0"


def test_an_answer_to_nobody() -> None:
    relay, log = _fresh(Rule(Drop(), opcode="RESULT"), Rule(Drop(), opcode="QUERY", side="reply"))
    void = b"\x84\0\0\x09\x08\0\0\0\4\0\0\0\1"
    assert relay.receive("reply", void) == []
    assert (log[0].opcode, log[0].request, log[0].stream) == ("RESULT", "", 9)


def test_errors_of_functions_are_raised() -> None:
    def broken(passage: Any) -> bool:
        raise RemoteProtocolError("from a test's own function")

    relay, log = _fresh(Rule(Drop(), side="request", when=broken))
    with pytest.raises(RemoteProtocolError, match="own function"):
        relay.receive("request", b"\x04\0\0\3\5\0\0\0\0")
    assert log == []
