"""Locks that several programs share, with a time to live and a fencing token."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio.patterns._arguments import MAX_TTL, Seconds, seconds, text
from cqlproto_anyio.patterns._errors import LockTimeout
from cqlproto_anyio.patterns._held import Held
from cqlproto_anyio.patterns._lease import LEASE_COLUMNS, Holder, Lease, Leases
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._schema import TableSchema, create
from cqlproto_anyio.patterns._turns import Turns

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cqlproto_anyio.executor import Executor

__all__ = ["Locks"]

_SHORTEST_TTL = 0.05  # seconds; the server's TTL is at least two seconds
_LONGEST_TTL = MAX_TTL - 2
_POLLS = Backoff(first=0.02, longest=0.5)


class Locks:
    """Locks by name, one row each: ``async with locks.hold("nightly", ttl=30) as lease``.

    Guarantee: a lease has a fencing token, ``lease.fence``, that is higher than that of every
    earlier lease of the lock, also of those that expired. A lease is renewed by its holder only.
    If it is lost, the body of ``hold`` is cancelled. An acquisition whose reply is lost is settled,
    and one that is cancelled leaves nothing behind.

    Not guaranteed: that a holder stops in time. A process that is suspended past its lease goes on
    when it wakes up, and so may a node whose clock is off by more than a second. Let the resource
    compare fences: ``UPDATE .. SET fence = ? .. IF fence < ?`` refuses the holder of an old lease.
    The order in which waiting programs get the lock is not guaranteed either.

    Cost: one LWT to acquire, one to release, one for each third of ``ttl`` in between. Before the
    first acquisition of a name by this object, and while it waits, one read per try. All is in one
    partition per name.

    Table: ``locks``, a row of some 100 bytes for each name that was ever used.

    Arguments:
        owner: the name of this holder, for people; by default the host and the process id.

    Raises:
        InvalidInput: a name is invalid.
    """

    def __init__(
        self, session: Executor, *, keyspace: str, table: str = "locks", owner: str | None = None
    ) -> None:
        self._session = session
        self._schema = _schema(keyspace, table)
        self._owner = f"{socket.gethostname()}:{os.getpid()}" if owner is None else owner
        text("owner", self._owner)
        self._leases = Leases(session, self._schema.name)
        self._turns = Turns()

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "locks") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return (_schema(keyspace, table).cql(),)

    async def create_schema(self) -> None:
        """Create the table if it doesn't exist, and wait until all nodes know it.

        Raises:
            SchemaMismatch: a table of this name has another shape.
        """
        await create(self._session, [self._schema])

    def hold(
        self, name: str, *, ttl: Seconds, wait: Seconds | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Hold a lock for the time of a block: ``async with locks.hold(..) as lease``.

        The lease is renewed until the block ends. If it is lost, the block is cancelled where it
        waits, and LockLost raised at its end. Enter and leave the block in one task.

        Arguments:
            ttl: when others may have the lock after this program has died: a timedelta or seconds.
            wait: how long to wait for the lock: a timedelta or seconds; None for as long as it
                takes, 0 to try once.

        Raises:
            LockTimeout: others held the lock all the time.
            LockLost: the lease was lost before the block ended.
            OutcomeUnknown: it isn't known whether the lock was acquired; it ends with its TTL.
            InvalidInput: an argument is wrong.
        """
        lifetime = _checked(name, ttl)
        limit = None if wait is None else seconds("wait", wait)
        return Held(partial(self._hold, name, lifetime, limit))

    async def acquire(self, name: str, *, ttl: Seconds, wait: Seconds = 0) -> Lease | None:
        """Acquire a lock; the caller renews and releases the lease.

        Arguments:
            ttl: how long the lease lasts, and how long after each renewal: a timedelta or seconds.
            wait: how long to wait for the lock: a timedelta or seconds; 0 to try once.

        Returns:
            the lease; None if others held the lock all the time.

        Raises:
            OutcomeUnknown: it isn't known whether the lock was acquired; it ends with its TTL.
            InvalidInput: an argument is wrong.
        """
        lifetime = _checked(name, ttl)
        found = await self._acquire(name, lifetime, seconds("wait", wait))
        return found if isinstance(found, Lease) else None

    async def holder(self, name: str) -> Holder | None:
        """Return who holds a lock; None if it is free. One read."""
        return await self._leases.holder(text("name", name))

    async def _hold(self, name: str, ttl: float, wait: float | None) -> Lease:
        began = anyio.current_time()
        found = await self._acquire(name, ttl, wait)
        if isinstance(found, Lease):
            return found
        owner = None if found is None else found.owner
        raise LockTimeout(name, anyio.current_time() - began, owner)

    async def _acquire(self, name: str, ttl: float, wait: float | None) -> Lease | Holder | None:
        """Return a lease, or the holder that was seen last."""
        attempts = Attempts(within=wait, backoff=_POLLS, last=True)
        found: Lease | Holder | None = None
        async with self._turns.turn(name, wait) as mine:
            if not mine:
                return await self._leases.holder(name)
            async for _ in attempts:
                found = await self._leases.acquire(name, ttl=ttl, owner=self._owner)
                if isinstance(found, Lease):
                    break
        return found


def _schema(keyspace: str, table: str) -> TableSchema:
    return TableSchema(keyspace, table, {"name": "text", **LEASE_COLUMNS}, key=("name",))


def _checked(name: str, ttl: Seconds) -> float:
    text("name", name)
    return seconds("ttl", ttl, least=_SHORTEST_TTL, most=_LONGEST_TTL)
