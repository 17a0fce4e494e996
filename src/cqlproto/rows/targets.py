"""What a row becomes: a :class:`Row`, a tuple, a dict, or an instance of a class of the user's.

A target is turned into a function once per column list; the rows go through that function. Columns
are matched to the fields of a class by name, never by position: the order of ``SELECT *`` is the
server's.
"""

from __future__ import annotations

import collections
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from cqlproto.exceptions import RowMappingError
from cqlproto.rows.singles import is_single_target, single_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
        _refuse_repeated(names, "dict")
        return lambda values: dict(zip(names, values, strict=True))
    if isinstance(target, RowTarget) and not isinstance(target, type):
        return target.row_maker(columns)
    if isinstance(target, type):
        if is_single_target(target, columns):
            return single_maker(columns, target)
        return _class_maker(names, target)
    raise RowMappingError(
        f"row={target!r}: expected Row, tuple, dict, a class or an object with row_maker()"
    )


def _refuse_repeated(names: tuple[str, ...], what: str) -> None:
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise RowMappingError(
            f"the column {repeated[0]!r} comes more than once and {what} has names only:"
            " name one of them by AS"
        )


class _Fields:
    """The parameters of a class's constructor.

    Attributes:
        positional: those that can be given by position.
        unnamed: how many of these, the first, can't be given by name.
        keyword: those that are given by name.
        required: those without a default.
    """

    def __init__(self) -> None:
        self.positional: list[str] = []
        self.unnamed = 0
        self.keyword: list[str] = []
        self.required: set[str] = set()


def _fields_of(target: type, names: Sequence[str]) -> _Fields:
    """Find what the constructor takes, of whose names one that is in ``names`` is preferred."""
    fields = _Fields()
    model_fields = getattr(target, "model_fields", None)
    if isinstance(model_fields, dict):
        config = getattr(target, "model_config", {})
        by_alias = config.get("validate_by_alias", True)
        by_name = config.get("validate_by_name") or config.get("populate_by_name")
        for name, field in model_fields.items():
            accepted = _aliases(field.validation_alias) if by_alias else []
            if by_name or not accepted:
                accepted.append(name)
            chosen = next((alias for alias in accepted if alias in names), accepted[0])
            fields.keyword.append(chosen)
            if field.is_required():
                fields.required.add(chosen)
        return fields
    import inspect  # costs milliseconds, and only classes need it

    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as exc:
        raise RowMappingError(f"row={target.__name__}: its constructor can't be read") from exc
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            fields.positional.append(parameter.name)
            fields.unnamed += parameter.kind is parameter.POSITIONAL_ONLY
        elif parameter.kind is parameter.KEYWORD_ONLY:
            fields.keyword.append(parameter.name)
        else:
            continue
        if parameter.default is parameter.empty:
            fields.required.add(parameter.name)
    return fields


def _aliases(alias: Any) -> list[str]:
    """Return the names that a pydantic alias stands for: a text, a path or a choice of them."""
    if alias is None:
        return []
    if isinstance(alias, str):
        return [alias]
    if hasattr(alias, "path"):
        return [alias.path[0]]
    return [name for choice in alias.choices for name in _aliases(choice)]


def _class_maker(names: tuple[str, ...], target: type) -> Callable[[tuple[Any, ...]], Any]:
    """Columns that the class doesn't know are left out; fields it needs must be there."""
    _refuse_repeated(names, target.__name__)
    fields = _fields_of(target, names)
    missing = sorted(fields.required.difference(names))
    if missing:
        raise RowMappingError(
            f"row={target.__name__}: no column for {', '.join(missing)},"
            f" the row has {', '.join(names)}"
        )
    index = {name: position for position, name in enumerate(names)}
    leading = list(_leading(fields.positional, index))
    for name in fields.positional[len(leading) : fields.unnamed]:
        if name in index:
            gap = fields.positional[len(leading)]
            raise RowMappingError(
                f"row={target.__name__}: {name} is given by position, and no column for {gap}"
            )
    rest = [
        (name, index[name])
        for name in (*fields.positional[len(leading) :], *fields.keyword)
        if name in index
    ]
    if not leading and not rest:
        raise RowMappingError(
            f"row={target.__name__}: takes none of the columns {', '.join(names)}"
        )
    if not rest:
        if len(leading) == 1:
            (only,) = leading
            return lambda values: target(values[only])
        pick = itemgetter(*leading)
        return lambda values: target(*pick(values))
    return lambda values: target(
        *[values[i] for i in leading], **{name: values[i] for name, i in rest}
    )


def _leading(positional: Sequence[str], index: dict[str, int]) -> Iterator[int]:
    for name in positional:
        if name not in index:
            return
        yield index[name]
