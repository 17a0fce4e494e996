"""Rate limits that several programs share: sliding windows, token buckets, and an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import (
    MAX_TTL,
    SECOND,
    Clock,
    Seconds,
    integer,
    micros,
    one_of,
    seconds,
    text,
    utc_now,
)
from cqlproto_anyio.patterns._errors import OutcomeUnknown, RateLimited
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._lwt import Rows, Verdict, conditional_write
from cqlproto_anyio.patterns._rates import Entries, token_bucket, window
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry
from cqlproto_anyio.patterns._schema import TableSchema, create
from cqlproto_anyio.patterns._turns import Turns

if TYPE_CHECKING:
    from cqlproto_anyio.executor import Executor

__all__ = ["Decision", "RateLimiter"]

# the ids of the latest writes, newest first; the times that costs count from; the costs
_STATE = "frozen<tuple<frozen<list<uuid>>, frozen<list<bigint>>, frozen<list<bigint>>>>"
_IDS = 8
_KNOWN = 1000  # how many keys' states are remembered; each may have a hundred entries
_FRESH = 1.0  # seconds for which a refusal may be decided by a remembered state
_SLOTS = 10  # slots of time in a window, of the shares that need no conditional write
_SETTLING = 2.0  # seconds; a request waits for the decision
_RACES = Backoff(first=0.002, longest=0.2)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is admitted.

    Attributes:
        key, limit: whose limit it is, and the limit.
        allowed: whether the request is admitted, and counted.
        remaining: how much cost is left now.
        retry_after: after how many seconds a refused request may be admitted; 0 if it is allowed.
        degraded: whether ``on_failure`` decided, because the database could not.
    """

    key: str
    allowed: bool
    remaining: int
    retry_after: float
    limit: int
    degraded: bool = False

    def raise_for_status(self) -> Decision:
        """Return the decision, or raise RateLimited if the request is refused."""
        if self.allowed:
            return self
        raise RateLimited(self.key, self.limit, self.retry_after)


@dataclass(eq=False, slots=True)
class _Share:
    """What this program has admitted of a key without conditional writes, in a slot of time."""

    slot: int  # its end, in microseconds
    writer: UUID
    spent: int = 0
    pending: int = 0  # of tasks that have not decided yet


