"""Cells of lists, sets and maps (v4 section 6, v5 section 5).

A count is compared with the bytes that are left before anything is made of it, and bytes left over
at the end are an error. A set or map whose members Python would merge becomes a LosslessSet or
LosslessMap.

The server keeps the members of a set and the keys of a map in the order of their type. It sorts
what is bound to a column, but not everywhere what is nested in a value: it compares such a value
as if it were sorted and would not find a row by its key. So a Python set or mapping, which has no
such order, is sorted here; any other iterable is written in its own order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.conversion import failed, located, malformed, refuse, refuse_null
from cqlproto.cqltypes.model import CQLType, ListType, MapType, NativeType, SetType
from cqlproto.cqltypes.ordering import sort_key
from cqlproto.cqltypes.packed import READY, ready_cell
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.cqltypes.values import EMPTY, FrozenMap, LosslessMap, LosslessSet
from cqlproto.wire import NULL_LENGTH

if TYPE_CHECKING:
    from cqlproto.cqltypes.conversion import Decoder, Encoder
    from cqlproto.cqltypes.ordering import SortKey

__all__ = [
    "elements_encoder",
    "list_decoder",
    "map_decoder",
    "map_encoder",
    "members_of",
    "set_decoder",
]

# The usual classes of lists and sets. Asking the abstract classes costs more than this set.
_USUAL = frozenset({list, tuple, set, frozenset})
_pack_int = Struct(">i").pack
_unpack_int = Struct(">i").unpack_from


# --- writing --------------------------------------------------------------------------------------


def members_of(cql_type: CQLType, value: Any) -> Iterable[Any]:
    """Return a value as an iterable of members, or raise if it is not one."""
    members: Iterable[Any]
    if value.__class__ in _USUAL:
        members = value  # no iterator: that would cost more than the check
        return members
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | LosslessMap):
        refuse(str(cql_type), value, "an iterable of elements")
    try:
        members = iter(value)
    except TypeError:
        refuse(str(cql_type), value, "an iterable of elements")
    except Exception as exc:
        raise failed(str(cql_type), value, exc) from exc
    return members


def elements_encoder(
    cql_type: CQLType, encode_element: Encoder, key: SortKey | None, has_nulls: bool = False
) -> Encoder:
    """Return the encoder of a list, or with a sort key of a set: an [int] n and n [bytes].

    Arguments:
        cql_type: the type of the whole.
        encode_element: encodes an element.
        key: the sort key of the members' cells for a Python set; None for a list.
        has_nulls: whether an element may be null. The server accepts nulls in a list bound to IN,
            to a condition or to a frozen list, but not in sets, in maps or deeper in a value.
    """

    def with_nulls(elements: Iterable[Any], cells: list[bytes | None]) -> bytes:
        for element in elements:
            # One by one: after an error, the cells so far tell which element it is about.
            cells.append(None if element is None else encode_element(element))  # noqa: PERF401
        return _pack_int(len(cells)) + b"".join(
            NULL_LENGTH if cell is None else _pack_int(len(cell)) + cell for cell in cells
        )

    def encode(value: Any) -> bytes:
        if value.__class__ in READY:
            return ready_cell(cql_type, value)
        elements = members_of(cql_type, value)
        cells: list[Any] = []
        append = cells.append
        try:
            if has_nulls:
                return with_nulls(elements, cells)
            for element in elements:
                append(encode_element(element) if element is not None else refuse_null())
        except Exception as exc:
            raise located(cql_type, f"element {len(cells)}", exc, value) from exc
        if key is not None and isinstance(value, Set):
            cells.sort(key=key)
        out = bytearray(_pack_int(len(cells)))
        for cell in cells:
            out += _pack_int(len(cell))
            out += cell
        return bytes(out)

    return encode


def map_encoder(cql_type: MapType, encode_key: Encoder, encode_value: Encoder) -> Encoder:
    """Return the encoder of a map: an [int] n and n pairs of [bytes]."""
    key_order = sort_key(cql_type.key)

    def first(pair: tuple[bytes, bytes]) -> Any:
        return key_order(pair[0])

    def encode(value: Any) -> bytes:
        if value.__class__ is not dict and not isinstance(value, Mapping | LosslessMap):
            if value.__class__ in READY:
                return ready_cell(cql_type, value)
            refuse(str(cql_type), value, "a mapping")
        pairs: list[tuple[bytes, bytes]] = []
        where = "item"
        try:
            for key, item in value.items():
                where = "key"
                key_cell = encode_key(key) if key is not None else refuse_null()
                where = "value"
                value_cell = encode_value(item) if item is not None else refuse_null()
                pairs.append((key_cell, value_cell))
                where = "item"
        except Exception as exc:
            raise located(cql_type, f"{where} {len(pairs)}", exc, value) from exc
        if len(pairs) > 1 and not isinstance(value, LosslessMap):
            pairs.sort(key=first)
        out = bytearray(_pack_int(len(pairs)))
        for key_cell, value_cell in pairs:
            out += _pack_int(len(key_cell))
            out += key_cell
            out += _pack_int(len(value_cell))
            out += value_cell
        return bytes(out)

    return encode


# --- reading --------------------------------------------------------------------------------------


def _split(cql_type: CQLType, data: bytes, per_item: int) -> list[bytes | None]:
    """Return the cells of a list, set or map; a negative length is a null.

    Arguments:
        cql_type: the type, for errors.
        data: the cell, not empty.
        per_item: the number of cells per counted item: 2 in a map.
    """
    end = len(data)
    if end < 4:
        malformed(str(cql_type), f"{end} bytes, its count takes 4")
    (count,) = _unpack_int(data)
    count *= per_item
    if count < 0 or count * 4 > end - 4:
        malformed(str(cql_type), f"{count} cells announced, {end - 4} bytes are left")
    cells: list[bytes | None] = []
    append = cells.append
    pos = 4
    try:
        for _ in range(count):
            (length,) = _unpack_int(data, pos)
            pos += 4
            if length < 0:
                append(None)
            else:
                stop = pos + length
                append(data[pos:stop])
                pos = stop
    except struct_error:
        malformed(str(cql_type), f"it ends before cell {len(cells)} of {count}")
    # A slice past the end is short, but ``pos`` includes its full length, so this finds it.
    if pos != end:
        malformed(str(cql_type), f"{end} bytes, its cells take {pos}")
    return cells


def list_decoder(cql_type: ListType, decode_element: Decoder, hashable: bool) -> Decoder:
    run = _run_decoder(cql_type.element)

    def decode(data: bytes) -> Any:
        if not data:
            return EMPTY
        values = run(data) if run is not None else None
        if values is None:
            cells = _split(cql_type, data, 1)
            values = [None if cell is None else decode_element(cell) for cell in cells]
        return tuple(values) if hashable else values

    return decode


def _run_decoder(element: CQLType) -> Callable[[bytes], list[Any] | None] | None:
    """Return a fast decoder of elements that are numbers of fixed size, or None for other elements.

    It reads lengths and numbers together and returns None if any length is not the number's size.
    """
    code = SCALARS[element.name].code if isinstance(element, NativeType) else ""
    if not code:
        return None
    pair = Struct(f">i{code}")
    size = pair.size
    width = size - 4

    def run(data: bytes) -> list[Any] | None:
        if (len(data) - 4) % size:
            return None
        values = [value for length, value in pair.iter_unpack(data[4:]) if length == width]
        if int.from_bytes(data[:4], "big") != len(values) or len(values) * size + 4 != len(data):
            return None
        return values

    return run


def set_decoder(cql_type: SetType, decode_element: Decoder, hashable: bool) -> Decoder:
    make = frozenset if hashable else set

    def decode(data: bytes) -> Any:
        if not data:
            return EMPTY
        cells = _split(cql_type, data, 1)
        members = [None if cell is None else decode_element(cell) for cell in cells]
        merged = make(members)
        return merged if len(merged) == len(members) else LosslessSet(members)

    return decode


def map_decoder(
    cql_type: MapType, decode_key: Decoder, decode_value: Decoder, hashable: bool
) -> Decoder:
    make = FrozenMap if hashable else dict

    def decode(data: bytes) -> Any:
        if not data:
            return EMPTY
        cells = _split(cql_type, data, 2)
        keys = [None if cell is None else decode_key(cell) for cell in cells[::2]]
        values = [None if cell is None else decode_value(cell) for cell in cells[1::2]]
        pairs = zip(keys, values, strict=True)
        merged = make(pairs)
        if len(merged) == len(keys):
            return merged
        return LosslessMap(zip(keys, values, strict=True))

    return decode
