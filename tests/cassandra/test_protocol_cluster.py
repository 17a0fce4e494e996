"""Protocol tests with several nodes: errors while nodes hang or join, and events of the cluster.

The cluster has two nodes at first. The second one announces an IPv6 address to clients, so that
events have one. It is paused while requests wait for it, until the first node considers it down.
Then a third node starts, joins, takes part in a race for one row, moves its token and leaves. All
requests that time out are in flight at the same time, in every version, because each takes seconds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cqlproto import BatchKind, Consistency, ErrorCode, ProtocolVersion
from cqlproto.messages import (
    READY,
    Batch,
    BatchStatement,
    Error,
    Register,
    Request,
    Rows,
    StatusChange,
    TopologyChange,
)
from tests.cassandra.core import CoreConnection, query
from tests.cassandra.kinds import provokes
from tests.cassandra.shared import ANNOUNCED
from tests.support.core_connections import V4, V5, versions

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.cassandra.conftest import Cluster, Node

# Starting a third node and waiting for the failure detector take long.
pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(300)]

ALL, ONE, QUORUM = Consistency.ALL, Consistency.ONE, Consistency.QUORUM
EVENTS = ["STATUS_CHANGE", "TOPOLOGY_CHANGE"]
READ = "SELECT * FROM two.t WHERE id = 1"
WRITE = "INSERT INTO two.t (id, v) VALUES (1, 1)"


class Hanging(NamedTuple):
    """A request that waits for a replica that hangs, and the error that it ends with.

    Attributes:
        request: the request.
        code: the code of the error.
        fields: the fields of the error, without the numbers of replicas.
    """

    request: Request
    code: ErrorCode
    fields: Mapping[str, object]


def timed_out_write(request: Request, write_type: str, level: Consistency = ALL) -> Hanging:
    fields = {"consistency": level, "write_type": write_type}
    return Hanging(request, ErrorCode.WRITE_TIMEOUT, fields)


def hanging(version: int) -> Mapping[str, Hanging]:
    """Return the requests of one version, on rows of its own, so that none waits for another."""
    first = 100 * version
    count = f"UPDATE two.counters SET v = v + 1 WHERE id = {first}"
    insert = "INSERT INTO two.t (id, v) VALUES ({}, 1)"
    several = [BatchStatement(insert.format(first + at)) for at in range(5)]
    conditional = f"{insert.format(first + 10)} IF NOT EXISTS"
    read = "SELECT * FROM two.t WHERE id = {}"
    serial = Consistency.SERIAL
    return {
        "read": Hanging(
            query(read.format(first + 20), consistency=ALL),
            ErrorCode.READ_TIMEOUT,
            {"consistency": ALL},
        ),
        "write": timed_out_write(query(insert.format(first + 30), consistency=ALL), "SIMPLE"),
        "counter": timed_out_write(query(count, consistency=ALL), "COUNTER"),
        "unlogged batch": timed_out_write(
            Batch(BatchKind.UNLOGGED, several, ALL), "UNLOGGED_BATCH"
        ),
        # The coordinator first writes the batch log, to both nodes.
        "logged batch": timed_out_write(
            Batch(BatchKind.LOGGED, several, ALL), "BATCH_LOG", Consistency.TWO
        ),
        "condition": timed_out_write(query(conditional, consistency=QUORUM), "CAS", serial),
        "serial read": Hanging(
            query(read.format(first + 40), consistency=serial),
            ErrorCode.READ_TIMEOUT,
            {"consistency": serial},
        ),
        "truncate": Hanging(query("TRUNCATE two.u"), ErrorCode.TRUNCATE_ERROR, {}),
    }


class Paused(NamedTuple):
    """What happened while the second node was paused, at each version.

    Attributes:
        hung: the answers to the requests of :func:`hanging`.
        down: the answers to a read, a write and a truncate after the node was considered down.
        events: DOWN, and UP after the node was resumed.
    """

    hung: dict[tuple[ProtocolVersion, str], Error]
    down: dict[ProtocolVersion, list[Error]]
    events: dict[ProtocolVersion, list[StatusChange]]


def agree(connection: CoreConnection, nodes: int) -> None:
    """Wait until all nodes have the same schema."""
    deadline = time.monotonic() + 60
    while True:
        local = connection.rows("SELECT schema_version FROM system.local")
        peers = connection.rows("SELECT schema_version FROM system.peers_v2")
        if len(peers) == nodes - 1 and set(local) == set(peers):
            return
        assert time.monotonic() < deadline, "the nodes do not agree on a schema"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(growing_cluster: Cluster) -> Cluster:
    made = growing_cluster
    with CoreConnection(made.nodes[0]) as connection:
        for name, factor in (("two", 2), ("three", 3)):
            replication = f"{{'class': 'NetworkTopologyStrategy', 'dc1': {factor}}}"
            connection.query(f"CREATE KEYSPACE {name} WITH replication = {replication}")
            connection.query(f"CREATE TABLE {name}.t (id int PRIMARY KEY, v int)")
        connection.query("CREATE TABLE two.u (id int PRIMARY KEY)")
        connection.query("CREATE TABLE two.counters (id int PRIMARY KEY, v counter)")
        agree(connection, 2)
        connection.query(WRITE, consistency=ALL)
    return made


@contextlib.contextmanager
def speaking(node: Node) -> Iterator[dict[ProtocolVersion, CoreConnection]]:
    """Yield a connection of each version."""
    with contextlib.ExitStack() as stack:
        yield {
            version: stack.enter_context(CoreConnection(node, version, "lz4"))
            for version in ProtocolVersion
        }


@contextlib.contextmanager
def watching(node: Node) -> Iterator[dict[ProtocolVersion, CoreConnection]]:
    """Yield a connection of each version that is registered for events about nodes."""
    with speaking(node) as connections:
        for connection in connections.values():
            assert connection.ask(Register(EVENTS)) is READY
        yield connections


def status(connection: CoreConnection, change: str) -> StatusChange:
    event = connection.wait_for(
        lambda event: isinstance(event, StatusChange) and event.change == change, 60
    )
    assert isinstance(event, StatusChange)
    return event


@pytest.fixture(scope="module")
def paused(cluster: Cluster) -> Paused:
    first, second, _ = cluster.nodes
    with speaking(first) as connections, watching(first) as watchers:
        second.pause()
        try:
            streams = {
                (version, name): connection.send(request)
                for version, connection in connections.items()
                for name, (request, _, _) in hanging(version).items()
            }
            hung = {key: connections[key[0]].reply(stream) for key, stream in streams.items()}
            events = {version: [status(watcher, "DOWN")] for version, watcher in watchers.items()}
            later = [query(text, consistency=ALL) for text in (READ, WRITE, "TRUNCATE two.u")]
            down = {
                version: [connection.refusal(request) for request in later]
                for version, connection in connections.items()
            }
        finally:
            second.resume()
        for version, watcher in watchers.items():
            events[version].append(status(watcher, "UP"))
    errors = {}
    for key, report in hung.items():
        assert isinstance(report.message, Error), (key, report)
        errors[key] = report.message
    return Paused(errors, down, events)


@provokes(ErrorCode.READ_TIMEOUT, ErrorCode.WRITE_TIMEOUT, ErrorCode.TRUNCATE_ERROR)
@versions
@pytest.mark.parametrize("name", hanging(0))
def test_a_replica_that_hangs(paused: Paused, version: ProtocolVersion, name: str) -> None:
    _, code, fixed = hanging(version)[name]
    error = paused.hung[version, name]
    assert error.code == code, error
    assert error.extra == b""
    fields = dict(error.fields)
    if code is not ErrorCode.TRUNCATE_ERROR:
        received, required = fields.pop("received"), fields.pop("required")
        if required == 1:  # the replica that hung was the counter's leader, which takes a lock
            assert name == "counter"
            assert received == 0
            assert fields.pop("consistency") == ONE
            fields["consistency"] = ALL
        else:
            assert received in (0, 1)
            assert required == 2
    if code is ErrorCode.READ_TIMEOUT:
        # Either replica may have been asked for the data, the other one for the digest.
        assert fields.pop("data_present") in (False, True)
    if version is V5 and name == "condition":
        assert fields.pop("contentions") == 0
    assert fields == fixed


@provokes(ErrorCode.UNAVAILABLE, ErrorCode.TRUNCATE_ERROR)
@versions
def test_a_replica_that_is_down(paused: Paused, version: ProtocolVersion) -> None:
    read, write, truncate = paused.down[version]
    for error in (read, write):
        assert error.code == ErrorCode.UNAVAILABLE
        assert error.fields == {"consistency": ALL, "required": 2, "alive": 1}
    assert truncate.code == ErrorCode.TRUNCATE_ERROR
    assert truncate.fields == {}


@versions
def test_events_of_a_node_that_hangs(
    paused: Paused, cluster: Cluster, version: ProtocolVersion
) -> None:
    port = cluster.options.port
    assert paused.events[version] == [
        StatusChange("DOWN", (IPv6Address(ANNOUNCED), port)),
        StatusChange("UP", (IPv6Address(ANNOUNCED), port)),
    ]


# -- a third node


class Joined(NamedTuple):
    """What was seen while the third node joined.

    Attributes:
        refused: its error for a read, by version.
        events: the first node's event about it, by version.
    """

    refused: dict[ProtocolVersion, Error]
    events: dict[ProtocolVersion, TopologyChange]


def told(connection: CoreConnection, change: str) -> TopologyChange:
    event = connection.wait_for(
        lambda event: isinstance(event, TopologyChange) and event.change == change, 60
    )
    assert isinstance(event, TopologyChange)
    return event


def finished(command: subprocess.Popen[str]) -> None:
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 0, output[-2000:]


@pytest.fixture(scope="module")
def joined(cluster: Cluster, paused: Paused) -> Joined:
    """Let the third node join, and send it requests before and while it joins."""
    first, _, third = cluster.nodes
    third.up("-Dcassandra.join_ring=false")
    refused: dict[ProtocolVersion, Error] = {}
    with watching(first) as watchers, speaking(third) as connections:
        agree(connections[V5], 3)
        joining = third.nodetool("join")
        while joining.poll() is None:
            for version, connection in connections.items():
                answer = connection.request(query(READ)).message
                if isinstance(answer, Error):
                    refused[version] = answer
            time.sleep(0.02)
        finished(joining)
        events = {version: told(watcher, "NEW_NODE") for version, watcher in watchers.items()}
    return Joined(refused, events)


@provokes(ErrorCode.IS_BOOTSTRAPPING)
@versions
def test_a_node_that_is_bootstrapping(joined: Joined, version: ProtocolVersion) -> None:
    error = joined.refused[version]
    assert error.code == ErrorCode.IS_BOOTSTRAPPING
    assert error.fields == {}


@versions
def test_events_of_a_node_that_joins(
    joined: Joined, cluster: Cluster, version: ProtocolVersion
) -> None:
    third = (IPv4Address("127.0.0.3"), cluster.options.port)
    assert joined.events[version] == TopologyChange("NEW_NODE", third)


@provokes(ErrorCode.CAS_WRITE_UNKNOWN, ErrorCode.WRITE_TIMEOUT)
@pytest.mark.parametrize("version", [V4, V5], ids=str)
def test_a_race_for_one_row(joined: Joined, cluster: Cluster, version: ProtocolVersion) -> None:
    """Three coordinators propose at the same time, until a minority accepts a proposal.

    v5 reports this as CAS_WRITE_UNKNOWN. Earlier versions report a write timeout, as for proposals
    that were never accepted.
    """
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(CoreConnection(node, version)) for node in cluster.nodes]
        text = "UPDATE three.t SET v = {} WHERE id = 1 IF v != -1"
        seen: dict[int, list[Error]] = {}
        wanted = {ErrorCode.WRITE_TIMEOUT} | (
            {ErrorCode.CAS_WRITE_UNKNOWN} if version is V5 else set()
        )
        deadline = time.monotonic() + 60
        # Each round has more proposals than the last, because a fast node serves a few in time.
        proposals = 0
        while not wanted <= set(seen):
            assert time.monotonic() < deadline, set(seen)
            proposals = min(proposals + 6, 60)
            streams = [
                (connection, connection.core.send(query(text.format(at), consistency=QUORUM)))
                for at in range(proposals)
                for connection in connections
            ]
            for connection in connections:
                connection.flush()
            for connection, stream in streams:
                answer = connection.reply(stream).message
                if isinstance(answer, Error):
                    seen.setdefault(answer.code, []).append(answer)
                else:
                    assert isinstance(answer, Rows)
    for error in seen.get(ErrorCode.CAS_WRITE_UNKNOWN, ()):
        assert error.fields == {"consistency": Consistency.SERIAL, "received": 1, "required": 2}
    raced = [
        error.fields
        for error in seen[ErrorCode.WRITE_TIMEOUT]
        if error.fields["write_type"] == "CAS"
    ]
    assert raced
    for fields in raced:
        assert ("contentions" in fields) == (version is V5)


def test_events_of_a_node_that_moves_and_leaves(joined: Joined, cluster: Cluster) -> None:
    first, _, third = cluster.nodes
    address = (IPv4Address("127.0.0.3"), cluster.options.port)
    with watching(first) as watchers:
        finished(third.nodetool("move", "1234567"))
        for watcher in watchers.values():
            assert told(watcher, "MOVED_NODE") == TopologyChange("MOVED_NODE", address)
        finished(third.nodetool("decommission", "--force"))
        for watcher in watchers.values():
            assert told(watcher, "REMOVED_NODE") == TopologyChange("REMOVED_NODE", address)
