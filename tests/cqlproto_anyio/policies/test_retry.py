"""The decisions of the default policy in each case, and properties of all decisions."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio.exceptions as errors
from cqlproto import Consistency, ErrorCode
from cqlproto.messages import Error
from cqlproto_anyio.policies import DefaultRetry, NoRetry, Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto_anyio.policies import RetryPolicy

SAME, NEXT = Retry(next_host=False), Retry(next_host=True)
ONE_HERE = IPv4Address("10.0.0.1")
ONE_THERE = IPv4Address("10.0.0.2")


def answered(code: int, **fields: Any) -> errors.DatabaseError:
    return errors.database_error(Error(code, "no", fields), host="h:9042")


def replies(received: int, required: int, **fields: Any) -> dict[str, Any]:
    return {
        "consistency": Consistency.QUORUM, "received": received, "required": required, **fields
    }  # fmt: skip


def read_timeout(received: int, required: int, data_present: bool) -> errors.DatabaseError:
    fields = replies(received, required, data_present=data_present)
    return answered(ErrorCode.READ_TIMEOUT, **fields)


def read_failure(reasons: Mapping[Any, int] | None) -> errors.DatabaseError:
    why: dict[str, Any] = {"failures": 1} if reasons is None else {"reasons": reasons}
    return answered(ErrorCode.READ_FAILURE, **replies(1, 2, data_present=True, **why))


def write_timeout(write_type: str) -> errors.DatabaseError:
    return answered(ErrorCode.WRITE_TIMEOUT, **replies(0, 2, write_type=write_type))


def write_failure(reasons: Mapping[Any, int] | None) -> errors.DatabaseError:
    why: dict[str, Any] = {"failures": 1} if reasons is None else {"reasons": reasons}
    return answered(ErrorCode.WRITE_FAILURE, **replies(1, 2, write_type="SIMPLE", **why))


def failed(kind: type[errors.ConnectionFailed]) -> errors.ConnectionFailed:
    return kind("gone", host="h:9042", stage="request", elapsed=0.1)


UNAVAILABLE = answered(
    ErrorCode.UNAVAILABLE, consistency=Consistency.QUORUM, required=2, alive=1
)  # fmt: skip

# Retried on the next host, as long as attempts are left.
ALWAYS = {
    "ConnectionLost": failed(errors.ConnectionLost),
    "ConnectionFailed": failed(errors.ConnectionFailed),
    "IsBootstrapping": answered(ErrorCode.IS_BOOTSTRAPPING),
    "ServerError": answered(ErrorCode.SERVER_ERROR),
    "Unprepared": answered(ErrorCode.UNPREPARED, statement_id=b"id"),
}
# Retried on the next host, with growing pauses: (a read, an idempotent write, another write).
LATER = {
    "ReadFailure of v4": (read_failure(None), True, False, False),
    "ReadFailure for a schema": (read_failure({ONE_HERE: 3}), True, False, False),
    "ReadFailure for what isn't said": (read_failure({ONE_HERE: 0}), True, False, False),
    "WriteFailure of v4": (write_failure(None), False, True, False),
    "WriteFailure for a schema": (write_failure({ONE_HERE: 3, ONE_THERE: 3}), False, True, False),
    "WriteFailure for more": (write_failure({ONE_HERE: 3, ONE_THERE: 0}), False, True, False),
}
# The decision on the first failure: (a read, an idempotent write, another write).
ONCE = {
    "RemoteProtocolError": (errors.RemoteProtocolError("odd"), NEXT, NEXT, NEXT),
    "ReadTimeout without data": (read_timeout(2, 2, False), SAME, SAME, SAME),
    "ReadTimeout with too few": (read_timeout(1, 2, False), None, None, None),
    "ReadTimeout with data": (read_timeout(2, 2, True), None, None, None),
    "ReadFailure for tombstones": (read_failure({ONE_HERE: 0, ONE_THERE: 1}), None, None, None),
    "ReadFailure for its size": (read_failure({ONE_HERE: 4}), None, None, None),
    "WriteTimeout of a batch's log": (write_timeout("BATCH_LOG"), None, SAME, None),
    "WriteTimeout of a batch": (write_timeout("BATCH"), None, None, None),
    "WriteTimeout of one write": (write_timeout("SIMPLE"), None, None, None),
    "WriteTimeout of a CAS": (write_timeout("CAS"), None, None, None),
    "WriteTimeout of a counter": (write_timeout("COUNTER"), None, None, None),
    "WriteFailure for tombstones": (write_failure({ONE_HERE: 3, ONE_THERE: 1}), None, None, None),
}
NEVER: dict[str, errors.CQLError] = {
    "RequestTimeout": errors.RequestTimeout("late"),
    "Overloaded": errors.Overloaded("full"),
    "NoHostAvailable": errors.NoHostAvailable([]),
    "RequestTooLarge": errors.RequestTooLarge("long"),
    "SessionClosed": errors.SessionClosed("closed"),
    "ParameterError": errors.ParameterError("few"),
    "ResponseTooLarge": errors.ResponseTooLarge(2000, 1000),
    "an unknown code": answered(0x7777),
    **{
        code.name: answered(code)
        for code in ErrorCode
        if code
        in (
            ErrorCode.PROTOCOL_ERROR, ErrorCode.BAD_CREDENTIALS, ErrorCode.TRUNCATE_ERROR,
            ErrorCode.FUNCTION_FAILURE, ErrorCode.CDC_WRITE_FAILURE, ErrorCode.SYNTAX_ERROR,
            ErrorCode.UNAUTHORIZED, ErrorCode.INVALID, ErrorCode.CONFIG_ERROR,
            ErrorCode.ALREADY_EXISTS, ErrorCode.CAS_WRITE_UNKNOWN,
        )
    },
}  # fmt: skip
EVERY = [
    *ALWAYS.values(),
    UNAVAILABLE,
    *(case[0] for case in LATER.values()),
    *(case[0] for case in ONCE.values()),
    *NEVER.values(),
    answered(ErrorCode.OVERLOADED),
]
flags = pytest.mark.parametrize(
    ("reads", "idempotent"), [(True, False), (True, True), (False, True), (False, False)]
)


@flags
@pytest.mark.parametrize("error", ALWAYS.values(), ids=ALWAYS)
def test_tried_on_the_next_host(error: errors.CQLError, reads: bool, idempotent: bool) -> None:
    policy = DefaultRetry()
    for attempt in (1, 2, 3):
        found = policy.decide(error, attempt=attempt, idempotent=idempotent, reads=reads)
        assert found == NEXT
    assert policy.decide(error, attempt=4, idempotent=idempotent, reads=reads) is None


@pytest.mark.parametrize("case", ONCE.values(), ids=ONCE)
def test_tried_once(case: tuple[errors.CQLError, Any, Any, Any]) -> None:
    error, read, idempotent_write, write = case
    policy = DefaultRetry()
    for expected, reads, idempotent in [
        (read, True, False),
        (idempotent_write, False, True),
        (write, False, False),
    ]:
        found = policy.decide(error, attempt=1, idempotent=idempotent, reads=reads)
        assert found == expected
        assert policy.decide(error, attempt=2, idempotent=idempotent, reads=reads) is None


@pytest.mark.parametrize("case", LATER.values(), ids=LATER)
def test_tried_later(case: tuple[errors.CQLError, bool, bool, bool]) -> None:
    error, *expected = case
    policy = DefaultRetry(schema_delay=0.3)
    ways = [(True, False), (False, True), (False, False)]
    for again, (reads, idempotent) in zip(expected, ways, strict=True):
        found = [
            policy.decide(error, attempt=attempt, idempotent=idempotent, reads=reads)
            for attempt in (1, 2, 3, 4)
        ]
        later = [Retry(True, 0.3), Retry(True, 0.6), Retry(True, 1.2), None]
        assert found == (later if again else [None] * 4)


@flags
def test_unavailable_is_tried_elsewhere_twice(reads: bool, idempotent: bool) -> None:
    found = [
        DefaultRetry().decide(UNAVAILABLE, attempt=attempt, idempotent=idempotent, reads=reads)
        for attempt in (1, 2, 3)
    ]
    assert found == [NEXT, NEXT, None]


@flags
@pytest.mark.parametrize("error", NEVER.values(), ids=NEVER)
def test_never_tried_again(error: errors.CQLError, reads: bool, idempotent: bool) -> None:
    assert DefaultRetry().decide(error, attempt=1, idempotent=idempotent, reads=reads) is None


def test_every_code_of_the_protocol_is_in_a_table() -> None:
    known = {error.code for error in EVERY if isinstance(error, errors.DatabaseError)}
    assert known >= set(ErrorCode)


def test_an_overloaded_server_is_given_time() -> None:
    policy = DefaultRetry(max_attempts=5, overload_delay=0.1)
    error = answered(ErrorCode.OVERLOADED)
    found = [policy.decide(error, attempt=n, idempotent=True, reads=False) for n in range(1, 6)]
    assert [each and (each.next_host, each.delay) for each in found] == [
        (True, 0.1), (True, 0.2), (True, 0.4), (True, 0.8), None
    ]  # fmt: skip


@given(
    st.sampled_from(EVERY), st.integers(1, 10_000), st.integers(1, 100), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_attempts_are_bounded(
    error: errors.CQLError, attempt: int, most: int, idempotent: bool, reads: bool
) -> None:
    found = DefaultRetry(most).decide(error, attempt=attempt, idempotent=idempotent, reads=reads)
    if attempt >= most:
        assert found is None
    if found is not None:
        assert 0 <= found.delay < 15_000
        assert found.delay == 0 or isinstance(
            error, (errors.ServerOverloaded, errors.ReadFailure, errors.WriteFailure)
        )
    assert NoRetry().decide(error, attempt=1, idempotent=idempotent, reads=reads) is None


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1e6))
def test_a_wait_is_from_half_the_delay_to_all_of_it(fraction: float, delay: float) -> None:
    assert delay / 2 <= Retry(True, delay).wait(fraction) <= delay


@pytest.mark.parametrize("policy", [NoRetry(), DefaultRetry(), DefaultRetry(2, 0.5)])
def test_policies_are_values(policy: RetryPolicy) -> None:
    assert {policy: 1}[dataclasses.replace(policy)] == 1  # type: ignore[type-var]  # a dataclass
    assert DefaultRetry(2) != DefaultRetry()


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 2.0},
        {"max_attempts": Consistency.ONE},
        {"overload_delay": 10**400},
        {"overload_delay": -1},
        {"overload_delay": "1"},
        {"overload_delay": float("nan")},
        {"overload_delay": True},
        {"schema_delay": -1},
    ],
    ids=str,
)
def test_what_cannot_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError, match=next(iter(arguments))):
        DefaultRetry(**arguments)
