"""Checks of the values that a program passes in.

Each function returns the value, converted to the usual class where that loses nothing, or raises
ConfigError, which names the argument, what it must be, and what it was given. A value that compares
equal to a valid one is not valid for that reason: ``True`` is no timeout, ``Consistency.ONE`` no
number of rows. What can't be written on the wire, or would overflow a clock, is refused here,
before anything is sent.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Any

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
    "plain_function",
    "policy",
    "seconds",
    "shown",
    "string_map",
    "switch",
]

_LONGEST_SHOWN = 80
_SERIAL_LEVELS = (Consistency.SERIAL, Consistency.LOCAL_SERIAL)


def shown(value: object) -> str:
    """Return what an error says of a value: its repr, unless that is long or can't be made."""
    try:
        text = repr(value)
    except Exception:  # an int of more than 4300 digits, a class of the program's
        return f"a {type(value).__name__}"
    if len(text) > _LONGEST_SHOWN:
        return f"a {type(value).__name__} ({text[: _LONGEST_SHOWN // 2]}...)"
    return text


def described(value: object) -> str:
    """Return what an error says of an object that has no short repr: its class."""
    if isinstance(value, type):
        return f"the class {value.__name__}: make one, with brackets"
    return f"a {type(value).__name__}"


def number(name: str, value: Any, least: float, most: float, what: str) -> float:
    """Return a number from ``least`` to ``most``; infinity is one, NaN is none.

    Arguments:
        name: of the argument.
        value: what was passed.
        least, most: the bounds, both allowed.
        what: what the argument must be, for the error.

    Raises:
        ConfigError: it is something else.
    """
    kind = type(value)
    found = value
    if kind is not float and kind is not int:
        if not isinstance(value, Real) or isinstance(value, (bool, Enum)):
            raise ConfigError(f"{name} must be {what}, got {shown(value)}")
        try:
            found = float(value)
        except Exception:
            raise ConfigError(f"{name} must be {what}, got {shown(value)}") from None
    if not least <= found <= most or (type(found) is int and found > sys.float_info.max):
        raise ConfigError(f"{name} must be {what}, got {shown(value)}")
    return found  # type: ignore[no-any-return]


_LEAST_SECONDS = math.nextafter(0.0, 1.0)


def seconds(name: str, value: Any, what: str = "a positive number of seconds") -> float:
    """Return a time that is longer than 0 seconds; raises ConfigError for anything else."""
    return number(name, value, _LEAST_SECONDS, math.inf, what)


def integer(name: str, value: Any, least: int, most: int | None, what: str) -> int:
    """Return an int from ``least`` to ``most``, or without an upper bound.

    Raises:
        ConfigError: it is something else.
    """
    found = value
    if type(value) is not int:
        if not isinstance(value, Integral) or isinstance(value, (bool, Enum)):
            raise ConfigError(f"{name} must be {what}, got {shown(value)}")
        try:
            found = int(value)
        except Exception:
            raise ConfigError(f"{name} must be {what}, got {shown(value)}") from None
    if found < least or (most is not None and found > most):
        raise ConfigError(f"{name} must be {what}, got {shown(value)}")
    return found  # type: ignore[no-any-return]


def switch(name: str, value: object) -> bool:
    """Return True or False; raises ConfigError for what is only true or false, such as 1."""
    if value is True or value is False:
        return value
    raise ConfigError(f"{name} must be True or False, got {shown(value)}")


def level(name: str, value: object, *, serial: bool = False) -> Consistency:
    """Return a consistency level, given as one or by its name in any case.

    Arguments:
        name: of the argument.
        value: what was passed.
        serial: whether it must be one of an LWT's Paxos phase.

    Raises:
        ConfigError: it is none.
    """
    if type(value) is Consistency:
        found: Consistency | None = value
    elif isinstance(value, str) and str.isascii(value):  # others may have such an upper case
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


def policy(name: str, value: Any, method: str) -> Any:
    """Return an object with this method; raises ConfigError for a class, or anything else."""
    function = getattr(value, method, None)
    if isinstance(value, type) or not callable(function):
        raise ConfigError(f"{name} must have a method {method}(), got {described(value)}")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{name}.{method} must be a plain function, not a coroutine function")
    return value


def plain_function(name: str, value: object) -> None:
    """Raise ConfigError for what can't be called, or would have to be awaited."""
    if not callable(value):
        raise ConfigError(f"{name} must be a function, got {described(value)}")
    calls = (value, type(value).__call__)
    if any(map(inspect.iscoroutinefunction, calls)):
        raise ConfigError(f"{name} must be a plain function, not a coroutine function")


def keyspace_name(name: str, value: object) -> str:
    """Return the name of a keyspace: a str that can be one, on any server.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a keyspace's name, got {shown(value)}")
    value = str.__str__(value)  # of a subclass
    if not value or not value.isprintable():
        raise ConfigError(
            f"{name} must be a keyspace's name, not empty and without control characters,"
            f" got {shown(value)}"
        )
    if not _fits_string(value):
        raise ConfigError(f"{name} must be at most {MAX_SHORT} bytes of UTF-8, got {shown(value)}")
    return value


def _fits_string(value: str) -> bool:
    """Whether it can be a [string] (v4 section 3)."""
    try:
        return len(str.encode(value)) <= MAX_SHORT
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def string_map(name: str, value: Any, kind: type) -> dict[str, Any]:
    """Return a copy of a mapping of str to this class: what its owner changes later is not sent.

    Raises:
        ConfigError: it is something else, or can't be written.
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
                f"{name}: {shown(key)} or its value is longer than {MAX_SHORT} bytes of UTF-8, or"
                " has half of a surrogate pair"
            )
    return copy


def checked_endpoint(endpoint: object) -> Endpoint:
    """Return an endpoint that can be connected to; raises ConfigError for anything else."""
    if not isinstance(endpoint, Endpoint):
        raise ConfigError(f"a {type(endpoint).__name__} is no Endpoint")
    if not isinstance(endpoint.address, str) or not endpoint.address:
        raise ConfigError(f"{shown(endpoint)}: address must be a name or an IP address")
    integer("port", endpoint.port, 1, 65_535, "a TCP port from 1 to 65535")
    name = endpoint.server_name
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigError(f"{shown(endpoint)}: server_name must be a name or None")
    return endpoint
