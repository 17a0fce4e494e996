"""Results, pages and their tokens."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ResponseReceived
from cqlproto.cqltypes import UNSET
from cqlproto.messages import VOID
from cqlproto_anyio.results import PageToken
from tests.cqlproto_anyio.answers import columns

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
