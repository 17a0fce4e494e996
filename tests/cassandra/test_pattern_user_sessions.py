"""User sessions on a real node: when they end, and requests that race with the end."""

from __future__ import annotations

import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import OutcomeUnknown, UserSessions
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

COLUMNS = ("user_id", "ip", "data", "created_at", "expires_at")


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    for statement in UserSessions.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(f"CREATE TABLE {keyspace}.naive (id text PRIMARY KEY, user text, seen int)")


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def fresh() -> str:
    return uuid.uuid4().hex


async def test_a_session_ends_to_the_second(session: cql.Session, keyspace: str) -> None:
    sessions = UserSessions(session, keyspace=keyspace, ttl=1.5)
    asked = time.monotonic()
    token = await sessions.create("ann")
    seen = told = time.monotonic()
    while await sessions.validate(token, touch=False):
        seen = time.monotonic()
        await anyio.sleep(0.02)
    assert seen >= asked + 1.5 - 0.2
    assert time.monotonic() <= told + 1.5 + 0.5


async def test_renewal_writes_every_column(session: cql.Session, keyspace: str) -> None:
    sessions = UserSessions(session, keyspace=keyspace, ttl=4)
    user = fresh()
    token = await sessions.create(user, ip="192.0.2.7", data={"cart": [1]})
    [listed] = await sessions.list(user)
    ttls = ", ".join(f"ttl({each})" for each in COLUMNS)
    select = f"SELECT {ttls} FROM user_sessions WHERE id = ? ALLOW FILTERING"
    for _ in range(2):
        await anyio.sleep(1.05)
        asked = time.monotonic()
        assert await sessions.validate(token)
        [left] = set((await session.execute(select, (listed.id,))).one())
        assert left >= 5 - 1 - (time.monotonic() - asked)  # servers count whole seconds
    found = await sessions.validate(token)
    assert found is not None
    assert (found.ip, found.data) == ("192.0.2.7", {"cart": [1]})


async def touch(session: cql.Session, keyspace: str, token: str, mark: str) -> list[bool]:
    """Validate until the session is dead, and a while longer: the second process of the race."""
    sessions = UserSessions(session, keyspace=keyspace, ttl=2)
    seen = [await sessions.validate(token) is not None]
    await session.execute("INSERT INTO naive (id) VALUES (?)", (mark,))
    while seen[-10:] != [False] * 10 and len(seen) < 1000:
        await anyio.sleep(0.02)
        seen.append(await sessions.validate(token) is not None)
    return seen


async def test_an_end_that_races_with_requests_of_two_processes(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    sessions = UserSessions(session, keyspace=keyspace, ttl=2)
    token, marks = await sessions.create("ann"), [fresh(), fresh()]

    async def destroy() -> list[bool]:
        select = "SELECT id FROM naive WHERE id IN ?"
        while len((await session.execute(select, (marks,))).rows) < 2:  # both have begun
            await sessions.validate(token)
            await anyio.sleep(0.05)
        await anyio.sleep(0.3)
        return [await sessions.destroy(token)]

    mine, other = partial(touch, session), partial(in_other_process, touch, cassandra)
    calls: list[Any] = [destroy]
    calls += [
        partial(each, keyspace, token, mark)
        for each, mark in zip((mine, other), marks, strict=True)
    ]
    [ended], *seen = await all_of(calls)
    assert ended is True
    for each in seen:
        assert each == sorted(each, reverse=True)  # alive, and from some moment on dead
        assert each[0]
        assert not each[-1]
    assert await sessions.validate(token) is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_naive_renewal_revives_a_session(session: cql.Session) -> None:
    """An UPDATE without a condition inserts."""
    id = fresh()
    select = "SELECT user FROM naive WHERE id = ?"
    await session.execute("INSERT INTO naive (id, user) VALUES (?, 'ann') USING TTL 60", (id,))
    row = (await session.execute(select, (id,))).one()
    await session.execute("DELETE FROM naive WHERE id = ?", (id,))
    update = "UPDATE naive USING TTL 60 SET user = ?, seen = 1 WHERE id = ?"
    await session.execute(update, (row.user, id))
    assert (await session.execute(select, (id,))).scalar() == "ann"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_naive_renewal_of_one_column_loses_the_others(session: cql.Session) -> None:
    id = fresh()
    await session.execute("INSERT INTO naive (id, user) VALUES (?, 'ann') USING TTL 1", (id,))
    await session.execute("UPDATE naive USING TTL 60 SET seen = 1 WHERE id = ?", (id,))
    await anyio.sleep(2.1)
    select = "SELECT user, seen FROM naive WHERE id = ?"
    assert (await session.execute(select, (id,))).one() == (None, 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_each_call_costs(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        sessions = UserSessions(session, keyspace=keyspace, ttl=20)
        user = fresh()

        async def cost(call: Any) -> tuple[int, int]:
            counting.records.clear()
            await call()
            assert counting.lwts + counting.reads == len(counting.records)
            return counting.lwts, counting.reads

        token = await sessions.create(user)
        assert await cost(partial(sessions.create, user)) == (1, 0)
        assert await cost(partial(sessions.validate, token)) == (0, 1)
        await anyio.sleep(1.1)
        assert await cost(partial(sessions.validate, token)) == (1, 1)
        assert await cost(partial(sessions.list, user)) == (0, 1)
        assert await cost(partial(sessions.destroy, token)) == (1, 0)
        for _ in range(3):
            await sessions.create(user)
        assert await cost(partial(sessions.destroy_all, user)) == (1, 2)
        assert await sessions.list(user) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=2)
@given(
    renewal=st.sampled_from(list(FAULTS)),
    end=st.sampled_from([*FAULTS, None]),
    pause=st.sampled_from([0.0, 0.003, 0.05]),
)
def test_no_fault_revives_a_session(
    cassandra: Node, keyspace: str, backend: str, renewal: str, end: str | None, pause: float
) -> None:
    """A renewal and an end, both over bad networks, at the same time."""

    async def run() -> None:
        async with connected(cassandra, keyspace) as good:
            sessions = UserSessions(good, keyspace=keyspace, ttl=8)
            user = fresh()
            token = await sessions.create(user)
            await anyio.sleep(1)

            async def renew() -> None:
                async with faulty(cassandra, keyspace, [renewal]) as shaky:
                    try:
                        await UserSessions(shaky, keyspace=keyspace, ttl=8).validate(token)
                    except cql.CQLError as error:
                        assert isinstance(error, (cql.ServerOverloaded, OutcomeUnknown))

            async def destroy() -> bool:
                await anyio.sleep(pause)
                async with faulty(cassandra, keyspace, [end]) as shaky:
                    try:
                        return await UserSessions(shaky, keyspace=keyspace).destroy(token)
                    except cql.CQLError as error:
                        assert isinstance(error, (cql.ServerOverloaded, OutcomeUnknown))
                        return await sessions.destroy(token)

            await all_of([renew, destroy])
            assert await sessions.validate(token) is None
            await anyio.sleep(0.7)  # copies that come late
            assert await sessions.validate(token) is None
            assert await sessions.list(user) == []

    anyio.run(run, backend=backend)
