"""The cluster as one immutable value: its hosts, their tokens, and who holds what.

A :class:`Topology` is made anew when hosts change and shares what it can when only keyspaces do.
Making one sorts nothing: a ring is sorted once, when the first replicas are wanted, and replicas
are found per range of tokens, when the first token in it comes. That matters: 1,000 hosts of 256
tokens have 256,000 ranges, of which a program may touch few.

Replicas are placed as Cassandra places them, from the token upwards:

SimpleStrategy            the next hosts of the whole ring
NetworkTopologyStrategy   for each datacenter on its own the next hosts of its ring, one of each
                          rack first: a host of a rack that has one already counts only as far as
                          there are fewer racks than replicas
EverywhereStrategy        all hosts

So a :class:`Placement` is known by a ring (a datacenter's, or the whole) and how many replicas,
whatever keyspaces share it. Of transient replication (``3/1``) the full replicas are returned: they
come first. LocalStrategy has no replicas that a client could choose, and strategies that aren't
known have none that it could know.

A ring is two parallel sequences, of tokens and of small numbers of hosts, which are compared faster
than hosts. A token's range is found by its highest bits, which name a bucket, and by searching what
is in that: tokens are spread evenly, so that is one or two, where a search of the whole ring would
wait for memory at most of its eighteen steps.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    # What configures a session builds upon this module.
    from cqlproto_anyio.endpoint import Endpoint  # noqa: TC004  # a dataclass reads no annotations

__all__ = ["MURMUR3", "Host", "Placement", "Ring", "Topology"]

MURMUR3 = "org.apache.cassandra.dht.Murmur3Partitioner"

# How many references to hosts one placement keeps: 100,000 ranges of 3 replicas take some 10 MB.
_KEPT = 500_000
# What a kept range costs besides its replicas, in references.
_COST = 2

_FACTOR = re.compile(r"([0-9]{1,9})(?:/([0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class Host:
    """A node of the cluster, as another node or itself describes it.

    Attributes:
        host_id: what it is known by, whatever its address.
        endpoint: where to connect to it.
        datacenter: its datacenter.
        rack: its rack.
        tokens: the ends of the ranges that it is the first replica of; empty for a node that holds
            no data, or whose partitioner's tokens aren't integers.
        release_version: of its software, such as "5.0.5".
        schema_version: the schema that it last said it has.
    """

    host_id: UUID
    endpoint: Endpoint
    datacenter: str
    rack: str
    tokens: tuple[int, ...] = ()
    release_version: str = ""
    schema_version: UUID | None = None

    def __hash__(self) -> int:
        """Hash the id alone: hosts have many tokens."""
        return hash(self.host_id)


class Ring:
    """Tokens in order and who has them, of one datacenter or of all.

    A token's range is ``bisect_left(tokens, token, starts[b], starts[b + 1])`` where ``b`` is
    ``(token >> shift) + half``: the first whose end isn't below the token. Past the last one it's
    the first again.

    Arguments:
        hosts: all hosts of the cluster.
        datacenter: whose hosts' tokens count, or None for all.

    Attributes:
        tokens: the ends of the ranges, in ascending order.
        starts: where in ``tokens`` each bucket begins, and where the last one ends.
        shift: by how many bits a token is longer than the number of a bucket.
        half: half the number of buckets.
        owners: the numbers of their hosts, in parallel.
        racks: the number of each host's rack, by the host's number.
        size: how many hosts have tokens.
        rack_count: how many racks these are in.
    """

    __slots__ = (
        "half", "owners", "rack_count", "racks", "shift", "size", "starts", "tokens",
    )  # fmt: skip

    def __init__(self, hosts: tuple[Host, ...], datacenter: str | None) -> None:
        owner_of: dict[int, int] = {}
        numbers: dict[str, int] = {}
        self.racks: list[int] = []
        for number, host in enumerate(hosts):
            # By name alone: racks count only in the ring of one datacenter.
            self.racks.append(numbers.setdefault(host.rack, len(numbers)))
            if datacenter is None or host.datacenter == datacenter:
                # A token that two hosts claim is that of the later one.
                owner_of.update(dict.fromkeys(host.tokens, number))
        # A token beyond 64 bits is none of Murmur3's.
        tokens = sorted([token for token in owner_of if -(1 << 63) <= token < 1 << 63])
        self.owners: list[int] = [owner_of[token] for token in tokens]
        bits = len(tokens).bit_length()
        self.shift = shift = 64 - bits
        self.half = half = 1 << bits >> 1
        sizes = [0] * (1 << bits)
        for token in tokens:
            sizes[(token >> shift) + half] += 1
        # Arrays: what a search looks at lies together.
        self.starts = array("I", accumulate(sizes, initial=0))
        self.tokens = array("q", tokens)
        members = set(self.owners)
        self.size = len(members)
        self.rack_count = len({self.racks[number] for number in members})

    def index(self, token: int) -> int:
        """Return the number of the range that a token is in; 0 if there are no tokens."""
        bucket = (token >> self.shift) + self.half
        index = bisect_left(self.tokens, token, self.starts[bucket], self.starts[bucket + 1])
        return index if index < len(self.tokens) else 0


class Placement:
    """The replicas of one ring, found range by range.

    Arguments:
        hosts: all hosts of the cluster, by number.
        ring: whose tokens count.
        copies: how many replicas there are of each range, transient ones included.
        full: how many of them are full replicas.
        by_rack: whether racks count.

    Attributes:
        ring: as given.
        count: how many replicas each range has.
        everywhere: whether every host that has tokens in this ring is a replica of every range.
    """

    __slots__ = (
        "_hosts", "_kept", "_rack_repeats", "_room", "count", "everywhere", "ring",
    )  # fmt: skip

    def __init__(
        self, hosts: tuple[Host, ...], ring: Ring, copies: int, full: int, by_rack: bool
    ) -> None:
        self._hosts = hosts
        self.ring = ring
        self._rack_repeats = copies - ring.rack_count if by_rack else copies
        self._kept: dict[int, tuple[Host, ...]] = {}
        self._room = _KEPT
        self.count = min(full, ring.size)
        self.everywhere = self.count == ring.size

    def replicas(self, index: int) -> tuple[Host, ...]:
        """Return the replicas of a range, in the order of the ring.

        Arguments:
            index: the number of the range, from 0.
        """
        found = self._kept.get(index)
        if found is None:
            found = self._find(index)
            self._room -= len(found) + _COST
            if self._room < 0:
                self._kept.clear()
                self._room = _KEPT
            self._kept[index] = found
        return found

    def _find(self, index: int) -> tuple[Host, ...]:
        count = self.count
        if not count:
            return ()
        ring = self.ring
        owners, racks = ring.owners, ring.racks
        repeats = self._rack_repeats
        found: list[int] = []
        seen_racks: set[int] = set()
        met: set[int] = set()
        size = len(owners)
        at = index
        # Every host that has tokens is met on the way round, so it ends; those passed over are for
        # lack of room: as many racks as copies are still to come.
        for _ in range(size):
            owner = owners[at]
            at += 1
            if at == size:
                at = 0
            if owner in met:
                continue
            met.add(owner)
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
        hosts: the hosts; of two with one id the last counts.
        keyspaces: their names and replication options, as ``system_schema.keyspaces`` has them.
        partitioner: the Java class. With another than Murmur3Partitioner no replicas are known.

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
        self._take(keyspaces)

    def _take(self, keyspaces: Mapping[str, Mapping[str, str]]) -> None:
        self.keyspaces = MappingProxyType(dict(keyspaces))
        self._by_keyspace: dict[str, Mapping[str | None, Placement]] = {}

    def __repr__(self) -> str:
        return f"<Topology: {len(self.hosts)} hosts, {len(self.keyspaces)} keyspaces>"

    def with_keyspaces(self, changes: Mapping[str, Mapping[str, str] | None]) -> Topology:
        """Return the same hosts with other keyspaces; rings and known replicas are shared.

        Arguments:
            changes: the replication options of keyspaces that are new or have changed, None for
                those that are gone.
        """
        changed = Topology.__new__(Topology)
        for name in ("hosts", "partitioner", "datacenters", "_numbered", "_rings", "_placements"):
            setattr(changed, name, getattr(self, name))
        merged = {**self.keyspaces, **changes}
        changed._take({name: options for name, options in merged.items() if options is not None})
        if len(self._placements) > 1000:  # what nobody asks for any more
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
            the primary replica first, then the others of its datacenter, in the order of the ring,
            then those of other datacenters. Empty if the keyspace isn't known or its replicas
            can't be.
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
                # How far up the ring the range ends, which is where its first replica's token is.
                distance = (ring.tokens[index] - token) % (1 << 64)
                found.append((distance, order, placement.replicas(index)))
        found.sort()
        return tuple([host for _, _, replicas in found for host in replicas])

    def placements(self, keyspace: str) -> Mapping[str | None, Placement]:
        """Return where the replicas of a keyspace are.

        Returns:
            one placement for each datacenter that has replicas, by its name; or a single one, by
            None, of the whole ring; or none, if the keyspace isn't known or its replicas can't be.
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
    """Read a replication factor: ``3``, or ``3/1``, of which one is transient.

    Returns:
        how many replicas there are and how many of them are full, or None.
    """
    match = _FACTOR.fullmatch(text.strip())
    if match is None:
        return None
    copies = int(match[1])
    return copies, max(copies - int(match[2] or 0), 0)
