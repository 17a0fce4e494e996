"""Compares bound values with the output of ``toJson(column)`` of Cassandra 5.0.

The server decodes a cell with its own code before it prints the value, so this checks more than a
round trip. Both sides are converted to a comparable form: :func:`expected` converts the bound
value, :func:`printed` the server's text. Members of sets and maps are sorted, because other tests
check the server's order.

Some of the output is unexpected: infinities and NaN are null, a timestamp before the year 1 has the
year of its era but no era, an IPv4-mapped IPv6 address is printed as IPv4, and a key of a map is
the quoted JSON of the key.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import math
import struct
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import (
    CQLType,
    Date,
    Duration,
    ListType,
    MapType,
    NativeType,
    SetType,
    Time,
    Timestamp,
    TupleType,
    UserType,
    VectorType,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["expected", "printed"]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY_MS = 86_400_000


def civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a day since 1970-01-01, for any year (proleptic Gregorian)."""
    cycles, rest = divmod(days + 719_162, 146_097)  # 400 years each, from 0001-01-01 on
    day = datetime.date.fromordinal(rest + 1)
    return day.year + 400 * cycles, day.month, day.day


def _year(year: int) -> str:
    return f"+{year}" if year > 9999 else f"-{-year:04}" if year < 0 else f"{year:04}"


def _date(value: Any) -> str:
    if isinstance(value, Date):
        year, month, day = civil(value.days)
        return f"{_year(year)}-{month:02}-{day:02}"
    return str(value.isoformat())


def _timestamp(value: Any) -> str:
    if isinstance(value, Timestamp):
        ms = value.milliseconds
    else:
        ms = (value - _EPOCH) // datetime.timedelta(milliseconds=1)
    days, rest = divmod(ms, _DAY_MS)
    year, month, day = civil(days)
    of_era = year if year > 0 else 1 - year
    clock = f"{rest // 3_600_000:02}:{rest // 60_000 % 60:02}:{rest // 1000 % 60:02}"
    return f"{_year(of_era)}-{month:02}-{day:02} {clock}.{rest % 1000:03}Z"


def _time(value: Any) -> str:
    if isinstance(value, Time):
        ns = value.nanoseconds
        seconds, ns = divmod(ns, 1_000_000_000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ns:09}"
    return f"{value.isoformat(timespec='microseconds')}000"


def _duration(value: Duration) -> str:
    parts = []
    nanoseconds = abs(value.nanoseconds)
    for number, units in (
        (abs(value.months), ((12, "y"), (1, "mo"))),
        (abs(value.days), ((1, "d"),)),
        (
            nanoseconds,
            (
                (3_600_000_000_000, "h"),
                (60_000_000_000, "m"),
                (1_000_000_000, "s"),
                (1_000_000, "ms"),
                (1000, "us"),
                (1, "ns"),
            ),
        ),
    ):
        rest = number
        for size, unit in units:
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
    negative = min(value.months, value.days, value.nanoseconds) < 0
    return ("-" if negative else "") + "".join(parts)


def _float(value: Any) -> str | None:
    number = float(value)
    return repr(number) if math.isfinite(number) else None


def _single(value: Any) -> str | None:
    number = float(value)
    if not math.isfinite(number):
        return None
    return repr(struct.unpack(">f", struct.pack(">f", number))[0])


def _decimal(value: Any) -> tuple[int, int]:
    sign, digits, exponent = decimal.Decimal(value).as_tuple()
    assert isinstance(exponent, int)
    unscaled = int("".join(map(str, digits)))
    return -unscaled if sign else unscaled, exponent


def _address(value: Any) -> str:
    address = ipaddress.ip_address(value)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


# From a value, and from its JSON, to what is compared.
_SCALARS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "ascii": (str, str),
    "blob": (lambda value: "0x" + value.hex(), str),
    "boolean": (bool, bool),
    "date": (_date, str),
    "decimal": (_decimal, _decimal),
    "double": (_float, _float),
    "duration": (_duration, str),
    "float": (_single, _single),
    "inet": (_address, _address),
    "text": (str, str),
    "time": (_time, str),
    "timestamp": (_timestamp, str),
    "timeuuid": (str, str),
    "uuid": (str, str),
}
_STRINGS = frozenset(
    ["ascii", "blob", "date", "duration", "inet", "text", "time", "timestamp", "timeuuid", "uuid"]
)
_NUMBER = (int, int)


def expected(cql_type: CQLType, value: Any) -> Any:
    """Return the comparable form of a value that was bound."""
    if value is None:
        return None
    if isinstance(cql_type, NativeType):
        return _SCALARS.get(cql_type.name, _NUMBER)[0](value)
    if isinstance(cql_type, ListType | VectorType):
        return [expected(cql_type.element, item) for item in value]
    if isinstance(cql_type, SetType):
        return sorted((expected(cql_type.element, item) for item in value), key=repr)
    if isinstance(cql_type, MapType):
        pairs = [(expected(cql_type.key, k), expected(cql_type.value, v)) for k, v in value.items()]
        return sorted(pairs, key=repr)
    if isinstance(cql_type, TupleType):
        return [expected(part, item) for part, item in zip(cql_type.elements, value, strict=True)]
    assert isinstance(cql_type, UserType)
    parts = zip(cql_type.fields, value, strict=True)
    return {_field(name): expected(part, item) for (name, part), item in parts}


def _field(name: str) -> str:
    return name if name == name.lower() else f'"{name}"'


def _parse(text: str) -> Any:
    return json.loads(text, parse_float=decimal.Decimal, object_pairs_hook=_Pairs)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, because the server may print equal keys."""


def _read(cql_type: CQLType, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(cql_type, NativeType):
        return _SCALARS.get(cql_type.name, _NUMBER)[1](value)
    if isinstance(cql_type, ListType | VectorType):
        return [_read(cql_type.element, item) for item in value]
    if isinstance(cql_type, SetType):
        return sorted((_read(cql_type.element, item) for item in value), key=repr)
    if isinstance(cql_type, MapType):
        pairs = [(_key(cql_type.key, k), _read(cql_type.value, v)) for k, v in value]
        return sorted(pairs, key=repr)
    if isinstance(cql_type, TupleType):
        return [_read(part, item) for part, item in zip(cql_type.elements, value, strict=True)]
    assert isinstance(cql_type, UserType)
    types = {_field(name): part for name, part in cql_type.fields}
    return {name: _read(types[name], item) for name, item in value}


def _key(cql_type: CQLType, text: str) -> Any:
    if isinstance(cql_type, NativeType) and cql_type.name in _STRINGS:
        return _read(cql_type, text)
    return _read(cql_type, _parse(text))


def printed(cql_type: CQLType, text: str) -> Any:
    """Return the comparable form of the server's text."""
    return _read(cql_type, _parse(text))
