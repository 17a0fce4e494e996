"""Which frames a rule matches, how often it strikes, and what an Answer sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ErrorCode, Opcode, ProtocolVersion
from cqlproto.messages import VOID, Error
from cqlproto.wire import Reader
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
from cqlproto_anyio.testing.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio.testing import Side


def passage(
    side: Side = "reply",
    opcode: int = Opcode.RESULT,
    request: int | None = Opcode.QUERY,
    statements: tuple[str, ...] = (),
    ids: tuple[bytes, ...] = (),
) -> Passage:
    return Passage(
        connection=1,
        side=side,
        version=4,
        opcode=opcode,
        request=request,
        stream=3,
        read_body=bytes,
        statements=statements,
        statement_ids=ids,
    )


# -- which frames


@pytest.mark.parametrize(
    ("pattern", "text", "meant"),
    [
        ("INSERT INTO orders%", "INSERT INTO orders (id) VALUES (?)", True),
        ("INSERT INTO orders%", "insert  into\n orders(id) VALUES (?)", True),
        ("INSERT INTO orders%", "  INSERT INTO orders", True),
        ("INSERT INTO orders%", "INSERT INTO order_lines", False),
        ("INSERT INTO orders%", "BEGIN BATCH INSERT INTO orders", False),
        ("%INTO orders%", "BEGIN BATCH INSERT INTO orders", True),
        ("% orders %", "SELECT * FROM orders WHERE id = 1", True),
        ("SELECT v", "SELECT v", True),
        ("SELECT v", "SELECT v FROM t", False),
        ("SELECT v_", "SELECT vx", False),  # no other character is special
        ("SELECT (v.*)", "SELECT (v.*)", True),
        ("%", "", True),
        ("%\n%", "SELECT v", True),
        (re.compile("FROM (a|b)"), "SELECT v FROM b WHERE k = 1", True),
        (re.compile("FROM (a|b)"), "select v from b", False),
    ],
)
def test_statements(pattern: Any, text: str, meant: bool) -> None:
    rule = Rule(Drop(), statement=pattern)
    assert rule.is_for(passage(statements=(text,))) is meant
    assert rule.is_for(passage(statements=("DROP TABLE x; no", text))) is meant
    assert not rule.is_for(passage())


@given(st.text(), st.text(), st.text())
def test_a_text_is_its_own_pattern(first: str, second: str, between: str) -> None:
    first, second = first.replace("%", ""), second.replace("%", "")
    assert Rule(Drop(), statement=first).is_for(passage(statements=(first,)))
    pattern = f"{first}%{second}"
    assert Rule(Drop(), statement=pattern).is_for(passage(statements=(first + between + second,)))


def test_sides() -> None:
    request, reply = passage("request", Opcode.QUERY), passage()
    event = passage(opcode=Opcode.EVENT, request=None)
    for fault in (Drop(), Delay(1), Stall(), Cut(), Corrupt(), Garbage(), Repeat()):
        rule = Rule(fault)
        assert [rule.is_for(each) for each in (request, reply, event)] == [False, True, True]
    assert [Rule(Answer(VOID)).is_for(each) for each in (request, reply)] == [True, False]
    assert [Rule(Drop(), side="request").is_for(each) for each in (request, reply)] == [True, False]
    assert Rule(Answer(VOID), side="reply").is_for(reply)


def test_opcodes() -> None:
    request, reply = passage("request", Opcode.QUERY), passage()
    error = passage(opcode=Opcode.ERROR)
    event = passage(opcode=Opcode.EVENT, request=None)
    cases: list[tuple[Any, Side | None, list[bool]]] = [
        ("QUERY", None, [False, True, True, False]),
        ("QUERY", "request", [True, False, False, False]),
        (Opcode.QUERY, "reply", [False, True, True, False]),
        (["QUERY", Opcode.EXECUTE], None, [False, True, True, False]),
        ("EXECUTE", None, [False] * 4),
        ("RESULT", None, [False, True, False, False]),
        (("ERROR", "EVENT"), None, [False, False, True, True]),
    ]
    for opcode, side, meant in cases:
        rule = Rule(Drop(), opcode=opcode, side=side)
        assert [rule.is_for(each) for each in (request, reply, error, event)] == meant
    # the side of a reply's opcode overrides that of the fault
    assert Rule(Answer(VOID), opcode="RESULT").side == "reply"


def test_all_conditions_hold() -> None:
    rule = Rule(
        Drop(), opcode="QUERY", statement="SELECT%", when=lambda passage: passage.connection == 1
    )
    assert rule.is_for(passage(statements=("SELECT 1",)))
    assert not rule.is_for(passage(statements=("INSERT",)))
    assert not rule.is_for(passage(statements=("SELECT 1",), request=Opcode.EXECUTE))
    never = Rule(Drop(), when=lambda passage: passage.connection == 2)
    assert not never.is_for(passage())


WRONG: dict[str, Callable[[], object]] = {
    r"fault must be a fault such as Drop\(\), got 'Drop'": lambda: Rule("Drop"),  # type: ignore[arg-type]
    "got <class .*Drop'>": lambda: Rule(Drop),  # type: ignore[arg-type]
    "side must be 'request' or 'reply', got 'both'": lambda: Rule(Drop(), side="both"),  # type: ignore[arg-type]
    "opcode must be an opcode such as 'EXECUTE', got 'SELECT'": lambda: Rule(
        Drop(), opcode="SELECT"
    ),
    "opcode must be an opcode .* got 5": lambda: Rule(Drop(), opcode=[5]),  # type: ignore[list-item]
    "opcode must not be empty": lambda: Rule(Drop(), opcode=[]),
    "add a rule for each": lambda: Rule(Drop(), opcode=["QUERY", "RESULT"]),
    "RESULT is a reply: pass side='reply'": lambda: Rule(Drop(), side="request", opcode="RESULT"),
    "statement must be a str": lambda: Rule(Drop(), statement=b"SELECT"),  # type: ignore[arg-type]
    "when must be a function, got True": lambda: Rule(Drop(), when=True),  # type: ignore[arg-type]
    "times must be an integer of at least 1, got 0": lambda: Rule(Drop(), times=0),
    "skip must be an integer of at least 0, got -1": lambda: Rule(Drop(), skip=-1),
    "probability must be 0 to 1, got 1.5": lambda: Rule(Drop(), probability=1.5),
    "reset=True needs connection=True": lambda: Drop(reset=True),
    "seconds must be .* got -1": lambda: Delay(-1),
    "seconds must be .* got nan": lambda: Delay(float("nan")),
    "jitter must be .* got 'much'": lambda: Delay(1, "much"),  # type: ignore[arg-type]
    "seconds must be .* got True": lambda: Stall(True),
    "after_bytes must be an integer of at least 0, got -1": lambda: Cut(-1),
    "at must be an integer or None, got 'end'": lambda: Corrupt("end"),  # type: ignore[arg-type]
    "mask must be 1 to 255, got 256": lambda: Corrupt(0, 256),
    "data must be an integer of at least 1, got 0": lambda: Garbage(0),
    "data must not be empty": lambda: Garbage(b""),
    "times must be an integer of at least 2, got 1": lambda: Repeat(1),
    "must name an error code such as 'OVERLOADED', got 'UNAVAILABEL'": lambda: Answer(
        "UNAVAILABEL"
    ),
    "message must be .* got <class": lambda: Answer(Error),  # type: ignore[arg-type]
    "message must be .* got None": lambda: Answer(None),  # type: ignore[arg-type]
    "OVERLOADED has no field alive": lambda: Answer("OVERLOADED", alive=1),
    "fields need an error code": lambda: Answer(VOID, alive=1),
}


@pytest.mark.parametrize("told", WRONG)
def test_wrong_arguments_are_refused_at_once(told: str) -> None:
    with pytest.raises(cql.ConfigError, match=told):
        WRONG[told]()


# -- how often


@given(
    times=st.none() | st.integers(1, 5),
    skip=st.integers(0, 5),
    probability=st.sampled_from([0.0, 0.3, 1.0]),
    shown=st.integers(0, 30),
    seed=st.integers(0, 100),
)
def test_counts(times: int | None, skip: int, probability: float, shown: int, seed: int) -> None:
    def struck() -> list[int]:
        rules = Rules(seed)
        rule = Rule(Drop(), times=times, skip=skip, probability=probability, opcode="QUERY")
        rules.add(rule)
        found = []
        for number in range(shown):
            if rules.strike(passage()) is rule:
                found.append(number)
            assert rules.strike(passage(request=Opcode.EXECUTE)) is None  # isn't counted
        assert rule.hits == len(found)
        return found

    found = struck()
    assert found == struck()
    candidates = list(range(skip, shown))
    if probability == 1:
        assert found == candidates[:times]
    elif probability == 0:
        assert found == []
    assert set(found) <= set(candidates)
    assert times is None or len(found) <= times


def test_chance_differs_by_seed_and_by_rule() -> None:
    def struck(seed: int, place: int) -> list[bool]:
        rules = Rules(seed)
        for _ in range(place):
            rules.add(Rule(Drop(), opcode="OPTIONS", probability=0.5))
        rules.add(Rule(Drop(), probability=0.5))
        return [rules.strike(passage()) is not None for _ in range(200)]

    assert struck(1, 0) == struck(1, 0) != struck(2, 0)
    assert struck(1, 0) != struck(1, 1)
    assert 60 < sum(struck(1, 0)) < 140


def test_the_first_rule_strikes_and_hides_the_frame_from_others() -> None:
    rules = Rules(1)
    first, second = Rule(Drop(), times=1), Rule(Delay(1))
    rules.add(first)
    rules.add(second)
    assert [rules.strike(passage()) for _ in range(3)] == [first, second, second]
    assert first.spent
    assert not second.spent
    with pytest.raises(cql.ConfigError, match="was added before"):
        rules.add(first)
    rules.remove(second)
    rules.remove(second)
    assert rules.strike(passage()) is None
    assert list(rules) == [first]
    assert rules
    rules.clear()
    assert not rules


async def test_waiting_for_hits() -> None:
    rule, rules = Rule(Drop()), Rules(1)
    rules.add(rule)
    await rule.wait(0)
    done: list[int] = []

    async def wait(hits: int) -> None:
        await rule.wait(hits)
        done.append(hits)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, 1)
        group.start_soon(wait, 2)
        await anyio.wait_all_tasks_blocked()
        rules.strike(passage())
        await anyio.wait_all_tasks_blocked()
        assert done == [1]
        rules.strike(passage())
    assert done == [1, 2]


def test_a_rule_shows_what_it_is() -> None:
    rule = Rule(Drop(), opcode=["QUERY", "EXECUTE"], statement="INSERT%")
    shown = "side='reply', opcode=EXECUTE/QUERY, statement='INSERT%'"
    assert repr(rule) == f"<Rule Drop(connection=False, reset=False), {shown}: 0 hits>"


# -- answers


@pytest.mark.parametrize("code", ErrorCode)
@pytest.mark.parametrize("version", ProtocolVersion)
def test_every_error_has_defaults(code: ErrorCode, version: ProtocolVersion) -> None:
    request = passage("request", Opcode.EXECUTE, Opcode.EXECUTE, ids=(b"its id",))
    message = Answer(code.name, "told").response(request)
    assert message == Answer(code, "told").response(request)
    body = bytearray()
    message.write_body(body, version)
    read = Error.read_body(Reader(bytes(body)), version)
    assert (read.code, read.message, read.extra) == (code, "told", b"")
    if code is ErrorCode.UNPREPARED:
        assert read.fields == {"statement_id": b"its id"}


def test_fields_are_what_they_are_told() -> None:
    answer = Answer("WRITE_TIMEOUT", write_type="CAS", contentions=3)
    message = answer.response(passage())
    assert isinstance(message, Error)
    assert message.fields["write_type"] == "CAS"
    assert message.fields["contentions"] == 3
    assert message.fields["required"] == 2
    assert repr(answer) == "Answer(WRITE_TIMEOUT, write_type='CAS', contentions=3)"


def test_answers_are_messages_or_made_by_functions() -> None:
    assert Answer(VOID).response(passage()) is VOID
    assert repr(Answer(VOID)) == "Answer(Void())"
    asked = passage(statements=("SELECT 1",))
    found = Answer(lambda passage: Error(0x2200, passage.statements[0])).response(asked)
    assert found == Error(0x2200, "SELECT 1")
    overloaded = Answer(lambda passage: "OVERLOADED").response(asked)
    assert isinstance(overloaded, Error)
    assert overloaded.code == ErrorCode.OVERLOADED
    with pytest.raises(cql.ConfigError, match="must name an error code .* got None"):
        Answer(lambda passage: None).response(asked)  # type: ignore[arg-type, return-value]
    unprepared = Answer("UNPREPARED").response(passage())
    assert isinstance(unprepared, Error)
    assert unprepared.fields == {"statement_id": b""}
