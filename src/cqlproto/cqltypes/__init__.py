"""CQL types: what they are, how they are named, and how their values become cells and back.

model        the types, as immutable values
names        from and to their names: CQL, and the Java classes that servers send
options      from and to [option], their form on the wire
values       Python values where the standard library has none that would do
scalars      encoders and decoders of one cell of each scalar type
collections  those of all types: :func:`encoder` and :func:`decoder`
"""

from __future__ import annotations

from cqlproto.cqltypes.collections import decoder, encoder
from cqlproto.cqltypes.model import (
    MAX_DEPTH,
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.cqltypes.names import class_name, parse_class_name, parse_type
from cqlproto.cqltypes.options import read_option, write_option
from cqlproto.cqltypes.uservalues import UserValue, user_value_class
from cqlproto.cqltypes.values import (
    EMPTY,
    UNSET,
    Date,
    Duration,
    Empty,
    FrozenMap,
    LosslessMap,
    LosslessSet,
    Time,
    Timestamp,
    Unset,
)

__all__ = [
    "EMPTY",
    "MAX_DEPTH",
    "NATIVE_TYPES",
    "UNSET",
    "CQLType",
    "CustomType",
    "Date",
    "Duration",
    "Empty",
    "FrozenMap",
    "ListType",
    "LosslessMap",
    "LosslessSet",
    "MapType",
    "NativeType",
    "SetType",
    "Time",
    "Timestamp",
    "TupleType",
    "Unset",
    "UserType",
    "UserValue",
    "VectorType",
    "class_name",
    "decoder",
    "encoder",
    "parse_class_name",
    "parse_type",
    "read_option",
    "user_value_class",
    "write_option",
]
