"""Encoders of collections for binding, a few times as fast where elements are of the usual class.

A list of ints that are all of class ``int`` is written by a loop over one struct, texts by a loop
over ``str.encode``. Whatever is anything else (a null, a number out of range, an
iterator, elements that are collections, ..) is given to the encoder of the type, which knows what
to do or what is wrong. Only lists, tuples, sets, frozensets and dicts themselves are looked into
before: they can be read twice.

The server's order of integers is Python's, and its order of texts, which goes by their bytes, is
that of their characters. So the members of such sets and the keys of such maps are sorted as they
are; others are left to the encoder.
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
# Of what the order is the same here and there.
_ORDERED = frozenset("bhiqT")


def binding_encoder(cql_type: CQLType) -> Callable[[Any], bytes]:
    """Return a function that does as :func:`cqlproto.cqltypes.encoder`'s does, faster for some."""
    return _kept(cql_type, encoder(cql_type))


@lru_cache(maxsize=1024)
def _kept(cql_type: CQLType, plain: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Types that are equal may have different encoders, which name them as they are."""
    if isinstance(cql_type, ListType | SetType):
        return _elements(cql_type, plain)
    if isinstance(cql_type, MapType):
        return _pairs(cql_type, plain)
    return plain


def _code(cql_type: CQLType) -> str:
    """Return what struct calls a number's type, and T and U for a text and a UUID, or ""."""
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
    """Return what writes elements, each as [bytes]; it raises for what is not usual."""
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
        except Exception:  # not even all that is in a set can be compared
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
        except Exception:  # not even all that is in a set can be compared
            return plain(value)
        return _pack_length(count) + b"".join(cells)

    return encode
