"""Decoding Rows messages into Python objects, and packing Python values into EXECUTE frames.

A decoder is made once per column list and row target and cached with the metadata: first that of
``decoding.table``, and after enough rows one compiled for the column list. Both return what the
plain loop of ``decoding.reference`` returns, which also raises the errors for malformed rows.

decoding  the decoders
encoding  Binder, which packs EXECUTE frames
targets   row makers: what a row becomes
"""

from __future__ import annotations

from operator import length_hint
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cqlproto.exceptions import LocalProtocolError
from cqlproto.rows.decoding.reference import reference_decoder
from cqlproto.rows.decoding.table import table_decoder
from cqlproto.rows.encoding.binder import Binder
from cqlproto.rows.targets.failures import refused
from cqlproto.rows.targets.makers import RowTarget, row_maker
from cqlproto.rows.targets.row import Row

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

# The most row targets whose decoders one column list caches. Otherwise classes that are made for
# every call would accumulate on the metadata of a long-lived statement.
MAX_TARGETS = 32

# Compiling takes as long as a compiled decoder saves in some hundred rows.
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
        target: the row target: :class:`Row`, ``tuple``, ``dict``, a class whose constructor takes
            the columns by name (dataclass, NamedTuple, msgspec, pydantic, attrs), a TypedDict,
            ``dict[str, X]``, a scalar class such as ``int`` for the only column, or a
            :class:`RowTarget`. UDTs and tuples become objects of such classes if the fields are
            annotated with them.

    Raises:
        RowMappingError: the columns and the target do not fit together.

    The function raises RemoteProtocolError if the rows are malformed, and RowMappingError if the
    target refuses the values of a row.
    """
    columns = tuple(columns)
    return _compiled(columns, target, row_maker(columns, target))


def _compiled(
    columns: tuple[Column, ...], target: Any, make: Callable[..., Any]
) -> Callable[[Rows], list[Any]]:
    """Return the compiled decoder for these columns."""
    from cqlproto.rows.decoding.compiled import compiled_decoder  # many programs never need it

    return _made_by(compiled_decoder, columns, target, make)


def _made_by(
    factory: Callable[..., Callable[[Rows], list[Any]]],
    columns: tuple[Column, ...],
    target: Any,
    make: Callable[..., Any],
) -> Callable[[Rows], list[Any]]:
    """Return a decoder for any target from a factory of decoders for tuples and Rows."""
    if target is tuple or target is Row:
        return factory(columns, make, reference_decoder(columns, make))
    decode = factory(columns, tuple, reference_decoder(columns))

    def decode_and_make(rows: Rows) -> list[Any]:
        left = iter(decode(rows))
        try:
            return [make(values) for values in left]
        except Exception as exc:
            failure = refused(target, columns, rows.row_count - length_hint(left) - 1, exc)
            raise failure from failure.__cause__

    return decode_and_make


def decoder_source(types: Sequence[CQLType]) -> str:
    """Return the source that is compiled for columns of these types, for rows that are tuples."""
    from cqlproto.rows.decoding import compiled

    return compiled.decoder_source(types)


class _CompiledLater:
    """A decoder that is replaced by a compiled one after enough rows.

    It stores the compiled decoder in the metadata's cache in its own place.
    """

    __slots__ = ("_first", "_left", "_make", "_metadata", "_target")

    def __init__(self, metadata: ResultMetadata, target: Any) -> None:
        self._metadata = metadata
        self._target = target
        self._make = row_maker(metadata.columns, target)
        self._first = _made_by(table_decoder, metadata.columns, target, self._make)
        self._left = ROWS_BEFORE_COMPILING

    def __call__(self, rows: Rows) -> list[Any]:
        self._left -= rows.row_count
        if self._left >= 0:
            return self._first(rows)
        decode = _compiled(self._metadata.columns, self._target, self._make)
        self._metadata.cache[self._target] = decode
        return decode(rows)


def decode_rows(rows: Rows, target: Any = Row) -> list[Any]:
    """Decode a Rows message with a decoder that is cached with its metadata.

    Raises:
        LocalProtocolError: the message has no metadata.
        RowMappingError: the columns and the target do not fit together, or the target refuses the
            values of a row.
        RemoteProtocolError: the rows are malformed.
    """
    metadata = rows.metadata
    if metadata is None:
        raise LocalProtocolError(
            "rows have no metadata: pass the result metadata of PREPARED to send()"
        )
    try:
        decode = metadata.cache.get(target)
    except TypeError:  # the target is not hashable, so no decoder is cached
        return decoder(metadata.columns, target)(rows)
    if decode is None:
        if len(metadata.cache) >= MAX_TARGETS:
            metadata.cache.clear()
        decode = metadata.cache[target] = _CompiledLater(metadata, target)
    return decode(rows)
