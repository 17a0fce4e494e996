"""The works by the recipes, and the tables of all works."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import cqlproto_anyio as cql
from bench.jobs import KEYSPACE
from bench.patterns.work import AUTHORS, MANY, PER, STEPS, TENANTS, Step, expected, unlike, user
from cqlproto_anyio import patterns

START = datetime(2026, 1, 1, 23, tzinfo=UTC)  # of a query, whose points are a minute apart
END = START + timedelta(minutes=MANY)
PREFIX = f"{KEYSPACE}_t_"
PROFILE = "profile (id text PRIMARY KEY, tenant text)"
REPLICATION = {"class": "SimpleStrategy", "replication_factor": 1}
INSERT = f"INSERT INTO {KEYSPACE}.users (id, name, email, city) VALUES (:id, :name, :email, :city)"
INSERT_EMAIL = f"INSERT INTO {KEYSPACE}.users_by_email (email, id) VALUES (:email, :id)"
SELECT = f"SELECT id, name, email, city FROM {KEYSPACE}.users WHERE id = :id"
_LISTED = f"SELECT author FROM {KEYSPACE}.posts_by_author WHERE author IN ? AND id = ?"
_TABLES = """
users (id text PRIMARY KEY, name text, email text, city text)
users_by_email (email text PRIMARY KEY, id text)
counts (id text PRIMARY KEY, value int, version bigint, writer uuid)
naive_points (key text, day text, at timestamp, value float, PRIMARY KEY ((key, day), at))
naive_events (key text, version int, data int, PRIMARY KEY (key, version))
naive_posts (id text PRIMARY KEY, author text, tags set<text>, title text)
naive_by_author (author text, id text, title text, PRIMARY KEY (author, id))
naive_by_tag (tag text, id text, title text, PRIMARY KEY (tag, id))
naive_locks (key text PRIMARY KEY, holder text)
naive_cache (key text PRIMARY KEY, value text)
naive_sagas (key text PRIMARY KEY, status text)
naive_stock (key text PRIMARY KEY, quantity int, reserved int)
naive_logins (key text PRIMARY KEY, name text)
naive_limits (key text PRIMARY KEY, taken counter)
naive_buckets (key text PRIMARY KEY, taken int)
"""
_TOKENS: dict[str, str] = {}  # of logins, which both programs know

_User: Any = dataclasses.make_dataclass("_User", [(name, str) for name in user("")])


class Ours:
    """The recipes of one program."""

    def __init__(self, session: cql.Session) -> None:
        self.session = session
        place: dict[str, Any] = {"keyspace": KEYSPACE}
        by_key: dict[str, Any] = {"keyspace": KEYSPACE, "key": ["id"]}
        eager: dict[str, Any] = {"max_retries": 1_000, "retry_delay": 0.002, "max_delay": 0.1}
        self.series = patterns.TimeSeries(session, **place)
        self.events = patterns.EventStore(session, **place)
        self.locks = patterns.Locks(session, **place)
        self.cache = patterns.Cache(session, **place, ttl=3600)
        self.stock = patterns.Stock(session, **place)
        self.logins = patterns.UserSessions(session, **place)
        self.users = patterns.Repository(session, _User, table="users", **by_key)
        self.counts = patterns.Versioned(session, table="counts", **by_key, **eager)
        self.database = patterns.Database(session)
        of_tenants: dict[str, Any] = {"prefix": PREFIX, "replication": REPLICATION}
        self.tenants = patterns.Tenants(session, schema=[f"CREATE TABLE {PROFILE}"], **of_tenants)
        columns = {"id": "text", "author": "text", "tags": "set<text>", "title": "text"}
        posts = patterns.Table("posts", key=["id"], columns=columns)
        by_author = patterns.Table("posts_by_author", key=["author"], columns=["title"])
        by_tag = patterns.Table("posts_by_tag", key=["tag"], each={"tag": "tags"}, columns=[])
        self.views = patterns.Views(session, **place, base=posts, views=[by_author, by_tag])
        self.limiters: dict[tuple[str, int], patterns.RateLimiter] = {}
        sagas = patterns.Sagas(session, **place, sagas=[])
        recipes = self.series, self.events, self.views, self.locks, self.cache, self.stock
        self.with_tables = (*recipes, self.logins, sagas, self.limiter("approximate", 1))

    def limiter(self, work: str, limit: int) -> patterns.RateLimiter:
        if (work, limit) not in self.limiters:
            options: dict[str, Any] = {"algorithm": work, "on_failure": "raise"}
            self.limiters[work, limit] = patterns.RateLimiter(
                self.session, keyspace=KEYSPACE, limit=limit, per=PER, **options
            )
        return self.limiters[work, limit]

    async def clients(self, query: str) -> list[Any]:
        return (await self.session.execute(query, row=tuple)).rows

    async def prepare(self, work: str, key: str, count: int) -> None:
        match work:
            case "query":
                for number in range(MANY):
                    await self.series.write(key, number, START + timedelta(minutes=number))
            case "read":
                events = [patterns.NewEvent("happened", number) for number in range(MANY)]
                await self.events.append(key, events, expected_version=0)
            case "sell":
                await self.stock.add(key, count)
            case "visit":
                _TOKENS[key] = await self.logins.create(key)
            case "count":
                await self.counts.insert({"id": key, "value": 0})

    async def read(self, work: str, key: str) -> object:
        match work:
            case "tenant":
                session = self.tenants.session(str(expected(work, key)))
                return (await session.execute("SELECT tenant FROM profile")).scalar()
            case "query":
                return [int(point.value) async for point in self.series.query(key, START, END)]
            case "read":
                return [event.data async for event in self.events.read(key)]
            case "hit":
                return await self.cache.get(key)
            case "get":
                return (found := await self.users.get(key)) and dataclasses.astuple(found)
        row = await self.database.run(SELECT, {"id": key}, fetch="one")
        return row and tuple(row.values())

    async def act(self, work: str, key: str, id: str, number: int) -> None:
        match work:
            case "tenants":
                await self.tenants.create(key)
            case "session":
                self.tenants.session(key)
            case "write":
                await self.series.write(key, number)
            case "append":
                await self.events.append(key, [patterns.NewEvent("happened", number)])
            case "post":
                post = {"id": id, "author": AUTHORS[0], "tags": {"a", "b"}, "title": "On tea"}
                await self.views.create(post)
            case "edit":
                await self.views.update(key, {"author": AUTHORS[number % len(AUTHORS)]})
            case "set":
                await self.cache.set(id, id)
            case "sell":
                await self.stock.reserve(key, 1, id)
                await self.stock.commit(id)
            case "login":
                await self.logins.create(id)
            case "visit":
                await self.logins.validate(_TOKENS[key])
            case "logout":
                await self.logins.destroy(_TOKENS[key])
            case "save":
                await self.users.save(_User(**user(id)))
            case "count":
                done = await self.counts.update(key, lambda row: {"value": row["value"] + 1})
                done.raise_for_status()
            case "unit":
                async with patterns.UnitOfWork(self.session) as unit:
                    unit.add(INSERT, user(id))
                    unit.add(INSERT_EMAIL, {"email": user(id)["email"], "id": id})

    async def off(self, work: str, key: str, count: int) -> int:
        match work:
            case "write":
                now, day = datetime.now(UTC), timedelta(days=1)
                points = self.series.query(key, now - day, now + day)
                return unlike([point.value async for point in points], count)
            case "append":
                return unlike([event.data async for event in self.events.read(key)], count)
            case "edit":
                row = await self.views.get(key) or {}
                listed = (await self.session.execute(_LISTED, (AUTHORS, key))).scalars()
                return len({*listed} ^ {row.get("author")})
            case "sell":
                level = await self.stock.level(key)
                return level.quantity + level.reserved
            case "visit":
                return int(await self.logins.validate(_TOKENS[key]) is not None)
            case "count":
                return count - int((await self.counts.read(key)).values["value"])
        return 0

    async def acquire(self, key: str) -> Any:
        return await self.locks.acquire(key, ttl=30, wait=60)

    async def release(self, lease: Any) -> None:
        await lease.release()

    async def once(self, work: str, id: str, step: Step) -> None:
        async def action(context: patterns.SagaContext) -> None:
            await step(context.step)

        if work == "fill":
            await self.cache.get_or_set(id, partial(step, "load"))
        else:
            saga = patterns.Saga("bench", [patterns.Step(name, action) for name in STEPS])
            sagas = patterns.Sagas(self.session, keyspace=KEYSPACE, sagas=[saga])
            with contextlib.suppress(patterns.SagaBusy):  # the other program runs it
                await sagas.run("bench", id)

    async def check(self, work: str, key: str, limit: int) -> bool:
        return (await self.limiter(work, limit).check(key)).allowed

    async def setup(self) -> None:
        """Create all tables, and some tenants with a profile."""
        for text in _TABLES.strip().splitlines():
            await self.session.execute(f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.{text}", timeout=30)
        for recipe in self.with_tables:
            await recipe.create_schema()
        for tenant in TENANTS:
            await self.tenants.create(tenant)
            insert = f"INSERT INTO profile (id, tenant) VALUES ('me', '{tenant}')"
            await self.tenants.session(tenant).execute(insert)

    async def drop(self) -> None:
        """Drop the keyspaces of tenants; the benchmark drops its own."""
        names = await self.session.execute("SELECT keyspace_name FROM system_schema.keyspaces")
        for name in names.scalars():
            if name.startswith(PREFIX):
                await self.session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
