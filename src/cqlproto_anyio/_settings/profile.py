"""What requests ask for: the options, and profiles that hold some of them.

A :class:`Profile` holds the options that it was given, and no others: it lies over the session's
profile, and a call's keywords lie over it. The defaults are its class attributes, so that every
field can be read; ``vars(profile)`` is what was given. Values are checked and converted here, once,
when they are given: whatever is read from a profile can be sent.
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

# Any case will do at run time; a type checker knows these two.
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
    """The keywords of every verb; :class:`Profile` says what they mean."""

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
    # The lowest number is left out: servers keep it for "no timestamp" and refuse it.
    most = 2**63 - 1
    what = "a number of microseconds since 1970, an int of 64 bits"
    return integer(name, value, -most, most, what)


def _now_in_seconds(name: str, value: Any) -> int:
    most = 2**31 - 1
    return integer(name, value, -most, most, "a number of seconds since 1970, an int of 32 bits")


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
    """Return options in their usual classes.

    Raises:
        TypeError: there is no such option.
        ConfigError: an option has no such value.
    """
    found = {}
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            raise TypeError(f"unexpected keyword argument {name!r}{option_keyword(name)}")
        if value is not None or name in _NEVER_NONE:
            value = check(name, value)
        elif name == "keyspace":
            continue  # the session's, which can't be taken away
        found[name] = value
    return found


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Profile:
    """Some of the options of requests, by name; every field is also a keyword of every verb.

    A profile changes only the options that it was given. The others come from the session's
    profile, and at last from the defaults below: ``Profile(timeout=30)`` leaves the consistency as
    it is. Of a field that was not given the default is read. Two profiles are equal if they were
    given the same.

    Attributes:
        timeout: how long a whole call may take, in seconds, with all its retries and pages; None
            for no deadline. A stream applies it to each page.
        consistency: how many replicas must answer: a :class:`~cqlproto.Consistency`, or its name
            (``"quorum"``).
        serial_consistency: the level of an LWT's Paxos phase; None leaves it to the server
            (SERIAL).
        page_size: how many rows the server sends at a time; None turns paging off, so that it sends
            all of them in one reply.
        max_rows: how many rows ``execute`` collects before it gives up with ResultTooLarge.
        idempotent: whether repeating the statement does no harm; lets it be sent again after it
            may have been carried out, and to a second node before the first has answered.
            Statements that only read are idempotent anyway; those with IF never are.
        retry: what is tried again after which failure; what must not be sent twice never is.
        speculation: when an idempotent statement that isn't answered yet is sent to another node
            too; None for never.
        timestamp: the writes' timestamp, in microseconds since 1970; None leaves it to the session
            (``Config.client_timestamps``). A statement with IF can't have one.
        now_in_seconds: the server's idea of now, in seconds since 1970; needs protocol v5.
        keyspace: the keyspace of unqualified names; None leaves it as it is. Needs protocol v5.
        trace: whether the server shall trace the request.
        payload: a custom payload for the server; needs protocol v4.

    Raises:
        TypeError: there is no such field.
        ConfigError: a field can't have such a value.
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


# Policies of a program's own and payloads may have no hash.
_HASHED = tuple(name for name in _CHECKS if name not in ("retry", "speculation", "payload"))


class _GivenFields:
    """The fields of a dataclass: a profile has those that it was given, the class has all.

    So ``dataclasses.replace`` keeps open what a profile leaves open.
    """

    def __init__(self, fields: dict[str, Field[Any]]) -> None:
        self._fields = fields

    def __get__(self, profile: Profile | None, owner: type) -> dict[str, Field[Any]]:
        if profile is None:
            return self._fields
        return {name: field for name, field in self._fields.items() if name in vars(profile)}


Profile.__dataclass_fields__ = _GivenFields(Profile.__dataclass_fields__)  # type: ignore[assignment]
DEFAULTS: Final = Profile(**{name: getattr(Profile, name) for name in _CHECKS})


def overlaid(base: Profile, options: Mapping[str, Any]) -> Profile:
    """Return a profile with a call's options over it: its ``profile``, and over that the others.

    Raises:
        TypeError: there is no such option.
        ConfigError: an option has no such value.
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
