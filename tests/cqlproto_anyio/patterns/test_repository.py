"""Repositories: what they send for each class, lost replies, mistakes; scripted."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import anyio
import attrs
import msgspec
import pydantic
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    InvalidInput,
    OutcomeUnknown,
    RecordExists,
    RecordNotFound,
    Repository,
    SchemaMismatch,
)
from tests.support.scripted import Request, Scripted, lost, refusal, timed_out, unavailable

KEY = ' WHERE "id" = ? IF EXISTS'


@dataclasses.dataclass
class User:
    id: int
    name: Any
    email: Any = cql.UNSET


class Struct(msgspec.Struct, rename={"name": "fullName"}):
    id: int
    name: str
    email: Any = cql.UNSET


class Model(pydantic.BaseModel):
    id: int
    name: str = pydantic.Field(alias="fullName")
    email: Any = cql.UNSET


@attrs.define
class Class:
    id: int
    name: str = attrs.field(alias="fullName")
    email: Any = cql.UNSET


class Tuple(NamedTuple):
    id: int
    fullName: str  # as the column is called
    email: Any = cql.UNSET


class Answers:
    """An executor that gives the answers in turn; the last one stays."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.executor = Scripted(self.answer)

    def answer(self, request: Request) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def asked(self) -> list[tuple[str, Any]]:
        return [each.statements[0] for each in self.executor.asked]


def users(answers: Answers, key: Any = ("id",), entity: Any = User) -> Repository[Any]:
    return Repository(answers.executor, entity, keyspace="shop", table="users", key=key)


async def test_the_statements_of_a_dataclass() -> None:
    answers = Answers(True)
    mine = users(answers)
    ann = User(1, "Ann")
    await mine.create(ann)
    await mine.create(ann, ttl=1.5)
    await mine.save(ann)
    await mine.save(User(1, None, "a@b"), ttl=60)
    await mine.update(1, email="a@b", name=cql.UNSET)
    assert await mine.delete(1) is True
    insert = 'INSERT INTO "shop"."users" ("id", "name", "email") VALUES (?, ?, ?)'
    assert answers.asked == [
        (f"{insert} IF NOT EXISTS", (1, "Ann", cql.UNSET)),
        (f"{insert} IF NOT EXISTS USING TTL ?", (1, "Ann", cql.UNSET, 2)),
        (insert, (1, "Ann", cql.UNSET)),
        (f"{insert} USING TTL ?", (1, None, "a@b", 60)),
        (f'UPDATE "shop"."users" SET "email" = ?{KEY}', ("a@b", 1)),
        (f'DELETE FROM "shop"."users"{KEY}', (1,)),
    ]


@pytest.mark.parametrize("entity", [Struct, Model, Class, Tuple])
async def test_columns_have_the_names_of_aliases(entity: Any) -> None:
    answers = Answers([])
    mine = users(answers, entity=entity)
    await mine.get(1)
    made = entity(id=1, **{"name" if entity is Struct else "fullName": "Ann"})
    await mine.save(made)
    answers.answers = [True]
    await mine.update(1, fullName="Anna")
    if entity is not Tuple:
        await mine.update(1, name="Anna")
    columns = '"id", "fullName", "email"'
    assert answers.asked[0] == (f'SELECT {columns} FROM "shop"."users" WHERE "id" = ?', (1,))
    assert answers.asked[1] == (
        f'INSERT INTO "shop"."users" ({columns}) VALUES (?, ?, ?)',
        (1, "Ann", cql.UNSET),
    )
    for query, values in answers.asked[2:]:
        assert query == f'UPDATE "shop"."users" SET "fullName" = ?{KEY}'
        assert values == ("Anna", 1)
    assert answers.executor.asked[0].options["row"] is entity


async def test_what_the_server_refuses() -> None:
    existing = {"id": 1, "name": "Other", "email": None}
    mine = users(Answers(refusal([existing])))
    with pytest.raises(RecordExists) as exists:
        await mine.create(User(1, "Ann"))
    assert exists.value.table == '"shop"."users"'
    assert (exists.value.key, exists.value.existing) == ((1,), existing)
    mine = users(Answers(refusal()))
    with pytest.raises(RecordNotFound, match=r'"shop"."users" has no row with the key \(1,\)'):
        await mine.update(1, name="Ann")
    assert await mine.delete(1) is False


