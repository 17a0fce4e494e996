"""Checks of the values that a program passes in.

Each function returns the value, converted to the built-in class if nothing is lost by that. For an
invalid value it raises ConfigError: ``X must be A, got B``. A value of another type is invalid even
if it compares equal to a valid one: ``True`` is not a timeout, ``Consistency.ONE`` is not a number
of rows. Values that can't be sent, or that would overflow a clock, are refused here, before a
request is made.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Any, TypeVar

from cqlproto.enums import Consistency
from cqlproto.wire import MAX_SHORT
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError

__all__ = [
    "checked_endpoint",
    "described",
    "integer",
    "keyspace_name",
    "level",
    "number",
    "policy",
    "seconds",
    "shown",
    "string_map",
    "switch",
    "synchronous",
]

T = TypeVar("T")

_LONGEST_SHOWN = 80
_SERIAL_LEVELS = (Consistency.SERIAL, Consistency.LOCAL_SERIAL)


def shown(value: object) -> str:
    """Return the repr of a value for an error message; its class if the repr is long or raises."""
    try:
        text = repr(value)
    except Exception:  # an int of more than 4300 digits, a class of the program's
        return f"a {type(value).__name__}"
    if len(text) > _LONGEST_SHOWN:
        return f"a {type(value).__name__} ({text[: _LONGEST_SHOWN // 2]}...)"
    return text


def described(value: object) -> str:
    """Return the class of an object, for an error message."""
    if isinstance(value, type):
        return f"the class {value.__name__}: pass an instance, {value.__name__}(..)"
    return f"a {type(value).__name__}"


def number(name: str, value: Any, least: float, most: float, what: str) -> float:
    """Return a number from ``least`` to ``most``, which may be infinity, but not NaN.

    Arguments:
        name: the name of the argument.
        value: what was passed.
        least, most: the bounds, both included.
        what: what the argument must be, for the message.

    Raises:
        ConfigError: the value is something else.
    """
    kind = type(value)
    found: float = value
    if kind is not float and kind is not int:
        if not isinstance(value, Real) or isinstance(value, (bool, Enum)):
            raise ConfigError(f"{name} must be {what}, got {shown(value)}")
        try:
            found = float(value)
        except Exception:
            raise ConfigError(f"{name} must be {what}, got {shown(value)}") from None
    if not least <= found <= most or (type(found) is int and found > sys.float_info.max):
        raise ConfigError(f"{name} must be {what}, got {shown(value)}")
    return found


_LEAST_SECONDS = math.nextafter(0.0, 1.0)


def seconds(name: str, value: Any, what: str = "a positive number of seconds") -> float:
    """Return a number of seconds above 0; raise ConfigError for anything else."""
    return number(name, value, _LEAST_SECONDS, math.inf, what)


def integer(name: str, value: Any, least: int, most: int | None, what: str) -> int:
    """Return an int from ``least`` to ``most``, or without an upper bound.

    Raises:
        ConfigError: the value is something else.
    """
    found: int = value
    if type(value) is not int:
        if not isinstance(value, Integral) or isinstance(value, (bool, Enum)):
            raise ConfigError(f"{name} must be {what}, got {shown(value)}")
        try:
            found = int(value)
        except Exception:
            raise ConfigError(f"{name} must be {what}, got {shown(value)}") from None
    if found < least or (most is not None and found > most):
        raise ConfigError(f"{name} must be {what}, got {shown(value)}")
    return found


def switch(name: str, value: object) -> bool:
    """Return True or False; raise ConfigError for anything else, such as 1."""
    if value is True or value is False:
        return value
    raise ConfigError(f"{name} must be True or False, got {shown(value)}")


def level(name: str, value: object, *, serial: bool = False) -> Consistency:
    """Return a consistency level, which may be given by its name, in upper or lower case.

    Arguments:
        name: the name of the argument.
        value: what was passed.
        serial: whether it must be SERIAL or LOCAL_SERIAL.

    Raises:
        ConfigError: the value is not such a level.
    """
    if type(value) is Consistency:
        found: Consistency | None = value
    elif isinstance(value, str) and str.isascii(value):  # the upper case of "ſerial" is SERIAL
        found = Consistency.__members__.get(str.upper(value))
    else:
        found = None
    levels = _SERIAL_LEVELS if serial else tuple(Consistency)
    if found not in levels:
        names = ", ".join(each.name for each in levels[:-1])
        raise ConfigError(
            f"{name} must be {names} or {levels[-1].name}, as a Consistency or its name,"
            f" got {shown(value)}"
        )
    assert found is not None
    return found


def policy(name: str, value: T, method: str) -> T:
    """Return an object that has the method; raise ConfigError for a class, or anything else."""
    function = getattr(value, method, None)
    if isinstance(value, type) or not callable(function):
        raise ConfigError(f"{name} must have a method {method}(), got {described(value)}")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{name}.{method} must be synchronous, got a coroutine function")
    return value


def synchronous(name: str, value: object) -> None:
    """Raise ConfigError unless the value can be called without awaiting the result."""
    if not callable(value):
        raise ConfigError(f"{name} must be a synchronous callable, got {described(value)}")
    calls = (value, type(value).__call__)
    if any(map(inspect.iscoroutinefunction, calls)):
        raise ConfigError(f"{name} must be a synchronous callable, got a coroutine function")


def keyspace_name(name: str, value: object) -> str:
    """Return the name of a keyspace.

    Raises:
        ConfigError: no server accepts it as one.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a keyspace's name, got {shown(value)}")
    value = str.__str__(value)  # a str, if it is of a subclass
    if not value or not value.isprintable():
        raise ConfigError(
            f"{name} must be a keyspace's name, not empty and without control characters,"
            f" got {shown(value)}"
        )
    if not _fits_string(value):
        raise ConfigError(f"{name} must be at most {MAX_SHORT} bytes of UTF-8, got {shown(value)}")
    return value


