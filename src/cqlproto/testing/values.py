"""Strategies for CQL types and their values.

:func:`values_of` returns values as decoding returns them, so decoding an encoded value returns an
equal one. It excludes NaN, which equals nothing, EMPTY, and nulls except in tuples and user-defined
types.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import strategies as st

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    Date,
    Duration,
    FrozenMap,
    ListType,
    MapType,
    NativeType,
    SetType,
    Time,
    Timestamp,
    TupleType,
    UserType,
    VectorType,
    user_value_class,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cql_types", "values_of"]

# Field names that are likely to reveal errors, besides any text.
_NAMES = st.sampled_from(["id", "count", "_id", "class", "__init__", "a b", "Größe", '"', "x'y"])
_MOST = 4


def _signed(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


def _names() -> st.SearchStrategy[str]:
    return _NAMES | st.text(min_size=1, max_size=8)


def _user_types(parts: st.SearchStrategy[CQLType]) -> st.SearchStrategy[CQLType]:
    fields = st.lists(
        st.tuples(_names(), parts), min_size=1, max_size=_MOST, unique_by=lambda field: field[0]
    )
    keyspaces = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
    return st.builds(UserType, keyspaces, _names(), fields.map(tuple))


def _extend(parts: st.SearchStrategy[CQLType]) -> st.SearchStrategy[CQLType]:
    return st.one_of(
        st.builds(ListType, parts, st.booleans()),
        st.builds(SetType, parts, st.booleans()),
        st.builds(MapType, parts, parts, st.booleans()),
        st.builds(TupleType, st.lists(parts, min_size=1, max_size=_MOST).map(tuple)),
        st.builds(VectorType, parts, st.integers(1, _MOST)),
        _user_types(parts),
    )


def cql_types(*, max_leaves: int = 6) -> st.SearchStrategy[CQLType]:
    """Return a strategy for CQL types of all kinds, also nested.

    Arguments:
        max_leaves: about how many scalar types a type has at most.

    For example, a test that parsing a class name returns the type:

        >>> from hypothesis import given
        >>> from cqlproto.cqltypes import class_name, parse_class_name
        >>> @given(cql_types())
        ... def test_a_class_name_means_its_type(cql_type):
        ...     assert parse_class_name(class_name(cql_type)) == cql_type
        >>> test_a_class_name_means_its_type()
    """
    natives = st.sampled_from(list(NATIVE_TYPES.values()))
    customs = st.sampled_from(["com.example.Opaque", "org.example.Pair(Int32Type,a=>b)"])
    leaves = natives | customs.map(CustomType)
    return st.recursive(leaves, _extend, max_leaves=max_leaves)


def _timestamps() -> st.SearchStrategy[Any]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first, last = -62_135_596_800_000, 253_402_300_799_999
    within = st.integers(first, last).map(lambda ms: epoch + timedelta(milliseconds=1) * ms)
    before = st.integers(-(1 << 63), first - 1).map(Timestamp)
    after = st.integers(last + 1, (1 << 63) - 1).map(Timestamp)
    return within | before | after


def _dates() -> st.SearchStrategy[Any]:
    before = st.integers(-(1 << 31), -719_163).map(Date)
    after = st.integers(2_932_897, (1 << 31) - 1).map(Date)
    return st.dates() | before | after


def _times() -> st.SearchStrategy[Any]:
    nanoseconds = st.integers(0, 86_400_000_000_000 - 1).filter(lambda number: number % 1000)
    return st.times() | nanoseconds.map(Time)


@st.composite
def _durations(draw: st.DrawFn) -> Duration:
    sign = draw(st.sampled_from([1, -1]))
    small, large = st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 63) - 1)
    return Duration(sign * draw(small), sign * draw(small), sign * draw(large))


def _timeuuid(data: bytes) -> UUID:
    return UUID(bytes=data[:6] + bytes((data[6] & 0x0F | 0x10,)) + data[7:])


_SCALARS: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    "ascii": lambda: st.text(st.characters(codec="ascii")),
    "bigint": lambda: _signed(64),
    "blob": st.binary,
    "boolean": st.booleans,
    "counter": lambda: _signed(64),
    "date": _dates,
    "decimal": lambda: st.decimals(allow_nan=False, allow_infinity=False),
    "double": lambda: st.floats(allow_nan=False),
    "duration": _durations,
    "float": lambda: st.floats(width=32, allow_nan=False),
    "inet": st.ip_addresses,
    "int": lambda: _signed(32),
    "smallint": lambda: _signed(16),
    "text": st.text,
    "time": _times,
    "timestamp": _timestamps,
    "timeuuid": lambda: st.binary(min_size=16, max_size=16).map(_timeuuid),
    "tinyint": lambda: _signed(8),
    "uuid": st.uuids,
    "varint": lambda: st.integers() | _signed(300),
}


def values_of(cql_type: CQLType) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type, as decoding returns them.

    Arguments:
        cql_type: the type.

    For example, a test that decoding returns the encoded value:

        >>> from hypothesis import given, strategies as st
        >>> from cqlproto.cqltypes import decoder, encoder
        >>> @given(st.data())
        ... def test_a_value_survives(data):
        ...     cql_type = data.draw(cql_types())
        ...     value = data.draw(values_of(cql_type))
        ...     assert decoder(cql_type)(encoder(cql_type)(value)) == value
        >>> test_a_value_survives()
    """
    return _values(cql_type, hashable=False)


# Making a strategy takes longer than drawing a value.
@lru_cache(maxsize=1024)
def _values(cql_type: CQLType, *, hashable: bool) -> st.SearchStrategy[Any]:
    if isinstance(cql_type, NativeType):
        return _SCALARS[cql_type.name]()
    if isinstance(cql_type, ListType):
        elements = st.lists(_values(cql_type.element, hashable=hashable), max_size=_MOST)
        return elements.map(tuple) if hashable else elements
    if isinstance(cql_type, SetType):
        members = st.frozensets(_values(cql_type.element, hashable=True), max_size=_MOST)
        return members if hashable else members.map(set)
    if isinstance(cql_type, MapType):
        keys = _values(cql_type.key, hashable=True)
        items = st.dictionaries(keys, _values(cql_type.value, hashable=hashable), max_size=_MOST)
        return items.map(FrozenMap) if hashable else items
    if isinstance(cql_type, TupleType):
        return st.tuples(*(_nullable(part, hashable=hashable) for part in cql_type.elements))
    if isinstance(cql_type, UserType):
        parts = st.tuples(*(_nullable(part, hashable=True) for _, part in cql_type.fields))
        return parts.map(user_value_class(cql_type))
    if isinstance(cql_type, VectorType):
        size = cql_type.dimension
        element = _values(cql_type.element, hashable=hashable)
        elements = st.lists(element, min_size=size, max_size=size)
        return elements.map(tuple) if hashable else elements
    return st.binary()


def _nullable(cql_type: CQLType, *, hashable: bool) -> st.SearchStrategy[Any]:
    return st.none() | _values(cql_type, hashable=hashable)
