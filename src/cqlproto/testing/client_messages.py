"""Strategies for requests (v4 section 4.1, v5 section 4.1).

Every message is valid in the given version, and reading its bytes returns an equal message. A real
server would refuse most of them: statements are rarely valid CQL, and ids are unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from cqlproto.enums import BatchKind
from cqlproto.messages import (
    AuthResponse,
    Batch,
    BatchStatement,
    Execute,
    Options,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Startup,
)
from cqlproto.testing import _notations as some
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages import Request, Value

__all__ = ["query_parameters", "requests"]

R = TypeVar("R", bound="Request")

_MOST_VALUES = 4
_STATEMENTS = st.sampled_from(
    [
        "SELECT * FROM system.local",
        "INSERT INTO shop.users (id, email) VALUES (?, ?) IF NOT EXISTS",
        "UPDATE shop.\"Größe\" SET n = :n WHERE id = 'it''s'",
    ]
)
_EVENT_TYPES = st.sampled_from(["TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"])


def _values(version: ProtocolVersion) -> st.SearchStrategy[list[Value]]:
    """Return a strategy for bound values, including null and UNSET."""
    value: st.SearchStrategy[Value] = st.none() | some.blobs
    if version.has_unset:
        value |= st.just(UNSET)
    return st.lists(value, max_size=_MOST_VALUES)


def _keyspaces(version: ProtocolVersion) -> st.SearchStrategy[str | None]:
    return some.maybe(some.texts) if version.has_keyspace_option else st.none()


def _times(version: ProtocolVersion) -> st.SearchStrategy[int | None]:
    return some.maybe(some.ints) if version.has_now_in_seconds else st.none()


@st.composite
def _query_parameters(draw: st.DrawFn, version: ProtocolVersion) -> QueryParameters:
    values = draw(some.maybe(_values(version)))
    names = None
    if values is not None and draw(some.flags):
        names = draw(st.lists(some.texts, min_size=len(values), max_size=len(values)))
    return QueryParameters(
        draw(some.consistencies),
        values,
        names,
        skip_metadata=draw(some.flags),
        page_size=draw(some.maybe(st.integers(1, (1 << 31) - 1))),
        paging_state=draw(some.maybe(some.blobs)),
        serial_consistency=draw(some.maybe(some.serial_consistencies)),
        timestamp=draw(some.maybe(some.longs)),
        keyspace=draw(_keyspaces(version)),
        now_in_seconds=draw(_times(version)),
    )


def query_parameters(version: ProtocolVersion) -> st.SearchStrategy[QueryParameters]:
    """Return a strategy for the parameters of QUERY and EXECUTE (v4 section 4.1.4).

    Values are bound by position, by name or not at all; each may be null, or UNSET if the version
    has it. Each option is present or absent, those of v5 only on v5.

    Arguments:
        version: the protocol version.

    For example, a test that encoded parameters are a valid cache key:

        >>> from hypothesis import given
        >>> from cqlproto.enums import ProtocolVersion
        >>> from cqlproto.messages import write_parameters
        >>> @given(query_parameters(ProtocolVersion.V5), query_parameters(ProtocolVersion.V5))
        ... def test_bytes_are_a_key(one, other):
        ...     keys = bytearray(), bytearray()
        ...     write_parameters(keys[0], one, ProtocolVersion.V5)
        ...     write_parameters(keys[1], other, ProtocolVersion.V5)
        ...     assert (keys[0] == keys[1]) == (one == other)
        >>> test_bytes_are_a_key()
    """
    return _query_parameters(version)


def _startups(version: ProtocolVersion) -> st.SearchStrategy[Startup]:
    usual = st.fixed_dictionaries(
        {"CQL_VERSION": st.sampled_from(["3.0.0", "3.4.7"])},
        optional={
            "COMPRESSION": st.sampled_from(["lz4", "snappy"] if version.has_snappy else ["lz4"]),
            "NO_COMPACT": st.sampled_from(["true", "false"]),
            "THROW_ON_OVERLOAD": st.sampled_from(["0", "1"]),
            "DRIVER_NAME": some.texts,
            "DRIVER_VERSION": some.texts,
        },
    )
    return st.builds(Startup, usual | st.dictionaries(some.texts, some.texts, max_size=3))


def _queries(version: ProtocolVersion) -> st.SearchStrategy[Query]:
    return st.builds(Query, _STATEMENTS | some.texts, query_parameters(version))


def _prepares(version: ProtocolVersion) -> st.SearchStrategy[Prepare]:
    return st.builds(Prepare, _STATEMENTS | some.texts, _keyspaces(version))


def _executes(version: ProtocolVersion) -> st.SearchStrategy[Execute]:
    metadata_ids = some.blobs if version.has_result_metadata_id else st.none()
    return st.builds(Execute, some.blobs, query_parameters(version), metadata_ids)


def _batches(version: ProtocolVersion) -> st.SearchStrategy[Batch]:
    statements = st.builds(BatchStatement, _STATEMENTS | some.texts | some.blobs, _values(version))
    return st.builds(
        Batch,
        st.sampled_from(BatchKind),
        some.some(statements),
        some.consistencies,
        some.maybe(some.serial_consistencies),
        some.maybe(some.longs),
        _keyspaces(version),
        _times(version),
    )


_KINDS: dict[type[Any], Callable[[ProtocolVersion], st.SearchStrategy[Request]]] = {
    Startup: _startups,
    Options: lambda _: st.builds(Options),
    AuthResponse: lambda _: st.builds(AuthResponse, some.maybe(some.blobs)),
    Register: lambda _: st.builds(Register, some.some(_EVENT_TYPES | some.texts)),
    Query: _queries,
    Prepare: _prepares,
    Execute: _executes,
    Batch: _batches,
}


@overload
def requests(version: ProtocolVersion) -> st.SearchStrategy[Request]: ...
@overload
def requests(version: ProtocolVersion, *kinds: type[R]) -> st.SearchStrategy[R]: ...
def requests(version: ProtocolVersion, *kinds: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for requests (v4 section 4.1).

    Arguments:
        version: the protocol version.
        kinds: message classes, such as :class:`~cqlproto.messages.Query`; all by default.

    Raises:
        InvalidArgument: a class is not a request.

    For example, a test that reading returns the written message:

        >>> from hypothesis import given
        >>> from cqlproto.enums import ProtocolVersion
        >>> from cqlproto.messages import Batch, Query, read_request
        >>> @given(requests(ProtocolVersion.V5, Query, Batch))
        ... def test_it_is_read_as_it_was_written(message):
        ...     body = bytearray()
        ...     message.write_body(body, ProtocolVersion.V5)
        ...     assert read_request(message.opcode, bytes(body), 0, ProtocolVersion.V5) == message
        >>> test_it_is_read_as_it_was_written()
    """
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidArgument(f"kinds must be classes of requests, got {kind.__name__}")
    return st.one_of([_KINDS[kind](version) for kind in kinds or _KINDS])
