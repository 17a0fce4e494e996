"""The types of bulk execution. Checked by mypy in strict mode, never run."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, assert_type

import cqlproto_anyio as cql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

INSERT = "INSERT INTO users (id, name) VALUES (?, ?)"
SELECT = "SELECT name FROM users WHERE id = ?"


@dataclasses.dataclass
class User:
    id: int
    name: str


class Bar:
    def advance(self, rows: float = 1) -> None: ...


async def users() -> AsyncIterator[User]:
    yield User(1, "ann")


async def loading(session: cql.Session, rows: list[tuple[int, str]], bar: Bar) -> None:
    done = await session.execute_many(INSERT, rows)
    assert_type(done, cql.BulkResult[tuple[int, str]])
    assert_type(done.count, int)
    for failure in done.failures:
        assert_type(failure, cql.Failure[tuple[int, str]])
        assert_type(failure.index, int)
        assert_type(failure.row, tuple[int, str])
        assert_type(failure.error, Exception)
    prepared = await session.prepare(INSERT)
    assert_type(
        await session.execute_many(
            prepared,
            users(),
            concurrency=512,
            max_errors=1000,
            idempotent=True,
            progress=bar.advance,
            batch=30,
            partial=False,
            consistency="quorum",
            timeout=30,
            timestamp=1,
            profile=cql.Profile(retry=cql.NoRetry()),
        ),
        cql.BulkResult[User],
    )
    await session.using(keyspace="other").execute_many(INSERT, rows)
    try:
        await session.execute_many(INSERT, rows)
    except cql.BulkError as exc:
        assert_type(exc.count, int)
        assert_type(exc.failures, tuple[cql.Failure[Any], ...])
    await session.execute_many(INSERT, 1)  # type: ignore[arg-type]
    await session.execute_many(INSERT, rows, concurency=5)  # type: ignore[call-arg]
    await session.execute_many(INSERT, rows, max_errors="1")  # type: ignore[arg-type]
    await session.execute_many(1, rows)  # type: ignore[arg-type]


async def reading(session: cql.Session, keys: Iterable[tuple[int]]) -> None:
    async for key, result in session.map(SELECT, keys):
        assert_type(key, tuple[int])
        assert_type(result, cql.Result[cql.Row])
    async for _, typed in session.map(SELECT, keys, row=User, concurrency=64, ordered=False):
        assert_type(typed, cql.Result[User])
    prepared = await session.prepare(SELECT, row=str)
    async with session.map(prepared, users(), timeout=2) as stream:
        async for user, names in stream:
            assert_type(user, User)
            assert_type(names, cql.Result[str])
    async for _, either in session.map(prepared, keys, return_errors=True):
        assert_type(either, cql.Result[str] | Exception)
    async for _, rows_or_error in session.map(SELECT, keys, return_errors=True):
        assert_type(rows_or_error, cql.Result[cql.Row] | Exception)
    async for _, targeted in session.map(SELECT, keys, row=User, return_errors=True):
        assert_type(targeted, cql.Result[User] | Exception)
    session.map(SELECT, keys, order=False)  # type: ignore[call-overload]


async def libraries(session: cql.Session) -> None:
    executor: cql.BulkExecutor = session
    assert_type(await executor.execute_many(INSERT, [(1, "ann")]), cql.BulkResult[tuple[int, str]])
