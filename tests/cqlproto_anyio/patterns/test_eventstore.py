"""The event store: appending, reading across partitions, following, snapshots and positions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.patterns import (
    BYTES,
    ConcurrencyError,
    CorruptPayload,
    DuplicateEvent,
    Event,
    EventsMissing,
    EventStore,
    InvalidInput,
    NewEvent,
    OutcomeUnknown,
    SchemaMismatch,
)
from tests.cqlproto_anyio.patterns.eventtable import EventTable
from tests.support.histories import dense, none_lost
from tests.support.scripted import unavailable
from tests.support.virtual_clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


def store(table: EventTable, size: int = 10, **options: Any) -> EventStore:
    return EventStore(
        table.executor, keyspace="shop", partition_size=size, clock=lambda: NOW, **options
    )


def events(count: int) -> list[NewEvent]:
    return [NewEvent("happened", number) for number in range(count)]


async def read(found: EventStore, stream: str = "a", **options: Any) -> list[Event]:
    return [event async for event in found.read(stream, **options)]


# -- appending


async def test_an_append_is_one_lwt() -> None:
    table = EventTable()
    found = store(table)
    assert await found.append("a", events(3), expected_version=0) == 3
    assert len(table.executor.asked) == 1
    assert await found.append("a", events(2)) == 5
    assert await found.append("a", events(1), expected_version=5) == 6
    assert table.executor.lwts == len(table.executor.asked) == 3
    assert await store(table).append("a", events(1)) == 7
    assert (table.executor.lwts, len(table.executor.asked)) == (4, 5)  # one read of the head


async def test_what_was_appended_is_read() -> None:
    found = store(EventTable())
    event = NewEvent("created", {"total": 5}, metadata={"user": "ann"})
    await found.append("a", [event, NewEvent("paid")])
    assert await read(found) == [
        Event("a", 1, event.id, "created", {"total": 5}, {"user": "ann"}, NOW),
        Event("a", 2, (await read(found))[1].id, "paid", None, {}, NOW),
    ]


async def test_another_version_is_an_error() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(2))
    for expected in (0, 1, 3):
        for client in (found, store(table)):
            with pytest.raises(ConcurrencyError) as info:
                await client.append("a", events(1), expected_version=expected)
            error = info.value
            assert (error.stream, error.expected, error.actual) == ("a", expected, 2)
    assert await found.version("a") == 2


@pytest.mark.parametrize("expected", [10, 13, 20, 23])
async def test_a_version_in_a_partition_that_has_not_begun(expected: int) -> None:
    table = EventTable()
    await store(table).append("a", events(2))
    with pytest.raises(ConcurrencyError) as info:
        await store(table).append("a", events(1), expected_version=expected)
    assert info.value.actual == 2


@pytest.mark.parametrize("before", [9, 10, 12, 19, 20, 25])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("by_version", [True, False])
async def test_partitions_roll_over(before: int, known: bool, by_version: bool) -> None:
    """An append goes as a whole into the partition in which it begins."""
    table = EventTable()
    found = store(table)
    for start in range(0, before, 5):
        await found.append("a", events(min(5, before - start)))
    found = found if known else store(table)
    expected = before if by_version else None
    assert await found.append("a", events(4), expected_version=expected) == before + 4
    assert await store(table).version("a") == before + 4
    with pytest.raises(ConcurrencyError) as info:
        await store(table).append("a", events(1), expected_version=before)
    assert info.value.actual == before + 4
    got = await read(store(table))
    assert dense([event.version for event in got]) == []
    assert len(got) == before + 4
    for first in range(1, before + 5):
        last = min(first + 7, before + 4)
        got = await read(store(table), from_version=first, to_version=last)
        assert [event.version for event in got] == list(range(first, last + 1))


@pytest.mark.parametrize("expected", [14, None])
async def test_an_append_after_one_that_reached_into_the_next_partition(
    expected: int | None,
) -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(7))
    await found.append("a", events(7))
    assert table.heads == {("a", 0): 14}
    assert await store(table).append("a", events(7), expected_version=expected) == 21
    assert table.heads == {("a", 0): 14, ("a", 1): 21}
    for client in (found, store(table)):
        with pytest.raises(ConcurrencyError) as info:
            await client.append("a", events(1), expected_version=14)
        assert info.value.actual == 21
    assert len(await read(store(table))) == 21
    got = await read(store(table), from_version=12, to_version=16)
    assert [event.version for event in got] == [12, 13, 14, 15, 16]


async def test_an_append_that_begins_a_partition_is_one_lwt() -> None:
    table = EventTable()
    await store(table).append("a", events(10))
    table.executor.asked.clear()
    assert await store(table).append("a", events(1), expected_version=10) == 11
    assert table.executor.lwts == 1


@pytest.mark.parametrize("known", [5, 25])
@pytest.mark.parametrize("size", [5, 7, 10_000])
async def test_another_partition_size_is_an_error(known: int, size: int) -> None:
    """A program that looks for events in other places would overwrite or miss some."""
    table = EventTable()
    for _ in range(0, known, 5):
        await store(table).append("a", events(5))
    for expected in (None, known):
        with pytest.raises(SchemaMismatch, match=f"column size must be {size}, got 10"):
            await store(table, size=size).append("a", events(1), expected_version=expected)
    with pytest.raises(SchemaMismatch):
        await store(table, size=size).version("a")
    for first in range(1, known + 2):
        with pytest.raises(SchemaMismatch):
            await read(store(table, size=size), from_version=first)
    assert len(await read(store(table))) == known
    assert await store(table, size=size).append("b", events(1)) == 1


async def test_the_head_of_a_long_stream_is_found_by_the_hint() -> None:
    table = EventTable()
    found = store(table, size=2)
    for _ in range(50):
        await found.append("a", events(2))
    table.executor.asked.clear()
    assert await store(table, size=2).version("a") == 100
    assert len(table.executor.asked) == 3
    table.latest.clear()  # without the hint it takes longer
    assert await store(table, size=2).version("a") == 100


async def test_the_same_events_again() -> None:
    table = EventTable()
    mine = events(3)
    assert await store(table).append("a", mine, expected_version=0) == 3
    await store(table).append("a", events(4))
    for expected in (0, None, 7):
        assert await store(table).append("a", mine, expected_version=expected) == 3
    assert await store(table).append("a", mine[:1], expected_version=7) == 1
    with pytest.raises(DuplicateEvent, match="append the new events alone") as info:
        await store(table).append("a", [*events(1), mine[2], mine[0]])
    assert info.value.ids == (mine[2].id, mine[0].id)
    assert len(await read(store(table))) == 7
    await store(table).append("a", events(9))
    assert await store(table).append("a", mine) == 3  # although the next partition has begun
    assert await store(table).append("b", mine) == 3


async def test_races_without_an_expected_version() -> None:
    table = EventTable()
    acknowledged: dict[str, int] = {}

    async def one(found: EventStore) -> None:
        (event,) = events(1)
        acknowledged[str(event.id)] = await found.append("a", [event])

    async with anyio.create_task_group() as group:
        for found in [store(table) for _ in range(10)]:
            for _ in range(3):
                group.start_soon(one, found)
    got = await read(store(table))
    assert dense([event.version for event in got]) == []
    assert none_lost(acknowledged, {str(event.id): event.version for event in got}) == []


async def test_tasks_of_one_program_do_not_race() -> None:
    table = EventTable()
    found = store(table)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(found.append, "a", events(1))
    assert table.executor.lwts == 20


async def test_who_loses_every_race_is_told() -> None:
    table = EventTable()
    found = store(table, max_retries=3)
    await found.append("a", events(1))
    answer = table.executor.answer

    def faster(request: Any) -> Any:
        if request.conditional:
            table.heads["a", 0] += 1
        return answer(request)

    table.executor.answer = faster
    with pytest.raises(ConcurrencyError) as info:
        await found.append("a", events(1))
    assert info.value.expected is None
    assert info.value.actual == 1 + 4
    assert table.executor.lwts == 1 + 4


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
@pytest.mark.parametrize("expected", [2, None])
async def test_the_same_events_again_and_a_lost_reply(fault: str, expected: int | None) -> None:
    table = EventTable(None, fault)
    mine = events(2)
    assert await store(table).append("a", mine) == 2
    assert await store(table).append("a", mine, expected_version=expected) == 2
    table.deliver()
    assert len(await read(store(table))) == 2
    assert table.executor.lwts <= 3


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
@pytest.mark.parametrize("expected", [0, None])
async def test_a_lost_reply_is_settled(fault: str, expected: int | None) -> None:
    table = EventTable(fault)
    mine = events(2)
    assert await store(table).append("a", mine, expected_version=expected) == 2
    table.deliver()
    assert [event.id for event in await read(store(table))] == [event.id for event in mine]


async def test_what_can_not_be_settled_may_be_appended_again() -> None:
    table = EventTable("reply")
    answer = table.executor.answer
    table.executor.answer = lambda request: (
        answer(request) if request.conditional else unavailable()
    )
    mine = events(2)
    with pytest.raises(OutcomeUnknown, match="append to stream 'a'") as info:
        await store(table).append("a", mine, expected_version=0)
    assert info.value.operation == mine[0].id
    table.executor.answer = answer
    assert await store(table).append("a", mine, expected_version=0) == 2
    assert len(await read(store(table))) == 2


FAULTS = st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=12)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=40)
@given(
    FAULTS, st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=4), st.booleans()
)
def test_nothing_is_lost_or_doubled(
    backend: str, faults: list[Any], writers: list[list[int]], small: bool
) -> None:
    table = EventTable(*faults)
    size = 4 if small else 100
    acknowledged: dict[str, int] = {}

    async def writer(counts: Sequence[int]) -> None:
        found = store(table, size=size)
        for count in counts:
            mine = events(count)
            last = await found.append("a", mine)
            for version, event in enumerate(mine, last - count + 1):
                acknowledged[str(event.id)] = version

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for counts in writers:
                group.start_soon(writer, counts)
        table.deliver()
        got = await read(store(table, size=size))
        assert dense([event.version for event in got]) == []
        assert len(got) == len(acknowledged) == sum(map(sum, writers))
        assert none_lost(acknowledged, {str(event.id): event.version for event in got}) == []

    run_virtual(run, backend)


# -- reading and following


async def test_a_gap_is_an_error() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(5))
    del table.rows["a", 0][3]
    with pytest.raises(EventsMissing, match="version 3 is missing before 4") as info:
        await read(found)
    assert (info.value.stream, info.value.expected, info.value.actual) == ("a", 3, 4)


async def test_a_corrupt_payload_is_an_error() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(2))
    table.rows["a", 0][2]["data"] = b"\x80pickle"
    with pytest.raises(CorruptPayload, match="event 2 of stream 'a' can't be decoded"):
        await read(found)


async def test_following() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(2))
    seen: list[int] = []

    async def follow() -> None:
        async for event in found.follow("a", after=1, min_delay=0.1, max_delay=2):
            assert event.stream == "a"
            seen.append(event.version)

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.sleep(0.01)
        assert seen == [2]
        asked = len(table.executor.asked)
        await anyio.sleep(100)
        assert 50 <= len(table.executor.asked) - asked < 110  # the pause has grown to 2 s
        for _ in range(5):
            await found.append("a", events(5))
            await anyio.sleep(3.1)
        assert seen == list(range(2, 28))
        group.cancel_scope.cancel()


async def test_following_goes_on_after_an_error() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(2))
    following = aiter(found.follow("a"))
    assert (await anext(following)).version == 1
    assert (await anext(following)).version == 2
    await found.append("a", events(1))
    answer, table.executor.answer = table.executor.answer, lambda request: unavailable()
    with pytest.raises(type(unavailable())):
        await anext(following)
    table.executor.answer = answer
    assert (await anext(following)).version == 3


async def test_following_waits_for_a_replica_that_lags() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(3))
    missing = table.rows["a", 0].pop(2)
    seen: list[int] = []

    async def follow() -> None:
        async for event in found.follow("a"):
            seen.append(event.version)
            if event.version == 3:
                break

    async with anyio.create_task_group() as group:
        group.start_soon(follow)
        await anyio.sleep(3)
        table.rows["a", 0][2] = missing
    assert seen == [1, 2, 3]
    del table.rows["a", 0][2]
    with pytest.raises(EventsMissing):
        async for _ in found.follow("a"):
            pass


# -- snapshots and positions


@dataclass(frozen=True)
class Total:
    count: int = 0
    sum: int = 0


def fold(total: Total, event: Event) -> Total:
    return Total(total.count + 1, total.sum + event.data)


async def test_loading_from_the_newest_snapshot() -> None:
    table = EventTable()
    found = store(table)
    assert await found.load("a", fold, initial=Total()) == (Total(), 0)
    await found.append("a", events(10))
    await found.append("a", [NewEvent("happened", number) for number in range(10, 15)])
    assert await found.load("a", fold, initial=Total()) == (Total(15, 105), 15)
    await found.save_snapshot("a", 10, Total(10, 45))
    await found.save_snapshot("a", 12, Total(12, 1000))
    await found.save_snapshot("a", 11, Total(11, 55))
    assert sorted(table.snapshots["a"]) == [11, 12]
    assert await found.load("a", fold, initial=Total()) == (Total(15, 1039), 15)


async def test_snapshots_that_can_not_be_read() -> None:
    table = EventTable()
    found = store(table)
    await found.append("a", events(1))
    await found.save_snapshot("a", 1, {"other": 1})
    with pytest.raises(CorruptPayload, match="snapshot 1 of stream 'a'"):
        await found.load("a", fold, initial=Total())
    table.snapshots["a"][1] = b"{"
    with pytest.raises(CorruptPayload, match="snapshot 1 of stream 'a'"):
        await found.load("a", fold, initial=Total())
    await found.save_snapshot("a", 1, b"raw", codec=BYTES)
    assert await found.load("a", lambda state, event: state, initial=b"", codec=BYTES) == (
        b"raw",
        1,
    )


async def test_positions_never_go_back() -> None:
    table = EventTable()
    position = store(table).position("mailer")
    assert await position.load("a") == 0
    await position.save("a", 3)
    assert table.executor.lwts == 2
    await position.save("a", 5)
    assert table.executor.lwts == 3
    await position.save("a", 4)
    await position.save("a", 5)
    assert await position.load("a") == 5
    assert await store(table).position("billing").load("a") == 0


# -- mistakes


event: Any = partial(NewEvent, "t")
BAD: list[tuple[Any, str]] = [
    (partial(NewEvent, ""), "type must be a text"),
    (partial(NewEvent, "t", {1, 2}), "data must be a value that the codec can encode"),
    (lambda: event(metadata="x"), "metadata must be a mapping"),
    (partial(NewEvent, "t", metadata={"a": object()}), "metadata must be a value"),
    (lambda: event(id="7"), "id must be a UUID"),
    (dict, "must be a NewEvent"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
async def test_wrong_events(make: Any, message: str) -> None:
    table = EventTable()
    with pytest.raises(InvalidInput, match=message) as info:
        await store(table).append("a", [*events(1), make()])
    assert info.value.name.startswith("events[1]")
    assert table.executor.asked == []


async def test_wrong_arguments() -> None:
    table = EventTable()
    found: Any = store(table)
    same = events(1) * 2
    wrong: list[Any] = [
        ("stream", lambda: found.append("", events(1))),
        ("stream", lambda: found.version("x" * 2000)),
        ("events", lambda: found.append("a", [])),
        ("events", lambda: found.append("a", events(1)[0])),
        ("events", lambda: found.append("a", same)),
        ("events", lambda: found.append("a", events(11))),
        ("events", lambda: found.append("a", [NewEvent("t", "x" * 50_000)])),
        ("expected_version", lambda: found.append("a", events(1), expected_version=-1)),
        ("expected_version", lambda: found.append("a", events(1), expected_version=True)),
        ("version", lambda: found.save_snapshot("a", 0, {})),
        ("state", lambda: found.save_snapshot("a", 1, object())),
        ("version", lambda: found.position("p").save("a", -1)),
    ]
    for name, call in wrong:
        with pytest.raises(InvalidInput) as info:
            await call()
        assert info.value.name == name
    more: list[dict[str, Any]] = [{"from_version": -1}, {"to_version": "1"}]
    for options in more:
        with pytest.raises(InvalidInput, match=list(options)[-1]):
            found.read("a", **options)
    for options in ({"after": -1}, {"min_delay": 0}, {"min_delay": 2, "max_delay": 1}):
        with pytest.raises(InvalidInput, match=list(options)[-1]):
            found.follow("a", **options)
    with pytest.raises(InvalidInput, match="name must be"):
        found.position("")
    naive = EventStore(table.executor, keyspace="s", clock=lambda: datetime(2024, 1, 1))
    with pytest.raises(InvalidInput, match=r"clock\(\) must be an aware datetime"):
        await naive.append("a", events(1))
    assert table.executor.asked == []


def test_wrong_settings() -> None:
    executor = EventTable().executor
    wrong: list[dict[str, Any]] = [
        {"keyspace": "a;b"},
        {"table": "x" * 39},
        {"partition_size": 0},
        {"max_retries": -1},
    ]
    for options in wrong:
        with pytest.raises(InvalidInput):
            EventStore(executor, **{"keyspace": "shop", **options})
    with pytest.raises(InvalidInput):
        EventStore.schema_cql("shop", table='a"b')
    assert len(EventStore.schema_cql("shop", table="x" * 38)) == 3
