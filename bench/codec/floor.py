"""The floor: ``marshal.loads`` of equal data, which does little more than create the objects.

Types that marshal doesn't support are replaced by parts: a timestamp, a date and a time by an int,
a uuid and an inet by bytes, a decimal by two ints. So the floor doesn't include creating these
objects.
"""

from __future__ import annotations

import datetime
import ipaddress
import marshal
import platform
import uuid
from decimal import Decimal
from typing import Any

from bench.codec.shapes import rows_of
from bench.codec.tasks import Task, calls


def about() -> dict[str, object]:
    return {"version": platform.python_version(), "kind": "C"}


def prepare(case: dict[str, Any], variant: str) -> Task:
    raw = [tuple(map(_raw, row)) for row in rows_of(case["shape"], case["rows"])]
    # Dump the loaded objects again: marshal writes an object with other references in a form that
    # takes longer to read.
    data = marshal.dumps(marshal.loads(marshal.dumps(raw)))
    if marshal.loads(data) != raw:
        raise ValueError("marshal returns other data")
    del raw
    return calls(lambda: marshal.loads(data))


def _raw(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, datetime.date):
        return value.toordinal()
    if isinstance(value, datetime.time):
        seconds = (value.hour * 60 + value.minute) * 60 + value.second
        return (seconds * 1_000_000 + value.microsecond) * 1000
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return value.packed
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        unscaled = int("".join(map(str, digits)))
        return (-unscaled if sign else unscaled, exponent)
    return value
