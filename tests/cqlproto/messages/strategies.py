"""Hypothesis strategies for all messages of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from cqlproto.cqltypes.model import (
    NATIVE_TYPES,
    CQLType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
)
from cqlproto.enums import BatchKind, Consistency, ErrorCode, ProtocolVersion
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Batch,
    BatchStatement,
    BindMetadata,
    Column,
    Error,
    Event,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    QueryParameters,
    Register,
    Request,
    Response,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    Startup,
    StatusChange,
    Supported,
    TopologyChange,
    UnknownEvent,
    Value,
)
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

versions = st.sampled_from(ProtocolVersion)
texts = st.text(max_size=8)
blobs = st.binary(max_size=8)
ints = st.integers(-(2**31), 2**31 - 1)
longs = st.integers(-(2**63), 2**63 - 1)
shorts = st.integers(0, 2**16 - 1)
consistencies = st.sampled_from(Consistency)
serial_consistencies = st.sampled_from([Consistency.SERIAL, Consistency.LOCAL_SERIAL])
addresses = st.tuples(st.ip_addresses(), ints)
payloads = st.dictionaries(texts, st.none() | blobs, max_size=3)


def short_lists(items: SearchStrategy[str]) -> SearchStrategy[list[str]]:
    return st.lists(items, max_size=3)


def values(version: ProtocolVersion) -> SearchStrategy[list[Value]]:
    value: SearchStrategy[Value] = st.none() | blobs
    return st.lists(value | st.just(UNSET) if version.has_unset else value, max_size=4)


@st.composite
def parameters(draw: DrawFn, version: ProtocolVersion) -> QueryParameters:
    bound = draw(st.none() | values(version))
    names = None
    if bound is not None and draw(st.booleans()):
        names = draw(st.lists(texts, min_size=len(bound), max_size=len(bound)))
    is_v5 = version.has_keyspace_option
    return QueryParameters(
        draw(consistencies),
        bound,
        names,
        draw(st.booleans()),
        draw(st.none() | st.integers(1, 2**31 - 1)),
        draw(st.none() | blobs),
        draw(st.none() | serial_consistencies),
        draw(st.none() | longs),
        draw(st.none() | texts) if is_v5 else None,
        draw(st.none() | ints) if is_v5 else None,
    )


@st.composite
def batches(draw: DrawFn, version: ProtocolVersion) -> Batch:
    statement = st.builds(BatchStatement, texts | blobs, values(version))
    is_v5 = version.has_keyspace_option
    return Batch(
        draw(st.sampled_from(BatchKind)),
        draw(st.lists(statement, max_size=3)),
        draw(consistencies),
        draw(st.none() | serial_consistencies),
        draw(st.none() | longs),
        draw(st.none() | texts) if is_v5 else None,
        draw(st.none() | ints) if is_v5 else None,
    )


def requests(version: ProtocolVersion) -> SearchStrategy[Request]:
    metadata_ids = blobs if version.has_result_metadata_id else st.none()
    return st.one_of(
        st.builds(Startup, st.dictionaries(texts, texts, max_size=3)),
        st.builds(Options),
        st.builds(Query, texts, parameters(version)),
        st.builds(Prepare, texts, st.none() | texts if version.has_keyspace_option else st.none()),
        st.builds(Execute, blobs, parameters(version), metadata_ids),
        batches(version),
        st.builds(Register, short_lists(texts)),
        st.builds(AuthResponse, st.none() | blobs),
    )


def _nested(types: SearchStrategy[CQLType]) -> SearchStrategy[CQLType]:
    fields = st.lists(st.tuples(texts, types), min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(ListType, types),
        st.builds(SetType, types),
        st.builds(MapType, types, types),
        st.builds(TupleType, st.lists(types, min_size=1, max_size=3).map(tuple)),
        st.builds(UserType, texts, texts, fields),
    )


# Any version can name these; what becomes of the other types is a matter of cqltypes.
_NATIVE = ["ascii", "bigint", "blob", "boolean", "int", "text", "timeuuid", "varint"]

types = st.recursive(
    st.sampled_from([NATIVE_TYPES[name] for name in _NATIVE]), _nested, max_leaves=4
)


@st.composite
def columns(draw: DrawFn, min_size: int = 0) -> tuple[Column, ...]:
    keyspaces, tables = st.sampled_from(["a", "b"]), st.sampled_from(["t", "u"])
    if draw(st.booleans()):
        keyspaces, tables = st.just("a"), st.just("t")
    column = st.builds(Column, keyspaces, tables, texts, types)
    return tuple(draw(st.lists(column, min_size=min_size, max_size=4)))


@st.composite
def rows(draw: DrawFn, version: ProtocolVersion) -> Rows:
    metadata = ResultMetadata.of(draw(columns(min_size=1)), version)
    row_count = draw(st.integers(0, 3))
    content = b""
    for cell in draw(
        st.lists(
            st.none() | blobs,
            min_size=row_count * metadata.column_count,
            max_size=row_count * metadata.column_count,
        )
    ):
        length = -1 if cell is None else len(cell)
        content += length.to_bytes(4, signed=True) + (cell or b"")
    return Rows.of(
        metadata,
        row_count,
        content,
        paging_state=draw(st.none() | blobs),
        metadata_id=draw(st.none() | blobs) if version.has_result_metadata_id else None,
    )


@st.composite
def prepared(draw: DrawFn, version: ProtocolVersion) -> Prepared:
    bound = draw(columns())
    indices: tuple[int, ...] = ()
    if bound and version.has_primary_key_indices:
        indices = tuple(draw(st.lists(st.integers(0, len(bound) - 1), max_size=3)))
    return Prepared(
        draw(blobs),
        draw(blobs) if version.has_result_metadata_id else None,
        BindMetadata(bound, indices),
        ResultMetadata.of(draw(columns()), version),
    )


def schema_changes(version: ProtocolVersion) -> SearchStrategy[SchemaChange]:
    kinds = [
        st.builds(SchemaChange, texts, st.just("KEYSPACE"), texts),
        st.builds(SchemaChange, texts, st.sampled_from(["TABLE", "TYPE"]), texts, texts),
    ]
    if version.has_function_events:
        targets = st.sampled_from(["FUNCTION", "AGGREGATE"])
        kinds.append(st.builds(SchemaChange, texts, targets, texts, texts, short_lists(texts)))
    return st.one_of(kinds)


def events(version: ProtocolVersion) -> SearchStrategy[Event]:
    known = ("TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE")
    unknown = texts.filter(lambda kind: kind not in known)
    return st.builds(
        Event,
        st.one_of(
            st.builds(TopologyChange, texts, addresses),
            st.builds(StatusChange, texts, addresses),
            schema_changes(version),
            st.builds(UnknownEvent, unknown, blobs),
        ),
    )


@st.composite
def errors(draw: DrawFn, version: ProtocolVersion) -> Error:
    code = draw(st.sampled_from(ErrorCode) | ints)
    answers: dict[str, SearchStrategy[object]] = {
        "consistency": consistencies | st.integers(0x000B, 0xFFFF),
        "received": ints,
        "required": ints,
    }
    reasons = st.dictionaries(st.ip_addresses(), shorts, max_size=3)
    failures: dict[str, SearchStrategy[object]] = (
        {"reasons": reasons} if version.has_failure_reasons else {"failures": ints}
    )
    layouts: dict[int, dict[str, SearchStrategy[object]]] = {
        ErrorCode.UNAVAILABLE: {"consistency": consistencies, "required": ints, "alive": ints},
        ErrorCode.WRITE_TIMEOUT: {**answers, "write_type": texts | st.just("CAS")},
        ErrorCode.READ_TIMEOUT: {**answers, "data_present": st.booleans()},
        ErrorCode.CAS_WRITE_UNKNOWN: answers,
        ErrorCode.ALREADY_EXISTS: {"keyspace": texts, "table": texts},
        ErrorCode.UNPREPARED: {"statement_id": blobs},
    }
    if version.has_failure_errors:
        layouts[ErrorCode.READ_FAILURE] = {**answers, **failures, "data_present": st.booleans()}
        layouts[ErrorCode.WRITE_FAILURE] = {**answers, **failures, "write_type": texts}
        layouts[ErrorCode.FUNCTION_FAILURE] = {
            "keyspace": texts,
            "function": texts,
            "argument_types": short_lists(texts),
        }
    fields = draw(st.fixed_dictionaries(layouts.get(code, {})))
    if isinstance(reasons_drawn := fields.get("reasons"), dict):
        fields["failures"] = len(reasons_drawn)
    is_cas = code == ErrorCode.WRITE_TIMEOUT and fields["write_type"] == "CAS"
    if is_cas and version.has_contentions:
        fields["contentions"] = draw(shorts)
    return Error(code, draw(texts), fields, draw(blobs))


def responses(version: ProtocolVersion) -> SearchStrategy[Response]:
    return st.one_of(
        st.just(READY),
        st.just(VOID),
        st.builds(Authenticate, texts),
        st.builds(Supported, st.dictionaries(texts, short_lists(texts), max_size=3)),
        st.builds(AuthChallenge, st.none() | blobs),
        st.builds(AuthSuccess, st.none() | blobs),
        errors(version),
        events(version),
        rows(version),
        prepared(version),
        schema_changes(version),
        st.builds(SetKeyspace, texts),
    )
