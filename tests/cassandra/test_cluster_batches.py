"""A coordinator that is killed in mid-commit: units of work, views, and plain statements.

One of three nodes is paused, so that commits hang after their batch is in the batch log of another
node. Then their coordinator is killed. That other node carries the batches out.
"""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import OutcomeUnknown, RecordNotFound, Table, UnitOfWork, Views
from tests.cassandra.concurrently import all_of
from tests.cassandra.soak.faults import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.cassandra.conftest import Cluster, Node

# It waits for the batch log, which is replayed after twice the write timeout, and for a node.
pytestmark = pytest.mark.timeout(400)

KEYSPACE = "cluster_batches"
INSERT = f"INSERT INTO {KEYSPACE}.parts (unit, part) VALUES (?, ?)"
PARTS = 3
_WORKERS = 3  # of each kind, on each backend
_PATIENCE = 90.0

POSTS = Table("posts", key=["id"], columns={"id": "uuid", "author": "text", "tags": "set<text>"})
BY_AUTHOR = Table("posts_by_author", key=["author"], clustering=["id"])
BY_TAG = Table("posts_by_tag", key=["tag"], clustering=["id"], each={"tag": "tags"})


@dataclass
class Written:
    """The ids that writers have used.

    Attributes:
        begun: of all units.
        committed: of units whose commit has returned.
        unknown: of units whose commit has raised OutcomeUnknown.
        refused: of units that could not be sent.
        naive: of plain statements; the last one of each writer has failed halfway.
        posts: of rows with views.
        killed: set when the coordinator is dead.
    """

    begun: list[uuid.UUID] = field(default_factory=list)
    committed: list[uuid.UUID] = field(default_factory=list)
    unknown: list[uuid.UUID] = field(default_factory=list)
    refused: list[uuid.UUID] = field(default_factory=list)
    naive: list[uuid.UUID] = field(default_factory=list)
    posts: list[uuid.UUID] = field(default_factory=list)
    killed: threading.Event = field(default_factory=threading.Event)

    @property
    def pending(self) -> set[uuid.UUID]:
        """The ids of units whose commit is on its way."""
        return {*self.begun} - {*self.committed, *self.unknown, *self.refused}


def views_of(session: cql.Session) -> Views:
    return Views(session, keyspace=KEYSPACE, base=POSTS, views=[BY_AUTHOR, BY_TAG])


def at(node: Node) -> Any:
    """Open a session that has this node as its only coordinator."""
    config = cql.Config(discovery=False)
    profile = cql.Profile(timeout=_PATIENCE)
    return cql.connect(node.host, port=node.port, config=config, profile=profile)


async def commit_units(session: cql.Session, seen: Written) -> None:
    """Commit units until one fails because the coordinator has died."""
    while True:
        id = uuid.uuid4()
        seen.begun.append(id)
        try:
            async with UnitOfWork(session) as unit:
                for part in range(PARTS):
                    unit.add(INSERT, (id, part))
        except OutcomeUnknown:
            seen.unknown.append(id)
        except cql.CQLError as error:
            assert not error.maybe_applied
            seen.refused.append(id)
            return
        else:
            seen.committed.append(id)


async def write_plainly(session: cql.Session, seen: Written) -> None:
    """Write what belongs together by plain statements; the coordinator dies between two."""
    id = uuid.uuid4()
    seen.naive.append(id)
    await session.execute(INSERT, (id, 0), consistency="QUORUM")
    await anyio.to_thread.run_sync(seen.killed.wait)
    with pytest.raises(cql.CQLError):
        await session.execute(INSERT, (id, 1))


async def create_posts(session: cql.Session, seen: Written) -> None:
    """Create rows with views until the coordinator has died."""
    views = views_of(session)
    while not seen.killed.is_set():
        id = uuid.uuid4()
        seen.posts.append(id)
        try:
            await views.create({"id": id, "author": "ann", "tags": {"a", "b"}})
        except cql.CQLError:
            return


