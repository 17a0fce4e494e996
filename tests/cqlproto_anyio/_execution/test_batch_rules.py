"""Checks of a batch before it is sent. tests/cassandra shows that servers refuse these as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import BatchKind
from cqlproto.messages.results import Column
from cqlproto_anyio._execution.batch_rules import MAX_STATEMENTS, check_batch, check_item
from cqlproto_anyio._text import read_statement

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGGED, UNLOGGED, COUNTER = BatchKind.LOGGED, BatchKind.UNLOGGED, BatchKind.COUNTER
KINDS = [LOGGED, UNLOGGED, COUNTER]

INSERT = "INSERT INTO t (k, v) VALUES (?, ?)"
UPDATE = "UPDATE t SET v = ? WHERE k = ?"
DELETE = "DELETE FROM t WHERE k = ?"
INCREMENT = "UPDATE n SET n = n + ? WHERE k = ?"


def marked(*types: str, table: str = "t") -> Sequence[Column]:
    return [Column("ks", table, f"c{at}", NATIVE_TYPES[name]) for at, name in enumerate(types)]


INTS = marked("int", "int")
COUNTERS = marked("counter", "int", table="n")

ORDINARY = [(INSERT, INTS), (UPDATE, INTS), (DELETE, marked("int")), (UPDATE, ())]
KNOWN_COUNTERS = [(INCREMENT, COUNTERS)]
# Tables of unknown kind: counters or not.
UNKNOWN = [
    ("UPDATE n SET n = n + 1 WHERE k = ?", marked("int", table="n")),
    ("UPDATE n SET n = n + 1 WHERE k = 1", ()),
    ("DELETE FROM n WHERE k = ?", marked("int", table="n")),
]


def check(kind: BatchKind, *items: tuple[str, Sequence[Column]]) -> None:
    for number, (text, _) in enumerate(items, 1):
        check_item(kind, number, read_statement(text))
    check_batch(kind, [(read_statement(text), columns) for text, columns in items])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT * FROM t", "SELECT"),
        ("/* a */ select 1", "SELECT"),
        ("TRUNCATE t", "TRUNCATE"),
        ("CREATE TABLE t (k int PRIMARY KEY)", "CREATE"),
        ("BEGIN BATCH INSERT INTO t (k) VALUES (1) APPLY BATCH", "BEGIN"),
        ("", "empty"),
        ("-- INSERT INTO t", "empty"),
    ],
)
def test_what_does_not_write_rows(kind: BatchKind, text: str, shown: str) -> None:
    with pytest.raises(cql.UsageError, match=f"statement 7 of the batch is {shown}: a batch takes"):
        check_item(kind, 7, read_statement(text))


@pytest.mark.parametrize("kind", KINDS)
def test_too_many(kind: BatchKind) -> None:
    text = read_statement(UPDATE)
    check_item(kind, MAX_STATEMENTS, text)
    with pytest.raises(cql.UsageError, match="at most 65535 statements"):
        check_item(kind, MAX_STATEMENTS + 1, text)


def test_what_a_counter_batch_does_not_take() -> None:
    with pytest.raises(cql.UsageError, match="statement 2 of the batch is an INSERT"):
        check(COUNTER, KNOWN_COUNTERS[0], (INSERT, INTS))
    with pytest.raises(cql.UsageError, match=r"statement 1 of the batch has a condition \(IF\)"):
        check(COUNTER, (UPDATE + " IF EXISTS", INTS))


def test_counters_in_a_logged_batch() -> None:
    with pytest.raises(cql.UsageError, match="statement 2 of the batch updates a counter: that ne"):
        check(LOGGED, (UPDATE, INTS), *KNOWN_COUNTERS)


@pytest.mark.parametrize("other", [INSERT, UPDATE + " IF EXISTS", DELETE + " IF v = 1"])
def test_counters_and_others_unlogged(other: str) -> None:
    with pytest.raises(cql.UsageError, match="statement 1 .* a counter, statement 2 does not"):
        check(UNLOGGED, *KNOWN_COUNTERS, (other, INTS))
    with pytest.raises(cql.UsageError, match="statement 3 .* a counter, statement 2 does not"):
        check(UNLOGGED, UNKNOWN[1], (other, INTS), *KNOWN_COUNTERS, *KNOWN_COUNTERS)


@pytest.mark.parametrize("kind", [LOGGED, UNLOGGED])
def test_a_condition_over_tables(kind: BatchKind) -> None:
    elsewhere = (INSERT, marked("int", table="u"))
    with pytest.raises(
        cql.UsageError, match=r"statement 2 .* 1 is for ks\.t, statement 3 for ks\.u"
    ):
        check(kind, (INSERT, INTS), (INSERT + " IF NOT EXISTS", ()), elsewhere)
    check(kind, (INSERT, INTS), elsewhere)
    check(
        kind, (INSERT, INTS), (INSERT + " IF NOT EXISTS", INTS), ("DELETE FROM u WHERE k = 1", ())
    )


@given(st.lists(st.sampled_from(ORDINARY)), st.sampled_from([LOGGED, UNLOGGED]))
def test_ordinary_statements_pass(
    items: list[tuple[str, Sequence[Column]]], kind: BatchKind
) -> None:
    check(kind, *items)
    check(kind, *items, (UPDATE + " IF v = 1", INTS))


@given(st.lists(st.sampled_from(KNOWN_COUNTERS + UNKNOWN)), st.sampled_from([COUNTER, UNLOGGED]))
def test_counters_pass(items: list[tuple[str, Sequence[Column]]], kind: BatchKind) -> None:
    check(kind, *items)


@given(st.lists(st.sampled_from(UNKNOWN)), st.sampled_from(KINDS))
def test_what_is_not_known_is_left_to_the_server(
    items: list[tuple[str, Sequence[Column]]], kind: BatchKind
) -> None:
    check(kind, *items)
