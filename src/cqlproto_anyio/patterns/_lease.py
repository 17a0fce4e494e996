"""Fenced leases: a holder that expires, and a fence that never does.

A lease is kept in one partition of a table. ``holder``, the id of the operation that acquired it,
and ``owner``, a name for people, have a TTL; ``fence`` has none. A conditional batch acquires it::

    UPDATE t SET fence = n + 1 .. IF fence = n
    UPDATE t USING TTL 31 SET holder = .., owner = .. IF holder = null

So each lease of a key has a higher fence than all earlier ones, also than those that expired. A
resource that remembers the highest fence it has seen refuses a holder that doesn't know that it has
lost the lease. In a partition with the lease's columns a write can be conditional on ``fence``.

A lease lasts ``ttl`` seconds from *before* its request was sent, on the event loop's clock. The TTL
on the server is a second longer and in whole seconds, since servers count expiry in whole seconds.
So the holder gives up before a server lets others in, if the nodes' clocks differ by less than a
second. If they differ by more, the fence still tells the leases apart.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import LockLost, OutcomeUnknown
from cqlproto_anyio.patterns._identifiers import quoted
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry

if TYPE_CHECKING:
    from typing import Unpack

    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor

__all__ = ["LEASE_COLUMNS", "Holder", "Lease", "Leases"]

LEASE_COLUMNS = {"fence": "bigint", "holder": "uuid", "owner": "text"}
"""The columns of a lease; static ones in a table with clustering columns."""

_MARGIN = 1  # seconds that the server's TTL is longer
_KNOWN = 10_000  # how many keys' fences are remembered
_CLEAN_UP = 5.0  # seconds that clean-up may take
_RACES = Backoff(first=0.002, longest=0.2)
_RETRIES = Backoff(first=0.05, longest=1.0)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease."""

    owner: str  #: the name that the holder gave
    fence: int  #: the fencing token of the lease
    expires_in: float  #: after how many seconds the server lets others in, unless it is renewed


