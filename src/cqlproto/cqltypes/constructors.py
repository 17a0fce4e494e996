"""Fast constructors for objects of the standard library, such as UUID and date.

Decoding calls a constructor for every cell, and some constructors check what is known here or are
written in Python. This module makes equal objects faster. Where that relies on an implementation
detail, the detail is checked once, on import, and the normal constructor is used if it is missing.
Dates, of which a program uses few, are cached.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any
from uuid import UUID, SafeUUID

from cqlproto.cqltypes.values import Date, Duration, Time, Timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "BLANK_UUID",
    "DATE_OFFSET",
    "EPOCH",
    "EPOCH_ORDINAL",
    "MILLISECOND",
    "blank_class",
    "date_of",
    "duration_of",
    "ipv4_maker",
    "ipv4_of",
    "time_of",
    "timestamp_of",
    "uuid_maker",
    "uuid_of",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

# The cell of a date is the days since 1970-01-01 plus this (v4 section 6.6).
DATE_OFFSET = 1 << 31

# Most dates that are cached: about ninety years.
DATES_KEPT = 1 << 15


class _Dates(dict[int, Any]):
    """A cache of dates by the number in their cell.

    Looking a date up takes a third of the time of making one.
    """

    def __missing__(self, value: int) -> Any:
        days = value - DATE_OFFSET
        made: Any
        try:
            made = date.fromordinal(days + EPOCH_ORDINAL)
        except (ValueError, OverflowError):
            made = Date(days)
        if len(self) >= DATES_KEPT:
            self.clear()
        self[value] = made
        return made


date_of: Mapping[int, Any] = _Dates()


def timestamp_of(value: int) -> Any:
    """Return the exact time ``value`` milliseconds after 1970-01-01 00:00 UTC."""
    try:
        return EPOCH + MILLISECOND * value
    except OverflowError:
        return Timestamp(value)


def time_of(value: int) -> Any:
    """Return the time of day ``value`` nanoseconds after midnight."""
    microseconds, rest = divmod(value, 1000)
    if rest:
        return Time(value)
    seconds, microsecond = divmod(microseconds, 1_000_000)
    try:
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, microsecond)
    except (ValueError, OverflowError):  # not within a day
        return Time(value)


def blank_class(cls: type[Any], like: Any, *names: str) -> type[Any] | None:
    """Return a subclass of ``cls`` with settable attributes and an empty constructor, or None.

    A caller makes an instance, sets its attributes and then its ``__class__`` to ``cls``. For a
    UUID, whose attributes cannot be set, this takes a fifth of the time of the constructor. The
    attributes are an implementation detail: the result is None if ``cls`` has other attributes, or
    if an object made from the attributes of ``like`` is not equal to ``like``.

    Arguments:
        cls: a class whose attributes are all in slots.
        like: an instance of the class.
        names: the names of all attributes.
    """
    space = {"__slots__": (), "__init__": object.__init__, "__setattr__": object.__setattr__}
    try:
        if {*cls.__slots__} - {"__weakref__"} != {*names}:
            return None
        blank = type("Blank", (cls,), space)
        made = blank()
        for name in names:
            setattr(made, name, getattr(like, name))
        made.__class__ = cls
        same = type(made) is cls and made == like and repr(made) == repr(like)
    except (AttributeError, TypeError):
        return None
    return blank if same else None


def uuid_maker(cls: type[UUID]) -> Callable[[bytes], UUID]:
    """Return a function that makes a UUID from 16 bytes, as ``cls(bytes=data)`` but faster."""
    blank = blank_class(cls, cls(int=1), "int", "is_safe")
    if blank is None:
        return lambda data: cls(bytes=data)
    from_bytes, unknown = int.from_bytes, SafeUUID.unknown

    def make(data: bytes) -> UUID:
        value: Any = blank()
        value.int = from_bytes(data)
        value.is_safe = unknown
        value.__class__ = cls
        made: UUID = value
        return made

    return make


def ipv4_maker(cls: type[IPv4Address]) -> Callable[[bytes], Any]:
    """Return a function that makes an address from 4 bytes, as ``cls(data)`` but faster."""
    blank = blank_class(cls, cls(1 << 24), "_ip")
    if blank is None:
        return cls
    from_bytes = int.from_bytes

    def make(data: bytes) -> Any:
        value = blank()
        value._ip = from_bytes(data)
        value.__class__ = cls
        return value

    return make


def duration_maker() -> Callable[[int, int, int], Duration]:
    """Return a function that makes a Duration without checking its parts."""
    blank = blank_class(Duration, Duration(1, 2, 3), "months", "days", "nanoseconds")
    assert blank is not None  # Duration is a class of this library

    def make(months: int, days: int, nanoseconds: int) -> Duration:
        value: Any = blank()
        value.months = months
        value.days = days
        value.nanoseconds = nanoseconds
        value.__class__ = Duration
        made: Duration = value
        return made

    return make


BLANK_UUID = blank_class(UUID, UUID(int=1), "int", "is_safe")
uuid_of = uuid_maker(UUID)
ipv4_of = ipv4_maker(IPv4Address)
duration_of = duration_maker()
