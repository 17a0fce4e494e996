"""An event store as applications use it: the order flow of a web shop, a mailer, a bank account."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    BYTES,
    Codec,
    ConcurrencyError,
    CorruptPayload,
    DuplicateEvent,
    Event,
    EventStore,
    InvalidInput,
    NewEvent,
    msgspec_codec,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.cassandra


@dataclasses.dataclass(frozen=True)
class Order:
    status: str = "none"
    total: int = 0
    lines: tuple[str, ...] = ()


def fold(order: Order, event: Event) -> Order:
    match event.type:
        case "created":
            return Order("open", 0)
        case "line-added":
            lines = (*order.lines, event.data["product"])
            return Order("open", order.total + event.data["price"], lines)
        case "paid":
            return dataclasses.replace(order, status="paid")
    return order


def line(product: str, price: int) -> NewEvent:
    return NewEvent("line-added", {"product": product, "price": price})


@pytest.fixture
async def store(session: cql.Session, keyspace: str) -> EventStore:
    store = EventStore(session, keyspace=keyspace)
    await store.create_schema()
    return store


async def test_an_order_from_its_first_event_to_the_last(store: EventStore) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    assert await store.version("order-7") == 0
    version = await store.append(
        "order-7", [NewEvent("created"), line("tea", 5)], expected_version=0
    )
    assert version == 2
    paid = NewEvent("paid", {"method": "card"}, metadata={"user": "ann", "trace": "4bf9"})
    assert await store.append("order-7", [paid], expected_version=version) == 3

    events = [event async for event in store.read("order-7")]
    assert [(event.version, event.type) for event in events] == [
        (1, "created"),
        (2, "line-added"),
        (3, "paid"),
    ]
    last = events[-1]
    assert (last.stream, last.id, last.data) == ("order-7", paid.id, {"method": "card"})
    assert last.metadata == {"user": "ann", "trace": "4bf9"}
    assert before < last.recorded_at < before + datetime.timedelta(minutes=2)
    assert (events[0].data, events[0].metadata) == (None, {})
    middle = [event.type async for event in store.read("order-7", from_version=2, to_version=2)]
    assert middle == ["line-added"]
    assert [event async for event in store.read("order-8", from_version=0)] == []
    assert await store.load("order-7", fold, initial=Order()) == (Order("paid", 5, ("tea",)), 3)
    assert await store.load("order-8", fold, initial=Order()) == (Order(), 0)


async def test_two_clerks_who_edit_the_same_order(store: EventStore) -> None:
    """The second one is told, and decides again on fresh state."""
    await store.append("order-20", [NewEvent("created")], expected_version=0)
    _, seen = await store.load("order-20", fold, initial=Order())
    await store.append("order-20", [line("cup", 3)], expected_version=seen)
    with pytest.raises(ConcurrencyError) as info:
        await store.append("order-20", [line("pot", 9), line("lid", 2)], expected_version=seen)
    error = info.value
    assert (error.stream, error.expected, error.actual) == ("order-20", 1, 2)
    assert not error.maybe_applied
    assert "order-20" in str(error)
    order, seen = await store.load("order-20", fold, initial=Order())
    assert order.lines == ("cup",)
    assert await store.append("order-20", [line("pot", 9)], expected_version=seen) == 3
    with pytest.raises(ConcurrencyError) as info:
        await store.append("order-20", [NewEvent("created")], expected_version=0)
    assert info.value.actual == 3
    with pytest.raises(ConcurrencyError) as info:
        await store.append("order-21", [NewEvent("paid")], expected_version=4)
    assert (info.value.expected, info.value.actual) == (4, 0)


async def test_a_button_that_is_pressed_twice(store: EventStore) -> None:
    """The form carries the event's id, so that the second request changes nothing."""
    form = uuid.uuid4()
    for _ in range(2):
        pressed = [NewEvent("created", {"total": 5}, id=form)]
        assert await store.append("order-30", pressed, expected_version=0) == 1
    click = NewEvent("clicked", id=uuid.uuid4())
    assert await store.append("order-30", [click]) == 2
    await store.append("order-30", [NewEvent("paid")])
    assert await store.append("order-30", [click]) == 2
    assert await store.version("order-30") == 3
    with pytest.raises(DuplicateEvent) as info:
        await store.append("order-30", [click, NewEvent("refunded")])
    assert (info.value.stream, info.value.ids) == ("order-30", (click.id,))
    assert await store.version("order-30") == 3


async def test_sensors_that_append_without_a_version(store: EventStore) -> None:
    """Appends that don't care about the version all get their place."""
    versions: list[int] = []

    async def sensor(number: int) -> None:
        versions.append(await store.append("hall", [NewEvent("measured", number)]))

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(sensor, number)
    assert sorted(versions) == list(range(1, 13))
    events = [event async for event in store.read("hall")]
    assert [event.version for event in events] == list(range(1, 13))
    assert sorted(event.data for event in events) == list(range(12))