class Lease:
    """A lease that was acquired.

    Attributes:
        name: the key, as text.
        fence: the fencing token: higher than that of every earlier lease of the key.
        ttl: for how many seconds the lease lasts after each renewal.
        operation: the id that marks the lease in the table.
        released: whether :meth:`release` was called.
    """

    def __init__(
        self, name: str, fence: int, ttl: float, leases: Leases, values: dict[str, Any]
    ) -> None:
        self.name = name
        self.fence = fence
        self.ttl = ttl
        self.operation: UUID = values["operation"]
        self.released = False
        self._leases = leases
        self._values = values  # the parameters of its statements
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
            LockLost: the lease has expired, or could not be renewed in time.
        """
        reason = "it has expired"
        if self.remaining:
            reason = "no renewal succeeded in time"
            with anyio.move_on_after(self.remaining):
                if await self._leases.renew(self):
                    return
                reason = "another holder may have it"
        self._expires = -math.inf
        raise LockLost(self.name, self.fence, reason)

    async def release(self) -> bool:
        """Let others have the lease at once; one LWT.

        Cancelling the task doesn't interrupt it; it takes five seconds at most.

        Returns:
            whether the lease was still held; False if it had expired.

        Raises:
            OutcomeUnknown: it isn't known whether it was released; it ends with its TTL.
        """
        self.released = True
        self._expires = -math.inf
        with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEAN_UP):
            return await self._leases.release(self)
        raise OutcomeUnknown(f"release lease {self.name!r}", self.operation, "no answer in time")


class Leases:
    """The leases in a table.

    Acquiring costs one LWT, and one read before it unless the lease was released here last; nothing
    but the read if somebody else holds the lease. Renewing and releasing cost one LWT.

    Arguments:
        executor: the session.
        table: the qualified and quoted name of a table that has ``LEASE_COLUMNS``.
        key: the columns of the partition key; other names than the markers below.
    """

    def __init__(self, executor: Executor, table: str, key: tuple[str, ...] = ("name",)) -> None:
        self._executor = executor
        self._columns = key
        # of the leases that were released here: they are free, unless others came since
        self._fences: Known[tuple[Any, ...], int] = Known(_KNOWN)
        where = " AND ".join(f"{quoted('key', each)} = :{each}" for each in key)
        hold = f"UPDATE {table} USING TTL :ttl SET holder = :operation, owner = :owner"
        # rows of a table with clustering columns share the static ones
        read = f"SELECT fence, holder, owner, TTL(holder) AS expires FROM {table}"
        self._read = f"{read} WHERE {where} LIMIT 1"
        self._fence = f"UPDATE {table} SET fence = :fence WHERE {where} IF fence = :before"
        self._burn = f"{self._fence} AND holder = null"
        self._acquire = f"{hold} WHERE {where} IF holder = null"
        self._renew = f"{hold} WHERE {where} IF holder = :operation"
        self._release = f"DELETE holder, owner FROM {table} WHERE {where} IF holder = :operation"

    async def holder(self, *key: Any) -> Holder | None:
        """Return who holds a lease; None if it is free. One read."""
        return _holder(await self._row(dict(zip(self._columns, key, strict=True))))

    async def acquire(self, *key: Any, ttl: float, owner: str) -> Lease | Holder:
        """Acquire a lease, or return who holds it.

        A call that is cancelled leaves no lease behind.

        Arguments:
            key: the values of the partition key.
            ttl: how long the lease lasts, in seconds.
            owner: a name of the holder, for people.

        Raises:
            OutcomeUnknown: it may have been acquired; if so, it ends with its TTL.
        """
        where = dict(zip(self._columns, key, strict=True))
        fence = self._fences.get(key)
        self._fences.set(key, None)
        row = await self._row(where) if fence is None else {"fence": fence}
        async for _ in Attempts(backoff=_RACES):
            if (holder := _holder(row)) is not None:
                return holder
            before = row.get("fence")
            values = {**where, "owner": owner, "operation": uuid4(), "before": before}
            values |= {"fence": (before or 0) + 1, "ttl": math.ceil(ttl) + _MARGIN}
            lease = Lease("/".join(map(str, key)), values["fence"], ttl, self, values)
            row = await self._try(lease)
            if lease.remaining:
                return lease
            if row.get("holder") is not None:
                row = await self._row(where)  # the refusal doesn't tell the owner
            # else the lease is free, but its fence is not the one that we knew
        raise AssertionError("attempts without a limit have ended")

    async def _try(self, lease: Lease) -> dict[str, Any]:
        """Try to acquire a lease; return the row, which is another one's if that was in the way."""
        values = lease._values

        def verdict(rows: Rows) -> Verdict:
            row = rows[0] if rows else {}
            if row.get("holder") == lease.operation:
                return Verdict.APPLIED
            # While another one holds the lease, a late copy can be applied only after that one has
            # expired; it is then a lease without a holder, and ends with its TTL.
            free = row.get("fence") == values["before"] and row.get("holder") is None
            return Verdict.OPEN if free else Verdict.REFUSED

        began = anyio.current_time()
        try:
            outcome = await conditional_write(
                self._executor,
                [bound(self._fence, values), bound(self._acquire, values)],
                operation=lease.operation,
                read=bound(self._read, values),
                verdict=verdict,
                what=f"acquire lease {lease.name!r}",
                refusals_tell=True,
            )
            if not outcome.applied:
                return outcome.row
            lease._expires = began + lease.ttl
            if lease.remaining < lease.ttl / 2:  # it took long, and may even have expired
                lease._expires = -math.inf
                with anyio.move_on_after(lease.ttl):
                    await self.renew(lease)
        except (anyio.get_cancelled_exc_class(), CQLError) as exc:
            if not isinstance(exc, CQLError) or exc.maybe_applied:
                with anyio.CancelScope(shield=True), anyio.move_on_after(_CLEAN_UP):
                    await self._abandon(lease)
            raise
        return {"fence": lease.fence}

    async def _abandon(self, lease: Lease) -> None:
        """Release what may have been acquired; else take its fence, so that late copies fail."""
        async for _ in Attempts(within=_CLEAN_UP, backoff=_RETRIES):
            with suppress(CQLError):  # the TTL ends what can't be cleaned up
                for query in (self._release, self._burn):
                    if (await self._executor.execute(*bound(query, lease._values))).applied:
                        return
                level = serial_level(self._executor)
                row = await self._row(lease._values, consistency=level)
                if row.get("holder") != lease.operation:
                    return

    async def renew(self, lease: Lease) -> bool:
        """Renew a lease; False if it is no longer held. Tries until the caller's deadline."""
        renewal = bound(self._renew, lease._values)
        async for _ in Attempts(backoff=_RETRIES):
            began = anyio.current_time()
            try:
                applied = (await self._executor.execute(*renewal)).applied
            except CQLError as exc:
                if not may_retry(exc, idempotent=True):
                    raise
            else:
                if applied:
                    lease._expires = began + lease.ttl
                return applied
        raise AssertionError("attempts without a limit have ended")

    async def release(self, lease: Lease) -> bool:
        """Release a lease; False if it was no longer held."""

        def verdict(rows: Rows) -> Verdict:
            held = bool(rows) and rows[0].get("holder") == lease.operation
            return Verdict.OPEN if held else Verdict.APPLIED

        outcome = await conditional_write(
            self._executor,
            [bound(self._release, lease._values)],
            operation=lease.operation,
            read=bound(self._read, lease._values),
            verdict=verdict,
            what=f"release lease {lease.name!r}",
        )
        if outcome.applied:
            key = tuple(lease._values[each] for each in self._columns)
            self._fences.set(key, lease.fence)
        return outcome.applied

    async def _row(self, values: dict[str, Any], **options: Unpack[Options]) -> dict[str, Any]:
        row = (await self._executor.execute(*bound(self._read, values), **options)).first()
        return {} if row is None else row._asdict()


def _holder(row: dict[str, Any]) -> Holder | None:
    if row.get("holder") is None:
        return None
    return Holder(row.get("owner") or "", row.get("fence") or 0, float(row.get("expires") or 0))
