"""Decoders are cached with the metadata, compiled after enough rows, and dropped when many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import LocalProtocolError, ProtocolVersion, Row, RowMappingError, decoder
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import (
    MAX_TARGETS,
    ROWS_BEFORE_COMPILING,
    RowTarget,
    decode_rows,
    decoder_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLUMNS = [Column("k", "t", "n", NATIVE_TYPES["int"]), Column("k", "t", "s", NATIVE_TYPES["text"])]
CONTENT = bytes.fromhex("00000004 00000007 00000001 78")


@dataclass
class Pair:
    n: int
    s: str


def rows(count: int = 1, metadata: ResultMetadata | None = None) -> Rows:
    known = metadata or ResultMetadata.of(COLUMNS, ProtocolVersion.V4)
    return Rows.of(known, count, CONTENT * count)


TARGETS: list[tuple[Any, Any]] = [
    (Row, (7, "x")),
    (tuple, (7, "x")),
    (dict, {"n": 7, "s": "x"}),
    (Pair, Pair(7, "x")),
]


@pytest.mark.parametrize(("target", "made"), TARGETS)
def test_a_decoder_of_its_own(target: Any, made: object) -> None:
    decode = decoder(COLUMNS, target)
    assert decode(rows(3)) == [made] * 3
    assert isinstance(decode(rows())[0], Row if target is Row else type(made))


def test_rows_are_the_default() -> None:
    [row] = decoder(COLUMNS)(rows())
    assert (row.n, row.s) == (7, "x")
    [row] = decode_rows(rows())
    assert isinstance(row, Row)


@pytest.mark.parametrize(("target", "made"), TARGETS)
def test_a_decoder_is_kept_and_compiled_when_enough_rows_have_come(
    target: Any, made: object
) -> None:
    metadata = ResultMetadata.of(COLUMNS, ProtocolVersion.V4)
    assert decode_rows(rows(ROWS_BEFORE_COMPILING, metadata), target)[0] == made
    plain = metadata.cache[target]
    assert decode_rows(rows(1, metadata), target) == [made]
    compiled = metadata.cache[target]
    assert compiled is not plain
    assert decode_rows(rows(2, metadata), target) == [made] * 2
    assert metadata.cache[target] is compiled


def test_the_source_that_is_compiled_can_be_had() -> None:
    source = decoder_source([column.type for column in COLUMNS])
    compile(source, "shown", "exec")
    assert source.startswith("def make_decoder(")


def test_targets_without_end_do_not_pile_up() -> None:
    metadata = ResultMetadata.of(COLUMNS, ProtocolVersion.V4)
    for _ in range(2 * MAX_TARGETS):

        @dataclass
        class New(Pair):
            pass

        assert decode_rows(rows(1, metadata), New) == [New(7, "x")]
        assert 0 < len(metadata.cache) <= MAX_TARGETS


class Unhashable(RowTarget[int]):
    """A target that is not hashable."""

    __hash__ = None  # type: ignore[assignment]  # which is the point

    def row_maker(self, columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], int]:
        return len


def test_nothing_is_kept_for_a_target_that_cannot_be_a_key() -> None:
    metadata = ResultMetadata.of(COLUMNS, ProtocolVersion.V4)
    assert decode_rows(rows(2, metadata), Unhashable()) == [2, 2]
    assert metadata.cache == {}


def test_rows_that_nothing_describes_cannot_be_decoded() -> None:
    with pytest.raises(LocalProtocolError, match="have no metadata"):
        decode_rows(Rows(None, 1, None, CONTENT, 0, None, 4, 2))


def test_a_row_that_its_class_refuses() -> None:
    class Refusing:
        def __init__(self, n: int, s: str) -> None:
            raise StopIteration

    for decode in (decoder(COLUMNS, Refusing), lambda page: decode_rows(page, Refusing)):
        with pytest.raises(RowMappingError, match="row=Refusing: row 0 of the columns n, s: Stop"):
            decode(rows(2))
