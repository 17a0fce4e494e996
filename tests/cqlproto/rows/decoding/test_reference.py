"""The plain decoder against hand-made rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import LocalProtocolError, ProtocolVersion, RemoteProtocolError, RowMappingError
from cqlproto.cqltypes import EMPTY, NATIVE_TYPES, CQLType, ListType, encoder
from cqlproto.messages import Column, ResultMetadata, Rows, read_result
from cqlproto.rows import Row, decode_rows, decoder, reference_decoder
from cqlproto.testing import cql_types, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

V4 = ProtocolVersion.V4
INT, TEXT, BLOB = NATIVE_TYPES["int"], NATIVE_TYPES["text"], NATIVE_TYPES["blob"]


def column(name: str, cql_type: CQLType) -> Column:
    return Column("k", "t", name, cql_type)


def cell(data: bytes | None) -> bytes:
    """[bytes] (v4 section 3)"""
    return b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4, "big") + data


def rows_of(columns: Sequence[Column], count: int, content: bytes) -> Rows:
    return Rows.of(ResultMetadata(tuple(columns), b"", True), count, content)


def on_the_wire(value: Any, cql_type: CQLType) -> bytes:
    return cell(None if value is None else encoder(cql_type)(value))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Column], list[tuple[Any, ...]]]:
    """Columns of all types, and rows of them with nulls."""
    types = draw(st.lists(cql_types(max_leaves=3), min_size=1, max_size=4))
    row = st.tuples(*(st.none() | values_of(cql_type) for cql_type in types))
    columns = [column(f"c{index}", cql_type) for index, cql_type in enumerate(types)]
    return columns, draw(st.lists(row, max_size=4))


@settings(max_examples=60)
@given(tables(), st.binary(max_size=20), st.binary(max_size=20))
def test_rows_come_back(
    table: tuple[list[Column], list[tuple[Any, ...]]], before: bytes, after: bytes
) -> None:
    """From any offset; bytes after the rows are ignored (v4 section 1)."""
    columns, values = table
    content = b"".join(
        on_the_wire(value, column.type)
        for row in values
        for value, column in zip(row, columns, strict=True)
    )
    rows = rows_of(columns, len(values), before + content + after)
    rows.offset = len(before)
    assert reference_decoder(columns)(rows) == values
    assert decoder(columns, tuple)(rows) == values
    assert decode_rows(rows, tuple) == values
    made = decode_rows(rows)
    assert made == values
    assert all(isinstance(row, Row) for row in made)


@settings(max_examples=60)
@given(tables())
def test_a_reply_that_is_cut_off_names_the_row_and_the_column(
    table: tuple[list[Column], list[tuple[Any, ...]]],
) -> None:
    columns, values = table
    cells = [
        (row, column, on_the_wire(value, column.type))
        for row, cells in enumerate(values)
        for value, column in zip(cells, columns, strict=True)
    ]
    content = b"".join(data for _, _, data in cells)
    decode = reference_decoder(columns)
    position = 0
    for row, column, data in cells:
        where = f"row {row}, column {column.name!r} ({column.type}): "
        for end in range(position, position + len(data)):
            with pytest.raises(RemoteProtocolError) as info:
                decode(rows_of(columns, len(values), content[:end]))
            assert str(info.value).startswith(where)
        position += len(data)
    assert decode(rows_of(columns, len(values), content)) == values


@pytest.mark.parametrize("name", NATIVE_TYPES)
def test_nulls_and_cells_without_bytes(name: str) -> None:
    cql_type = NATIVE_TYPES[name]
    columns = [column("a", cql_type), column("b", INT)]
    content = (cell(None) + cell(b"")) + (cell(b"") + cell(b"\0\0\0\1"))
    [first, second] = decoder(columns, tuple)(rows_of(columns, 2, content))
    assert first == (None, EMPTY)
    empty = {"ascii": "", "text": "", "blob": b""}.get(name, EMPTY)
    assert second == (empty, 1)
    assert type(second[0]) is type(empty)


@pytest.mark.parametrize("length", [-1, -2, -(2**31)])
def test_any_negative_length_is_null(length: int) -> None:
    """v4 section 3"""
    columns = [column("a", TEXT)]
    content = length.to_bytes(4, "big", signed=True) + cell(b"x")
    assert reference_decoder(columns)(rows_of(columns, 2, content)) == [(None,), ("x",)]


def test_a_length_beyond_the_end() -> None:
    columns = [column("a", BLOB)]
    content = (2**31 - 1).to_bytes(4, "big") + b"x"
    with pytest.raises(RemoteProtocolError, match="2147483647 bytes are announced, 1 are left"):
        reference_decoder(columns)(rows_of(columns, 1, content))


@pytest.mark.parametrize(
    ("cql_type", "data"),
    [(INT, b"123"), (TEXT, b"\xff"), (ListType(INT), b"\0\0\0\1"), (NATIVE_TYPES["uuid"], b"1")],
    ids=str,
)
def test_a_malformed_cell_names_the_row_and_the_column(cql_type: CQLType, data: bytes) -> None:
    columns = [column("good", INT), column("bad", cql_type)]
    content = cell(b"\0\0\0\1") + cell(None) + cell(b"\0\0\0\2") + cell(data)
    for target in (tuple, Row, dict):
        with pytest.raises(RemoteProtocolError) as info:
            decoder(columns, target)(rows_of(columns, 2, content))
        assert str(info.value).startswith(f"row 1, column 'bad' ({cql_type}): ")
        assert info.value.__cause__ is not None


@settings(max_examples=60)
@given(tables(), st.binary(max_size=40), st.integers(0, 5))
def test_anything_else_is_rows_or_a_protocol_error(
    table: tuple[list[Column], list[tuple[Any, ...]]], body: bytes, count: int
) -> None:
    columns, _ = table
    try:
        rows = reference_decoder(columns)(rows_of(columns, count, body))
    except RemoteProtocolError as exc:
        assert str(exc).startswith("row ")
    else:
        assert len(rows) == count


def test_no_rows_and_no_columns() -> None:
    columns = [column("a", INT)]
    assert decoder(columns)(rows_of(columns, 0, b"")) == []
    assert decoder([])(rows_of([], 3, b"")) == [(), (), ()]


# -- decoders kept with the metadata


def a_page() -> Rows:
    return rows_of([column("a", INT)], 1, cell(b"\0\0\0\7"))


class Counting:
    """A target that counts calls of row_maker."""

    def __init__(self) -> None:
        self.made = 0

    def row_maker(self, columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], int]:
        self.made += 1
        return lambda values: int(values[0])


def test_a_decoder_is_made_once_per_metadata_and_target() -> None:
    rows, target = a_page(), Counting()
    for _ in range(3):
        assert decode_rows(rows, target) == [7]
    assert target.made == 1
    assert decode_rows(a_page(), target) == [7]
    assert target.made == 2


def test_targets_do_not_pile_up() -> None:
    rows = a_page()
    assert rows.metadata is not None
    for _ in range(1000):
        assert decode_rows(rows, Counting()) == [7]
    assert len(rows.metadata.cache) < 100


class Unhashable(Counting):
    __hash__ = None  # type: ignore[assignment]  # as a dataclass that is compared by value


def test_a_target_without_a_hash_works() -> None:
    rows, target = a_page(), Unhashable()
    assert decode_rows(rows, target) == [7]
    with pytest.raises(RowMappingError, match="expected Row, tuple, dict"):
        decode_rows(rows, [])


def test_rows_without_metadata_are_a_local_error() -> None:
    body = bytearray()
    columns = ResultMetadata.of([column("a", INT)], V4)
    Rows.of(columns, 1, cell(b"\0\0\0\7"), skip_metadata=True).write_body(body, V4)
    rows = read_result(bytes(body), 0, V4)
    assert isinstance(rows, Rows)
    with pytest.raises(LocalProtocolError, match="have no metadata"):
        decode_rows(rows)
