"""Encoders and decoders of all types: scalars from their table, others built from their parts.

:func:`encoder` and :func:`decoder` turn a type into one function, once; per cell that function
looks nothing up and never tests the type. The layouts are those of v4 section 6 (and of v5; v3 has
the same). Nesting is as deep as the type, which is bounded.

Below a set, as a key of a map, and within a user-defined type, whose values are always hashable,
decoded values are hashable: a list is a tuple, a set a frozenset, a map a FrozenMap.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from cqlproto.cqltypes.collections import (
    elements_encoder,
    list_decoder,
    map_decoder,
    map_encoder,
    set_decoder,
)
from cqlproto.cqltypes.composites import parts_decoder, tuple_encoder, user_encoder
from cqlproto.cqltypes.conversion import refuse
from cqlproto.cqltypes.model import (
    MAX_DEPTH,
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
from cqlproto.cqltypes.ordering import sort_key
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.cqltypes.uservalues import user_value_class
from cqlproto.cqltypes.vectors import vector_decoder, vector_encoder
from cqlproto.exceptions import LocalProtocolError

if TYPE_CHECKING:
    from cqlproto.cqltypes.conversion import Decoder, Encoder

__all__ = ["decoder", "encoder"]

# How many functions are cached. A program uses few types, but a peer can send any number of them.
_CACHED = 1024


def encoder(cql_type: CQLType) -> Encoder:
    """Return the function that writes values of a type.

    It takes a value other than None and UNSET and returns the cell, without its length. It raises
    :class:`ValueConversionError`; for a nested value its reason names the place, such as
    ``element 2: must be an integer``.

    Arguments:
        cql_type: the type.

    Raises:
        LocalProtocolError: the type is nested deeper than ``MAX_DEPTH``, or is not a type of
            ``model``.
    """
    return _cached_encoder(cql_type, str(cql_type))


@lru_cache(maxsize=_CACHED)
def _cached_encoder(cql_type: CQLType, text: str) -> Encoder:
    """The text is part of the key: ``frozen``, which errors show, does not count in ``==``."""
    return _encoder(cql_type, 0)


def decoder(cql_type: CQLType) -> Decoder:
    """Return the function that reads values of a type.

    It takes a cell without its length, never a null, and returns the value. It raises
    :class:`RemoteProtocolError` for a malformed cell.

    Arguments:
        cql_type: the type.

    Raises:
        LocalProtocolError: the type is nested deeper than ``MAX_DEPTH``, or is not a type of
            ``model``.
    """
    return _cached_decoder(cql_type, str(cql_type))


@lru_cache(maxsize=_CACHED)
def _cached_decoder(cql_type: CQLType, text: str) -> Decoder:
    """The text is part of the key as in :func:`_cached_encoder`."""
    return _decoder(cql_type, False, 0)


def _unknown(cql_type: object, depth: int) -> NoReturn:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a type must be nested at most {MAX_DEPTH} deep")
    raise LocalProtocolError(f"unknown CQL type: {cql_type!r}")


def _encoder(cql_type: CQLType, depth: int) -> Encoder:
    inner = depth + 1
    if depth > MAX_DEPTH:
        _unknown(cql_type, depth)
    if isinstance(cql_type, NativeType) and cql_type.name in SCALARS:
        return SCALARS[cql_type.name].encode
    if isinstance(cql_type, ListType):
        element = _encoder(cql_type.element, inner)
        return elements_encoder(cql_type, element, None, has_nulls=depth == 0)
    if isinstance(cql_type, SetType):
        key = sort_key(cql_type.element)
        return elements_encoder(cql_type, _encoder(cql_type.element, inner), key)
    if isinstance(cql_type, MapType):
        return map_encoder(cql_type, _encoder(cql_type.key, inner), _encoder(cql_type.value, inner))
    if isinstance(cql_type, TupleType):
        return tuple_encoder(cql_type, [_encoder(part, inner) for part in cql_type.elements])
    if isinstance(cql_type, UserType):
        return user_encoder(cql_type, [_encoder(part, inner) for _, part in cql_type.fields])
    if isinstance(cql_type, VectorType):
        return vector_encoder(cql_type, _encoder(cql_type.element, inner))
    if isinstance(cql_type, CustomType):
        return _custom_encoder(cql_type)
    _unknown(cql_type, depth)


def _decoder(cql_type: CQLType, hashable: bool, depth: int) -> Decoder:
    inner = depth + 1
    if depth > MAX_DEPTH:
        _unknown(cql_type, depth)
    if isinstance(cql_type, NativeType) and cql_type.name in SCALARS:
        return SCALARS[cql_type.name].decode
    if isinstance(cql_type, ListType):
        return list_decoder(cql_type, _decoder(cql_type.element, hashable, inner), hashable)
    if isinstance(cql_type, SetType):
        return set_decoder(cql_type, _decoder(cql_type.element, True, inner), hashable)
    if isinstance(cql_type, MapType):
        value = _decoder(cql_type.value, hashable, inner)
        return map_decoder(cql_type, _decoder(cql_type.key, True, inner), value, hashable)
    if isinstance(cql_type, TupleType):
        parts = [_decoder(part, hashable, inner) for part in cql_type.elements]
        return parts_decoder(str(cql_type), parts, tuple)
    if isinstance(cql_type, UserType):
        parts = [_decoder(part, True, inner) for _, part in cql_type.fields]
        return parts_decoder(str(cql_type), parts, user_value_class(cql_type))
    if isinstance(cql_type, VectorType):
        return vector_decoder(cql_type, _decoder(cql_type.element, hashable, inner), hashable)
    if isinstance(cql_type, CustomType):
        return bytes
    _unknown(cql_type, depth)


def _custom_encoder(cql_type: CustomType) -> Encoder:
    def encode(value: Any) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        refuse(str(cql_type), value, "bytes, since the class of the type is not known")

    return encode
