"""An account from its events: appended one by one, by writers that race, and with a snapshot."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import anyio

from cqlproto_anyio.patterns import ConcurrencyError, Event, EventStore, NewEvent
from cqlproto_anyio.patterns.rsylla import Session

CREATE = """
    CREATE TABLE IF NOT EXISTS account_events (
        aggregate_id uuid, version int, event_type text, event_data text, timestamp timestamp,
        PRIMARY KEY (aggregate_id, version)
    ) WITH CLUSTERING ORDER BY (version ASC)
"""
APPEND = """
    INSERT INTO account_events (aggregate_id, version, event_type, event_data, timestamp)
    VALUES (?, ?, ?, ?, ?) IF NOT EXISTS
"""
SELECT = """
    SELECT version, event_type, event_data, timestamp FROM account_events
    WHERE aggregate_id = ? AND version >= ?
"""
HISTORY = (("created", 1000.0), ("deposited", 500.0), ("withdrawn", -200.0))


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    append = await session.prepare(APPEND)
    account = str(uuid.uuid4())

    async def append_event(version: int, kind: str, amount: float) -> bool:
        values: dict[str, Any] = {"aggregate_id": account, "version": version, "event_type": kind}
        values |= {"event_data": json.dumps({"amount": amount})}
        values |= {"timestamp": int(time.time() * 1000)}
        row = (await session.execute_prepared(append, values)).first_row()
        return row is not None and row[0] is True

    for version, (kind, amount) in enumerate(HISTORY, 1):
        assert await append_event(version, kind, amount)
    assert not await append_event(3, "deposited", 1.0)
    found = await session.execute(SELECT, {"aggregate_id": account, "version": 0})
    assert sum(json.loads(row[2])["amount"] for row in found) == 1300.0

    store = EventStore(session.session, keyspace=keyspace, table="ledger")
    await store.create_schema()
    events = [NewEvent(kind, {"amount": amount}) for kind, amount in HISTORY]
    assert await store.append(account, events, expected_version=0) == 3  # all or none
    try:
        await store.append(account, [NewEvent("deposited", {"amount": 1.0})], expected_version=2)
    except ConcurrencyError as error:
        assert (error.expected, error.actual) == (2, 3)
    else:
        raise AssertionError("a writer that was too late has written")

    async def deposit() -> None:
        await store.append(account, [NewEvent("deposited", {"amount": 10.0})])

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(deposit)
    versions = [event.version async for event in store.read(account)]
    assert versions == list(range(1, 24))  # reading MAX and inserting has left 5 of 20

    def fold(balance: float, event: Event) -> float:
        return balance + float(event.data["amount"])

    balance, version = await store.load(account, fold, initial=0.0)
    await store.save_snapshot(account, version, balance)
    assert await store.load(account, fold, initial=0.0) == (1500.0, 23)
    await session.aclose()
