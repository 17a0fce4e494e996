"""Users as objects: columns by name, an update of what isn't there, and two that change parts."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import anyio

from cqlproto_anyio.patterns import RecordExists, RecordNotFound, Repository
from cqlproto_anyio.patterns.rsylla import Session

CREATE = "CREATE TABLE IF NOT EXISTS people (id int PRIMARY KEY, name text, email text, born date)"


@dataclass
class Person:
    id: int
    name: str | None = None
    email: str | None = None
    born: datetime.date | None = None


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    await session.execute(CREATE)
    await session.execute("TRUNCATE people")
    people = Repository(session.session, Person, keyspace=keyspace, table="people", key=["id"])
    ann = Person(1, "Ann", "ann@shop.example", datetime.date(1990, 1, 2))
    await people.create(ann)
    try:
        await people.create(Person(1, "Bob"))
    except RecordExists as error:
        assert error.existing["name"] == "Ann"
    else:
        raise AssertionError("a row was overwritten")
    assert await people.get(1) == ann  # SELECT * has the columns in another order
    try:
        await people.update(9, name="ghost")
    except RecordNotFound:
        assert await people.get(9) is None
    else:
        raise AssertionError("an update has made a row")
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: people.update(1, name="Anna"))
        group.start_soon(lambda: people.update(1, email="anna@shop.example"))
    assert await people.get(1) == Person(1, "Anna", "anna@shop.example", ann.born)
    assert [each.id async for each in people.stream()] == [1]
    assert await people.delete(1)
    await session.aclose()
