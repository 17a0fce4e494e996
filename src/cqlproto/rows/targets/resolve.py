"""What a row becomes: a :class:`Row`, a tuple, a dict, or an instance of a class of the user's.

A target is turned into a function once per column list; the rows go through that function. Columns
are matched to the fields of a class by name, never by position: the order of ``SELECT *`` is the
server's.
"""

from __future__ import annotations

import collections
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_origin, runtime_checkable

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
from cqlproto.rows.targets.scalars import is_single_target, refuse_several, single_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Column

__all__ = ["Row", "RowTarget", "row_class", "row_maker"]

R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class RowTarget(Protocol[R_co]):
    """A row target of one's own, for ``row=``."""

    def row_maker(self, columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], R_co]:
        """Return a function from the tuple of one row's values, in column order, to the row.

        Called once per column list. Raises RowMappingError if these columns can't be used.
        """
        ...


def _positional(index: int) -> Any:
    # What namedtuple uses: reads the slot in C, past the __getitem__ below.
    return _tuplegetter(index, f"Column {index}.")


def _fallback_getter(index: int, doc: str) -> property:
    return property(lambda self: tuple.__getitem__(self, index), doc=doc)


_tuplegetter = getattr(collections, "_tuplegetter", _fallback_getter)


class Row(tuple[Any, ...]):
    """One row: a tuple whose columns are also attributes and keys.

    ``row.name`` and ``row["name"]`` are the same. A column called ``keys``, or whose name starts
    with an underscore, is reached by key only. A name that tuples use themselves, such as
    ``count``, is the column.

    ``dict(row)``, ``**row`` and ``row.keys()`` take the names of the columns, and so does
    ``"name" in row``; anything but a str is looked for among the values.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return self._fields

    def _asdict(self) -> dict[str, Any]:
        """Return the row as a dict, in column order; of two equal names the first counts."""
        names = self._fields
        made = dict(zip(names, self, strict=True))
        return made if len(made) == len(names) else {name: self[name] for name in names}

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            return tuple.__contains__(self._fields, item)
        return tuple.__contains__(self, item)

    def __getitem__(self, key: Any) -> Any:
        if type(key) is not str:
            return tuple.__getitem__(self, key)
        try:
            # tuple's own method: a column may be called "index"
            return tuple.__getitem__(self, tuple.index(self._fields, key))
        except ValueError:
            raise KeyError(self._no(key)) from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._no(name))

    def _no(self, name: str) -> str:
        return f"no column {name!r}, the row has {', '.join(self._fields) or 'none'}"

    def __repr__(self) -> str:
        cells = ", ".join(f"{n}={v!r}" for n, v in zip(self._fields, tuple(self), strict=True))
        return f"Row({cells})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_row, (self._fields, tuple(self))


def _make_row(names: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return tuple.__new__(row_class(names), values)


@lru_cache(maxsize=1024)
def row_class(names: tuple[str, ...]) -> type[Row]:
    """Return the class of rows with these column names, in this order."""
    space: dict[str, Any] = {"__slots__": (), "_fields": names}
    for index, name in reversed(list(enumerate(names))):  # of two equal names the first wins
        if not name.startswith("_") and name != "keys":
            space[name] = _positional(index)
    return cast("type[Row]", type("Row", (Row,), space))


def row_maker(columns: Sequence[Column], target: Any) -> Callable[..., Any]:
    """Return the function that makes a row of a tuple of values.

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
        return _own_maker(columns, target)
    try:
        return _annotated_maker(columns, target)
    except RowMappingError as exc:
        place = "" if exc.column is None else f"column {exc.column!r}: "
        raise RowMappingError(
            f"row={name_of(target)}: {place}{exc}", column=exc.column
        ) from exc.__cause__


def _own_maker(columns: Sequence[Column], target: RowTarget[R_co]) -> Callable[..., R_co]:
    """Return what a target of the user's makes rows with; whatever it raises is told as its own."""
    try:
        make = target.row_maker(columns)
    except RowMappingError:
        raise
    except Exception as exc:
        told = f"row={name_of(target)}: row_maker() raised {type(exc).__name__}: {exc}"
        raise RowMappingError(told) from exc
    if not callable(make):
        kind = type(make).__name__
        raise RowMappingError(f"row={name_of(target)}: row_maker() returned a {kind}, no function")
    return make


def _annotated_maker(columns: Sequence[Column], target: Any) -> Callable[..., Any]:
    """Return the function for a class, or for what stands for one in annotations."""
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
    """Return what takes the only column, which is a collection."""
    if not isinstance(column.type, (ListType, SetType, VectorType)):
        raise RowMappingError(f"it is {column.type}, no collection", column=column.name)
    convert = converter(target, column.type, scope)
    if convert is None:
        kind = COLLECTIONS[origin]
        if kind in (None, set if isinstance(column.type, SetType) else list):
            return itemgetter(0)
        convert = container(kind)
    return lambda values: convert(values[0])
