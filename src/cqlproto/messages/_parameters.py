"""The parameters of QUERY and EXECUTE, and the options that BATCH shares (v4 section 4.1.4).

On the fast path, :func:`pack_parameters_around` returns the bytes before and after the bound
values. They are the same for every execution of a statement with the same options, so only the
values are packed per execution. If each execution has its own timestamp,
:func:`pack_behind_timestamp` returns the bytes after it.

Reading (the server's side) accepts any well-formed parameters, such as a page size of 0, even if a
server would refuse them; writing refuses what no server accepts. A flag that the version does not
define makes the rest of a body unreadable and is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from cqlproto.enums import (
    QUERY_KEYSPACE,
    QUERY_NAMES,
    QUERY_NOW_IN_SECONDS,
    QUERY_PAGE_SIZE,
    QUERY_PAGING_STATE,
    QUERY_SERIAL_CONSISTENCY,
    QUERY_SKIP_METADATA,
    QUERY_TIMESTAMP,
    QUERY_VALUES,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages._base import Record, read_known_consistency, write_consistency
from cqlproto.wire import (
    MAX_SHORT,
    UNSET,
    Unset,
    read_byte,
    read_bytes,
    read_int,
    read_long,
    read_short,
    read_string,
    read_value,
    write_byte,
    write_bytes,
    write_int,
    write_long,
    write_short,
    write_string,
    write_value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto.enums import Consistency, ProtocolVersion
    from cqlproto.wire import Reader

__all__ = [
    "QueryParameters",
    "SharedOptions",
    "Value",
    "option_flags",
    "pack_behind_timestamp",
    "pack_parameters_around",
    "read_flags",
    "read_options",
    "read_parameters",
    "read_values",
    "write_bound",
    "write_flags",
    "write_options",
    "write_parameters",
]

# A bound value in wire form: None is null.
Value: TypeAlias = bytes | Unset | None


_ALL_FLAGS = (
    QUERY_VALUES
    | QUERY_SKIP_METADATA
    | QUERY_PAGE_SIZE
    | QUERY_PAGING_STATE
    | QUERY_SERIAL_CONSISTENCY
    | QUERY_TIMESTAMP
    | QUERY_NAMES
)


class SharedOptions(Protocol):
    """The options that QUERY, EXECUTE and BATCH share, as :class:`QueryParameters` describes them.

    ``Batch`` and :class:`QueryParameters` have them as attributes.
    """

    serial_consistency: Consistency | None
    timestamp: int | None
    keyspace: str | None
    now_in_seconds: int | None


class QueryParameters(Record):
    """The parameters of QUERY and EXECUTE (v4 section 4.1.4).

    Arguments:
        consistency: how many replicas must answer.
        values: the bound values in wire form; None for null, :data:`~cqlproto.wire.UNSET` (not on
            v3) to leave a column unchanged. At most 65535.
        names: the names of the bind markers, one per value, in the markers' order; None binds by
            position. Cassandra 6.0-alpha2 binds named values in any other order by position.
        skip_metadata: whether Rows may omit the column specifications.
        page_size: rows per page, at least 1; None requests all rows at once.
        paging_state: the paging state of the previous page.
        serial_consistency: the level of an LWT's Paxos phase, SERIAL or LOCAL_SERIAL.
        timestamp: the write time in microseconds since 1970.
        keyspace: the keyspace of unqualified tables (v5).
        now_in_seconds: the server's current time for this request, in seconds since 1970 (v5).
    """

    __slots__ = (
        "consistency",
        "keyspace",
        "names",
        "now_in_seconds",
        "page_size",
        "paging_state",
        "serial_consistency",
        "skip_metadata",
        "timestamp",
        "values",
    )

    def __init__(
        self,
        consistency: Consistency,
        values: Sequence[Value] | None = None,
        names: Sequence[str] | None = None,
        skip_metadata: bool = False,
        page_size: int | None = None,
        paging_state: bytes | None = None,
        serial_consistency: Consistency | None = None,
        timestamp: int | None = None,
        keyspace: str | None = None,
        now_in_seconds: int | None = None,
    ) -> None:
        self.consistency = consistency
        self.values = values
        self.names = names
        self.skip_metadata = skip_metadata
        self.page_size = page_size
        self.paging_state = paging_state
        self.serial_consistency = serial_consistency
        self.timestamp = timestamp
        self.keyspace = keyspace
        self.now_in_seconds = now_in_seconds


def write_flags(out: bytearray, flags: int, version: ProtocolVersion) -> None:
    """Append <flags>: an [int] on v5, a [byte] before."""
    if version.has_wide_flags:
        write_int(out, flags)
    else:
        write_byte(out, flags)


def read_flags(reader: Reader, version: ProtocolVersion, known: int) -> int:
    """Read <flags>, of which ``known`` and the options of v5 are allowed."""
    flags = read_int(reader) if version.has_wide_flags else read_byte(reader)
    if version.has_keyspace_option:
        known |= QUERY_KEYSPACE
    if version.has_now_in_seconds:
        known |= QUERY_NOW_IN_SECONDS
    if flags & ~known:
        raise RemoteProtocolError(f"flags {flags:#06x} are not defined in v{version:d}")
    return flags


def _write_one(out: bytearray, value: Value, version: ProtocolVersion) -> None:
    if value is UNSET and not version.has_unset:
        raise LocalProtocolError("UNSET needs v4")
    write_value(out, value)


def write_bound(
    out: bytearray,
    values: Sequence[Value],
    names: Sequence[str] | None,
    version: ProtocolVersion,
) -> None:
    """Append <n>[<name_1>]<value_1>..[<name_n>]<value_n>."""
    if len(values) > MAX_SHORT:
        raise LocalProtocolError(
            f"a request must have at most {MAX_SHORT} bound values, got {len(values)}"
        )
    write_short(out, len(values))
    if names is None:
        for value in values:
            _write_one(out, value, version)
        return
    if len(names) != len(values):
        raise LocalProtocolError(
            f"names must be as many as bound values ({len(values)}), got {len(names)}"
        )
    for name, value in zip(names, values, strict=True):
        write_string(out, name)
        _write_one(out, value, version)


def read_values(reader: Reader, version: ProtocolVersion) -> list[Value]:
    """Read <n><value_1>..<value_n>."""
    count = reader.check_count(read_short(reader), 4)
    return [_read_one(reader, version) for _ in range(count)]


def _read_one(reader: Reader, version: ProtocolVersion) -> Value:
    value = read_value(reader)
    if value is UNSET and not version.has_unset:
        raise RemoteProtocolError("UNSET needs v4")
    return value


def option_flags(
    serial_consistency: Consistency | None,
    timestamp: int | None,
    keyspace: str | None,
    now_in_seconds: int | None,
    version: ProtocolVersion,
) -> int:
    """Check the options that QUERY, EXECUTE and BATCH share, and return their flags."""
    flags = 0
    if serial_consistency is not None:
        if not serial_consistency.is_serial:
            raise LocalProtocolError(
                f"serial_consistency must be SERIAL or LOCAL_SERIAL, got {serial_consistency.name}"
            )
        flags |= QUERY_SERIAL_CONSISTENCY
    if timestamp is not None:
        flags |= QUERY_TIMESTAMP
    if keyspace is not None:
        if not version.has_keyspace_option:
            raise LocalProtocolError("keyspace needs v5")
        flags |= QUERY_KEYSPACE
    if now_in_seconds is not None:
        if not version.has_now_in_seconds:
            raise LocalProtocolError("now_in_seconds needs v5")
        flags |= QUERY_NOW_IN_SECONDS
    return flags


def write_options(out: bytearray, options: SharedOptions) -> None:
    """Append the options that QUERY, EXECUTE and BATCH share."""
    if options.serial_consistency is not None:
        write_consistency(out, options.serial_consistency)
    if options.timestamp is not None:
        write_long(out, options.timestamp)
    _write_behind_timestamp(out, options)


def _write_behind_timestamp(out: bytearray, options: SharedOptions) -> None:
    if options.keyspace is not None:
        write_string(out, options.keyspace)
    if options.now_in_seconds is not None:
        write_int(out, options.now_in_seconds)


def read_options(reader: Reader, flags: int, options: SharedOptions) -> None:
    """Read the options that QUERY, EXECUTE and BATCH share into ``options``."""
    if flags & QUERY_SERIAL_CONSISTENCY:
        options.serial_consistency = read_known_consistency(reader)
    if flags & QUERY_TIMESTAMP:
        options.timestamp = read_long(reader)
    if flags & QUERY_KEYSPACE:
        options.keyspace = read_string(reader)
    if flags & QUERY_NOW_IN_SECONDS:
        options.now_in_seconds = read_int(reader)


def _parameter_flags(params: QueryParameters, version: ProtocolVersion) -> int:
    flags = option_flags(
        params.serial_consistency,
        params.timestamp,
        params.keyspace,
        params.now_in_seconds,
        version,
    )
    if params.skip_metadata:
        flags |= QUERY_SKIP_METADATA
    if params.page_size is not None:
        if params.page_size < 1:
            raise LocalProtocolError(f"page_size must be at least 1, got {params.page_size}")
        flags |= QUERY_PAGE_SIZE
    if params.paging_state is not None:
        flags |= QUERY_PAGING_STATE
    return flags


def _write_after_values(out: bytearray, params: QueryParameters) -> None:
    if params.page_size is not None:
        write_int(out, params.page_size)
    if params.paging_state is not None:
        write_bytes(out, params.paging_state)
    write_options(out, params)


def write_parameters(out: bytearray, params: QueryParameters, version: ProtocolVersion) -> None:
    """Append <query_parameters> (v4 section 4.1.4).

    Raises:
        LocalProtocolError: UNSET on v3, a keyspace or now_in_seconds before v5, more than 65535
            values, a serial consistency that is not serial, a page size below 1, or names and
            values that differ in number.
    """
    flags = _parameter_flags(params, version)
    if params.values is not None:
        flags |= QUERY_VALUES
        if params.names is not None:
            flags |= QUERY_NAMES
    elif params.names is not None:
        raise LocalProtocolError("names need bound values, got none")
    write_consistency(out, params.consistency)
    write_flags(out, flags, version)
    if params.values is not None:
        write_bound(out, params.values, params.names, version)
    _write_after_values(out, params)


def pack_parameters_around(
    params: QueryParameters, version: ProtocolVersion
) -> tuple[bytes, bytes]:
    """Pack the parameters without the bound values, which the caller packs.

    Arguments:
        params: the parameters; ``values`` is ignored, and ``names`` must be None.
        version: the version of the connection.

    Returns:
        The bytes before ``<n><value_1>..<value_n>``: consistency and flags, with the flag for
        values set; and the bytes after.

    Raises:
        LocalProtocolError: as :func:`write_parameters`; also for names, which are written between
            the values.
    """
    if params.names is not None:
        raise LocalProtocolError("names must be None: a prepared statement binds by position")
    flags = _parameter_flags(params, version) | QUERY_VALUES
    before = bytearray()
    write_consistency(before, params.consistency)
    write_flags(before, flags, version)
    after = bytearray()
    _write_after_values(after, params)
    return bytes(before), bytes(after)


def pack_behind_timestamp(params: QueryParameters) -> bytes:
    """Pack the options after the timestamp, which are those of v5 (v5 section 4.1.4).

    They end the bytes after the bound values, which :func:`pack_parameters_around` checks and
    returns; the eight bytes before them are the timestamp.
    """
    behind = bytearray()
    _write_behind_timestamp(behind, params)
    return bytes(behind)


def read_parameters(reader: Reader, version: ProtocolVersion) -> QueryParameters:
    """Read <query_parameters> (v4 section 4.1.4); raises RemoteProtocolError."""
    params = QueryParameters(read_known_consistency(reader))
    flags = read_flags(reader, version, _ALL_FLAGS)
    params.skip_metadata = bool(flags & QUERY_SKIP_METADATA)
    if flags & QUERY_VALUES:
        if flags & QUERY_NAMES:
            count = reader.check_count(read_short(reader), 6)
            pairs = [(read_string(reader), _read_one(reader, version)) for _ in range(count)]
            params.names = [name for name, _ in pairs]
            params.values = [value for _, value in pairs]
        else:
            params.values = read_values(reader, version)
    if flags & QUERY_PAGE_SIZE:
        params.page_size = read_int(reader)
    if flags & QUERY_PAGING_STATE:
        params.paging_state = read_bytes(reader)
    read_options(reader, flags, params)
    return params
