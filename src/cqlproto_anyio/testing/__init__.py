"""Helpers for tests of programs that use Cassandra: a proxy with faults of networks and nodes.

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
    Stall,
)
from cqlproto_anyio.testing.passage import Passage, Side
from cqlproto_anyio.testing.proxy import FaultProxy
from cqlproto_anyio.testing.relay import Entry
from cqlproto_anyio.testing.rules import Rule
from cqlproto_anyio.testing.snapshot import ConnectionSnapshot, SessionSnapshot, snapshot

__all__ = [
    "Answer",
    "ConnectionSnapshot",
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
    "SessionSnapshot",
    "Side",
    "Stall",
    "snapshot",
]
