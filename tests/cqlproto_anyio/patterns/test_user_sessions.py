"""User sessions: what is stored, when they end, and races of requests with the end."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    BYTES,
    Codec,
    CorruptPayload,
    InvalidInput,
    UserSession,
    UserSessions,
)
from tests.cqlproto_anyio.patterns.usersessiontable import UserSessionTable
from tests.support.cancellation import cancelled_at

START = datetime(2024, 2, 29, 12, tzinfo=UTC)


def clock() -> datetime:
    return START + timedelta(seconds=anyio.current_time())


def sessions(table: UserSessionTable, **options: Any) -> UserSessions:
    return UserSessions(table.executor, keyspace="shop", clock=clock, **options)


async def test_a_token_is_random_and_only_its_hash_is_stored() -> None:
    table = UserSessionTable()
    mine = sessions(table)
    tokens = {await mine.create("ann@example.org") for _ in range(100)}
    secrets = {base64.urlsafe_b64decode(token)[:32] for token in tokens}
    assert len(secrets) == 100
    sent = [each.values for each in table.executor.asked]
    stored = b"".join(each for values in sent for each in map(_bytes, values.values()))
    for token in tokens:
        raw = base64.urlsafe_b64decode(token)
        assert (len(token), len(raw)) == (64, 48)
        assert b"ann@example.org" not in raw
        found = await mine.validate(token)
        assert found is not None
        assert found.id == hashlib.sha256(raw).hexdigest()
        for shown in (token.encode(), token[:42].encode(), raw[:32], raw[:32].hex().encode()):
            assert shown not in stored
        assert found.id.encode() in stored


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def test_what_each_call_costs() -> None:
    table = UserSessionTable()
    mine = sessions(table)
    token = await mine.create("ann", ip="192.0.2.7", data={"a": 1})
    assert (len(table.executor.asked), table.executor.lwts) == (1, 1)
    assert await mine.validate(token)  # it was renewed a moment ago
    assert (len(table.executor.asked), table.executor.lwts) == (2, 1)
    await anyio.sleep(2)
    assert await mine.validate(token, touch=False)
    assert (len(table.executor.asked), table.executor.lwts) == (3, 1)
    assert await mine.validate(token)
    assert (len(table.executor.asked), table.executor.lwts) == (5, 2)
    assert await mine.list("ann")
    assert await mine.destroy(token)
    assert (len(table.executor.asked), table.executor.lwts) == (7, 3)
    for wrong in ("", "no token", "é" * 64, token[:-4], token + "AAAA", "A" * 63 + "="):
        assert await mine.validate(wrong) is None
        assert await mine.destroy(wrong) is False
    assert len(table.executor.asked) == 7


async def test_a_session_ends_to_the_second() -> None:
    table = UserSessionTable()
    mine = sessions(table, ttl=timedelta(minutes=1))
    token = await mine.create("ann")
    await anyio.sleep(59.999)
    assert await mine.validate(token, touch=False) is not None
    await anyio.sleep(0.001)
    assert await mine.validate(token) is None
    assert await mine.list("ann") == []
    assert await mine.destroy_all("ann") == 0
    assert table.cells == {}


async def test_a_clock_that_is_ahead_leaves_no_session_alive() -> None:
    """All sessions of a user end, also those that have ended by the clock of the caller."""
    table = UserSessionTable()
    mine = sessions(table, ttl=60)
    token = await mine.create("ann")
    ahead = UserSessions(
        table.executor, keyspace="shop", clock=lambda: clock() + timedelta(hours=1)
    )
    assert await ahead.list("ann") == []
    await ahead.destroy_all("ann")
    assert await mine.validate(token) is None


async def test_every_column_is_renewed() -> None:
    """A column that isn't written again would be null after the first TTL."""
    table = UserSessionTable()
    mine = sessions(table, ttl=60)
    token = await mine.create("ann", ip="2001:db8::1", data={"cart": [1]})
    created = clock()
    for _ in range(10):
        await anyio.sleep(40)
        found = await mine.validate(token)
        assert found is not None
        assert (found.user_id, found.ip, found.data) == ("ann", "2001:db8::1", {"cart": [1]})
        assert found.created_at == created
        assert found.expires_at == clock() + timedelta(seconds=60)
    await anyio.sleep(62)
    assert table.rows(next(iter(table.cells))[0]) == []


