"""The exceptions: hierarchy, messages, copying and pickling."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

import cqlproto
import cqlproto.exceptions
from cqlproto import (
    CQLError,
    ErrorCode,
    LocalProtocolError,
    MessageTooLarge,
    ProtocolError,
    RemoteProtocolError,
    ResponseTooLarge,
    RowMappingError,
    ValueConversionError,
)
from cqlproto.messages import Error

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSAL = Error(ErrorCode.ALREADY_EXISTS, "there", {"keyspace": "k", "table": "t"}, b"more")

EXAMPLES: list[CQLError] = [
    CQLError("one", 2),
    ProtocolError("broken"),
    LocalProtocolError("ours"),
    MessageTooLarge(2000, 1000),
    RemoteProtocolError("theirs"),
    RemoteProtocolError("theirs", error=REFUSAL),
    ResponseTooLarge(2000, 1000),
    ValueConversionError("expected an int", cql_type="int", value="x", column="age"),
    ValueConversionError("expected an int", cql_type="int", value=None),
    RowMappingError("no column for a"),
]


def pickled(protocol: int) -> Callable[[CQLError], CQLError]:
    def make(error: CQLError) -> CQLError:
        made = pickle.loads(pickle.dumps(error, protocol))
        assert isinstance(made, CQLError)
        return made

    return make


COPIES: dict[str, Callable[[CQLError], CQLError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle 2": pickled(2),
    "newest pickle": pickled(pickle.HIGHEST_PROTOCOL),
}


def test_every_kind_of_error_is_among_the_examples() -> None:
    kinds = {getattr(cqlproto.exceptions, name) for name in cqlproto.exceptions.__all__}
    assert {type(error) for error in EXAMPLES} == kinds
    assert {getattr(cqlproto, kind.__name__) for kind in kinds} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_an_error_can_be_copied_and_pickled(
    error: CQLError, make: Callable[[CQLError], CQLError]
) -> None:
    plain = make(error)
    assert not plain.maybe_applied
    assert plain.host is None
    assert plain.attempts == ()
    told = copy.copy(error)
    told.maybe_applied = True
    told.host = "db1:9042"
    told.attempts = [OSError(111, "refused")]
    told.add_note("while testing")
    made = make(told)
    assert type(made) is type(error)
    assert made is not told
    assert str(made) == str(error)
    assert made.args == error.args
    assert made.maybe_applied
    assert made.host == "db1:9042"
    assert [str(attempt) for attempt in made.attempts] == ["[Errno 111] refused"]
    assert made.__notes__ == ["while testing"]
    state = {name: value for name, value in vars(error).items() if name != "attempts"}
    assert state.items() <= vars(made).items()
    # the original has not learned any of it
    assert error.host is None
    assert not error.maybe_applied


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        (CQLError, Exception),
        (ProtocolError, CQLError),
        (LocalProtocolError, ProtocolError),
        (MessageTooLarge, LocalProtocolError),
        (RemoteProtocolError, ProtocolError),
        (ResponseTooLarge, RemoteProtocolError),
        (ValueConversionError, CQLError),
        (ValueConversionError, ValueError),
        (RowMappingError, CQLError),
        (RowMappingError, TypeError),
    ],
)
def test_the_tree(kind: type[Exception], of: type[Exception]) -> None:
    assert issubclass(kind, of)


def test_local_and_remote_errors_are_told_apart() -> None:
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError)
    assert not issubclass(ProtocolError, ValueError)


def test_a_message_too_large_says_how_large() -> None:
    error = MessageTooLarge(20_000_000, 16_777_216)
    assert (error.size, error.limit) == (20_000_000, 16_777_216)
    assert str(error) == "a message must be at most 16,777,216 bytes, got 20,000,000"


def test_a_response_too_large_says_how_large_and_what_to_do() -> None:
    error = ResponseTooLarge(300_000_000, 268_435_456)
    assert (error.size, error.limit) == (300_000_000, 268_435_456)
    assert str(error) == (
        "a response must be at most 268,435,456 bytes, got 300,000,000: lower page_size, or pass"
        " limits=Limits(max_response=..)"
    )


def test_a_remote_error_may_carry_what_the_peer_said() -> None:
    assert RemoteProtocolError("x").error is None
    assert RemoteProtocolError("x", error=REFUSAL).error is REFUSAL


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("age", "old", "column 'age' (int): expected an int, got str 'old'"),
        (None, 1.5, "int: expected an int, got float 1.5"),
        ("age", None, "column 'age' (int): expected an int, got NoneType None"),
    ],
)
def test_a_conversion_error_names_column_type_and_value(
    column: str | None, value: object, text: str
) -> None:
    error = ValueConversionError("expected an int", cql_type="int", value=value, column=column)
    assert str(error) == text
    assert (error.column, error.cql_type) == (column, "int")
    assert error.value is value
    assert error.reason == "expected an int"


def test_a_long_value_is_shortened() -> None:
    error = ValueConversionError("too long", cql_type="ascii", value="x" * 10_000)
    assert len(str(error)) < 150
    assert str(error).endswith("...")


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [Unshowable(), 10**5000], ids=["raises", "long"])
def test_a_value_without_a_repr_is_told_all_the_same(value: object) -> None:
    error = ValueConversionError("out of range", cql_type="int", value=value)
    assert "out of range, got" in str(error)
    assert type(value).__name__ in str(error)


class Hostile:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 10**6, "str 'xxx"),
        (b"x" * 10**6, "bytes b'xxx"),
        (-(10**60_000), "int of 199,316 bits"),
        ([10**60_000], "list "),
        ([0] * 10**6, "list of 1,000,000 elements"),
        (dict.fromkeys(range(101)), "dict of 101 elements"),
        ([0] * 50, "list [0, 0"),
        (Hostile(), "Hostile <"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_shows_little_of_a_value(value: object, shown: str) -> None:
    text = str(ValueConversionError("no", cql_type="int", value=value, column="c"))
    assert f"no, got {shown}" in text
    assert len(text) < 160


def test_an_error_about_a_column_keeps_its_cause() -> None:
    error = ValueConversionError("no", cql_type="int", value=1)
    error.__cause__ = cause = ZeroDivisionError()
    named = error.of_column("c")
    assert (named.column, named.reason, named.value, named.__cause__) == ("c", "no", 1, cause)
