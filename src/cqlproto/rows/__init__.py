"""From the body of a Rows message to Python objects, and from Python values to an EXECUTE.

A decoder is made once per (columns, target) and kept with the metadata. There is one way to decode
so far, the plain loop of ``reference``; a decoder compiled per column list takes its place here,
behind :func:`decoder`, and the plain loop stays as its oracle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from cqlproto.exceptions import LocalProtocolError
from cqlproto.rows.binder import Binder
from cqlproto.rows.reference import reference_decoder
from cqlproto.rows.targets import Row, RowTarget, row_maker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.results import Column, Rows

__all__ = ["Binder", "Row", "RowTarget", "decode_rows", "decoder", "reference_decoder"]

R = TypeVar("R")

# How many targets one column list keeps its decoders for. Classes made anew for every call would
# otherwise pile up on the metadata of a statement that lives long.
MAX_TARGETS = 32


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
            takes the columns by name (dataclass, NamedTuple, msgspec, pydantic), or a
            :class:`RowTarget`.

    Raises:
        RowMappingError: the columns and the target do not fit together.

    The function raises RemoteProtocolError if the body isn't made of such rows.
    """
    columns = tuple(columns)
    if target is tuple:
        return reference_decoder(columns)
    make = row_maker(columns, target)
    if target is Row:
        return reference_decoder(columns, make)
    plain = reference_decoder(columns)
    return lambda rows: [make(values) for values in plain(rows)]


def decode_rows(rows: Rows, target: Any = Row) -> list[Any]:
    """Decode a Rows message, keeping the decoder with its metadata.

    Raises:
        LocalProtocolError: the message came without metadata and none was known.
        RowMappingError: the columns and the target do not fit together.
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
        decode = metadata.cache[target] = decoder(metadata.columns, target)
    return decode(rows)
