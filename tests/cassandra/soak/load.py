"""Workers that write and read and check every answer; afterwards, all written rows are read again.

A worker records an error and continues. It does not retry, because an error that reaches a worker
would reach a user as well.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import anyio

import cqlproto_anyio as cql
from cqlproto_anyio.lwt import settle
from tests.cassandra.soak.ledger import Ledger, value_of
from tests.cassandra.soak.terms import IDEMPOTENT, SLACK, Figures, Group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["PAGES", "PAGE_ROWS", "SCHEMA", "Load", "fill", "warm_up"]

PAGES, PAGE_ROWS = 8, 90
SCHEMA = (
    "DROP KEYSPACE IF EXISTS soak",
    "CREATE KEYSPACE soak WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}",
    "CREATE TABLE soak.facts (k bigint PRIMARY KEY, n int, v text)",
    "CREATE TABLE soak.pages (p int, c int, v text, PRIMARY KEY (p, c))",
    "CREATE TABLE soak.counts (k bigint PRIMARY KEY, n counter)",
    "CREATE TABLE soak.locks (k bigint PRIMARY KEY, holder text)",
)
INSERT = "INSERT INTO soak.facts (k, n, v) VALUES (?, ?, ?)"
SELECT = "SELECT * FROM soak.facts WHERE k = ?"
TEXT = "SELECT k, n, v FROM soak.facts WHERE k = {}"
READ_PAGES = "SELECT c, v FROM soak.pages WHERE p = ?"
COUNT = "UPDATE soak.counts SET n = n + 1 WHERE k = ?"
COUNTED = "SELECT n FROM soak.counts WHERE k = ?"
LOCK = "INSERT INTO soak.locks (k, holder) VALUES (?, ?) IF NOT EXISTS"
HOLDER = "SELECT holder FROM soak.locks WHERE k = ?"

# How many locks with an unknown outcome are settled in a phase; each takes some seconds.
_SETTLED = 20
_EXAMPLES = 10
_KEPT_TEXTS = 1500
_AT_ONCE = 16
# The timeout of reads after the phase, in seconds; they check contents, not speed.
_PATIENT = 60.0


def _n_of(number: int) -> int:
    return number % 1_000_003


async def fill(session: cql.Session) -> None:
    """Write the rows for reads of several pages."""
    insert = "INSERT INTO soak.pages (p, c, v) VALUES (?, ?, ?)"
    for p in range(PAGES):
        async with anyio.create_task_group() as group:
            for c in range(PAGE_ROWS):
                group.start_soon(_insert_page_row, session, insert, (p, c, value_of(p * 1000 + c)))


async def _insert_page_row(session: cql.Session, insert: str, row: tuple[int, int, str]) -> None:
    await session.execute(
        insert, row, idempotent=True, consistency=cql.Consistency.ALL, timeout=_PATIENT
    )


async def warm_up(session: cql.Session) -> None:
    """Fill the session's caches of statements, so that they don't grow in later phases."""

    async def read(number: int) -> None:
        await session.execute(TEXT.format(-number), timeout=_PATIENT)

    await _for_each(range(_KEPT_TEXTS), read)


class Load:
    """The workers of a phase, and what they have seen.

    Arguments:
        session: the session that they use.
        figures: where the results are recorded.
        first: the first key; the phase uses the 2**32 keys from there on.

    Attributes:
        served: when each host last answered, by address, on the monotonic clock.
    """

    def __init__(self, session: cql.Session, figures: Figures, first: int) -> None:
        self.session = session
        self.figures = figures
        self.served: dict[str, float] = {}
        self.stopped = False
        self._done: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._facts = Ledger(first)
        self._locks = Ledger(first)
        self._unsettled: dict[int, cql.CQLError] = {}
        self._first = first
        self._counts: dict[int, tuple[int, int]] = {}
        self._names: dict[str, Callable[[Group, Random, int], Awaitable[None]]] = {
            "write": self._write,
            "once": self._once,
            "batch": self._batch,
            "read": self._read,
            "text": self._text,
            "pages": self._pages,
            "counter": self._counter,
            "lwt": self._lwt,
        }

    @property
    def total(self) -> int:
        """How many requests have succeeded."""
        return self._done.total()

    @property
    def failed(self) -> int:
        """How many requests have failed."""
        return self._errors.total()

    async def worker(self, group: Group, number: int) -> None:
        """Make one request after another until ``stopped`` is set."""
        random = Random(f"{self._first}/{group.name}/{number}")
        turn = number
        while not self.stopped:
            turn += 1
            kind = group.kinds[turn % len(group.kinds)]
            started = time.monotonic()
            try:
                await self._names[kind](group, random, number)
            except cql.CQLError as error:
                self._failed(group, kind, error)
            except Exception as error:
                self._note(self.figures.untyped, f"{kind}: {type(error).__name__}: {error}")
            else:
                self._done[kind] += 1
            took = time.monotonic() - started
            self.figures.longest = max(self.figures.longest, took)
            pages = 4 if kind == "pages" else 1  # the timeout applies to each page
            if took > group.timeout * pages + SLACK:
                self._note(self.figures.late, f"{group.name} {kind} took {took:.1f} s")
            await anyio.sleep(group.pause * (0.5 + random.random()))

    def note_results(self) -> None:
        """Write the counts into the figures."""
        self.figures.requests = dict(self._done)
        self.figures.errors = dict(self._errors)

    # -- the requests of workers

    async def _write(self, group: Group, random: Random, worker: int) -> None:
        await self._insert(group, idempotent=True)

    async def _once(self, group: Group, random: Random, worker: int) -> None:
        await self._insert(group, idempotent=False)

    async def _insert(self, group: Group, *, idempotent: bool) -> None:
        number = self._facts.begin()
        try:
            result = await self.session.execute(
                INSERT,
                (number, _n_of(number), value_of(number)),
                idempotent=idempotent,
                timeout=group.timeout,
                speculation=_speculation(group),
            )
        except cql.CQLError as error:
            self._facts.failed(number, error.maybe_applied)
            raise
        self._facts.acknowledged(number)
        self._served(result.host)

    async def _batch(self, group: Group, random: Random, worker: int) -> None:
        numbers = [self._facts.begin(), self._facts.begin()]
        try:
            result = await self.session.batch(
                [(INSERT, (each, _n_of(each), value_of(each))) for each in numbers],
                idempotent=True,
                timeout=group.timeout,
                speculation=_speculation(group),
            )
        except cql.CQLError as error:
            for each in numbers:
                self._facts.failed(each, error.maybe_applied)
            raise
        for each in numbers:
            self._facts.acknowledged(each)
        self._served(result.host)

    async def _read(self, group: Group, random: Random, worker: int) -> None:
        number = self._facts.some(random)
        if number is not None:
            result = await self.session.execute(
                SELECT, (number,), timeout=group.timeout, speculation=_speculation(group)
            )
            self._served(result.host)
            self._check(number, result.rows)

    async def _text(self, group: Group, random: Random, worker: int) -> None:
        number = self._facts.some(random)
        if number is not None:
            result = await self.session.execute(
                TEXT.format(number), timeout=group.timeout, speculation=_speculation(group)
            )
            self._served(result.host)
            self._check(number, result.rows)

    async def _pages(self, group: Group, random: Random, worker: int) -> None:
        p = random.randrange(PAGES)
        stream = self.session.stream(
            READ_PAGES,
            (p,),
            row=tuple,
            page_size=25,
            timeout=group.timeout,
            speculation=_speculation(group),
        )
        rows = [row async for row in stream]
        if rows != [(c, value_of(p * 1000 + c)) for c in range(PAGE_ROWS)]:
            self._note(self.figures.wrong, f"page {p}: {len(rows)} rows, or other ones")

    async def _counter(self, group: Group, random: Random, worker: int) -> None:
        key = self._first + worker
        sure, maybe = self._counts.get(key, (0, 0))
        # Until the reply comes, and after a cancellation, it may have been counted.
        self._counts[key] = (sure, maybe + 1)
        try:
            result = await self.session.execute(COUNT, (key,), timeout=group.timeout)
        except cql.CQLError as error:
            sure, maybe = self._counts[key]
            self._counts[key] = (sure, maybe - (not error.maybe_applied))
            raise
        sure, maybe = self._counts[key]
        self._counts[key] = (sure + 1, maybe - 1)
        self._served(result.host)

    async def _lwt(self, group: Group, random: Random, worker: int) -> None:
        number = self._locks.begin()
        try:
            result = await self.session.execute(
                LOCK, (number, value_of(number)), timeout=group.timeout
            )
        except cql.CQLError as error:
            self._locks.failed(number, error.maybe_applied)
            if error.maybe_applied:
                self._unsettled[number] = error
            raise
        self._served(result.host)
        if result.applied:
            self._locks.acknowledged(number)
        else:
            # only this request writes the key
            self._note(self.figures.twice, f"a condition met its own write: {result.existing}")

    # -- recording results

    def _served(self, host: str) -> None:
        self.served[host] = time.monotonic()

    def _check(self, number: int, rows: list[cql.Row]) -> None:
        if not rows:
            self._note(self.figures.lost, f"{number} was not there while it was read")
            return
        row = rows[0]
        found = (len(rows), row.k, row.n, row.v)
        if found != (1, number, _n_of(number), value_of(number)):
            self._note(self.figures.wrong, f"{number}: {rows!r:.200}")

    def _failed(self, group: Group, kind: str, error: cql.CQLError) -> None:
        name = type(error).__name__
        self._errors[f"{kind}: {name}" if group.name == "usual" else f"{group.name} {name}"] += 1
        text = f"{group.name} {kind}: {name}: {error}"
        if error.attempts:
            text += f", after {[f'{type(each).__name__}: {each}' for each in error.attempts]}"
        if isinstance(error, (cql.DatabaseError, cql.ConnectionFailed)) and not error.host:
            self._note(self.figures.untyped, f"no host: {text}")
        if name in group.excused or f"{kind} {name}" in group.excused:
            return
        if kind in IDEMPOTENT:
            self._note(self.figures.unexcused, text)
        elif not error.maybe_applied:
            self._note(self.figures.unexcused, f"it could have been sent again: {text}")

    def _note(self, notes: list[str], text: str) -> None:
        if len(notes) < _EXAMPLES:
            notes.append(text)

    # -- after the phase

    async def verify(self) -> None:
        """Read all written rows again, and settle locks with an unknown outcome."""
        await _for_each(self._facts.must_be(), self._look_for)
        await _for_each(self._facts.must_not_be(), self._look_for_ghost)
        await _for_each(self._locks.must_be(), self._look_for_lock)
        await _for_each(self._counts, self._look_at_count)
        await _for_each(list(self._unsettled)[:_SETTLED], self._settle)

    async def _look_for(self, number: int) -> None:
        rows = (await self._ask(SELECT, number, cql.Consistency.QUORUM)).rows
        if not rows:
            self._note(self.figures.lost, f"{number} was acknowledged")
        else:
            self._check(number, rows)
            self.figures.found += 1

    async def _look_for_ghost(self, number: int) -> None:
        if (await self._ask(SELECT, number, cql.Consistency.ALL)).rows:
            self._note(self.figures.ghosts, f"{number} is there")

    async def _look_for_lock(self, number: int) -> None:
        rows = (await self._ask(HOLDER, number, cql.Consistency.QUORUM)).rows
        if not rows:
            self._note(self.figures.lost, f"the lock {number} was acknowledged")
        elif rows[0].holder != value_of(number):
            self._note(self.figures.wrong, f"the lock {number}: {rows!r:.200}")
        else:
            self.figures.found += 1

    async def _look_at_count(self, key: int) -> None:
        rows = (await self._ask(COUNTED, key, cql.Consistency.ALL)).rows
        value = rows[0].n if rows else 0
        sure, maybe = self._counts[key]
        if value < sure:
            self._note(self.figures.lost, f"the counter {key} is {value}, {sure} were counted")
        elif value > sure + maybe:
            self._note(
                self.figures.twice,
                f"the counter {key} is {value}, {sure} were counted, {maybe} more perhaps",
            )

    async def _settle(self, number: int) -> None:
        mine = value_of(number)
        applied = await settle(
            self.session,
            self._unsettled[number],
            HOLDER,
            (number,),
            applied=lambda row: row is not None and row.holder == mine,
            timeout=_PATIENT,
        )
        there = bool((await self._ask(HOLDER, number, cql.Consistency.SERIAL)).rows)
        if applied is not there:
            self._note(self.figures.wrong, f"the lock {number} is {there}, settled as {applied}")

    async def _ask(
        self, query: str, number: int, consistency: cql.Consistency
    ) -> cql.Result[cql.Row]:
        deadline = anyio.current_time() + _PATIENT
        while True:
            try:
                return await self.session.execute(
                    query, (number,), consistency=consistency, timeout=_PATIENT
                )
            except cql.CQLError:  # nodes that have just started may consider others down
                if anyio.current_time() > deadline:
                    raise
                await anyio.sleep(0.25)


def _speculation(group: Group) -> cql.ConstantSpeculation | None:
    return None if group.speculation is None else cql.ConstantSpeculation(group.speculation)


async def _for_each(numbers: Iterable[int], function: Callable[[int], Awaitable[None]]) -> None:
    iterator = iter(numbers)

    async def work() -> None:
        for number in iterator:
            await function(number)

    async with anyio.create_task_group() as group:
        for _ in range(_AT_ONCE):
            group.start_soon(work)
