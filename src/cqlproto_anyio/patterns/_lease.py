"""Fenced leases: a holder that expires, and a fence that never does.

A lease is kept in one partition of a table. ``holder``, the id of the operation that acquired it,
and ``owner``, a name for people, have a TTL; ``fence`` has none. A conditional batch acquires it::

    UPDATE t SET fence = n + 1 .. IF fence = n
    UPDATE t USING TTL 31 SET holder = .., owner = .. IF holder = null

So each lease of a key has a higher fence than all earlier ones, also than those that expired. A
resource that remembers the highest fence it has seen refuses a holder that doesn't know that it has
lost the lease. In a partition that has the lease's columns, a write can be made conditional on it:
``.. IF fence = :fence``.

Time: a lease lasts ``ttl`` seconds from *before* the request was sent, on the event loop's clock.
The server's TTL is a second longer and in whole seconds, since servers count expiry in whole
seconds. So the holder gives up before a server lets others in, as long as the clocks of the nodes
differ by less than a second; where they differ by more, the fence still tells the leases apart.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import LockLost
from cqlproto_anyio.patterns._identifiers import quoted
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._lwt import Rows, Verdict, conditional_write, serial_level
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType
    from typing import Unpack

    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor

__all__ = ["LEASE_COLUMNS", "Held", "Holder", "Lease", "Leases"]

LEASE_COLUMNS = {"fence": "bigint", "holder": "uuid", "owner": "text"}
"""The columns of a lease; static ones in a table with clustering columns."""

_MARGIN = 1  # seconds that the server's TTL is longer
_KNOWN = 10_000  # how many keys' fences are remembered
_CLEAN_UP = 5.0  # seconds that clean-up may take
_RENEW_AT = 1 / 3  # the part of the ttl after which a lease is renewed
_RETRIES = Backoff(first=0.05, longest=1.0)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease.

    Attributes:
        owner: the name that the holder gave.
        fence: the fencing token of the lease.
        expires_in: after how many seconds the server lets others in, unless it is renewed.
    """

    owner: str
    fence: int
    expires_in: float


class Lease:
    """A lease that was acquired.

    Attributes:
        name: the key, as text.
        fence: the fencing token: higher than that of every earlier lease of the key.
        ttl: for how many seconds the lease lasts after each renewal.
        operation: the id that marks the lease in the table.
        released: whether :meth:`release` was called.
    """

    __slots__ = (
        "_expires",
        "_key",
        "_leases",
        "_owner",
        "fence",
        "name",
        "operation",
        "released",
        "ttl",
    )

    def __init__(
        self, leases: Leases, key: tuple[Any, ...], owner: str, fence: int, ttl: float
    ) -> None:
        self.name = "/".join(map(str, key))
        self.fence = fence
        self.ttl = ttl
        self.operation = uuid4()
        self.released = False
        self._leases = leases
        self._key = key
        self._owner = owner
        self._expires = -math.inf

    def __repr__(self) -> str:
        return f"<Lease {self.name!r} fence={self.fence} remaining={self.remaining:.3f}>"

    @property
    def remaining(self) -> float:
        """For how many seconds the lease is still held; 0 if it has expired or was released."""
        return max(0.0, self._expires - anyio.current_time())

    async def renew(self) -> None:
        """Hold the lease for another ``ttl`` seconds from now; one LWT.

        Raises:
            LockLost: the lease has expired, or was not renewed in time.
        """
        reason = "it has expired"
        if self.remaining:
            reason = "no renewal succeeded in time"
            with anyio.move_on_after(self.remaining):
                if await self._leases.renewed(self):
                    return
                reason = "another holder may have it"
        self._expires = -math.inf
        raise LockLost(self.name, self.fence, reason)

    async def release(self) -> bool:
        """Let others have the lease at once; one LWT.

        Returns:
            whether the lease was still held; False if it had expired.

        Raises:
            OutcomeUnknown: it isn't known whether it was released; it ends with its TTL.
        """
        self.released = True
        self._expires = -math.inf
        return await self._leases.released(self)


