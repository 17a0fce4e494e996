"""Helpers for testing programs that use Cassandra: a proxy that makes networks and nodes fail.

>>> async with FaultProxy("127.0.0.1", 9042) as proxy:
...     lost = proxy.add(Rule(Drop(), statement="INSERT INTO orders%", times=1))
...     async with cql.connect(proxy.host, port=proxy.port) as session:
...         ...
"""

from __future__ import annotations

from cqlproto_anyio.testing.cluster import ProxiedCluster
from cqlproto_anyio.testing.faults import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Fault,
    Garbage,
    Repeat,
    Side,
    Stall,
)
from cqlproto_anyio.testing.proxy import FaultProxy
from cqlproto_anyio.testing.relay import Entry
from cqlproto_anyio.testing.rules import Passage, Rule

__all__ = [
    "Answer",
    "Corrupt",
    "Cut",
    "Delay",
    "Drop",
    "Entry",
    "Fault",
    "FaultProxy",
    "Garbage",
    "Passage",
    "ProxiedCluster",
    "Repeat",
    "Rule",
    "Side",
    "Stall",
]
