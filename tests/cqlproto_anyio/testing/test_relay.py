"""The relay between a client's and a server's core: bytes in, steps out."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import (
    BatchKind,
    Consistency,
    ErrorCode,
    LocalProtocolError,
    ProtocolVersion,
    RemoteProtocolError,
    ResponseReceived,
    ResponseUnreadable,
    ServerConnection,
)
from cqlproto.messages import (
    VOID,
    Batch,
    BatchStatement,
    Error,
    Execute,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Rows,
    StatusChange,
)
from cqlproto.testing import requests, splits
from cqlproto_anyio.testing import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Garbage,
    Passage,
    Repeat,
    Rule,
    Stall,
)
from cqlproto_anyio.testing.relay import End, Hold, Send, Statements
from tests.cqlproto_anyio.testing.wired import WAY_IDS, WAYS, Wired, usual
from tests.support.replies import columns, rows_of, statement_id

if TYPE_CHECKING:
    from cqlproto_anyio.testing import Fault, Side

V3, V4, V5 = ProtocolVersion
SIDES: tuple[Side, ...] = ("request", "reply")
ONE = QueryParameters(Consistency.ONE)
INSERT = "INSERT INTO orders (id) VALUES (1)"
SELECT = "SELECT v FROM orders"

each_way = pytest.mark.parametrize(("version", "compression"), WAYS, ids=WAY_IDS)


def replies(wired: Wired) -> dict[int, Any]:
    """Return what the client got, by stream id."""
    return {
        event.stream_id: event.message
        for event in wired.events
        if isinstance(event, ResponseReceived)
    }


def execute(version: ProtocolVersion, text: str) -> Execute:
    metadata_id = b"metadata" if version is V5 else None
    return Execute(statement_id(text), ONE, metadata_id)


# -- no rule matches


@each_way
@settings(max_examples=40)
@given(data=st.data())
def test_what_no_rule_strikes_leaves_as_it_came(
    version: ProtocolVersion, compression: str | None, data: st.DataObject
) -> None:
    unmatched = Rule(Drop(), opcode="AUTH_CHALLENGE")
    rules = data.draw(st.sampled_from([(), (unmatched,)]))
    wired = Wired(version, compression, *rules, cut=lambda sent: data.draw(splits(sent)))
    wired.handshake()
    for _ in range(data.draw(st.integers(1, 3))):
        for message in data.draw(st.lists(requests(version), max_size=4)):
            # the core itself sends the handshake
            if isinstance(message, (Query, Prepare, Execute, Batch, Register)):
                wired.client.send(message)
        wired.run()
    assert wired.passed == {"node": wired.sent["request"], "client": wired.sent["reply"]}
    assert wired.log == []
    assert not (wired.later or wired.holds or wired.ends)


@each_way
def test_events_and_long_frames_pass(version: ProtocolVersion, compression: str | None) -> None:
    wired = Wired(version, compression, Rule(Drop(), opcode="EVENT", skip=1), cut=_thirds)
    wired.handshake()
    long = rows_of(columns("v", kind="text"), [("x" * 1000 * number,) for number in range(40)])
    wired.answer = lambda event: long if isinstance(event.message, Query) else usual(event)
    stream = wired.client.send(Query("SELECT " + "y" * 400_000, ONE))
    wired.run()
    answer = replies(wired)[stream]
    assert isinstance(answer, Rows)
    assert answer.row_count == 40
    assert wired.passed == {"node": wired.sent["request"], "client": wired.sent["reply"]}
    for _ in range(2):
        wired.server.push(StatusChange("UP", _address()))
        wired.run()
    [entry] = wired.log
    assert (entry.opcode, entry.request, entry.stream) == ("EVENT", "", -1)
    assert len(wired.events) == 2  # the answer and one of two events


def _thirds(data: bytes) -> list[bytes]:
    third = max(len(data) // 3, 1)
    return [data[start : start + third] for start in range(0, len(data), third)]


def _address() -> Any:
    return (IPv4Address("127.0.0.1"), 9042)


# -- one of several frames in a segment


STRIKES: dict[str, Fault] = {
    "drop": Drop(),
    "delay": Delay(1.5),
    "repeat": Repeat(3),
    "answer": Answer("OVERLOADED"),
}


@each_way
@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize("name", STRIKES)
def test_the_others_pass(
    version: ProtocolVersion, compression: str | None, side: Any, name: str
) -> None:
    # all requests leave in one segment, and so do the replies
    rule = Rule(STRIKES[name], side=side, statement="insert into ORDERS%", times=1)
    wired = Wired(version, compression, rule).handshake()
    texts = [SELECT, SELECT, INSERT, SELECT]
    streams = [wired.client.send(Query(text, ONE)) for text in texts]
    struck = streams[2]
    if name == "repeat":
        with pytest.raises(RemoteProtocolError, match="no request is in flight"):
            wired.run()  # the client gets replies to abandoned requests
        asked = [message.query for message in wired.asked if isinstance(message, Query)]
        assert asked == texts[:2] + [INSERT] * (3 if side == "request" else 1) + texts[3:]
    else:
        wired.run()
        got = replies(wired)
        assert [got.get(stream) for stream in streams if stream != struck] == [VOID] * 3
        asked = [message.query for message in wired.asked if isinstance(message, Query)]
        if name == "answer":
            assert isinstance(got[struck], Error)
            assert got[struck].code == ErrorCode.OVERLOADED
        else:
            assert struck not in got
        passes = side == "reply"
        assert asked.count(INSERT) == passes
        if name == "delay":
            [late] = wired.later
            assert (late.to, late.seconds) == ("node" if side == "request" else "client", 1.5)
            wired.deliver(late.to, late.data)
            wired.run()
            assert replies(wired)[struck] == VOID
    assert rule.hits == 1
    [entry] = wired.log
    assert entry.rule is rule
    assert entry.fault is STRIKES[name]
    assert (entry.connection, entry.side, entry.stream) == (7, side, struck)
    assert entry.statements == (INSERT,)
    assert entry.request == "QUERY"


@each_way
def test_long_frames_are_struck_as_others_are(
    version: ProtocolVersion, compression: str | None
) -> None:
    rule = Rule(Delay(1), statement="SELECT%")
    wired = Wired(version, compression, rule, cut=_thirds).handshake()
    long = rows_of(columns("v", kind="text"), [(f"{number}" * 9000,) for number in range(40)])
    wired.answer = lambda event: long
    stream = wired.client.send(Query(SELECT, ONE))
    wired.run()
    assert replies(wired) == {}
    wired.deliver("client", wired.later[0].data)
    wired.run()
    assert replies(wired)[stream].row_count == 40


# -- the text of a statement


@each_way
def test_statements_are_known_however_they_are_sent(
    version: ProtocolVersion, compression: str | None
) -> None:
    shared = Statements()
    wired = Wired(version, compression, statements=shared).handshake()
    wired.client.send(Prepare(INSERT))
    wired.client.send(Prepare(SELECT))
    wired.run()
    seen: list[tuple[str, ...]] = []

    def look(passage: Passage) -> bool:
        seen.append(passage.statements)
        return False

    rule = Rule(Drop(), side="request", when=look)
    # what one connection prepares, another may execute
    other = Wired(version, compression, rule, statements=shared).handshake()
    seen.clear()
    batch = Batch(
        BatchKind.LOGGED,
        [
            BatchStatement("UPDATE t SET v = 1"),
            BatchStatement(statement_id(SELECT)),
            BatchStatement(statement_id("never prepared")),
        ],
        Consistency.ONE,
    )
    for message in (
        Query(SELECT, ONE),
        Prepare("SELECT w"),
        execute(version, INSERT),
        execute(version, "never prepared"),
        batch,
        Register(["STATUS_CHANGE"]),
    ):
        other.client.send(message)
    other.run()
    assert seen == [
        (SELECT,),
        ("SELECT w",),
        (INSERT,),
        (),
        ("UPDATE t SET v = 1", SELECT),
        (),
    ]
    other.rules.clear()
    rule = Rule(Answer(ErrorCode.UNPREPARED), opcode=["EXECUTE", "BATCH"], statement=SELECT)
    other.rules.add(rule)
    other.client.send(execute(version, INSERT))
    one, two = other.client.send(execute(version, SELECT)), other.client.send(batch)
    other.run()
    got = replies(other)
    assert got[one].fields == got[two].fields == {"statement_id": statement_id(SELECT)}
    assert rule.hits == 2


def test_a_payload_before_a_request_is_passed_over() -> None:
    rule = Rule(Answer("INVALID"), statement=SELECT)
    wired = Wired(V4, "lz4", rule).handshake()
    wired.client.send(Query(SELECT, ONE), payload={"who": b"me"}, trace=True)
    wired.run()
    assert rule.hits == 1


def test_statements_are_kept_in_bounds() -> None:
    known = Statements()
    for number in range(65_536):
        known.learn(number.to_bytes(4, "big"), "x")
    known.learn(bytes(4), "again")  # it is the newest now
    known.learn(b"more", "y")
    assert known.texts((bytes(4), b"more", b"\0\0\0\1", b"\0\0\0\2")) == ("again", "y", "x")


@each_way
def test_a_passage_says_all_of_a_frame(version: ProtocolVersion, compression: str | None) -> None:
    found: list[Any] = []

    def look(passage: Any) -> bool:
        found.append((passage.side, passage.message, passage.request, repr(passage)))
        return False

    rules = [Rule(Drop(), side=side, when=look) for side in SIDES]
    wired = Wired(version, compression, *rules).handshake()
    found.clear()
    query = Query(SELECT, ONE)
    wired.client.send(query)
    wired.run()
    assert [one[:3] for one in found] == [("request", query, 7), ("reply", VOID, 7)]
    assert found[0][3] == f"<QUERY on stream 1 of connection 7, {SELECT!r}>"
    assert found[1][3] == f"<RESULT on stream 1 of connection 7, to QUERY, {SELECT!r}>"


# -- cuts, stalls, corruption


def _struck(version: ProtocolVersion, compression: str | None, *rules: Rule) -> Wired:
    """Send two replies in a row; the rules apply to the second."""
    wired = Wired(version, compression, *rules).handshake()
    wired.client.send(Query(SELECT, ONE))
    wired.client.send(Query(INSERT, ONE))
    wired.carry("request", wired.client.data_to_send())
    wired.serve()
    wired.passed["client"] = b""
    wired.carry("reply", wired.server.data_to_send())
    return wired


def _alone(version: ProtocolVersion, compression: str | None) -> bytes:
    """Return the reply's bytes without a rule."""
    [late] = _struck(version, compression, Rule(Delay(0), statement=INSERT)).later
    return late.data