async def test_many_rows_are_read_with_a_bound_and_in_order() -> None:
    active = most = 0

    async def answer(request: Request) -> Any:
        nonlocal active, most
        active += 1
        most = max(most, active)
        (number,) = request.statements[0][1]
        await anyio.sleep(1 / number)
        active -= 1
        return [] if number % 7 == 0 else [{"number": number}]

    executor = Scripted(answer)
    mine: Any = Repository(executor, User, keyspace="shop", table="users", key=["id"])
    found = await mine.get_many([*range(1, 50), (50,), {"id": 51}], concurrency=4)
    assert [each and each.number for each in found] == [
        None if number % 7 == 0 else number for number in range(1, 52)
    ]
    assert most == 4
    assert await mine.get_many([]) == []


async def test_many_rows_of_which_one_fails() -> None:
    def answer(request: Request) -> Any:
        return unavailable() if request.statements[0][1] == (3,) else []

    executor = Scripted(answer)
    mine: Any = Repository(executor, User, keyspace="shop", table="users", key=["id"])
    with pytest.raises(cql.Unavailable):
        await mine.get_many(range(1, 1000), concurrency=2)
    assert len(executor.asked) < 10


@pytest.mark.parametrize("error", [lost(), timed_out()])
async def test_a_lost_creation(error: Exception) -> None:
    """Not there, and can't come any more: sent again. There: it can't tell whose it is."""
    mine = users(answers := Answers(error, [], [], [], [], [], [], [], [], [], [], True))
    answer = answers.answer
    began = anyio.current_time()

    def until_grace(request: Request) -> Any:
        if request.conditional and len(answers.executor.asked) > 1:
            assert anyio.current_time() - began >= 5
            return True
        return answer(request) if len(answers.executor.asked) == 1 else []

    answers.executor.answer = until_grace
    await mine.create(User(1, "Ann"))
    assert answers.executor.lwts == 2

    row = {"id": 1, "name": "Ann", "email": None}
    mine = users(answers := Answers(error, [row]))
    with pytest.raises(OutcomeUnknown, match="can't tell who made it") as info:
        await mine.create(User(1, "Ann"))
    assert info.value.__cause__ is error
    assert isinstance(info.value.operation, UUID)
    assert answers.executor.lwts == 1
    assert answers.executor.asked[1].options["consistency"] is cql.Consistency.SERIAL


async def test_a_creation_that_is_lost_again_and_again() -> None:
    def answer(request: Request) -> Any:
        return lost() if request.conditional else []

    executor = Scripted(answer)
    mine = Repository(executor, User, keyspace="shop", table="users", key=["id"])
    with pytest.raises(cql.ConnectionLost):
        await mine.create(User(1, "Ann"))
    assert executor.lwts == 3


async def test_a_lost_update() -> None:
    row = {"id": 1, "name": "Anna", "email": "a@b"}
    await users(Answers(lost(), [row])).update(1, name="Anna")
    with pytest.raises(OutcomeUnknown, match="another writer"):
        await users(Answers(lost(), [row])).update(1, name="Ann")
    with pytest.raises(RecordNotFound):
        await users(Answers(lost(), [])).update(1, name="Ann")


@pytest.mark.parametrize("verb", ["update", "delete"])
async def test_no_success_is_told_while_a_late_copy_may_come(verb: str) -> None:
    """The row was so before: a copy that comes late would undo what others write now."""
    row = {"id": 1, "name": "Anna", "email": None}
    mine = users(Answers(lost(), [row] if verb == "update" else []))
    began = anyio.current_time()
    await (mine.update(1, name="Anna") if verb == "update" else mine.delete(1))
    assert anyio.current_time() - began >= 5


async def test_a_lost_deletion() -> None:
    assert await users(Answers(lost(), [])).delete(1) is True
    with pytest.raises(OutcomeUnknown, match=r"delete of \(1,\)"):
        await users(Answers(lost(), [{"id": 1, "name": "Ann", "email": None}])).delete(1)


