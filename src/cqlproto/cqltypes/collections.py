"""Encoders and decoders of all types: scalars from their table, collections built from their parts.

:func:`encoder` and :func:`decoder` turn a type into one function, once; what that function does per
cell has no look-up and no test of the type left. The layouts are those of v4 section 6 (and of v5;
v3 has the same), and the server's own for vectors.

Decoding trusts no number in a cell. A count is compared with the bytes that are left before
anything is made of it, what is left over at the end is an error, and nesting is as deep as the
type, which is bounded.

Below a set or as a key of a map, and within a user-defined type, which is a hashable value
everywhere, decoded values are hashable: a list is a tuple, a set a frozenset, a map a FrozenMap. A
set or map whose members Python would merge becomes a LosslessSet or LosslessMap.

The server keeps the members of a set and the keys of a map in the order of their type. It sorts
what is bound to a column, but not everywhere what is nested in a value, where it compares as if
that were sorted: a row would not be found by its key. So a Python set or mapping, which has no such
order, is sorted here; any other iterable is written in its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from functools import lru_cache
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any, NoReturn

from cqlproto.cqltypes.fields import fields_of, values_of
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
from cqlproto.cqltypes.packed import READY, ready_cell
from cqlproto.cqltypes.scalars import (
    SCALARS,
    Decoder,
    Encoder,
    failed,
    malformed,
    refuse,
    vector_width,
)
from cqlproto.cqltypes.uservalues import user_value_class
from cqlproto.cqltypes.values import EMPTY, FrozenMap, LosslessMap, LosslessSet
from cqlproto.cqltypes.vints import read_unsigned_vint, write_unsigned_vint
from cqlproto.exceptions import LocalProtocolError, ValueConversionError

if TYPE_CHECKING:
    from cqlproto.cqltypes.ordering import SortKey

__all__ = ["decoder", "encoder"]

# How many functions are kept; a program uses few types, but a peer can send as many as it likes.
_KEPT = 1024

_INT = Struct(">i")
_NULL = b"\xff\xff\xff\xff"
# What is nearly always bound; asking the abstract classes costs more than a short list.
_USUAL = frozenset({list, tuple, set, frozenset})
_pack_int = _INT.pack
_unpack_int = _INT.unpack_from


def encoder(cql_type: CQLType) -> Encoder:
    """Return the function that writes values of a type.

    It takes a value other than None and UNSET and returns the cell, without its length. It raises
    :class:`ValueConversionError`, for a nested value with the place in its reason, such as
    ``element 2: an integer is needed``.

    Arguments:
        cql_type: the type.

    Raises:
        LocalProtocolError: the type is nested deeper than ``MAX_DEPTH``, or not one of the model's.
    """
    return _kept_encoder(cql_type, str(cql_type))


@lru_cache(maxsize=_KEPT)
def _kept_encoder(cql_type: CQLType, text: str) -> Encoder:
    """Errors name the type, and types that differ in ``frozen`` alone are equal."""
    return _encoder(cql_type, 0)


@lru_cache(maxsize=_KEPT)
def decoder(cql_type: CQLType) -> Decoder:
    """Return the function that reads values of a type.

    It takes a cell without its length, never a null, and returns the value; it raises
    :class:`RemoteProtocolError` for bytes that are no value of the type.

    Arguments:
        cql_type: the type.

    Raises:
        LocalProtocolError: the type is nested deeper than ``MAX_DEPTH``, or not one of the model's.
    """
    return _decoder(cql_type, False, 0)


def _unknown(cql_type: object, depth: int) -> NoReturn:
    if depth > MAX_DEPTH:
        raise LocalProtocolError(f"a type nested deeper than {MAX_DEPTH}")
    raise LocalProtocolError(f"not a known CQL type: {cql_type!r}")


def _encoder(cql_type: CQLType, depth: int) -> Encoder:
    inner = depth + 1
    if depth > MAX_DEPTH:
        _unknown(cql_type, depth)
    if isinstance(cql_type, NativeType) and cql_type.name in SCALARS:
        return SCALARS[cql_type.name].encode
    if isinstance(cql_type, ListType):
        element = _encoder(cql_type.element, inner)
        return _elements_encoder(cql_type, element, None, has_nulls=depth == 0)
    if isinstance(cql_type, SetType):
        key = sort_key(cql_type.element)
        return _elements_encoder(cql_type, _encoder(cql_type.element, inner), key)
    if isinstance(cql_type, MapType):
        return _map_encoder(
            cql_type, _encoder(cql_type.key, inner), _encoder(cql_type.value, inner)
        )
    if isinstance(cql_type, TupleType):
        return _tuple_encoder(cql_type, [_encoder(part, inner) for part in cql_type.elements])
    if isinstance(cql_type, UserType):
        return _user_encoder(cql_type, [_encoder(part, inner) for _, part in cql_type.fields])
    if isinstance(cql_type, VectorType):
        return _vector_encoder(cql_type, _encoder(cql_type.element, inner))
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
        return _list_decoder(cql_type, _decoder(cql_type.element, hashable, inner), hashable)
    if isinstance(cql_type, SetType):
        return _set_decoder(cql_type, _decoder(cql_type.element, True, inner), hashable)
    if isinstance(cql_type, MapType):
        value = _decoder(cql_type.value, hashable, inner)
        return _map_decoder(cql_type, _decoder(cql_type.key, True, inner), value, hashable)
    if isinstance(cql_type, TupleType):
        parts = [_decoder(part, hashable, inner) for part in cql_type.elements]
        return _parts_decoder(str(cql_type), parts, tuple)
    if isinstance(cql_type, UserType):
        parts = [_decoder(part, True, inner) for _, part in cql_type.fields]
        return _parts_decoder(str(cql_type), parts, user_value_class(cql_type))
    if isinstance(cql_type, VectorType):
        return _vector_decoder(cql_type, _decoder(cql_type.element, hashable, inner), hashable)
    if isinstance(cql_type, CustomType):
        return bytes
    _unknown(cql_type, depth)


def _no_null() -> NoReturn:
    reason = "null is not possible in a collection"
    raise ValueConversionError(reason, cql_type="", value=None)


def _located(
    cql_type: CQLType, where: str, error: Exception, value: object
) -> ValueConversionError:
    """Return an error about a part of a value as one about the whole, which says which part it is.

    Arguments:
        cql_type: the type of the whole.
        where: the part.
        error: what was raised: by the encoder of the part, or by the value as it was read.
        value: the whole.
    """
    inner = error if isinstance(error, ValueConversionError) else failed("", value, error)
    return ValueConversionError(
        f"{where}: {inner.reason}", cql_type=str(cql_type), value=inner.value
    )


# --- writing --------------------------------------------------------------------------------------


def _custom_encoder(cql_type: CustomType) -> Encoder:
    def encode(value: Any) -> bytes:
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        refuse(str(cql_type), value, "bytes, since the class of the type is not known,")

    return encode


def _members(cql_type: CQLType, value: object) -> Iterable[Any]:
    """Return the iterable that is bound to a list or a set, if it is one."""
    if value.__class__ in _USUAL:
        return value
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping | LosslessMap):
        refuse(str(cql_type), value, "an iterable of elements")
    try:
        return iter(value)  # type: ignore[call-overload,no-any-return]  # asking is the point
    except TypeError:
        refuse(str(cql_type), value, "an iterable of elements")
    except Exception as exc:
        raise failed(str(cql_type), value, exc) from exc


def _elements_encoder(
    cql_type: CQLType, encode_element: Encoder, key: SortKey | None, has_nulls: bool = False
) -> Encoder:
    """Lists, and with a sort key sets: an [int] n and n [bytes].

    Arguments:
        cql_type: the type of the whole.
        encode_element: writes an element.
        key: what sorts the cells of a Python set; None for a list.
        has_nulls: whether an element may be null. The server takes nulls in what is bound to IN, in
            a condition and to a frozen list, never in a set, in a map or deeper in a value.
    """

    def with_nulls(elements: Iterable[Any], cells: list[bytes | None]) -> bytes:
        for element in elements:
            cells.append(None if element is None else encode_element(element))  # noqa: PERF401
        return _pack_int(len(cells)) + b"".join(
            _NULL if cell is None else _pack_int(len(cell)) + cell for cell in cells
        )

    def encode(value: Any) -> bytes:
        if value.__class__ in READY:
            return ready_cell(cql_type, value)
        elements = _members(cql_type, value)
        cells: list[Any] = []
        append = cells.append
        try:
            if has_nulls:
                return with_nulls(elements, cells)
            for element in elements:
                append(encode_element(element) if element is not None else _no_null())
        except Exception as exc:
            raise _located(cql_type, f"element {len(cells)}", exc, value) from exc
        if key is not None and isinstance(value, Set):
            cells.sort(key=key)
        out = bytearray(_pack_int(len(cells)))
        for cell in cells:
            out += _pack_int(len(cell))
            out += cell
        return bytes(out)

    return encode


def _map_encoder(cql_type: MapType, encode_key: Encoder, encode_value: Encoder) -> Encoder:
    """An [int] n and n pairs of [bytes]."""
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
                key_cell = encode_key(key) if key is not None else _no_null()
                where = "value"
                value_cell = encode_value(item) if item is not None else _no_null()
                pairs.append((key_cell, value_cell))
                where = "item"
        except Exception as exc:
            raise _located(cql_type, f"{where} {len(pairs)}", exc, value) from exc
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


def _write_parts(
    cql_type: CQLType,
    parts: Iterable[tuple[Encoder, Any]],
    where: Callable[[int], str],
    whole: object,
) -> bytearray:
    """Write the [bytes] of a tuple or UDT, a null for each None."""
    out = bytearray()
    position = 0
    try:
        for encode_part, value in parts:
            if value is None:
                out += _NULL
            else:
                cell = encode_part(value)
                out += _pack_int(len(cell))
                out += cell
            position += 1
    except Exception as exc:
        raise _located(cql_type, where(position), exc, whole) from exc
    return out


def _tuple_encoder(cql_type: TupleType, encoders: list[Encoder]) -> Encoder:
    """One [bytes] per element."""
    size = len(encoders)

    def where(position: int) -> str:
        return f"element {position}"

    def by_field(value: object) -> tuple[Any, ...]:
        try:
            elements = values_of(value)
        except Exception as exc:
            raise failed(str(cql_type), value, exc) from exc
        return elements or refuse(str(cql_type), value, "a tuple, a list or an object with fields")

    def encode(value: Any) -> bytes:
        elements = value
        if not isinstance(value, tuple | list):
            if value.__class__ in READY:
                return ready_cell(cql_type, value)
            elements = by_field(value)
        if len(elements) > size:
            reason = f"{len(elements)} elements, the type has {size}"
            raise ValueConversionError(reason, cql_type=str(cql_type), value=value)
        missing = _NULL * (size - len(elements))
        parts = zip(encoders, elements, strict=False)
        return bytes(_write_parts(cql_type, parts, where, value) + missing)

    return encode


def _user_encoder(cql_type: UserType, encoders: list[Encoder]) -> Encoder:
    """One [bytes] per field."""
    names = tuple(name for name, _ in cql_type.fields)
    known = frozenset(names)
    size = len(names)
    own_class = user_value_class(cql_type)

    def where(position: int) -> str:
        return f"field {names[position]}"

    def no_field(unknown: object, value: object) -> NoReturn:
        reason = f"no field {unknown!r}, the type has {', '.join(names)}"
        raise ValueConversionError(reason, cql_type=str(cql_type), value=value)

    def by_field(value: object, fields: Mapping[str, Any], read: Callable[[Any], Any]) -> list[Any]:
        keys = [fields.get(name) for name in names]
        unknown = set(fields.values()).difference(keys)
        unknown.difference_update(getattr(type(value), "__pydantic_computed_fields__", ()))
        if unknown:
            no_field(next(name for name, key in fields.items() if key in unknown), value)
        return [None if key is None else read(key) for key in keys]

    def arrange(value: Any) -> Iterable[Any]:
        """Return the values of the fields in the type's order."""
        if isinstance(value, Mapping):
            for name in value:
                if name not in known:
                    no_field(name, value)
            return [value.get(name) for name in names]
        fields = fields_of(value)
        if fields is not None:
            return by_field(value, *fields)
        if isinstance(value, tuple):
            if len(value) > size:
                reason = f"{len(value)} values, the type has {size} fields"
                raise ValueConversionError(reason, cql_type=str(cql_type), value=value)
            return value + (None,) * (size - len(value))
        refuse(str(cql_type), value, "a mapping, an object with fields or a tuple")

    def encode(value: Any) -> bytes:
        if value.__class__ in READY:
            return ready_cell(cql_type, value)
        values = value
        if value.__class__ is not own_class or len(value) != size:
            try:
                values = arrange(value)
            except ValueConversionError:
                raise
            except Exception as exc:
                raise failed(str(cql_type), value, exc) from exc
        return bytes(_write_parts(cql_type, zip(encoders, values, strict=True), where, value))

    return encode


