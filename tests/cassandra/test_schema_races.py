"""A table is altered repeatedly while it is read: no row is misread, and users see no error.

A driver can misread the rows of a prepared ``SELECT *``: if it decodes them by the columns that it
got when it prepared the statement, it reads a text as a number, or a column as its neighbour. Three
nodes learn of each change at different times, and each has prepared the statement by itself.
Sessions on v4 and v5, on asyncio and trio, read the same table, while another session adds columns,
writes them and drops them. Columns are sorted by name, so adding and dropping them moves the
others; some names are used again with another type.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from tests.cassandra.soak.faults import settled
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cassandra.conftest import Cluster

KEYS = 20
REPLICATION = "{'class': 'NetworkTopologyStrategy', 'dc1': 3}"
SELECT = "SELECT * FROM races.t WHERE k = ?"
INSERT = "INSERT INTO races.t (k, a, z) VALUES (?, ?, ?)"

# The value of a column of each type, for a key. No two types have the same bytes.
VALUES: dict[str, Callable[[int], Any]] = {
    "int": lambda k: 1000 + k,
    "text": lambda k: f"tëxt {k}",
    "list<int>": lambda k: [k, -k, 7],
    "ascii": lambda k: f"ascii {k}",
    "blob": lambda k: b"\x00\xff" * (k + 1),
    "map<text, int>": lambda k: {"one": k},
}
# The columns to add, in this order; a column of the same name is dropped first. The server accepts
# a name again only with a type for which all bytes of the old type are valid.
STEPS = (
    ("c", "int"), ("b", "text"), ("d", "list<int>"), ("e", "ascii"), ("b", "blob"), ("e", "text"),
    ("f", "map<text, int>"), ("e", "blob"),
)  # fmt: skip


def a_of(k: int) -> str:
    return f"a of {k}"


def z_of(k: int) -> list[int]:
    return [k] * 5


class Race:
    """The state that the threads share.

    Attributes:
        ended: set when the readers and writers are to end.
        written: the types of the added columns that are written, by name. A change replaces the
            dict, so that a reader can tell whether there was one.
        changes: how many changes were made.
        reads: how many rows were read, by session.
        hosts: how many replies came, by session and node.
        wrong: differences between rows read and rows written.
        errors: errors that a user of the session would see.
        seen: how many values of added columns were read, by type.
    """

    def __init__(self, hosts: list[str]) -> None:
        self.contact_points = hosts
        self.ended = threading.Event()
        self.written: dict[str, str] = {}
        self.changes = 0
        self.reads: Counter[str] = Counter()
        self.hosts: Counter[tuple[str, str]] = Counter()
        self.wrong: list[str] = []
        self.errors: list[str] = []
        self.seen: Counter[str] = Counter()

    def check(self, who: str, k: int, result: cql.Result[cql.Row], before: dict[str, str]) -> None:
        """Check the values of a row by the types of its columns, and that no column is missing.

        Arguments:
            who: the session.
            k: the key of the row.
            result: the result with the row.
            before: ``written`` before the request.
        """
        self.reads[who] += 1
        self.hosts[who, result.host] += 1
        row = result.one()
        types = dict(zip(result.columns, result.column_types, strict=True))
        found = row._asdict()
        expected: dict[str, object] = {"k": k, "a": a_of(k), "z": z_of(k)}
        for name, kind in types.items():
            if name not in expected:
                value = VALUES[kind](k)
                self.seen[kind] += found[name] is not None
                # a new column is null until it is written
                expected[name] = value if found[name] is not None else None
        if found != expected:
            self.wrong.append(f"{who}: {found}, not {expected}")
        for name, kind in before.items():
            # the column was written before the request, and nothing has changed since
            there = types.get(name) == kind and found[name] is not None
            if not there and before is self.written:
                self.wrong.append(f"{who}: {name} is missing in {found}, types {types}")

    def failed(self, who: str, error: Exception) -> None:
        attempts = [str(each) for each in getattr(error, "attempts", ())]
        self.errors.append(f"{who}: {type(error).__name__}: {error}, after {attempts}")


async def read(race: Race, who: str, session: cql.Session, number: int) -> None:
    """Read rows: by a prepared statement, by text with parameters, and by plain text."""
    prepared = await session.prepare(SELECT)
    turn = number
    while not race.ended.is_set():
        turn += 1
        k = turn % KEYS
        before = race.written
        try:
            match turn % 5:
                case 0:
                    result = await session.execute(f"SELECT * FROM races.t WHERE k = {k}")
                case 1 | 2:
                    result = await session.execute(prepared, (k,))
                case _:
                    result = await session.execute(SELECT, (k,))
        except cql.CQLError as error:
            race.failed(who, error)
        else:
            race.check(who, k, result, before)
        await anyio.sleep(0.03)


async def write(race: Race, who: str, session: cql.Session) -> None:
    """Write rows again with the same values."""
    turn = 0
    while not race.ended.is_set():
        turn += 1
        k = turn % KEYS
        try:
            await session.execute(INSERT, (k, a_of(k), z_of(k)), idempotent=True)
        except cql.CQLError as error:
            race.failed(who, error)
        await anyio.sleep(0.05)


async def readers(race: Race, backend: str) -> None:
    """Read and write with two sessions of each version, on one event loop."""
    async with contextlib.AsyncExitStack() as stack:
        sessions = [
            (
                f"{backend} {version.name} {number}",
                await stack.enter_async_context(
                    cql.connect(race.contact_points, config=cql.Config(protocol_version=version))
                ),
            )
            for version in (ProtocolVersion.V4, ProtocolVersion.V5)
            for number in range(2)
        ]
        async with anyio.create_task_group() as group:
            for who, session in sessions:
                group.start_soon(write, race, who, session)
                for number in range(3):
                    group.start_soon(read, race, who, session, number)


async def change(race: Race, session: cql.Session) -> None:
    """Add and drop columns; after each step, wait for some reads."""
    for name, kind in STEPS:
        if name in race.written or len(race.written) > 2:
            victim = name if name in race.written else next(iter(race.written))
            race.written = {key: race.written[key] for key in race.written if key != victim}
            await alter(race, session, f"DROP {victim}")
        await alter(race, session, f"ADD {name} {kind}")
        update = f"UPDATE races.t SET {name} = ? WHERE k = ?"
        for k in range(KEYS):
            await session.execute(update, (VALUES[kind](k), k), idempotent=True)
        race.written = {**race.written, name: kind}
        await read_on(race)


async def read_on(race: Race) -> None:
    """Wait until every session has read 12 more rows."""
    before = race.reads.copy()
    await until(lambda: all(race.reads[who] >= reads + 12 for who, reads in before.items()))


async def alter(race: Race, session: cql.Session, what: str) -> None:
    result = await session.execute(f"ALTER TABLE races.t {what}", timeout=60)
    assert result.schema_agreed is not False, what
    race.changes += 1


@pytest.fixture(scope="module")
def young_cluster(three_nodes: Cluster) -> Cluster:
    """Three nodes that have just started, and know little of one another.

    They have just started because this module is the first to use ``three_nodes`` (shared.py).
    """
    return three_nodes


@pytest.fixture(scope="module")
def cluster(young_cluster: Cluster) -> Cluster:
    return settled(young_cluster)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_agreement_holds_for_nodes_that_have_just_started(young_cluster: Cluster) -> None:
    """After an agreement, each node knows the new table.

    Each node is asked at consistency ONE, which it serves by itself, because nodes that have just
    started may still consider one another down.
    """
    hosts = [node.address for node in young_cluster.nodes]
    alone = cql.Config(discovery=False)
    async with cql.connect(hosts) as session, contextlib.AsyncExitStack() as stack:
        each = [await stack.enter_async_context(cql.connect(host, config=alone)) for host in hosts]
        await until(lambda: session.statistics().connections == len(hosts))
        for statement in (
            f"CREATE KEYSPACE young WITH replication = {REPLICATION}",
            *[f"CREATE TABLE young.t{number} (k int PRIMARY KEY)" for number in range(4)],
        ):
            result = await session.execute(statement, timeout=60)
            assert result.schema_agreed
            if "TABLE" in statement:
                table = statement.split()[2]
                for node in each:
                    rows = await node.execute(
                        f"SELECT k FROM {table}", consistency=cql.Consistency.ONE, timeout=60
                    )
                    assert len(rows) == 0


def _run(race: Race, backend: str) -> None:
    anyio.run(readers, race, backend, backend=backend)


@contextlib.contextmanager
def reading(race: Race) -> Iterator[None]:
    """Read on asyncio and on trio, each in a thread, while the body runs."""
    with ThreadPoolExecutor(2) as threads:
        loops = [threads.submit(_run, race, backend) for backend in ("asyncio", "trio")]
        try:
            yield
        finally:
            race.ended.set()
        for loop in loops:
            loop.result()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_table_that_changes_while_it_is_read(cluster: Cluster) -> None:
    race = Race([node.address for node in cluster.nodes])
    async with cql.connect(race.contact_points) as session:
        for statement in (
            f"CREATE KEYSPACE races WITH replication = {REPLICATION}",
            "CREATE TABLE races.t (k int PRIMARY KEY, a text, z list<int>)",
        ):
            assert (await session.execute(statement, timeout=60)).schema_agreed
        for k in range(KEYS):
            await session.execute(INSERT, (k, a_of(k), z_of(k)), idempotent=True)
        with reading(race):
            await until(lambda: len(race.reads) == 8)
            await change(race, session)
    assert race.wrong == []
    assert race.errors == []
    # the test did what it claims: every session has read from every node, and most types were read
    assert len(race.reads) == 8
    assert len(race.hosts) == 24
    assert race.changes > len(STEPS)
    assert len(race.seen) >= 5
