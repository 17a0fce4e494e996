"""The options of requests, and profiles, which are named sets of options.

A :class:`Profile` has only the options it was given: they override those of the session's profile,
and a call's keywords override the profile. The defaults are class attributes, so every field can be
read; ``vars(profile)`` has only what was given. Values are checked and converted once, when a
profile is made or a call begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from cqlproto.enums import Consistency
from cqlproto_anyio._checks.values import (
    integer,
    keyspace_name,
    level,
    policy,
    seconds,
    string_map,
    switch,
)
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.exceptions._hints import option_keyword
from cqlproto_anyio.policies import DefaultRetry, RetryPolicy, Speculation

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["DEFAULTS", "ConsistencyName", "Options", "Profile", "SerialName", "checked", "overlaid"]

_MAX_PAGE_SIZE = 0x7FFFFFFF

# At run time any case is accepted; type checkers accept these two.
SerialName = Literal["SERIAL", "LOCAL_SERIAL", "serial", "local_serial"]
ConsistencyName = Literal[
    "ANY",
    "ONE",
    "TWO",
    "THREE",
    "QUORUM",
    "ALL",
    "LOCAL_QUORUM",
    "EACH_QUORUM",
    "SERIAL",
    "LOCAL_SERIAL",
    "LOCAL_ONE",
    "any",
    "one",
    "two",
    "three",
    "quorum",
    "all",
    "local_quorum",
    "each_quorum",
    "serial",
    "local_serial",
    "local_one",
]


class _Fields(TypedDict, total=False):
    timeout: float | None
    consistency: Consistency | ConsistencyName
    serial_consistency: Consistency | SerialName | None
    page_size: int | None
    max_rows: int
    idempotent: bool
    retry: RetryPolicy
    speculation: Speculation | None
    timestamp: int | None
    now_in_seconds: int | None
    keyspace: str | None
    trace: bool
    payload: Mapping[str, bytes] | None


class Options(_Fields, total=False):
    """The options that every method of a session takes; :class:`Profile` explains them."""

    profile: Profile | None


def _timeout(name: str, value: Any) -> float | None:
    value = seconds(name, value, "a positive number of seconds, or None for no deadline")
    return None if value == math.inf else value


def _serial(name: str, value: Any) -> Consistency:
    return level(name, value, serial=True)


def _page_size(name: str, value: Any) -> int:
    what = f"a number of rows from 1 to {_MAX_PAGE_SIZE}, or None for no paging"
    return integer(name, value, 1, _MAX_PAGE_SIZE, what)


def _max_rows(name: str, value: Any) -> int:
    return integer(name, value, 1, 2**63 - 1, "a number of rows of at least 1")


def _timestamp(name: str, value: Any) -> int:
    # Servers refuse the lowest number: they use it for "no timestamp".
    most = 2**63 - 1
    what = "a number of microseconds since 1970, an int of 64 bits"
    return integer(name, value, -most, most, what)


def _now_in_seconds(name: str, value: Any) -> int:
    most = 2**31 - 1
    return integer(name, value, -most, most, "a number of seconds since 1970, an int of 32 bits")


# Any, because each option has a type of its own; the fields of Profile declare them.
_CHECKS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "timeout": _timeout,
    "consistency": level,
    "serial_consistency": _serial,
    "page_size": _page_size,
    "max_rows": _max_rows,
    "idempotent": switch,
    "retry": lambda name, value: policy(name, value, "decide"),
    "speculation": lambda name, value: policy(name, value, "tracker"),
    "timestamp": _timestamp,
    "now_in_seconds": _now_in_seconds,
    "keyspace": keyspace_name,
    "trace": switch,
    "payload": lambda name, value: string_map(name, value, bytes),
}
OPTION_NAMES: Final = frozenset({*_CHECKS, "profile"})
_NEVER_NONE = frozenset({"consistency", "max_rows", "idempotent", "retry", "trace"})


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options, checked and converted.

    Raises:
        TypeError: there is no option of this name.
        ConfigError: a value is invalid.
    """
    found = {}
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise TypeError(f"unexpected keyword argument {name!r}{option_keyword(name)}")
        if value is not None or name in _NEVER_NONE:
            value = check(name, value)
        elif name == "keyspace":
            continue  # None leaves the session's keyspace as it is
        found[name] = value
    return found


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Profile:
    """A set of options for requests; every option is also a keyword of every method of a session.

    A profile changes only the options it was given. The others come from the session's profile, and
    otherwise from the defaults below: ``Profile(timeout=30)`` doesn't change the consistency. A
    field that was not given reads as the default. Profiles are equal if they were given the same
    options.

    Attributes:
        timeout: how long a whole call may take, in seconds, with all its retries and pages; None
            for no deadline. A stream applies it to each page.
        consistency: how many replicas must answer: a :class:`~cqlproto.Consistency`, or its name
            (``"quorum"``).
        serial_consistency: the consistency of the Paxos phase of a lightweight transaction; None
            leaves it to the server (SERIAL).
        page_size: the number of rows per page; None turns paging off: the server sends all rows in
            one reply.
        max_rows: the number of rows above which ``execute`` raises ResultTooLarge.
        idempotent: whether executing the statement twice has the same effect as once. The client
            may then send it again although it may have been applied, and send it to a second node
            before the first has answered. Reads are always idempotent; statements with IF never
            are.
        retry: decides which failures are retried. A request that must not be sent twice is never
            retried.
        speculation: when to send an idempotent statement to a second node too, because the first
            has not answered yet; None for never.
        timestamp: the timestamp of writes, in microseconds since 1970; None leaves it to the
            session (``Config.client_timestamps``). A statement with IF can't have one.
        now_in_seconds: the current time for the server, in seconds since 1970; needs protocol v5.
        keyspace: the keyspace of unqualified names; None is the session's. Needs protocol v5.
        trace: whether the server traces the request.
        payload: a custom payload for the server; needs protocol v4.

    Raises:
        TypeError: there is no option of this name.
        ConfigError: a value is invalid.
    """

    timeout: float | None = 10.0
    consistency: Consistency = Consistency.LOCAL_QUORUM
    serial_consistency: Consistency | None = None
    page_size: int | None = 5000
    max_rows: int = 100_000
    idempotent: bool = False
    retry: RetryPolicy = DefaultRetry()
    speculation: Speculation | None = None
    timestamp: int | None = None
    now_in_seconds: int | None = None
    keyspace: str | None = None
    trace: bool = False
    payload: Mapping[str, bytes] | None = None

    def __init__(self, **fields: Unpack[_Fields]) -> None:
        vars(self).update(checked(fields))

    def __repr__(self) -> str:
        given = vars(self)
        shown = [f"{name}={given[name]!r}" for name in _CHECKS if name in given]
        return f"Profile({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Profile):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        given = vars(self)
        return hash(tuple([(name, given[name]) for name in _HASHED if name in given]))


