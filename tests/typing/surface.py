"""The types that users see. Checked by mypy in strict mode, never run."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, assert_type

import cqlproto_anyio as cql

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager


@dataclasses.dataclass
class User:
    id: uuid.UUID
    email: str


class Typed(TypedDict):
    id: uuid.UUID
    friend: User


def load_secret() -> str:
    return "secret"


async def connecting(context: ssl.SSLContext) -> None:
    async with cql.connect() as session:
        assert_type(session, cql.Session)
    async with cql.connect(
        ["db1", "db2"],
        keyspace="shop",
        auth=cql.PlainAuth("app", load_secret),
        tls=True,
        local_dc="eu",
    ) as session:
        assert_type(await session.aclose(), None)
    cql.connect("db1", port=9043, tls=context, profile=cql.Profile(timeout=2.0))
    awaited = await cql.connect("db1", wait=30)
    assert_type(awaited, cql.Session)
    async with awaited as same:
        assert_type(same, cql.Session)
    async with await cql.connect("db1") as other:
        assert_type(other, cql.Session)
    either: AbstractAsyncContextManager[cql.Session] = cql.connect()
    assert isinstance(either, Awaitable)
    await cql.connect("db1", wait="30")  # type: ignore[arg-type]
    cql.connect("db1,db2:9043")
    cql.connect(cql.Endpoint("10.0.0.1", server_name="db1"))
    cql.connect(["db1", cql.Endpoint("10.0.0.1")])
    cql.connect([1])  # type: ignore[list-item]
    cql.connect(port="9042")  # type: ignore[arg-type]


async def executing(session: cql.Session) -> None:
    assert_type(await session.execute("SELECT 1"), cql.Result[cql.Row])
    assert_type(await session.execute("SELECT 1", (1, "a")), cql.Result[cql.Row])
    assert_type(await session.execute("SELECT 1", {"a": 1}), cql.Result[cql.Row])
    assert_type(await session.execute("SELECT 1", User(uuid.uuid4(), "a")), cql.Result[cql.Row])
    assert_type(await session.execute("SELECT 1", row=User), cql.Result[User])
    users = await session.execute("SELECT 1", (1,), row=User, timeout=3)
    assert_type(users.first(), User | None)
    assert_type(users.one(), User)
    assert_type(users.rows, list[User])
    assert_type([user.email for user in users], list[str])
    assert_type(users.applied, bool)
    assert_type(users.existing, dict[str, Any] | None)
    assert_type(await session.execute("SELECT 1", row=tuple), cql.Result[tuple[Any, ...]])
    assert_type(await session.execute("SELECT 1", row=dict), cql.Result[dict[Any, Any]])
    assert_type(users.one_or_none(), User | None)
    assert_type(users[0], User)
    assert_type(users[1:], list[User])
    assert_type(users.scalars(), list[Any])
    assert_type(users.scalar(default=0), Any)
    assert_type(await session.execute("SELECT 1", row=int), cql.Result[int])
    assert_type((await session.execute("SELECT 1", row=uuid.UUID)).rows, list[uuid.UUID])
    assert_type(await session.execute("SELECT 1", row=dict[str, int]), cql.Result[dict[str, int]])
    assert_type(await session.execute("SELECT 1", row=Typed), cql.Result[Typed])
    assert_type(await session.execute("SELECT 1", row=list[User]), cql.Result[list[User]])
    assert_type(
        await session.execute("SELECT 1", row=tuple[int, User]), cql.Result[tuple[int, User]]
    )
    assert_type(session.closed, bool)
    assert_type(session.keyspace, str | None)
    row = (await session.execute("SELECT 1")).one()
    assert_type(row.keys(), tuple[str, ...])
    assert_type(dict(row), dict[Any, Any])
    assert_type("anything" in row, bool)
    assert_type(row.anything, Any)
    assert_type(row["anything"], Any)
    assert_type(row[0], Any)
    assert_type(await session.execute("U", {"a": 1}, partial=True), cql.Result[cql.Row])
    assert_type(await session.execute("S", {"a": 1}, row=User, partial=True), cql.Result[User])
    await session.execute("U", {"a": 1}, partial="yes")  # type: ignore[call-overload]
    await session.execute("SELECT 1", timeot=3)  # type: ignore[call-overload]
    await session.execute("SELECT 1", timeout="3")  # type: ignore[call-overload]
    await session.execute("SELECT 1", 1, 2)  # type: ignore[call-overload]


async def preparing(session: cql.Session) -> None:
    plain = await session.prepare("SELECT 1")
    assert_type(plain, cql.Prepared[cql.Row])
    typed = await session.prepare("SELECT 1", row=User)
    assert_type(typed, cql.Prepared[User])
    assert_type(await session.execute(typed, (1,)), cql.Result[User])
    assert_type(await session.execute(typed, (1,), row=dict), cql.Result[dict[Any, Any]])


async def paging(session: cql.Session, typed: cql.Prepared[User]) -> None:
    assert_type(await session.execute(typed, {"a": 1}, partial=True), cql.Result[User])
    assert_type(await session.page(typed, {"a": 1}, token=None, partial=True), cql.Page[User])
    assert_type(await session.page("S", {"a": 1}, partial=True), cql.Page[cql.Row])
    assert_type(session.stream(typed, {"a": 1}, partial=True), cql.RowStream[User])
    assert_type(session.stream("S", {"a": 1}, row=User, partial=True), cql.RowStream[User])
    page = await session.page(typed, ("eu",), page_size=50, token=None)
    assert_type(page, cql.Page[User])
    assert_type(page.rows, list[User])
    assert_type(page.next_token, str | None)
    assert_type(await session.page("SELECT 1"), cql.Page[cql.Row])
    stream = session.stream("SELECT 1", row=User)
    assert_type(stream, cql.RowStream[User])
    async for user in stream:
        assert_type(user, User)
    async for users in session.stream(typed).pages():
        assert_type(users, list[User])


async def batching(session: cql.Session, typed: cql.Prepared[User]) -> None:
    result = await session.batch(
        [(typed, (1,)), ("INSERT", {"a": 1}), "DELETE"], kind="unlogged", timeout=1.0
    )
    assert_type(result, cql.Result[cql.Row])
    await session.batch([("U", {"a": 1})], partial=True)
    await session.batch(["DELETE"], kind="loged")  # type: ignore[arg-type]


async def on_what_patterns_share(executor: cql.Executor, session: cql.Session) -> None:
    assert_type(await executor.execute("SELECT 1", row=User), cql.Result[User])
    assert_type(await executor.execute("U", {"a": 1}, partial=True), cql.Result[cql.Row])
    same: cql.Executor = session
    assert_type(await same.page("SELECT 1"), cql.Page[cql.Row])
    assert_type(session.using(profile=cql.Profile(timeout=None)), cql.Session)


async def choosing_options(session: cql.Session, name: str) -> None:
    profile = cql.Profile(timeout=30, consistency="quorum", serial_consistency="LOCAL_SERIAL")
    assert_type(profile.timeout, float | None)
    assert_type(profile.consistency, cql.Consistency)
    assert_type(profile.page_size, int | None)
    assert_type(session.profile, cql.Profile)
    assert_type(session.using(timeout=30, keyspace="shop", profile=profile), cql.Session)
    assert_type(dataclasses.replace(profile, page_size=7), cql.Profile)
    await session.execute("SELECT 1", consistency="local_quorum", page_size=None, profile=None)
    await session.execute("SELECT 1", consistency=cql.Consistency[name], serial_consistency=None)
    await session.batch(["DELETE"], timestamp=None, payload=None, now_in_seconds=None)
    await session.execute("SELECT 1", consistency="quorom")  # type: ignore[call-overload]
    await session.execute("SELECT 1", serial_consistency="one")  # type: ignore[call-overload]
    session.using(timeot=3)  # type: ignore[call-arg]
    session.using(timeout="3")  # type: ignore[arg-type]
    cql.Profile(timeot=3)  # type: ignore[call-arg]
    cql.Profile(consistency=4)  # type: ignore[arg-type]
    profile.timeout = 5  # type: ignore[misc]


def failing(error: cql.CQLError) -> None:
    assert_type(error.maybe_applied, bool)
    assert_type(error.host, str | None)
    if isinstance(error, cql.Unavailable):
        assert_type(error.required, int)
        assert_type(error.alive, int)
    if isinstance(error, cql.ConnectionFailed):
        assert_type(error.stage, str)
        assert_type(error.elapsed, float)
    unreachable: cql.ConnectionFailed = cql.NoHostAvailable([error])
    system: OSError = unreachable
    assert system
    timeout: TimeoutError = cql.RequestTimeout("late")
    assert timeout


async def looking_on(session: cql.Session, error: cql.CQLError) -> None:
    statistics = session.statistics()
    assert_type(statistics, cql.Statistics)
    assert_type(statistics.hosts, tuple[cql.HostStatistics, ...])
    assert_type(statistics.in_flight, int)
    result = await session.execute("SELECT 1", trace=True, retry=cql.NoRetry())
    assert_type(await session.trace(result), cql.Trace)
    assert_type(result.tracing_ids, tuple[uuid.UUID, ...])
    assert_type(result.warnings, Sequence[str])
    assert_type(session.stream("SELECT 1").columns, tuple[str, ...])
    assert_type(session.stream("SELECT 1").pages().column_types, tuple[str, ...])
    assert_type(session.stream("SELECT 1").warnings, Sequence[str])
    assert_type(session.stream("SELECT 1").tracing_ids, tuple[uuid.UUID, ...])
    assert_type(result.schema_agreed, bool | None)
    await session.execute("SELECT 1", speculation=cql.ConstantSpeculation(0.1))
    await session.execute("SELECT 1", retry="never")  # type: ignore[call-overload]
    applied = await cql.settle(session, error, "SELECT 1", row=User, applied=lambda user: user)
    assert_type(applied, bool)


def telling_time(moment: datetime.datetime, value: uuid.UUID) -> None:
    assert_type(cql.timeuuid(), uuid.UUID)
    assert_type(cql.timeuuid(moment), uuid.UUID)
    assert_type(cql.timeuuid_datetime(value), datetime.datetime)
    assert_type((cql.min_timeuuid(moment), cql.max_timeuuid(moment)), tuple[uuid.UUID, uuid.UUID])
    cql.timeuuid("2024-02-29")  # type: ignore[arg-type]


class Told(cql.Hooks):
    def request_finished(self, record: cql.RequestRecord) -> None:
        assert_type(record.elapsed, float)


def configured() -> cql.Config:
    cql.Config(routing=cql.DefaultRetry())  # type: ignore[arg-type]
    return cql.Config(
        hooks=Told(),
        routing=cql.Routing(rack="r1", host_filter=lambda host: host.datacenter == "eu"),
        reconnection=cql.ExponentialReconnection(base=0.5),
        translate=lambda endpoint: endpoint,
    )
