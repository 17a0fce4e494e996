"""Timeuuids (UUIDs of version 1) from and to datetimes.

A UUID of version 1 counts steps of 100 ns since 1582-10-15; 62 more bits distinguish UUIDs of the
same step (RFC 9562, section 5.1). The server orders timeuuids by time, then by these bits as signed
bytes. All timeuuids of a millisecond lie between :func:`min_timeuuid` and :func:`max_timeuuid`,
which correspond to the server's ``minTimeuuid`` and ``maxTimeuuid``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from cqlproto.cqltypes.constructors import EPOCH, MILLISECOND

__all__ = ["max_timeuuid", "min_timeuuid", "timeuuid_datetime", "timeuuid_of"]

# From 1582-10-15 to 1970, in steps of 100 ns.
_REFORM = 0x01B21DD213814000
_MICROSECOND = timedelta(microseconds=1)
_LEAST = 0x8080808080808080
_MOST = 0x7F7F7F7F7F7F7F7F


def _make(steps: int, low: int) -> UUID:
    """Return the UUID with this number of steps since 1970 and these lower 64 bits."""
    time = steps + _REFORM
    if not 0 <= time < 1 << 60:
        raise ValueError("the time of a timeuuid must be in the years 1582 to 5236")
    high = (time & 0xFFFFFFFF) << 32 | (time >> 16 & 0xFFFF0000) | 0x1000 | time >> 48
    return UUID(int=high << 64 | low)


def _since(moment: datetime) -> timedelta:
    if not isinstance(moment, datetime):
        raise TypeError(f"moment must be a datetime, got {type(moment).__name__}")
    if moment.utcoffset() is None:
        raise ValueError(f"moment must have a time zone, got {moment!r}")
    return moment - EPOCH


def timeuuid_of(moment: datetime, *, clock_sequence: int, node: int) -> UUID:
    """Return the timeuuid of a datetime.

    Arguments:
        moment: the time, with a time zone; it is kept to the microsecond.
        clock_sequence: 14 bits that distinguish timeuuids of the same time and node.
        node: 48 bits that distinguish nodes, for example random ones.

    Raises:
        ValueError: an argument is out of range, or the datetime has no time zone.
    """
    for name, value, bits in (("clock_sequence", clock_sequence, 14), ("node", node, 48)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be 0 to {(1 << bits) - 1}, got {value}")
    low = 0x8000000000000000 | clock_sequence << 48 | node
    return _make(_since(moment) // _MICROSECOND * 10, low)


def timeuuid_datetime(value: UUID) -> datetime:
    """Return the time of a timeuuid in UTC, truncated to microseconds.

    Raises:
        TypeError: the value is not a UUID.
        ValueError: the UUID has another version.
    """
    if not isinstance(value, UUID):
        raise TypeError(f"value must be a UUID, got {type(value).__name__}")
    version = value.int >> 76 & 15  # UUID.version is None for another variant
    if version != 1:
        raise ValueError(f"value must be a UUID of version 1, got {value} of version {version}")
    return EPOCH + _MICROSECOND * ((value.time - _REFORM) // 10)


def min_timeuuid(moment: datetime) -> UUID:
    """Return the least timeuuid of a millisecond, as the server's ``minTimeuuid``.

    Arguments:
        moment: the time, with a time zone; it is truncated to the millisecond.

    Raises:
        ValueError: the datetime has no time zone, or is out of range.
    """
    return _make(_since(moment) // MILLISECOND * 10_000, _LEAST)


def max_timeuuid(moment: datetime) -> UUID:
    """Return the greatest timeuuid of a millisecond, as the server's ``maxTimeuuid``.

    Arguments and errors are the same as for :func:`min_timeuuid`.
    """
    return _make((_since(moment) // MILLISECOND + 1) * 10_000 - 1, _MOST)
