"""Reading replies: where an error came from, lightweight transactions, columns that stay."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import VOID, BindMetadata, Column, Prepared, ResultMetadata, Rows
from cqlproto_anyio._eventloop.request import Detached
from cqlproto_anyio._execution.replies import (
    adopt,
    columns_of,
    conditional_result,
    read_rows,
    rows_of,
)
from cqlproto_anyio._statements.statement import Statement
from tests.support.fakecluster import row_v
from tests.support.fakehosts import V_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto._events import ResponseReceived

V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5
WRITE, READ = "INSERT INTO t (k) VALUES (1)", "SELECT v FROM t"
LWT = "INSERT INTO t (k) VALUES (1) IF NOT EXISTS"


def request(query: str) -> Detached:
    made = Detached(query, None)
    made.connection = cast("Any", SimpleNamespace(name="10.0.0.1:9042"))
    return made


def event(message: Any) -> ResponseReceived:
    return cast("ResponseReceived", SimpleNamespace(message=message, warnings=(), payload=None))


def applied(*, yes: bool, text: bytes | None = None) -> Rows:
    """Return the outcome of a lightweight transaction, with the text of the row that is there."""
    described = [Column("ks", "t", "[applied]", NATIVE_TYPES["boolean"])]
    content = b"\0\0\0\x01" + bytes([yes])
    if text is not None:
        described.append(Column("ks", "t", "v", NATIVE_TYPES["text"]))
        content += len(text).to_bytes(4, "big") + text
    return Rows.of(ResultMetadata.of(described, V4), 1, content)


def broken() -> Rows:
    """Return rows that end in the middle of the first one."""
    return Rows.of(V_METADATA, 1, b"\0\0\0\x04\0")


def test_a_page_is_made_of_rows() -> None:
    rows = row_v(1)
    assert rows_of(event(rows)) is rows
    with pytest.raises(cql.RemoteProtocolError, match="^Void came where a page of rows"):
        rows_of(event(VOID))


def test_columns_that_nobody_knows() -> None:
    rows = row_v(1)
    assert [each.name for each in columns_of(rows)] == ["v"]
    rows.metadata = None
    with pytest.raises(cql.RemoteProtocolError, match="omitted column metadata"):
        columns_of(rows)
    with pytest.raises(cql.RemoteProtocolError) as caught:
        read_rows(rows, tuple, request(READ))
    assert caught.value.host == "10.0.0.1:9042"


@pytest.mark.parametrize(("query", "maybe"), [(READ, False), (WRITE, True)])
def test_errors_of_rows_tell_where_they_came_from(query: str, maybe: bool) -> None:
    assert read_rows(row_v(1, 2), tuple, request(query)) == [(1,), (2,)]
    with pytest.raises(cql.RemoteProtocolError) as caught:
        read_rows(broken(), tuple, request(query))
    error = caught.value
    assert (error.host, error.query, error.maybe_applied) == ("10.0.0.1:9042", query, maybe)


@pytest.mark.parametrize("yes", [True, False])
def test_the_outcome_of_a_transaction(yes: bool) -> None:
    message = applied(yes=yes)
    result = conditional_result(request(LWT), event(message), message, tuple)
    assert result is not None
    assert (result.applied, result.rows, result.host) == (yes, [(yes,)], "10.0.0.1:9042")


def test_rows_that_say_nothing_of_an_outcome() -> None:
    message = row_v(1)
    assert conditional_result(request(LWT), event(message), message, tuple) is None


def test_a_target_without_the_columns_of_the_outcome() -> None:
    class Known:
        def __init__(self, other: int) -> None:
            raise AssertionError("not called")

    message = applied(yes=False, text=b"x")
    result = conditional_result(request(LWT), event(message), message, Known)
    assert result is not None
    assert (result.applied, result.rows) == (False, [])


@pytest.mark.parametrize("yes", [True, False])
def test_a_target_that_refuses_the_values_of_the_outcome(yes: bool) -> None:
    class Refuses:
        def row_maker(self, columns: object) -> Callable[[tuple[Any, ...]], object]:
            def make(values: tuple[Any, ...]) -> object:
                raise ValueError("no")

            return make

    message = applied(yes=yes, text=b"x")
    with pytest.raises(cql.RowMappingError) as caught:
        conditional_result(request(LWT), event(message), message, Refuses())
    assert caught.value.host == "10.0.0.1:9042"
    assert caught.value.maybe_applied is yes


def test_an_outcome_that_can_not_be_read() -> None:
    metadata = applied(yes=True).metadata
    assert metadata is not None
    message = Rows.of(metadata, 1, b"\0\0")
    with pytest.raises(cql.RemoteProtocolError) as caught:
        conditional_result(request(LWT), event(message), message, tuple)
    assert (caught.value.host, caught.value.maybe_applied) == ("10.0.0.1:9042", True)


@pytest.mark.parametrize(
    ("query", "known", "sent", "stays"),
    [
        (READ, b"old", b"new", True),  # v5, where the server says that the columns are others now
        (READ, b"old", None, False),
        (LWT, b"old", b"new", True),
        (READ, None, None, True),  # v4
        (LWT, None, None, False),
    ],
)
def test_columns_that_stay(
    query: str, known: bytes | None, sent: bytes | None, stays: bool
) -> None:
    announced = ResultMetadata((), b"", False)
    prepared = Prepared(b"id", known, BindMetadata(()), announced)
    statement = Statement(query, None, prepared, V4 if known is None else V5)
    rows = row_v(1)
    rows.metadata_id = sent
    adopt(statement, rows)
    assert (statement.prepared.result is rows.metadata) is stays
    if stays:
        assert statement.prepared.result_metadata_id == sent


def test_no_columns_stay_where_there_are_none() -> None:
    announced = ResultMetadata((), b"", False)
    statement = Statement(READ, None, Prepared(b"id", None, BindMetadata(()), announced), V4)
    rows = row_v(1)
    for metadata in (None, ResultMetadata.of([], V4)):
        rows.metadata = metadata
        adopt(statement, rows)
        assert statement.prepared.result is announced
