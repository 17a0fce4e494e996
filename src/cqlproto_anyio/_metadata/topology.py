"""The cluster as one immutable value: its hosts, their tokens and the replicas of each token.

A new :class:`Topology` is made when hosts change; one with other keyspaces shares what it can with
the old one. Nothing is sorted then: a ring is sorted once, when replicas are first looked up, and
the replicas of a token range are found when the first token in it is. This matters: 1,000 hosts of
256 tokens have 256,000 ranges, and a program may use few of them.

Replicas are placed as Cassandra places them, walking up the ring from the token:

SimpleStrategy            the next hosts of the whole ring
NetworkTopologyStrategy   in each datacenter on its own, the next hosts of its ring, one of each
                          rack first: another host of the same rack is taken only if there are fewer
                          racks than replicas
EverywhereStrategy        all hosts

So a :class:`Placement` depends on a ring (of one datacenter, or of all) and a number of replicas,
and keyspaces with the same two share it. Of transient replication (``3/1``) the full replicas are
returned, which come first. LocalStrategy has no replicas that a client could choose. Of unknown
strategies no replicas are known.

A ring is two parallel arrays, of tokens and of host numbers, since numbers are compared faster than
hosts. The highest bits of a token name a bucket, and only the tokens in that bucket are searched.
Tokens are spread evenly, so a bucket has one or two; a binary search of the whole ring takes
eighteen steps, most of which wait for memory.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

from cqlproto_anyio.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


__all__ = ["MURMUR3", "Host", "Placement", "Ring", "Topology"]

MURMUR3 = "org.apache.cassandra.dht.Murmur3Partitioner"

# The cache of a placement, in references to hosts: 100,000 ranges of 3 replicas take some 10 MB.
_MAX_CACHED = 500_000
# The cost of a cached range besides its replicas, in references.
_COST = 2

_FACTOR = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Host:
    """A node of the cluster, as another node or itself describes it.

    Attributes:
        host_id: its id, which stays when its address changes.
        endpoint: where to connect to it.
        datacenter: its datacenter.
        rack: its rack.
        tokens: the ends of the ranges that it is the first replica of. Empty for a node without
            data, and if the partitioner's tokens aren't integers.
        release_version: the version of its software, such as "5.0.5".
        schema_version: the version of its schema when it was last read.
    """

    host_id: UUID
    endpoint: Endpoint
    datacenter: str
    rack: str
    tokens: tuple[int, ...] = ()
    release_version: str = ""
    schema_version: UUID | None = None

    def __hash__(self) -> int:
        """Hash the id alone, since a host may have many tokens."""
        return hash(self.host_id)


class Ring:
    """The tokens of one datacenter or of all, in order, and the hosts that own them.

    The range of a token is ``bisect_left(tokens, token, starts[b], starts[b + 1])`` where ``b`` is
    ``(token >> shift) + half``: the first range that ends at or after the token. Tokens past the
    last one are in the first range.

    Arguments:
        hosts: all hosts of the cluster.
        datacenter: the datacenter, or None for all.

    Attributes:
        tokens: the ends of the ranges, in ascending order.
        starts: the index in ``tokens`` where each bucket starts, and where the last one ends.
        shift: the bits of a token below those that name its bucket.
        half: half the number of buckets.
        owners: for each of ``tokens``, the number of the host that owns it.
        racks: for each host number, the number of the host's rack.
        size: how many hosts have tokens.
        rack_count: how many racks these hosts are in.
    """

    __slots__ = (
        "half", "owners", "rack_count", "racks", "shift", "size", "starts", "tokens",
    )  # fmt: skip

    def __init__(self, hosts: tuple[Host, ...], datacenter: str | None) -> None:
        owner_of: dict[int, int] = {}
        numbers: dict[str, int] = {}
        self.racks: list[int] = []
        for number, host in enumerate(hosts):
            # by name alone, since racks are used in the ring of one datacenter only
            self.racks.append(numbers.setdefault(host.rack, len(numbers)))
            if datacenter is None or host.datacenter == datacenter:
                # if two hosts have the same token, the later one owns it
                owner_of.update(dict.fromkeys(host.tokens, number))
        # Murmur3 tokens have 64 bits
        tokens = sorted([token for token in owner_of if -(1 << 63) <= token < 1 << 63])
        self.owners: list[int] = [owner_of[token] for token in tokens]
        bits = len(tokens).bit_length()
        self.shift = shift = 64 - bits
        self.half = half = 1 << bits >> 1
        sizes = [0] * (1 << bits)
        for token in tokens:
            sizes[(token >> shift) + half] += 1
        # arrays, so that the tokens of a bucket are adjacent in memory
        self.starts = array("I", accumulate(sizes, initial=0))
        self.tokens = array("q", tokens)
        members = set(self.owners)
        self.size = len(members)
        self.rack_count = len({self.racks[number] for number in members})

    def index(self, token: int) -> int:
        """Return the number of a token's range; 0 if there are no tokens."""
        bucket = (token >> self.shift) + self.half
        index = bisect_left(self.tokens, token, self.starts[bucket], self.starts[bucket + 1])
        return index if index < len(self.tokens) else 0


