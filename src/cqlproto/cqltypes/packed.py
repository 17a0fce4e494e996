"""Cells that are packed already: a value that was read once and is sent any number of times.

A generator can be read only once, and a list may change between two looks at it. What may have to
be sent again (to a node that doesn't know the statement, to another node, for the next page) is
packed before it is sent the first time. Every encoder of a type that is not a scalar writes such a
cell as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.model import ListType, MapType, SetType, TupleType, UserType, VectorType
from cqlproto.cqltypes.values import Empty
from cqlproto.exceptions import ValueConversionError

if TYPE_CHECKING:
    from cqlproto.cqltypes.model import CQLType

__all__ = ["READY", "PackedCell", "ready_cell"]


class PackedCell:
    """A packed value of a type that is not a scalar.

    Attributes:
        cell: its bytes, without a length.
        cql_type: the type that it was packed for.
    """

    __slots__ = ("cell", "cql_type")

    def __init__(self, cell: bytes, cql_type: CQLType) -> None:
        self.cell = cell
        self.cql_type = cql_type

    def __repr__(self) -> str:
        return f"<{len(self.cell)} bytes of {self.cql_type}>"


# The classes of values that need no encoding.
READY = frozenset({Empty, PackedCell})


def ready_cell(cql_type: CQLType, value: Any) -> bytes:
    """Return the cell of a value that needs no encoding.

    Arguments:
        cql_type: the type of what it is bound to.
        value: of one of the classes in ``READY``.

    Raises:
        ValueConversionError: it was packed for another type. Fields that were added to a
            user-defined type since are null, and a field may have another name.
    """
    if not isinstance(value, PackedCell):
        return b""
    if not _is_extension(value.cql_type, cql_type):
        reason = f"it was packed as {value.cql_type}, and the type has changed: bind it again"
        raise ValueConversionError(reason, cql_type=str(cql_type), value=value)
    return value.cell


def _is_extension(old: CQLType, new: CQLType) -> bool:
    """Whether every cell of the old type means the same in the new one."""
    if old is new or old == new:
        return True
    if isinstance(old, UserType) and isinstance(new, UserType):
        same = (old.keyspace, old.name) == (new.keyspace, new.name)
        pairs = zip(old.fields, new.fields, strict=False)
        return (
            same
            and len(old.fields) <= len(new.fields)
            and all(_is_extension(before[1], now[1]) for before, now in pairs)
        )
    if isinstance(old, ListType | SetType) and isinstance(new, ListType | SetType):
        return type(old) is type(new) and _is_extension(old.element, new.element)
    if isinstance(old, MapType) and isinstance(new, MapType):
        return _is_extension(old.key, new.key) and _is_extension(old.value, new.value)
    if isinstance(old, TupleType) and isinstance(new, TupleType):
        return len(old.elements) == len(new.elements) and all(
            map(_is_extension, old.elements, new.elements)
        )
    if isinstance(old, VectorType) and isinstance(new, VectorType):
        return old.dimension == new.dimension and _is_extension(old.element, new.element)
    return False
