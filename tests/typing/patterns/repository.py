"""The types of repositories. Checked by mypy, never run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, assert_type

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import RecordExists, RecordNotFound, Repository


@dataclasses.dataclass
class User:
    id: int
    name: str


async def keeping(executor: cql.Executor) -> None:
    users = Repository(executor, User, keyspace="shop", table="users", key=["id"])
    assert_type(users, Repository[User])
    assert_type(await users.create(User(1, "Ann"), ttl=60), None)
    assert_type(await users.get(1), User | None)
    assert_type(await users.get_many([1, (2,), {"id": 3}], concurrency=4), list[User | None])
    assert_type(await users.update(1, name="Anna"), None)
    assert_type(await users.save(User(1, "Ann"), ttl=timedelta(hours=1)), None)
    assert_type(await users.delete(1), bool)
    assert_type(users.stream(), cql.RowStream[User])
    async for user in users.stream():
        assert_type(user.name, str)


async def mistakes(executor: cql.Executor, users: Repository[User]) -> None:
    Repository(executor, User, keyspace="shop", table="users")  # type: ignore[call-arg]
    await users.create({"id": 1})  # type: ignore[arg-type]
    await users.save("Ann")  # type: ignore[arg-type]
    (await users.get(1)).name  # type: ignore[union-attr]  # noqa: B018


def failing(missing: RecordNotFound, exists: RecordExists) -> None:
    assert_type((missing.table, missing.key), tuple[str, tuple[Any, ...]])
    assert_type((exists.table, exists.key), tuple[str, tuple[Any, ...]])
    assert_type(exists.existing, Mapping[str, Any])