async def write(node: Node, seen: Written) -> None:
    works: list[Any] = [commit_units, create_posts] * _WORKERS + [write_plainly]
    async with at(node) as session:
        await all_of([partial(work, session, seen) for work in works])


async def batch_log(node: Node) -> int:
    """Return how many batches a node remembers for coordinators."""
    async with at(node) as session:
        return len(await session.execute("SELECT id FROM system.batches"))


async def complete(node: Node, units: Iterable[uuid.UUID]) -> dict[uuid.UUID, int]:
    """Return how many parts of each unit two of three replicas have."""
    select = f"SELECT part FROM {KEYSPACE}.parts WHERE unit = ? AND part IN (0, 1, 2)"
    async with at(node) as session:
        return {
            unit: len(await session.execute(select, (unit,), consistency="QUORUM"))
            for unit in units
        }


async def half_viewed(node: Node, posts: list[uuid.UUID]) -> tuple[list[uuid.UUID], Any]:
    """Return the posts that are in one view only, and what is wrong after a further edit."""
    async with at(node) as session:
        quorum = session.using(consistency="QUORUM")
        one = f"SELECT id FROM {KEYSPACE}.posts_by_author"
        other = f"SELECT id FROM {KEYSPACE}.posts_by_tag WHERE tag IN ('a', 'b')"
        by_author = (await quorum.execute(one)).scalars()
        by_tag = (await quorum.execute(other)).scalars()
        half = [id for id in posts if 2 * by_author.count(id) != by_tag.count(id)]
        views = views_of(quorum)
        for id in posts:
            try:
                await views.update(id, {"author": "bob"})
            except RecordNotFound:
                assert id not in by_author
        return half, (await views.verify()).differences


@pytest.fixture(scope="module")
def cluster(three_nodes: Cluster) -> Iterator[Cluster]:
    cluster = settled(three_nodes)
    node = cluster.nodes[0]
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    nothing: Any = None
    node.cql(
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}",
        f"CREATE TABLE {KEYSPACE}.parts (unit uuid, part int, PRIMARY KEY ((unit, part)))",
        *views_of(nothing).schema_cql(),
    )
    yield cluster
    node.cql(f"DROP KEYSPACE {KEYSPACE}")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.3)


def all_hang(seen: Written, witness: Node) -> bool:
    """Return whether the batches of all writers are in the log of one node, and none goes on."""
    before = seen.pending
    logged = anyio.run(batch_log, witness)
    time.sleep(0.3)
    return logged >= 2 * 2 * _WORKERS and seen.pending == before


def test_a_coordinator_is_killed_in_mid_commit(cluster: Cluster) -> None:
    witness, coordinator, paused = cluster.nodes
    seen = Written()
    with ThreadPoolExecutor(2) as threads:
        writing = [
            threads.submit(partial(anyio.run, write, coordinator, seen, backend=backend))
            for backend in ("asyncio", "trio")
        ]
        try:
            wait_for(lambda: len(seen.committed) >= 50 and len(seen.naive) == 2)
            paused.pause()
            try:
                wait_for(lambda: all_hang(seen, witness))
                pending = seen.pending
                before = anyio.run(complete, witness, pending)
            finally:
                coordinator.kill()
                seen.killed.set()
                paused.resume()
        finally:
            seen.killed.set()
    for each in writing:
        each.result()
    coordinator.up()
    wait_for(lambda: not anyio.run(batch_log, witness) + anyio.run(batch_log, paused))

    assert len(before) == 2 * _WORKERS
    assert set(before.values()) == {0}  # they were in the log only when their coordinator died
    assert pending <= {*seen.unknown}
    found = anyio.run(complete, witness, seen.begun)
    assert {found[each] for each in (*seen.committed, *pending)} == {PARTS}
    assert {found[each] for each in seen.unknown} <= {0, PARTS}
    assert {found[each] for each in seen.refused} == {0}
    assert set(anyio.run(complete, witness, seen.naive).values()) == {1}  # the first of two
    assert anyio.run(half_viewed, witness, seen.posts) == ([], ())
