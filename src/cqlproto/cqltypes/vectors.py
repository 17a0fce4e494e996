"""Cells of vectors, whose layout is the server's own: no specification describes it.

A vector has no count. Elements of fixed size stand one after the other; each other element follows
its size, an [unsigned vint].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.collections import members_of
from cqlproto.cqltypes.conversion import failed, located, malformed, refuse, refuse_null
from cqlproto.cqltypes.model import NativeType, VectorType
from cqlproto.cqltypes.packed import READY, ready_cell
from cqlproto.cqltypes.scalars import SCALARS, vector_width
from cqlproto.cqltypes.values import EMPTY, LosslessSet
from cqlproto.cqltypes.vints import read_unsigned_vint, write_unsigned_vint
from cqlproto.exceptions import LocalProtocolError, ValueConversionError
from cqlproto.wire import MAX_INT

if TYPE_CHECKING:
    from cqlproto.cqltypes.conversion import Decoder, Encoder

__all__ = ["vector_decoder", "vector_encoder"]


def _number_struct(cql_type: VectorType) -> tuple[Struct | None, type]:
    """Return the struct of a whole vector of numbers and their class, or None for other vectors."""
    element = cql_type.element
    if isinstance(element, NativeType):
        scalar = SCALARS[element.name]
        if scalar.width is not None and scalar.code:
            return Struct(f">{cql_type.dimension}{scalar.code}"), scalar.plain
    return None, object


def _check_dimension(cql_type: VectorType) -> None:
    if not 1 <= cql_type.dimension <= MAX_INT:
        raise LocalProtocolError(
            f"the dimension of a vector must be 1 to {MAX_INT}, got {cql_type.dimension}"
        )


def vector_encoder(cql_type: VectorType, encode_element: Encoder) -> Encoder:
    """Return the encoder of a vector."""
    _check_dimension(cql_type)
    dimension, width = cql_type.dimension, vector_width(cql_type.element)
    struct, plain = _number_struct(cql_type)

    def encode(value: Any) -> bytes:
        if value.__class__ in READY:
            return ready_cell(cql_type, value)
        if isinstance(value, Set | LosslessSet):
            refuse(str(cql_type), value, "a sequence, which has an order")
        try:
            elements = list(members_of(cql_type, value))
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
                pass  # one is out of range: the loop finds which
        cells: list[bytes] = []
        try:
            for element in elements:
                cell = encode_element(element) if element is not None else refuse_null()
                if width is None:
                    cells.append(write_unsigned_vint(len(cell)))
                elif len(cell) != width:
                    reason = "an empty value is not possible in a vector of fixed-size elements"
                    raise ValueConversionError(reason, cql_type="", value=element)
                cells.append(cell)
        except ValueConversionError as exc:
            position = len(cells) if width is not None else len(cells) // 2
            raise located(cql_type, f"element {position}", exc, value) from exc
        return b"".join(cells)

    return encode


def vector_decoder(cql_type: VectorType, decode_element: Decoder, hashable: bool) -> Decoder:
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
