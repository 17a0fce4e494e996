"""Keys of rows as users pass them: a bare value, a tuple, or a mapping by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cqlproto_anyio.patterns._errors import InvalidInput

__all__ = ["Key", "row_key"]

Key: TypeAlias = object
"""The value of a key of one column, a tuple in the order of the key, or a mapping by name."""


def row_key(columns: Sequence[str], key: Key) -> tuple[Any, ...]:
    """Return the values of a primary key, in order.

    Arguments:
        columns: the columns of the primary key, in order.
        key: the key.

    Raises:
        InvalidInput: a column has no value, or there are values for others.
    """
    if isinstance(key, Mapping):
        values = tuple(key[name] for name in columns) if key.keys() == set(columns) else ()
    else:
        values = key if isinstance(key, tuple) else (key,)
    if len(values) != len(columns) or None in values:
        what = f"the values of {', '.join(columns)}, as a tuple in this order or a mapping by name"
        raise InvalidInput("key", what, key)
    return tuple(values)
