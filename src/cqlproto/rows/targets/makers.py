"""Row makers: functions that turn the values of a row into a Row, a tuple, a dict or an object.

A row maker is made once per column list and row target. It matches columns with the fields of a
class by name, never by position, since the server decides the order of ``SELECT *``.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_origin, runtime_checkable

from cqlproto.cqltypes import ListType, SetType, VectorType
from cqlproto.exceptions import RowMappingError
from cqlproto.rows.targets.annotations import Scope, plain_hint
from cqlproto.rows.targets.constructors import refuse_repeated
from cqlproto.rows.targets.failures import name_of
from cqlproto.rows.targets.nested import (
    COLLECTIONS,
    MAPPINGS,
    container,
    converter,
    mapping_maker,
    object_maker,
    tuple_maker,
)
from cqlproto.rows.targets.row import Row, row_class
from cqlproto.rows.targets.scalars import is_single_target, refuse_several, single_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Column

__all__ = ["RowTarget", "row_maker"]

R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class RowTarget(Protocol[R_co]):
    """A custom row target, for ``row=``."""

    def row_maker(self, columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], R_co]:
        """Return the function that makes a row from the tuple of its values, in column order.

        Called once per column list. Raise RowMappingError if these columns can't be used.
        """
        ...


def row_maker(columns: Sequence[Column], target: Any) -> Callable[..., Any]:
    """Return the function that makes a row from the tuple of its values.

    Raises:
        RowMappingError: the columns and the target do not fit together.
    """
    names = tuple(column.name for column in columns)
    if target is tuple:
        return tuple
    if target is Row:
        return row_class(names)
    if target is dict:
        refuse_repeated(names, "dict")
        return lambda values: dict(zip(names, values, strict=True))
    if isinstance(target, RowTarget) and not isinstance(target, type):
        return _row_target_maker(columns, target)
    try:
        return _class_maker(columns, target)
    except RowMappingError as exc:
        place = "" if exc.column is None else f"column {exc.column!r}: "
        raise RowMappingError(
            f"row={name_of(target)}: {place}{exc}", column=exc.column
        ) from exc.__cause__


def _row_target_maker(columns: Sequence[Column], target: RowTarget[R_co]) -> Callable[..., R_co]:
    """Return the row maker of a custom target; whatever it raises becomes a RowMappingError."""
    try:
        make = target.row_maker(columns)
    except RowMappingError:
        raise
    except Exception as exc:
        message = f"row={name_of(target)}: row_maker() raised {type(exc).__name__}: {exc}"
        raise RowMappingError(message) from exc
    if not callable(make):
        kind = type(make).__name__
        raise RowMappingError(
            f"row={name_of(target)}: row_maker() must return a function, got {kind}"
        )
    return make


def _class_maker(columns: Sequence[Column], target: Any) -> Callable[..., Any]:
    """Return the row maker for a class, or for an annotation that stands for one."""
    is_name = isinstance(target, str)
    (target, *others), _, scope = plain_hint(target, {})
    origin = get_origin(target) or target
    fields = [(column.name, column.type) for column in columns]
    if others or not isinstance(origin, type):
        hint = ": pass the class itself, not its name" if is_name else ""
        raise RowMappingError(
            f"expected Row, tuple, dict, a class or an object with row_maker(){hint}"
        )
    if target is tuple or target is dict or target is Row:
        return row_maker(columns, target)
    if is_single_target(origin, columns):
        return single_maker(columns, origin)
    if origin is tuple:
        return tuple_maker(target, [cql_type for _, cql_type in fields], scope) or tuple
    if origin in COLLECTIONS:
        refuse_several(columns)
        return _collection_maker(columns[0], target, origin, scope)
    refuse_repeated((name for name, _ in fields), origin.__name__)
    if origin in MAPPINGS:
        return mapping_maker(target, fields, scope)
    return object_maker(target, fields, ("column", "row"), scope)


def _collection_maker(
    column: Column, target: Any, origin: Any, scope: Scope
) -> Callable[[tuple[Any, ...]], Any]:
    """Return the row maker for a collection, the value of the only column."""
    if not isinstance(column.type, (ListType, SetType, VectorType)):
        raise RowMappingError(f"must be a collection, is {column.type}", column=column.name)
    convert = converter(target, column.type, scope)
    if convert is None:
        kind = COLLECTIONS[origin]
        if kind in (None, set if isinstance(column.type, SetType) else list):
            return itemgetter(0)
        convert = container(kind)
    return lambda values: convert(values[0])
