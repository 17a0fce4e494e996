"""Cells of timestamp, date, time and duration (v5 section 5).

A ``datetime`` is cut off at its millisecond, which is all that a timestamp holds. Nothing else is
rounded. Instances of subclasses of the standard library's classes (pandas, pendulum) are read by
their attributes, since they may hold more than a ``datetime`` or redefine its operators.
"""

from __future__ import annotations

import operator
from datetime import date, datetime, time, timedelta
from struct import Struct
from struct import error as struct_error
from typing import Any

from cqlproto.cqltypes.constructors import (
    DATE_OFFSET,
    EPOCH,
    EPOCH_ORDINAL,
    date_of,
    duration_of,
    time_of,
    timestamp_of,
)
from cqlproto.cqltypes.conversion import Scalar, failed, malformed, refuse, to_int, wrong_size
from cqlproto.cqltypes.values import EMPTY, Date, Duration, Time, Timestamp
from cqlproto.cqltypes.vints import read_unsigned_vint, write_vint
from cqlproto.exceptions import ValueConversionError

__all__ = ["DATE", "DURATION", "TIME", "TIMESTAMP"]

_LONG = Struct(">q")
_UNSIGNED = Struct(">I")
_MICROSECOND = timedelta(microseconds=1)
_DAY_MILLISECONDS = 86_400_000
_DAY_NANOSECONDS = 86_400_000_000_000


def _plain(value: Any) -> datetime:
    """Return an instance of a subclass of datetime as a datetime with its attributes.

    A subclass may hold years that datetime cannot, or no time at all (``pandas.NaT``): these raise.
    """
    date_part = (value.year, value.month, value.day)
    time_part = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(*date_part, *time_part, tzinfo=value.tzinfo, fold=value.fold)


def _to_milliseconds(value: Any) -> int:
    """Return the milliseconds since 1970 of a value that is bound to a timestamp."""
    if isinstance(value, datetime):
        moment = value if type(value) is datetime else _plain(value)
        if moment.utcoffset() is None:
            reason = "a datetime without a time zone is ambiguous: give it a tzinfo"
            raise ValueConversionError(reason, cql_type="timestamp", value=value)
        since = moment - EPOCH
        # Only the days of a timedelta are ever negative, so this floors.
        seconds = since.days * 86_400 + since.seconds
        return seconds * 1000 + since.microseconds // 1000
    if isinstance(value, date):
        return (value.toordinal() - EPOCH_ORDINAL) * _DAY_MILLISECONDS
    if isinstance(value, Timestamp):
        return value.milliseconds
    return to_int("timestamp", value, "an aware datetime, a date, a Timestamp or milliseconds")


def _encode_timestamp(value: Any) -> bytes:
    if value is EMPTY:
        return b""
    try:
        return _LONG.pack(_to_milliseconds(value))
    except struct_error:
        reason = "out of range: must fit 64 bits of milliseconds"
        raise ValueConversionError(reason, cql_type="timestamp", value=value) from None
    except ValueConversionError:
        raise
    except Exception as exc:  # for example of its time zone
        raise failed("timestamp", value, exc) from exc


def _decode_timestamp(data: bytes) -> Any:
    try:
        (value,) = _LONG.unpack(data)
    except struct_error:
        return wrong_size("timestamp", data, "8")
    return timestamp_of(value)


