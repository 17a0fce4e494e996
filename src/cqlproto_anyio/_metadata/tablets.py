"""Scylla's tablets: which replicas, and which of their shards, hold a range of one table.

A table with tablets has ranges and replicas of its own, and they move, so nothing can be computed
from the hosts' tokens. Instead a node that is asked for a partition of which it is no replica sends
along, in the reply's custom payload, the tablet that the partition is in. A client that said in
STARTUP that it understands this learns a table's tablets one by one, by its mistakes, and a tablet
that it has just learned is right where an older one overlaps it.

What is kept is bounded, and what is wrong costs one detour, so that forgetting is always safe.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto.cqltypes import EMPTY, NATIVE_TYPES, ListType, TupleType, decoder
from cqlproto.exceptions import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Set

__all__ = ["EXTENSION", "PAYLOAD_KEY", "Tablet", "Tablets", "read_tablet"]

EXTENSION = "TABLETS_ROUTING_V1"
"""The key in SUPPORTED of servers that have tablets, and in STARTUP of clients that want them."""

PAYLOAD_KEY = "tablets-routing-v1"
"""The key of a tablet in a reply's custom payload."""

# In bytes: some hundred replicas, more than any range has.
_LONGEST = 4096

_LONG = NATIVE_TYPES["bigint"]
_REPLICA = TupleType((NATIVE_TYPES["uuid"], NATIVE_TYPES["int"]))
_decode = decoder(TupleType((_LONG, _LONG, ListType(_REPLICA))))


@dataclass(frozen=True, slots=True)
class Tablet:
    """A range of a table's tokens and who holds it.

    Attributes:
        first: the token after which it begins.
        last: the last token in it.
        replicas: the ids of the hosts that hold it, and the shard of each that does.
    """

    first: int
    last: int
    replicas: tuple[tuple[UUID, int], ...]


def read_tablet(data: bytes) -> Tablet:
    """Read a tablet from the custom payload of a reply.

    Arguments:
        data: the payload's value: a ``tuple<bigint, bigint, list<tuple<uuid, int>>>``.

    Raises:
        RemoteProtocolError: it isn't one, or it has no token or no replica.
    """
    if len(data) > _LONGEST:
        raise RemoteProtocolError(f"a malformed tablet: it has {len(data):,} bytes")
    parts = _decode(data)
    if not _is_whole(parts, 3):
        raise RemoteProtocolError("a malformed tablet: a part of it is missing")
    first, last, listed = parts
    if first >= last:
        raise RemoteProtocolError(f"a malformed tablet: no token after {first} up to {last}")
    for replica in listed:
        if not _is_whole(replica, 2):
            raise RemoteProtocolError("a malformed tablet: a part of a replica is missing")
    replicas = tuple([(host_id, shard) for host_id, shard in listed])
    if not replicas or min([shard for _, shard in replicas]) < 0:
        raise RemoteProtocolError("a malformed tablet: no replica, or a shard below 0")
    return Tablet(first, last, replicas)


def _is_whole(parts: Any, count: int) -> bool:
    """Return whether a decoded tuple has all its parts: it may be short, null, or of no bytes."""
    return type(parts) is tuple and len(parts) == count and None not in parts and EMPTY not in parts


class _Table:
    """The known tablets of a table, in order; none overlaps another."""

    __slots__ = ("lasts", "tablets")

    def __init__(self) -> None:
        self.tablets: list[Tablet] = []
        self.lasts: list[int] = []

    def put(self, tablet: Tablet) -> None:
        """Add a tablet and drop those that overlap it."""
        # Those that end after it begins, as far as they begin before it ends.
        start = bisect_right(self.lasts, tablet.first)
        end = start
        while end < len(self.tablets) and self.tablets[end].first < tablet.last:
            end += 1
        self.tablets[start:end] = [tablet]
        self.lasts[start:end] = [tablet.last]


