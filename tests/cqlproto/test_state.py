"""The tables of the state machine, compared with the specification."""

from __future__ import annotations

import pytest

from cqlproto._state import (
    EXPECTATIONS,
    HANDSHAKE,
    OPENS_SEGMENTS,
    ORPHAN,
    REPLIES,
    RESULTS,
    Action,
    Expectation,
    State,
)
from cqlproto.enums import Opcode
from tests.support.core_connections import (
    LEGAL,
    METADATA,
    REQUESTS,
    RESPONSES,
)

ENDS = {State.READY, State.FAILED, State.CLOSED}
SENT = {
    State.OPTIONS_SENT: Opcode.OPTIONS,
    State.STARTUP_SENT: Opcode.STARTUP,
    State.AUTHENTICATING: Opcode.AUTH_RESPONSE,
}


def test_the_handshake_of_v4() -> None:
    """v4 sections 2.3, 4.1.1, 4.1.2: these steps and no others."""
    steps = """
        OPTIONS_SENT SUPPORTED SEND_STARTUP STARTUP_SENT
        STARTUP_SENT READY COMPLETE READY
        STARTUP_SENT AUTHENTICATE BEGIN_AUTHENTICATION AUTHENTICATING
        AUTHENTICATING AUTH_CHALLENGE ANSWER_CHALLENGE AUTHENTICATING
        AUTHENTICATING AUTH_SUCCESS COMPLETE READY
        OPTIONS_SENT ERROR FAIL FAILED
        STARTUP_SENT ERROR FAIL FAILED
        AUTHENTICATING ERROR FAIL FAILED
    """
    table = {
        (before.name, opcode.name): (action.name, after.name)
        for (before, opcode), (action, after) in HANDSHAKE.items()
    }
    words = [line.split() for line in steps.strip().splitlines()]
    assert table == {(before, opcode): (action, after) for before, opcode, action, after in words}


def test_every_step_is_a_legal_reply_to_what_was_sent_and_all_of_those_are_steps() -> None:
    for state, opcode in SENT.items():
        assert {reply for before, reply in HANDSHAKE if before is state} == REPLIES[opcode]


def test_the_handshake_ends_where_it_should() -> None:
    for (before, opcode), (action, after) in HANDSHAKE.items():
        assert before not in ENDS
        assert (after is State.FAILED) == (action is Action.FAIL) == (opcode is Opcode.ERROR)
        assert (after is State.READY) == (action is Action.COMPLETE)


def test_an_end_can_be_reached_from_everywhere() -> None:
    reached = {State.READY}
    for _ in State:
        reached |= {before for (before, _), (_, after) in HANDSHAKE.items() if after in reached}
    assert reached == {State.READY, *SENT}


def test_all_requests_may_be_answered_by_an_error_and_by_something_else() -> None:
    for replies in REPLIES.values():
        assert Opcode.ERROR in replies
        assert len(replies) > 1


def test_the_opcodes_are_requests_replies_or_the_event() -> None:
    replies: set[int] = set().union(*REPLIES.values())
    assert replies | set(REPLIES) | {Opcode.EVENT} == set(Opcode)
    assert not replies & set(REPLIES)


def test_segments_begin_with_what_grants_startup() -> None:
    """v5 section 2.3.1: READY and AUTHENTICATE, and no other reply."""
    assert REPLIES[Opcode.STARTUP] - OPENS_SEGMENTS == {Opcode.ERROR}
    for (before, opcode), (_, after) in HANDSHAKE.items():
        if before is State.STARTUP_SENT:
            assert (opcode in OPENS_SEGMENTS) == (after is not State.FAILED)


def test_a_kind_of_result_is_named_for_whatever_may_be_answered_by_one() -> None:
    assert set(RESULTS) == {asked for asked, legal in REPLIES.items() if Opcode.RESULT in legal}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_replies_of_each_request(name: str) -> None:
    """v4 section 4.1"""
    request = Opcode[name]
    legal = {opcode.name for opcode in Opcode if opcode in REPLIES[request]}
    results = {kind.__name__ for kind in RESULTS.get(request, ())}
    assert (legal - {"RESULT"}) | results == LEGAL[name]
    assert LEGAL[name] <= RESPONSES.keys()


def test_an_expectation_knows_what_may_answer() -> None:
    expectation = Expectation(Opcode.EXECUTE, METADATA)
    assert expectation.replies is REPLIES[Opcode.EXECUTE]
    assert expectation.results is RESULTS[Opcode.EXECUTE]
    assert expectation.metadata is METADATA
    assert repr(expectation).startswith("Expectation(EXECUTE, ResultMetadata(")
    assert Expectation(Opcode.REGISTER).results == frozenset()


def test_there_is_an_expectation_for_each_request_and_none_is_the_orphan() -> None:
    assert set(EXPECTATIONS) == set(REPLIES)
    assert ORPHAN not in EXPECTATIONS.values()
    assert all(expectation.metadata is None for expectation in EXPECTATIONS.values())
