"""The types of the event store. Checked by mypy, never run."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_type
from uuid import UUID

from cqlproto_anyio.patterns import (
    BYTES,
    ConcurrencyError,
    DuplicateEvent,
    Event,
    EventsMissing,
    EventStore,
    NewEvent,
    Position,
)

if TYPE_CHECKING:
    import cqlproto_anyio as cql


@dataclasses.dataclass
class Order:
    total: int = 0


def fold(order: Order, event: Event) -> Order:
    return Order(order.total + event.data["total"])


async def storing(executor: cql.Executor) -> None:
    store = EventStore(executor, keyspace="shop")
    EventStore(executor, keyspace="shop", table="log", codec=BYTES, partition_size=100)
    assert_type(await store.create_schema(), None)
    assert_type(EventStore.schema_cql("shop", table="log"), tuple[str, ...])
    created = NewEvent("created", {"total": 5})
    version = await store.append("order-7", [created], expected_version=0)
    assert_type(version, int)
    assert_type(await store.append("order-7", (created,)), int)
    assert_type(await store.version("order-7"), int)
    assert_type(store.read("order-7", from_version=0, to_version=9), AsyncIterator[Event])
    async for event in store.follow("order-7", after=version, min_delay=0.1, max_delay=1):
        assert_type(event, Event)
        assert_type((event.stream, event.version, event.type), tuple[str, int, str])
        assert_type(event.id, UUID)
        assert_type(event.data, Any)
        assert_type(event.metadata, Mapping[str, Any])
        assert_type(event.recorded_at, datetime)
        event.version = 1  # type: ignore[misc]
    state, at = await store.load("order-7", fold, initial=Order())
    assert_type(state, Order)
    assert_type(at, int)
    assert_type(await store.save_snapshot("order-7", at, state, codec=BYTES), None)
    position = store.position("mailer")
    assert_type(position, Position)
    assert_type(await position.load("order-7"), int)
    assert_type(await position.save("order-7", 3), None)


async def mistakes(store: EventStore) -> None:
    await store.append("order-7", NewEvent("created"))  # type: ignore[arg-type]
    await store.append("order-7", [{"type": "created"}])  # type: ignore[list-item]
    await store.append("order-7", [NewEvent("created")], expected_version="0")  # type: ignore[arg-type]
    await store.append("order-7", [NewEvent("created")], 0)  # type: ignore[call-arg]
    await store.load("order-7", fold)  # type: ignore[call-arg]
    await store.load("order-7", lambda state, event: state)  # type: ignore[call-arg]
    NewEvent()  # type: ignore[call-arg]
    NewEvent("created", id="7")  # type: ignore[arg-type]


def failing(error: ConcurrencyError, duplicate: DuplicateEvent, gap: EventsMissing) -> None:
    assert_type((error.stream, error.actual), tuple[str, int])
    assert_type(error.expected, int | None)
    assert_type((duplicate.stream, duplicate.ids), tuple[str, tuple[UUID, ...]])
    assert_type((gap.stream, gap.expected, gap.actual), tuple[str, int, int])
