"""Values that are already encoded, so that they can be sent any number of times.

A generator can be read only once, and a list may change between two attempts. A value that may be
sent again (to a node that does not know the statement, to another node, for the next page) is
encoded before the first attempt. Every encoder of a type that is not a scalar accepts such a cell
and writes it unchanged.
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
    """An encoded value of a type that is not a scalar.

    Attributes:
        cell: the bytes, without a length.
        cql_type: the type that the value was encoded for.
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
        cql_type: the type that the value is bound to.
        value: an instance of a class in ``READY``.

    Raises:
        ValueConversionError: the value was encoded for another type. A user-defined type may have
            got more fields since, which are null, or other field names.
    """
    if not isinstance(value, PackedCell):
        return b""
    if not _is_extension(value.cql_type, cql_type):
        reason = (
            f"the value was encoded for {value.cql_type} and the type has changed: bind it again"
        )
        raise ValueConversionError(reason, cql_type=str(cql_type), value=value)
    return value.cell


def _is_extension(old: CQLType, new: CQLType) -> bool:
    """Whether every cell of the old type is a cell of the new type with the same meaning."""
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
