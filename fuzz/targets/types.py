"""Targets for types: their names and options, and the decoder and encoder of each type."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, DecimalException
from functools import cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto.cqltypes import (
    EMPTY,
    MAX_DEPTH,
    NATIVE_TYPES,
    UNSET,
    CQLType,
    CustomType,
    Duration,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    class_name,
    decoder,
    encoder,
    parse_class_name,
    parse_type,
    read_option,
    write_option,
)
from cqlproto.enums import ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError, ValueConversionError
from cqlproto.wire import Reader
from fuzz import vectors
from fuzz.checks import Finding, require, same_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEYSPACE = "ks"
_INT, _TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
_UDTS = {
    name: UserType(_KEYSPACE, name, ((f"{name}1", _INT), ("tags", SetType(_TEXT)), ('"', _TEXT)))
    for name in ("address", "int", "frozen", "a b", 'q"q', "Größe")
}
_UDTS["nested"] = UserType(
    _KEYSPACE, "nested", (("inner", _UDTS["address"]), ("all", ListType(_UDTS["a b"])))
)
_PERSON = UserType(_KEYSPACE, "person", (("name", _TEXT), ("address", _UDTS["address"])))

# Types that one byte selects; the native types come first.
TYPES: tuple[CQLType, ...] = (
    *NATIVE_TYPES.values(),
    CustomType("com.example.Opaque"),
    *_UDTS.values(),
    _PERSON,
    TupleType(()),
    *[ListType(NATIVE_TYPES[name]) for name in ("int", "text", "double", "smallint", "decimal")],
    *[SetType(NATIVE_TYPES[name]) for name in ("int", "float", "decimal", "uuid", "text")],
    *[SetType(NATIVE_TYPES[name]) for name in ("inet", "timeuuid", "varint", "time", "boolean")],
    MapType(_TEXT, _INT),
    MapType(NATIVE_TYPES["double"], ListType(_INT)),
    MapType(SetType(_INT), MapType(_TEXT, NATIVE_TYPES["timestamp"])),
    SetType(ListType(_INT)),
    SetType(MapType(NATIVE_TYPES["date"], SetType(_TEXT))),
    SetType(TupleType((_INT, NATIVE_TYPES["duration"]))),
    SetType(_PERSON),
    ListType(ListType(SetType(NATIVE_TYPES["tinyint"]))),
    TupleType((_INT, _TEXT, NATIVE_TYPES["boolean"])),
    TupleType((TupleType((_INT,)), ListType(TupleType((_TEXT, _TEXT))))),
    VectorType(NATIVE_TYPES["float"], 3),
    VectorType(NATIVE_TYPES["boolean"], 2),
    VectorType(NATIVE_TYPES["uuid"], 2),
    VectorType(NATIVE_TYPES["smallint"], 2),
    VectorType(_TEXT, 2),
    VectorType(VectorType(_INT, 2), 2),
    VectorType(ListType(_INT), 2),
    SetType(VectorType(NATIVE_TYPES["double"], 1)),
    SetType(VectorType(_TEXT, 1)),
    VectorType(_UDTS["address"], 1),
)

# Texts of encoder errors for values that a peer may send but a user may not bind.
_REFUSED = (
    "null is not possible in a collection",
    "must be a UUID of version 1, not ",
)


def _type_of(mode: int, data: bytes) -> tuple[CQLType, bytes] | None:
    """Read a type from the front of ``data``: a number, an [option], a CQL text or a class name."""
    if not data:
        return None
    if mode == 0:
        return TYPES[data[0] % len(TYPES)], data[1:]
    text, rest = data[1 : 1 + data[0]], data[1 + data[0] :]
    try:
        if mode == 1:
            return read_option(Reader(text)), rest
        if mode == 2:
            return parse_type(text.decode(errors="replace"), _KEYSPACE, _UDTS), rest
    except (RemoteProtocolError, LocalProtocolError):
        return None
    return parse_class_name(text.decode(errors="replace")), rest


def cells(data: bytes) -> None:
    """Decoders return a value or raise RemoteProtocolError; the value round-trips."""
    named = _type_of(data[0] & 3, data[1:]) if data else None
    if named is None:
        return
    cql_type, cell = named
    decode, encode = decoder(cql_type), encoder(cql_type)
    try:
        value = decode(cell)
    except RemoteProtocolError:
        return
    try:
        written = encode(value)
    except ValueConversionError as exc:
        require(any(reason in exc.reason for reason in _REFUSED), "refused", cql_type, exc)
        return
    again = decode(written)
    require(same_value(value, again), "another value", cql_type, value, again)
    require(encode(again) == written, "another cell", cql_type, written)


def _number(data: bytes) -> Any:
    return int.from_bytes(data, "big", signed=True)


_PRECISE = Context(prec=1000)


def _decimal(data: bytes) -> Any:
    try:
        return _PRECISE.create_decimal(data.decode(errors="replace"))
    except DecimalException:
        return Decimal(0)


def _instant(data: bytes) -> Any:
    seconds = int.from_bytes(data[:5], "big") % 253_402_300_800
    micros = int.from_bytes(data[5:8], "big") % 1_000_000
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)


def _duration(data: bytes) -> Any:
    days, seconds = _number(data[:3]), _number(data[3:10])
    try:
        return timedelta(days=days, seconds=seconds)
    except OverflowError:
        return Duration(abs(days))


# Values to bind to markers of any type.
_MAKERS: tuple[Callable[[bytes], Any], ...] = (
    bytes,
    lambda data: data.decode(errors="replace"),
    lambda data: data.decode(errors="surrogateescape"),
    _number,
    lambda data: _number(data) / 7 if len(data) < 100 else float("inf"),
    _decimal,
    _instant,
    lambda data: _instant(data).date(),
    lambda data: _instant(data).time(),
    _duration,
    lambda data: UUID(bytes=(data + bytes(16))[:16]),
    lambda data: IPv6Address((data + bytes(16))[:16]),
    lambda data: list(data),
    lambda data: set(data),
    lambda data: tuple(map(str, data)),
    lambda data: {str(number): number for number in data},
    lambda data: {number: [bytes(number)] for number in data},
    lambda data: [date.fromordinal(1 + number) for number in data],
    lambda data: {"name": data.decode(errors="replace"), "address": (data[:1], None)},
    lambda data: [None, UNSET, EMPTY, True, object(), 1.5, Decimal("NaN"), []][len(data) % 8],
    lambda data: [[data.decode(errors="replace")] * 2, [len(data)]],
    memoryview,
)


@cache
def _has_sets(cql_type: CQLType) -> bool:
    parts: tuple[CQLType, ...] = ()
    if isinstance(cql_type, ListType | VectorType):
        parts = (cql_type.element,)
    elif isinstance(cql_type, TupleType):
        parts = cql_type.elements
    elif isinstance(cql_type, UserType):
        parts = tuple([part for _, part in cql_type.fields])
    return isinstance(cql_type, SetType | MapType) or any(map(_has_sets, parts))


def bindings(data: bytes) -> None:
    """Encoders refuse a value, or write a cell that round-trips.

    The value is made from the bytes, or decoded from them as another type.
    """
    if len(data) < 3:
        return
    value: Any
    if data[0] < 128:
        value = _MAKERS[data[0] % len(_MAKERS)](data[2:])
    else:
        try:
            value = decoder(TYPES[data[0] % len(TYPES)])(data[2:])
        except RemoteProtocolError:
            return
    cql_type = TYPES[data[1] % len(TYPES)]
    encode, decode = encoder(cql_type), decoder(cql_type)
    try:
        written = encode(value)
    except ValueConversionError as exc:
        require(str(exc), "no text for an error")
        return
    again = encode(decode(written))
    # Members bound in another order than the type's own still read as a set, which has no order.
    same = sorted if _has_sets(cql_type) else bytes
    require(same(again) == same(written), "another cell", cql_type, value, written, again)


def options(data: bytes) -> None:
    """[option]: a type or RemoteProtocolError; the type round-trips."""
    reader = Reader(data)
    try:
        cql_type = read_option(reader)
    except RemoteProtocolError:
        return
    _usable(cql_type)
    for version in ProtocolVersion:
        out = bytearray()
        try:
            write_option(out, cql_type, version)
        except LocalProtocolError:
            continue
        again = Reader(bytes(out))
        require(read_option(again) == cql_type, "another type", version, cql_type, out)
        require(not again.remaining, "bytes are left", out)


def _usable(cql_type: CQLType) -> None:
    """Check that a type from a peer can be printed and hashed, and has a decoder and an encoder."""
    require(str(cql_type) or cql_type == CustomType(""), "no text for a type")
    decoder(cql_type)
    encoder(cql_type)


def class_names(data: bytes) -> None:
    """Java class names: every text is a type, and the type's class name reads as the same type."""
    cql_type = parse_class_name(data.decode(errors="replace"))
    _usable(cql_type)
    name = class_name(cql_type)
    require(parse_class_name(name) == cql_type, "another type", name, cql_type)