class Leases:
    """The leases in a table.

    Costs: acquiring takes one LWT, and one read before it if the fence of the key isn't known;
    nothing but the read if somebody else holds the lease. Renewing and releasing take one LWT.

    Arguments:
        executor: the session.
        table: the qualified and quoted name of a table that has ``LEASE_COLUMNS``.
        key: the columns of the partition key; other names than the parameters below.
    """

    def __init__(self, executor: Executor, table: str, key: tuple[str, ...] = ("name",)) -> None:
        self._executor = executor
        self._columns = key
        self._fences: Known[tuple[Any, ...], int] = Known(_KNOWN)
        where = " AND ".join(f"{quoted('key', each)} = :{each}" for each in key)
        ttl = f"UPDATE {table} USING TTL :ttl SET holder = :operation, owner = :owner WHERE {where}"
        self._read = (
            f"SELECT fence, holder, owner, TTL(holder) AS expires FROM {table} WHERE {where}"
        )
        self._read += " LIMIT 1"  # rows of a table with clustering columns share the static ones
        self._fence = f"UPDATE {table} SET fence = :next WHERE {where} IF fence = :fence"
        self._burn = f"{self._fence} AND holder = null"
        self._acquire = f"{ttl} IF holder = null"
        self._renew = f"{ttl} IF holder = :operation"
        self._release = f"DELETE holder, owner FROM {table} WHERE {where} IF holder = :operation"

    async def holder(self, *key: Any) -> Holder | None:
        """Return who holds a lease; None if it is free. One read."""
        row = await self._row(key)
        return _holder(row)

    async def acquire(self, *key: Any, ttl: float, owner: str) -> Lease | Holder:
        """Acquire a lease, or return who holds it.

        A call that is cancelled leaves no lease behind.

        Arguments:
            key: the values of the partition key.
            ttl: how long the lease lasts, in seconds.
            owner: a name of the holder, for people.

        Raises:
            OutcomeUnknown: it isn't known whether the lease was acquired. It was given back if that
                was possible, and ends with its TTL otherwise.
        """
        fence = self._fences.get(key)
        if fence is None:
            row = await self._row(key)
            held = _holder(row)
            if held is not None:
                return held
            fence = row.get("fence")
        while True:
            lease = Lease(self, key, owner, (fence or 0) + 1, ttl)
            row = await self._try(lease, fence)
            if lease.remaining:
                return lease
            self._remember(key, row.get("fence"))
            held = _holder(row)
            if held is not None:
                return held
            fence = row.get("fence")  # the lease is free, but its fence was not the one we knew

    async def _try(self, lease: Lease, fence: int | None) -> dict[str, Any]:
        """Try to acquire a lease; return the row that was in the way, if any."""

        def verdict(rows: Rows) -> Verdict:
            row = rows[0] if rows else {}
            if row.get("holder") == lease.operation:
                return Verdict.APPLIED
            # While another one holds the lease, a late copy can be applied only after that one has
            # expired; it is then a lease without a holder, and ends with its TTL.
            free = row.get("fence") == fence and row.get("holder") is None
            return Verdict.OPEN if free else Verdict.REFUSED

        where = self._where(lease._key)
        statements = [
            (self._fence, {**where, "next": lease.fence, "fence": fence}),
            (self._acquire, self._values(lease)),
        ]
        began = anyio.current_time()
        try:
            outcome = await conditional_write(
                self._executor,
                statements,
                operation=lease.operation,
                read=(self._read, where),
                verdict=verdict,
                what=f"acquire lease {lease.name!r}",
            )
            if not outcome.applied:
                return outcome.row
            lease._expires = began + lease.ttl
            if lease.remaining < lease.ttl / 2 and not await self.renewed(lease):
                lease._expires = -math.inf  # it took so long that it has expired
        except (anyio.get_cancelled_exc_class(), CQLError) as exc:
            if not isinstance(exc, CQLError) or exc.maybe_applied:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEAN_UP):
                    await self._abandon(lease, fence)
            raise
        self._remember(lease._key, lease.fence)
        return {"fence": lease.fence}

    async def _abandon(self, lease: Lease, fence: int | None) -> None:
        """Make sure that an acquisition that may be under way holds nothing.

        It is released if it was applied. If it was not, its fence is taken, so that a copy that
        comes late is refused.
        """
        where = self._where(lease._key)
        release = (self._release, {**where, "operation": lease.operation})
        burn = (self._burn, {**where, "next": lease.fence, "fence": fence})
        async for _ in Attempts(within=_CLEAN_UP, backoff=_RETRIES):
            with suppress(CQLError):  # the TTL ends what can't be cleaned up
                if (await self._executor.execute(*release)).applied:
                    return
                if (await self._executor.execute(*burn)).applied:
                    return
                row = await self._row(lease._key, consistency=serial_level(self._executor))
                if row.get("holder") != lease.operation:
                    return

    async def renewed(self, lease: Lease) -> bool:
        """Renew a lease; False if it is no longer held. Tries until the caller's deadline."""
        values = self._values(lease)
        async for _ in Attempts(backoff=_RETRIES):
            began = anyio.current_time()
            try:
                applied = (await self._executor.execute(self._renew, values)).applied
            except CQLError as exc:
                if not may_retry(exc, idempotent=True):
                    raise
            else:
                if applied:
                    lease._expires = began + lease.ttl
                return applied
        raise AssertionError("attempts without a limit have ended")

    async def released(self, lease: Lease) -> bool:
        """Release a lease; False if it was no longer held."""

        def verdict(rows: Rows) -> Verdict:
            held = bool(rows) and rows[0].get("holder") == lease.operation
            return Verdict.OPEN if held else Verdict.APPLIED

        where = self._where(lease._key)
        outcome = await conditional_write(
            self._executor,
            [(self._release, {**where, "operation": lease.operation})],
            operation=lease.operation,
            read=(self._read, where),
            verdict=verdict,
            what=f"release lease {lease.name!r}",
        )
        return outcome.applied

    async def _row(self, key: tuple[Any, ...], **options: Unpack[Options]) -> dict[str, Any]:
        result = await self._executor.execute(self._read, self._where(key), **options)
        row = result.first()
        return {} if row is None else dict(zip(result.columns, row, strict=True))

    def _where(self, key: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self._columns, key, strict=True))

    def _values(self, lease: Lease) -> dict[str, Any]:
        return {
            **self._where(lease._key),
            "operation": lease.operation,
            "owner": lease._owner,
            "ttl": math.ceil(lease.ttl) + _MARGIN,
        }

    def _remember(self, key: tuple[Any, ...], fence: int | None) -> None:
        if fence is not None:
            self._fences.set(key, fence)