async def test_a_long_stream_in_partitions_with_a_snapshot(
    session: cql.Session, keyspace: str
) -> None:
    """Snapshots shorten the load; the state is a dataclass, which msgspec reads and writes."""
    store = EventStore(session, keyspace=keyspace, table="ledger", partition_size=10)
    await store.create_schema()
    orders = msgspec_codec(Order)
    version = await store.append("order-1", [NewEvent("created")], expected_version=0)
    for number in range(34):
        version = await store.append("order-1", [line(f"p{number}", 1)], expected_version=version)
    assert version == 35
    state, version = await store.load("order-1", fold, initial=Order(), codec=orders)
    await store.save_snapshot("order-1", version, state, codec=orders)
    await store.save_snapshot("order-1", 2, Order("stale"), codec=orders)
    await store.append("order-1", [NewEvent("paid")], expected_version=version)

    folded: list[int] = []

    def counting(order: Order, event: Event) -> Order:
        folded.append(event.version)
        return fold(order, event)

    state, version = await store.load("order-1", counting, initial=Order(), codec=orders)
    assert (state.status, state.total, len(state.lines), version) == ("paid", 34, 34, 36)
    assert folded == [36]
    read = [event.version async for event in store.read("order-1", from_version=9, to_version=22)]
    assert read == list(range(9, 23))


async def test_a_mailer_that_goes_on_where_it_stopped(store: EventStore) -> None:
    await store.append("order-50", [NewEvent("created"), NewEvent("paid")])
    mailer = store.position("mailer")
    assert await mailer.load("order-50") == 0
    sent: list[str] = []

    async def mail(until: int) -> None:
        after = await mailer.load("order-50")
        async for event in store.follow("order-50", after=after, min_delay=0.01, max_delay=0.1):
            sent.append(event.type)
            await mailer.save(event.stream, event.version)
            if event.version == until:
                break

    await mail(until=2)
    assert sent == ["created", "paid"]
    async with anyio.create_task_group() as group:
        group.start_soon(mail, 3)
        await anyio.sleep(0.2)  # the mailer polls an unchanged stream
        await store.append("order-50", [NewEvent("shipped")])
    assert sent == ["created", "paid", "shipped"]
    await mailer.save("order-50", 1)
    assert await mailer.load("order-50") == 3
    assert await store.position("billing").load("order-50") == 0
    with anyio.move_on_after(0.3) as scope:
        async for event in store.follow("order-50", after=3):
            pytest.fail(f"{event} twice")
    assert scope.cancelled_caught


async def test_payloads_in_bytes_of_ones_own(session: cql.Session, keyspace: str) -> None:
    store = EventStore(session, keyspace=keyspace, table="blobs", codec=BYTES)
    await store.create_schema()
    await store.append("scan", [NewEvent("page", b"\x00\xff")])
    assert [event.data async for event in store.read("scan")] == [b"\x00\xff"]
    upper = Codec(encode=lambda text: text.upper().encode(), decode=lambda data: data.decode())
    shouting = EventStore(session, keyspace=keyspace, table="blobs", codec=upper)
    await shouting.append("talk", [NewEvent("said", "hello")])
    assert [event.data async for event in shouting.read("talk")] == ["HELLO"]
    text = EventStore(session, keyspace=keyspace, table="blobs")
    with pytest.raises(CorruptPayload) as info:
        [event async for event in text.read("scan")]
    assert "scan" in info.value.where


async def test_a_batch_that_is_too_large_is_refused(store: EventStore) -> None:
    with pytest.raises(InvalidInput) as info:
        await store.append("order-60", [NewEvent("scanned", "x" * 1000) for _ in range(200)])
    error = info.value
    assert isinstance(error, cql.UsageError)
    assert error.name == "events"
    assert await store.version("order-60") == 0


async def test_mistakes_are_told_before_anything_is_sent(store: EventStore) -> None:
    created = NewEvent("created")
    bad: list[tuple[str, Sequence[NewEvent], int | None, str]] = [
        ("", [created], None, "stream"),
        ("a", [], None, "events"),
        ("a", [created, created], None, "id"),
        ("a", [created], -1, "expected_version"),
        ("a", [NewEvent("measured", float("nan"))], None, "data"),
        ("a", [NewEvent("measured", {1, 2})], None, "set"),
        ("a", [NewEvent("")], None, "type"),
    ]
    for stream, events, expected, what in bad:
        with pytest.raises(cql.UsageError, match=what):
            await store.append(stream, events, expected_version=expected)
    verb: Any = store.append
    with pytest.raises(cql.UsageError, match="NewEvent"):
        await verb("a", [{"type": "created"}])
    with pytest.raises(cql.UsageError, match="events"):
        await verb("a", created)
    assert EventStore.schema_cql("shop", table="log")
