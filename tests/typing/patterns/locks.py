"""The types of locks. Checked by mypy, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, assert_type

from cqlproto_anyio.patterns import Holder, Lease, LockLost, Locks, LockTimeout

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def locking(executor: cql.Executor, session: cql.Session) -> None:
    locks = Locks(executor, keyspace="shop")
    Locks(session, keyspace="shop", table="leases", owner="worker-1")
    assert_type(await locks.create_schema(), None)
    assert_type(Locks.schema_cql("shop"), tuple[str, ...])
    assert_type(Locks.schema_cql("shop", table="leases"), tuple[str, ...])
    async with locks.hold("nightly", ttl=30, wait=10) as lease:
        assert_type(lease, Lease)
        assert_type(lease.fence, int)
    async with locks.hold("nightly", ttl=timedelta(minutes=1), wait=timedelta(seconds=1)):
        pass
    async with locks.hold("nightly", ttl=0.5, wait=None):
        pass
    maybe = await locks.acquire("nightly", ttl=30)
    assert_type(maybe, Lease | None)
    maybe.fence  # type: ignore[union-attr]  # noqa: B018
    if maybe is not None:
        assert_type((maybe.name, maybe.ttl), tuple[str, float])
        assert_type((maybe.remaining, maybe.released), tuple[float, bool])
        assert_type(await maybe.renew(), None)
        assert_type(await maybe.release(), bool)
    holder = await locks.holder("nightly")
    assert_type(holder, Holder | None)
    if holder is not None:
        assert_type(holder.owner, str)
        assert_type(holder.fence, int)
        assert_type(holder.expires_in, float)
        holder.fence = 7  # type: ignore[misc]


async def mistakes(session: cql.Session, locks: Locks) -> None:
    Locks(session)  # type: ignore[call-arg]
    Locks(session, "shop")  # type: ignore[call-arg]
    Locks("db1", keyspace="shop")  # type: ignore[arg-type]
    locks.hold("nightly")  # type: ignore[call-arg]
    locks.hold("nightly", 30)  # type: ignore[call-arg]
    locks.hold("nightly", ttl="30")  # type: ignore[arg-type]
    await locks.acquire("nightly", ttl=30, wait=None)  # type: ignore[arg-type]


def failing(timeout: LockTimeout, lost: LockLost) -> None:
    built_in: TimeoutError = timeout
    assert built_in
    assert_type((timeout.name, timeout.waited), tuple[str, float])
    assert_type(timeout.holder, str | None)
    assert_type((lost.name, lost.fence), tuple[str, int])