async def test_an_outage_while_settling() -> None:
    with pytest.raises(OutcomeUnknown, match="no read succeeded") as info:
        await users(Answers(lost(), unavailable())).delete(1)
    assert isinstance(info.value.__cause__, cql.ConnectionLost)
    with pytest.raises(cql.Unavailable):  # nothing was sent
        await users(Answers(unavailable())).delete(1)


SHAPE = [
    ("id", "int", "partition_key", 0, "none"),
    ("at", "timestamp", "clustering", 0, "asc"),
    ("name", "text", "regular", -1, "none"),
]
COLUMNS = ("column_name", "type", "kind", "position", "clustering_order")


def shaped(*rows: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


async def test_a_table_of_another_shape() -> None:
    invalid = cql.InvalidQuery(0x2200, "Undefined column name email", {}, host="h", query=None)
    mine = users(Answers(invalid, shaped(SHAPE[0], SHAPE[2])))
    with pytest.raises(SchemaMismatch, match="email") as info:
        await mine.save(User(1, "Ann"))
    assert (info.value.column, info.value.actual) == ("email", None)
    with_email = [*SHAPE, ("email", "text", "regular", -1, "none")]
    mine = users(Answers(invalid, shaped(*with_email)))
    with pytest.raises(SchemaMismatch) as info:
        await mine.create(User(1, "Ann"))
    assert (info.value.column, info.value.actual) == ("at", "timestamp clustering 0 asc")
    assert info.value.expected == "no part of the primary key"
    mine = users(Answers(invalid, shaped(SHAPE[0], *with_email[2:])), key=("id", "name"))
    with pytest.raises(SchemaMismatch, match="must be part of the primary key"):
        await mine.get((1, "Ann"))
    # several rows for one key: the key is not whole
    mine = users(Answers([{"id": 1}, {"id": 1}], shaped(*with_email)))
    with pytest.raises(SchemaMismatch):
        await mine.get(1)
    # the table has what is needed, or there is none: the server's error says what is wrong
    for shape in (shaped(SHAPE[0], *with_email[2:]), []):
        with pytest.raises(cql.InvalidQuery):
            await users(Answers(invalid, shape)).get(1)


async def test_wrong_arguments() -> None:
    answers = Answers(True)
    mine = users(answers)
    wrong: list[tuple[str, Any, dict[str, Any]]] = [
        ("nick", 1, {"nick": "A"}),
        ("id", 1, {"id": 2}),
        ("changes", 1, {}),
        ("changes", 1, {"name": cql.UNSET}),
        ("key", (1, 2), {"name": "A"}),
    ]
    for name, key, changes in wrong:
        with pytest.raises(InvalidInput) as info:
            await mine.update(key, **changes)
        assert info.value.name == name
    for entity in ({"id": 1}, None, User):
        with pytest.raises(InvalidInput, match="entity must be a User"):
            await mine.create(entity)
    for key in (None, cql.UNSET):
        with pytest.raises(InvalidInput, match="id must be set"):
            await mine.save(User(key, "Ann"))  # type: ignore[arg-type]
    for ttl in (0, -1, True, 630_720_001):
        with pytest.raises(InvalidInput, match="ttl"):
            await mine.save(User(1, "Ann"), ttl=ttl)
    with pytest.raises(InvalidInput, match="concurrency"):
        await mine.get_many([1], concurrency=0)
    assert answers.asked == []


@pytest.mark.parametrize("key", [[], "id", ["ids"], None, ["id", "nick"]])
def test_wrong_keys(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key must be a list of some of id, name, email"):
        users(Answers(True), key=key)


@pytest.mark.parametrize("entity", [int, dict, "User", None, uuid4()])
def test_wrong_classes(entity: Any) -> None:
    with pytest.raises(InvalidInput, match="entity must be a dataclass"):
        users(Answers(True), entity=entity)


def test_wrong_names() -> None:
    made = dataclasses.make_dataclass("Made", [("id", int), ("naïve", str)])
    with pytest.raises(InvalidInput, match="field"):
        users(Answers(True), entity=made)
    with pytest.raises(InvalidInput, match="table"):
        Repository(Scripted(lambda _: True), User, keyspace="shop", table="a b", key=["id"])
