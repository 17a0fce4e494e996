"""The source of packers."""

from __future__ import annotations

import ast
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES, parse_type
from cqlproto.rows.decoding import compiled as decoding
from cqlproto.rows.decoding.compiled import decoder_source
from cqlproto.rows.encoding import compiled as encoding
from cqlproto.rows.encoding.templates import FIXED, kind_of, packer_source, width_of
from cqlproto.testing import cql_types

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
ALL = [*NATIVE_TYPES.values(), parse_type("list<int>")]


def example(module: Any) -> str:
    """Return the function that a module's docstring shows."""
    lines = module.__doc__.partition("::\n\n")[2].splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith(" "))
    return dedent("\n".join(lines[:end])).strip()


def generated(source: str, name: str) -> str:
    """Return a function within ``make_packer`` or ``make_decoder``."""
    start = source.index(f"    def {name}(")
    return dedent(source[start : source.index(f"\n\n    return {name}\n", start)])


def test_the_docstrings_show_what_is_generated() -> None:
    assert example(encoding) == generated(packer_source([INT, TEXT]), "frame")
    assert example(decoding) == generated(decoder_source([INT, TEXT]), "decode")


@pytest.mark.parametrize("stamped", [False, True])
def test_a_timestamp_is_asked_for_where_frames_have_one(stamped: bool) -> None:
    for types in ([], [INT], [TEXT], [INT, TEXT], [TEXT, INT], ALL, ALL[::-1]):
        source = packer_source(types, stamped=stamped)
        assert ("stamp()" in source) is stamped
        ast.parse(source)


def test_kinds_of_fixed_size() -> None:
    assert (kind_of(INT), kind_of(TEXT), kind_of(parse_type("list<int>"))) == ("i", "text", "")
    widths = {kind: width_of(kind) for kind in FIXED}
    assert widths["i"] == widths["date"] == 4
    assert widths["uuid"] == 16


@given(st.lists(cql_types(max_leaves=3), max_size=8), st.booleans())
def test_the_source_has_nothing_of_what_came_from_outside(types: list[Any], stamped: bool) -> None:
    tree = ast.parse(packer_source(types, stamped=stamped))
    names = {node.id.rstrip("0123456789") for node in ast.walk(tree) if type(node) is ast.Name}
    assert names <= {
        "start", "version", "opcode", "before", "after", "whole", "packs", "encoders", "singles",
        "writers", "cell_by_cell", "plain", "named", "absent", "lengths", "pack_length",
        "missing", "locals", "tuple", "list", "by_position",
        "pack_header", "write_decimal", "Exception", "UNSET", "Decimal", "IPv", "UUID", "date",
        "datetime", "time", "utc", "epoch", "day", "stream_id", "values", "frame", "len", "type",
        "v", "c", "n", "str", "int", "bool", "float", "bytes", "bytearray", "pack", "size",
        "encode", "write", "single", "since", "body", "error", "stamp", "behind", "last",
    }  # fmt: skip
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {text for text in texts if isinstance(text, str | bytes)} <= {b"", "big", "ascii"}
