"""What a client may say, as strategies (v4 section 4.1, v5 section 4.1).

Every message that comes can be said in the version that was asked for, and is written so that it is
read as equal. What a server would make of it is another matter: the statements are seldom CQL, and
the ids are of nothing.
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
    """Bound values, null and unset ones among them."""
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
    """Return a strategy for what QUERY and EXECUTE say besides the statement (v4 section 4.1.4).

    Values are bound by position, by name or not at all; any of them may be null, and unset where
    the version has that. Each option is there or not, those of v5 on v5.

    Arguments:
        version: the version that they are said in.

    A cache whose key must tell requests apart, for example:

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
    """Return a strategy for the messages of a client (v4 section 4.1).

    Arguments:
        version: the version that they are said in.
        kinds: classes of messages, such as :class:`~cqlproto.messages.Query`; all if none is given.

    Raises:
        InvalidArgument: a class that is none of a request.

    What a server must understand, or what a proxy must not change:

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
            raise InvalidArgument(f"{kind.__name__} is no request")
    return st.one_of([_KINDS[kind](version) for kind in kinds or _KINDS])
