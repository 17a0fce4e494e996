"""Timeuuids and points in time: UUIDs of version 1, made and read.

A UUID of version 1 counts steps of 100 ns since the calendar's reform of 1582, and has 62 bits more
that tell those of one step apart (RFC 9562, section 5.1). The server orders timeuuids by time, then
by these bits as signed bytes, so that those of a millisecond lie between :func:`min_timeuuid` and
:func:`max_timeuuid`, which are the server's functions of these names.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from cqlproto.cqltypes.constructors import EPOCH

__all__ = ["max_timeuuid", "min_timeuuid", "timeuuid_datetime", "timeuuid_of"]

# From 1582-10-15 to 1970, in steps of 100 ns.
_REFORM = 0x01B21DD213814000
_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_LEAST = 0x8080808080808080
_MOST = 0x7F7F7F7F7F7F7F7F


def _make(steps: int, low: int) -> UUID:
    """Return the UUID of so many steps since 1970 and the lower 64 bits."""
    time = steps + _REFORM
    if not 0 <= time < 1 << 60:
        raise ValueError("a timeuuid must be of the years 1582 to 5236")
    high = (time & 0xFFFFFFFF) << 32 | (time >> 16 & 0xFFFF0000) | 0x1000 | time >> 48
    return UUID(int=high << 64 | low)


def _since(moment: datetime) -> timedelta:
    if not isinstance(moment, datetime):
        raise TypeError(f"a timeuuid is made of a datetime, got {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"a datetime without a time zone is no point in time, got {moment!r}")
    return moment - EPOCH


def timeuuid_of(moment: datetime, *, clock_sequence: int, node: int) -> UUID:
    """Return the timeuuid of a point in time.

    Arguments:
        moment: with a time zone; its microseconds count.
        clock_sequence: 14 bits that tell timeuuids of the same time and node apart.
        node: 48 bits that tell nodes apart, for example random ones.

    Raises:
        ValueError: an argument is out of range, or the datetime has no time zone.
    """
    for name, value, bits in (("clock_sequence", clock_sequence, 14), ("node", node, 48)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be 0 to {(1 << bits) - 1}, got {value}")
    low = 0x8000000000000000 | clock_sequence << 48 | node
    return _make(_since(moment) // _MICROSECOND * 10, low)


def timeuuid_datetime(value: UUID) -> datetime:
    """Return the time of a timeuuid, in UTC, in whole microseconds.

    Raises:
        ValueError: it is a UUID of another version.
    """
    if not isinstance(value, UUID):
        raise TypeError(f"a timeuuid is a UUID, got {type(value).__name__}")
    version = value.int >> 76 & 15  # not UUID.version, which looks at the variant too
    if version != 1:
        raise ValueError(f"a timeuuid is a UUID of version 1, got {value} of version {version}")
    return EPOCH + _MICROSECOND * ((value.time - _REFORM) // 10)


def min_timeuuid(moment: datetime) -> UUID:
    """Return the least timeuuid of a millisecond, as the server's ``minTimeuuid`` does.

    Arguments:
        moment: with a time zone; what is below a millisecond is cut off.

    Raises:
        ValueError: the datetime has no time zone, or is out of range.
    """
    return _make(_since(moment) // _MILLISECOND * 10_000, _LEAST)


def max_timeuuid(moment: datetime) -> UUID:
    """Return the greatest timeuuid of a millisecond, as the server's ``maxTimeuuid`` does.

    Arguments and errors are those of :func:`min_timeuuid`.
    """
    return _make((_since(moment) // _MILLISECOND + 1) * 10_000 - 1, _MOST)
