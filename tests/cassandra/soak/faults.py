"""The faults that are injected into a cluster under load.

Each fault waits for its effect, such as a number of successful requests, and avoids fixed times.
``quick`` makes each fault as short as possible.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread

import cqlproto_anyio as cql
from cqlproto_anyio.testing import (
    Answer,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Fault,
    Garbage,
    ProxiedCluster,
    Rule,
)
from tests.cassandra.java import LauncherError
from tests.cassandra.launcher import START_SECONDS, Cluster, Node
from tests.cassandra.soak.crew import Crew, Running
from tests.cassandra.soak.terms import IDEMPOTENT, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FAULTS", "QUICK", "Scene", "settled"]

# The coordinator of a logged batch writes the batch log to two other nodes. In a cluster of three
# these are both others, so batches fail until the coordinator considers the lost node down.
BATCH_LOG = ("batch WriteTimeout", "batch RequestTimeout")
# A low load, because a node that starts needs both cores. Without counters, because a node that is
# killed loses the last tenth of a second of its commit log: other replicas have the rows, but not
# this node's shard of a counter.
GENTLE = (Group(kinds=(*IDEMPOTENT, "once", "lwt"), pause=0.1, excused=BATCH_LOG),)
# How many connections to break: the session waits longer after each loss of a new connection.
_LOSSES = 8
REQUESTS = ("QUERY", "PREPARE", "EXECUTE", "BATCH")


def settled(cluster: Cluster) -> Cluster:
    """Wait until the `system.peers_v2` of each node has all others.

    Nodes that start together serve clients before that.
    """
    for node in cluster.nodes:
        anyio.run(_heard_of, node, len(cluster.nodes) - 1)
    return cluster


async def _heard_of(node: Node, count: int) -> None:
    """Wait until a node lists `count` others with their schema versions."""
    deadline = anyio.current_time() + START_SECONDS
    config = cql.Config(discovery=False)
    async with cql.connect(node.host, port=node.port, config=config) as session:
        while True:
            rows = await session.execute("SELECT host_id, schema_version FROM system.peers_v2")
            if sum(None not in row for row in rows) >= count:
                return
            if anyio.current_time() > deadline:
                raise LauncherError(f"{node.address} does not hear of the others: {list(rows)}")
            await anyio.sleep(0.1)


@dataclass
class Scene:
    """The arguments of a fault.

    Attributes:
        cluster: the nodes.
        crew: the processes under load.
        quick: whether to make the fault as short as possible.
    """

    cluster: Cluster
    crew: Crew
    quick: bool = False

    def amount(self, much: float, little: float) -> float:
        """Return `little` if the run is quick, otherwise `much`."""
        return little if self.quick else much

    def some(self) -> int:
        """Return how many requests to wait for before and after a fault."""
        return int(self.amount(600, 100))


def nothing(scene: Scene) -> None:
    """No fault, for comparison."""
    with scene.crew.phase("nothing") as running:
        running.go_on(2 * scene.some())


def killed(scene: Scene) -> None:
    """A node is killed with SIGKILL, and started again after some requests."""
    node = scene.cluster.nodes[1]
    with scene.crew.phase("kill -9", groups=GENTLE) as running:
        node.kill()
        running.go_on(scene.some())
        node.up()
        running.returned(node.address)
        running.go_on(scene.some())


def paused(scene: Scene) -> None:
    """A node hangs: its sockets stay open, and it sends nothing."""
    node = scene.cluster.nodes[2]
    groups = (
        # these requests are also sent to another node, so none is late
        Group("speculative", workers=8, kinds=IDEMPOTENT, speculation=0.2, excused=BATCH_LOG),
        # these are not, so they may run into their timeout
        Group("hasty", workers=4, timeout=1.0, excused=("RequestTimeout", *BATCH_LOG)),
    )
    with scene.crew.phase("SIGSTOP", groups=groups) as running:
        before = [each["speculative"] for each in running.status()]
        node.pause()
        try:
            running.go_on(scene.some(), seconds=scene.amount(20, 6))
            running.until(
                lambda all_: all(
                    each["speculative"] > least for each, least in zip(all_, before, strict=True)
                ),
                "speculative requests",
            )
        finally:
            node.resume()
        running.returned(node.address)
        running.go_on(scene.some())


def rolling(scene: Scene) -> None:
    """All nodes are restarted, one after another."""
    with scene.crew.phase("rolling restart", groups=GENTLE) as running:
        for number, node in enumerate(scene.cluster.nodes):
            if scene.quick and number == 0:
                node.kill()
            else:
                node.stop()
            running.go_on(50)
            node.up()
            running.returned(node.address)
            running.go_on(50)


def altered(scene: Scene) -> None:
    """The schema changes repeatedly: types, tables and columns come and go."""
    with scene.crew.phase("schema changes") as running:
        for turn in range(int(scene.amount(4, 1))):
            running.change(
                f"CREATE TYPE soak.pair_{turn} (a int, b text)",
                f"CREATE TABLE soak.made_{turn} (k int PRIMARY KEY, p frozen<pair_{turn}>)",
                f"ALTER TABLE soak.facts ADD extra_{turn} list<text>",
            )
            running.go_on(20)
            running.change(
                f"ALTER TABLE soak.facts DROP extra_{turn}",
                f"DROP TABLE soak.made_{turn}",
                f"DROP TYPE soak.pair_{turn}",
            )
            running.go_on(20)


def full(scene: Scene) -> None:
    """More requests are made than connections have stream ids for, while a node hangs."""
    node = scene.cluster.nodes[0]
    groups = (
        Group(
            "many",
            workers=120,
            kinds=IDEMPOTENT,
            speculation=0.5,
            timeout=30.0,
            pause=0.05,
            excused=BATCH_LOG,
        ),
        Group("hasty", workers=40, timeout=2.0, pause=0.1, excused=("RequestTimeout", *BATCH_LOG)),
    )
    config = {
        "max_in_flight": 8, "max_orphans": 4,
        "connections_per_host": 2, "max_connections_per_host": 2,
    }  # fmt: skip
    with scene.crew.phase("full connections", groups=groups, config=config) as running:
        running.go_on(scene.some())
        node.pause()
        try:
            running.go_on(scene.some(), seconds=scene.amount(15, 4))
        finally:
            node.resume()
        running.returned(node.address)
        running.go_on(scene.some())


@contextmanager
def _proxied(scene: Scene) -> Iterator[tuple[ProxiedCluster, anyio.from_thread.BlockingPortal]]:
    with anyio.from_thread.start_blocking_portal("asyncio") as portal:
        proxies = ProxiedCluster([node.address for node in scene.cluster.nodes], seed=1)
        with portal.wrap_async_context_manager(proxies):
            yield proxies, portal


def _behind(
    scene: Scene,
    name: str,
    harm: Callable[[int], Fault],
    *,
    probability: float,
    groups: tuple[Group, ...] = (Group(),),
    config: dict[str, object] | None = None,
    unanswered: int = 0,
    hits: int = 60,
) -> None:
    """Inject a fault into some requests or replies of each node, one node after the other.

    Arguments:
        scene: the cluster and the processes.
        name: the name of the phase.
        harm: returns the fault for the n-th node.
        probability: the share of frames that the fault hits.
        groups: the load.
        config: fields of ``Config`` that differ from the usual ones.
        unanswered: how many replies may never come.
        hits: how often the fault must hit at each node.
    """
    with _proxied(scene) as (proxies, portal):
        nodes = [str(proxy.node) for proxy in proxies.proxies]
        with scene.crew.phase(
            name,
            groups=groups,
            config=config or {},
            unanswered=unanswered,
            contact_points=tuple(proxies.contact_points),
            translation=dict(zip(nodes, proxies.contact_points, strict=True)),
        ) as running:
            for number in range(3):
                rule = Rule(
                    harm(number),
                    opcode=REQUESTS,
                    probability=probability,
                    when=_is_of_load,
                )
                portal.call(proxies[number].add, rule)
                _until_hits(running, rule, int(scene.amount(hits, 3)))
                portal.call(proxies[number].remove, rule)
                running.returned(proxies.contact_points[number])


def _is_of_load(passage: object) -> bool:
    """Whether a frame belongs to the load, rather than to the discovery of nodes."""
    statements = getattr(passage, "statements", ())
    return any("soak." in each for each in statements)


def _until_hits(running: Running, rule: Rule, hits: int) -> None:
    running.until(lambda _: rule.hits >= hits, f"{hits} hits of {rule!r}")
    running.go_on(50)


def cut(scene: Scene) -> None:
    """Connections are closed or reset within a reply."""
    _behind(
        scene,
        "cut in a frame",
        lambda number: Cut(reset=bool(number % 2)),
        probability=0.05,
        hits=_LOSSES,
    )


def garbled(scene: Scene) -> None:
    """A node sends bytes that aren't CQL, or a wrong checksum."""
    _behind(
        scene,
        "garbage",
        lambda number: (Garbage(), Garbage(300), Corrupt())[number],
        probability=0.05,
        hits=_LOSSES,
    )