class Placement:
    """The replicas of each range of a ring, found when they are first looked up.

    Arguments:
        hosts: all hosts of the cluster, by number.
        ring: the ring.
        copies: how many replicas each range has, transient ones included.
        full: how many of them are full replicas.
        by_rack: whether replicas are spread over racks.

    Attributes:
        ring: as given.
        count: how many full replicas each range has.
        everywhere: whether every host that has tokens in this ring is a replica of every range.
    """

    __slots__ = (
        "_cached", "_hosts", "_rack_repeats", "_room", "count", "everywhere", "ring",
    )  # fmt: skip

    def __init__(
        self, hosts: tuple[Host, ...], ring: Ring, copies: int, full: int, by_rack: bool
    ) -> None:
        self._hosts = hosts
        self.ring = ring
        self._rack_repeats = copies - ring.rack_count if by_rack else copies
        self._cached: dict[int, tuple[Host, ...]] = {}
        self._room = _MAX_CACHED
        self.count = min(full, ring.size)
        self.everywhere = self.count == ring.size

    def replicas(self, index: int) -> tuple[Host, ...]:
        """Return the replicas of a range, in the order of the ring.

        Arguments:
            index: the number of the range, from 0.
        """
        found = self._cached.get(index)
        if found is None:
            found = self._find(index)
            self._room -= len(found) + _COST
            if self._room < 0:
                self._cached.clear()
                self._room = _MAX_CACHED
            self._cached[index] = found
        return found

    def _find(self, index: int) -> tuple[Host, ...]:
        """Walk up the ring from a range and collect its replicas.

        A host in a rack that has a replica already is taken only while ``repeats`` is above 0: the
        other replicas must be left for racks without one. The walk ends after one round at most.
        """
        count = self.count
        if not count:
            return ()
        ring = self.ring
        owners, racks = ring.owners, ring.racks
        repeats = self._rack_repeats
        found: list[int] = []
        seen_racks: set[int] = set()
        seen: set[int] = set()
        size = len(owners)
        at = index
        for _ in range(size):
            owner = owners[at]
            at += 1
            if at == size:
                at = 0
            if owner in seen:
                continue
            seen.add(owner)
            rack = racks[owner]
            if rack in seen_racks:
                if repeats <= 0:
                    continue
                repeats -= 1
            else:
                seen_racks.add(rack)
            found.append(owner)
            if len(found) == count:
                break
        return tuple([self._hosts[number] for number in found])


