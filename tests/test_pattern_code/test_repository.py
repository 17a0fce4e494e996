"""Repositories as applications use them: users of a web app, members of a team."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

import msgspec
import pydantic
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import RecordExists, RecordNotFound, Repository, SchemaMismatch

pytestmark = pytest.mark.cassandra

CREATE_USERS = (
    "CREATE TABLE IF NOT EXISTS users"
    " (id uuid PRIMARY KEY, name text, email text, born date, visits int)"
)
CREATE_MEMBERS = (
    "CREATE TABLE IF NOT EXISTS members (team text, id int, role text, PRIMARY KEY (team, id))"
)


@dataclasses.dataclass
class User:
    name: str
    email: str | None = None
    born: datetime.date | None = None
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)


@dataclasses.dataclass
class Visits:
    id: uuid.UUID
    visits: int | None = None
    email: Any = cql.UNSET


class Member(msgspec.Struct, frozen=True):
    team: str
    id: int
    role: str


class Account(pydantic.BaseModel):
    id: uuid.UUID
    name: str
    mail: str = pydantic.Field(alias="email")


@pytest.fixture
async def users(session: cql.Session, keyspace: str) -> Repository[User]:
    await session.execute(CREATE_USERS)
    return Repository(session, User, keyspace=keyspace, table="users", key=["id"])


async def test_create_read_update_and_delete(users: Repository[User]) -> None:
    ann = User("Ann", "ann@example.org", datetime.date(1990, 2, 28))
    await users.create(ann)
    assert await users.get(ann.id) == ann
    assert await users.get({"id": ann.id}) == ann
    assert await users.get(uuid.uuid4()) is None
    await users.update(ann.id, email="a@example.org", born=None)
    assert await users.get(ann.id) == User("Ann", "a@example.org", None, ann.id)
    assert await users.delete(ann.id) is True
    assert await users.delete(ann.id) is False
    assert await users.get(ann.id) is None


async def test_a_name_that_is_taken_and_a_user_who_left(users: Repository[User]) -> None:
    ann = User("Ann")
    await users.create(ann)
    with pytest.raises(RecordExists) as exists:
        await users.create(dataclasses.replace(ann, name="Other"))
    assert exists.value.key == (ann.id,)
    assert exists.value.existing["name"] == "Ann"
    assert "users" in exists.value.table
    await users.delete(ann.id)
    with pytest.raises(RecordNotFound) as missing:
        await users.update(ann.id, email="ghost@example.org")
    assert missing.value.key == (ann.id,)
    assert await users.get(ann.id) is None


async def test_save_writes_what_is_set(
    session: cql.Session, keyspace: str, users: Repository[User]
) -> None:
    """Two programs that know different fields of one row keep each other's."""
    ann = User("Ann", "ann@example.org")
    await users.save(ann)
    visits = Repository(session, Visits, keyspace=keyspace, table="users", key=["id"])
    await visits.save(Visits(ann.id, visits=7))
    assert await users.get(ann.id) == ann
    assert await visits.get(ann.id) == Visits(ann.id, 7, "ann@example.org")
    await users.save(dataclasses.replace(ann, email=None))
    assert await visits.get(ann.id) == Visits(ann.id, 7, None)


async def test_many_users(users: Repository[User], session: cql.Session) -> None:
    await session.execute("TRUNCATE users")
    everyone = [User(f"user {number}") for number in range(30)]
    for user in everyone:
        await users.save(user)
    wanted = [everyone[3].id, uuid.uuid4(), everyone[1].id]
    assert await users.get_many(wanted, concurrency=2) == [everyone[3], None, everyone[1]]
    assert await users.get_many([]) == []
    streamed = [user async for user in users.stream()]
    assert sorted(user.name for user in streamed) == sorted(user.name for user in everyone)
    async for user in users.stream():
        assert user in everyone
        break


async def test_a_key_of_two_columns(session: cql.Session, keyspace: str) -> None:
    await session.execute(CREATE_MEMBERS)
    members = Repository(session, Member, keyspace=keyspace, table="members", key=["team", "id"])
    await members.create(Member("blue", 1, "lead"))
    await members.save(Member("blue", 2, "guest"))
    assert await members.get(("blue", 2)) == Member("blue", 2, "guest")
    await members.update(("blue", 2), role="member")
    assert await members.get({"id": 2, "team": "blue"}) == Member("blue", 2, "member")
    assert await members.get_many([("blue", 1), ("red", 1)]) == [Member("blue", 1, "lead"), None]
    assert await members.delete(("blue", 1)) is True
    with pytest.raises(cql.UsageError, match="key"):
        await members.get("blue")
    with pytest.raises(cql.UsageError, match="key"):
        await members.get({"team": "blue"})


async def test_a_column_that_is_added_later(
    session: cql.Session, keyspace: str, users: Repository[User]
) -> None:
    """Fields are read by name; a pydantic model has aliases."""
    ann = User("Ann", "ann@example.org")
    await users.create(ann)
    await session.execute("ALTER TABLE users ADD IF NOT EXISTS address text")
    assert await users.get(ann.id) == ann
    accounts = Repository(session, Account, keyspace=keyspace, table="users", key=["id"])
    account = await accounts.get(ann.id)
    assert account is not None
    assert (account.name, account.mail) == ("Ann", "ann@example.org")


async def test_rows_that_expire(session: cql.Session, users: Repository[User]) -> None:
    ann, bob = User("Ann"), User("Bob")
    await users.create(ann, ttl=3600)
    await users.save(bob, ttl=datetime.timedelta(hours=1))
    for user in (ann, bob):
        left = await session.execute("SELECT ttl(name) FROM users WHERE id = ?", (user.id,))
        assert 3500 < left.scalar() <= 3600


async def test_a_table_of_another_shape(session: cql.Session, keyspace: str) -> None:
    await session.execute("CREATE TABLE other (id uuid PRIMARY KEY, nick text, born date)")
    users = Repository(session, User, keyspace=keyspace, table="other", key=["id"])
    with pytest.raises(SchemaMismatch) as info:
        await users.create(User("Ann"))
    assert info.value.column in ("name", "email")
    assert info.value.actual is None
    assert "other" in info.value.table


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, users: Repository[User]
) -> None:
    with pytest.raises(cql.UsageError, match="nick"):
        await users.update(uuid.uuid4(), nick="A")
    with pytest.raises(cql.UsageError, match="changes"):
        await users.update(uuid.uuid4())
    with pytest.raises(cql.UsageError, match="id"):
        await users.update(uuid.uuid4(), id=uuid.uuid4())
    with pytest.raises(cql.UsageError, match="ttl"):
        await users.save(User("Ann"), ttl=0)
    with pytest.raises(cql.UsageError, match="User"):
        await users.create({"name": "Ann"})  # type: ignore[arg-type]
    with pytest.raises(cql.UsageError, match="ids"):
        Repository(session, User, keyspace="shop", table="users", key=["ids"])
    with pytest.raises(cql.UsageError, match="key"):
        Repository(session, User, keyspace="shop", table="users", key=[])
    with pytest.raises(cql.UsageError, match="int"):
        Repository(session, int, keyspace="shop", table="users", key=["id"])
