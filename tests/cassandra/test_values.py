"""Values of every type go to a real Cassandra and come back, and it prints them as it should.

An example is a list of values that are written and read concurrently, each under a key of its own.
All types are columns of one table, since making tables is what takes a server longest.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.testing import values_of
from tests.cassandra.jsontext import expected, printed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

N = NATIVE_TYPES
MIXED = UserType("", "Mixed", (("id", N["int"]), ("Name", N["text"]), ("at", N["timestamp"])))
NESTED = UserType(
    "",
    "nested",
    (
        ("mixed", dataclasses.replace(MIXED, frozen=True)),
        ("tags", SetType(N["text"], frozen=True)),
        ("class", TupleType((N["double"], N["inet"]))),
    ),
)
# Two levels, each kind of type within each other, keys that Python could not hash as lists.
COLLECTIONS: dict[str, CQLType] = {
    "list_text": ListType(N["text"]),
    "list_int": ListType(N["int"]),
    "set_double": SetType(N["double"]),
    "set_blob": SetType(N["blob"]),
    "map_text": MapType(N["text"], N["varint"]),
    "map_inet": MapType(N["inet"], N["date"]),
    "map_decimal": MapType(N["decimal"], N["boolean"]),
    "map_timestamp": MapType(N["timestamp"], N["duration"]),
    "map_list": MapType(ListType(N["smallint"], frozen=True), N["uuid"]),
    "map_set": MapType(
        SetType(N["float"], frozen=True), MapType(N["time"], N["int"], frozen=True), frozen=True
    ),
    "list_set": ListType(SetType(N["tinyint"], frozen=True), frozen=True),
    "set_tuple": SetType(TupleType((N["int"], N["text"])), frozen=True),
    "tuple": TupleType(
        (N["int"], ListType(N["duration"]), N["text"], MapType(N["date"], N["int"]))
    ),
    "vector_float": VectorType(N["float"], 3),
    "vector_text": VectorType(N["text"], 2),
    "vector_list": VectorType(ListType(N["int"]), 2),
    "vector_vector": VectorType(VectorType(N["smallint"], 2), 2),
    "mixed": MIXED,
    "frozen_mixed": dataclasses.replace(MIXED, frozen=True),
    "nested": dataclasses.replace(NESTED, frozen=True),
    "list_nested": ListType(dataclasses.replace(NESTED, frozen=True)),
    "map_mixed": MapType(dataclasses.replace(MIXED, frozen=True), N["bigint"]),
}
SCALARS = sorted(set(N) - {"counter"})

quick = settings(
    max_examples=8,
    # What it shrinks to would take hundreds of round trips and show no more.
    phases=[p for p in settings().phases if p.name != "shrink"],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
keys = itertools.count()


@pytest.fixture(scope="module")
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        await session.execute(
            'CREATE TYPE IF NOT EXISTS "Mixed" (id int, "Name" text, at timestamp)'
        )
        await session.execute(
            'CREATE TYPE IF NOT EXISTS nested (mixed frozen<"Mixed">, tags frozen<set<text>>,'
            " class tuple<double, inet>)"
        )
        columns = [f"s_{name} {name}" for name in SCALARS]
        columns += [f"c_{name} {placed(each, keyspace)}" for name, each in COLLECTIONS.items()]
        await session.execute(
            f"CREATE TABLE IF NOT EXISTS everything (id int PRIMARY KEY, {', '.join(columns)})"
        )
        await session.execute("CREATE TABLE IF NOT EXISTS counters (id int PRIMARY KEY, v counter)")
        yield session


def placed(cql_type: CQLType, keyspace: str) -> CQLType:
    """Put the keyspace into the user-defined types, which are made for the module."""
    if isinstance(cql_type, UserType):
        fields = tuple((name, placed(part, keyspace)) for name, part in cql_type.fields)
        return dataclasses.replace(cql_type, keyspace=keyspace, fields=fields)
    if isinstance(cql_type, ListType | SetType | VectorType):
        return dataclasses.replace(cql_type, element=placed(cql_type.element, keyspace))
    if isinstance(cql_type, MapType):
        return dataclasses.replace(
            cql_type, key=placed(cql_type.key, keyspace), value=placed(cql_type.value, keyspace)
        )
    if isinstance(cql_type, TupleType):
        return TupleType(tuple(placed(part, keyspace) for part in cql_type.elements))
    return cql_type


async def written_and_read(
    session: cql.Session, write: str, read: str, values: list[Any]
) -> list[tuple[Any, str | None]]:
    """Return each value as it came back, and what the server printed of it."""
    found: list[tuple[Any, str | None]] = [(None, None)] * len(values)

    async def one(position: int, value: Any) -> None:
        key = next(keys)
        await session.execute(write, (value, key))
        found[position] = (await session.execute(read, (key,), row=tuple)).one()

    async with anyio.create_task_group() as group:
        for position, value in enumerate(values):
            group.start_soon(one, position, value)
    return found


async def check(session: cql.Session, column: str, cql_type: CQLType, values: list[Any]) -> None:
    write = f"INSERT INTO everything ({column}, id) VALUES (?, ?)"
    read = f"SELECT {column}, toJson({column}) FROM everything WHERE id = ?"
    found = await written_and_read(session, write, read, values)
    for value, (again, text) in zip(values, found, strict=True):
        kept = as_kept(cql_type, value)
        assert again == kept
        assert type(again) is type(kept)
        assert text is not None
        assert printed(cql_type, text) == expected(cql_type, kept)


def as_kept(cql_type: CQLType, value: Any) -> Any:
    """Return what the server makes of a value where it doesn't keep it as it is."""
    if getattr(cql_type, "frozen", True):
        return value
    if isinstance(value, list | set | dict) and not value:
        return None  # an empty collection that isn't frozen is no collection
    if isinstance(cql_type, UserType) and set(value) == {None}:
        return None
    if cql_type == COLLECTIONS["map_inet"]:
        # Java has no IPv4-mapped addresses, and cells of collections pass through Java objects.
        return {getattr(key, "ipv4_mapped", None) or key: item for key, item in value.items()}
    return value


@pytest.mark.parametrize("name", SCALARS)
@quick
@given(data=st.data())
async def test_a_scalar_comes_back_and_is_printed_the_same(
    session: cql.Session, name: str, data: st.DataObject
) -> None:
    values = data.draw(st.lists(values_of(N[name]), min_size=1, max_size=25))
    await check(session, f"s_{name}", N[name], values)


@quick
@given(values=st.lists(values_of(N["counter"]), min_size=1, max_size=25))
async def test_a_counter_counts_from_zero(session: cql.Session, values: list[int]) -> None:
    write = "UPDATE counters SET v = v + ? WHERE id = ?"
    read = "SELECT v, toJson(v) FROM counters WHERE id = ?"
    found = await written_and_read(session, write, read, values)
    assert found == [(value, str(value)) for value in values]


@pytest.mark.parametrize("name", sorted(COLLECTIONS))
@quick
@given(data=st.data())
async def test_a_collection_comes_back_and_is_printed_the_same(
    session: cql.Session, keyspace: str, name: str, data: st.DataObject
) -> None:
    cql_type = placed(COLLECTIONS[name], keyspace)
    values = data.draw(st.lists(values_of(cql_type), min_size=1, max_size=15))
    await check(session, f"c_{name}", cql_type, values)