def type_strings(data: bytes) -> None:
    """CQL types: a type or LocalProtocolError; the type's text reads as the same type."""
    try:
        cql_type = parse_type(data.decode(errors="replace"), _KEYSPACE, _UDTS)
    except LocalProtocolError:
        return
    _usable(cql_type)
    if not _can_be_said(cql_type):
        return
    text = str(cql_type)
    try:
        again = parse_type(text, _KEYSPACE, _UDTS)
    except LocalProtocolError as exc:
        raise Finding(f"no text of a type: {text}") from exc
    require(again == cql_type, "another type", text, cql_type, again)
    require(str(again) == text, "another text", text, str(again))


def _can_be_said(cql_type: CQLType) -> bool:
    """Whether a type's text is CQL: a quoted class may be a type that CQL has no name for."""
    if isinstance(cql_type, ListType | SetType | VectorType):
        return _can_be_said(cql_type.element)
    if isinstance(cql_type, MapType):
        return _can_be_said(cql_type.key) and _can_be_said(cql_type.value)
    if isinstance(cql_type, TupleType):
        return bool(cql_type.elements) and all(map(_can_be_said, cql_type.elements))
    if isinstance(cql_type, UserType):
        return _UDTS.get(cql_type.name) is cql_type
    return True


def _collection(cells: list[bytes], per_item: int) -> bytes:
    parts = [len(cell).to_bytes(4, "big") + cell for cell in cells]
    return (len(cells) // per_item).to_bytes(4, "big") + b"".join(parts)


# Nested to the maximum depth, and one level deeper.
_DEPTHS = (MAX_DEPTH, MAX_DEPTH + 1)


def cell_seeds() -> Iterator[bytes]:
    """The cells of the vectors; the type is given as number, [option], CQL text and class name."""
    for cql_type, cell in vectors.values():
        if cql_type in TYPES:
            yield bytes((0, TYPES.index(cql_type))) + cell
        option = bytearray()
        write_option(option, cql_type, ProtocolVersion.V5)
        for mode, text in (
            (1, bytes(option)),
            (2, str(cql_type).encode()),
            (3, class_name(cql_type).encode()),
        ):
            if len(text) < 256:
                yield bytes((mode, len(text))) + text + cell
    by_type: dict[CQLType, list[bytes]] = {}
    for cql_type, cell in vectors.values():
        by_type.setdefault(cql_type, []).append(cell)
    for number, cql_type in enumerate(TYPES):
        # In another order than the type's, some of them twice.
        if isinstance(cql_type, ListType | SetType):
            members = by_type.get(cql_type.element, [b"\x02bc", b"\x02ab"])[-3:]
            yield bytes((0, number)) + _collection(members, 1)
            yield bytes((0, number)) + _collection(members * 2, 1)
        if isinstance(cql_type, MapType):
            keys = by_type.get(cql_type.key, [b""])[-2:] * 2
            yield bytes((0, number)) + _collection([cell for key in keys for cell in (key, b"")], 2)
    yield bytes((0, TYPES.index(NATIVE_TYPES["decimal"]))) + bytes(4) + bytes(range(1, 251)) * 5
    for number in range(len(TYPES)):
        for cell in (b"", bytes(4), b"\0\0\0\x01\0\0\0\x04\0\0\0\x05", b"\x01a\x01b", bytes(16)):
            yield bytes((0, number)) + cell


def binding_seeds() -> Iterator[bytes]:
    """Every kind of value for every type, and the cells of the vectors."""
    for maker in range(len(_MAKERS)):
        for number in range(len(TYPES)):
            yield bytes((maker, number)) + b"1.5e3"
    for cql_type, cell in vectors.values():
        if cql_type in TYPES:
            number = TYPES.index(cql_type)
            head = next(head for head in range(128, 256) if head % len(TYPES) == number)
            yield bytes((head, number)) + cell


def option_seeds() -> Iterator[bytes]:
    """The types of the table as [option]s."""
    for cql_type in TYPES:
        for version in ProtocolVersion:
            out = bytearray()
            write_option(out, cql_type, version)
            yield bytes(out)
    for depth in _DEPTHS:
        yield b"\0\x20" * depth + b"\0\x09"
        yield b"\0\x22" * (depth - 3) + b"\0\0\0\x29SetType(SetType(TupleType(Int32Type,A())))"


_PACKAGE = "org.apache.cassandra.db.marshal."


def class_seeds() -> Iterator[bytes]:
    """The types of the table as Java class names, with and without the package."""
    for cql_type in TYPES:
        name = class_name(cql_type)
        yield name.encode()
        yield name.replace(_PACKAGE, "").encode()
    for depth in _DEPTHS:
        yield b"SetType(" * depth + b"Int32Type" + b")" * depth
        yield b"TupleType(A()," * depth + b"B" + b")" * depth
    yield b"ReversedType(FrozenType(MapType(Int32Type, com.example.A(b => c, d)))) "


def string_seeds() -> Iterator[bytes]:
    """The types of the table in CQL."""
    for cql_type in TYPES:
        yield str(cql_type).encode()
        yield f"frozen < list<\t{cql_type} > >".encode()
    for depth in _DEPTHS:
        yield b"set<" * depth + b"int" + b">" * depth
        yield b"frozen<list<" * (depth - 1) + b"'SetType(A)'" + b">>" * (depth - 1)
    yield b"frozen<map<text, frozen<tuple<varchar, \"a b\", 'x''y', vector<int, 12>>>>>"


CLASS_WORDS = tuple(
    name.encode()
    for name in (
        _PACKAGE,
        *[class_name(native).removeprefix(_PACKAGE) for native in NATIVE_TYPES.values()],
        *["DateType", "LexicalUUIDType", "ListType(", "SetType(", "MapType(", "TupleType("],
        *["VectorType(", "UserType(", "FrozenType(", "ReversedType(", " , 3)", "ks,6162,61:"],
    )
)
STRING_WORDS = tuple(
    word.encode()
    for word in (
        *NATIVE_TYPES,
        *["varchar", "empty", "frozen<", "list<", "set<", "map<", "tuple<", "vector<", ", 3>"],
        *["ks.", '"a b"', "'", '"', '""', "''", "address", "nested"],
    )
)
OPTION_WORDS = (
    *[number.to_bytes(2, "big") for number in range(0x16)],
    *[number.to_bytes(2, "big") for number in (0x20, 0x21, 0x22, 0x30, 0x31)],
)
CELL_WORDS = (*OPTION_WORDS, b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x80" + bytes(7))