@each_way
def test_a_cut_is_in_the_middle(version: ProtocolVersion, compression: str | None) -> None:
    whole = _alone(version, compression)
    for after, arrives in ((None, len(whole) // 2), (0, 0), (3, 3), (10_000, len(whole) - 1)):
        rule = Rule(Cut(after, reset=after == 3), statement=INSERT)
        wired = _struck(version, compression, rule)
        assert wired.ends == [End("client", whole[:arrives], after == 3)]
        wired.run()
        assert len(replies(wired)) == 1
        # nothing more passes, and nothing is counted
        assert wired.relay.receive("request", b"\x04more") == []
        assert wired.relay.finish("reply") == []
        assert rule.hits == len(wired.log) == 1


def test_what_follows_a_cut_is_not_looked_at() -> None:
    last = Rule(Drop(), statement=INSERT)
    wired = _struck(V5, None, Rule(Drop(connection=True, reset=True), statement=SELECT), last)
    assert wired.ends == [End("client", b"", True)]
    assert last.hits == 0
    assert wired.passed["client"] == b""


@each_way
def test_a_stall_comes_before_its_frame(version: ProtocolVersion, compression: str | None) -> None:
    wired = Wired(version, compression, Rule(Stall(2), side="request", statement=INSERT))
    wired.handshake()
    wired.client.send(Query(INSERT, ONE))
    data = wired.client.data_to_send()
    assert wired.relay.receive("request", data) == [Hold(2), Send("node", data)]


@each_way
def test_corruption_is_one_byte(version: ProtocolVersion, compression: str | None) -> None:
    whole = _alone(version, compression)
    for at, index in ((0, 0), (5, 5), (-1, len(whole) - 1), (9999, len(whole) - 1), (-9999, 0)):
        wired = _struck(version, compression, Rule(Corrupt(at, 0x10), statement=INSERT))
        changed = bytearray(whole)
        changed[index] ^= 0x10
        assert wired.passed["client"].endswith(bytes(changed))
        if version is V5:
            with pytest.raises(RemoteProtocolError, match="checksum"):
                wired.run()
    one, two = (
        _struck(version, compression, Rule(Corrupt(), statement=INSERT)).passed for _ in range(2)
    )
    assert one == two  # by the seed
    assert not one["client"].endswith(whole)


@each_way
def test_corruption_may_have_a_valid_checksum(
    version: ProtocolVersion, compression: str | None
) -> None:
    # the last byte of the kind of RESULT, which is compressed on v3 and v4
    rule = Rule(Corrupt(-1, 0x63, valid_checksum=True), statement=INSERT)
    wired = _struck(version, compression, rule)
    wired.run()
    *_, unreadable = wired.events
    assert isinstance(unreadable, ResponseUnreadable)  # that reply only: the framing is intact
    assert "checksum" not in str(unreadable.error)


@each_way
def test_garbage_is_what_is_given(version: ProtocolVersion, compression: str | None) -> None:
    wired = _struck(version, compression, Rule(Garbage(b"\0" * 20), statement=INSERT))
    assert wired.passed["client"].endswith(b"\0" * 20)
    one, two = (
        _struck(version, compression, Rule(Garbage(50), statement=INSERT)).passed["client"][-50:]
        for _ in range(2)
    )
    assert one == two
    assert len(set(one)) > 20


def test_jitter_is_added() -> None:
    rule = Rule(Delay(2, jitter=1), opcode="QUERY")
    wired = Wired(V4, None, rule).handshake()
    for _ in range(50):
        wired.client.send(Query(SELECT, ONE))
    wired.run()
    times = [late.seconds for late in wired.later]
    assert all(2 <= seconds <= 3 for seconds in times)
    assert len(set(times)) == 50


# -- the handshake


@each_way
@pytest.mark.parametrize(
    ("opcode", "told"),
    [("OPTIONS", 0), ("STARTUP", 1), ("SUPPORTED", 0), ("READY", 1)],
)
def test_the_handshake_can_be_struck(
    version: ProtocolVersion, compression: str | None, opcode: str, told: int
) -> None:
    rule = Rule(Answer(Error(0x1002, "not yet")), opcode=opcode)
    wired = Wired(version, compression, rule)
    wired.client.initiate()
    wired.run()
    assert rule.hits == 1
    assert [type(event).__name__ for event in wired.events] == ["HandshakeFailed"]
    assert wired.log[0].stream == 0
    passed = told + (rule.side == "reply")
    assert len(wired.asked) == passed


@each_way
def test_a_late_ready_is_framed_as_it_was_sent(
    version: ProtocolVersion, compression: str | None
) -> None:
    wired = Wired(version, compression, Rule(Delay(1), opcode="READY"))
    wired.client.initiate()
    wired.run()
    [late] = wired.later
    wired.deliver("client", late.data)
    wired.run()
    stream = wired.client.send(Query(SELECT, ONE))
    wired.run()
    assert replies(wired)[stream] == VOID


def test_a_codec_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    wired = Wired(V4, "lz4")
    wired.client.initiate()
    wired.carry("request", wired.client.data_to_send())
    wired.serve()
    wired.carry("reply", wired.server.data_to_send())
    assert wired.client.next_event() is None
    wired.carry("request", wired.client.data_to_send())
    wired.serve()
    answer = wired.server.data_to_send()
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    with pytest.raises(LocalProtocolError, match="pip install"):
        wired.relay.receive("reply", answer)


# -- chance


@settings(max_examples=60)
@given(
    way=st.sampled_from(WAYS),
    texts=st.lists(st.sampled_from([SELECT, INSERT]), min_size=1, max_size=12),
    probability=st.floats(0, 1),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_chance_is_the_same_however_bytes_come(
    way: tuple[ProtocolVersion, str | None],
    texts: list[str],
    probability: float,
    seed: int,
    data: st.DataObject,
) -> None:
    def run(cut: Any) -> tuple[set[int], list[int]]:
        rule = Rule(Drop(), opcode="QUERY", probability=probability)
        noise = Rule(Drop(), opcode="REGISTER", probability=0.5)
        wired = Wired(*way, noise, rule, seed=seed, cut=cut)
        wired.handshake()
        for text in texts:
            wired.client.send(Query(text, ONE))
        wired.run()
        assert isinstance(wired.server, ServerConnection)
        assert len(wired.asked) == len(texts)
        assert len(replies(wired)) + rule.hits == len(texts)
        return set(replies(wired)), [entry.stream for entry in wired.log]

    assert run(lambda sent: [sent]) == run(lambda sent: data.draw(splits(sent)))
