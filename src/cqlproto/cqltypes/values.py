"""Python classes for CQL values that the standard library cannot hold.

A cell may hold no bytes at all (:data:`EMPTY`), a duration, a time after the year 9999 or a time of
day with nanoseconds. A collection may hold members that Python merges, since ``-0.0 == 0.0`` in
Python but not in CQL. A map below a set or as a key of a map must be hashable. All of these values
are immutable, hashable and picklable, and binding a decoded value writes the same cell.

The values of user-defined types are in :mod:`cqlproto.cqltypes.uservalues`.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cqlproto.exceptions import shown_value
from cqlproto.wire import UNSET, Unset

__all__ = [
    "EMPTY",
    "UNSET",
    "Date",
    "Duration",
    "Empty",
    "FrozenMap",
    "LosslessMap",
    "LosslessSet",
    "Time",
    "Timestamp",
    "Unset",
]

K = TypeVar("K")
V = TypeVar("V")
E = TypeVar("E")


class Empty:
    """The type of :data:`EMPTY`: a cell of zero bytes, of a type other than a string or a blob.

    The server stores such cells and distinguishes them from null. EMPTY is false in a condition.
    """

    __slots__ = ()

    def __new__(cls) -> Empty:
        return EMPTY

    def __repr__(self) -> str:
        return "EMPTY"

    def __reduce__(self) -> str:
        return "EMPTY"

    def __bool__(self) -> bool:
        return False


EMPTY: Final[Empty] = object.__new__(Empty)


def _check(value: object, bits: int, what: str) -> None:
    """Raise unless ``value`` is an int that fits ``bits`` bits, sign included."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be an int, got {type(value).__name__}")
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError(f"{what} must fit {bits} bits, got {shown_value(value)}")


@dataclass(frozen=True, slots=True)
class Duration:
    """A CQL ``duration`` of three separate parts, since a month has no fixed length.

    Durations have no order, as in CQL.

    Arguments:
        months: 32 bits, signed.
        days: 32 bits, signed.
        nanoseconds: 64 bits, signed.

    Raises:
        ValueError: a part is out of range, or the parts have different signs (v5 section 5.8).
        TypeError: a part is not an int.
    """

    months: int = 0
    days: int = 0
    nanoseconds: int = 0

    def __post_init__(self) -> None:
        _check(self.months, 32, "months")
        _check(self.days, 32, "days")
        _check(self.nanoseconds, 64, "nanoseconds")
        parts = (self.months, self.days, self.nanoseconds)
        if min(parts) < 0 < max(parts):
            raise ValueError(f"the parts of a duration must have the same sign, got {parts}")

    def __str__(self) -> str:
        """Return the duration as CQL writes it, such as ``1mo2d3ns``."""
        parts = ((self.months, "mo"), (self.days, "d"), (self.nanoseconds, "ns"))
        text = "".join(f"{abs(number)}{unit}" for number, unit in parts if number)
        sign = "-" if any(number < 0 for number, _ in parts) else ""
        return f"{sign}{text}" if text else "0ns"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A CQL ``timestamp`` outside the years 1 to 9999, which ``datetime`` cannot hold.

    Arguments:
        milliseconds: since 1970-01-01 00:00 UTC, 64 bits, signed.
    """

    milliseconds: int

    def __post_init__(self) -> None:
        _check(self.milliseconds, 64, "milliseconds")


@dataclass(frozen=True, slots=True, order=True)
class Date:
    """A CQL ``date`` outside the years 1 to 9999, which ``datetime.date`` cannot hold.

    Arguments:
        days: since 1970-01-01, 32 bits, signed.
    """

    days: int

    def __post_init__(self) -> None:
        _check(self.days, 32, "days")


@dataclass(frozen=True, slots=True, order=True)
class Time:
    """A CQL ``time`` with a part of a microsecond, which ``datetime.time`` cannot hold.

    A server does not check the range of bound times, so it may return one outside a day.

    Arguments:
        nanoseconds: since midnight, 64 bits, signed.
    """

    nanoseconds: int

    def __post_init__(self) -> None:
        _check(self.nanoseconds, 64, "nanoseconds")


class FrozenMap(Mapping[K, V]):
    """A hashable mapping: a map below a set or as a key of a map decodes to it.

    It equals any mapping with equal items.

    Arguments:
        items: a mapping, or pairs of keys and values; all must be hashable.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[K, V] | Iterable[tuple[K, V]] = ()) -> None:
        self._items: dict[K, V] = dict(items)
        self._hash: int | None = None

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def items(self) -> ItemsView[K, V]:
        return self._items.items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMap):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self._items == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenMap({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (self._items,)


class LosslessSet(Iterable[E]):
    """A set with members that are equal in Python, such as ``{-0.0, 0.0}``.

    The members are in the server's order. ``in`` compares as Python does. Two sets are equal if
    their members are, in the same order.

    Arguments:
        members: the members, all of them hashable.
    """

    __slots__ = ("_members",)

    def __init__(self, members: Iterable[E] = ()) -> None:
        self._members = tuple(members)

    def __iter__(self) -> Iterator[E]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LosslessSet):
            return self._members == other._members
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._members)

    def __repr__(self) -> str:
        return f"LosslessSet({list(self._members)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LosslessSet, (self._members,)


class LosslessMap(Iterable[K]):
    """A map with keys that are equal in Python, in the server's order.

    :meth:`items` returns every pair. A look-up by key raises ``KeyError`` if several keys are equal
    to it. Two maps are equal if their items are, in the same order.

    Arguments:
        items: pairs of keys and values.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[K, Any]] = ()) -> None:
        self._items = tuple(items)

    def items(self) -> tuple[tuple[K, Any], ...]:
        """Return all pairs of keys and values."""
        return self._items

    def keys(self) -> tuple[K, ...]:
        """Return all keys, equal ones included."""
        return tuple(key for key, _ in self._items)

    def values(self) -> tuple[Any, ...]:
        """Return all values, one per key."""
        return tuple(value for _, value in self._items)

    def __getitem__(self, key: object) -> Any:
        found = [value for own, value in self._items if own == key]
        if len(found) != 1:
            reason = f"{key!r} equals {len(found)} keys: use items()" if found else key
            raise KeyError(reason)
        return found[0]

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LosslessMap):
            return self._items == other._items
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._items)

    def __repr__(self) -> str:
        return f"LosslessMap({list(self._items)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LosslessMap, (self._items,)
