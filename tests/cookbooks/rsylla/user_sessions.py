"""Users who sign in: a token that slides, ends with its session, and is no secret in the table."""

from __future__ import annotations

from cqlproto_anyio.patterns import UserSessions
from cqlproto_anyio.patterns.rsylla import Session


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    sessions = UserSessions(session.session, keyspace=keyspace, ttl=3600)
    await sessions.create_schema()
    token = await sessions.create("ann", ip="192.0.2.1", data={"theme": "dark"})
    other = await sessions.create("ann", ip="192.0.2.2")
    found = await sessions.validate(token)
    assert found is not None
    assert (found.user_id, found.data) == ("ann", {"theme": "dark"})
    assert len(await sessions.list("ann")) == 2
    stored = await session.execute(f"SELECT * FROM {keyspace}.user_sessions")
    assert not any(token.encode() in repr(row.columns()).encode() for row in stored)
    assert await sessions.destroy(token)
    assert await sessions.validate(token) is None  # a touch doesn't bring it back
    assert await sessions.destroy_all("ann") == 1
    assert await sessions.validate(other) is None
    await session.aclose()
