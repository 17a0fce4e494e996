"""A lock between workers: one at a time, fenced, and given back when its holder is cancelled."""

from __future__ import annotations

import uuid

import anyio

from cqlproto_anyio.patterns import Locks, LockTimeout
from cqlproto_anyio.patterns.rsylla import Session

CREATE = "CREATE TABLE IF NOT EXISTS plain_locks (name text PRIMARY KEY, owner uuid)"


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    acquire = await session.prepare(
        "INSERT INTO plain_locks (name, owner) VALUES (?, ?) IF NOT EXISTS USING TTL ?"
    )
    ann, bob = uuid.uuid4(), uuid.uuid4()
    held = await session.execute_prepared(acquire, {"name": "job", "owner": ann, "ttl": 30})
    taken = await session.execute_prepared(acquire, {"name": "job", "owner": bob, "ttl": 30})
    first, second = held.first_row(), taken.first_row()
    assert first is not None
    assert second is not None
    assert (first[0], second.columns()) == (True, [False, "job", ann])
    release = "DELETE FROM plain_locks WHERE name = ? IF owner = ?"
    released = (await session.execute(release, {"name": "job", "owner": ann})).first_row()
    assert released is not None
    assert released[0]

    locks = Locks(session.session, keyspace=keyspace)
    await locks.create_schema()
    inside = 0
    fences: list[int] = []

    async def work() -> None:
        nonlocal inside
        async with locks.hold("nightly", ttl=30, wait=30) as lease:
            inside += 1
            assert inside == 1
            fences.append(lease.fence)
            await anyio.sleep(0.001)
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(work)
    assert fences == sorted(set(fences))
    with anyio.move_on_after(0.05):
        async with locks.hold("nightly", ttl=30):
            await anyio.sleep(30)
    lease = await locks.acquire("nightly", ttl=30)  # the cancelled holder has given it back
    assert lease is not None
    assert lease.fence > fences[-1]
    try:
        async with locks.hold("nightly", ttl=30, wait=0.05):
            raise AssertionError("two are inside")
    except LockTimeout as error:
        assert error.name == "nightly"
    await lease.release()
    await session.aclose()