class RateLimiter:
    """A limit for each key: ``if not (await limiter.check("ip:192.0.2.7")).allowed: ..``.

    Guarantee: with ``sliding_window``, what all programs together admit costs no more than
    ``limit`` in any window of ``per``; above a limit of 100, a cost counts up to a hundredth of
    ``per`` longer. ``token_bucket`` admits a burst of ``limit``, and then ``limit`` in each
    ``per``. A write whose reply is lost is settled, and counts once.

    Not guaranteed: a request counts at a moment between the call and its return, on its program's
    clock; where clocks differ, windows are shorter by the difference. With ``approximate``,
    programs that pass half of the limit at the same moment may exceed the limit by their requests
    in flight. A refusal may be decided by what was read a second ago.

    Cost: one LWT to admit, and one read before it if the key was not used here lately; nothing, or
    one read a second, to refuse. ``approximate``: one read and one write without LWT up to half of
    the limit; one read and one LWT above it.

    Table: ``rate_limits``, a partition for each key. It expires when nothing in it counts.

    Arguments:
        table: limiters with other limits need another table, or other keys.
        limit: how much cost is admitted in each ``per``.
        per: the length of the window: a timedelta or seconds.
        algorithm: ``sliding_window``, ``token_bucket`` or ``approximate``.
        on_failure: what to do when the database can't decide: ``deny``, ``allow``, or ``raise``
            the error. Errors that don't pass, such as a missing table, are raised in any case.
        clock: returns the current time.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "rate_limits",
        limit: int,
        per: Seconds,
        algorithm: Literal["sliding_window", "token_bucket", "approximate"] = "sliding_window",
        on_failure: Literal["deny", "allow", "raise"] = "deny",
        clock: Clock = utc_now,
    ) -> None:
        self._session = session
        self._schema = _schema(keyspace, table)
        self._per = round(seconds("per", per, least=0.001, most=MAX_TTL - 2) * SECOND)
        self._limit = integer("limit", limit, least=1, most=(2**63 - 1) // self._per)
        one_of("algorithm", algorithm, "sliding_window", "token_bucket", "approximate")
        rate = token_bucket if algorithm == "token_bucket" else window
        self._rate = partial(rate, limit=self._limit, per=self._per)
        self._estimates = algorithm == "approximate"
        self._on_failure = one_of("on_failure", on_failure, "deny", "allow", "raise")
        self._clock = clock
        self._states: Known[str, tuple[Any, float]] = Known(_KNOWN)
        self._shares: Known[str, _Share] = Known(_KNOWN)
        self._turns = Turns()
        name = self._schema.name
        self._read = f"SELECT state, slot, writer, spent FROM {name} WHERE key = :key"
        self._swap = (
            f"UPDATE {name} USING TTL :ttl SET state = :state WHERE key = :key IF state = :before"
        )
        self._spend = (
            f"INSERT INTO {name} (key, slot, writer, spent) VALUES (:key, :slot, :writer, :spent)"
            " USING TTL :ttl"
        )
        self._forget = f"DELETE FROM {name} WHERE key = :key AND slot > 0"

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "rate_limits") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return (_schema(keyspace, table).cql(),)

    async def create_schema(self) -> None:
        """Create the table unless it exists, and wait until all nodes know it."""
        await create(self._session, [self._schema])

    async def check(self, key: str, *, cost: int = 1) -> Decision:
        """Decide whether a request is admitted, and count it if it is.

        Arguments:
            key: whose limit it is.
            cost: how much of the limit the request takes, from 1 to ``limit``.

        Raises:
            CQLError: the database can't decide, and ``on_failure`` is ``raise``.
        """
        text("key", key)
        integer("cost", cost, least=1, most=self._limit)
        try:
            return await (self._estimate(key, cost) if self._estimates else self._check(key, cost))
        except CQLError as error:
            passes = isinstance(error, OutcomeUnknown) or may_retry(error, idempotent=True)
            if self._on_failure == "raise" or not passes:
                raise
        allow = self._on_failure == "allow"
        wait = 0.0 if allow else min(1.0, self._per / SECOND)
        return Decision(key, allow, 0, wait, self._limit, degraded=True)

    async def reset(self, key: str) -> None:
        """Forget what a key has spent; with ``approximate`` other programs may know it a while.

        Costs one read and one LWT.
        """
        text("key", key)
        async with self._turns.turn(key):
            async for _ in Attempts(backoff=_RACES):
                (state, _), _ = await self._look(key)
                if state is None or await self._replace(key, state, ()):
                    break
            if self._estimates:
                self._shares.set(key, None)
                await self._session.execute(self._forget, {"key": key}, idempotent=True)

    async def _check(self, key: str, cost: int, others: Entries = ()) -> Decision:
        """Decide by a conditional write; ``others`` count too, and are stored elsewhere."""
        async with self._turns.turn(key):
            async for _ in Attempts(backoff=_RACES):
                state, read_at = self._states.get(key) or (await self._look(key))[0]
                decision, entries = self._decide(key, cost, state, others)
                if not decision.allowed and anyio.current_time() - read_at > _FRESH:
                    (state, _), _ = await self._look(key)
                    decision, entries = self._decide(key, cost, state, others)
                if not decision.allowed or await self._replace(key, state, entries):
                    return decision
        raise AssertionError("attempts without a limit have ended")

    async def _estimate(self, key: str, cost: int) -> Decision:
        """Decide by the shares of all programs, up to half of the limit."""
        length = -(-self._per // _SLOTS)
        slot = -(-micros(self._clock) // length) * length
        share = self._shares.get(key)
        if share is None or share.slot != slot:
            share = _Share(slot, uuid4())
            self._shares.set(key, share)
        share.pending += cost
        try:
            (state, _), rows = await self._look(key)
            shares = [(row.slot, row.spent) for row in rows if row.writer != share.writer]
            mine = (slot, share.spent + share.pending - cost)
            decision, _ = self._decide(key, cost, state, (*shares, mine))
            if not decision.allowed or decision.remaining < self._limit - self._limit // 2:
                return await self._check(key, cost, (*shares, (slot, share.spent)))
            share.spent += cost
        finally:
            share.pending -= cost
        values = {"key": key, "slot": slot, "writer": share.writer, "spent": share.spent}
        values["ttl"] = self._ttl(slot)
        await self._session.execute(self._spend, values, idempotent=True)
        return decision

    def _decide(self, key: str, cost: int, state: Any, others: Entries) -> tuple[Decision, Entries]:
        entries = () if state is None else tuple(zip(state[1], state[2], strict=True))
        rated = self._rate(entries, others, cost, micros(self._clock))
        wait = rated.wait / SECOND
        return Decision(key, rated.allowed, rated.remaining, wait, self._limit), rated.entries

    async def _look(self, key: str) -> tuple[tuple[Any, float], list[Any]]:
        """Read the state of a key, with the time of the read, and the shares of all programs."""
        rows = (await self._session.execute(self._read, {"key": key})).rows
        seen = (rows[0].state if rows else None, anyio.current_time())
        self._states.set(key, seen)
        return seen, [row for row in rows if row.slot is not None]

    async def _replace(self, key: str, before: Any, entries: Entries) -> bool:
        """Replace the state of a key; False if it was another one than ``before``."""
        operation = uuid4()
        ids = [operation, *(before[0] if before else ())][:_IDS]
        state = (ids, [at for at, _ in entries], [cost for _, cost in entries])
        latest = entries[-1][0] if entries else micros(self._clock)
        values = {"key": key, "state": state, "before": before, "ttl": self._ttl(latest)}
        self._states.set(key, None)  # it isn't known, until this has succeeded
        outcome = await conditional_write(
            self._session,
            [(self._swap, values)],
            operation=operation,
            read=(self._read, {"key": key}),
            verdict=partial(_verdict, operation, before),
            what=f"count a request of {key!r}",
            refusals_tell=True,
            within=_SETTLING,
        )
        found = state if outcome.applied else outcome.row.get("state")
        self._states.set(key, (found, anyio.current_time()))
        return outcome.applied

    def _ttl(self, latest: int) -> int:
        """Return for how many seconds the table keeps what counts from ``latest`` on."""
        left = -(-(latest + self._per - micros(self._clock)) // SECOND)
        return min(max(left, 0) + 1, MAX_TTL)


def _verdict(operation: UUID, before: Any, rows: Rows) -> Verdict:
    state = rows[0].get("state") if rows else None
    if state == before:
        return Verdict.OPEN
    if state is None:  # what was there has expired, and doesn't count any more
        return Verdict.REFUSED
    ids = state[0]
    if operation in ids:
        return Verdict.APPLIED
    whole = len(ids) < _IDS if before is None else before[0][0] in ids
    return Verdict.REFUSED if whole else Verdict.UNKNOWN  # the chain of ids may be too short


def _schema(keyspace: str, table: str) -> TableSchema:
    columns = {"key": "text", "slot": "bigint", "writer": "uuid"}
    columns |= {"state": _STATE, "spent": "bigint"}
    return TableSchema(keyspace, table, columns, ("key",), ("slot", "writer"), static=("state",))
