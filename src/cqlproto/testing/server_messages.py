"""Strategies for responses (v4 section 4.2, v5 section 4.2).

Every message is valid in the given version, and reading its bytes returns an equal message. Rows
can be decoded: each cell is a value of its column's type, or null.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto.cqltypes import encoder
from cqlproto.enums import ROWS_GLOBAL_TABLE, ErrorCode
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    BindMetadata,
    Column,
    Error,
    Event,
    Prepared,
    Ready,
    ResultMetadata,
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
from cqlproto.testing import _notations as some
from cqlproto.testing.values import cql_types, values_of
from cqlproto.wire import write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages import Response

__all__ = ["columns", "errors", "responses", "server_events"]

R = TypeVar("R", bound="Response")

_MOST_COLUMNS = 3
_MOST_ROWS = 3


_COLUMN_TYPES = cql_types(max_leaves=2)


def _columns_of(keyspaces: list[str], tables: list[str]) -> st.SearchStrategy[Column]:
    return st.builds(
        Column, st.sampled_from(keyspaces), st.sampled_from(tables), some.texts, _COLUMN_TYPES
    )


_OF_ONE_TABLE = _columns_of(["a"], ["t"])
_OF_SEVERAL = _columns_of(["a", "b"], ["t", "u"])


def columns(*, min_size: int = 0) -> st.SearchStrategy[tuple[Column, ...]]:
    """Return a strategy for the columns of a result, or for bind markers (v4 section 4.2.5.2).

    They belong to one table, as usual, or to several. They have types of all kinds; names may
    repeat, as those of bind markers may.

    Arguments:
        min_size: the least number of columns; the most is three.

    For example, a test that reading returns the written metadata:

        >>> from hypothesis import given
        >>> from cqlproto import ProtocolVersion
        >>> from cqlproto.messages import ResultMetadata, Rows, read_response
        >>> @given(columns(min_size=1))
        ... def test_metadata(described):
        ...     metadata = ResultMetadata.of(described, ProtocolVersion.V3)
        ...     body = bytearray()
        ...     Rows.of(metadata, 0, b"").write_body(body, ProtocolVersion.V3)
        ...     rows = read_response(8, bytes(body), 0, ProtocolVersion.V3)
        ...     assert rows.metadata.columns == described
        >>> test_metadata()
    """
    lists = [
        st.lists(column, min_size=min_size, max_size=_MOST_COLUMNS)
        for column in (_OF_ONE_TABLE, _OF_SEVERAL)
    ]
    return st.one_of(lists).map(tuple)


_BOUND = columns()
_SELECTED = columns(min_size=1)


@st.composite
def _rows(draw: st.DrawFn, version: ProtocolVersion) -> Rows:
    metadata = ResultMetadata.of(draw(_SELECTED), version)
    row_count = draw(st.integers(0, _MOST_ROWS))
    content = bytearray()
    for _ in range(row_count):
        for column in metadata.columns:
            value = draw(some.maybe(values_of(column.type)))
            write_bytes(content, None if value is None else encoder(column.type)(value))
    paging_state = draw(some.maybe(some.blobs))
    if draw(some.flags):
        metadata_id = None
        if version.has_result_metadata_id:
            metadata_id = draw(some.maybe(some.blobs))
        return Rows.of(
            metadata,
            row_count,
            bytes(content),
            paging_state=paging_state,
            metadata_id=metadata_id,
        )
    rows = Rows.of(
        metadata, row_count, bytes(content), paging_state=paging_state, skip_metadata=True
    )
    # As a reader without metadata reads it. Servers may set GLOBAL_TABLE or not.
    rows.metadata = None
    rows.flags ^= draw(st.sampled_from([0, ROWS_GLOBAL_TABLE]))
    return rows


@st.composite
def _prepared(draw: st.DrawFn, version: ProtocolVersion) -> Prepared:
    bound = draw(_BOUND)
    indices: tuple[int, ...] = ()
    if bound and version.has_primary_key_indices:
        indices = tuple(draw(some.some(st.integers(0, len(bound) - 1))))
    return Prepared(
        draw(some.blobs),
        draw(some.blobs) if version.has_result_metadata_id else None,
        BindMetadata(bound, indices),
        ResultMetadata.of(draw(_BOUND), version),
    )


def _schema_changes(version: ProtocolVersion) -> st.SearchStrategy[SchemaChange]:
    changes = st.sampled_from(["CREATED", "UPDATED", "DROPPED"])
    parts = st.sampled_from(["TABLE", "TYPE"])
    kinds = [
        st.builds(SchemaChange, changes, st.just("KEYSPACE"), some.texts),
        st.builds(SchemaChange, changes, parts, some.texts, some.texts),
    ]
    if version.has_function_events:
        targets = st.sampled_from(["FUNCTION", "AGGREGATE"])
        arguments = some.some(st.sampled_from(["int", "frozen<list<text>>"]) | some.texts)
        kinds.append(st.builds(SchemaChange, changes, targets, some.texts, some.texts, arguments))
    return st.one_of(kinds)


def server_events(version: ProtocolVersion) -> st.SearchStrategy[ServerEvent]:
    """Return a strategy for the events of a server (v4 section 4.2.6).

    Some are of unknown kinds, which other servers than Cassandra send.

    Arguments:
        version: the protocol version.

    For example, a test of a schema cache:

        >>> from hypothesis import given
        >>> from cqlproto.enums import ProtocolVersion
        >>> from cqlproto.messages import SchemaChange
        >>> def stale(event):
        ...     return event.keyspace if isinstance(event, SchemaChange) else None
        >>> @given(server_events(ProtocolVersion.V4))
        ... def test_an_event_makes_a_keyspace_stale_or_nothing(event):
        ...     assert (stale(event) is None) == (not isinstance(event, SchemaChange))
        >>> test_an_event_makes_a_keyspace_stale_or_nothing()
    """
    known = ("TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE")
    return st.one_of(
        st.builds(
            TopologyChange,
            st.sampled_from(["NEW_NODE", "REMOVED_NODE", "MOVED_NODE"]),
            some.endpoints,
        ),
        st.builds(StatusChange, st.sampled_from(["UP", "DOWN"]), some.endpoints),
        _schema_changes(version),
        st.builds(UnknownEvent, some.texts.filter(lambda kind: kind not in known), some.blobs),
    )


_LEVELS = some.consistencies | st.integers(0x000B, 0xFFFF)  # later versions may define more
_ANSWERS: dict[str, st.SearchStrategy[object]] = {
    "consistency": _LEVELS,
    "received": some.ints,
    "required": some.ints,
}
_WRITE_TYPES = st.sampled_from(["SIMPLE", "BATCH", "UNLOGGED_BATCH", "COUNTER", "CAS"])


@lru_cache
def _error_fields(version: ProtocolVersion) -> Mapping[int, st.SearchStrategy[dict[str, object]]]:
    """Return strategies for the fields of an ERROR by code (v4 section 9, v5 section 8)."""
    failures: dict[str, st.SearchStrategy[object]] = {"failures": some.ints}
    if version.has_failure_reasons:
        failures = {"reasons": st.dictionaries(some.addresses, some.shorts, max_size=3)}
    fields: dict[int, dict[str, st.SearchStrategy[object]]] = {
        ErrorCode.UNAVAILABLE: {
            "consistency": _LEVELS,
            "required": some.ints,
            "alive": some.ints,
        },
        ErrorCode.WRITE_TIMEOUT: {**_ANSWERS, "write_type": _WRITE_TYPES | some.texts},
        ErrorCode.READ_TIMEOUT: {**_ANSWERS, "data_present": some.flags},
        ErrorCode.CAS_WRITE_UNKNOWN: _ANSWERS,
        ErrorCode.ALREADY_EXISTS: {"keyspace": some.texts, "table": some.texts},
        ErrorCode.UNPREPARED: {"statement_id": some.blobs},
    }
    if version.has_failure_errors:
        fields[ErrorCode.READ_FAILURE] = {**_ANSWERS, **failures, "data_present": some.flags}
        fields[ErrorCode.WRITE_FAILURE] = {**_ANSWERS, **failures, "write_type": _WRITE_TYPES}
        fields[ErrorCode.FUNCTION_FAILURE] = {
            "keyspace": some.texts,
            "function": some.texts,
            "argument_types": some.string_lists,
        }
    return {code: st.fixed_dictionaries(parts) for code, parts in fields.items()}


_NO_FIELDS: st.SearchStrategy[dict[str, object]] = st.builds(dict)
_CODES: st.SearchStrategy[int] = st.sampled_from(ErrorCode) | some.ints
_EXTRA = st.just(b"") | some.blobs


@st.composite
def _errors(draw: st.DrawFn, version: ProtocolVersion, codes: st.SearchStrategy[int]) -> Error:
    code = draw(codes)
    fields = draw(_error_fields(version).get(code, _NO_FIELDS))
    reasons = fields.get("reasons")
    if isinstance(reasons, dict):
        fields["failures"] = len(reasons)
    is_cas = code == ErrorCode.WRITE_TIMEOUT and fields["write_type"] == "CAS"
    if is_cas and version.has_contentions:
        fields["contentions"] = draw(some.shorts)
    return Error(code, draw(some.texts), fields, draw(_EXTRA))


def errors(version: ProtocolVersion, *codes: int) -> st.SearchStrategy[Error]:
    """Return a strategy for ERROR messages, with the fields of their code and version.

    Arguments:
        version: the protocol version.
        codes: codes as in :class:`~cqlproto.enums.ErrorCode`; by default all of them, and unknown
            numbers.

    For example, a test that errors have their fields:

        >>> from hypothesis import given
        >>> from cqlproto.enums import ErrorCode, ProtocolVersion
        >>> @given(errors(ProtocolVersion.V5, ErrorCode.WRITE_TIMEOUT, ErrorCode.WRITE_FAILURE))
        ... def test_the_fields_are_there(error):
        ...     assert 0 <= len(error.fields["write_type"])
        ...     assert ("reasons" in error.fields) == (error.code == ErrorCode.WRITE_FAILURE)
        >>> test_the_fields_are_there()
    """
    return _errors(version, st.sampled_from(codes) if codes else _CODES)


def _supported(_: ProtocolVersion) -> st.SearchStrategy[Supported]:
    names = st.sampled_from(["CQL_VERSION", "COMPRESSION", "PROTOCOL_VERSIONS"])
    options = st.dictionaries(names | some.texts, some.string_lists, max_size=3)
    return st.builds(Supported, options)


def _authenticates(_: ProtocolVersion) -> st.SearchStrategy[Authenticate]:
    usual = st.just("org.apache.cassandra.auth.PasswordAuthenticator")
    return st.builds(Authenticate, usual | some.texts)


_KINDS: dict[type[Any], Callable[[ProtocolVersion], st.SearchStrategy[Response]]] = {
    Ready: lambda _: st.just(READY),
    Void: lambda _: st.just(VOID),
    Authenticate: _authenticates,
    AuthChallenge: lambda _: st.builds(AuthChallenge, some.maybe(some.blobs)),
    AuthSuccess: lambda _: st.builds(AuthSuccess, some.maybe(some.blobs)),
    Supported: _supported,
    SetKeyspace: lambda _: st.builds(SetKeyspace, some.texts),
    Error: errors,
    Event: lambda version: st.builds(Event, server_events(version)),
    SchemaChange: _schema_changes,
    Prepared: _prepared,
    Rows: _rows,
}


@overload
def responses(version: ProtocolVersion) -> st.SearchStrategy[Response]: ...
@overload
def responses(version: ProtocolVersion, *kinds: type[R]) -> st.SearchStrategy[R]: ...
def responses(version: ProtocolVersion, *kinds: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for responses (v4 section 4.2).

    Rows have metadata or not; without it their ``metadata`` is None, as for a reader that does not
    know the columns. Some have a paging state, and on v5 some the id of changed metadata.

    Arguments:
        version: the protocol version.
        kinds: message classes, such as :class:`~cqlproto.messages.Rows`; all by default.

    Raises:
        InvalidArgument: a class is not a response.

    For example, a test that rows can be decoded:

        >>> from hypothesis import given
        >>> from cqlproto import decoder
        >>> from cqlproto.enums import ProtocolVersion
        >>> from cqlproto.messages import Rows
        >>> @given(responses(ProtocolVersion.V4, Rows))
        ... def test_rows_are_decoded(rows):
        ...     if rows.metadata is not None:
        ...         assert len(decoder(rows.metadata.columns, tuple)(rows)) == rows.row_count
        >>> test_rows_are_decoded()
    """
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidArgument(f"kinds must be classes of responses, got {kind.__name__}")
    return st.one_of([_KINDS[kind](version) for kind in kinds or _KINDS])
