"""The values of user-defined types: hashable named tuples, with one class per type.

A field is read as ``value.street``, ``value["street"]`` or ``value[0]``. The classes are made with
``type()`` and properties, never from generated source, since a server chooses the names. A name
that is not an identifier, starts with an underscore, or is ``keys``, which ``dict(value)`` calls,
is not an attribute: use ``value["name"]``. A field called ``count`` or ``index`` hides the method
of ``tuple``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from cqlproto.cqltypes.model import UserType

__all__ = ["UserValue", "user_value_class"]

# How many classes are cached. A class that was dropped is made again when it is used; its values
# equal the older ones, since they compare as tuples, and both bind by name.
_CLASSES_CACHED = 512


class UserValue(tuple[Any, ...]):
    """Base of the values of all user-defined types.

    Attributes:
        _fields: the names of the fields, as in CQL.
        _keyspace: the keyspace of the type.
        _type_name: the name of the type.
    """

    __slots__ = ()

    _fields: ClassVar[tuple[str, ...]] = ()
    _keyspace: ClassVar[str] = ""
    _type_name: ClassVar[str] = ""
    _positions: ClassVar[dict[str, int]] = {}

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        """Return the value of these fields; missing fields at the end are null."""
        given = tuple(values)
        missing = len(cls._fields) - len(given)
        if missing < 0:
            raise ValueError(
                f"{cls._type_name} must have at most {len(cls._fields)} values, got {len(given)}"
            )
        return cls(given + (None,) * missing)

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields, in order."""
        return self._fields

    def __contains__(self, item: object) -> bool:
        """Whether a str is the name of a field, or any other object one of the values."""
        return tuple.__contains__(self._fields if isinstance(item, str) else self, item)

    def _asdict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return dict(zip(self._fields, self, strict=True))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return tuple.__getitem__(self, self._positions[key])
        return tuple.__getitem__(self, key)

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True)
        )
        return f"{self._type_name}({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._keyspace, self._type_name, self._fields, tuple(self))


def _getter(position: int) -> Callable[[UserValue], Any]:
    get = tuple.__getitem__

    def read(value: UserValue) -> Any:
        # Not value[position]: __getitem__ below would check for a name first.
        return get(value, position)

    return read


@lru_cache(maxsize=_CLASSES_CACHED)
def _make_class(keyspace: str, name: str, fields: tuple[str, ...]) -> type[UserValue]:
    namespace: dict[str, Any] = {
        field: property(_getter(position))
        for position, field in enumerate(fields)
        if field.isidentifier() and not field.startswith("_") and field != "keys"
    }
    namespace.update(
        __slots__=(),
        __module__=__name__,
        _fields=fields,
        _keyspace=keyspace,
        _type_name=name,
        _positions={field: position for position, field in enumerate(fields)},
    )
    return type(name if name.isidentifier() else "UserValue", (UserValue,), namespace)


def user_value_class(cql_type: UserType) -> type[UserValue]:
    """Return the class of the values of a user-defined type.

    Types of the same keyspace, name and field names share a class. Call it, like ``tuple``, with
    one iterable of all fields.

    Arguments:
        cql_type: the type; the types of its fields are ignored.
    """
    return _make_class(cql_type.keyspace, cql_type.name, tuple(name for name, _ in cql_type.fields))


def _restore(
    keyspace: str, name: str, fields: tuple[str, ...], values: tuple[Any, ...]
) -> UserValue:
    """Make an unpickled value."""
    return _make_class(keyspace, name, fields)(values)
