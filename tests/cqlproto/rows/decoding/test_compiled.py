"""Compiled decoders against the plain loop."""

from __future__ import annotations

import ast
import gc
import itertools
import re
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import RemoteProtocolError
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.rows import (
    ROWS_BEFORE_COMPILING,
    Row,
    decode_rows,
    decoder,
    decoder_source,
    reference_decoder,
)
from cqlproto.rows.decoding import compiled
from cqlproto.rows.decoding.compiled import compiled_decoder
from cqlproto.testing import cql_types
from tests.cqlproto.rows.decoding.test_reference import cell, column, on_the_wire, rows_of, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages import Column, Rows

NUMBERS = ("tinyint", "smallint", "int", "bigint", "counter", "float", "double")


def outcome(decode: Callable[[Rows], list[Any]], rows: Rows) -> object:
    """The result of a decoder for a page: rows with their classes, or the text of the error."""
    try:
        return [[(type(value), repr(value)) for value in row] for row in decode(rows)]
    except RemoteProtocolError as error:
        return str(error)


def both(columns: Sequence[Column], rows: Rows) -> None:
    plain, compiled = reference_decoder(columns), decoder(columns, tuple)
    assert outcome(compiled, rows) == outcome(plain, rows)


@settings(max_examples=150)
@given(tables(), st.data())
def test_equal_for_every_type_with_nulls_and_cut_off(
    table: tuple[list[Column], list[tuple[Any, ...]]], data: st.DataObject
) -> None:
    columns, values = table
    content = b"".join(
        on_the_wire(value, column.type)
        for row in values
        for value, column in zip(row, columns, strict=True)
    )
    both(columns, rows_of(columns, len(values), content))
    for _ in range(5):
        end = data.draw(st.integers(0, len(content)))
        both(columns, rows_of(columns, len(values), content[:end]))


cells = st.sampled_from([b"", b"\0", b"\1\2", b"\0\0\0\1", b"\x7f" * 8, b"abc", b"\xff\xfe", None])


@settings(max_examples=300)
@given(st.data())
def test_equal_for_cells_of_wrong_sizes(data: st.DataObject) -> None:
    """Adjacent numbers most of all: they are read together."""
    names = data.draw(st.lists(st.sampled_from([*NUMBERS, "text", "uuid"]), min_size=1, max_size=6))
    columns = [column(f"c{n}", NATIVE_TYPES[name]) for n, name in enumerate(names)]
    count = data.draw(st.integers(0, 4))
    table = data.draw(st.lists(cells, min_size=count * len(names), max_size=count * len(names)))
    content = b"".join(map(cell, table))
    both(columns, rows_of(columns, count, content))
    both(columns, rows_of(columns, count, content + data.draw(st.binary(max_size=30))))


@settings(max_examples=200)
@given(
    st.lists(cql_types(max_leaves=2), min_size=1, max_size=4),
    st.integers(0, 5),
    st.binary(max_size=80),
)
def test_equal_for_hostile_bytes(types: list[Any], count: int, content: bytes) -> None:
    columns = [column(f"c{n}", cql_type) for n, cql_type in enumerate(types)]
    both(columns, rows_of(columns, count, content))


def test_nulls_at_the_end_of_a_page() -> None:
    """A run of numbers is read as a whole, and the rest of the page may be shorter."""
    columns = [column("a", NATIVE_TYPES["int"]), column("b", NATIVE_TYPES["bigint"])]
    content = cell(b"\0\0\0\1") + cell(b"\0" * 8) + cell(b"\0\0\0\2") + cell(None)
    assert decoder(columns, tuple)(rows_of(columns, 2, content)) == [(1, 0), (2, None)]


@pytest.mark.parametrize("width", [1, 250, 251, 600])
def test_any_number_of_columns(width: int) -> None:
    columns = [column(f"c{n}", NATIVE_TYPES[NUMBERS[n % 7]]) for n in range(width)]
    content = b"".join(on_the_wire(n % 100, each.type) for n, each in enumerate(columns))
    rows = rows_of(columns, 1, content)
    assert decoder(columns, tuple)(rows) == reference_decoder(columns)(rows)


