"""The server's order of cells, for the members of sets and the keys of maps.

:func:`sort_key` returns a function from a cell to a key that Python sorts as the server sorts cells
of that type. An empty cell comes first; a type without its own order, such as a custom type, sorts
by its unsigned bytes. Cells are not checked here, since this library has written them.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.model import (
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.cqltypes.scalars import SCALARS, vector_width
from cqlproto.cqltypes.vints import read_unsigned_vint

if TYPE_CHECKING:
    from cqlproto.cqltypes.model import CQLType

__all__ = ["SortKey", "sort_key"]

SortKey = Callable[[bytes], Any]

_unpack_int = Struct(">i").unpack_from
_FLIP_SIGNS = bytes(byte ^ 0x80 for byte in range(256))


def _number(data: bytes) -> tuple[bool, int]:
    return bool(data), int.from_bytes(data, "big", signed=True)


def _decimal(data: bytes) -> tuple[bool, Any]:
    return bool(data), SCALARS["decimal"].decode(data) if data else 0


def _real(data: bytes) -> tuple[bool, bool, int]:
    """Java's order: ``-0.0`` before ``0.0``, every NaN after infinity."""
    bits = int.from_bytes(data, "big", signed=True)
    decode = SCALARS["float" if len(data) == 4 else "double"].decode
    value = decode(data)
    return (
        bool(data),
        value != value,
        bits if bits >= 0 else -(bits & (1 << 8 * len(data) - 1) - 1) - 1,
    )


def _clock(data: bytes) -> bytes:
    """Return the timestamp of a version 1 UUID, highest bits first."""
    return bytes((data[6] & 0x0F,)) + data[7:8] + data[4:6] + data[:4]


def _uuid(data: bytes) -> tuple[Any, ...]:
    if not data:
        return ()
    version = data[6] >> 4
    return (version, _clock(data) if version == 1 else b"", data)


def _timeuuid(data: bytes) -> tuple[Any, ...]:
    # The server compares the lower half as signed bytes.
    return (_clock(data), data[8:].translate(_FLIP_SIGNS)) if data else ()


_NATIVE: dict[str, SortKey] = {
    **dict.fromkeys(
        ("bigint", "counter", "int", "smallint", "timestamp", "tinyint", "varint"), _number
    ),
    **dict.fromkeys(("double", "float"), _real),
    "decimal": _decimal,
    "timeuuid": _timeuuid,
    "uuid": _uuid,
}


def sort_key(cql_type: CQLType) -> SortKey:
    """Return the sort key of the cells of a type."""
    if isinstance(cql_type, NativeType):
        return _NATIVE.get(cql_type.name, bytes)
    if isinstance(cql_type, ListType | SetType):
        return _sequence_key([sort_key(cql_type.element)])
    if isinstance(cql_type, MapType):
        return _sequence_key([sort_key(cql_type.key), sort_key(cql_type.value)])
    if isinstance(cql_type, TupleType):
        return _parts_key([sort_key(part) for part in cql_type.elements])
    if isinstance(cql_type, UserType):
        return _parts_key([sort_key(part) for _, part in cql_type.fields])
    if isinstance(cql_type, VectorType):
        return _vector_key(cql_type)
    return bytes


def _cells(data: bytes, pos: int) -> list[bytes | None]:
    cells: list[bytes | None] = []
    while pos < len(data):
        (length,) = _unpack_int(data, pos)
        pos += 4
        cells.append(None if length < 0 else data[pos : pos + length])
        pos += max(length, 0)
    return cells


def _sequence_key(keys: list[SortKey]) -> SortKey:
    """Element by element, then the shorter first; a map alternates between two keys."""

    def key(data: bytes) -> list[Any]:
        cells = _cells(data, 4)
        turns = keys * (len(cells) // len(keys))
        return [part(cell or b"") for part, cell in zip(turns, cells, strict=True)]

    return key


def _parts_key(keys: list[SortKey]) -> SortKey:
    """Part by part, nulls first."""

    def key(data: bytes) -> list[Any]:
        cells = _cells(data, 0)
        return [
            (False,) if cell is None else (True, part(cell))
            for part, cell in zip(keys, cells, strict=False)
        ]

    return key


def _vector_key(cql_type: VectorType) -> SortKey:
    element, width = sort_key(cql_type.element), vector_width(cql_type.element)

    def key(data: bytes) -> list[Any]:
        if width is not None:
            return [element(data[pos : pos + width]) for pos in range(0, len(data), width)]
        keys = []
        pos = 0
        while pos < len(data):
            length, pos = read_unsigned_vint(data, pos)
            keys.append(element(data[pos : pos + length]))
            pos += length
        return keys

    return key