# The user's policies, and payloads, may not be hashable.
_HASHED = tuple(name for name in _CHECKS if name not in ("retry", "speculation", "payload"))


class _GivenFields:
    """``__dataclass_fields__`` of Profile: all fields for the class, the given ones for a profile.

    ``dataclasses.replace`` then gives only these to the new profile.
    """

    def __init__(self, fields: dict[str, Field[Any]]) -> None:
        self._fields = fields

    def __get__(self, profile: Profile | None, owner: type) -> dict[str, Field[Any]]:
        if profile is None:
            return self._fields
        return {name: field for name, field in self._fields.items() if name in vars(profile)}


# A descriptor that returns a dict, where typeshed has a dict.
Profile.__dataclass_fields__ = _GivenFields(Profile.__dataclass_fields__)  # type: ignore[assignment]
DEFAULTS: Final = Profile(**{name: getattr(Profile, name) for name in _CHECKS})


def overlaid(base: Profile, options: Mapping[str, Any]) -> Profile:
    """Return a profile with the options of a call applied.

    Arguments:
        base: the session's profile.
        options: the call's keywords; they override its ``profile``, which overrides ``base``.

    Raises:
        TypeError: there is no option of this name.
        ConfigError: a value is invalid.
    """
    options = dict(options)
    profile = options.pop("profile", None)
    given = checked(options)
    if profile is not None:
        if not isinstance(profile, Profile):
            raise ConfigError(f"profile must be a Profile, got a {type(profile).__name__}")
        given = vars(profile) | given
    found = Profile()
    vars(found).update(vars(base) | given)
    return found
