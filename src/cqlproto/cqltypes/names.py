"""The names of types: Java classes, which servers send, and CQL, as in ``system_schema``.

Servers name a type by its Java class if the protocol has no number for it: vectors always,
durations before v5, some scalars on v3. A known class becomes its type. An unknown class, or one
with malformed parameters, becomes a CustomType of the whole text, whose values are bytes, since a
name alone must not end a connection. The peer chooses the names, so they are read in one pass, and
nesting beyond MAX_DEPTH counts as malformed.

Parsing CQL text instead raises errors.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from cqlproto.cqltypes.model import (
    MAX_DEPTH,
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.exceptions import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["class_name", "parse_class_name", "parse_type"]

_PACKAGE = "org.apache.cassandra.db.marshal."

_CLASSES = {
    "ascii": "AsciiType",
    "bigint": "LongType",
    "blob": "BytesType",
    "boolean": "BooleanType",
    "counter": "CounterColumnType",
    "date": "SimpleDateType",
    "decimal": "DecimalType",
    "double": "DoubleType",
    "duration": "DurationType",
    "float": "FloatType",
    "inet": "InetAddressType",
    "int": "Int32Type",
    "smallint": "ShortType",
    "text": "UTF8Type",
    "time": "TimeType",
    "timestamp": "TimestampType",
    "timeuuid": "TimeUUIDType",
    "tinyint": "ByteType",
    "uuid": "UUIDType",
    "varint": "IntegerType",
}
_NATIVE_BY_CLASS = {
    **{name: NATIVE_TYPES[cql] for cql, name in _CLASSES.items()},
    # Older names for the same layout.
    "DateType": NATIVE_TYPES["timestamp"],
    "LexicalUUIDType": NATIVE_TYPES["uuid"],
}
_WRAPPERS = frozenset({"FrozenType", "ReversedType"})

# The most parts of a type, those of its user-defined types included. Real types stay far below; a
# few definitions that each use the previous one twice would otherwise exhaust memory.
_MAX_PARTS = 100_000


def _as_frozen(cql_type: CQLType) -> CQLType:
    if isinstance(cql_type, ListType | SetType | MapType | UserType):
        return replace(cql_type, frozen=True)
    return cql_type


# --- Java class names -----------------------------------------------------------------------------


class _Malformed(Exception):
    """The text is not a known class with valid parameters."""


_CLASS_NAME = re.compile(r"\s*([\w.$]+)\s*")
_PARENTHESIS = re.compile(r"[()]")


def parse_class_name(text: str, *, depth: int = 0) -> CQLType:
    """Return the type with a Java class name.

    The package may be omitted. An unknown class, also as a parameter of a known one, becomes a
    CustomType; so does the whole text if it is malformed or nested too deeply.

    Arguments:
        text: such as ``org.apache.cassandra.db.marshal.VectorType(FloatType , 2)``.
        depth: the nesting depth of this type in another.
    """
    parser = _ClassNameParser(text)
    try:
        cql_type = parser.read_type(depth)
        if parser.pos != len(text):
            raise _Malformed
    except _Malformed:
        return CustomType(text)
    # An unknown name keeps the spaces that the server wrote around it.
    return CustomType(text) if isinstance(cql_type, CustomType) and "(" not in text else cql_type


class _ClassNameParser:
    """A position in a class name; every method reads one notation and advances."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0

    def name(self) -> str:
        match = _CLASS_NAME.match(self.text, self.pos)
        if match is None:
            raise _Malformed
        self.pos = match.end()
        return match[1]

    def at(self, sign: str) -> bool:
        return self.text.startswith(sign, self.pos)

    def accept(self, sign: str) -> bool:
        if not self.at(sign):
            return False
        self.pos += 1
        while self.text[self.pos : self.pos + 1].isspace():
            self.pos += 1
        return True

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise _Malformed

    def read_type(self, depth: int) -> CQLType:
        if depth > MAX_DEPTH:
            raise _Malformed
        frozen, wrappers = False, 0
        while True:
            start = self.pos
            name = self.name()
            short = name.removeprefix(_PACKAGE)
            if short not in _WRAPPERS:
                break
            frozen = frozen or short == "FrozenType"
            wrappers += 1
            self.expect("(")
        cql_type = self.known_type(short, depth) or self.unknown_type(start)
        for _ in range(wrappers):
            self.expect(")")
        return _as_frozen(cql_type) if frozen else cql_type

    def known_type(self, short: str, depth: int) -> CQLType | None:
        """Read the parameters of a known class; return None for any other."""
        if short in _NATIVE_BY_CLASS:
            if self.at("("):
                raise _Malformed
            return _NATIVE_BY_CLASS[short]
        if short == "VectorType":
            return self.vector_type(depth)
        if short == "UserType":
            return self.user_type(depth)
        count = {"ListType": 1, "SetType": 1, "MapType": 2, "TupleType": None}.get(short, 0)
        if count == 0:
            return None
        self.expect("(")
        parts = [] if self.accept(")") else self.types(depth + 1)
        if count is not None and len(parts) != count:
            raise _Malformed
        if short == "ListType":
            return ListType(parts[0])
        if short == "SetType":
            return SetType(parts[0])
        return MapType(parts[0], parts[1]) if short == "MapType" else TupleType(tuple(parts))

    def types(self, depth: int) -> list[CQLType]:
        parts = [self.read_type(depth)]
        while self.accept(","):
            parts.append(self.read_type(depth))
        self.expect(")")
        return parts

    def vector_type(self, depth: int) -> VectorType:
        self.expect("(")
        element = self.read_type(depth + 1)
        self.expect(",")
        digits = self.name()
        self.expect(")")
        if not re.fullmatch(r"[0-9]{1,10}", digits) or not 0 < int(digits) < 1 << 31:
            raise _Malformed
        return VectorType(element, int(digits))

    def user_type(self, depth: int) -> UserType:
        self.expect("(")
        keyspace = self.name()
        self.expect(",")
        name = self.hex_name()
        fields = []
        while self.accept(","):
            field = self.hex_name()
            self.expect(":")
            fields.append((field, self.read_type(depth + 1)))
        self.expect(")")
        return UserType(keyspace, name, tuple(fields))

    def hex_name(self) -> str:
        try:
            return bytes.fromhex(self.name()).decode()
        except ValueError:
            raise _Malformed from None

    def unknown_type(self, start: int) -> CustomType:
        """Skip the parameters of an unknown class."""
        if self.at("("):
            level = 0
            for match in _PARENTHESIS.finditer(self.text, self.pos):
                level += 1 if match[0] == "(" else -1
                if level == 0:
                    self.pos = match.end()
                    break
            else:
                raise _Malformed
        name = CustomType(self.text[start : self.pos].strip())
        while self.text[self.pos : self.pos + 1].isspace():
            self.pos += 1
        return name