# --- reading --------------------------------------------------------------------------------------


def _split(cql_type: CQLType, data: bytes, per_item: int) -> list[bytes | None]:
    """Return the cells of a list, set or map; a negative length is a null.

    Arguments:
        cql_type: for the error.
        data: the cell, not empty.
        per_item: how many cells the count counts: 2 in a map.
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
    # A slice past the end came out short; every length was added up, so that this shows it.
    if pos != end:
        malformed(str(cql_type), f"{end} bytes, its cells take {pos}")
    return cells


def _list_decoder(cql_type: ListType, decode_element: Decoder, hashable: bool) -> Decoder:
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
    """Return a quick way to read elements that are one number each, or None where there is none.

    It reads lengths and numbers together and returns None unless all lengths are the number's.
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


def _set_decoder(cql_type: SetType, decode_element: Decoder, hashable: bool) -> Decoder:
    make = frozenset if hashable else set

    def decode(data: bytes) -> Any:
        if not data:
            return EMPTY
        cells = _split(cql_type, data, 1)
        members = [None if cell is None else decode_element(cell) for cell in cells]
        merged = make(members)
        return merged if len(merged) == len(members) else LosslessSet(members)

    return decode


def _map_decoder(
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


def _parts_decoder(
    name: str, decoders: list[Decoder], make: Callable[[list[Any]], tuple[Any, ...]]
) -> Decoder:
    """Tuples and UDTs: one [bytes] per part; parts at the end may be absent and are None then."""
    size = len(decoders)

    def decode(data: bytes) -> Any:
        if not data:
            return EMPTY
        end = len(data)
        pos = 0
        values: list[Any] = []
        try:
            for decode_part in decoders:
                if pos == end:
                    values += [None] * (size - len(values))
                    break
                (length,) = _unpack_int(data, pos)
                pos += 4
                if length < 0:
                    values.append(None)
                    continue
                stop = pos + length
                if stop > end:
                    malformed(name, f"{length} bytes announced at {pos}, {end - pos} are left")
                values.append(decode_part(data[pos:stop]))
                pos = stop
        except struct_error:
            malformed(name, f"it ends within a length, at {pos}")
        if pos != end:
            malformed(name, f"{end - pos} bytes are left after its {size} parts")
        return make(values)

    return decode


# --- vectors --------------------------------------------------------------------------------------


def _number_struct(cql_type: VectorType) -> tuple[Struct | None, type]:
    """Return what reads a whole vector of numbers at once, and the class of the numbers."""
    element = cql_type.element
    if isinstance(element, NativeType):
        scalar = SCALARS[element.name]
        if scalar.width is not None and scalar.code:
            return Struct(f">{cql_type.dimension}{scalar.code}"), scalar.plain
    return None, object


def _check_dimension(cql_type: VectorType) -> None:
    if not 0 < cql_type.dimension < 1 << 31:
        raise LocalProtocolError(f"a vector of dimension {cql_type.dimension}")


def _vector_encoder(cql_type: VectorType, encode_element: Encoder) -> Encoder:
    """All elements, each after its size as an [unsigned vint] unless its type fixes that."""
    _check_dimension(cql_type)
    dimension, width = cql_type.dimension, vector_width(cql_type.element)
    struct, plain = _number_struct(cql_type)

    def encode(value: Any) -> bytes:
        if value.__class__ in READY:
            return ready_cell(cql_type, value)
        if isinstance(value, Set | LosslessSet):
            refuse(str(cql_type), value, "a sequence, which has an order,")
        try:
            elements = list(_members(cql_type, value))
        except ValueConversionError:
            raise
        except Exception as exc:
            raise failed(str(cql_type), value, exc) from exc
        if len(elements) != dimension:
            reason = f"{len(elements)} elements, the type has {dimension}"
            raise ValueConversionError(reason, cql_type=str(cql_type), value=value)
        if struct is not None and set(map(type, elements)) == {plain}:
            try:
                return struct.pack(*elements)
            except (struct_error, OverflowError):
                pass  # one is out of range, the loop says which
        cells: list[bytes] = []
        try:
            for element in elements:
                cell = encode_element(element) if element is not None else _no_null()
                if width is None:
                    cells.append(write_unsigned_vint(len(cell)))
                elif len(cell) != width:
                    reason = "an empty value has no place in a vector of fixed sizes"
                    raise ValueConversionError(reason, cql_type="", value=element)
                cells.append(cell)
        except ValueConversionError as exc:
            position = len(cells) if width is not None else len(cells) // 2
            raise _located(cql_type, f"element {position}", exc, value) from exc
        return b"".join(cells)

    return encode


def _vector_decoder(cql_type: VectorType, decode_element: Decoder, hashable: bool) -> Decoder:
    _check_dimension(cql_type)
    dimension, width = cql_type.dimension, vector_width(cql_type.element)
    struct, _ = _number_struct(cql_type)
    make: Callable[[Iterable[Any]], Any] = tuple if hashable else list

    def decode_fixed(data: bytes) -> Any:
        if not data:
            return EMPTY
        assert width is not None
        if len(data) != width * dimension:
            malformed(str(cql_type), f"{len(data)} bytes, {width * dimension} expected")
        if struct is not None:
            return make(struct.unpack(data))
        return make([decode_element(data[pos : pos + width]) for pos in range(0, len(data), width)])

    def decode_sized(data: bytes) -> Any:
        if not data:
            return EMPTY
        if dimension > len(data):
            malformed(str(cql_type), f"{len(data)} bytes for {dimension} elements")
        values = []
        pos = 0
        try:
            for _ in range(dimension):
                length, pos = read_unsigned_vint(data, pos)
                stop = pos + length
                if stop > len(data):
                    raise ValueError(f"{length} bytes announced at {pos}")
                values.append(decode_element(data[pos:stop]))
                pos = stop
        except ValueError as exc:
            malformed(str(cql_type), str(exc))
        if pos != len(data):
            malformed(str(cql_type), f"{len(data) - pos} bytes are left after its elements")
        return make(values)

    return decode_sized if width is None else decode_fixed