async def test_a_session_is_renewed_once_a_second() -> None:
    table = UserSessionTable()
    mine = sessions(table, ttl=60)
    token = await mine.create("ann")
    await anyio.sleep(10)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(mine.validate, token)
    assert table.executor.lwts <= 21
    before = table.executor.lwts
    for _ in range(9):
        await anyio.sleep(0.1)
        assert await mine.validate(token)
    assert table.executor.lwts == before
    short = sessions(table, ttl=0.5)
    token = await short.create("ann")
    for _ in range(10):
        await anyio.sleep(0.1)
        assert await short.validate(token)


async def test_the_longest_age() -> None:
    table = UserSessionTable()
    mine = sessions(table, ttl=60, max_age=timedelta(seconds=100))
    token = await mine.create("ann")
    for _ in range(3):
        await anyio.sleep(30)
        found = await mine.validate(token)
        assert found is not None
        assert found.expires_at <= found.created_at + timedelta(seconds=100)
    lwts = table.executor.lwts
    await anyio.sleep(9.9)
    assert await mine.validate(token)
    assert table.executor.lwts == lwts
    await anyio.sleep(0.1)
    assert await mine.validate(token) is None


@pytest.mark.parametrize("late", [None, "request", "reply", "late"])
async def test_a_renewal_that_races_with_the_end_revives_nothing(late: str | None) -> None:
    table = UserSessionTable()
    mine, other = sessions(table), sessions(table)
    token = await mine.create("ann", data={"a": 1})
    await anyio.sleep(10)

    async def destroy() -> None:
        assert await other.destroy(token)

    table.faults = [destroy] if late is None else [late, None, None]
    if late is None:
        assert await mine.validate(token) is None
    else:
        assert await mine.validate(token) is not None
        assert await other.destroy(token)
    table.deliver()
    assert await mine.validate(token) is None
    assert await mine.list("ann") == []
    assert all(not table.row(key) for key in table.cells)


async def test_a_renewal_that_another_request_has_overtaken() -> None:
    table = UserSessionTable()
    mine, other = sessions(table, ttl=60), sessions(table, ttl=600)
    token = await mine.create("ann")
    await anyio.sleep(10)

    async def renew() -> None:
        assert await other.validate(token)

    table.faults = [renew]
    assert await mine.validate(token) is not None
    [found] = await mine.list("ann")
    assert found.expires_at == clock() + timedelta(seconds=600)


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
async def test_a_lost_creation_gives_another_token(fault: str) -> None:
    """What may have been stored under the first one is nobody's, and expires."""
    table = UserSessionTable(fault)
    mine = sessions(table)
    token = await mine.create("ann")
    assert await mine.destroy(token)
    table.deliver()
    assert await mine.validate(token) is None
    first, second = (each.values["id"] for each in table.executor.asked[:2])
    assert first != second


async def test_a_creation_that_fails_is_told() -> None:
    table = UserSessionTable("request", "request", "request")
    with pytest.raises(cql.ConnectionLost):
        await sessions(table).create("ann")
    assert table.executor.lwts == 3

    def wrong(request: Any) -> Exception:
        return cql.UsageError("no table of this name")

    table.executor.answer = wrong
    with pytest.raises(cql.UsageError):
        await sessions(table).create("ann")
    assert table.executor.lwts == 4


@pytest.mark.parametrize("fault", ["reply", "request", "late"])
async def test_a_lost_end_is_settled(fault: str) -> None:
    table = UserSessionTable()
    mine = sessions(table)
    token = await mine.create("ann")
    table.faults = [fault]
    assert await mine.destroy(token) is True
    table.deliver()
    assert await mine.destroy(token) is False
    assert await mine.validate(token) is None


