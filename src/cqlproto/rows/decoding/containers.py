"""Compiled decoders of lists, sets and maps, for the cells of compiled rows.

The content of a map has the layout of rows with two columns, that of a list or a set the layout of
rows with one, so ``row_loop.RowLoop`` writes these loops too. Malformed cells, and those with keys
or members that Python holds equal, are decoded by the plain decoder of the type.

Members of sets and keys of maps must be hashable, so types where they are not scalars are left to
the plain decoders. So are lists and sets of numbers, which the plain decoders read faster.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from textwrap import indent
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import CQLType, ListType, MapType, NativeType, SetType
from cqlproto.cqltypes import decoder as plain_decoder
from cqlproto.rows.decoding.row_loop import RowLoop
from cqlproto.rows.decoding.shapes import NUMBERS, kind_of, targets
from cqlproto.rows.decoding.support import KEPT, maker_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.cqltypes.conversion import Decoder

__all__ = ["cell_decoder"]

_SOURCE = """\
def make_decoder(cells, structs, short, some, start, plain):
{names}
    def decode(data):
        if not data:
            return EMPTY
        body = data + padding
        p = 4
        result = {empty}
        try:
            {first} = start(body, 0)
            for _ in range(count):
{loop}                {add}
        except Malformed:
            return plain(data)
        if p != len(data) or len(result) != count:
            return plain(data)
        return result

    return decode
"""

# For each container the expression of an empty one and the statement that adds an element.
_CONTAINERS: dict[type[CQLType], tuple[str, str]] = {
    ListType: ("[]", "result.append(v0)"),
    SetType: ("set()", "result.add(v0)"),
    MapType: ("{}", "result[v0] = v1"),
}


def cell_decoder(cql_type: CQLType) -> Decoder:
    """Return a function with the result of :func:`cqlproto.cqltypes.decoder`'s, but faster.

    Raises:
        LocalProtocolError: the type is nested too deep.
    """
    return _cached(cql_type, plain_decoder(cql_type))


@lru_cache(maxsize=KEPT)
def _cached(cql_type: CQLType, plain: Decoder) -> Decoder:
    """The decoder is part of the key: equal types may have decoders that name them differently."""
    if isinstance(cql_type, MapType) and isinstance(cql_type.key, NativeType):
        parts: tuple[CQLType, ...] = (cql_type.key, cql_type.value)
    elif isinstance(cql_type, ListType) or (
        isinstance(cql_type, SetType) and isinstance(cql_type.element, NativeType)
    ):
        parts = (cql_type.element,)
    else:
        return plain
    shape = "".join(map(kind_of, parts))
    if shape in NUMBERS:
        return plain
    make_decoder, row_loop, start = _maker(_CONTAINERS[type(cql_type)], shape)
    made: Decoder = make_decoder(
        *readers_of(row_loop, list(map(cell_decoder, parts))), start, plain
    )
    return made


@lru_cache(maxsize=KEPT)
def _maker(container: tuple[str, str], shape: str) -> tuple[Callable[..., Decoder], RowLoop, Any]:
    row_loop = RowLoop(shape)
    # If the loop expects a row's head to be read beforehand, the first is read with the count.
    head = row_loop.head_targets if row_loop.variable else []
    start = Struct(f">i{row_loop.head[1:]}" if row_loop.variable else ">i").unpack_from
    empty, add = container
    source = _SOURCE.format(
        names=indent(row_loop.names, " " * 4),
        empty=empty,
        first=targets(["count", *head]),
        loop=indent(row_loop.loop, " " * 16),
        add=add,
    )
    return maker_of(source, f"{empty} of {shape}"), row_loop, start
