"""User sessions as web applications use them: sign in, a request, sign out everywhere."""

from __future__ import annotations

import datetime

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import JSON, InvalidInput, UserSessions

pytestmark = pytest.mark.cassandra

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
async def sessions(session: cql.Session, keyspace: str) -> UserSessions:
    sessions = UserSessions(session, keyspace=keyspace)
    await sessions.create_schema()
    return sessions


async def test_sign_in_a_request_and_sign_out(sessions: UserSessions) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    token = await sessions.create("ann", ip="192.0.2.7", data={"theme": "dark", "cart": [1, 2]})
    assert len(token) >= 43  # 256 bits
    assert token.replace("-", "").replace("_", "").isalnum()
    found = await sessions.validate(token)
    assert found is not None
    assert (found.user_id, found.ip) == ("ann", "192.0.2.7")
    assert found.data == {"theme": "dark", "cart": [1, 2]}
    assert before < found.created_at < before + 2 * HOUR
    assert HOUR - datetime.timedelta(minutes=2) < found.expires_at - found.created_at
    assert await sessions.validate(await sessions.create("bob")) is not None

    assert await sessions.destroy(token) is True
    assert await sessions.destroy(token) is False
    assert await sessions.validate(token) is None
    assert await sessions.validate("no such token") is None
    assert await sessions.validate("") is None


async def test_tokens_are_not_in_the_tables(
    session: cql.Session, keyspace: str, sessions: UserSessions
) -> None:
    token = await sessions.create("cid", data={"a": 1})
    tables = await session.execute(
        "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?", (keyspace,)
    )
    for table in tables.scalars():
        rows = await session.execute(f"SELECT * FROM {table}")
        assert token not in str(rows.rows)


async def test_the_devices_of_a_user(sessions: UserSessions) -> None:
    """A page lists them; one is signed out there, then all of them."""
    phone = await sessions.create("dora", ip="192.0.2.1", data={"device": "phone"})
    laptop = await sessions.create("dora", ip="2001:db8::1", data={"device": "laptop"})
    other = await sessions.create("emil")
    listed = await sessions.list("dora")
    assert [each.data["device"] for each in listed] == ["phone", "laptop"]
    assert all(each.id not in (phone, laptop) for each in listed)
    assert await sessions.validate(listed[0].id) is None  # an id is no token
    assert await sessions.destroy(listed[0]) is True
    assert await sessions.validate(phone) is None
    assert await sessions.validate(laptop) is not None

    await sessions.create("dora")
    assert await sessions.destroy_all("dora") == 2
    assert await sessions.validate(laptop) is None
    assert await sessions.list("dora") == []
    assert await sessions.destroy_all("dora") == 0
    assert await sessions.validate(other) is not None


async def test_sessions_slide_and_end(session: cql.Session, keyspace: str) -> None:
    """Requests keep a session alive; a request that only looks doesn't."""
    now = datetime.datetime.now(datetime.UTC)
    sessions = UserSessions(session, keyspace=keyspace, table="short", ttl=20, clock=lambda: now)
    await sessions.create_schema()
    active, idle = await sessions.create("ann", data={"a": 1}), await sessions.create("ann")
    for _ in range(4):
        now += datetime.timedelta(seconds=6)
        assert await sessions.validate(active) is not None
    assert await sessions.validate(idle, touch=False) is None
    [only] = await sessions.list("ann")
    assert only.data == {"a": 1}
    seen = await sessions.validate(active, touch=False)
    again = await sessions.validate(active, touch=False)
    assert seen is not None
    assert again is not None
    assert again.expires_at == seen.expires_at
    now += datetime.timedelta(seconds=20)
    assert await sessions.validate(active) is None
    assert await sessions.list("ann") == []


async def test_a_session_of_five_hours_at_most(session: cql.Session, keyspace: str) -> None:
    """However busy the user is, the password is asked for again."""
    now = datetime.datetime.now(datetime.UTC)
    sessions = UserSessions(
        session,
        keyspace=keyspace,
        table="aged",
        ttl=2 * HOUR,
        max_age=5 * HOUR,
        clock=lambda: now,
    )
    await sessions.create_schema()
    token = await sessions.create("ann")
    start = now
    for _ in range(4):
        now += HOUR
        found = await sessions.validate(token)
        assert found is not None
        assert found.expires_at <= start + 5 * HOUR + datetime.timedelta(seconds=1)
    now += 2 * HOUR
    assert await sessions.validate(token) is None
    assert await sessions.list("ann") == []


async def test_a_request_that_races_with_the_sign_out(sessions: UserSessions) -> None:
    token = await sessions.create("finn")

    async def request() -> None:
        await sessions.validate(token)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(request)
        group.start_soon(sessions.destroy, token)
        for _ in range(10):
            group.start_soon(request)
    assert await sessions.validate(token) is None
    assert await sessions.list("finn") == []


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, sessions: UserSessions
) -> None:
    for bad in (0, -1, float("inf"), 630_720_001):
        with pytest.raises(cql.UsageError, match="ttl"):
            UserSessions(session, keyspace="shop", ttl=bad)
    with pytest.raises(cql.UsageError, match="max_age"):
        UserSessions(session, keyspace="shop", max_age=-HOUR)
    with pytest.raises(cql.UsageError, match="user_id"):
        await sessions.create("")
    with pytest.raises(cql.UsageError, match="ip"):
        await sessions.create("ann", ip="somewhere")
    with pytest.raises(cql.UsageError, match="data"):
        await sessions.create("ann", data={"tags": {1, 2}})
    with pytest.raises(InvalidInput, match="data"):
        await sessions.create("ann", data={"text": "x" * (17 << 20)})
    UserSessions(session, keyspace="shop", codec=JSON)
    assert UserSessions.schema_cql("shop", table="logins")
