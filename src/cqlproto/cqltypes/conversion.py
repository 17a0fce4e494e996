"""What encoders and decoders of all types share: their signatures, and the errors that they raise.

An encoder raises ValueConversionError for a value that it cannot write, whatever the value's own
methods raise; a decoder raises RemoteProtocolError for a malformed cell.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from cqlproto.cqltypes.values import EMPTY, UNSET
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError, shown_value

if TYPE_CHECKING:
    from cqlproto.cqltypes.model import CQLType

__all__ = [
    "Decoder",
    "Encoder",
    "Scalar",
    "failed",
    "is_numpy_bool",
    "located",
    "malformed",
    "refuse",
    "refuse_null",
    "to_int",
    "wrong_size",
]

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]


class Scalar(NamedTuple):
    """How the cells of one scalar type are written and read.

    Attributes:
        encode: from a value to its cell; raises ValueConversionError.
        decode: from a cell to its value; raises RemoteProtocolError.
        width: the size in bytes of an element in a vector, or None where the element's size is
            written before it. The server decides: ``smallint`` has no width, although its cells
            always take 2 bytes.
        code: the format character of ``struct`` that reads the whole cell, or "" if none does.
        plain: the class of values that ``code`` can pack without a check.
    """

    encode: Encoder
    decode: Decoder
    width: int | None = None
    code: str = ""
    plain: type = object


def refuse(cql_type: str, value: object, wanted: str) -> NoReturn:
    """Raise the ValueConversionError for a value that is not what is ``wanted``."""
    if value is UNSET:
        reason = "UNSET stands for a whole bound value only, not for a part of one"
    elif value is None:
        reason = "null is not possible here"
    else:
        reason = f"must be {wanted}"
    raise ValueConversionError(reason, cql_type=cql_type, value=value)


def failed(cql_type: str, value: object, error: Exception) -> ValueConversionError:
    """Return the ValueConversionError for a value whose methods raise an exception."""
    reason = f"it cannot be read, its own methods raise {shown_value(error)}"
    return ValueConversionError(reason, cql_type=cql_type, value=value)


def malformed(cql_type: str, reason: str) -> NoReturn:
    """Raise the RemoteProtocolError for a malformed cell."""
    raise RemoteProtocolError(f"a malformed cell of type {cql_type}: {reason}")


def wrong_size(cql_type: str, data: bytes, wanted: str) -> Any:
    """Return EMPTY for an empty cell; raise for any other."""
    if not data:
        return EMPTY
    malformed(cql_type, f"{len(data)} bytes, {wanted} expected")


def is_numpy_bool(value: object) -> bool:
    cls = type(value)
    return cls.__module__ == "numpy" and cls.__name__ in ("bool", "bool_")


def to_int(cql_type: str, value: Any, wanted: str = "an integer") -> int:
    """Return an object with ``__index__`` as an int; booleans are refused."""
    if isinstance(value, bool) or is_numpy_bool(value):
        refuse(cql_type, value, f"{wanted}, not a boolean")
    try:
        return operator.index(value)
    except TypeError:
        refuse(cql_type, value, wanted)
    except Exception as exc:
        raise failed(cql_type, value, exc) from exc


def refuse_null() -> NoReturn:
    """Raise the ValueConversionError for None within a collection; the caller adds where."""
    reason = "null is not possible in a collection"
    raise ValueConversionError(reason, cql_type="", value=None)


def located(cql_type: CQLType, where: str, error: Exception, value: object) -> ValueConversionError:
    """Return an error about a part of a value as an error about the whole, with the part's place.

    Arguments:
        cql_type: the type of the whole.
        where: the place of the part, such as ``element 2``.
        error: what the encoder of the part raised, or the value itself when it was read.
        value: the whole.
    """
    inner = error if isinstance(error, ValueConversionError) else failed("", value, error)
    return ValueConversionError(
        f"{where}: {inner.reason}", cql_type=str(cql_type), value=inner.value
    )
