"""The default row: a tuple whose columns are also attributes and keys."""

from __future__ import annotations

import collections
from functools import lru_cache
from typing import Any, cast

__all__ = ["Row", "row_class"]


def _positional(index: int) -> Any:
    # namedtuple uses it: it reads the slot in C and does not call __getitem__ below.
    return _tuplegetter(index, f"Column {index}.")


def _fallback_getter(index: int, doc: str) -> property:
    return property(lambda self: tuple.__getitem__(self, index), doc=doc)


_tuplegetter = getattr(collections, "_tuplegetter", _fallback_getter)


class Row(tuple[Any, ...]):
    """One row: a tuple whose columns are also attributes and keys.

    ``row.name`` and ``row["name"]`` are the same. A column called ``keys``, or whose name starts
    with an underscore, is a key only. A column hides a tuple method of the same name, such as
    ``count``.

    ``dict(row)``, ``**row`` and ``row.keys()`` use the names of the columns. ``in`` looks up a str
    among the names, and any other object among the values.
    """

    __slots__ = ()
    _fields: tuple[str, ...] = ()

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return self._fields

    def _asdict(self) -> dict[str, Any]:
        """Return the row as a dict, in column order; of equal names the first counts."""
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
            raise KeyError(self._unknown(key)) from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._unknown(name))

    def _unknown(self, name: str) -> str:
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
