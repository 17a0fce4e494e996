"""Parameters by position, by name and by field; parameters that can be read only once."""

from __future__ import annotations

import collections
import dataclasses
import sqlite3
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES, ListType, encoder
from cqlproto.messages import Column
from cqlproto.rows.targets.row import row_class
from cqlproto_anyio._statements.parameters import Markers, Partial, is_read_once
from tests.support.replies import V4, columns

INT = NATIVE_TYPES["int"]


def markers(query: str, *names: str) -> Markers:
    return Markers(query, columns(*names), V4)


BY_POSITION = markers("INSERT INTO t (a, b) VALUES (?, ?)", "a", "b")
BY_NAME = markers("INSERT INTO t (a, b) VALUES (:b, :a)", "b", "a")
NONE = markers("TRUNCATE t")


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


class Named(NamedTuple):
    a: int
    b: int
    more: int = 0


@attrs.frozen
class Attributes:
    a: int
    b: int


class Camel(msgspec.Struct, rename="camel"):
    user_id: int
    b: int = 2


class Aliased(pydantic.BaseModel):
    """The field b has the same name as the alias of a."""

    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(alias="userId")


def sqlite_row() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute("SELECT 1 AS a, 2 AS b").fetchone()
    connection.close()
    assert isinstance(row, sqlite3.Row)
    return row


