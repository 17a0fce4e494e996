"""Cells of tuples and user-defined types: one [bytes] per part (v4 section 6, v5 section 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any, NoReturn

from cqlproto.cqltypes.conversion import failed, located, malformed, refuse
from cqlproto.cqltypes.fields import fields_of, values_of
from cqlproto.cqltypes.packed import READY, ready_cell
from cqlproto.cqltypes.uservalues import user_value_class
from cqlproto.cqltypes.values import EMPTY
from cqlproto.exceptions import ValueConversionError
from cqlproto.wire import NULL_LENGTH

if TYPE_CHECKING:
    from cqlproto.cqltypes.conversion import Decoder, Encoder
    from cqlproto.cqltypes.model import CQLType, TupleType, UserType

__all__ = ["parts_decoder", "tuple_encoder", "user_encoder"]

_pack_int = Struct(">i").pack
_unpack_int = Struct(">i").unpack_from


def _write_parts(
    cql_type: CQLType,
    parts: Iterable[tuple[Encoder, Any]],
    where: Callable[[int], str],
    whole: object,
) -> bytearray:
    """Return the [bytes] of a tuple or UDT, with null for None."""
    out = bytearray()
    position = 0
    try:
        for encode_part, value in parts:
            if value is None:
                out += NULL_LENGTH
            else:
                cell = encode_part(value)
                out += _pack_int(len(cell))
                out += cell
            position += 1
    except Exception as exc:
        raise located(cql_type, where(position), exc, whole) from exc
    return out


def tuple_encoder(cql_type: TupleType, encoders: list[Encoder]) -> Encoder:
    """Return the encoder of a tuple: one [bytes] per element."""
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
        missing = NULL_LENGTH * (size - len(elements))
        parts = zip(encoders, elements, strict=False)
        return bytes(_write_parts(cql_type, parts, where, value) + missing)

    return encode


def user_encoder(cql_type: UserType, encoders: list[Encoder]) -> Encoder:
    """Return the encoder of a user-defined type: one [bytes] per field."""
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
        """Return the values of the fields, in the order of the type."""
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


def parts_decoder(
    name: str, decoders: list[Decoder], make: Callable[[list[Any]], tuple[Any, ...]]
) -> Decoder:
    """Return the decoder of a tuple or UDT: one [bytes] per part; missing last parts are None."""
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