async def test_all_sessions_of_a_user() -> None:
    table = UserSessionTable()
    mine = sessions(table)
    tokens = []
    for number in range(250):
        tokens.append(await mine.create("ann", data={"number": number}))
        await anyio.sleep(0.001)
    other = await mine.create("bob")
    listed = await mine.list("ann")
    assert [each.data["number"] for each in listed] == list(range(250))
    assert await mine.validate(listed[0].id) is None
    assert await mine.destroy(listed[0]) is True
    assert await mine.validate(tokens[0]) is None
    before = table.executor.lwts
    assert await mine.destroy_all("ann") == 249
    assert table.executor.lwts == before + 3
    assert await mine.list("ann") == []
    assert await mine.validate(other)


async def test_all_sessions_while_one_ends_by_itself() -> None:
    table = UserSessionTable()
    mine = sessions(table)
    first = await mine.create("ann")
    await anyio.sleep(0.001)
    await mine.create("ann")

    async def destroy() -> None:
        assert await mine.destroy(first)

    table.faults = [destroy]
    assert await mine.destroy_all("ann") == 1
    assert await mine.list("ann") == []


async def test_an_end_may_be_cancelled_at_every_await() -> None:
    """Each session is there whole, or not at all; asking again ends it."""
    for number in range(1, 20):
        table = UserSessionTable()
        mine = sessions(table)
        tokens = [await mine.create("ann") for _ in range(3)]
        cancelled = await cancelled_at(number, mine.destroy_all("ann"))
        assert len(await mine.list("ann")) in (0, 3)
        assert await mine.destroy_all("ann") in (0, 3)
        assert [await mine.validate(token) for token in tokens] == [None] * 3
        if not cancelled:
            break
    assert 2 < number < 19


async def test_data_of_other_codecs_and_corrupt_data() -> None:
    table = UserSessionTable()
    upper = Codec(lambda value: repr(value).encode(), lambda data: {"text": data.decode()})
    mine = sessions(table, codec=upper)
    token = await mine.create("ann", data={"a": 1})
    found = await mine.validate(token)
    assert found is not None
    assert found.data == {"text": "{'a': 1}"}
    with pytest.raises(CorruptPayload, match=found.id):
        await sessions(table).validate(token)
    with pytest.raises(CorruptPayload):
        await sessions(table).list("ann")
    with pytest.raises(InvalidInput, match="data"):
        await sessions(table, codec=BYTES).create("ann", data={"a": 1})


def test_the_table() -> None:
    (statement,) = UserSessions.schema_cql("shop")
    assert statement == (
        'CREATE TABLE IF NOT EXISTS "shop"."user_sessions" ("owner" blob, "id" text,'
        ' "user_id" text, "ip" inet, "data" blob, "created_at" bigint, "expires_at" bigint,'
        ' PRIMARY KEY (("owner"), "id"))'
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ttl", {"ttl": 0}),
        ("ttl", {"ttl": True}),
        ("ttl", {"ttl": float("inf")}),
        ("ttl", {"ttl": 630_720_001}),
        ("max_age", {"max_age": timedelta(hours=-1)}),
    ],
)
def test_wrong_settings(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as info:
        sessions(UserSessionTable(), **wrong)
    assert info.value.name == name


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("user_id", {"user_id": ""}),
        ("user_id", {"user_id": 7}),
        ("user_id", {"user_id": "x" * 2000}),
        ("ip", {"ip": "somewhere"}),
        ("ip", {"ip": ""}),
        ("ip", {"ip": 7}),
        ("data", {"data": [1]}),
        ("data", {"data": {"tags": {1, 2}}}),
        ("data", {"data": {"text": "x" * (1 << 20)}}),
    ],
)
async def test_wrong_arguments(name: str, wrong: dict[str, Any]) -> None:
    table = UserSessionTable()
    options = {"user_id": "ann", **wrong}
    with pytest.raises(InvalidInput) as info:
        await sessions(table).create(options.pop("user_id"), **options)
    assert info.value.name == name
    assert table.executor.asked == []


async def test_tokens_of_other_types() -> None:
    table = UserSessionTable()
    for wrong in (None, b"token", 7):
        with pytest.raises(InvalidInput, match="token must be a str"):
            await sessions(table).validate(wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="token must be a str"):
            await sessions(table).destroy(wrong)  # type: ignore[arg-type]
    made_up = UserSession("0" * 64, "ann", None, {}, START, START)
    assert await sessions(table).destroy(made_up) is False
