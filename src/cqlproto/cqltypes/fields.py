"""The named fields of objects that are bound by name, and how to read them.

A field has its own name. If its class defines an alias (pydantic, msgspec's ``rename``, attrs), the
alias is a name too, unless another field has that name.
"""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["fields_of", "values_of"]

# How many classes are cached.
_CACHED = 1024


def fields_of(value: object) -> tuple[Mapping[str, Any], Callable[[Any], Any]] | None:
    """Return the names of an object's fields, and a function that reads them.

    Arguments:
        value: a named tuple (also a row or the value of a user-defined type), an instance of a
            dataclass, a pydantic model, an attrs class or a msgspec struct, or an object with
            ``keys()`` and items, such as rows of other databases.

    Returns:
        a mapping of each name to a key, and a function from a key to the field's value; None for
        an object of another kind.
    """
    kind: Any = type(value)
    if isinstance(value, tuple):
        positions = _positions(getattr(kind, "_fields", None))
        if positions is None:
            return None
        size = len(value)  # a value of a user-defined type may be short
        if any(position >= size for position in positions.values()):
            positions = {name: at for name, at in positions.items() if at < size}
        return positions, partial(tuple.__getitem__, value)
    names = _attributes(kind)
    extra = getattr(value, "__pydantic_extra__", None) if names else None
    if extra:
        names = {**{name: name for name in extra}, **names}
    if names:
        return names, partial(getattr, value)
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        row: Any = value  # iterating a row yields values, not names
        return {name: name for name in row.keys()}, row.__getitem__  # noqa: SIM118
    return None


def values_of(value: object) -> tuple[Any, ...]:
    """Return the values of an object's declared fields, in order, then those of extra fields.

    An object of another kind, named tuples included, has none.
    """
    kind: Any = type(value)
    names = _attributes(kind)
    if not names:
        return ()
    computed = getattr(kind, "__pydantic_computed_fields__", ())
    extra = getattr(value, "__pydantic_extra__", None) or {}
    own = dict.fromkeys(names.values())
    return (*(getattr(value, name) for name in own if name not in computed), *extra.values())


@lru_cache(maxsize=_CACHED)
def _positions(names: Any) -> dict[str, int] | None:
    """Return the positions of a named tuple's fields; of equal names the first counts."""
    if not isinstance(names, tuple):
        return None
    return {name: names.index(name) for name in names}


@lru_cache(maxsize=_CACHED)
def _attributes(kind: type) -> dict[str, str]:
    """Return the attribute of each field and alias of a class; empty for other kinds of classes."""
    names: dict[str, str] = {}
    aliases: list[tuple[str, str]] = []
    if is_dataclass(kind):
        names.update((field.name, field.name) for field in dataclass_fields(kind))
    for field in getattr(kind, "__attrs_attrs__", ()):
        names[field.name] = field.name
        aliases.append((getattr(field, "alias", None) or field.name, field.name))
    own = getattr(kind, "__struct_fields__", ())
    names.update((name, name) for name in own)
    aliases += zip(getattr(kind, "__struct_encode_fields__", own), own, strict=True)
    for table in ("model_fields", "__pydantic_fields__", "__pydantic_computed_fields__"):
        described = getattr(kind, table, None)
        for name, field in described.items() if isinstance(described, dict) else ():
            names[name] = name
            aliases += ((alias, name) for alias in _aliases(field))
    for alias, name in aliases:
        names.setdefault(alias, name)
    return names


def _aliases(field: Any) -> Iterator[str]:
    """Yield the aliases of a pydantic field: strings, choices of them, and paths of one step."""
    for kind in ("serialization_alias", "alias", "validation_alias"):
        alias = getattr(field, kind, None)
        for choice in getattr(alias, "choices", (alias,)):
            path = getattr(choice, "path", (choice,))
            if len(path) == 1 and isinstance(path[0], str):
                yield path[0]
