"""Results, pages and their tokens."""

from __future__ import annotations

import string
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ResponseReceived
from cqlproto.cqltypes import UNSET
from cqlproto.messages import VOID
from cqlproto.rows.targets.row import row_class
from cqlproto_anyio.results import PageToken
from tests.support.replies import columns

cells = st.lists(st.one_of(st.none(), st.just(UNSET), st.binary(max_size=8)), max_size=4)
states = st.binary(min_size=1, max_size=60)


@given(
    query=st.text(max_size=20), keyspace=st.none() | st.text(max_size=8), cells=cells, state=states
)
def test_a_token_round_trips(query: str, keyspace: str | None, cells: Any, state: bytes) -> None:
    token = PageToken(query, keyspace, cells).write(state)
    assert token is not None
    assert set(token) <= set(string.ascii_letters + string.digits + "-_")
    assert PageToken(query, keyspace, list(cells)).read(token) == state


def test_the_last_page_has_none() -> None:
    assert PageToken("q", None, []).write(None) is None


@pytest.mark.parametrize("length", range(1, 7))
def test_every_corrupted_character_is_noticed(length: int) -> None:
    tokens = PageToken("SELECT v FROM t", "ks", [b"1"])
    token = tokens.write(bytes(range(200, 200 + length)))
    assert token is not None
    alphabet = string.ascii_letters + string.digits + "-_+/=. \n\0\u00e9"
    for position in range(len(token)):
        for other in alphabet:
            if other != token[position]:
                with pytest.raises(cql.PageTokenMismatch):
                    tokens.read(token[:position] + other + token[position + 1 :])
    for position in range(len(token)):
        with pytest.raises(cql.PageTokenMismatch):
            tokens.read(token[:position])
    for more in alphabet:
        with pytest.raises(cql.PageTokenMismatch):
            tokens.read(token + more)
        with pytest.raises(cql.PageTokenMismatch):
            tokens.read(more + token)


@given(one=st.tuples(st.text(max_size=4), st.text(max_size=3), cells), data=st.data())
def test_a_foreign_token_is_noticed(one: Any, data: st.DataObject) -> None:
    other = data.draw(
        st.one_of(
            st.tuples(st.just(one[0]), st.just(one[1]), cells),
            st.tuples(st.text(max_size=4), st.just(one[1]), st.just(one[2])),
            st.tuples(st.just(one[0]), st.text(max_size=3), st.just(one[2])),
            st.just((one[0] + one[1], "", one[2])),
        ).filter(lambda other: other != one)
    )
    token = PageToken(*one).write(b"state")
    assert token is not None
    with pytest.raises(cql.PageTokenMismatch):
        PageToken(*other).read(token)


@given(st.text(max_size=60))
def test_any_text_is_a_mismatch(text: str) -> None:
    with pytest.raises(cql.PageTokenMismatch):
        PageToken("SELECT v FROM t", None, []).read(text)


def result(*rows: Any, names: tuple[str, ...] = ("a", "b"), **more: Any) -> cql.Result[Any]:
    return cql.Result(list(rows), columns(*names), ResponseReceived(1, VOID), "h:1", **more)


def test_first_one_and_scalar() -> None:
    none, one, two = result(), result((1, 2)), result((1, 2), (3, 4))
    assert (none.first(), one.first(), two.first()) == (None, (1, 2), (1, 2))
    assert (one.one(), one.scalar()) == ((1, 2), 1)
    for call in (none.one, none.scalar):
        with pytest.raises(cql.RowNotFound):
            call()
    for call in (two.one, two.scalar):
        with pytest.raises(cql.MultipleRows, match="2"):
            call()
    assert result({"a": 5, "b": 6}).scalar() == 5

    class Thing:
        a = 7

    assert result(Thing()).scalar() == 7


def test_one_or_none_and_a_default() -> None:
    none, one, two = result(), result((1, 2)), result((1, 2), (3, 4))
    assert (none.one_or_none(), one.one_or_none()) == (None, (1, 2))
    with pytest.raises(cql.MultipleRows, match="2"):
        two.one_or_none()
    assert (none.scalar(default=None), none.scalar(0), one.scalar(default=9)) == (None, 0, 1)
    assert result((None, 2)).scalar(default=9) is None
    with pytest.raises(cql.MultipleRows):
        two.scalar(default=9)


def test_rows_by_index_and_slices() -> None:
    two: Any
    more = {"next_token": None}
    for two in (
        result((1, 2), (3, 4)),
        cql.Page([(1, 2), (3, 4)], columns("a", "b"), ResponseReceived(1, VOID), "h:1", **more),
    ):
        assert (two[0], two[-1], two[1:], two[:0]) == ((1, 2), (3, 4), [(3, 4)], [])
        assert [*reversed(two)] == [(3, 4), (1, 2)]
        assert (3, 4) in two
        assert two.first() == (1, 2)
        assert two.scalars() == [1, 3]
        with pytest.raises(IndexError):
            two[2]
        with pytest.raises(TypeError, match=r"write result.one\(\)\['a'\]"):
            two["a"]


class Swapped(NamedTuple):
    b: int
    a: int


class Other(NamedTuple):
    b: int


class Thing:
    a = 7


class Aliased(pydantic.BaseModel):
    number: int = pydantic.Field(alias="a")


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("rows", "scalars"),
    [
        ([(1, 2), (3, 4)], [1, 3]),
        ([row_class(("a", "b"))((1, 2))], [1]),
        ([{"a": 1, "b": 2}], [1]),
        ([{"b": 2, "a": 1}], [1]),
        ([Swapped(b=2, a=1)], [1]),
        ([Thing()], [7]),
        ([Aliased(a=8)], [8]),
        ([1, None, 2], [1, None, 2]),
        (["x", Word("y")], ["x", "y"]),
        ([[1], {2}], [[1], {2}]),
        ([], []),
    ],
)
def test_scalars(rows: list[Any], scalars: list[Any]) -> None:
    assert result(*rows).scalars() == scalars
    assert [result(row).scalar() for row in rows] == scalars


@pytest.mark.parametrize("row", [Other(1), {"b": 1}, object()])
def test_scalars_of_rows_that_lack_the_first_column(row: object) -> None:
    for call in (result(row).scalars, result(row).scalar):
        with pytest.raises(cql.ResultError, match="has no a, the first column"):
            call()


def test_what_a_result_tells() -> None:
    two = result((1, 2), (3, 4))
    assert (len(two), list(two), two.columns, two.column_types) == (
        2,
        [(1, 2), (3, 4)],
        ("a", "b"),
        ("int", "int"),
    )
    assert repr(two) == "<Result of 2 rows from h:1>"
    with pytest.raises(TypeError, match="first"):
        bool(two)


def test_applied_and_existing() -> None:
    with pytest.raises(cql.ResultError, match="IF"):
        _ = result((1, 2)).applied
    with pytest.raises(cql.ResultError, match="IF"):
        _ = result((1, 2)).existing
    names = ("[applied]", "a")
    applied = result(names=names, outcome=(True, None))
    assert (applied.applied, applied.existing) == (True, None)
    refused = result(names=names, outcome=(False, 5))
    assert (refused.applied, refused.existing) == (False, {"a": 5})
    missing = result(names=names[:1], outcome=(False,))
    assert (missing.applied, missing.existing) == (False, None)
