"""Encoders of collections for binding, a few times as fast for elements of the usual classes.

A list of ints that are all of class ``int`` is written by a loop over one struct, a list of texts
by a loop over ``str.encode``. Any other value (a null, a number out of range, an iterator, nested
collections) is passed to the encoder of the type, which encodes it or raises the error. Only
instances of list, tuple, set, frozenset and dict are tried here first, since they can be read
twice.

The server orders integers as Python does, and texts by their UTF-8 bytes, which is the order of
their characters. So members of such sets and keys of such maps are sorted as Python values; others
are left to the encoder.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from cqlproto.cqltypes import ListType, MapType, NativeType, SetType, encoder
from cqlproto.cqltypes.scalars import SCALARS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cqlproto.cqltypes import CQLType

__all__ = ["binding_encoder"]

_pack_length = Struct(">i").pack

_LENGTHS = tuple(map(_pack_length, range(256)))
# Codes of the types that Python orders as the server does.
_ORDERED = frozenset("bhiqT")


def binding_encoder(cql_type: CQLType) -> Callable[[Any], bytes]:
    """Return a function with the result of :func:`cqlproto.cqltypes.encoder`'s, faster for some."""
    return _cached(cql_type, encoder(cql_type))


@lru_cache(maxsize=1024)
def _cached(cql_type: CQLType, plain: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """The encoder is part of the key: equal types may have encoders that name them differently."""
    if isinstance(cql_type, ListType | SetType):
        return _elements(cql_type, plain)
    if isinstance(cql_type, MapType):
        return _pairs(cql_type, plain)
    return plain


def _code(cql_type: CQLType) -> str:
    """Return the format character of a number's type, ``T`` for text, ``U`` for uuid, or ""."""
    if not isinstance(cql_type, NativeType):
        return ""
    return {"text": "T", "uuid": "U"}.get(cql_type.name) or SCALARS[cql_type.name].code


def _unusual(value: object) -> NoReturn:
    raise TypeError(type(value))


def _text_cells(values: Iterable[Any]) -> list[bytes]:
    cells = [value.encode() if type(value) is str else _unusual(value) for value in values]
    return [
        _LENGTHS[len(cell)] + cell if len(cell) < 256 else _pack_length(len(cell)) + cell
        for cell in cells
    ]


def _writer(code: str) -> Callable[[Iterable[Any]], list[bytes]]:
    """Return a function that writes elements as [bytes]; it raises for any other class."""
    if code == "T":
        return _text_cells
    if code == "U":
        return lambda values: [
            _LENGTHS[16]
            + (value if type(value) is UUID else _unusual(value)).int.to_bytes(16, "big")
            for value in values
        ]
    struct = Struct(f">i{code}")
    pack, width = struct.pack, struct.size - 4
    cls = float if code in "fd" else int
    return lambda values: [
        pack(width, value) if type(value) is cls else _unusual(value) for value in values
    ]


def _elements(
    cql_type: ListType | SetType, plain: Callable[[Any], bytes]
) -> Callable[[Any], bytes]:
    """An [int] n and n [bytes]."""
    code = _code(cql_type.element)
    if not code:
        return plain
    write = _writer(code)
    sorts = code in _ORDERED if isinstance(cql_type, SetType) else False

    def encode(value: Any) -> bytes:
        kind = type(value)
        is_set = sorts and (kind is set or kind is frozenset)
        if not is_set and kind is not list and kind is not tuple:
            return plain(value)
        try:
            cells = write(sorted(value) if is_set else value)
        except Exception:  # the members may not even be comparable
            return plain(value)
        return _pack_length(len(cells)) + b"".join(cells)

    return encode


def _pairs(cql_type: MapType, plain: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """An [int] n and n pairs of [bytes]."""
    key_code, value_code = _code(cql_type.key), _code(cql_type.value)
    if not value_code or key_code not in _ORDERED:
        return plain
    write_keys, write_values = _writer(key_code), _writer(value_code)

    def encode(value: Any) -> bytes:
        if type(value) is not dict:
            return plain(value)
        count = len(value)
        try:
            keys = sorted(value)
            cells = [b""] * (2 * count)
            cells[::2] = write_keys(keys)
            cells[1::2] = write_values([value[key] for key in keys])
        except Exception:  # the members may not even be comparable
            return plain(value)
        return _pack_length(count) + b"".join(cells)

    return encode
