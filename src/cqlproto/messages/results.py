"""RESULT: the kinds of results (v4 section 4.2.5).

:func:`read_result` is on the hot path and written for speed: a Rows response without metadata takes
one ``unpack_from`` and one object. It does not decode rows; a :class:`Rows` keeps the body and the
offset of the rows in it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, TypeAlias

from cqlproto.enums import (
    ROWS_GLOBAL_TABLE,
    ROWS_HAS_MORE_PAGES,
    ROWS_METADATA_CHANGED,
    ROWS_NO_METADATA,
    Opcode,
    ResultKind,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages._base import Message
from cqlproto.messages.metadata import (
    BindMetadata,
    Column,
    ResultMetadata,
    read_result_metadata,
)
from cqlproto.wire import (
    Reader,
    read_bytes,
    read_int,
    read_short_bytes,
    read_string,
    read_string_list,
    write_bytes,
    write_int,
    write_short_bytes,
    write_string,
    write_string_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from cqlproto.enums import ProtocolVersion

__all__ = [
    "VOID",
    "VOID_BODY",
    "BindMetadata",
    "Column",
    "Prepared",
    "Result",
    "ResultMetadata",
    "Rows",
    "SchemaChange",
    "SetKeyspace",
    "Void",
    "knows_target",
    "read_result",
    "write_schema_change",
]

_KIND_VOID = ResultKind.VOID.value
_KIND_ROWS = ResultKind.ROWS.value
_KIND_SET_KEYSPACE = ResultKind.SET_KEYSPACE.value
_KIND_PREPARED = ResultKind.PREPARED.value
_KIND_SCHEMA_CHANGE = ResultKind.SCHEMA_CHANGE.value

# The head of a Rows response: kind, flags, number of columns, and the number of rows if nothing
# precedes that. The shortest Rows response has this length.
_ROWS_HEAD = Struct(">iiii")
_COUNT = Struct(">i")
VOID_BODY = b"\0\0\0\x01"

# Servers may set GLOBAL_TABLE together with NO_METADATA; it has no meaning then.
_GLOBAL_WITHOUT_METADATA = ROWS_GLOBAL_TABLE | ROWS_NO_METADATA
_ROWS_FLAGS = ROWS_GLOBAL_TABLE | ROWS_HAS_MORE_PAGES | ROWS_NO_METADATA

# Rows without columns take no bytes, so this bounds their number.
_MAX_EMPTY_ROWS = 0xFFFF


class Void(Message):
    """A result without content (v4 section 4.2.5.1); use the instance :data:`VOID`."""

    __slots__ = ()
    opcode = Opcode.RESULT.value

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        out += VOID_BODY


VOID = Void()


class SetKeyspace(Message):
    """The result of USE (v4 section 4.2.5.3)."""

    __slots__ = ("keyspace",)
    opcode = Opcode.RESULT.value

    def __init__(self, keyspace: str) -> None:
        self.keyspace = keyspace

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_int(out, _KIND_SET_KEYSPACE)
        write_string(out, self.keyspace)

    @classmethod
    def read(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_string(reader))


class Prepared(Message):
    """The result of PREPARE (v4 section 4.2.5.4, v5 section 4.2.5.4).

    Arguments:
        statement_id: the id for EXECUTE.
        result_metadata_id: the id of the result metadata, for EXECUTE on v5; None before v5.
        bind: the bind markers.
        result: the columns of the rows that EXECUTE returns; empty for a statement without rows.
    """

    __slots__ = ("bind", "result", "result_metadata_id", "statement_id")
    opcode = Opcode.RESULT.value

    def __init__(
        self,
        statement_id: bytes,
        result_metadata_id: bytes | None,
        bind: BindMetadata,
        result: ResultMetadata,
    ) -> None:
        self.statement_id = statement_id
        self.result_metadata_id = result_metadata_id
        self.bind = bind
        self.result = result

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_int(out, _KIND_PREPARED)
        write_short_bytes(out, self.statement_id)
        if version.has_result_metadata_id:
            if self.result_metadata_id is None:
                raise LocalProtocolError("PREPARED needs result_metadata_id on v5, got None")
            write_short_bytes(out, self.result_metadata_id)
        self.bind.write(out, version)
        result = self.result
        if not result.raw:
            out += b"\0\0\0\x04\0\0\0\0"  # NO_METADATA and no columns, as servers write it
            return
        write_int(out, ROWS_GLOBAL_TABLE if result.global_table else 0)
        write_int(out, result.column_count)
        out += result.raw

    @classmethod
    def read(cls, reader: Reader, version: ProtocolVersion) -> Self:
        statement_id = read_short_bytes(reader)
        metadata_id = read_short_bytes(reader) if version.has_result_metadata_id else None
        bind = BindMetadata.read(reader, version)
        flags, count = read_int(reader), read_int(reader)
        if flags & ~_GLOBAL_WITHOUT_METADATA:
            raise RemoteProtocolError(
                f"the result metadata of PREPARED has undefined flags {flags:#x}"
            )
        if flags & ROWS_NO_METADATA:
            return cls(statement_id, metadata_id, bind, ResultMetadata((), b"", False))
        result = read_result_metadata(reader, flags, count, None)
        return cls(statement_id, metadata_id, bind, result)


class SchemaChange(Message):
    """A schema change, as a result or in an event (v4 sections 4.2.5.5 and 4.2.6).

    Arguments:
        change: CREATED, UPDATED or DROPPED.
        target: KEYSPACE, TABLE, TYPE, FUNCTION or AGGREGATE.
        keyspace: the keyspace that changed or contains the target.
        name: the name of the table, type, function or aggregate; None for a keyspace.
        arguments: the CQL types of a function's or aggregate's arguments; else None.
    """

    __slots__ = ("arguments", "change", "keyspace", "name", "target")
    opcode = Opcode.RESULT.value

    def __init__(
        self,
        change: str,
        target: str,
        keyspace: str,
        name: str | None = None,
        arguments: Sequence[str] | None = None,
    ) -> None:
        self.change = change
        self.target = target
        self.keyspace = keyspace
        self.name = name
        self.arguments = arguments

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_int(out, _KIND_SCHEMA_CHANGE)
        write_schema_change(out, self, version)

    @classmethod
    def read(cls, reader: Reader, version: ProtocolVersion) -> Self:
        """Read <change_type><target><options>; raises RemoteProtocolError."""
        change, target = read_string(reader), read_string(reader)
        if not knows_target(target, version):
            raise RemoteProtocolError(f"unknown target of a schema change: {target!r}")
        keyspace = read_string(reader)
        name = None if target == "KEYSPACE" else read_string(reader)
        arguments = read_string_list(reader) if target in _WITH_ARGUMENTS else None
        return cls(change, target, keyspace, name, arguments)


_WITH_ARGUMENTS = ("FUNCTION", "AGGREGATE")


def knows_target(target: str, version: ProtocolVersion) -> bool:
    """Whether the layout of a schema change of this target is known (v4 section 4.2.6)."""
    if target in _WITH_ARGUMENTS:
        return version.has_function_events
    return target in ("KEYSPACE", "TABLE", "TYPE")


def write_schema_change(out: bytearray, change: SchemaChange, version: ProtocolVersion) -> None:
    """Append <change_type><target><options>.

    Raises:
        LocalProtocolError: the version does not have the target, or name and arguments do not fit
            the target.
    """
    target = change.target
    if not knows_target(target, version):
        raise LocalProtocolError(
            f"v{version:d} does not have the target {target!r} of a schema change"
        )
    if (change.name is None) != (target == "KEYSPACE") or (change.arguments is None) != (
        target not in _WITH_ARGUMENTS
    ):
        raise LocalProtocolError(f"name and arguments must fit the target {target}, got {change!r}")
    write_string(out, change.change)
    write_string(out, change.target)
    write_string(out, change.keyspace)
    if change.name is not None:
        write_string(out, change.name)
    if change.arguments is not None:
        write_string_list(out, change.arguments)


class Rows(Message):
    """A page of rows, not decoded (v4 section 4.2.5.2, v5 section 4.2.5.2).

    Arguments:
        metadata: the columns, from the response or, if it has none, from the request. None if
            neither has metadata with the response's number of columns; such rows can be relayed
            but not decoded.
        row_count: the number of rows.
        paging_state: the paging state of the next page, or None if this is the last.
        body: the bytes that contain the rows.
        offset: the offset of the first row in ``body``.
        metadata_id: the new id of changed metadata (v5), or None.
        flags: the flags of the response; NO_METADATA means that it has no metadata of its own.
        column_count: the number of values in a row.
    """

    __slots__ = (
        "body",
        "column_count",
        "flags",
        "metadata",
        "metadata_id",
        "offset",
        "paging_state",
        "row_count",
    )
    opcode = Opcode.RESULT.value

    def __init__(
        self,
        metadata: ResultMetadata | None,
        row_count: int,
        paging_state: bytes | None,
        body: bytes,
        offset: int,
        metadata_id: bytes | None,
        flags: int,
        column_count: int,
    ) -> None:
        self.metadata = metadata
        self.row_count = row_count
        self.paging_state = paging_state
        self.body = body
        self.offset = offset
        self.metadata_id = metadata_id
        self.flags = flags
        self.column_count = column_count

    @classmethod
    def of(
        cls,
        metadata: ResultMetadata,
        row_count: int,
        content: bytes,
        *,
        paging_state: bytes | None = None,
        metadata_id: bytes | None = None,
        skip_metadata: bool = False,
    ) -> Self:
        """Make a Rows response, as a server does.

        Arguments:
            metadata: the columns.
            row_count: the number of rows in ``content``.
            content: the rows: one [bytes] per row and column.
            paging_state: the paging state of the next page, or None.
            metadata_id: the id of changed metadata (v5), or None.
            skip_metadata: whether to omit the columns, since the client knows them.
        """
        flags = ROWS_GLOBAL_TABLE if metadata.global_table else 0
        if skip_metadata:
            flags |= ROWS_NO_METADATA
        if paging_state is not None:
            flags |= ROWS_HAS_MORE_PAGES
        if metadata_id is not None:
            flags |= ROWS_METADATA_CHANGED
        count = metadata.column_count
        return cls(metadata, row_count, paging_state, content, 0, metadata_id, flags, count)

    @property
    def content(self) -> bytes:
        """The bytes of the rows (a copy)."""
        return self.body[self.offset :]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        return (
            self.row_count == other.row_count
            and self.column_count == other.column_count
            and self.flags == other.flags
            and self.paging_state == other.paging_state
            and self.metadata_id == other.metadata_id
            and self.metadata == other.metadata
            and self.content == other.content
        )

    def __repr__(self) -> str:
        return (
            f"Rows(row_count={self.row_count}, column_count={self.column_count},"
            f" flags={self.flags:#x}, {len(self.body) - self.offset} bytes)"
        )

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        flags = self.flags & _GLOBAL_WITHOUT_METADATA
        if self.paging_state is not None:
            flags |= ROWS_HAS_MORE_PAGES
        if self.metadata_id is not None:
            if not version.has_result_metadata_id or flags & ROWS_NO_METADATA:
                raise LocalProtocolError("metadata_id needs v5 and rows with metadata")
            flags |= ROWS_METADATA_CHANGED
        if not flags & ROWS_NO_METADATA:
            if self.metadata is None:
                raise LocalProtocolError("Rows need metadata or the flag NO_METADATA")
            flags &= ~ROWS_GLOBAL_TABLE
            if self.metadata.global_table:
                flags |= ROWS_GLOBAL_TABLE
        out += _ROWS_HEAD.pack(_KIND_ROWS, flags, self.column_count, 0)[:12]
        if self.paging_state is not None:
            write_bytes(out, self.paging_state)
        if self.metadata_id is not None:
            write_short_bytes(out, self.metadata_id)
        if not flags & ROWS_NO_METADATA and self.metadata is not None:
            out += self.metadata.raw
        write_int(out, self.row_count)
        out += memoryview(self.body)[self.offset :]


Result: TypeAlias = Void | Rows | SetKeyspace | Prepared | SchemaChange


def read_result(
    body: bytes, pos: int, version: ProtocolVersion, known: ResultMetadata | None = None
) -> Result:
    """Read a RESULT.

    Arguments:
        body: the body of the frame; a :class:`Rows` keeps a reference to it.
        pos: the offset of the kind, after the prefix.
        version: the version of the connection.
        known: the metadata that the request was sent with. It is used for rows without metadata,
            and reused for rows with the same metadata.

    Raises:
        RemoteProtocolError: the body is malformed. Bytes after the message are ignored (v4 section
            4.2).
    """
    left = len(body) - pos
    if known is not None and body.startswith(known.heads, pos):
        flags = body[pos + 7]
        rows_at = pos + 16 if flags & ROWS_NO_METADATA else pos + 16 + len(known.raw)
        if rows_at <= len(body):
            (row_count,) = _COUNT.unpack_from(body, rows_at - 4)
            count = known.column_count
            if 0 <= row_count * count * 4 <= len(body) - rows_at and count:
                return Rows(known, row_count, None, body, rows_at, None, flags, count)
    if left >= 16:
        kind, flags, count, _ = _ROWS_HEAD.unpack_from(body, pos)
        if kind == _KIND_ROWS:
            return _read_rows(Reader(body, pos + 12), flags, count, version, known)
    elif left == 4 and body.endswith(VOID_BODY):
        return VOID
    return _read_other(Reader(body, pos), version)


def _read_rows(
    reader: Reader, flags: int, count: int, version: ProtocolVersion, known: ResultMetadata | None
) -> Rows:
    """Read a Rows response after its flags and number of columns."""
    allowed = _ROWS_FLAGS | (ROWS_METADATA_CHANGED if version.has_result_metadata_id else 0)
    if flags & ~allowed:
        raise RemoteProtocolError(f"Rows have flags {flags:#x} that v{version:d} does not define")
    if count < 0:
        raise RemoteProtocolError(f"the number of columns must be at least 0, got {count}")
    paging_state = metadata_id = None
    if flags & ROWS_HAS_MORE_PAGES:
        paging_state = read_bytes(reader)
        if paging_state is None:
            raise RemoteProtocolError("Rows with HAS_MORE_PAGES need a paging state, got null")
    if flags & ROWS_METADATA_CHANGED:
        if flags & ROWS_NO_METADATA:
            raise RemoteProtocolError("Rows with METADATA_CHANGED need metadata, got NO_METADATA")
        metadata_id = read_short_bytes(reader)
    metadata: ResultMetadata | None
    if not flags & ROWS_NO_METADATA:
        metadata = read_result_metadata(reader, flags, count, known)
    else:
        metadata = known if known is not None and known.column_count == count else None
    row_count = read_int(reader)
    if count:
        reader.check_count(row_count, count * 4)
    elif not 0 <= row_count <= _MAX_EMPTY_ROWS:
        raise RemoteProtocolError(
            f"rows without columns must be 0 to {_MAX_EMPTY_ROWS}, got {row_count}"
        )
    return Rows(
        metadata, row_count, paging_state, reader.data, reader.pos, metadata_id, flags, count
    )


_OTHERS: dict[int, Callable[[Reader, ProtocolVersion], Result]] = {
    _KIND_SET_KEYSPACE: SetKeyspace.read,
    _KIND_PREPARED: Prepared.read,
    _KIND_SCHEMA_CHANGE: SchemaChange.read,
}


def _read_other(reader: Reader, version: ProtocolVersion) -> Result:
    """Read the other kinds of RESULT, and refuse Rows that are too short."""
    kind = read_int(reader)
    result: Result
    if kind in _OTHERS:
        result = _OTHERS[kind](reader, version)
    elif kind == _KIND_VOID:
        result = VOID
    elif kind == _KIND_ROWS:
        raise RemoteProtocolError("Rows must be at least 16 bytes")
    else:
        raise RemoteProtocolError(f"unknown kind of RESULT: {kind}")
    return result
