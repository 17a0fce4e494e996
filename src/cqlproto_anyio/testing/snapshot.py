"""What a session has under way, for tests that check that nothing is left behind.

Only this module reads a session's private attributes from outside, and these may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqlproto.enums import ProtocolVersion
from cqlproto_anyio._eventloop.timer import Alarm
from cqlproto_anyio._metadata.topology import Host

if TYPE_CHECKING:
    from cqlproto_anyio._eventloop.deadlines import Deadlines, Due
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.session import Session

__all__ = ["ConnectionSnapshot", "SessionSnapshot", "snapshot"]


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One connection.

    Attributes:
        host: the node, as ``address:port``.
        control: whether it is the control connection.
        version: the protocol version.
        in_flight: how many stream ids are in use.
        requests: how many requests, still awaited by someone, wait for their reply.
        orphans: how many stream ids belong to requests that were given up, until their reply comes.
        waiting: how many requests wait until the connection has room for them.
        unsent: how many bytes wait to be sent.
    """

    host: str
    control: bool
    version: ProtocolVersion
    in_flight: int
    requests: int
    orphans: int
    waiting: int
    unsent: int


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A session at one moment. The totals are over all connections, but for the control connection.

    Attributes:
        connections: all connections, including those that only finish their requests.
        hosts: the hosts of the cluster, with their tokens.
        local_dc: the local data centre, or None.
        deadlines: how many requests have a deadline.
        alarms: how many alarms calls have set: for the end of a pause, or for a second attempt.
            The session's own regular tasks are not counted.
        waiting_calls: how many calls wait for a connection to any host.
        pausing: how many calls wait before their next attempt.
        preparing: how many callers wait for each PREPARE that is under way.
        prepared: how many prepared statements are kept.
        known_statements: how many statements are known by their ids, in use by someone or not.
        schema_changes: how many schema changes the session has heard of.
        tablets: how many tablets are known.
        pools: how many hosts have connections, or requests under way; some may have left.
        draining: how many hosts have left while requests are under way.
        trackers: how many speculation policies have their latencies remembered.
        settings: how many profiles with options have their settings kept.
    """

    connections: tuple[ConnectionSnapshot, ...]
    hosts: tuple[Host, ...]
    local_dc: str | None
    deadlines: int
    alarms: int
    waiting_calls: int
    pausing: int
    preparing: tuple[int, ...]
    prepared: int
    known_statements: int
    schema_changes: int
    tablets: int
    pools: int
    draining: int
    trackers: int
    settings: int

    @property
    def in_flight(self) -> int:
        """How many stream ids are in use."""
        return sum(each.in_flight for each in self.connections if not each.control)

    @property
    def orphans(self) -> int:
        """How many stream ids belong to requests that were given up."""
        return sum(each.orphans for each in self.connections if not each.control)

    @property
    def waiting(self) -> int:
        """How many requests wait until their connection has room."""
        return sum(each.waiting for each in self.connections if not each.control)


def snapshot(session: Session) -> SessionSnapshot:
    """Return what a session has under way, in all detail; ``session.statistics()`` has less."""
    context = session._context
    cluster, preparer = context.cluster, context.preparer
    due = _due(context.timer.deadlines)
    alarms = [each for each in due if isinstance(each, Alarm)]
    regular = cluster._connections
    regular_alarms = (
        regular._queue_alarm,
        regular._sweep_alarm,
        regular._heartbeat_alarm,
        cluster._waiters._alarm,
    )
    connections = [_connection(each) for pool in cluster.pools.values() for each in pool.all]
    if cluster.control is not None and cluster.control._tables is not None:
        connections.append(_connection(cluster.control._tables.connection, control=True))
    return SessionSnapshot(
        connections=tuple(connections),
        hosts=tuple(cluster.topology.hosts.values()),
        local_dc=cluster.local_dc,
        deadlines=len(due) - len(alarms),
        alarms=sum(each not in regular_alarms for each in alarms),
        waiting_calls=sum(not each.done for each in cluster._waiters.waiting),
        pausing=len(context.supervisor._pausing),
        preparing=tuple([len(flight.waiters) for flight in preparer._flights.values()]),
        prepared=len(context.statements),
        known_statements=len(preparer._known),
        schema_changes=preparer.changes,
        tablets=len(cluster.selector.tablets),
        pools=len(cluster.all_pools),
        draining=len(cluster._hosts._draining),
        trackers=len(context.trackers),
        settings=len(session._settings),
    )


def _connection(connection: Connection, *, control: bool = False) -> ConnectionSnapshot:
    return ConnectionSnapshot(
        host=connection.name,
        control=control,
        version=connection.version,
        in_flight=connection.in_flight,
        requests=sum(not request.done for request in connection.requests.values()),
        orphans=connection.orphans,
        waiting=connection.waiting,
        unsent=connection._core.unsent,
    )


def _due(deadlines: Deadlines) -> list[Due]:
    due = [*deadlines._others]
    for queue in deadlines._by_timeout.values():
        due += queue
    return due
