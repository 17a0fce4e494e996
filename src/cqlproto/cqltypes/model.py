"""CQL types as values.

A type is an immutable, hashable object whose ``str`` is the type in CQL. ``frozen`` is part of a
type's text in a schema but is never sent, so equality ignores it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = [
    "MAX_DEPTH",
    "NATIVE_TYPES",
    "CQLType",
    "CustomType",
    "ListType",
    "MapType",
    "NativeType",
    "SetType",
    "TupleType",
    "UserType",
    "VectorType",
]

# The maximum nesting of types. Reading, printing, hashing and coding a type recurse, and the peer
# chooses the types: this limit keeps it from exhausting the stack.
MAX_DEPTH = 64

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _quoted(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _frozen(text: str, frozen: bool) -> str:
    return f"frozen<{text}>" if frozen else text


@dataclass(frozen=True, slots=True)
class CQLType:
    """Base of all types."""


@dataclass(frozen=True, slots=True)
class NativeType(CQLType):
    """A scalar type, such as ``int`` or ``timeuuid``.

    Attributes:
        name: the name in CQL, in lower case; ``varchar`` is ``text``.
    """

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class CustomType(CQLType):
    """A type of which only the name of its Java class is known; its values are bytes."""

    class_name: str

    def __str__(self) -> str:
        escaped = self.class_name.replace("'", "''")
        return f"'{escaped}'"


@dataclass(frozen=True, slots=True)
class ListType(CQLType):
    """``list<element>``."""

    element: CQLType
    frozen: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return _frozen(f"list<{self.element}>", self.frozen)


@dataclass(frozen=True, slots=True)
class SetType(CQLType):
    """``set<element>``."""

    element: CQLType
    frozen: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return _frozen(f"set<{self.element}>", self.frozen)


@dataclass(frozen=True, slots=True)
class MapType(CQLType):
    """``map<key, value>``."""

    key: CQLType
    value: CQLType
    frozen: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return _frozen(f"map<{self.key}, {self.value}>", self.frozen)


@dataclass(frozen=True, slots=True)
class TupleType(CQLType):
    """``tuple<a, b, ..>``; always frozen."""

    elements: tuple[CQLType, ...]

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.elements))}>"


@dataclass(frozen=True, slots=True)
class VectorType(CQLType):
    """``vector<element, dimension>``: a fixed number of elements without nulls."""

    element: CQLType
    dimension: int

    def __str__(self) -> str:
        return f"vector<{self.element}, {self.dimension}>"


@dataclass(frozen=True, slots=True)
class UserType(CQLType):
    """A user-defined type.

    Attributes:
        keyspace: the keyspace of the type.
        name: the name, unquoted.
        fields: the names and types of the fields, in order.
    """

    keyspace: str
    name: str
    fields: tuple[tuple[str, CQLType], ...]
    frozen: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return _frozen(f"{_quoted(self.keyspace)}.{_quoted(self.name)}", self.frozen)


NATIVE_TYPES: dict[str, NativeType] = {
    name: NativeType(name)
    for name in (
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "counter",
        "date",
        "decimal",
        "double",
        "duration",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varint",
    )
}
