"""From the body of a Rows message to Python objects, and from Python values to an EXECUTE.

A decoder is made once per (columns, target) and kept with the metadata: that of ``early`` at first,
one compiled for the column list when enough rows have come. The plain loop of ``reference`` is what
both are held to, and says what is wrong with rows that are malformed.
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cqlproto.exceptions import LocalProtocolError
from cqlproto.rows.decoding.reference import reference_decoder
from cqlproto.rows.decoding.table import early_decoder
from cqlproto.rows.encoding.binder import Binder
from cqlproto.rows.targets.failures import refused
from cqlproto.rows.targets.resolve import Row, RowTarget, row_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages.results import Column, ResultMetadata, Rows

__all__ = [
    "ROWS_BEFORE_COMPILING",
    "Binder",
    "Row",
    "RowTarget",
    "decode_rows",
    "decoder",
    "decoder_source",
    "reference_decoder",
]

R = TypeVar("R")

# How many targets one column list keeps its decoders for. Classes made anew for every call would
# otherwise pile up on the metadata of a statement that lives long.
MAX_TARGETS = 32

# Compiling costs as much as some hundred rows gain by it.
ROWS_BEFORE_COMPILING = 256


@overload
def decoder(columns: Sequence[Column]) -> Callable[[Rows], list[Row]]: ...


@overload
def decoder(
    columns: Sequence[Column], target: type[R] | RowTarget[R]
) -> Callable[[Rows], list[R]]: ...


def decoder(columns: Sequence[Column], target: Any = Row) -> Callable[[Rows], list[Any]]:
    """Return a function from a Rows message with these columns to a list of rows.

    Arguments:
        columns: the columns, in order.
        target: what a row becomes: :class:`Row`, ``tuple``, ``dict``, a class whose constructor
            takes the columns by name (dataclass, NamedTuple, msgspec, pydantic, attrs), a
            TypedDict, ``dict[str, X]``, a class of values such as ``int`` for the only column, or a
            :class:`RowTarget`. Fields that are annotated with such classes are made of UDTs and
            tuples.

    Raises:
        RowMappingError: the columns and the target do not fit together.

    The function raises RemoteProtocolError if the body isn't made of such rows, and RowMappingError
    if the target refuses the values of one.
    """
    columns = tuple(columns)
    return _compiled(columns, target, row_maker(columns, target))


def _compiled(
    columns: tuple[Column, ...], target: Any, make: Callable[..., Any]
) -> Callable[[Rows], list[Any]]:
    """Return the decoder that was written for these columns."""
    from cqlproto.rows.decoding.compiled import compiled_decoder  # many programs never get this far

    return _made_by(compiled_decoder, columns, target, make)


def _made_by(
    factory: Callable[..., Callable[[Rows], list[Any]]],
    columns: tuple[Column, ...],
    target: Any,
    make: Callable[..., Any],
) -> Callable[[Rows], list[Any]]:
    """Return a decoder to a target, of those to tuples and subclasses that a factory makes."""
    if target is tuple or target is Row:
        return factory(columns, make, reference_decoder(columns, make))
    decode = factory(columns, tuple, reference_decoder(columns))

    def decode_and_make(rows: Rows) -> list[Any]:
        left = iter(decode(rows))
        try:
            return [make(values) for values in left]
        except Exception as exc:
            raise refused(target, columns, rows.row_count - length_hint(left) - 1, exc)  # noqa: B904  # it has its cause

    return decode_and_make


def decoder_source(types: Sequence[CQLType]) -> str:
    """Return the source that is compiled for columns of these types, as a bare tuple."""
    from cqlproto.rows.decoding import compiled as compile

    return compile.decoder_source(types)


class _Tiered:
    """A decoder that is compiled when enough rows have come to make up for it.

    It then puts the compiled one in its own place, so that nothing of it is left on the way.
    """

    __slots__ = ("_early", "_left", "_make", "_metadata", "_target")

    def __init__(self, metadata: ResultMetadata, target: Any) -> None:
        self._metadata = metadata
        self._target = target
        self._make = row_maker(metadata.columns, target)
        self._early = _made_by(early_decoder, metadata.columns, target, self._make)
        self._left = ROWS_BEFORE_COMPILING

    def __call__(self, rows: Rows) -> list[Any]:
        self._left -= rows.row_count
        if self._left >= 0:
            return self._early(rows)
        decode = _compiled(self._metadata.columns, self._target, self._make)
        self._metadata.cache[self._target] = decode
        return decode(rows)


def decode_rows(rows: Rows, target: Any = Row) -> list[Any]:
    """Decode a Rows message, keeping the decoder with its metadata.

    Raises:
        LocalProtocolError: the message came without metadata and none was known.
        RowMappingError: the columns and the target do not fit together, or the target refuses the
            values of a row.
        RemoteProtocolError: the body isn't made of such rows.
    """
    metadata = rows.metadata
    if metadata is None:
        raise LocalProtocolError("rows without metadata: pass what PREPARE returned")
    try:
        decode = metadata.cache.get(target)
    except TypeError:  # it can't be hashed, so nothing is kept for it
        return decoder(metadata.columns, target)(rows)
    if decode is None:
        if len(metadata.cache) >= MAX_TARGETS:
            metadata.cache.clear()
        decode = metadata.cache[target] = _Tiered(metadata, target)
    return decode(rows)
