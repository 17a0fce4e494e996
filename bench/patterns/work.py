"""The works: what the workers of a turn do with a recipe, and whether the results are right.

A work is done by an object of ours.py or naive.py for each of two programs, which know nothing of
each other; here is what both have to achieve. The workers share one key, or have keys of their own.
"""

from __future__ import annotations

import collections
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from anyio.lowlevel import checkpoint

Step = Callable[[str], Awaitable[None]]
PROGRAMS = 2
MANY = 100  # rows of a query or a read
PER = 30 * 86_400  # seconds of a limit's window: nothing is refilled in a turn
AUTHORS = [f"author {number}" for number in range(8)]
STEPS = ("one", "two")
TENANTS = [f"tenant{number}" for number in range(4)]

_PREPARED_BY = {"edit": "post", "hit": "set", "get": "save", "run": "save"}


def expected(work: str, key: str) -> object:
    """Return what a read has to find."""
    match work:
        case "tenant":
            return TENANTS[int(key.rpartition("-")[2]) % len(TENANTS)]
        case "query" | "read":
            return list(range(MANY))
        case "hit":
            return key
    return tuple(user(key).values())


def user(key: str) -> dict[str, str]:
    """Return a user's row."""
    return {"id": key, "name": f"name of {key}", "email": f"{key}@x.org", "city": "Paris"}


def unlike(found: Sequence[float], count: int) -> int:
    """Return how many of ``count`` numbers are missing, or there more than once."""
    different = len(set(found))
    return count - different + len(found) - different


class Acting:
    """The operations of a turn, ``each`` by a worker: writes whose effects are looked at later."""

    def __init__(
        self, programs: Sequence[Any], work: str, keys: Sequence[str], workers: int, each: int
    ) -> None:
        self.programs, self.work, self.keys, self.each = programs, work, keys, each
        self.of_key = workers * each // len(keys)
        self.counts: collections.Counter[Any] = collections.Counter()
        self.bad = 0
        # The last checks of the workers are above the limit.
        self.limit = max(1, self.of_key - workers // len(keys))

    async def prepare(self, key: str) -> None:
        """Make a key ready, by another work if there is one that does."""
        if other := _PREPARED_BY.get(self.work):
            await self.programs[0].act(other, key, key, 0)
        else:
            await self.programs[0].prepare(self.work, key, self.of_key)

    async def run(self, worker: int) -> None:
        """Do the operations of a worker."""
        program = self.programs[worker % PROGRAMS]
        for number in range(worker * self.each, worker * self.each + self.each):
            await self.operate(program, self.keys[worker % len(self.keys)], number)

    async def operate(self, program: Any, key: str, number: int) -> None:
        # One of the workers ends the key's login at last: then it has to be dead.
        last = self.work == "visit" and number % self.of_key == self.each - 1
        await program.act("logout" if last else self.work, key, f"{key}.{number}", number)

    async def wrong(self) -> int:
        """Return how many results were wrong."""
        off = self.programs[0].off
        return sum([abs(await off(self.work, key, self.of_key)) for key in self.keys])


class Reading(Acting):
    """Reads of what is known. Their keys serve all turns."""

    async def operate(self, program: Any, key: str, number: int) -> None:
        found = await program.read(self.work, key)
        self.bad += found != expected(self.work, key)

    async def wrong(self) -> int:
        return self.bad


class Locking(Reading):
    """Critical sections, of which no two of a key may overlap."""

    async def operate(self, program: Any, key: str, number: int) -> None:
        lease = await program.acquire(key)
        self.bad += self.counts[key] > 0
        self.counts[key] += 1
        await checkpoint()
        self.counts[key] -= 1
        await program.release(lease)


class Stepping(Acting):
    """Steps that have to run once, or once in each program. All workers of a key want the same."""

    async def operate(self, program: Any, key: str, number: int) -> None:
        id = f"{key}.{number % self.each}"

        async def step(name: str) -> None:
            self.counts[id, name] += 1
            await checkpoint()

        await program.once(self.work, id, step)

    async def wrong(self) -> int:
        steps, most = (len(STEPS), 1) if self.work == "saga" else (1, PROGRAMS)
        missing = steps * len(self.keys) * self.each - len(self.counts)
        return abs(missing) + sum(max(0, runs - most) for runs in self.counts.values())


class Limiting(Acting):
    """Checks of a limit."""

    async def operate(self, program: Any, key: str, number: int) -> None:
        allowed = await program.check(self.work, key, self.limit)
        self.counts[key] += allowed

    async def wrong(self) -> int:
        return sum(max(0, admitted - self.limit) for admitted in self.counts.values())


class Work(NamedTuple):
    """How a use of a recipe is judged, and what it and a wrong result are called.

    ``shared``: it is also done with one key for all workers. ``slow``: it takes a second.
    """

    kind: type[Acting]
    what: str
    wrong: str = ""
    shared: bool = False
    slow: bool = False


WORKS = {
    "tenant": Work(Reading, "Tenants: session, one read", "rows of another tenant"),
    "tenants": Work(Acting, "Tenants: create", shared=True, slow=True),
    "write": Work(Acting, "TimeSeries: write", "points lost", shared=True),
    "query": Work(Reading, "TimeSeries: query 100 points", "wrong points"),
    "append": Work(Acting, "EventStore: append", "events lost", shared=True),
    "read": Work(Reading, "EventStore: read 100 events", "wrong events"),
    "post": Work(Acting, "Views: create"),
    "edit": Work(Acting, "Views: update", "rows wrong in a view", shared=True),
    "lock": Work(Locking, "Locks: acquire, release", "overlaps", shared=True),
    "hit": Work(Reading, "Cache: get, a hit", "wrong values"),
    "set": Work(Acting, "Cache: set"),
    "fill": Work(Stepping, "Cache: get_or_set, a miss", "loads too many", shared=True),
    "saga": Work(Stepping, "Sagas: run two steps", "steps run again", shared=True),
    "sell": Work(Acting, "Stock: reserve, commit", "sales lost", shared=True),
    "login": Work(Acting, "UserSessions: create"),
    "visit": Work(Acting, "UserSessions: validate", "alive after its end", shared=True),
    "sliding_window": Work(Limiting, "RateLimiter: sliding_window", "over the limit", shared=True),
    "token_bucket": Work(Limiting, "RateLimiter: token_bucket", "over the limit", shared=True),
    "approximate": Work(Limiting, "RateLimiter: approximate", "over the limit", shared=True),
    "get": Work(Reading, "Repository: get", "fields mixed up"),
    "save": Work(Acting, "Repository: save"),
    "count": Work(Acting, "Versioned: update by + 1", "increments lost", shared=True),
    "unit": Work(Acting, "UnitOfWork: commit 2 writes"),
    "run": Work(Reading, "Database: run, one row", "wrong rows"),
}
KEPT = ("tenant", "append", "lock", "fill", "login", "sliding_window", "count")
"""The works whose memory is measured over many keys."""
