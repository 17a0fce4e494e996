"""The result of ``session.statistics()``: a snapshot of plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

__all__ = ["HostStatistics", "Statistics"]


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """The state of one host in a session.

    Attributes:
        host_id: its id in the cluster.
        address: its endpoint, as ``address:port``.
        datacenter: its data centre.
        rack: its rack.
        status: ``UP`` if a connection works, ``DOWN`` if it can't be reached, ``UNKNOWN`` if it was
            not tried yet, ``REMOVED`` if it has left the cluster, or this address, while requests
            are under way there.
        connections: how many connections serve requests.
        retiring: how many connections take no new requests and finish those under way.
        connecting: how many connections are being opened.
        in_flight: how many requests are under way.
        orphans: how many more requests were given up before their reply has arrived.
        waiting: how many requests wait for a free stream id.
        opened: how many connections were opened so far.
        lost: how many of them were lost or closed.
        failures: how many attempts to connect have failed since the last success.
        error: the last of these failures, or None.
    """

    host_id: UUID
    address: str
    datacenter: str
    rack: str
    status: str
    connections: int
    retiring: int
    connecting: int
    in_flight: int
    orphans: int
    waiting: int
    opened: int
    lost: int
    failures: int
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The state of a session at one moment.

    Attributes:
        hosts: all hosts that the session may use or has connections to.
        control: the node of the control connection, as ``address:port``, or None.
        prepared: how many prepared statements are cached.
        retries: how many times a request was sent again so far.
        speculative: how many times a request was sent to another host before the first one had
            answered.
    """

    hosts: tuple[HostStatistics, ...]
    control: str | None
    prepared: int
    retries: int
    speculative: int

    @property
    def connections(self) -> int:
        """How many connections serve requests."""
        return sum(host.connections for host in self.hosts)

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return sum(host.in_flight for host in self.hosts)

    @property
    def orphans(self) -> int:
        """How many requests were given up before their reply has arrived."""
        return sum(host.orphans for host in self.hosts)

    @property
    def waiting(self) -> int:
        """How many requests wait for a free stream id."""
        return sum(host.waiting for host in self.hosts)
