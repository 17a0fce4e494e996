"""Pages of rows, and a comparison of two decoders: for the tests of compiled decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from cqlproto import RemoteProtocolError
from cqlproto.cqltypes import NATIVE_TYPES, CQLType, encoder, parse_type
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import Row, decoder, reference_decoder
from cqlproto.testing import cql_types, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NUMBERS = ("tinyint", "smallint", "int", "bigint", "counter", "float", "double")
FIXED = (*NUMBERS, "boolean", "uuid", "timeuuid", "timestamp", "date", "time")
VARYING = ("text", "ascii", "blob", "varint", "decimal", "inet", "duration")


def columns_of(*types: CQLType | str) -> list[Column]:
    made = [parse_type(each) if isinstance(each, str) else each for each in types]
    return [Column("k", "t", f"c{index}", each) for index, each in enumerate(made)]


def cell(data: bytes | None) -> bytes:
    """[bytes] (v4 section 3)"""
    return b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4, "big") + data


def on_the_wire(value: Any, cql_type: CQLType) -> bytes:
    """A value with its length; bytes are taken as the cell, whatever the type."""
    if isinstance(value, Cell):
        return cell(value.data)
    return cell(None if value is None else encoder(cql_type)(value))


class Cell:
    """A cell that is encoded already."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __repr__(self) -> str:
        return f"Cell({self.data!r})"


def rows_of(columns: Sequence[Column], count: int, content: bytes) -> Rows:
    return Rows.of(ResultMetadata(tuple(columns), b"", True), count, content)


def packed(columns: Sequence[Column], table: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(
        [
            on_the_wire(value, column.type)
            for row in table
            for value, column in zip(row, columns, strict=True)
        ]
    )


def native(names: Sequence[str]) -> st.SearchStrategy[CQLType]:
    return st.sampled_from([NATIVE_TYPES[name] for name in names])


anything = cql_types(max_leaves=3)
long_texts = st.integers(250, 300).map(lambda size: "x" * size)


def _value(cql_type: CQLType) -> st.SearchStrategy[Any]:
    usual = values_of(cql_type)
    if str(cql_type) in ("text", "ascii"):
        usual |= long_texts
    return usual


@st.composite
def tables(
    draw: st.DrawFn,
    types: st.SearchStrategy[CQLType] = anything,
    *,
    min_rows: int = 0,
    odd: st.SearchStrategy[Any] | None = None,
) -> tuple[list[Column], list[list[Any]]]:
    """Columns and rows; some columns are always null, and some cells are ``odd``."""
    columns = columns_of(*draw(st.lists(types, min_size=1, max_size=5)))
    always = draw(st.just(set()) | st.sets(st.integers(0, 4), max_size=2))

    def value(index: int) -> Any:
        if index in always:
            return None
        if odd is not None and draw(st.integers(0, 9)) == 9:
            return draw(odd)
        return draw(_value(columns[index].type))

    indexes = range(len(columns))
    some = [[value(index) for index in indexes] for _ in range(draw(st.integers(1, 4)))]
    # A long page repeats a few rows.
    order = st.integers(0, len(some) - 1)
    return columns, [some[at] for at in draw(st.lists(order, min_size=min_rows, max_size=12))]


def outcome(decode: Callable[[Rows], list[Any]], rows: Rows) -> object:
    """The result of decoding a page: values with their classes, or the text of the error."""
    try:
        return [[(type(value), repr(value)) for value in row] for row in decode(rows)]
    except RemoteProtocolError as error:
        return str(error)


def both(columns: Sequence[Column], *pages: Rows) -> None:
    """Compare compiled decoders with the reference; the first page may change their state."""
    plain = reference_decoder(columns)
    for target in (tuple, Row):
        compiled = decoder(columns, target)
        for rows in (*pages, *pages):
            assert outcome(compiled, rows) == outcome(plain, rows)
        assert all(isinstance(row, target) for row in outcome_rows(compiled, pages[0]))


def outcome_rows(decode: Callable[[Rows], list[Any]], rows: Rows) -> list[Any]:
    try:
        return decode(rows)
    except RemoteProtocolError:
        return []
