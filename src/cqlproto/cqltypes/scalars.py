"""The table of scalar types: an encoder and a decoder of cells for each (v4 and v5 section 5).

They run once per cell and are what decoding and binding cost, so each is one closure over what it
needs. A decoder tries the usual case first and asks why only if that fails: an empty cell is
:data:`~cqlproto.cqltypes.values.EMPTY`, anything else raises :class:`RemoteProtocolError`.
Likewise an encoder first tries the usual class.

The column's type decides what a value becomes, never the class of the value. The type families
have a module each: ``numeric``, ``strings``, ``temporal`` and ``identifiers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.cqltypes.identifiers import INET, TIMEUUID, UUID_
from cqlproto.cqltypes.model import CQLType, NativeType, VectorType
from cqlproto.cqltypes.numeric import BOOLEAN, DECIMAL, VARINT, fixed_integer, floating
from cqlproto.cqltypes.strings import ASCII, BLOB, TEXT
from cqlproto.cqltypes.temporal import DATE, DURATION, TIME, TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto.cqltypes.conversion import Scalar

__all__ = ["SCALARS", "vector_width"]

SCALARS: Mapping[str, Scalar] = {
    "ascii": ASCII,
    "bigint": fixed_integer("bigint", "q", 8),
    "blob": BLOB,
    "boolean": BOOLEAN,
    "counter": fixed_integer("counter", "q", 8),
    "date": DATE,
    "decimal": DECIMAL,
    "double": floating("double", "d"),
    "duration": DURATION,
    "float": floating("float", "f"),
    "inet": INET,
    "int": fixed_integer("int", "i", 4),
    "smallint": fixed_integer("smallint", "h", None),
    "text": TEXT,
    "time": TIME,
    "timestamp": TIMESTAMP,
    "timeuuid": TIMEUUID,
    "tinyint": fixed_integer("tinyint", "b", None),
    "uuid": UUID_,
    "varint": VARINT,
}


def vector_width(cql_type: CQLType) -> int | None:
    """Return the size of a vector's element in bytes, or None if each has its own before it."""
    if isinstance(cql_type, NativeType):
        return SCALARS[cql_type.name].width
    if isinstance(cql_type, VectorType):
        width = vector_width(cql_type.element)
        return None if width is None else width * cql_type.dimension
    return None