def slow(scene: Scene) -> None:
    """A node answers slowly."""
    groups = (
        Group("speculative", workers=8, kinds=IDEMPOTENT, speculation=0.1),
        Group("patient", workers=4),
    )
    _behind(scene, "slow node", lambda _: Delay(0.5, jitter=0.5), probability=0.8, groups=groups)


def silent(scene: Scene) -> None:
    """Replies are lost, so that their stream ids stay in use."""
    groups = (
        Group("speculative", workers=8, kinds=IDEMPOTENT, speculation=0.1),
        Group("hasty", workers=4, timeout=1.0, excused=("RequestTimeout", *BATCH_LOG)),
    )
    _behind(
        scene,
        "lost replies",
        lambda _: Drop(),
        probability=0.3,
        groups=groups,
        config={"max_orphans": 5},
        unanswered=15,
    )


def overloaded(scene: Scene) -> None:
    """A node answers with OVERLOADED."""
    _behind(scene, "OVERLOADED", lambda _: Answer("OVERLOADED"), probability=0.7)


def spoiled(scene: Scene) -> None:
    """Short form of `cut`, `garbled` and `overloaded`: one at each node."""
    harm = (Cut(), Garbage(), Answer("OVERLOADED"))
    _behind(scene, "spoiled replies", lambda number: harm[number], probability=0.1)


def late(scene: Scene) -> None:
    """Short form of `slow`, `silent` and corrupted bytes: one at each node."""
    groups = (
        Group("speculative", workers=6, kinds=IDEMPOTENT, speculation=0.1),
        Group("hasty", workers=4, timeout=1.0, excused=("RequestTimeout",)),
    )
    harm = (Delay(0.3, jitter=0.3), Drop(), Corrupt())
    _behind(
        scene, "late replies", lambda number: harm[number], probability=0.1, groups=groups,
        config={"max_orphans": 5}, unanswered=15,
    )  # fmt: skip


# Faults that restart nodes come last, because the nodes are slow for a while afterwards.
QUICK = (spoiled, late, altered, paused, full, rolling)
FAULTS = (
    nothing, cut, garbled, slow, silent, overloaded, altered, killed, paused, full, rolling,
)  # fmt: skip
