"""The descriptions of columns: of a result, and of bind markers (v4 sections 4.2.5.2, 4.2.5.4).

Metadata of a result is kept together with the bytes that it was read from. A server that sends the
same again is recognized by comparing bytes, so an unchanged description of columns is never parsed
twice and stays the same object, with the decoders that were compiled from it.
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

# Kind, flags and number of columns, which stand before the descriptions in a reply of rows.
_ROWS_HEAD = Struct(">iii")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result or a bind marker (v4 section 4.2.5.2).

    Attributes:
        keyspace: of the table.
        table: its name.
        name: the column's name, its alias, or the marker's name.
        type: its CQL type.
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
    """The columns of a result, and the bytes that described them.

    Arguments:
        columns: in the order of a row's values.
        raw: the table and column specifications exactly as they came, without flags, counts and
            paging state.
        global_table: whether ``raw`` names one table for all columns.
        cache: a place for decoders compiled from ``columns``; it does not count when metadata is
            compared.
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
        # How the body of a reply of rows begins that describes these columns, or leaves them out.
        # Servers keep GLOBAL_TABLE set beside NO_METADATA; it says nothing then.
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
        """Describe columns as a server would: the table is named once if it is the same for all.

        Raises:
            LocalProtocolError: a type that the version cannot name.
        """
        columns = tuple(columns)
        global_table = _share_table(columns)
        raw = bytearray()
        _write_columns(raw, columns, global_table, version)
        return cls(columns, bytes(raw), global_table)

    def matches(self, flags: int, count: int, data: bytes, pos: int) -> bool:
        """Whether ``data`` says the same at ``pos``, where column specifications begin.

        Arguments:
            flags: of the reply's metadata; only GLOBAL_TABLE matters.
            count: its number of columns.
            data: the body.
            pos: an offset in bytes.
        """
        return (
            count == self.column_count
            and bool(flags & ROWS_GLOBAL_TABLE) == self.global_table
            and data.startswith(self.raw, pos)
        )


def read_result_metadata(
    reader: Reader, flags: int, count: int, known: ResultMetadata | None
) -> ResultMetadata:
    """Read <global_table_spec> and <col_spec>, or return ``known`` if it says the same.

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
        columns: one per marker, in order.
        key_indices: which markers make up the partition key, in the key's order; empty if not all
            of it is bound, and always on v3, which does not say.
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
            raise RemoteProtocolError(f"flags {flags:#x} of bind metadata are not defined")
        indices: tuple[int, ...] = ()
        if version.has_primary_key_indices:
            key_count = reader.check_count(read_int(reader), 2)
            indices = tuple([read_short(reader) for _ in range(key_count)])
            if any(index >= count for index in indices):
                raise RemoteProtocolError(f"key indices {indices} among {count} bind markers")
        return cls(_read_columns(reader, count, bool(flags & ROWS_GLOBAL_TABLE)), indices)
