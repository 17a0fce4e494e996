"""The descriptions of columns: of a result, and of bind markers (v4 sections 4.2.5.2, 4.2.5.4).

The metadata of a result keeps the bytes that it was read from. A later response with the same bytes
reuses the same object and its compiled decoders, so unchanged metadata is parsed only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from cqlproto.cqltypes.model import CQLType
from cqlproto.cqltypes.options import read_option, write_option
from cqlproto.enums import ROWS_GLOBAL_TABLE, ROWS_NO_METADATA, ResultKind
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages._base import Record
from cqlproto.wire import read_int, read_short, read_string, write_int, write_short, write_string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Self

    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import Reader

__all__ = ["BindMetadata", "Column", "ResultMetadata", "read_result_metadata"]

# Kind, flags and number of columns, which precede the column specifications of a Rows response.
_ROWS_HEAD = Struct(">iii")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result or a bind marker (v4 section 4.2.5.2).

    Attributes:
        keyspace: the keyspace of the table.
        table: the name of the table.
        name: the name or alias of the column, or the name of the bind marker.
        type: the CQL type.
    """

    keyspace: str
    table: str
    name: str
    type: CQLType


def _read_columns(reader: Reader, count: int, global_table: bool) -> tuple[Column, ...]:
    """[<global_table_spec>]<col_spec_1>..<col_spec_n>"""
    if global_table:
        keyspace, table = read_string(reader), read_string(reader)
        reader.check_count(count, 4)
        return tuple(
            [
                Column(keyspace, table, read_string(reader), read_option(reader))
                for _ in range(count)
            ]
        )
    reader.check_count(count, 8)
    return tuple(
        [
            Column(
                read_string(reader), read_string(reader), read_string(reader), read_option(reader)
            )
            for _ in range(count)
        ]
    )


def _write_columns(
    out: bytearray, columns: Sequence[Column], global_table: bool, version: ProtocolVersion
) -> None:
    if global_table:
        write_string(out, columns[0].keyspace)
        write_string(out, columns[0].table)
    for column in columns:
        if not global_table:
            write_string(out, column.keyspace)
            write_string(out, column.table)
        write_string(out, column.name)
        write_option(out, column.type, version)


def _share_table(columns: Sequence[Column]) -> bool:
    return len({(column.keyspace, column.table) for column in columns}) == 1


class ResultMetadata(Record):
    """The columns of a result, and the bytes that they were read from.

    Arguments:
        columns: the columns, in the order of a row's values.
        raw: the table and column specifications as received, without flags, counts and paging
            state.
        global_table: whether ``raw`` names one table for all columns.
        cache: the decoders compiled for ``columns``, by row target; equality ignores it.
    """

    __slots__ = ("cache", "column_count", "columns", "global_table", "heads", "raw")
    ignored = ("cache", "heads")

    def __init__(
        self,
        columns: tuple[Column, ...],
        raw: bytes,
        global_table: bool,
        cache: dict[Any, Callable[[Any], list[Any]]] | None = None,
    ) -> None:
        self.columns = columns
        self.column_count = len(columns)
        self.raw = raw
        self.global_table = global_table
        flags = ROWS_GLOBAL_TABLE if global_table else 0
        # The first bytes of a Rows response with these columns, and of one without metadata, for
        # which servers may leave GLOBAL_TABLE set.
        self.heads = (
            _ROWS_HEAD.pack(ResultKind.ROWS, flags, len(columns)) + raw,
            *(
                _ROWS_HEAD.pack(ResultKind.ROWS, ROWS_NO_METADATA | other, len(columns))
                for other in (0, ROWS_GLOBAL_TABLE)
            ),
        )
        self.cache: dict[Any, Callable[[Any], list[Any]]] = {} if cache is None else cache

    @classmethod
    def of(cls, columns: Iterable[Column], version: ProtocolVersion) -> Self:
        """Make metadata as a server does: a table that all columns share is named once.

        Raises:
            LocalProtocolError: the version has no name for a type.
        """
        columns = tuple(columns)
        global_table = _share_table(columns)
        raw = bytearray()
        _write_columns(raw, columns, global_table, version)
        return cls(columns, bytes(raw), global_table)

    def matches(self, flags: int, count: int, data: bytes, pos: int) -> bool:
        """Whether the column specifications at ``data[pos:]`` are those of this metadata.

        Arguments:
            flags: the flags of the response's metadata; only GLOBAL_TABLE matters.
            count: the number of columns.
            data: the body of the response.
            pos: the offset of the column specifications.
        """
        return (
            count == self.column_count
            and bool(flags & ROWS_GLOBAL_TABLE) == self.global_table
            and data.startswith(self.raw, pos)
        )


def read_result_metadata(
    reader: Reader, flags: int, count: int, known: ResultMetadata | None
) -> ResultMetadata:
    """Read <global_table_spec> and <col_spec>; return ``known`` if it has the same bytes.

    Raises:
        RemoteProtocolError: the specifications are malformed.
    """
    start = reader.pos
    if known is not None and known.matches(flags, count, reader.data, start):
        reader.pos = start + len(known.raw)
        return known
    global_table = bool(flags & ROWS_GLOBAL_TABLE)
    columns = _read_columns(reader, count, global_table)
    return ResultMetadata(columns, reader.data[start : reader.pos], global_table)


class BindMetadata(Record):
    """The bind markers of a prepared statement (v4 section 4.2.5.4).

    Arguments:
        columns: one column per marker, in order.
        key_indices: the indexes of the markers of the partition key, in the key's order; empty if
            the key is not fully bound, and always on v3, which lacks them.
    """

    __slots__ = ("columns", "key_indices")

    def __init__(self, columns: tuple[Column, ...], key_indices: tuple[int, ...] = ()) -> None:
        self.columns = columns
        self.key_indices = key_indices

    def write(self, out: bytearray, version: ProtocolVersion) -> None:
        """Append <metadata> of a Prepared result."""
        global_table = _share_table(self.columns)
        write_int(out, ROWS_GLOBAL_TABLE if global_table else 0)
        write_int(out, len(self.columns))
        if version.has_primary_key_indices:
            write_int(out, len(self.key_indices))
            for index in self.key_indices:
                write_short(out, index)
        _write_columns(out, self.columns, global_table, version)

    @classmethod
    def read(cls, reader: Reader, version: ProtocolVersion) -> Self:
        flags, count = read_int(reader), read_int(reader)
        if flags & ~ROWS_GLOBAL_TABLE:
            raise RemoteProtocolError(
                f"the metadata of bind markers has undefined flags {flags:#x}"
            )
        indices: tuple[int, ...] = ()
        if version.has_primary_key_indices:
            key_count = reader.check_count(read_int(reader), 2)
            indices = tuple([read_short(reader) for _ in range(key_count)])
            if any(index >= count for index in indices):
                raise RemoteProtocolError(
                    f"partition key indexes must be below {count}, got {indices}"
                )
        return cls(_read_columns(reader, count, bool(flags & ROWS_GLOBAL_TABLE)), indices)
