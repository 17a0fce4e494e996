"""Scylla's tablets: the replicas, and their shards, of each token range of a table.

A table with tablets has token ranges and replicas of its own. They move, so they can't be computed
from the hosts' tokens. Instead, a node that is asked for a partition and is no replica of it adds
the partition's tablet to the custom payload of its reply, for clients that set an option in
STARTUP. So a client learns the tablets one by one, from requests to the wrong node. A tablet that
was just learned replaces older ones that overlap it.

The number of tablets is limited. A tablet that is missing or outdated costs one forwarded request,
so it is always safe to forget one.
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
"""The option in SUPPORTED of servers with tablets, and in STARTUP of clients that use them."""

PAYLOAD_KEY = "tablets-routing-v1"
"""The key of a tablet in a reply's custom payload."""

# In bytes: about a hundred replicas, more than any tablet has.
_LONGEST = 4096

_LONG = NATIVE_TYPES["bigint"]
_REPLICA = TupleType((NATIVE_TYPES["uuid"], NATIVE_TYPES["int"]))
_decode = decoder(TupleType((_LONG, _LONG, ListType(_REPLICA))))


@dataclass(frozen=True, slots=True)
class Tablet:
    """A range of a table's tokens and its replicas.

    Attributes:
        first: the token after which the range starts.
        last: the last token in the range.
        replicas: the id of each host that has a replica, and the shard that has it.
    """

    first: int
    last: int
    replicas: tuple[tuple[UUID, int], ...]


def read_tablet(data: bytes) -> Tablet:
    """Read a tablet from the custom payload of a reply.

    Arguments:
        data: the payload's value: a ``tuple<bigint, bigint, list<tuple<uuid, int>>>``.

    Raises:
        RemoteProtocolError: it is malformed, or has no token or no replica.
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
    """Return whether a decoded tuple has this many parts, none of which is null or empty."""
    return type(parts) is tuple and len(parts) == count and None not in parts and EMPTY not in parts


class _Table:
    """The known tablets of a table, in order, without overlaps."""

    __slots__ = ("lasts", "tablets")

    def __init__(self) -> None:
        self.tablets: list[Tablet] = []
        self.lasts: list[int] = []

    def put(self, tablet: Tablet) -> None:
        """Add a tablet and drop those that overlap it."""
        # from the first that ends after this one starts, to the last that starts before it ends
        start = bisect_right(self.lasts, tablet.first)
        end = start
        while end < len(self.tablets) and self.tablets[end].first < tablet.last:
            end += 1
        self.tablets[start:end] = [tablet]
        self.lasts[start:end] = [tablet.last]


class Tablets:
    """The known tablets of all tables.

    Arguments:
        limit: how many tablets are kept. Beyond that, the table that has learned nothing for the
            longest time is forgotten.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._tables: dict[tuple[str, str], _Table] = {}
        self._keyspaces: dict[str, set[str]] = {}  # the tables by keyspace
        self._count = 0
        # neighbouring tablets often have equal replicas: they share one object
        self._replicas: dict[tuple[tuple[UUID, int], ...], tuple[tuple[UUID, int], ...]] = {}

    def __len__(self) -> int:
        """Return how many tablets are known."""
        return self._count

    def __contains__(self, table: tuple[str, str]) -> bool:
        """Return whether tablets of a table, given as (keyspace, name), are known."""
        return table in self._tables

    def learn(self, keyspace: str, table: str, tablet: Tablet) -> None:
        """Add a tablet in place of those that overlap it.

        Arguments:
            keyspace: the table's keyspace.
            table: its name.
            tablet: the tablet that a node has sent.
        """
        key = keyspace, table
        # moved to the end: the tables are in the order in which they last learned
        found = self._tables.pop(key, None) or _Table()
        self._tables[key] = found
        self._keyspaces.setdefault(keyspace, set()).add(table)
        before = len(found.tablets)
        found.put(self._shared(tablet))
        self._count += len(found.tablets) - before
        while self._count > self._limit:
            self._forget(next(iter(self._tables)))

    def replicas(self, keyspace: str, table: str, token: int) -> tuple[tuple[UUID, int], ...]:
        """Return the replicas of a token of a table.

        Arguments:
            keyspace: the table's keyspace.
            table: its name.
            token: the partition's token.

        Returns:
            the id and the shard of each; empty if the tablet is unknown.
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
        """Forget a table that was dropped or created again."""
        self._forget((keyspace, table))

    def forget_keyspace(self, keyspace: str) -> None:
        """Forget all tables of a keyspace."""
        for table in tuple(self._keyspaces.get(keyspace, ())):
            self._forget((keyspace, table))

    def forget_hosts(self, host_ids: Set[UUID]) -> None:
        """Forget the tablets with a replica on one of these hosts, which have left the cluster."""
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
