"""Compiled decoders of lists, sets and maps, for the cells of compiled rows.

The content of a map is rows of two columns, that of a list or a set rows of one, so it is read as
rows are: ``row_loop.RowPath`` writes the loop. What is unusual, such as keys that Python holds
equal, or malformed is given to the plain decoder of the type.

Members of sets and keys of maps must be hashable, which takes another decoder for anything but a
scalar, so types with others are left to the plain decoders altogether. So are lists and sets of
numbers, for which these have a quicker way.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from textwrap import indent
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import CQLType, ListType, MapType, NativeType, SetType
from cqlproto.cqltypes import decoder as plain_decoder
from cqlproto.rows.decoding.row_loop import RowPath
from cqlproto.rows.decoding.shapes import NUMBERS, kind_of, targets
from cqlproto.rows.decoding.support import KEPT, maker_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.cqltypes.scalars import Decoder

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

# Of each container what an empty one is, and how it takes another element.
_CONTAINERS: dict[type[CQLType], tuple[str, str]] = {
    ListType: ("[]", "result.append(v0)"),
    SetType: ("set()", "result.add(v0)"),
    MapType: ("{}", "result[v0] = v1"),
}


@lru_cache(maxsize=KEPT)
def cell_decoder(cql_type: CQLType) -> Decoder:
    """Return a function that does what :func:`cqlproto.cqltypes.decoder`'s does, sooner.

    Raises:
        LocalProtocolError: the type is nested too deep.
    """
    plain = plain_decoder(cql_type)
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
    make_decoder, path, start = _maker(_CONTAINERS[type(cql_type)], shape)
    made: Decoder = make_decoder(*readers_of(path, list(map(cell_decoder, parts))), start, plain)
    return made


@lru_cache(maxsize=KEPT)
def _maker(container: tuple[str, str], shape: str) -> tuple[Callable[..., Decoder], RowPath, Any]:
    path = RowPath(shape)
    # The head of the first row is read with the count, if it is read beforehand.
    head = path.head_targets if path.variable else []
    start = Struct(f">i{path.head[1:]}" if path.variable else ">i").unpack_from
    empty, add = container
    source = _SOURCE.format(
        names=indent(path.names, " " * 4),
        empty=empty,
        first=targets(["count", *head]),
        loop=indent(path.loop, " " * 16),
        add=add,
    )
    return maker_of(source, f"{empty} of {shape}"), path, start