def row_of(**columns: Any) -> cql.Row:
    return row_class(tuple(columns))(columns.values())


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
        Attributes(1, 2),
        sqlite_row(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_by_name(given: Any) -> None:
    assert list(BY_POSITION.values(given)) == [1, 2]
    assert list(BY_NAME.values(given)) == [2, 1]


@pytest.mark.parametrize(
    "given",
    [Named(1, 2), Named(1, 2, 3), row_of(a=1, b=2), row_of(c=0, b=2, a=1)],
    ids=repr,
)
def test_rows_and_named_tuples_are_bound_by_name_to_named_markers(given: Any) -> None:
    assert list(BY_NAME.values(given)) == [2, 1]


def test_rows_and_named_tuples_are_bound_by_position_to_markers_without_names() -> None:
    """The names that the server generates for the markers don't matter."""
    assert list(BY_POSITION.values(row_of(x=1, y=2))) == [1, 2]
    with pytest.raises(cql.ParameterError, match="3 values for 2 bind markers"):
        BY_POSITION.values(Named(1, 2))


@pytest.mark.parametrize("given", [Named(1, 2), row_of(b=2, a=1)], ids=repr)
def test_rows_and_named_tuples_are_bound_by_name_where_some_markers_are_named(given: Any) -> None:
    """The other markers have names that the server generates."""
    for query in ("INSERT INTO t (a, b) VALUES (?, :B)", 'INSERT INTO t (a, b) VALUES (:"a", ?)'):
        assert list(markers(query, "a", "b").values(given)) == [1, 2]
        assert list(markers(query, "b", "a").values(given)) == [2, 1]
    literal = markers("UPDATE t SET m = {a:now()} WHERE b = ? AND c = ?", "b", "c")
    assert list(literal.values(row_of(c=1, b=2))) == [1, 2]


def test_rows_and_named_tuples_without_a_field() -> None:
    missing = markers("SELECT v FROM t WHERE z = :z AND a = :a", "z", "a")
    with pytest.raises(cql.ParameterError, match=r"Named has no field for z \(fields: a, b, more"):
        missing.values(Named(1, 2))
    with pytest.raises(cql.ParameterError, match="Row has no field for z"):
        missing.values(row_of(a=1))


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"a": 1}, [cql.UNSET, 1]),
        ({"a": None}, [cql.UNSET, None]),
        ({}, [cql.UNSET, cql.UNSET]),
        (collections.defaultdict(int, a=1), [cql.UNSET, 1]),
        (Named(1, 2), [2, 1]),
        (row_of(b=2, c=3), [2, cql.UNSET]),
        (pydantic.create_model("Half", a=int)(a=1), [cql.UNSET, 1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_missing_names_are_unset(given: Any, values: list[Any]) -> None:
    assert list(BY_NAME.values(Partial.of(True, given))) == values
    assert Partial.of(False, given) is given
    assert Partial.of(True, None) is None


@pytest.mark.parametrize(
    ("one", "given", "told"),
    [
        (BY_NAME, {"a": 1, "c": 2}, "no marker is called c"),
        (BY_NAME, pydantic.create_model("Other", c=int)(c=1), "Other has no field for b, a"),
        (BY_NAME, (1, 2), "partial=True needs parameters by name, got a tuple, .*: pass a mapping"),
        (BY_POSITION, Named(1, 2), "got a Named"),
        (BY_POSITION, [1, 2], "got a list"),
    ],
)
def test_what_cannot_be_partial(one: Markers, given: Any, told: str) -> None:
    with pytest.raises(cql.ParameterError, match=told):
        one.values(Partial.of(True, given))


@pytest.mark.parametrize("partial", [None, 1, "yes"])
def test_partial_is_true_or_false(partial: object) -> None:
    with pytest.raises(cql.ConfigError, match=f"partial must be True or False, got {partial!r}"):
        Partial.of(partial, {})


def test_missing_names_before_v4() -> None:
    old = Markers("INSERT INTO t (a, b) VALUES (:b, :a)", columns("b", "a"), ProtocolVersion.V3)
    assert list(old.values(Partial.of(True, {"a": 1, "b": 2}))) == [2, 1]
    with pytest.raises(cql.ParameterError, match="no value for b: partial=True needs .* speaks v3"):
        old.values(Partial.of(True, {"a": 1}))


def test_tuples_without_names_are_bound_by_position() -> None:
    class Pair(tuple[int, ...]):
        pass

    assert list(BY_NAME.values(Pair((1, 2)))) == [1, 2]


def test_aliases_where_no_field_has_the_name() -> None:
    camel = markers("UPDATE t SET b = :b WHERE k = :userId", "b", "userId")
    assert list(camel.values(Camel(1))) == [2, 1]
    assert list(camel.values(Aliased(b=1, userId=2))) == [2, 2]
    snake = markers("UPDATE t SET b = :b WHERE k = :user_id", "b", "user_id")
    assert list(snake.values(Camel(1))) == [2, 1]


def test_a_field_that_cannot_be_read() -> None:
    class Lazy(pydantic.BaseModel):
        a: int

        @pydantic.computed_field
        def b(self) -> int:
            raise ZeroDivisionError("not loaded")

    with pytest.raises(cql.ParameterError, match="the field b of Lazy .*not loaded") as info:
        BY_NAME.values(Lazy(a=1))
    assert isinstance(info.value.__cause__, ZeroDivisionError)


def test_a_name_that_stands_twice() -> None:
    twice = markers("UPDATE t SET a = :x WHERE k = :x AND c = :y", "x", "x", "y")
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
        markers("SELECT 1 FROM t WHERE z = :z", "z").values(Data(1, 2))


@pytest.mark.parametrize("name", ["in(k)", "partition key token", "[limit]", "value(m)", ""])
def test_a_marker_that_the_server_named(name: str) -> None:
    one = markers("SELECT v FROM t WHERE k IN ?", name)
    assert list(one.values((1,))) == [1]
    for parameters in ({name: 1}, Data(1, 2)):
        with pytest.raises(cql.ParameterError, match="use :name markers"):
            one.values(parameters)


def test_markers_that_the_server_named_alike() -> None:
    twice = markers("SELECT v FROM t WHERE k > ? AND k < ?", "k", "k")
    assert list(twice.values((1, 2))) == [1, 2]
    with pytest.raises(cql.ParameterError, match="'k' stands for 2 markers"):
        twice.values({"k": 1})


@pytest.mark.parametrize(
    "given",
    [
        *("ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), collections.UserString("ab")),
        *(12, {1, 2}, object(), Data, iter(()), {1: 2}.values(), (n for n in (1, 2))),
    ],
)
def test_what_parameters_cannot_be(given: Any) -> None:
    for one in (BY_POSITION, BY_NAME):
        with pytest.raises(TypeError, match="parameters must be a sequence"):
            one.values(given)


def test_values_that_can_be_read_once() -> None:
    """Values that can be read once are packed at once; those of scalar markers are not."""
    both = Markers(
        "INSERT INTO t (a, b) VALUES (?, ?)",
        (Column("k", "t", "a", INT), Column("k", "t", "b", ListType(INT))),
        V4,
    )
    assert (both.count, both.direct, BY_NAME.direct) == (2, -1, 2)
    values = both.values((1, iter([1, 2])))
    assert values[0] == 1
    assert [encoder(ListType(INT))(values[1]) for _ in range(2)] == [
        encoder(ListType(INT))([1, 2])
    ] * 2
    assert list(both.values(values)) == list(values)
    for nothing in (None, cql.UNSET):
        assert both.values((1, nothing))[1] is nothing


def test_a_list_of_parameters_is_copied() -> None:
    parameters = [1, 2]
    values = BY_NAME.values(parameters)
    parameters.clear()
    assert list(values) == [1, 2]


def test_partial_parameters_are_read_once_if_what_they_hold_is() -> None:
    assert is_read_once(Partial({"a": iter(())}))
    assert not is_read_once(Partial({"a": [1]}))


class Unreadable(list[int]):
    def __iter__(self) -> Any:
        raise KeyError("unreadable")


def test_what_raises_when_it_is_looked_at_counts_as_read_once() -> None:
    endless: list[Any] = []
    endless.append(endless)
    for value in (Unreadable([1]), [Unreadable()], {"a": Unreadable()}, endless):
        assert is_read_once(value)


class UnreadableMapping(collections.UserDict[str, int]):
    def __getitem__(self, name: str) -> int:
        raise ZeroDivisionError(name)


class UnreadableSequence(collections.UserList[int]):
    def __iter__(self) -> Any:
        raise ZeroDivisionError


class UnreadableKeys:
    def keys(self) -> Any:
        raise ZeroDivisionError

    def __getitem__(self, name: str) -> int:
        return 1


@pytest.mark.parametrize(
    "given",
    [UnreadableMapping(a=1, b=2), UnreadableSequence([1, 2]), UnreadableKeys()],
    ids=lambda given: type(given).__name__,
)
def test_parameters_whose_own_methods_raise(given: Any) -> None:
    told = f"the parameters, a {type(given).__name__}, can't be read: ZeroDivisionError"
    for parameters in (given, Partial.of(True, given)):
        with pytest.raises(cql.ParameterError, match=told) as info:
            BY_NAME.values(parameters)
        assert isinstance(info.value.__cause__, ZeroDivisionError)
