"""The event store on a real node: races, faults, and the naive store that loses events."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    ConcurrencyError,
    DuplicateEvent,
    Event,
    EventStore,
    NewEvent,
    OutcomeUnknown,
)
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process
from tests.support.histories import dense, none_lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

SMALL = 5  # events of a partition, for tests of many partitions


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    for statement in EventStore.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(
        f"CREATE TABLE {keyspace}.naive (stream text, version int, id uuid,"
        " PRIMARY KEY (stream, version))"
    )


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def fresh() -> str:
    return uuid.uuid4().hex


def events(count: int, type: str = "happened") -> list[NewEvent]:
    return [NewEvent(type, number) for number in range(count)]


async def stored(
    session: cql.Session, keyspace: str, stream: str, size: int = 10_000
) -> list[Event]:
    store = EventStore(session, keyspace=keyspace, partition_size=size)
    found = [event async for event in store.read(stream)]
    assert dense([event.version for event in found]) == []
    assert await store.version(stream) == len(found)
    return found


async def write(
    session: cql.Session, keyspace: str, stream: str, times: int, count: int = 1, size: int = 10_000
) -> dict[str, int]:
    """Append several times, as one writer; return the version of each event by its id."""
    store = EventStore(session, keyspace=keyspace, partition_size=size)
    acknowledged = {}
    for _ in range(times):
        appended = events(count)
        last = await store.append(stream, appended)
        for version, event in enumerate(appended, last - count + 1):
            acknowledged[str(event.id)] = version
    return acknowledged


async def write_with_five(
    session: cql.Session, keyspace: str, stream: str, *more: int
) -> dict[str, int]:
    """Append with five writers: the second process of a race."""
    writers: list[Any] = [partial(write, session, keyspace, stream, *more)] * 5
    return {id: version for found in await all_of(writers) for id, version in found.items()}


@pytest.mark.parametrize(
    ("times", "count", "size"), [(2, 1, 10_000), (1, 3, SMALL)], ids=["one", "many partitions"]
)
async def test_writers_and_a_second_process(
    session: cql.Session, cassandra: Node, keyspace: str, times: int, count: int, size: int
) -> None:
    """Versions are 1 to N, and every event that was acknowledged is there, where it was told."""
    stream = fresh()
    more = (stream, times, count, size)
    writers: list[Any] = [partial(write, session, keyspace, *more)] * 15
    other = partial(in_other_process, write_with_five, cassandra, keyspace, *more)
    acknowledged: dict[str, int] = {}
    for told in await all_of([*writers, other]):
        acknowledged |= told
    found = await stored(session, keyspace, stream, size)
    assert len(found) == len(acknowledged) == 20 * times * count
    assert none_lost(acknowledged, {str(event.id): event.version for event in found}) == []


async def test_the_naive_store_loses_events(session: cql.Session) -> None:
    """Read the highest version, then insert the next one: writers overwrite each other."""
    stream = fresh()

    async def append() -> tuple[str, int]:
        read = "SELECT MAX(version) FROM naive WHERE stream = ?"
        version = ((await session.execute(read, (stream,))).scalar() or 0) + 1
        id = uuid.uuid4()
        insert = "INSERT INTO naive (stream, version, id) VALUES (?, ?, ?)"
        await session.execute(insert, (stream, version, id))
        return str(id), version

    acknowledged = dict(await all_of([append] * 20))
    rows = (await session.execute("SELECT id, version FROM naive WHERE stream = ?", (stream,))).rows
    assert len(acknowledged) == 20
    assert none_lost(acknowledged, {str(id): version for id, version in rows}) != []


async def test_of_two_that_expect_the_same_version_one_wins(
    session: cql.Session, keyspace: str
) -> None:
    stream = fresh()

    async def append(store: EventStore) -> int | ConcurrencyError:
        try:
            return await store.append(stream, events(2), expected_version=0)
        except ConcurrencyError as error:
            return error

    stores = [EventStore(session, keyspace=keyspace) for _ in range(10)]
    outcomes = await all_of([*(partial(append, store) for store in stores)])
    assert outcomes.count(2) == 1
    errors = [each for each in outcomes if isinstance(each, ConcurrencyError)]
    assert len(errors) == 9
    assert {(each.stream, each.expected, each.actual) for each in errors} == {(stream, 0, 2)}
    assert len(await stored(session, keyspace, stream)) == 2


@pytest.mark.parametrize("expected", [3, None])
@pytest.mark.parametrize(
    "fault", ["the reply is lost", "WriteTimeout after it was applied", "the request is lost"]
)
async def test_a_lost_acknowledgement_is_settled(
    cassandra: Node, keyspace: str, fault: str, expected: int | None
) -> None:
    stream = fresh()
    async with faulty(cassandra, keyspace, [None, fault]) as session:
        store = EventStore(session, keyspace=keyspace)
        await store.append(stream, events(3), expected_version=0)
        assert await store.append(stream, events(2), expected_version=expected) == 5
        assert len(await stored(session, keyspace, stream)) == 5


@pytest.mark.parametrize("fault", ["the reply is swallowed", "the request is late"])
async def test_an_append_that_is_retried_gives_one_event(
    session: cql.Session, cassandra: Node, keyspace: str, fault: str
) -> None:
    more = (session, cassandra, keyspace, fault)
    await all_of([partial(give_up_and_retry, *more, expected) for expected in (0, None)])


async def give_up_and_retry(
    session: cql.Session, cassandra: Node, keyspace: str, fault: str, expected: int | None
) -> None:
    """Append, give up, and append the same events again, in another session."""
    stream, mine = fresh(), events(2)
    async with faulty(cassandra, keyspace, [fault]) as shaky:
        with anyio.move_on_after(0.5) as gave_up:
            await EventStore(shaky, keyspace=keyspace).append(
                stream, mine, expected_version=expected
            )
        assert gave_up.cancelled_caught
        store = EventStore(session, keyspace=keyspace)
        assert await store.append(stream, mine, expected_version=expected) == 2
        assert await store.append(stream, events(1)) == 3
        assert await store.append(stream, mine, expected_version=expected) == 2
        if fault == "the request is late":
            await anyio.sleep(1.2)  # it has arrived by now
    found = await stored(session, keyspace, stream)
    assert [event.id for event in found[:2]] == [event.id for event in mine]
    assert len(found) == 3


async def test_an_event_is_known_in_the_next_partition_too(
    session: cql.Session, keyspace: str
) -> None:
    store = EventStore(session, keyspace=keyspace, partition_size=SMALL)
    stream, mine = fresh(), events(2)
    assert await store.append(stream, mine) == 2
    assert await store.append(stream, events(SMALL)) == 2 + SMALL
    again = EventStore(session, keyspace=keyspace, partition_size=SMALL)
    assert await again.append(stream, mine) == 2
    with pytest.raises(DuplicateEvent) as info:
        await again.append(stream, [*events(1), mine[1]])
    assert info.value.ids == (mine[1].id,)
    assert len(await stored(session, keyspace, stream, SMALL)) == 2 + SMALL


async def test_a_failed_append_of_many_leaves_none(session: cql.Session, keyspace: str) -> None:
    stream = fresh()
    store = EventStore(session, keyspace=keyspace)
    await store.append(stream, events(1))
    with pytest.raises(ConcurrencyError):
        await store.append(stream, events(50), expected_version=0)
    with pytest.raises(DuplicateEvent):
        last = [event async for event in store.read(stream)][-1]
        await store.append(stream, [*events(50), NewEvent("again", id=last.id)])
    assert len(await stored(session, keyspace, stream)) == 1


async def test_a_cancelled_append_of_many_leaves_all_or_none(
    session: cql.Session, keyspace: str
) -> None:
    store = EventStore(session, keyspace=keyspace)
    seen = set()
    for delay in (0.0, 0.001, 0.002, 0.004, 0.008, 0.016):
        stream = fresh()
        with anyio.move_on_after(delay):
            await store.append(stream, events(20), expected_version=0)
        await anyio.sleep(0.05)
        seen.add(len(await stored(session, keyspace, stream)))
    assert seen <= {0, 20}


async def test_one_lwt_for_any_number_of_events(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        store = EventStore(session, keyspace=keyspace)
        stream = fresh()
        await store.append(stream, events(1), expected_version=0)
        assert (counting.lwts, len(counting.records)) == (1, 1)
        await store.append(stream, events(100), expected_version=1)
        assert (counting.lwts, len(counting.records)) == (2, 2)
        await store.append(stream, events(100))  # the head is known
        assert (counting.lwts, len(counting.records)) == (3, 3)
        await EventStore(session, keyspace=keyspace).append(stream, events(1))
        assert (counting.lwts, counting.reads) == (4, 1)
        with pytest.raises(ConcurrencyError):
            await store.append(stream, events(1), expected_version=7)
        assert (counting.lwts, counting.reads) == (5, 1)


async def test_batches_up_to_the_limit_are_accepted(session: cql.Session, keyspace: str) -> None:
    """The store refuses a batch before the server would."""
    store = EventStore(session, keyspace=keyspace)
    sizes = {"few": (1, 44_000), "some": (40, 800), "many": (180, 0)}
    for name, (count, length) in sizes.items():
        stream = f"{fresh()}-{name}"
        appended = [NewEvent("t", "x" * length) for _ in range(count)]
        assert await store.append(stream, appended, expected_version=0) == count
        with pytest.raises(cql.UsageError, match="append them in parts"):
            more = [NewEvent("t", "x" * length) for _ in range(count)]
            await store.append(stream, [*appended, *more], expected_version=count)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(
    faults=st.lists(st.lists(st.sampled_from([*FAULTS, None]), max_size=4), min_size=2, max_size=3),
    size=st.sampled_from([SMALL, 10_000]),
)
def test_no_fault_loses_or_doubles_an_event(
    cassandra: Node, keyspace: str, backend: str, faults: list[list[str | None]], size: int
) -> None:
    """Writers with bad networks of their own, who append again whatever has failed."""
    stream = fresh()

    async def writer(mine: list[str | None]) -> dict[str, int]:
        acknowledged: dict[str, int] = {}
        async with faulty(cassandra, keyspace, mine) as session:
            store = EventStore(session, keyspace=keyspace, partition_size=size)
            for _ in range(3):
                appended = events(2)
                for _ in range(10):
                    try:
                        last = await store.append(stream, appended)
                    except (cql.ServerOverloaded, OutcomeUnknown):
                        continue
                    acknowledged |= {
                        str(appended[0].id): last - 1,
                        str(appended[1].id): last,
                    }
                    break
        return acknowledged

    async def run() -> None:
        acknowledged: dict[str, int] = {}
        for told in await all_of([*(partial(writer, mine) for mine in faults)]):
            acknowledged |= told
        async with connected(cassandra, keyspace) as session:
            found = await stored(session, keyspace, stream, size)
        assert none_lost(acknowledged, {str(event.id): event.version for event in found}) == []
        assert len(found) == len(acknowledged) == 6 * len(faults)

    anyio.run(run, backend=backend)
