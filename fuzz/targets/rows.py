"""Targets that compare compiled row decoders and parameter packers with the generic loop."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.exceptions import (
    CQLError,
    LocalProtocolError,
    RemoteProtocolError,
    RowMappingError,
    ValueConversionError,
)
from cqlproto.messages import (
    BindMetadata,
    Column,
    Prepared,
    QueryParameters,
    ResultMetadata,
    Rows,
    read_result,
)
from cqlproto.rows import Binder, Row, decode_rows, decoder, reference_decoder
from cqlproto.rows.encoding.binder import FRAMES_BEFORE_COMPILING
from cqlproto.wire import UNSET
from fuzz import vectors
from fuzz.checks import require, same_value
from fuzz.targets.types import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class _Pair(NamedTuple):
    """A row class of a user: two columns by name, one of them optional."""

    c1: Any
    c0: Any = None


_TARGETS: tuple[Any, ...] = (tuple, Row, dict, _Pair)
_COUNT = len(TYPES)
_WIDEST = 12


def _columns(types: Sequence[int]) -> tuple[Column, ...]:
    return tuple(
        [Column("ks", "t", f"c{index}", TYPES[kind % _COUNT]) for index, kind in enumerate(types)]
    )


# Column lists that one byte selects, so that their decoders are compiled once: each type alone,
# runs of numbers, numbers between other types.
_LISTS: tuple[tuple[Column, ...], ...] = (
    *[_columns([number]) for number in range(_COUNT)],
    *[_columns([first % 20, (first * 7 + 3) % 20]) for first in range(20)],
    *[_columns([11, 1, 6, 3, step, 9, 19, 13, 0, 17][: 2 + step]) for step in range(9)],
    _columns(list(range(20))),
)


@cache
def kept_decoders(number: int, target: int) -> tuple[Callable[[Rows], list[Any]], ...]:
    columns = _LISTS[number]
    return decoder(columns, _TARGETS[target]), reference_decoder(columns)


_Outcome = tuple[list[Any] | None, str]


def _outcome(decode: Callable[[Rows], list[Any]], message: Rows) -> _Outcome:
    try:
        return decode(message), ""
    except RemoteProtocolError as exc:
        return None, str(exc)


def _compare(target: Any, columns: Sequence[Column], made: _Outcome, plain: _Outcome) -> None:
    """Compare the rows of a target with the tuples of the generic loop."""
    require(made[1] == plain[1], "another error", made[1], plain[1])
    if made[0] is None or plain[0] is None:
        require(made[0] is plain[0], "rows on one side", made, plain)
        return
    names = [column.name for column in columns]
    rows: list[Any] = made[0]
    if target is Row:
        require(all(type(row).__mro__[1] is Row for row in rows), "no Row", rows)
        rows = [tuple(row) for row in rows]
    elif target is dict:
        require(all(list(row) == names for row in rows), "other keys", rows)
        rows = [tuple(row.values()) for row in rows]
    expected: list[Any] = plain[0]
    if target is _Pair:
        rows = [tuple(row) for row in rows]
        zero = names.index("c0") if "c0" in names else None
        one = names.index("c1")
        expected = [(row[one], None if zero is None else row[zero]) for row in expected]
    require(same_value(rows, expected), "other rows", rows, expected)


def rows(data: bytes) -> None:
    """Compiled decoders return or raise the same as the generic loop, for every row target.

    The columns come from the message or from the table of column lists.
    """
    if len(data) < 3:
        return
    number = data[0] & 3
    target = _TARGETS[number]
    if data[0] & 4:
        listed = data[1] % len(_LISTS)
        columns = _LISTS[listed]
        content = data[3:]
        count = min(data[2], len(content) // (4 * len(columns)))
        message = Rows(None, count, None, content, 0, None, 0, len(columns))
        try:
            compiled, plain = kept_decoders(listed, number)
        except RowMappingError:
            require(target is _Pair and len(columns) < 2, "columns that do not fit", columns)
            return
        _compare(target, columns, _outcome(compiled, message), _outcome(plain, message))
        return
    try:
        result = read_result(b"\0\0\0\x02" + data[1:], 0, ProtocolVersion.V4)
    except RemoteProtocolError:
        return
    if not isinstance(result, Rows) or result.metadata is None:
        return
    columns = result.metadata.columns
    if len(columns) > _WIDEST:
        return
    plain_made = _outcome(reference_decoder(columns), result)
    try:
        made = _outcome(decoder(columns, target), result)
        kept = _outcome(lambda message: decode_rows(message, target), result)
    except RowMappingError:
        require(target in (dict, _Pair), "columns that do not fit", columns)
        return
    _compare(target, columns, made, plain_made)
    _compare(target, columns, kept, plain_made)


def row_seeds() -> Iterator[bytes]:
    """The rows of the vectors, and rows of cells for each column list."""
    for frame in vectors.frames():
        if frame.opcode == 0x08 and frame.body[:4] == b"\0\0\0\x02" and not frame.flags:
            for target in range(len(_TARGETS)):
                yield bytes((target,)) + frame.body[4:]
    found: dict[Any, bytes] = {}
    for cql_type, cell in vectors.values():
        if cell and len(cell) < 64:
            found.setdefault(cql_type, cell)
    for number, columns in enumerate(_LISTS):
        one = b"".join(_cell(found.get(column.type)) for column in columns)
        yield bytes((4 | number & 3, number, 3)) + one * 3
        metadata = ResultMetadata.of(columns, ProtocolVersion.V4)
        body = bytearray()
        Rows.of(metadata, 2, one * 2).write_body(body, ProtocolVersion.V4)
        if len(columns) <= _WIDEST:
            yield bytes((number & 3,)) + bytes(body[4:])


def _cell(cell: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if cell is None else len(cell).to_bytes(4, "big") + cell


@cache
def _binder(number: int, version: ProtocolVersion) -> Binder:
    """Return a binder that was used often enough to have compiled its packer."""
    bind = BindMetadata(_LISTS[number])
    prepared = Prepared(b"statement", b"result", bind, ResultMetadata((), b"", False))
    parameters = QueryParameters(Consistency.ONE, page_size=5000, timestamp=1)
    binder = Binder(prepared, parameters, version)
    nulls = [None] * binder.count
    for _ in range(FRAMES_BEFORE_COMPILING + 1):
        binder.frame(1, nulls)
    return binder


def _packed(pack: Callable[[int, Sequence[Any]], bytes], values: Sequence[Any]) -> tuple[Any, ...]:
    try:
        return (pack(257, values),)
    except (LocalProtocolError, ValueConversionError) as exc:
        error: CQLError = exc
        return type(error), str(error)


def parameters(data: bytes) -> None:
    """Compiled packers write the same frame as the generic loop, or raise the same error.

    Each value is decoded from a cell of its marker's type, or is the value of the marker before.
    """
    if len(data) < 2:
        return
    number = data[0] % len(_LISTS)
    columns = _LISTS[number]
    message = Rows(None, 1, None, data[2:], 0, None, 0, len(columns))
    values: list[Any]
    try:
        ((*values,),) = kept_decoders(number, 0)[1](message)
    except RemoteProtocolError:
        values = [data[2:], len(data)]
    if data[1] & 1:
        values = [*values[1:], *values[:1]]
    if data[1] & 2:
        values[-1] = UNSET
    if data[1] & 4:
        values = values[1:]
    binder = _binder(number, ProtocolVersion.V3 if data[1] & 8 else ProtocolVersion.V5)
    compiled, plain = _packed(binder.frame, values), _packed(binder.plain_frame, values)
    require(compiled == plain, "packed otherwise", columns, values, compiled, plain)


def parameter_seeds() -> Iterator[bytes]:
    """One row of cells for each list of markers."""
    for seed in row_seeds():
        if seed[0] & 4:
            for option in (0, 1, 2, 8):
                yield bytes((seed[1], option)) + seed[3:]
