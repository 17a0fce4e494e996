"""Compiled packers against the plain loop, which is their oracle."""

from __future__ import annotations

import ast
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import (
    EMPTY,
    UNSET,
    LocalProtocolError,
    ProtocolVersion,
    ValueConversionError,
)
from cqlproto.cqltypes import NATIVE_TYPES, ListType
from cqlproto.rows import Binder
from cqlproto.rows.binder import FRAMES_BEFORE_COMPILING
from cqlproto.rows.pack import packer_source
from cqlproto.testing import cql_types, values_of
from tests.cqlproto.rows.test_binder import ONE, V4, options, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
LIST = ListType(INT)


def compiled(binder: Binder, values: Sequence[Any]) -> Binder:
    """Use a binder until it has compiled its packer."""
    early = binder.frame
    for _ in range(FRAMES_BEFORE_COMPILING + 1):
        binder.frame(1, values)
    assert binder.frame is not early
    return binder


def compiled_with_nulls(*types: Any) -> Binder:
    return compiled(Binder(prepared(*types), ONE, V4), [None] * len(types))


def outcome(frame: Callable[[int, Sequence[Any]], bytes], values: Sequence[Any]) -> object:
    try:
        return frame(7, values)
    except (ValueConversionError, LocalProtocolError) as error:
        return type(error), str(error)


odd = st.sampled_from(
    [None, UNSET, EMPTY, True, 0, -1, 1 << 31, 1 << 70, 1.5, float("inf"), 1e300, "", "x", "\ud800",
     b"", b"x", Decimal("NaN"), UUID(int=1), str(UUID(int=2)), [1], object]
)  # fmt: skip


@settings(max_examples=80)
@given(st.data())
def test_equal_for_every_type_option_and_value(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = data.draw(st.lists(cql_types(max_leaves=2), max_size=4))
    metadata_id = b"m" if version.has_result_metadata_id else None
    statement = prepared(*types, metadata_id=metadata_id)
    binder = Binder(statement, data.draw(options(version)), version)
    compiled(binder, [None] * len(types))
    for _ in range(4):
        values = [data.draw(values_of(cql_type) | odd) for cql_type in types]
        assert outcome(binder.frame, values) == outcome(binder.plain_frame, values)
        assert outcome(binder.frame, tuple(values)) == outcome(binder.plain_frame, values)


@settings(max_examples=300)
@given(st.data())
def test_equal_for_scalars_side_by_side(data: st.DataObject) -> None:
    """Runs of fixed size between cells of variable size, which are packed together."""
    names = data.draw(st.lists(st.sampled_from(list(NATIVE_TYPES)), max_size=8))
    types = [NATIVE_TYPES[name] for name in names]
    binder = compiled_with_nulls(*types)
    usual = [data.draw(values_of(cql_type)) for cql_type in types]
    assert outcome(binder.frame, usual) == outcome(binder.plain_frame, usual)
    if usual:
        usual[data.draw(st.integers(0, len(usual) - 1))] = data.draw(odd)
        assert outcome(binder.frame, usual) == outcome(binder.plain_frame, usual)


@pytest.mark.parametrize("values", [(), (1,), (1, "a", 2)])
def test_a_wrong_number_of_values(values: tuple[Any, ...]) -> None:
    binder = compiled_with_nulls(INT, TEXT)
    with pytest.raises(LocalProtocolError, match=f"{len(values)} values for 2 bind markers"):
        binder.frame(1, values)


def test_what_was_refused_is_not_tried_again() -> None:
    """An iterator that was read once would give fewer elements, and nobody would notice."""
    binder = compiled_with_nulls(LIST)
    with pytest.raises(ValueConversionError):
        binder.frame(1, (iter([1, "x", 3]),))
    binder = compiled_with_nulls(LIST, INT)
    with pytest.raises(ValueConversionError, match="column 'c1'"):
        binder.frame(1, (iter([1, 2, 3]), 1 << 40))
    assert binder.frame(1, (iter([1, 2]), 3)) == binder.plain_frame(1, ([1, 2], 3))


@pytest.mark.parametrize("width", [0, 1, 250, 251, 400])
def test_any_number_of_markers(width: int) -> None:
    kinds = [INT, TEXT, NATIVE_TYPES["double"], NATIVE_TYPES["uuid"]]
    types = [kinds[n % 4] for n in range(width)]
    values = [[n, str(n), n / 2, UUID(int=n)][n % 4] for n in range(width)]
    early = Binder(prepared(*types), ONE, V4)
    for _ in range(FRAMES_BEFORE_COMPILING + 3):
        assert early.frame(3, values) == early.plain_frame(3, values)


@given(st.lists(cql_types(max_leaves=3), max_size=8))
def test_the_source_has_nothing_of_what_came_from_outside(types: list[Any]) -> None:
    tree = ast.parse(packer_source(types))
    names = {node.id.rstrip("0123456789") for node in ast.walk(tree) if type(node) is ast.Name}
    assert names <= {
        "version", "opcode", "before", "after", "structs", "encoders", "plain", "named", "UNSET",
        "UUID", "Unfit", "Refused", "stream_id", "values", "frame", "len", "type", "sum", "v", "c",
        "str", "int", "bool", "float", "bytes", "pack", "size", "encode", "each", "refused",
    }  # fmt: skip
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {text for text in texts if isinstance(text, str | bytes)} <= {b"", "big"}
