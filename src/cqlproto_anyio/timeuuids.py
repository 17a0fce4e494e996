"""New timeuuids, for clustering columns that order rows by time."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cqlproto.cqltypes import timeuuid_of

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["timeuuid"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_last = 0


def timeuuid(moment: datetime | None = None) -> UUID:
    """Return a new timeuuid.

    Timeuuids of the current time increase in the order in which the process makes them. All are
    unique: 61 of the 62 bits besides the time are random. Unlike those of :func:`uuid.uuid1`, they
    don't contain the machine's address.

    Arguments:
        moment: a datetime with a time zone; None for the current time.

    Raises:
        ValueError: the datetime has no time zone, or is out of range.
    """
    global _last
    if moment is None:
        # Keeps the order if the clock stands still or is set back.
        _last = max(time.time_ns() // 1000, _last + 1)
        moment = _EPOCH + timedelta(microseconds=_last)
    random = int.from_bytes(os.urandom(8))
    # The multicast bit marks a node id that is not a network address (RFC 9562 section 6.10).
    node = random >> 16 | 1 << 40
    return timeuuid_of(moment, clock_sequence=random & 0x3FFF, node=node)
