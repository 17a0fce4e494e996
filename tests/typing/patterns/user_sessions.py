"""The types of user sessions. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from cqlproto_anyio.patterns import JSON, UserSession, UserSessions

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def signing_in(executor: cql.Executor) -> None:
    sessions = UserSessions(executor, keyspace="shop", ttl=3600)
    UserSessions(executor, keyspace="shop", table="logins", max_age=timedelta(days=1), codec=JSON)
    assert_type(await sessions.create_schema(), None)
    assert_type(UserSessions.schema_cql("shop"), tuple[str, ...])
    token = await sessions.create("ann", ip="192.0.2.1", data={"theme": "dark"})
    assert_type(token, str)
    found = await sessions.validate(token, touch=False)
    assert_type(found, UserSession | None)
    if found is not None:
        assert_type((found.id, found.user_id), tuple[str, str])
        assert_type(found.ip, str | None)
        assert_type(found.data, Mapping[str, Any])
        assert_type((found.created_at, found.expires_at), tuple[datetime, datetime])
        assert_type(await sessions.destroy(found), bool)
        found.user_id = "root"  # type: ignore[misc]
    assert_type(await sessions.destroy(token), bool)
    assert_type(await sessions.destroy_all("ann"), int)
    assert_type(await sessions.list("ann"), list[UserSession])


async def mistakes(sessions: UserSessions) -> None:
    await sessions.create(7)  # type: ignore[arg-type]
    await sessions.create("ann", "192.0.2.1")  # type: ignore[call-arg]
    await sessions.validate(None)  # type: ignore[arg-type]