class Topology:
    """The hosts of a cluster and the replicas of each token; immutable.

    Arguments:
        hosts: the hosts; if two have the same id the last is used.
        keyspaces: the replication options by keyspace, as in ``system_schema.keyspaces``.
        partitioner: the Java class. Replicas are known for Murmur3Partitioner only.

    Attributes:
        hosts: the hosts, by their id.
        keyspaces: as given.
        partitioner: as given.
        datacenters: the names of all datacenters, sorted.
    """

    __slots__ = (
        "_by_keyspace", "_numbered", "_placements", "_rings", "datacenters", "hosts", "keyspaces",
        "partitioner",
    )  # fmt: skip

    hosts: Mapping[UUID, Host]
    keyspaces: Mapping[str, Mapping[str, str]]

    def __init__(
        self,
        hosts: Iterable[Host],
        keyspaces: Mapping[str, Mapping[str, str]],
        partitioner: str = MURMUR3,
    ) -> None:
        by_id = {host.host_id: host for host in hosts}
        self.hosts = MappingProxyType(by_id)
        self.partitioner = partitioner
        self.datacenters = tuple(sorted({host.datacenter for host in by_id.values()}))
        self._numbered = tuple(by_id.values())
        self._rings: dict[str | None, Ring] = {}
        self._placements: dict[tuple[str | None, int, int], Placement] = {}
        self._set_keyspaces(keyspaces)

    def _set_keyspaces(self, keyspaces: Mapping[str, Mapping[str, str]]) -> None:
        self.keyspaces = MappingProxyType(dict(keyspaces))
        self._by_keyspace: dict[str, Mapping[str | None, Placement]] = {}

    def __repr__(self) -> str:
        return f"<Topology: {len(self.hosts)} hosts, {len(self.keyspaces)} keyspaces>"

    def with_keyspaces(self, changes: Mapping[str, Mapping[str, str] | None]) -> Topology:
        """Return a topology with the same hosts, rings and replicas, and other keyspaces.

        Arguments:
            changes: the replication options of keyspaces that are new or have changed, and None for
                those that were dropped.
        """
        changed = Topology.__new__(Topology)
        for name in ("hosts", "partitioner", "datacenters", "_numbered", "_rings", "_placements"):
            setattr(changed, name, getattr(self, name))
        merged = {**self.keyspaces, **changes}
        kept = {name: options for name, options in merged.items() if options is not None}
        changed._set_keyspaces(kept)
        if len(self._placements) > 1000:  # most are of keyspaces that were altered
            changed._placements = {}
        return changed

    @property
    def ring(self) -> Ring:
        """The ring of all hosts, whatever their datacenter."""
        return self._ring(None)

    def replicas(self, keyspace: str, token: int) -> tuple[Host, ...]:
        """Return the hosts that have a full replica of a partition.

        Arguments:
            keyspace: its keyspace.
            token: the partition's token.

        Returns:
            the primary replica, then the others of its datacenter in the order of the ring, then
            those of other datacenters. Empty if the keyspace or its replicas are unknown.
        """
        placements = self.placements(keyspace)
        if len(placements) == 1:
            (placement,) = placements.values()
            return placement.replicas(placement.ring.index(token))
        found = []
        for order, placement in enumerate(placements.values()):
            if placement.count:
                ring = placement.ring
                index = ring.index(token)
                # the distance from the token to the token of its first replica
                distance = (ring.tokens[index] - token) % (1 << 64)
                found.append((distance, order, placement.replicas(index)))
        found.sort()
        return tuple([host for _, _, replicas in found for host in replicas])

    def placements(self, keyspace: str) -> Mapping[str | None, Placement]:
        """Return the placements of a keyspace's replicas.

        Returns:
            a placement for each datacenter with replicas, by its name; or a single one of the whole
            ring, by None; or none if the keyspace or its replicas are unknown.
        """
        found = self._by_keyspace.get(keyspace)
        if found is None:
            options = self.keyspaces.get(keyspace)
            if options is None:
                return {}
            found = self._by_keyspace[keyspace] = self._place(options)
        return found

    def _place(self, options: Mapping[str, str]) -> Mapping[str | None, Placement]:
        if self.partitioner.rpartition(".")[2] != "Murmur3Partitioner":
            return {}
        strategy = options.get("class", "").rpartition(".")[2]
        if strategy == "NetworkTopologyStrategy":
            factors = {name: text for name, text in options.items() if name in self.datacenters}
            read = {name: _copies(text) for name, text in factors.items() if name != "class"}
            return {
                name: self._placement(name, *copies)
                for name, copies in read.items()
                if copies is not None
            }
        if strategy == "SimpleStrategy":
            copies = _copies(options.get("replication_factor", ""))
            return {None: self._placement(None, *copies)} if copies is not None else {}
        if strategy == "EverywhereStrategy":
            everyone = len(self._numbered)
            return {None: self._placement(None, everyone, everyone)}
        return {}

    def _placement(self, datacenter: str | None, copies: int, full: int) -> Placement:
        key = datacenter, copies, full
        found = self._placements.get(key)
        if found is None:
            ring = self._ring(datacenter)
            found = Placement(self._numbered, ring, copies, full, datacenter is not None)
            self._placements[key] = found
        return found

    def _ring(self, datacenter: str | None) -> Ring:
        ring = self._rings.get(datacenter)
        if ring is None:
            ring = self._rings[datacenter] = Ring(self._numbered, datacenter)
        return ring


def _copies(text: str) -> tuple[int, int] | None:
    """Parse a replication factor: ``3``, or ``3/1`` where one of the three is transient.

    Returns:
        the number of replicas and how many of them are full; None if it is invalid.
    """
    match = _FACTOR.fullmatch(text.strip())
    if match is None:
        return None
    copies = int(match[1])
    return copies, max(copies - int(match[2] or 0), 0)