def class_name(cql_type: CQLType) -> str:
    """Return the Java class name of a type, with its package.

    As on the server, only the outermost of nested frozen types is a FrozenType.

    Raises:
        LocalProtocolError: the type is nested too deeply, or is not a type of ``model``.
    """
    return _class_name(cql_type, False, 0)


def _class_name(cql_type: CQLType, within_frozen: bool, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a type must be nested at most {MAX_DEPTH} deep")
    if isinstance(cql_type, NativeType) and cql_type.name in _CLASSES:
        return _PACKAGE + _CLASSES[cql_type.name]
    if isinstance(cql_type, CustomType):
        return cql_type.class_name
    frozen = getattr(cql_type, "frozen", False) and not within_frozen
    frozen_inside = within_frozen or getattr(cql_type, "frozen", True)

    def inner(part: CQLType) -> str:
        return _class_name(part, frozen_inside, depth + 1)

    if isinstance(cql_type, ListType):
        text = f"ListType({inner(cql_type.element)})"
    elif isinstance(cql_type, SetType):
        text = f"SetType({inner(cql_type.element)})"
    elif isinstance(cql_type, MapType):
        text = f"MapType({inner(cql_type.key)},{inner(cql_type.value)})"
    elif isinstance(cql_type, TupleType):
        text = f"TupleType({','.join(map(inner, cql_type.elements))})"
    elif isinstance(cql_type, VectorType):
        text = f"VectorType({inner(cql_type.element)} , {cql_type.dimension})"
    elif isinstance(cql_type, UserType):
        fields = [f",{name.encode().hex()}:{inner(part)}" for name, part in cql_type.fields]
        text = f"UserType({cql_type.keyspace},{cql_type.name.encode().hex()}{''.join(fields)})"
    else:
        raise LocalProtocolError(f"unknown CQL type: {cql_type!r}")
    return f"{_PACKAGE}FrozenType({_PACKAGE}{text})" if frozen else f"{_PACKAGE}{text}"


# --- CQL ------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"""\s*(?:([A-Za-z0-9_]+)|"((?:[^"]|"")+)"|'((?:[^']|'')*)'|([<>,.]))\s*""")
_NO_TYPES: Mapping[str, UserType] = {}


def parse_type(text: str, keyspace: str = "", udts: Mapping[str, UserType] = _NO_TYPES) -> CQLType:
    """Return the type that CQL text names.

    Arguments:
        text: such as ``frozen<map<text, list<int>>>``, as in ``system_schema``.
        keyspace: the keyspace of the user-defined types.
        udts: the user-defined types of that keyspace, by name.

    Raises:
        LocalProtocolError: the text is not a type, names a user-defined type that is not in
            ``udts``, or is nested deeper than ``MAX_DEPTH``.
    """
    parser = _CQLParser(text, keyspace, udts)
    cql_type = parser.read_type(0)
    if parser.pos != len(text):
        parser.fail()
    _check_size(cql_type, text)
    return cql_type


def _check_size(cql_type: CQLType, text: str) -> None:
    """Raise if the type, its user-defined types included, is too deep or too large."""
    todo = [(cql_type, 0)]
    seen = 0
    while todo:
        part, depth = todo.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > _MAX_PARTS:
            raise LocalProtocolError(
                f"a type must have at most {_MAX_PARTS} parts, nested at most {MAX_DEPTH} deep, got"
                f" {text:.200}"
            )
        inner = depth + 1
        if isinstance(part, ListType | SetType | VectorType):
            todo.append((part.element, inner))
        elif isinstance(part, MapType):
            todo += ((part.key, inner), (part.value, inner))
        elif isinstance(part, TupleType):
            todo += ((element, inner) for element in part.elements)
        elif isinstance(part, UserType):
            todo += ((element, inner) for _, element in part.fields)


class _CQLParser:
    """A position in CQL text; every method reads one notation and advances."""

    def __init__(self, text: str, keyspace: str, udts: Mapping[str, UserType]) -> None:
        self.text = text
        self.keyspace = keyspace
        self.udts = udts
        self.pos = 0

    def fail(self) -> NoReturn:
        raise LocalProtocolError(f"malformed CQL type at offset {self.pos}: {self.text:.200}")

    def token(self) -> re.Match[str]:
        match = _TOKEN.match(self.text, self.pos)
        if match is None:
            self.fail()
        self.pos = match.end()
        return match

    def accept(self, sign: str) -> bool:
        match = _TOKEN.match(self.text, self.pos)
        if match is None or match[4] != sign:
            return False
        self.pos = match.end()
        return True

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            self.fail()

    def name(self, match: re.Match[str]) -> str:
        if match[2] is not None:
            return match[2].replace('""', '"')
        if match[1] is None:
            self.fail()
        return match[1].lower()

    def read_type(self, depth: int) -> CQLType:
        if depth > MAX_DEPTH:
            raise LocalProtocolError(f"a type nested deeper than {MAX_DEPTH}: {self.text:.200}")
        wrappers = 0
        while True:
            match = self.token()
            if match[1] is None or match[1].lower() != "frozen" or not self.accept("<"):
                break
            wrappers += 1
        cql_type = self.plain_type(match, depth)
        for _ in range(wrappers):
            self.expect(">")
        return _as_frozen(cql_type) if wrappers else cql_type

    def plain_type(self, match: re.Match[str], depth: int) -> CQLType:
        if match[3] is not None:
            return parse_class_name(match[3].replace("''", "'"), depth=depth)
        if match[1] is not None:
            word = match[1].lower()
            if self.accept("<"):
                return self.parameterised(word, depth + 1)
            if word == "varchar":
                return NATIVE_TYPES["text"]
            if word == "empty":
                # The server's name for the type of the value column of some tables without one.
                return CustomType(_PACKAGE + "EmptyType")
            if word in NATIVE_TYPES and not self.at_dot():
                return NATIVE_TYPES[word]
        return self.user_type(match)

    def at_dot(self) -> bool:
        return self.text.startswith(".", self.pos)

    def parameterised(self, word: str, depth: int) -> CQLType:
        """Read the parameters of a type, after its ``<``."""
        parts = [self.read_type(depth)]
        if word == "vector":
            self.expect(",")
            digits = self.token()[1] or ""
            self.expect(">")
            if not re.fullmatch(r"[0-9]{1,10}", digits) or not 0 < int(digits) < 1 << 31:
                self.fail()
            return VectorType(parts[0], int(digits))
        while self.accept(","):
            parts.append(self.read_type(depth))
        self.expect(">")
        if word == "tuple":
            return TupleType(tuple(parts))
        if word == "list" and len(parts) == 1:
            return ListType(parts[0])
        if word == "set" and len(parts) == 1:
            return SetType(parts[0])
        if word == "map" and len(parts) == 2:
            return MapType(parts[0], parts[1])
        self.fail()

    def user_type(self, match: re.Match[str]) -> UserType:
        name = self.name(match)
        keyspace = self.keyspace
        if self.accept("."):
            keyspace, name = name, self.name(self.token())
        found = self.udts.get(name) if keyspace == self.keyspace else None
        if found is None:
            raise LocalProtocolError(
                f"unknown user-defined type {keyspace}.{name} in {self.text:.200}"
            )
        return found
