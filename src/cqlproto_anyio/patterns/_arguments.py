"""Checks of what users pass to recipes: times, points in time, numbers and text.

Each function returns the value, or raises :class:`InvalidInput` before any I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias, TypeVar

from cqlproto_anyio.patterns._errors import InvalidInput

__all__ = [
    "MAX_TTL", "SECOND", "Clock", "Seconds", "aware", "integer", "micros", "moment", "now",
    "one_of", "seconds", "text", "ttl_seconds", "utc_now",
]  # fmt: skip

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a timedelta."""

Clock: TypeAlias = Callable[[], datetime]
"""Returns the current time as an aware datetime."""

T = TypeVar("T", bound=str)

SECOND = 1_000_000  # in microseconds, which are ints
MAX_TTL = 630_720_000  # 20 years, the longest TTL that a server accepts, in seconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """Return the current time: the clock that recipes use if they get no other one."""
    return datetime.now(UTC)


def aware(name: str, value: object) -> datetime:
    """Return a point in time in UTC; a naive datetime is refused, since its zone isn't known."""
    if isinstance(value, datetime) and value.utcoffset() is not None:
        with suppress(OverflowError):  # the first and the last day of all, in some zones
            return value.astimezone(UTC)
    raise InvalidInput(name, "an aware datetime, not a naive one (pass tzinfo=)", value)


def now(clock: Clock) -> datetime:
    """Return what a clock says, in UTC."""
    return aware("clock()", clock())


def micros(clock: Clock) -> int:
    """Return what a clock says, in microseconds since 1970."""
    return (now(clock) - _EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """Return the time so many microseconds after the beginning of 1970, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def seconds(name: str, value: object, *, least: float = 0.0, most: float = math.inf) -> float:
    """Return a length of time in seconds, from ``least`` to ``most``, both included.

    Arguments:
        name: the name of the argument.
        value: seconds, or a timedelta.
    """
    found = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(found, (int, float)) and not isinstance(found, bool) and least <= found <= most:
        with suppress(OverflowError):  # an int of more than 300 digits
            return float(found)
    bounds = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
    raise InvalidInput(name, f"a timedelta or a number of seconds, {bounds}", value)


def ttl_seconds(name: str, value: object) -> int:
    """Return a TTL in whole seconds, rounded up, from 1 to 630,720,000."""
    return math.ceil(seconds(name, value, least=0.001, most=MAX_TTL))


def integer(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """Return an int from ``least`` to ``most``, both included; a bool is refused."""
    if type(value) is int and least <= value and (most is None or value <= most):
        return value
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise InvalidInput(name, f"an int {bounds}", value)


def factor(name: str, value: object) -> float:
    """Return how many times longer each pause is than the one before it, from 1 to 100."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 100:
        return value
    raise InvalidInput(name, "a number from 1 to 100", value)


def one_of(name: str, value: T, *choices: str) -> T:
    """Return a text that is one of the choices."""
    if isinstance(value, str) and value in choices:
        return value
    raise InvalidInput(name, f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}", value)


def text(name: str, value: object, *, most: int = 1024) -> str:
    """Return a text of 1 to ``most`` bytes of UTF-8; names and keys of rows are such texts."""
    if isinstance(value, str) and value:
        with suppress(UnicodeEncodeError):  # half of a surrogate pair
            if len(value.encode()) <= most:
                return str(value)
    raise InvalidInput(name, f"a text of 1 to {most} bytes of UTF-8", value)