class Tablets:
    """What is known of the tablets of all tables.

    Arguments:
        limit: how many tablets are kept at most. When there are more, the tables that have learned
            nothing for longest are forgotten first.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._tables: dict[tuple[str, str], _Table] = {}
        self._keyspaces: dict[str, set[str]] = {}  # their tables that are known
        self._count = 0
        # One object for equal replicas, which neighbours often have.
        self._replicas: dict[tuple[tuple[UUID, int], ...], tuple[tuple[UUID, int], ...]] = {}

    def __len__(self) -> int:
        """Return how many tablets are known."""
        return self._count

    def __contains__(self, table: tuple[str, str]) -> bool:
        """Return whether tablets of a table are known, which is named by keyspace and name."""
        return table in self._tables

    def learn(self, keyspace: str, table: str, tablet: Tablet) -> None:
        """Take in a tablet, in place of those of the table that overlap it.

        Arguments:
            keyspace: the table's keyspace.
            table: its name.
            tablet: what the server sent.
        """
        key = keyspace, table
        # Put back at the end: the tables are in the order in which they last learned.
        found = self._tables.pop(key, None) or _Table()
        self._tables[key] = found
        self._keyspaces.setdefault(keyspace, set()).add(table)
        before = len(found.tablets)
        found.put(self._shared(tablet))
        self._count += len(found.tablets) - before
        while self._count > self._limit:
            self._forget(next(iter(self._tables)))

    def replicas(self, keyspace: str, table: str, token: int) -> tuple[tuple[UUID, int], ...]:
        """Return who holds a token of a table.

        Arguments:
            keyspace: the table's keyspace.
            table: its name.
            token: the partition's token.

        Returns:
            the ids of the hosts and the shard of each; empty if the tablet isn't known.
        """
        found = self._tables.get((keyspace, table))
        if found is None:
            return ()
        at = bisect_left(found.lasts, token)
        if at == len(found.lasts):
            return ()
        tablet = found.tablets[at]
        return tablet.replicas if tablet.first < token else ()

    def forget_table(self, keyspace: str, table: str) -> None:
        """Drop what is known of a table, because it is gone or was made anew."""
        self._forget((keyspace, table))

    def forget_keyspace(self, keyspace: str) -> None:
        """Drop what is known of all tables of a keyspace."""
        for table in tuple(self._keyspaces.get(keyspace, ())):
            self._forget((keyspace, table))

    def forget_host(self, host_id: UUID) -> None:
        """Drop the tablets of which a host is a replica, because it is gone."""
        self.forget_hosts({host_id})

    def forget_hosts(self, host_ids: Set[UUID]) -> None:
        """Drop the tablets of which one of these hosts is a replica, because it is gone."""
        if not host_ids:
            return
        for key, table in list(self._tables.items()):
            kept = [tablet for tablet in table.tablets if not _holds(tablet, host_ids)]
            if len(kept) == len(table.tablets):
                continue
            self._count -= len(table.tablets) - len(kept)
            table.tablets = kept
            table.lasts = [tablet.last for tablet in kept]
            if not kept:
                self._drop(key)
        self._replicas.clear()

    def _drop(self, key: tuple[str, str]) -> _Table | None:
        table = self._tables.pop(key, None)
        if table is not None:
            keyspace = self._keyspaces[key[0]]
            keyspace.discard(key[1])
            if not keyspace:
                del self._keyspaces[key[0]]
        return table

    def _forget(self, key: tuple[str, str]) -> None:
        table = self._drop(key)
        if table is not None:
            self._count -= len(table.tablets)

    def _shared(self, tablet: Tablet) -> Tablet:
        if len(self._replicas) > self._limit:
            self._replicas.clear()
        replicas = self._replicas.setdefault(tablet.replicas, tablet.replicas)
        if replicas is tablet.replicas:
            return tablet
        return Tablet(tablet.first, tablet.last, replicas)


def _holds(tablet: Tablet, host_ids: Set[UUID]) -> bool:
    return any(held in host_ids for held, _ in tablet.replicas)
