"""CQL types, their names, and the encoders and decoders of their values.

model        the types, as immutable values
names        types from and to their names: CQL, and the Java classes that servers send
options      types from and to [option], their form on the wire
values       Python values for which the standard library has no class
scalars      the table of scalar types; their families are in ``numeric``, ``strings``,
             ``temporal`` and ``identifiers``
collections  lists, sets and maps; tuples and user-defined types are in ``composites``
vectors      vectors
codecs       :func:`encoder` and :func:`decoder` of any type

The Python class that a type decodes to, and other classes that can be bound to it:

================ ============================= =========================================
CQL              Python                        also bound
================ ============================= =========================================
ascii, text      str
bigint .. varint int                           what has ``__index__``, except booleans
blob, custom     bytes                         bytearray, memoryview
boolean          bool                          a boolean of NumPy
date             datetime.date, or Date        str in ISO 8601
decimal          Decimal                       int; no float
double, float    float                         int or Fraction if exact, numbers.Real
duration         Duration                      timedelta, as nanoseconds
inet             IPv4Address, IPv6Address      str
time             datetime.time, or Time        int: nanoseconds
timestamp        aware datetime, or Timestamp  date: midnight UTC; int: milliseconds
timeuuid, uuid   UUID                          str
list             list                          any iterable but strings and mappings; has nulls
set              set, or LosslessSet           any iterable but strings and mappings
map              dict, or LosslessMap          any mapping
tuple            tuple                         list; either may be short
vector           list                          any ordered iterable of its dimension
user-defined     UserValue, a named tuple      mapping, object with fields, tuple
no bytes         EMPTY; b"" or "" of strings   EMPTY
================ ============================= =========================================

Below a set, as a key of a map and in a user-defined value, a list is a tuple, a set a frozenset and
a dict a FrozenMap. Date, Time, Timestamp, LosslessSet and LosslessMap hold values that the standard
classes cannot.
"""

from __future__ import annotations

from cqlproto.cqltypes.codecs import decoder, encoder
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
from cqlproto.cqltypes.timeuuids import (
    max_timeuuid,
    min_timeuuid,
    timeuuid_datetime,
    timeuuid_of,
)
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
    "max_timeuuid",
    "min_timeuuid",
    "parse_class_name",
    "parse_type",
    "read_option",
    "timeuuid_datetime",
    "timeuuid_of",
    "user_value_class",
    "write_option",
]