def _fits_string(value: str) -> bool:
    """Return whether the value fits a [string] (v4 section 3)."""
    try:
        return len(str.encode(value)) <= MAX_SHORT
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def string_map(name: str, value: object, kind: type[T]) -> dict[str, T]:
    """Return a copy of a mapping of str to a class, str or bytes.

    Raises:
        ConfigError: the value is something else, or too long to be sent.
    """
    what = f"a mapping of str to {kind.__name__}"
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be {what}, got {described(value)}")
    try:
        copy = dict(value)
    except Exception as exc:
        raise ConfigError(f"{name} must be {what}; reading it raised {shown(exc)}") from exc
    if len(copy) > MAX_SHORT:
        raise ConfigError(f"{name} must have at most {MAX_SHORT} keys, got {len(copy)}")
    for key, item in copy.items():
        if not isinstance(key, str) or not isinstance(item, kind):
            raise ConfigError(f"{name} must be {what}, got {shown(key)} to a {type(item).__name__}")
        if not _fits_string(key) or (isinstance(item, str) and not _fits_string(item)):
            raise ConfigError(
                f"{name}: {shown(key)} and its value must be at most {MAX_SHORT} bytes of UTF-8"
                " each, without lone surrogates"
            )
    return copy


def checked_endpoint(endpoint: object) -> Endpoint:
    """Return an endpoint that can be connected to; raise ConfigError for anything else."""
    if not isinstance(endpoint, Endpoint):
        raise ConfigError(f"an endpoint must be an Endpoint, got {described(endpoint)}")
    if not isinstance(endpoint.address, str) or not endpoint.address:
        raise ConfigError(f"{shown(endpoint)}: address must be a name or an IP address")
    integer("port", endpoint.port, 1, 65_535, "a TCP port from 1 to 65535")
    name = endpoint.server_name
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigError(f"{shown(endpoint)}: server_name must be a name or None")
    return endpoint
