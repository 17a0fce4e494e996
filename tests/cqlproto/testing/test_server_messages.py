"""Strategies return every kind of response, with every part of its version and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto import decoder
from cqlproto.enums import ROWS_GLOBAL_TABLE, ROWS_NO_METADATA, ErrorCode, ProtocolVersion
from cqlproto.messages import (
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    Column,
    Error,
    Event,
    Prepared,
    Query,
    Ready,
    Rows,
    SchemaChange,
    ServerEvent,
    SetKeyspace,
    StatusChange,
    Supported,
    TopologyChange,
    UnknownEvent,
    Void,
)
from cqlproto.testing import columns, errors, responses, server_events, server_messages
from tests.cqlproto.testing.examples import FEW, comes, never_comes, run_examples

if TYPE_CHECKING:
    from collections.abc import Callable

V3, V4, V5 = ProtocolVersion
VERSIONS = pytest.mark.parametrize("version", ProtocolVersion)
KINDS = [
    *(Ready, Authenticate, Supported, AuthChallenge, AuthSuccess, Error, Event),
    *(Void, Rows, SetKeyspace, Prepared, SchemaChange),
]
FAILURES = (ErrorCode.READ_FAILURE, ErrorCode.WRITE_FAILURE)
ROWS: dict[str, tuple[ProtocolVersion, Callable[[Rows], bool]]] = {
    "no metadata": (V3, lambda rows: rows.metadata is None),
    "no metadata, one table": (V3, lambda r: r.flags == ROWS_GLOBAL_TABLE | ROWS_NO_METADATA),
    "no metadata, no table": (V3, lambda rows: rows.flags == ROWS_NO_METADATA),
    "one table": (V3, lambda rows: rows.metadata is not None and rows.metadata.global_table),
    "tables": (V3, lambda rows: rows.metadata is not None and not rows.metadata.global_table),
    "more pages": (V3, lambda rows: rows.paging_state is not None),
    "last page": (V3, lambda rows: rows.paging_state is None),
    "no rows": (V3, lambda rows: not rows.row_count),
    "rows": (V3, lambda rows: rows.row_count > 1),
    "null": (V3, lambda rows: rows.content.startswith(b"\xff\xff\xff\xff")),
    "changed metadata": (V5, lambda rows: rows.metadata_id is not None),
}
CHANGES = [("KEYSPACE", V3), ("TABLE", V3), ("TYPE", V3), ("FUNCTION", V4), ("AGGREGATE", V4)]


@VERSIONS
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_and_alone_if_asked_for(kind: type[Any], version: ProtocolVersion) -> None:
    assert comes(responses(version), lambda message: isinstance(message, kind))

    @FEW
    @given(responses(version, kind))
    def only_this(message: object) -> None:
        assert type(message) is kind

    only_this()


@VERSIONS
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_every_form_come(name: str, version: ProtocolVersion) -> None:
    since, wanted = ROWS[name]
    if version >= since:
        assert comes(responses(version, Rows), wanted)
    else:
        assert never_comes(responses(version, Rows), wanted)


@VERSIONS
@given(data=st.data())
def test_rows_are_rows(version: ProtocolVersion, data: st.DataObject) -> None:
    rows = data.draw(responses(version, Rows).filter(lambda rows: rows.metadata is not None))
    assert rows.metadata is not None
    assert len(decoder(rows.metadata.columns, tuple)(rows)) == rows.row_count


@VERSIONS
def test_prepared_statements_of_every_form_come(version: ProtocolVersion) -> None:
    strategy = responses(version, Prepared)
    assert comes(strategy, lambda prepared: not prepared.bind.columns)
    assert comes(strategy, lambda prepared: len(prepared.bind.columns) > 1)
    assert comes(strategy, lambda prepared: not prepared.result.columns)
    assert comes(strategy, lambda prepared: bool(prepared.result.columns))

    @given(strategy)
    def ids(prepared: Prepared) -> None:
        assert (prepared.result_metadata_id is not None) == (version is V5)

    ids()
    if version is V3:
        assert never_comes(strategy, lambda prepared: bool(prepared.bind.key_indices))
    else:
        assert comes(strategy, lambda prepared: bool(prepared.bind.key_indices))


@VERSIONS
@pytest.mark.parametrize("kind", [TopologyChange, StatusChange, SchemaChange, UnknownEvent])
def test_every_event_comes(kind: type[ServerEvent], version: ProtocolVersion) -> None:
    assert comes(server_events(version), lambda event: isinstance(event, kind))


@VERSIONS
@pytest.mark.parametrize(("target", "since"), CHANGES)
def test_schema_changes_of_every_target_come(
    target: str, since: ProtocolVersion, version: ProtocolVersion
) -> None:
    def as_event(event: ServerEvent) -> bool:
        return isinstance(event, SchemaChange) and event.target == target

    def as_result(change: SchemaChange) -> bool:
        return change.target == target

    if version >= since:
        assert comes(server_events(version), as_event)
        assert comes(responses(version, SchemaChange), as_result)
    else:
        assert never_comes(server_events(version), as_event)
        assert never_comes(responses(version, SchemaChange), as_result)


@VERSIONS
def test_every_error_comes(version: ProtocolVersion) -> None:
    seen: set[int] = set()

    def all_seen(error: Error) -> bool:
        seen.add(error.code)
        return seen >= set(ErrorCode)

    assert comes(errors(version), all_seen)


@VERSIONS
@given(data=st.data())
def test_an_error_comes_alone_if_asked_for_with_the_fields_of_its_version(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    code = data.draw(st.sampled_from(ErrorCode))
    error = data.draw(errors(version, code))
    assert error.code == code
    has_reasons = version is V5 and code in FAILURES
    assert ("reasons" in error.fields) == has_reasons
    if has_reasons:
        reasons = error.fields["reasons"]
        assert isinstance(reasons, dict)
        assert len(reasons) == error.fields["failures"]
    is_cas = error.fields.get("write_type") == "CAS" and code == ErrorCode.WRITE_TIMEOUT
    assert ("contentions" in error.fields) == (is_cas and version is V5)


def test_contentions_come_with_a_write_timeout_of_type_cas_on_v5() -> None:
    assert comes(errors(V5, ErrorCode.WRITE_TIMEOUT), lambda error: "contentions" in error.fields)
    assert comes(
        errors(V4, ErrorCode.WRITE_TIMEOUT), lambda error: error.fields["write_type"] == "CAS"
    )


def test_errors_without_a_name_come_and_such_with_more_bytes() -> None:
    assert comes(errors(V4), lambda error: error.code not in set(ErrorCode))
    assert comes(errors(V4), lambda error: bool(error.extra))


@pytest.mark.parametrize("min_size", [0, 3])
def test_columns(min_size: int) -> None:
    def tables(found: tuple[Column, ...]) -> int:
        return len({(column.keyspace, column.table) for column in found})

    assert comes(columns(min_size=min_size), lambda found: len(found) == min_size)
    assert comes(columns(min_size=min_size), lambda found: tables(found) == 1 < len(found))
    assert comes(columns(min_size=min_size), lambda found: tables(found) > 1)


def test_a_request_is_no_response() -> None:
    wrong: Any = Query
    with pytest.raises(InvalidArgument, match="must be classes of responses, got Query"):
        responses(V4, wrong)


def test_the_examples_run() -> None:
    run_examples(server_messages, "columns", "errors", "responses", "server_events")
