"""The values of user-defined types: hashable named tuples, of one class per type.

A field is read as ``value.street``, ``value["street"]`` or ``value[0]``. The classes are made with
``type()`` from properties, never from generated source, since the names in them come from a server.
A name that is no identifier, or starts with an underscore, is no attribute and is read as
``value["name"]``, and so is one called ``keys``, which ``dict(value)`` needs. A field called
``count`` or ``index`` hides the method of ``tuple`` that nobody wants there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from cqlproto.cqltypes.model import UserType

__all__ = ["UserValue", "user_value_class"]

# How many classes are kept. One that was dropped and is needed again is made anew; its values still
# equal the older ones, since they compare as tuples, and still bind, by name.
_CLASSES_KEPT = 512


class UserValue(tuple[Any, ...]):
    """The base of the values of all user-defined types.

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
        """Return the value of these fields; fields that are left out at the end are null."""
        given = tuple(values)
        missing = len(cls._fields) - len(given)
        if missing < 0:
            raise ValueError(
                f"{len(given)} values for the {len(cls._fields)} fields of {cls._type_name}"
            )
        return cls(given + (None,) * missing)

    def keys(self) -> tuple[str, ...]:
        """Return the names of the fields, in order."""
        return self._fields

    def __contains__(self, item: object) -> bool:
        """A str is looked for among the names of the fields, anything else among the values."""
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
        # Not value[position], which would ask whether that is a name.
        return get(value, position)

    return read


@lru_cache(maxsize=_CLASSES_KEPT)
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

    It is the same for types of the same keyspace, name and field names. Call it with one iterable
    of all fields, as ``tuple`` is called.

    Arguments:
        cql_type: the type; the types of its fields do not matter.
    """
    return _make_class(cql_type.keyspace, cql_type.name, tuple(name for name, _ in cql_type.fields))


def _restore(
    keyspace: str, name: str, fields: tuple[str, ...], values: tuple[Any, ...]
) -> UserValue:
    """Make an unpickled value."""
    return _make_class(keyspace, name, fields)(values)
