"""Values of every type go to a real Cassandra and come back, and it prints them as it should.

Every version and compression has its turn, on the core alone. An example is a list of values that
are written in one go, each under a key of its own, and read by one query. All types are columns of
one table, since making tables is what takes a server longest; types that Hypothesis makes up need
none, for the server casts and prints a bound value without storing it.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cqlproto import Binder, Consistency
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.messages import QueryParameters, Rows
from cqlproto.rows import decode_rows
from cqlproto.testing import cql_types, values_of
from tests.cassandra.core import CoreConnection
from tests.cassandra.jsontext import expected, printed
from tests.support.peers import AGREEMENTS, V5, Agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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

keys = itertools.count()


class Prepared:
    """Statements of one connection, each prepared once."""

    def __init__(self, connection: CoreConnection) -> None:
        self.connection = connection
        self._kept: dict[str, Binder] = {}

    def binder(self, query: str) -> Binder:
        binder = self._kept.get(query)
        if binder is None:
            version = self.connection.version
            # Only v5 tells when metadata that was left out has changed.
            skip = version.has_result_metadata_id
            parameters = QueryParameters(Consistency.ONE, skip_metadata=skip)
            binder = Binder(self.connection.prepare(query), parameters, version)
            self._kept[query] = binder
        return binder

    def rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        (answer,) = self.connection.execute_many(self.binder(query), [values])
        assert isinstance(answer, Rows)
        return decode_rows(answer, tuple)


@pytest.fixture(scope="module")
def types_keyspace(cassandra: Node, keyspace: str) -> str:
    columns = [f"s_{name} {name}" for name in SCALARS]
    columns += [f"c_{name} {placed(each, keyspace)}" for name, each in COLLECTIONS.items()]
    cassandra.cql(
        f'CREATE TYPE {keyspace}."Mixed" (id int, "Name" text, at timestamp)',
        f'CREATE TYPE {keyspace}.nested (mixed frozen<"Mixed">, tags frozen<set<text>>,'
        " class tuple<double, inet>)",
        f"CREATE TABLE {keyspace}.everything (id int PRIMARY KEY, {', '.join(columns)})",
        f"CREATE TABLE {keyspace}.counters (id int PRIMARY KEY, v counter)",
    )
    return keyspace


@pytest.fixture(scope="module", params=AGREEMENTS, ids=str)
def agreement(request: pytest.FixtureRequest) -> Agreement:
    assert isinstance(request.param, Agreement)
    return request.param


@pytest.fixture(scope="module")
def prepared(cassandra: Node, types_keyspace: str, agreement: Agreement) -> Iterator[Prepared]:
    with CoreConnection(cassandra, agreement.version, agreement.compression) as connection:
        connection.query(f"USE {types_keyspace}")
        yield Prepared(connection)


def each_of(
    strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *, agreement: Agreement
) -> None:
    """Check examples of a strategy: most on v5, whose compression matters least to values."""

    @settings(
        max_examples=6 if agreement.version is V5 else 2,
        # What it shrinks to would take hundreds of round trips and show no more.
        phases=[phase for phase in settings().phases if phase.name != "shrink"],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(strategy)
    def example(value: Any) -> None:
        check(value)

    example()


def written_and_read(
    prepared: Prepared, write: str, read: str, values: list[Any]
) -> list[tuple[Any, ...]]:
    """Return each value as it came back, and what the server printed of it."""
    written = {next(keys): value for value in values}
    prepared.connection.execute_many(
        prepared.binder(write), [(value, key) for key, value in written.items()]
    )
    found = {row[0]: row[1:] for row in prepared.rows(read, (list(written),))}
    return [found[key] for key in written]


def check_column(prepared: Prepared, column: str, cql_type: CQLType, values: list[Any]) -> None:
    write = f"INSERT INTO everything ({column}, id) VALUES (?, ?)"
    read = f"SELECT id, {column}, toJson({column}) FROM everything WHERE id IN ?"
    found = written_and_read(prepared, write, read, values)
    for value, (again, text) in zip(values, found, strict=True):
        kept = as_kept(cql_type, value)
        assert again == kept
        assert type(again) is type(kept)
        assert text is not None
        assert printed(cql_type, text) == expected(cql_type, kept)


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


def test_counters_count_from_zero(prepared: Prepared, agreement: Agreement) -> None:
    def check(values: list[int]) -> None:
        write = "UPDATE counters SET v = v + ? WHERE id = ?"
        read = "SELECT id, v, toJson(v) FROM counters WHERE id IN ?"
        found = written_and_read(prepared, write, read, values)
        assert found == [(value, str(value)) for value in values]

    values = st.lists(values_of(N["counter"]), min_size=5, max_size=15)
    each_of(values, check, agreement=agreement)


@pytest.mark.parametrize("name", SCALARS)
def test_a_scalar_comes_back_and_is_printed_the_same(
    prepared: Prepared, agreement: Agreement, name: str
) -> None:
    each_of(
        st.lists(values_of(N[name]), min_size=8, max_size=20),
        lambda values: check_column(prepared, f"s_{name}", N[name], values),
        agreement=agreement,
    )


@pytest.mark.parametrize("name", sorted(COLLECTIONS))
def test_a_collection_comes_back_and_is_printed_the_same(
    prepared: Prepared, agreement: Agreement, types_keyspace: str, name: str
) -> None:
    cql_type = placed(COLLECTIONS[name], types_keyspace)
    each_of(
        st.lists(values_of(cql_type), min_size=4, max_size=12),
        lambda values: check_column(prepared, f"c_{name}", cql_type, values),
        agreement=agreement,
    )


def castable(cql_type: CQLType, *, ordered: bool = False) -> CQLType:
    """Return a type like it that a value can be cast to.

    Collections within others are frozen. What needs a definition becomes a tuple or a blob, a
    counter a bigint. Durations have no order, so below a set or a key of a map they become int.
    """
    if isinstance(cql_type, NativeType):
        others = {"counter": "bigint", "duration": "int" if ordered else "duration"}
        return N[others.get(cql_type.name, cql_type.name)]
    if isinstance(cql_type, ListType):
        return ListType(castable(cql_type.element, ordered=ordered), frozen=True)
    if isinstance(cql_type, SetType):
        return SetType(castable(cql_type.element, ordered=True), frozen=True)
    if isinstance(cql_type, MapType):
        value = castable(cql_type.value, ordered=ordered)
        return MapType(castable(cql_type.key, ordered=True), value, frozen=True)
    if isinstance(cql_type, VectorType):
        return VectorType(castable(cql_type.element, ordered=ordered), cql_type.dimension)
    if isinstance(cql_type, TupleType):
        return TupleType(tuple(castable(part, ordered=ordered) for part in cql_type.elements))
    if isinstance(cql_type, UserType):
        return TupleType(tuple(castable(part, ordered=ordered) for _, part in cql_type.fields))
    assert isinstance(cql_type, CustomType)
    return N["blob"]


def kept_as_it_is(value: object) -> bool:
    """Whether it holds no IPv4-mapped address, which comes back from a collection as IPv4."""
    return "::ffff:" not in repr(value)


def test_made_up_types_are_cast_and_printed(prepared: Prepared, agreement: Agreement) -> None:
    types = cql_types().map(castable)
    typed = types.flatmap(
        lambda one: st.tuples(
            st.just(one), st.lists(values_of(one).filter(kept_as_it_is), min_size=3, max_size=6)
        )
    )

    def check(examples: list[tuple[CQLType, list[Any]]]) -> None:
        for cql_type, values in examples:
            query = f"SELECT ({cql_type})? AS v, toJson(({cql_type})?) FROM system.local"
            for value in values:
                ((again, text),) = prepared.rows(query, (value, value))
                assert again == value
                assert type(again) is type(value)
                assert printed(cql_type, text) == expected(cql_type, value)

    each_of(st.lists(typed, min_size=5, max_size=8), check, agreement=agreement)