def _holder(row: Mapping[str, Any]) -> Holder | None:
    if row.get("holder") is None:
        return None
    return Holder(row.get("owner") or "", row.get("fence") or 0, float(row.get("expires") or 0))


class Held:
    """A lease that is held for the time of a block, and renewed meanwhile: ``async with Held(..)``.

    If the lease is lost, the body is cancelled, and LockLost raised at the end of the block. The
    lease is released at the end, also if the body was cancelled, within a few seconds. Enter and
    leave the block in one task.

    Arguments:
        acquire: acquires the lease.
    """

    def __init__(self, acquire: Callable[[], Awaitable[Lease]]) -> None:
        self._acquire = acquire
        self._failure: CQLError | None = None

    async def __aenter__(self) -> Lease:
        self._lease = lease = await self._acquire()
        # nothing below waits, so the task can't be cancelled before the block is entered
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._keeping, self._body = anyio.CancelScope(), anyio.CancelScope()
        self._group.start_soon(self._keep)
        self._body.__enter__()
        return lease

    async def _keep(self) -> None:
        """Renew the lease until it is lost, released, or the block ends."""
        lease = self._lease
        with self._keeping:
            try:
                while not lease.released:
                    await anyio.sleep(max(0.0, lease.remaining - lease.ttl * (1 - _RENEW_AT)))
                    if not lease.released:
                        await lease.renew()
            except CQLError as exc:
                if not lease.released:
                    self._failure = exc
                    self._body.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        lease = self._lease
        lost = self._failure is not None or not (lease.remaining or lease.released)
        cancelled_by_us = bool(self._body.__exit__(kind, error, traceback))
        self._keeping.cancel()
        try:
            # The group gets no exception, which it would raise in an ExceptionGroup.
            await self._group.__aexit__(None, None, None)
        finally:
            if not lease.released:
                await self._let_go()
        if error is not None and not cancelled_by_us:
            return False
        if lost:
            failure = self._failure
            if isinstance(failure, LockLost):
                raise failure
            reason = "it has expired" if failure is None else "it could not be renewed"
            raise LockLost(lease.name, lease.fence, reason) from failure
        return False

    async def _let_go(self) -> None:
        with (
            anyio.CancelScope(shield=True),
            anyio.move_on_after(_CLEAN_UP),
            suppress(CQLError),  # the lease ends with its TTL
        ):
            await self._lease.release()
