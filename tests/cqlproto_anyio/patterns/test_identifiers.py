"""Names in statements: checked, quoted, and no two ids with one name."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._identifiers import (
    MAX_NAME,
    decoded,
    encoded,
    identifier,
    qualified,
    quoted,
)

HOSTILE: list[Any] = [
    "", "a b", 'a"b', "a;DROP", "a'", "a.b", "a-b", "a\n", "ä", "ſ", "a" * 49, None, 7, b"a",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_names_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="table must be 1 to 48 of the characters") as info:
        identifier("table", value)
    assert isinstance(info.value, cql.UsageError)
    assert (info.value.name, info.value.value) == ("table", value)


@pytest.mark.parametrize("value", ["a", "A", "select", "9", "_", "a" * 48])
def test_names_are_quoted_as_they_are(value: str) -> None:
    assert quoted("table", value) == f'"{value}"'


def test_qualified() -> None:
    assert qualified("shop", "Locks") == '"shop"."Locks"'
    with pytest.raises(InvalidInput, match="keyspace must be"):
        qualified('shop".x', "locks")
    with pytest.raises(InvalidInput, match="table must be"):
        qualified("shop", "locks;")


def test_columns_may_be_longer() -> None:
    assert quoted("column", "a" * 100, most=100)


@pytest.mark.parametrize(
    ("value", "name"),
    [("acme", "t_acme"), ("acme-Co", "t_acme_2d_43o"), ("A", "t__41"), ("a_b", "t_a__b")],
)
def test_ids_are_encoded(value: str, name: str) -> None:
    assert encoded("tenant", value, prefix="t_") == name
    assert decoded(name, prefix="t_") == value


@pytest.mark.parametrize("value", [*HOSTILE[:6], "é", "a" * 49, "-" * 17, None, 3])
def test_hostile_ids_are_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="tenant must be"):
        encoded("tenant", value)


IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=16)


@given(IDS, IDS)
def test_no_two_ids_have_one_name(one: str, other: str) -> None:
    names = [encoded("id", each) for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert names[0] == names[0].lower()
    assert len(names[0]) <= MAX_NAME
    assert identifier("id", names[0]) == names[0]


@given(st.text(string.ascii_lowercase + string.digits + "_-A", max_size=20))
def test_only_names_that_were_encoded_are_decoded(name: str) -> None:
    value = decoded(name, prefix="t_")
    if value is not None:
        assert encoded("id", value, prefix="t_") == name