def _encode_date(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            reason = "must be a date in ISO 8601, such as 2024-02-29"
            raise ValueConversionError(reason, cql_type="date", value=value) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        try:
            return _UNSIGNED.pack(value.toordinal() - EPOCH_ORDINAL + DATE_OFFSET)
        except Exception as exc:
            raise failed("date", value, exc) from exc
    if isinstance(value, Date):
        return _UNSIGNED.pack(value.days + DATE_OFFSET)
    if value is EMPTY:
        return b""
    hint = ", not a datetime (take its .date())"
    refuse("date", value, f"a date{hint if isinstance(value, datetime) else ', a Date or a str'}")


def _decode_date(data: bytes) -> Any:
    try:
        (value,) = _UNSIGNED.unpack(data)
    except struct_error:
        return wrong_size("date", data, "4")
    return date_of[value]


def _encode_time(value: Any) -> bytes:
    if isinstance(value, time):
        try:
            plain, zone = time(value.hour, value.minute, value.second), value.tzinfo
            seconds = (plain.hour * 60 + plain.minute) * 60 + plain.second
            nanoseconds = (seconds * 1_000_000 + value.microsecond) * 1000
        except Exception as exc:
            raise failed("time", value, exc) from exc
        if zone is not None:
            reason = "a time with a time zone cannot be stored: remove its tzinfo"
            raise ValueConversionError(reason, cql_type="time", value=value)
        return _LONG.pack(nanoseconds)
    if isinstance(value, Time):
        return _LONG.pack(value.nanoseconds)
    if value is EMPTY:
        return b""
    nanoseconds = to_int("time", value, "a naive time, a Time or nanoseconds")
    if not 0 <= nanoseconds < _DAY_NANOSECONDS:
        reason = f"must be 0 to {_DAY_NANOSECONDS - 1} nanoseconds, within a day"
        raise ValueConversionError(reason, cql_type="time", value=value)
    return _LONG.pack(nanoseconds)


def _decode_time(data: bytes) -> Any:
    try:
        (value,) = _LONG.unpack(data)
    except struct_error:
        return wrong_size("time", data, "8")
    return time_of(value)


def _span(value: Any) -> int:
    """Return the nanoseconds of an instance of a subclass of timedelta.

    Raises:
        ValueConversionError: the value also has months or years, which have no fixed length.
    """
    try:
        microseconds = timedelta.__floordiv__(value, _MICROSECOND)
        more = operator.index(getattr(value, "nanoseconds", 0))
        months = getattr(value, "months", 0) or getattr(value, "years", 0)
    except Exception as exc:
        raise failed("duration", value, exc) from exc
    if months:
        reason = "its months have no fixed length: bind a Duration"
        raise ValueConversionError(reason, cql_type="duration", value=value)
    return microseconds * 1000 + more


def _encode_duration(value: Any) -> bytes:
    if isinstance(value, timedelta):
        nanoseconds = value // _MICROSECOND * 1000 if type(value) is timedelta else _span(value)
        try:
            value = Duration(0, 0, nanoseconds)
        except ValueError:
            reason = "out of range: must fit 64 bits of nanoseconds"
            raise ValueConversionError(reason, cql_type="duration", value=value) from None
    if isinstance(value, Duration):
        return write_vint(value.months) + write_vint(value.days) + write_vint(value.nanoseconds)
    if value is EMPTY:
        return b""
    refuse("duration", value, "a Duration or a timedelta")


def _decode_duration(data: bytes) -> Any:
    if not data:
        return EMPTY
    try:
        months, pos = read_unsigned_vint(data, 0)
        days, pos = read_unsigned_vint(data, pos)
        nanoseconds, pos = read_unsigned_vint(data, pos)
        if pos != len(data):
            raise ValueError(f"{len(data) - pos} bytes are left after it")
        # The lowest bit is the sign.
        if not (months | days | nanoseconds) & 1 and (months | days) >> 32 == 0:
            return duration_of(months >> 1, days >> 1, nanoseconds >> 1)
        return Duration(*[part >> 1 ^ -(part & 1) for part in (months, days, nanoseconds)])
    except ValueError as exc:
        malformed("duration", str(exc))


DATE = Scalar(_encode_date, _decode_date)
DURATION = Scalar(_encode_duration, _decode_duration)
TIME = Scalar(_encode_time, _decode_time)
TIMESTAMP = Scalar(_encode_timestamp, _decode_timestamp, 8)
