"""The works as cookbooks do them, by rsylla: look first, then act.

rsylla writes neither bigints nor uuids, and binds no TTL: texts, ints and literals stand in.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from rsylla import Batch

from bench.jobs import KEYSPACE
from bench.patterns import ours
from bench.patterns.work import AUTHORS, MANY, STEPS, Step, expected, unlike, user

_WITH = f"WITH replication = {ours.REPLICATION}"
_POINT = "INSERT INTO naive_points (key, day, at, value) VALUES (:key, :day, :at, :value)"
_POINTS = "SELECT value FROM naive_points WHERE key = :key AND day = :day AND at >= :a AND at <= :b"
_EVENTS = "SELECT data FROM naive_events WHERE key = :key"
_EVENT = "INSERT INTO naive_events (key, version, data) VALUES (:key, :version, :data)"
_CACHED = "SELECT value FROM naive_cache WHERE key = :key"
_CACHE = "INSERT INTO naive_cache (key, value) VALUES (:key, :value) USING TTL 3600"
_POST = "INSERT INTO naive_posts (id, author, tags, title) VALUES (:id, :author, :tags, 'On tea')"
_AUTHOR = "SELECT author FROM naive_posts WHERE id = :id"
_EDIT = "UPDATE naive_posts SET author = :author WHERE id = :id"
_TAG = "INSERT INTO naive_by_tag (tag, id) VALUES (:tag, :id)"
_LIST = "INSERT INTO naive_by_author (author, id, title) VALUES (:author, :id, 'On tea')"
_UNLIST = "DELETE FROM naive_by_author WHERE author = :author AND id = :id"
_LISTED = "SELECT author FROM naive_by_author WHERE author IN :authors AND id = :id"
_LEVEL = "SELECT quantity, reserved FROM naive_stock WHERE key = :key"
_STOCK = "INSERT INTO naive_stock (key, quantity, reserved) VALUES (:key, :left, :reserved)"
_LOGIN = "INSERT INTO naive_logins (key, name) VALUES (:key, 'ann') USING TTL 3600"
_VISIT = "SELECT name FROM naive_logins WHERE key = :key"
_COUNT = f"SELECT value FROM {KEYSPACE}.counts WHERE id = :key"
_SET_COUNT = f"INSERT INTO {KEYSPACE}.counts (id, value) VALUES (:key, :value)"
_SAGA = "INSERT INTO naive_sagas (key, status) VALUES (:key, :status)"
_LOCK = "INSERT INTO naive_locks (key, holder) VALUES (:key, 'me') USING TTL 30"
_COUNT_UP = "UPDATE naive_limits SET taken = taken + 1 WHERE key = :key"
_TAKE = "UPDATE naive_buckets SET taken = :taken WHERE key = :key"


class Naive:
    """The recipes of a cookbook. Statements are prepared once."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.statements: dict[str, Any] = {}

    async def prepared(self, query: str) -> Any:
        if query not in self.statements:
            text = query.replace("naive_", f"{KEYSPACE}.naive_")
            self.statements[query] = await self.session.prepare(text)
        return self.statements[query]

    async def rows(self, query: str, **values: Any) -> list[list[Any]]:
        result = await self.session.execute_prepared(await self.prepared(query), values)
        return [row.columns() for row in result.rows()]

    clients = rows

    async def first(self, query: str, **values: Any) -> Any:
        """Return the first column of the first row, or None."""
        rows = await self.rows(query, **values)
        return rows[0][0] if rows else None

    async def batch(self, *statements: tuple[str, dict[str, Any]]) -> None:
        batch = Batch("logged")
        for query, _ in statements:
            batch.append_prepared(await self.prepared(query))
        await self.session.batch(batch, [values for _, values in statements])

    async def write(self, key: str, number: int, moment: datetime) -> None:
        at = int(moment.timestamp() * 1000)
        await self.rows(_POINT, key=key, day=str(moment.date()), at=at, value=float(number))

    async def points(self, key: str, first: datetime, last: datetime) -> list[int]:
        a, b = int(first.timestamp() * 1000), int(last.timestamp() * 1000)
        days = sorted({str(first.date()), str(last.date())})
        of_days = [await self.rows(_POINTS, key=key, day=day, a=a, b=b) for day in days]
        return [int(value) for rows in of_days for (value,) in rows]

    async def prepare(self, work: str, key: str, count: int) -> None:
        match work:
            case "query" | "read":
                for number in range(MANY):
                    await self.rows(_EVENT, key=key, version=number, data=number)
                    await self.write(key, number, ours.START + timedelta(minutes=number))
            case "sell":
                await self.rows(_STOCK, key=key, left=count, reserved=0)
            case "visit":
                await self.rows(_LOGIN, key=key)
            case "count":
                await self.rows(_SET_COUNT, key=key, value=0)

    async def read(self, work: str, key: str) -> object:
        match work:
            case "tenant":
                await self.session.use_keyspace(ours.PREFIX + str(expected(work, key)), False)
                found = await self.session.execute("SELECT tenant FROM profile")
                return found.first_row().columns()[0]
            case "query":
                return await self.points(key, ours.START, ours.END)
            case "read":
                return [data for (data,) in await self.rows(_EVENTS, key=key)]
            case "hit":
                return await self.first(_CACHED, key=key)
            case "get":  # by position, as the fields are declared
                found = await self.rows(f"SELECT * FROM {KEYSPACE}.users WHERE id = :id", id=key)
                return tuple(found[0])
        return tuple((await self.session.execute(ours.SELECT, {"id": key})).first_row().columns())

    async def act(self, work: str, key: str, id: str, number: int) -> None:
        author = AUTHORS[number % len(AUTHORS)]
        match work:
            case "tenants":
                name = ours.PREFIX + key.replace("-", "_")
                await self.session.execute(f"CREATE KEYSPACE IF NOT EXISTS {name} {_WITH}")
                await self.session.execute(f"CREATE TABLE IF NOT EXISTS {name}.{ours.PROFILE}")
            case "write":
                await self.write(key, number, datetime.now(UTC))
            case "append":
                newest = "SELECT MAX(version) FROM naive_events WHERE key = :key"
                version = (await self.first(newest, key=key) or 0) + 1
                await self.rows(_EVENT, key=key, version=version, data=number)
            case "post":
                listed = {"author": author, "id": id}
                tags = [(_TAG, {"tag": tag, "id": id}) for tag in ("a", "b")]
                await self.batch((_POST, {**listed, "tags": ["a", "b"]}), (_LIST, listed), *tags)
            case "edit":
                old = {"author": await self.first(_AUTHOR, id=key), "id": key}
                new = {"author": author, "id": key}
                await self.batch((_EDIT, new), (_UNLIST, old), (_LIST, new))
            case "set":
                await self.rows(_CACHE, key=id, value=id)
            case "sell":
                for taken, reserved in ((0, 1), (1, -1)):
                    ((left, before),) = await self.rows(_LEVEL, key=key)
                    await self.rows(_STOCK, key=key, left=left - taken, reserved=before + reserved)
            case "login":
                await self.rows(_LOGIN, key=id)
            case "visit":
                if await self.first(_VISIT, key=key):
                    await self.rows(_LOGIN, key=key)
            case "logout":
                await self.rows("DELETE FROM naive_logins WHERE key = :key", key=key)
            case "save":
                await self.rows(ours.INSERT, **user(id))
            case "count":
                value = await self.first(_COUNT, key=key) + 1
                await self.rows(_SET_COUNT, key=key, value=value)
            case "unit":
                email = {"email": user(id)["email"], "id": id}
                await self.batch((ours.INSERT, user(id)), (ours.INSERT_EMAIL, email))

    async def off(self, work: str, key: str, count: int) -> int:
        match work:
            case "write":
                now = datetime.now(UTC)
                return unlike(await self.points(key, now - timedelta(hours=1), now), count)
            case "append":
                return unlike([data for (data,) in await self.rows(_EVENTS, key=key)], count)
            case "edit":
                listed = await self.rows(_LISTED, authors=AUTHORS, id=key)
                return len({author for (author,) in listed} ^ {await self.first(_AUTHOR, id=key)})
            case "sell":
                ((left, reserved),) = await self.rows(_LEVEL, key=key)
                return int(abs(left) + abs(reserved))
            case "visit":
                return int(await self.first(_VISIT, key=key) is not None)
            case "count":
                return count - int(await self.first(_COUNT, key=key))
        return 0

    async def acquire(self, key: str) -> Any:
        if await self.first("SELECT holder FROM naive_locks WHERE key = :key", key=key):
            await asyncio.sleep(0.005)
            return await self.acquire(key)
        await self.rows(_LOCK, key=key)
        return key

    async def release(self, lease: Any) -> None:
        await self.rows("DELETE FROM naive_locks WHERE key = :key", key=lease)

    async def once(self, work: str, id: str, step: Step) -> None:
        if work == "fill":
            if await self.first(_CACHED, key=id) is None:
                await step("load")
                await self.rows(_CACHE, key=id, value="")
        elif await self.first("SELECT status FROM naive_sagas WHERE key = :key", key=id) is None:
            await self.rows(_SAGA, key=id, status="begun")
            for name in STEPS:
                await step(name)
                await self.rows(_SAGA, key=id, status=name)

    async def check(self, work: str, key: str, limit: int) -> bool:
        bucket = work == "token_bucket"
        query = f"SELECT taken FROM naive_{'buckets' if bucket else 'limits'} WHERE key = :key"
        taken = await self.first(query, key=key) or 0
        if taken < limit:
            more = {"taken": taken + 1} if bucket else {}
            await self.rows(_TAKE if bucket else _COUNT_UP, key=key, **more)
        return bool(taken < limit)
