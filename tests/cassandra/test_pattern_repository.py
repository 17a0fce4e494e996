"""Repositories on a real node: columns by name, partial updates, lost replies, naive mappings."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.patterns import OutcomeUnknown, RecordExists, RecordNotFound, Repository
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import cqlproto_anyio as cql
    from tests.cassandra.conftest import Node

pytestmark = [pytest.mark.cassandra, pytest.mark.usefixtures("short_grace")]

BORN = datetime.date(1990, 2, 28)


@dataclasses.dataclass
class User:
    id: uuid.UUID
    name: str | None = None
    email: str | None = None
    born: datetime.date | None = None


@pytest.fixture(scope="module")
def short_grace() -> Iterator[None]:
    """Shorten the wait for late copies to what the node and the faults of these tests need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cqlproto_anyio.patterns.repository._GRACE", 1.5)
        yield


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    columns = "(id uuid PRIMARY KEY, name text, email text, born date)"
    cassandra.cql(f"CREATE TABLE {keyspace}.users {columns}")


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def repository(session: cql.Session, keyspace: str, table: str = "users") -> Repository[User]:
    return Repository(session, User, keyspace=keyspace, table=table, key=["id"])


async def test_a_column_that_is_added_keeps_the_mapping(
    session: cql.Session, keyspace: str
) -> None:
    """The naive mapping takes ``SELECT *`` by position: a date gets into the name."""
    table = f"altered_{uuid.uuid4().hex[:8]}"
    await session.execute(
        f"CREATE TABLE {table} (id uuid PRIMARY KEY, name text, email text, born date)"
    )
    users = repository(session, keyspace, table)
    ann = User(uuid.uuid4(), "Ann", "ann@example.org", BORN)
    await users.create(ann)
    row = (await session.execute(f"SELECT * FROM {table}", row=tuple)).one()
    assert User(*row).name == BORN
    await session.execute(f"ALTER TABLE {table} ADD address text")
    await session.execute(f"UPDATE {table} SET address = 'x' WHERE id = ?", (ann.id,))
    assert await users.get(ann.id) == ann
    ann.email = None
    await users.save(ann)
    assert [user async for user in users.stream()] == [ann]
    assert (await session.execute(f"SELECT address FROM {table}")).scalar() == "x"


async def test_partial_updates_all_survive(session: cql.Session, keyspace: str) -> None:
    users = repository(session, keyspace)
    ann = User(uuid.uuid4(), "Ann")
    await users.create(ann)
    changes: list[dict[str, Any]] = [{"name": "Anna"}, {"email": "a@example.org"}, {"born": BORN}]
    calls: list[Any] = [partial(users.update, ann.id, **each) for each in changes]
    await all_of(calls)
    assert await users.get(ann.id) == User(ann.id, "Anna", "a@example.org", BORN)
    # the naive way: each reads the row, changes its field, and writes the row
    read = [await users.get(ann.id) for _ in range(2)]
    await users.save(dataclasses.replace(read[0] or ann, name="Ann"))
    await users.save(dataclasses.replace(read[1] or ann, email="b@example.org"))
    assert await users.get(ann.id) == User(ann.id, "Anna", "b@example.org", BORN)


async def test_updates_make_no_ghosts(session: cql.Session, keyspace: str) -> None:
    users, nobody = repository(session, keyspace), uuid.uuid4()
    with pytest.raises(RecordNotFound):
        await users.update(nobody, email="ghost@example.org")
    assert await users.get(nobody) is None
    naive = "UPDATE users SET email = 'ghost@example.org' WHERE id = ?"
    await session.execute(naive, (nobody,))
    assert await users.get(nobody) == User(nobody, None, "ghost@example.org")


async def test_one_of_many_creates(session: cql.Session, keyspace: str) -> None:
    users, id = repository(session, keyspace), uuid.uuid4()

    async def create(name: str) -> str | None:
        try:
            await users.create(User(id, name))
        except RecordExists as error:
            assert error.existing["name"] != name
            return None
        return name

    calls: list[Any] = [partial(create, f"user {number}") for number in range(20)]
    [winner] = [each for each in await all_of(calls) if each]
    assert await users.get(id) == User(id, winner)


async def test_what_each_call_costs(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        users = repository(session, keyspace)
        ann = User(uuid.uuid4(), "Ann")
        for call, lwts, reads in (
            (partial(users.create, ann), 1, 0),
            (partial(users.get, ann.id), 0, 1),
            (partial(users.update, ann.id, name="Anna"), 1, 0),
            (partial(users.save, ann), 0, 0),
            (partial(users.get_many, [ann.id] * 5), 0, 5),
            (partial(users.delete, ann.id), 1, 0),
        ):
            counting.records.clear()
            await call()
            assert (counting.lwts, counting.reads) == (lwts, reads)
            assert len(counting.records) == max(lwts + reads, 1)


async def test_a_lost_creation(cassandra: Node, keyspace: str) -> None:
    for fault, unknown in (("the reply is lost", True), ("the request is lost", False)):
        async with faulty(cassandra, keyspace, [fault]) as shaky:
            users, ann = repository(shaky, keyspace), User(uuid.uuid4(), "Ann")
            if unknown:
                with pytest.raises(OutcomeUnknown):
                    await users.create(ann)
            else:
                await users.create(ann)
            assert await users.get(ann.id) == ann


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=2)
@given(
    fault=st.sampled_from([name for name in FAULTS if "OVERLOADED" not in name]),
    verb=st.sampled_from(["create", "update", "delete"]),
)
def test_what_was_told_is_so(
    cassandra: Node, keyspace: str, backend: str, fault: str, verb: str
) -> None:
    """Whatever happens to the statement: success, a refusal or an unknown outcome is true."""

    async def run() -> None:
        ann = User(uuid.uuid4(), "Ann")
        anna = dataclasses.replace(ann, name="Anna")
        async with (
            connected(cassandra, keyspace) as session,
            faulty(cassandra, keyspace, [fault]) as shaky,
        ):
            good, bad = repository(session, keyspace), repository(shaky, keyspace)
            if verb != "create":
                await good.create(ann)
            try:
                if verb == "create":
                    await bad.create(ann)
                elif verb == "update":
                    await bad.update(ann.id, name="Anna")
                else:
                    assert await bad.delete(ann.id) is True
            except OutcomeUnknown:
                return
            after = {"create": ann, "update": anna, "delete": None}[verb]
            assert await good.get(ann.id) == after
            await anyio.sleep(0.7)  # a copy that comes late changes nothing
            assert await good.get(ann.id) == after

    anyio.run(run, backend=backend)
