"""[option]: the form of a type in metadata (v4 section 4.2.5.2).

A type that has no number in a version is written as CUSTOM with its Java class. Reading accepts
that in every version: a CUSTOM with a known class becomes that type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.cqltypes.model import (
    MAX_DEPTH,
    NATIVE_TYPES,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
)
from cqlproto.cqltypes.names import class_name, parse_class_name
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.wire import read_short, read_string, write_short, write_string

if TYPE_CHECKING:
    from cqlproto.cqltypes.model import CQLType
    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import Reader

__all__ = ["read_option", "write_option"]

_CUSTOM = 0x0000
_LIST = 0x0020
_MAP = 0x0021
_SET = 0x0022
_UDT = 0x0030
_TUPLE = 0x0031

_NATIVE_IDS = {
    "ascii": 0x0001,
    "bigint": 0x0002,
    "blob": 0x0003,
    "boolean": 0x0004,
    "counter": 0x0005,
    "decimal": 0x0006,
    "double": 0x0007,
    "float": 0x0008,
    "int": 0x0009,
    "timestamp": 0x000B,
    "uuid": 0x000C,
    "text": 0x000D,
    "varint": 0x000E,
    "timeuuid": 0x000F,
    "inet": 0x0010,
    "date": 0x0011,
    "time": 0x0012,
    "smallint": 0x0013,
    "tinyint": 0x0014,
    "duration": 0x0015,
}
_SMALL = frozenset({"date", "time", "smallint", "tinyint"})
_NATIVE_BY_ID = {number: NATIVE_TYPES[name] for name, number in _NATIVE_IDS.items()}


def read_option(reader: Reader, depth: int = 0) -> CQLType:
    """Read one [option].

    Arguments:
        reader: the reader, at the option.
        depth: the nesting depth of this type in another.

    Raises:
        RemoteProtocolError: the option ends early, has an unknown number, announces more parts
            than can follow, or is nested deeper than ``MAX_DEPTH``.
    """
    number = read_short(reader)
    native = _NATIVE_BY_ID.get(number)
    if depth > MAX_DEPTH:
        raise RemoteProtocolError(f"a type must be nested at most {MAX_DEPTH} deep")
    if native is not None:
        return native
    inner = depth + 1
    if number == _CUSTOM:
        return parse_class_name(read_string(reader), depth=depth)
    if number == _LIST:
        return ListType(read_option(reader, inner))
    if number == _SET:
        return SetType(read_option(reader, inner))
    if number == _MAP:
        key = read_option(reader, inner)
        return MapType(key, read_option(reader, inner))
    if number == _TUPLE:
        count = reader.check_count(read_short(reader), 2)
        return TupleType(tuple([read_option(reader, inner) for _ in range(count)]))
    if number == _UDT:
        keyspace, name = read_string(reader), read_string(reader)
        count = reader.check_count(read_short(reader), 4)
        fields = [(read_string(reader), read_option(reader, inner)) for _ in range(count)]
        return UserType(keyspace, name, tuple(fields))
    raise RemoteProtocolError(f"unknown number of an [option]: 0x{number:04x}")


def _native_id(name: str, version: ProtocolVersion) -> int:
    """Return the number of a native type, or that of CUSTOM if the version has none."""
    if name in _SMALL and not version.has_small_types:
        return _CUSTOM
    if name == "duration" and not version.has_duration_type:
        return _CUSTOM
    return _NATIVE_IDS.get(name, _CUSTOM)


def write_option(
    out: bytearray, cql_type: CQLType, version: ProtocolVersion, depth: int = 0
) -> None:
    """Write one [option].

    Arguments:
        out: the bytes to append to.
        cql_type: the type.
        version: determines which types have numbers.
        depth: the nesting depth of this type in another.

    Raises:
        LocalProtocolError: the type is nested deeper than ``MAX_DEPTH``, has more parts than a
            [short] can count, or is not a type of ``model``.
    """
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a type must be nested at most {MAX_DEPTH} deep")
    inner = depth + 1
    if isinstance(cql_type, NativeType) and _native_id(cql_type.name, version):
        write_short(out, _native_id(cql_type.name, version))
    elif isinstance(cql_type, ListType | SetType):
        write_short(out, _LIST if isinstance(cql_type, ListType) else _SET)
        write_option(out, cql_type.element, version, inner)
    elif isinstance(cql_type, MapType):
        write_short(out, _MAP)
        write_option(out, cql_type.key, version, inner)
        write_option(out, cql_type.value, version, inner)
    elif isinstance(cql_type, TupleType):
        write_short(out, _TUPLE)
        write_short(out, len(cql_type.elements))
        for part in cql_type.elements:
            write_option(out, part, version, inner)
    elif isinstance(cql_type, UserType):
        write_short(out, _UDT)
        write_string(out, cql_type.keyspace)
        write_string(out, cql_type.name)
        write_short(out, len(cql_type.fields))
        for name, part in cql_type.fields:
            write_string(out, name)
            write_option(out, part, version, inner)
    else:
        write_short(out, _CUSTOM)
        write_string(out, class_name(cql_type))
