"""Rows that are the value of their only column: ``row=int``, ``row=UUID``, an enumeration.

The row is the decoded value, or None for a null. A subclass of a standard class (an enumeration, an
int with methods) is called with the decoded value.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto.cqltypes import (
    EMPTY,
    CustomType,
    Date,
    Duration,
    FrozenMap,
    ListType,
    LosslessMap,
    LosslessSet,
    NativeType,
    SetType,
    Time,
    Timestamp,
    VectorType,
)
from cqlproto.exceptions import RowMappingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Column

__all__ = ["is_single", "is_single_target", "refuse_several", "single_maker"]

# The classes of each type's values; the second is for values that the first can't hold.
_CLASSES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("ascii", "text"), (str,)),
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "counter", "varint"), (int,)),
    **dict.fromkeys(("float", "double"), (float,)),
    **dict.fromkeys(("uuid", "timeuuid"), (UUID,)),
    "blob": (bytes,),
    "boolean": (bool,),
    "decimal": (Decimal,),
    "duration": (Duration,),
    "date": (date, Date),
    "time": (time, Time),
    "timestamp": (datetime, Timestamp),
    "inet": (IPv4Address, IPv6Address),
}
_SCALARS = frozenset(each for classes in _CLASSES.values() for each in classes)
_BASES = (*_SCALARS, timedelta, Enum)
_OTHERS = (type(None), type(EMPTY), list, set, frozenset, FrozenMap, LosslessMap, LosslessSet)


def is_single(row: object) -> bool:
    """Whether a row is the value of a column, not an object with columns."""
    return isinstance(row, (*_BASES, *_OTHERS))


def is_single_target(target: type, columns: Sequence[Column]) -> bool:
    """Whether rows of this class are the value of their only column.

    The constructor of a subclass of a standard class may take several columns.
    """
    return target in _SCALARS or (len(columns) == 1 and issubclass(target, _BASES))


def single_maker(columns: Sequence[Column], target: Any) -> Callable[[tuple[Any, ...]], Any]:
    """Return the row maker for the value of the only column.

    Arguments:
        columns: the columns.
        target: a Python class of CQL values, or a subclass of one.

    Raises:
        RowMappingError: there are several columns, or their values are of another class.
    """
    refuse_several(columns)
    (column,) = columns
    classes = _classes(column)
    if target in classes:
        return _only
    if target not in _SCALARS and issubclass(target, (Enum, *classes)):

        def make(values: tuple[Any, ...]) -> Any:
            value = values[0]
            return None if value is None else target(value)

        return make
    got = " or ".join(each.__name__ for each in classes) or "another class"
    raise RowMappingError(f"its type is {column.type}, whose values are {got}", column=column.name)


def refuse_several(columns: Sequence[Column]) -> None:
    """Raise RowMappingError unless there is one column."""
    if len(columns) != 1:
        names = ", ".join(column.name for column in columns) or "(none)"
        raise RowMappingError(f"the row must have one column, got {len(columns)}: {names}")


def _only(values: tuple[Any, ...]) -> Any:
    return values[0]


def _classes(column: Column) -> tuple[type, ...]:
    """Return the classes of a column's values."""
    cql_type = column.type
    if isinstance(cql_type, NativeType):
        return _CLASSES[cql_type.name]
    if isinstance(cql_type, (ListType, VectorType)):
        return (list,)
    if isinstance(cql_type, SetType):
        return (set,)
    return (bytes,) if isinstance(cql_type, CustomType) else ()
