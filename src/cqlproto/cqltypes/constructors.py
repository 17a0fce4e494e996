"""Making the objects of the standard library that cells become, as quickly as can be.

A constructor that is called for every cell is what decoding costs, and some check much that is
known here, or are written in Python. Where there is a quicker way that gives the very same object,
it is taken; where it rests on an implementation detail that is looked into once, on import, and the
constructor is used if the detail isn't there. Objects of which there are few are kept.
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

# A cell has the days since the epoch plus this (v4 section 6.6).
DATE_OFFSET = 1 << 31

# Some ninety years of them.
DATES_KEPT = 1 << 15


class _Dates(dict[int, Any]):
    """The dates by what stands for them in a cell; those that were asked for are kept.

    Looking one up takes a third of the time that making one does, and there are few.
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
    """Return the point in time that is so many milliseconds after 1970, exactly."""
    try:
        return EPOCH + MILLISECOND * value
    except OverflowError:
        return Timestamp(value)


def time_of(value: int) -> Any:
    """Return the time of day that is so many nanoseconds after midnight."""
    microseconds, rest = divmod(value, 1000)
    if rest:
        return Time(value)
    seconds, microsecond = divmod(microseconds, 1_000_000)
    try:
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, microsecond)
    except (ValueError, OverflowError):  # no hour of a day
        return Time(value)


def blank_class(cls: type[Any], like: Any, *names: str) -> type[Any] | None:
    """Return a class whose instances become those of ``cls`` once they are filled, or None.

    A UUID refuses to have its attributes set, and its constructor takes five times as long as
    making an instance of a subclass that doesn't, filling it and giving it the class UUID. What the
    attributes are is an implementation detail: this is None where there are others, or where an
    object that is made so of the attributes of another isn't equal to that.

    Arguments:
        cls: a class whose attributes are all in slots.
        like: one of its instances.
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
    """Return what makes a UUID of 16 bytes, sooner than ``cls(bytes=data)`` if it can be."""
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
    """Return what makes an address of 4 bytes, as ``cls(data)`` does, but sooner if it can be."""
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
    """Return what makes a Duration of parts that need no check."""
    blank = blank_class(Duration, Duration(1, 2, 3), "months", "days", "nanoseconds")
    assert blank is not None  # the class is our own

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
