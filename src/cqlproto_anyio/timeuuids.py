"""New timeuuids: for the columns by which rows of a partition are ordered in time."""

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

    Those that are made without a moment are in the order in which this process has made them, and
    no two are equal: of the 62 bits besides the time, 61 are random, each time. Nothing in them
    tells of the machine, as those of :func:`uuid.uuid1` do.

    Arguments:
        moment: its time, with a time zone; now, if it is None.

    Raises:
        ValueError: the datetime has no time zone, or is out of range.
    """
    global _last
    if moment is None:
        # A clock that stands still or is set back leaves the order as it is.
        _last = max(time.time_ns() // 1000, _last + 1)
        moment = _EPOCH + timedelta(microseconds=_last)
    random = int.from_bytes(os.urandom(8))
    # The lowest bit of the node's first byte says that it is no address of a network card.
    node = random >> 16 | 1 << 40
    return timeuuid_of(moment, clock_sequence=random & 0x3FFF, node=node)