@pytest.mark.parametrize("target", [tuple, Row, dict])
def test_a_decoder_is_compiled_when_it_has_paid(target: type) -> None:
    columns = [column("a", NATIVE_TYPES["int"]), column("b", NATIVE_TYPES["text"])]
    rows = rows_of(columns, 64, (cell(b"\0\0\0\1") + cell(b"x")) * 64)
    assert rows.metadata is not None
    first = decode_rows(rows, target)
    early = rows.metadata.cache[target]
    for _ in range(ROWS_BEFORE_COMPILING // 64):
        assert decode_rows(rows, target) == first
    late = rows.metadata.cache[target]
    assert late is not early
    assert decode_rows(rows, target) == first
    assert [type(row) for row in late(rows)] == [type(row) for row in first]
    assert early(rows) == first


@given(st.lists(cql_types(max_leaves=3), max_size=8))
def test_the_source_has_nothing_of_what_came_from_outside(types: list[Any]) -> None:
    """Only names in the templates and indexes; equal shapes have the same source."""
    tree = ast.parse(decoder_source(types))
    found = [node.id for node in ast.walk(tree) if type(node) is ast.Name]
    names = {name for name in found if not re.fullmatch(r"[a-z]+\d+[bcde]?", name)}
    indexed = {re.sub(r"\d.*", "", name) for name in found} - names
    assert indexed <= {"cell", "fill", "h", "m", "n", "run", "short", "some", "v", "SPANS_"}
    assert names <= {
        "rows", "body", "p", "result", "_", "range", "len", "bytes", "list", "cells", "structs",
        "short", "some", "head", "padding", "make", "plain", "decode", "count", "size", "page",
        "zeros", "unpack_page", "length_at", "value", "Malformed", "BlankUUID", "UUID", "unknown",
        "from_bytes", "uuid_of", "date_of", "time_of", "late_timestamp", "OverflowError", "ERAS",
        "SPANS_0", "SPANS_8", "SPANS_16", "SPANS_24",
    }  # fmt: skip
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    constants = {node.value for node in ast.walk(tree) if type(node) is ast.Constant}
    texts = {value for value in constants if isinstance(value, str)}
    assert texts <= {"ascii", "head"}


def page_of(pattern: str, count: int) -> Rows:
    """Rows of an int, a text, a UUID and an int, null where the pattern has an "N"."""
    columns = [column(f"c{n}", NATIVE_TYPES[name]) for n, name in enumerate(NAMES)]
    usual = (b"\0\0\0\1", b"abc", bytes(range(16)), b"\0\0\0\2")
    data = [None if letter == "N" else usual[at] for at, letter in enumerate(pattern)]
    return rows_of(columns, count, b"".join(map(cell, data)) * count)


NAMES = ("int", "text", "uuid", "int")
PATTERNS = ["".join(letters) for letters in itertools.product("vN", repeat=4)]


@given(st.lists(st.tuples(st.sampled_from(PATTERNS), st.sampled_from([0, 1, 2, 3, 12, 70]))))
def test_whatever_was_null_before(pages: list[tuple[str, int]]) -> None:
    """Expected nulls affect only the speed."""
    made = [page_of(*page) for page in pages]
    columns = page_of("vvvv", 0).metadata
    assert columns is not None
    decode, plain = decoder(columns.columns, tuple), reference_decoder(columns.columns)
    for rows in made:
        assert outcome(decode, rows) == outcome(plain, rows)


def test_decoders_for_what_is_null_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    original = compiled._decoder_of

    def counted(shape: str, *rest: Any) -> Any:
        made.append(shape)
        return original(shape, *rest)

    monkeypatch.setattr(compiled, "_decoder_of", counted)
    metadata = page_of("vvvv", 0).metadata
    assert metadata is not None
    decode = decoder(metadata.columns, tuple)
    for _ in range(2):
        for pattern in PATTERNS:
            rows = page_of(pattern, 70)
            assert decode(rows) == reference_decoder(metadata.columns)(rows)
    assert len(made) == len(set(made)) == 1 + compiled.MAX_NULL_PATTERNS
    assert made[:3] == ["iTUi", "iTUN", "iTNi"]


def test_one_row_alone_does_not_tell_what_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "SAMPLE_EVERY", 1)
    metadata = page_of("vvvv", 0).metadata
    assert metadata is not None
    plain: Any = pytest.fail
    decode = compiled_decoder(metadata.columns, tuple, plain)
    for pattern in ("vNvN", "vNvv", "vNNN", "vvvv", "NNNN"):
        for _ in range(3):
            [row] = decode(page_of(pattern, 1))
            assert [value is None for value in row] == [letter == "N" for letter in pattern]


def test_many_lists_of_columns_take_no_more_memory_than_some() -> None:
    """Decode a page for each; every decoder is freed with its metadata."""
    names = [name for name in NATIVE_TYPES if name != "counter"]

    def decode_lists(first: int, last: int) -> None:
        for number in range(first, last):
            types = [names[number // 19**place % 19] for place in range(3)]
            columns = [
                column(f"c{number}_{at}", NATIVE_TYPES[name]) for at, name in enumerate(types)
            ]
            rows = rows_of(columns, 300, cell(None) * 900)
            assert len(decode_rows(rows, tuple)) == 300

    def kept_after(first: int, last: int) -> int:
        decode_lists(first, last)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = kept_after(0, 600)
        after = kept_after(600, 1_200)
    finally:
        tracemalloc.stop()
    assert after < 1.25 * before


def test_the_source_can_be_looked_at() -> None:
    command = [sys.executable, "-m", "cqlproto.rows", "int, text, frozen<list<int>>"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.startswith("def make_decoder(") and "v2 = cell2(" in shown
    wrong = subprocess.run([*command[:3], "imt"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "imt" in wrong.stderr
