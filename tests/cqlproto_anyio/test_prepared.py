"""Parameters by position, by name and by field; the cache."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import BindMetadata, Prepared, ResultMetadata
from cqlproto_anyio.prepared import Statement, StatementCache, refuse_use
from tests.cqlproto_anyio.answers import V4, columns


def statement(query: str, *names: str) -> Statement:
    bind = BindMetadata(columns(*names))
    prepared = Prepared(b"id", None, bind, ResultMetadata((), b"", False))
    return Statement(query, None, prepared, V4)


BY_POSITION = statement("INSERT INTO t (a, b) VALUES (?, ?)", "a", "b")
BY_NAME = statement("INSERT INTO t (a, b) VALUES (:b, :a)", "b", "a")
NONE = statement("TRUNCATE t")


@dataclasses.dataclass
class Data:
    a: int
    b: int
    more: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    b: int
    a: int


class Struct(msgspec.Struct):
    a: int
    b: int
    c: int = 0


class Model(pydantic.BaseModel):
    a: int
    b: int
    c: int = 0


class Sequence(collections.UserList[int]):
    pass


@pytest.mark.parametrize("given", [(1, 2), [1, 2], range(1, 3), Sequence([1, 2])])
def test_by_position(given: Any) -> None:
    assert list(BY_POSITION.values(given)) == [1, 2]
    assert list(BY_NAME.values(given)) == [1, 2]


@pytest.mark.parametrize(
    "given",
    [
        {"a": 1, "b": 2},
        collections.OrderedDict(b=2, a=1),
        collections.ChainMap({"a": 1}, {"b": 2}),
        Data(1, 2),
        Frozen(2, 1),
        Struct(1, 2),
        Model(a=1, b=2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_by_name(given: Any) -> None:
    assert list(BY_POSITION.values(given)) == [1, 2]
    assert list(BY_NAME.values(given)) == [2, 1]


def test_a_name_that_stands_twice() -> None:
    twice = statement("UPDATE t SET a = :x WHERE k = :x AND c = :y", "x", "x", "y")
    assert list(twice.values({"x": 1, "y": 2})) == [1, 1, 2]


@pytest.mark.parametrize("given", [(), (1,), (1, 2, 3), [1]])
def test_a_wrong_number(given: Any) -> None:
    with pytest.raises(
        cql.ParameterError, match=rf"{len(given)} values? for 2 bind markers \(a, b"
    ):
        BY_POSITION.values(given)
    assert list(NONE.values(())) == []
    assert list(NONE.values(None)) == []
    with pytest.raises(cql.ParameterError, match=r"1 value for 0 bind markers \(none\)"):
        NONE.values((1,))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"a": 1}, "no value for b"),
        ({}, "no value for b, a"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "no marker is called c, d"),
        ({"a": 1, "B": 2}, "no value for b"),
        ({1: 1, "a": 1, "b": 2}, "no marker is called 1"),
    ],
)
def test_wrong_names(given: Any, told: str) -> None:
    with pytest.raises(cql.ParameterError, match=told):
        BY_NAME.values(given)


def test_a_field_that_is_missing() -> None:
    with pytest.raises(cql.ParameterError, match="Data has no field for z"):
        statement("SELECT 1 FROM t WHERE z = :z", "z").values(Data(1, 2))


@pytest.mark.parametrize("name", ["in(k)", "partition key token", "[limit]", "value(m)", ""])
def test_a_marker_that_the_server_named(name: str) -> None:
    one = statement("SELECT v FROM t WHERE k IN ?", name)
    assert list(one.values((1,))) == [1]
    for parameters in ({name: 1}, Data(1, 2)):
        with pytest.raises(cql.ParameterError, match="use :name markers"):
            one.values(parameters)


def test_markers_that_the_server_named_alike() -> None:
    twice = statement("SELECT v FROM t WHERE k > ? AND k < ?", "k", "k")
    assert list(twice.values((1, 2))) == [1, 2]
    with pytest.raises(cql.ParameterError, match="'k' stands for 2 markers"):
        twice.values({"k": 1})


@pytest.mark.parametrize(
    "given",
    ["ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), 12, {1, 2}, object(), Data, iter(())],
)
def test_what_parameters_cannot_be(given: Any) -> None:
    with pytest.raises(TypeError, match="one sequence or mapping"):
        BY_POSITION.values(given)


def test_use_is_refused() -> None:
    with pytest.raises(cql.UsageError, match="keyspace="):
        refuse_use("/* sly */ uSe ks")
    refuse_use("SELECT 'USE' FROM t")


@given(
    size=st.integers(1, 5),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60),
)
def test_the_cache_keeps_what_was_used_last(size: int, steps: list[tuple[bool, int]]) -> None:
    cache = StatementCache(size)
    model: list[str] = []
    made: dict[str, Statement] = {}
    for put, number in steps:
        query = f"SELECT {number} FROM t"
        if put:
            made[query] = statement(query)
            cache.put(query, made[query])
        else:
            assert cache.get(query) is (made[query] if query in model else None)
        if put or query in model:
            model = [other for other in model if other != query] + [query]
        model = model[-size:]
        assert len(cache) == len(model)
    for query in list(model):
        assert cache.get(query) is made[query]


def test_what_is_outdated_stays_so_until_it_is_prepared_anew() -> None:
    """A stream of its pages may go on meanwhile, on connections of another version too."""
    one = statement("INSERT INTO t (a) VALUES (?)", "a")
    assert one.short
    one.outdate()
    one.speak(ProtocolVersion.V5)
    one.speak(V4)
    assert (one.stale, one.short) == (True, False)
    one.renew(one.prepared)
    assert (one.stale, one.short) == (False, True)
    conditional = statement("INSERT INTO t (a) VALUES (?) IF NOT EXISTS", "a")
    conditional.outdate()
    conditional.renew(conditional.prepared)
    assert not conditional.short
