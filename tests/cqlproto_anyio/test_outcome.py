"""Whether an error's write may have been applied, and whether a request may be sent again."""

from __future__ import annotations

import pytest

from cqlproto import Consistency, ErrorCode
from cqlproto_anyio._outcome import may_have_applied, may_repeat
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.exceptions import CQLError

REFUSED = {
    ErrorCode.PROTOCOL_ERROR, ErrorCode.BAD_CREDENTIALS, ErrorCode.IS_BOOTSTRAPPING,
    ErrorCode.FUNCTION_FAILURE, ErrorCode.SYNTAX_ERROR, ErrorCode.UNAUTHORIZED, ErrorCode.INVALID,
    ErrorCode.CONFIG_ERROR, ErrorCode.ALREADY_EXISTS, ErrorCode.UNPREPARED,
}  # fmt: skip
AMBIGUOUS = {
    ErrorCode.SERVER_ERROR, ErrorCode.OVERLOADED, ErrorCode.TRUNCATE_ERROR,
    ErrorCode.WRITE_TIMEOUT, ErrorCode.READ_TIMEOUT, ErrorCode.READ_FAILURE,
    ErrorCode.WRITE_FAILURE, ErrorCode.CDC_WRITE_FAILURE, ErrorCode.CAS_WRITE_UNKNOWN,
}  # fmt: skip
WRITES = [
    "INSERT INTO t (k) VALUES (?)",
    "INSERT INTO t (k) VALUES (?) IF NOT EXISTS",
    "UPDATE t SET v = ? WHERE k IN ?",
    "DELETE FROM t WHERE k = ?",
    "BEGIN UNLOGGED BATCH of 2",
    "TRUNCATE t",
    "CREATE TABLE t (k int PRIMARY KEY)",
    "",
]


def test_each_code_is_judged() -> None:
    assert REFUSED | AMBIGUOUS | {ErrorCode.UNAVAILABLE} == set(ErrorCode)


@pytest.mark.parametrize("text", WRITES)
def test_a_write_is_not_applied_only_where_the_server_refuses_it(text: str) -> None:
    said = read_statement(text)
    assert not any(may_have_applied(code, said) for code in REFUSED)
    assert all(may_have_applied(code, said) for code in (*AMBIGUOUS, 0x7777))


@pytest.mark.parametrize("text", ["SELECT * FROM t", "LIST ROLES", "DESCRIBE TABLE t"])
def test_a_read_changes_nothing(text: str) -> None:
    for code in (*ErrorCode, 0x7777):
        assert not may_have_applied(code, read_statement(text))


@pytest.mark.parametrize(
    ("text", "maybe"),
    [
        ("INSERT INTO t (k) VALUES (1)", False),
        ("UPDATE t SET v = 1 WHERE k = 1", False),
        ("DELETE FROM t WHERE k = 1", False),
        ("TRUNCATE t", False),
        # one partition may be written when the next is refused
        ("UPDATE t SET v = v + [1] WHERE k IN (1, 2)", True),
        ("DELETE v[0] FROM t WHERE k in (1, 2)", True),
        ("BEGIN UNLOGGED BATCH of 2", True),
        ("BEGIN COUNTER BATCH UPDATE t SET c = c + 1 WHERE k = 1 APPLY BATCH", True),
        # the round may be won when its commit is refused
        ("UPDATE t SET v = 1 WHERE k = 1 IF v = 0", True),
    ],
)
def test_too_few_replicas(text: str, maybe: bool) -> None:
    said = read_statement(text)
    assert may_have_applied(ErrorCode.UNAVAILABLE, said) is maybe
    assert may_have_applied(ErrorCode.UNAVAILABLE, said, {}) is maybe
    fields = {"consistency": Consistency.QUORUM, "required": 2, "alive": 1}
    assert may_have_applied(ErrorCode.UNAVAILABLE, said, fields) is maybe


@pytest.mark.parametrize("level", [Consistency.SERIAL, Consistency.LOCAL_SERIAL])
def test_too_few_replicas_for_a_paxos_round(level: Consistency) -> None:
    """The round hasn't begun; a batch with conditions has one partition and one round."""
    for text in ("UPDATE t SET v = 1 WHERE k = 1 IF v = 0", "BEGIN LOGGED BATCH of 2"):
        said = read_statement(text)
        assert not may_have_applied(ErrorCode.UNAVAILABLE, said, {"consistency": level})


@pytest.mark.parametrize("maybe_applied", [False, True])
@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("conditional", [False, True])
def test_what_may_be_sent_again(maybe_applied: bool, idempotent: bool, conditional: bool) -> None:
    error = CQLError("failed")
    error.maybe_applied = maybe_applied
    found = may_repeat(error, idempotent=idempotent, conditional=conditional)
    # nothing is applied twice
    assert not (found and maybe_applied and (conditional or not idempotent))
    # and nothing safe is refused
    assert found or maybe_applied
    assert found or conditional or not idempotent
