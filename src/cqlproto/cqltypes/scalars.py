"""The cells of scalar types: for each an encoder and a decoder, in one table (v4 and v5 section 5).

These run once per cell and are what decoding and binding cost, so each is one closure over what it
needs. It tries what nearly always works, and only where that fails asks why: a zero-length cell is
:data:`~cqlproto.cqltypes.values.EMPTY`, anything else raises :class:`RemoteProtocolError`. Likewise
an encoder packs at once what has the usual class and looks further only otherwise.

What a value becomes is decided by the column's type, never by the value's own. Nothing is rounded
or guessed, with two exceptions that cannot be had otherwise: what a ``datetime`` has below a
millisecond is cut off, and a ``float`` takes the number nearest to the one given. Subclasses of the
usual classes may hold more than these (pandas), or answer otherwise: they are read by their own
attributes, converted exactly, or refused. Whatever their methods raise is the cause of a
ValueConversionError.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal, DecimalException
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from struct import Struct
from struct import error as struct_error
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from cqlproto.cqltypes.constructors import (
    DATE_OFFSET,
    EPOCH,
    EPOCH_ORDINAL,
    date_of,
    duration_of,
    ipv4_of,
    time_of,
    timestamp_of,
    uuid_of,
)
from cqlproto.cqltypes.exact import (
    EXACT,
    EXPONENTS,
    MOST_BYTES,
    MOST_DIGITS,
    SHORT,
    digits_of,
    to_decimal,
    to_integer,
    write_varint,
)
from cqlproto.cqltypes.model import CQLType, NativeType, VectorType
from cqlproto.cqltypes.values import EMPTY, UNSET, Date, Duration, Time, Timestamp
from cqlproto.cqltypes.vints import read_unsigned_vint, write_vint
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError, shown_value

__all__ = [
    "SCALARS",
    "Decoder",
    "Encoder",
    "Scalar",
    "failed",
    "malformed",
    "refuse",
    "vector_width",
]

Encoder = Callable[[Any], bytes]
Decoder = Callable[[bytes], Any]

_LONG = Struct(">q")
_MICROSECOND = timedelta(microseconds=1)
_UNSIGNED = Struct(">I")
_DAY_MILLISECONDS = 86_400_000
_DAY_NANOSECONDS = 86_400_000_000_000


class Scalar(NamedTuple):
    """How the cells of one scalar type are written and read.

    Attributes:
        encode: from a value to its cell; raises ValueConversionError.
        decode: from a cell to its value; raises RemoteProtocolError.
        width: the size in bytes of an element in a vector, or None where the size is written before
        it.
            This is the server's notion: ``smallint`` has none, although it always takes 2 bytes.
        code: the format character of ``struct`` that reads the cell, or "" where that is not all.
        plain: the class of the values that ``code`` can pack unchecked.
    """

    encode: Encoder
    decode: Decoder
    width: int | None = None
    code: str = ""
    plain: type = object


def refuse(cql_type: str, value: object, wanted: str) -> NoReturn:
    """Raise the ValueConversionError for a value of a wrong Python type."""
    if value is UNSET:
        reason = "UNSET stands for a whole bound value only, not for a part of one"
    elif value is None:
        reason = "null is not possible here"
    else:
        reason = f"{wanted} is needed"
    raise ValueConversionError(reason, cql_type=cql_type, value=value)


def failed(cql_type: str, value: object, error: Exception) -> ValueConversionError:
    """Return the ValueConversionError for a value whose own methods raise an error."""
    reason = f"it cannot be read, its own methods raise {shown_value(error)}"
    return ValueConversionError(reason, cql_type=cql_type, value=value)


def malformed(cql_type: str, reason: str) -> NoReturn:
    """Raise the RemoteProtocolError for a cell that its type does not allow."""
    raise RemoteProtocolError(f"a malformed cell of type {cql_type}: {reason}")


def _wrong_size(cql_type: str, data: bytes, wanted: str) -> Any:
    """Return EMPTY for an empty cell, raise for any other."""
    if not data:
        return EMPTY
    malformed(cql_type, f"{len(data)} bytes, {wanted} expected")


def _is_numpy_bool(value: object) -> bool:
    cls = type(value)
    return cls.__module__ == "numpy" and cls.__name__ in ("bool", "bool_")


def _integer(cql_type: str, value: object, wanted: str = "an integer") -> int:
    """Return what has ``__index__`` as an int; booleans are no numbers here."""
    if isinstance(value, bool) or _is_numpy_bool(value):
        refuse(cql_type, value, f"{wanted}, not a boolean,")
    try:
        return operator.index(value)  # type: ignore[arg-type]  # asking is the point
    except TypeError:
        refuse(cql_type, value, wanted)
    except Exception as exc:
        raise failed(cql_type, value, exc) from exc


def _number_decoder(cql_type: str, struct: Struct) -> Decoder:
    unpack, size = struct.unpack, struct.size

    def decode(data: bytes) -> Any:
        try:
            (value,) = unpack(data)
        except struct_error:
            return _wrong_size(cql_type, data, str(size))
        return value

    return decode


# --- integers of fixed size -----------------------------------------------------------------------


def _fixed_integer(cql_type: str, code: str, width: int | None) -> Scalar:
    struct = Struct(f">{code}")
    pack = struct.pack
    limit = 1 << 8 * struct.size - 1

    def encode(value: Any) -> bytes:
        try:
            if value.__class__ is int:
                return pack(value)
            if value is EMPTY:
                return b""
            return pack(_integer(cql_type, value))
        except struct_error:
            reason = f"out of range, {-limit} to {limit - 1} fit"
            raise ValueConversionError(reason, cql_type=cql_type, value=value) from None

    return Scalar(encode, _number_decoder(cql_type, struct), width, code, int)


# --- floating point -------------------------------------------------------------------------------


def _floating(cql_type: str, code: str) -> Scalar:
    struct = Struct(f">{code}")
    pack = struct.pack

    unpack = struct.unpack

    def convert(value: Any) -> float:
        # numbers.Real has the scalars of NumPy too, but neither its booleans nor Decimal.
        if isinstance(value, bool) or _is_numpy_bool(value):
            refuse(cql_type, value, "a float or an int")
        exact: Any = None  # a number that is not a double
        try:
            if hasattr(type(value), "__index__"):
                exact = operator.index(value)
            elif isinstance(value, numbers.Rational):
                exact = value
            elif not isinstance(value, numbers.Real):
                refuse(cql_type, value, "a float or an int")
            number = float(value if exact is None else exact)
            if exact is None and number != value and not math.isnan(number):
                exact = value  # NumPy's longdouble has more bits
        except TypeError:
            refuse(cql_type, value, "a float or an int")
        if exact is not None and (number != exact or unpack(pack(number))[0] != number):
            reason = f"no {cql_type} is equal to it: pass float(x) to round it"
            raise ValueConversionError(reason, cql_type=cql_type, value=value)
        return number

    def encode(value: Any) -> bytes:
        try:
            if value.__class__ is float:
                return pack(value)
            if value is EMPTY:
                return b""
            return pack(convert(value))
        except OverflowError:
            reason = "too large, it would become infinite"
            raise ValueConversionError(reason, cql_type=cql_type, value=value) from None
        except ValueConversionError:
            raise
        except Exception as exc:
            raise failed(cql_type, value, exc) from exc

    return Scalar(encode, _number_decoder(cql_type, struct), struct.size, code, float)


# --- text, bytes, truth ---------------------------------------------------------------------------


def _encode_text(value: Any) -> bytes:
    try:
        return str.encode(value)
    except UnicodeEncodeError as exc:
        reason = f"no UTF-8 for it: {exc.reason} at {exc.start}"
        raise ValueConversionError(reason, cql_type="text", value=value) from None
    except TypeError:
        if value is EMPTY:
            return b""
        refuse("text", value, "a str")


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        malformed("text", f"no UTF-8: {exc.reason} at {exc.start}")


def _encode_ascii(value: Any) -> bytes:
    try:
        return str.encode(value, "ascii")
    except UnicodeEncodeError as exc:
        reason = f"no ASCII character at {exc.start}"
        raise ValueConversionError(reason, cql_type="ascii", value=value) from None
    except TypeError:
        if value is EMPTY:
            return b""
        refuse("ascii", value, "a str")


def _decode_ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as exc:
        malformed("ascii", f"no ASCII character at {exc.start}")


def _encode_blob(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value)
        except Exception as exc:  # a memoryview that was released
            raise failed("blob", value, exc) from exc
    if value is EMPTY:
        return b""
    refuse("blob", value, "bytes, a bytearray or a memoryview")


def _encode_boolean(value: Any) -> bytes:
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    if value is EMPTY:
        return b""
    if _is_numpy_bool(value):
        return b"\x01" if value else b"\x00"
    refuse("boolean", value, "a bool")


def _decode_boolean(data: bytes) -> Any:
    if data == b"\x01":
        return True
    if data == b"\x00":
        return False
    if len(data) == 1:
        return True  # any byte but 0 is true, as for the server
    return _wrong_size("boolean", data, "1")


# --- time -----------------------------------------------------------------------------------------


def _plain(value: Any) -> datetime:
    """Return an instance of a subclass of datetime as a datetime, by what its attributes say.

    A subclass may hold years that datetime cannot, or nothing at all (``pandas.NaT``); these raise.
    """
    date_part = (value.year, value.month, value.day)
    time_part = (value.hour, value.minute, value.second, value.microsecond)
    return datetime(*date_part, *time_part, tzinfo=value.tzinfo, fold=value.fold)


def _to_milliseconds(value: Any) -> int:
    """Return the milliseconds since the epoch of what may be bound to a timestamp."""
    if isinstance(value, datetime):
        moment = value if type(value) is datetime else _plain(value)
        if moment.utcoffset() is None:
            reason = "a datetime without a time zone is no point in time; give it a tzinfo"
            raise ValueConversionError(reason, cql_type="timestamp", value=value)
        since = moment - EPOCH
        # The parts of a timedelta are normalised: only days is ever negative, so this floors.
        seconds = since.days * 86_400 + since.seconds
        return seconds * 1000 + since.microseconds // 1000
    if isinstance(value, date):
        return (value.toordinal() - EPOCH_ORDINAL) * _DAY_MILLISECONDS
    if isinstance(value, Timestamp):
        return value.milliseconds
    return _integer("timestamp", value, "an aware datetime, a date, a Timestamp or milliseconds")


def _encode_timestamp(value: Any) -> bytes:
    if value is EMPTY:
        return b""
    try:
        return _LONG.pack(_to_milliseconds(value))
    except struct_error:
        reason = "out of range, 64 bits of milliseconds fit"
        raise ValueConversionError(reason, cql_type="timestamp", value=value) from None
    except ValueConversionError:
        raise
    except Exception as exc:  # its time zone's, for example
        raise failed("timestamp", value, exc) from exc


def _decode_timestamp(data: bytes) -> Any:
    try:
        (value,) = _LONG.unpack(data)
    except struct_error:
        return _wrong_size("timestamp", data, "8")
    return timestamp_of(value)


def _encode_date(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            reason = "no date in ISO 8601, such as 2024-02-29"
            raise ValueConversionError(reason, cql_type="date", value=value) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        try:
            return _UNSIGNED.pack(value.toordinal() - EPOCH_ORDINAL + DATE_OFFSET)
        except Exception as exc:
            raise failed("date", value, exc) from exc
    if isinstance(value, Date):
        return _UNSIGNED.pack(value.days + DATE_OFFSET)
    if value is EMPTY:
        return b""
    hint = ", not a datetime (take its .date()),"
    refuse("date", value, f"a date{hint if isinstance(value, datetime) else ', a Date or a str'}")


def _decode_date(data: bytes) -> Any:
    try:
        (value,) = _UNSIGNED.unpack(data)
    except struct_error:
        return _wrong_size("date", data, "4")
    return date_of[value]


def _encode_time(value: Any) -> bytes:
    if isinstance(value, time):
        try:
            plain, zone = time(value.hour, value.minute, value.second), value.tzinfo
            seconds = (plain.hour * 60 + plain.minute) * 60 + plain.second
            nanoseconds = (seconds * 1_000_000 + value.microsecond) * 1000
        except Exception as exc:
            raise failed("time", value, exc) from exc
        if zone is not None:
            reason = "a time with a time zone cannot be kept; leave its tzinfo out"
            raise ValueConversionError(reason, cql_type="time", value=value)
        return _LONG.pack(nanoseconds)
    if isinstance(value, Time):
        return _LONG.pack(value.nanoseconds)
    if value is EMPTY:
        return b""
    nanoseconds = _integer("time", value, "a naive time, a Time or nanoseconds")
    if not 0 <= nanoseconds < _DAY_NANOSECONDS:
        reason = f"not within a day, 0 to {_DAY_NANOSECONDS - 1} ns"
        raise ValueConversionError(reason, cql_type="time", value=value)
    return _LONG.pack(nanoseconds)


def _decode_time(data: bytes) -> Any:
    try:
        (value,) = _LONG.unpack(data)
    except struct_error:
        return _wrong_size("time", data, "8")
    return time_of(value)


def _span(value: Any) -> int:
    """Return the nanoseconds of an instance of a subclass of timedelta, which may count these.

    Raises:
        ValueConversionError: it counts months or years as well, which have no fixed length.
    """
    try:
        microseconds = timedelta.__floordiv__(value, _MICROSECOND)
        more = operator.index(getattr(value, "nanoseconds", 0))
        months = getattr(value, "months", 0) or getattr(value, "years", 0)
    except Exception as exc:
        raise failed("duration", value, exc) from exc
    if months:
        reason = "its months have no fixed length: bind a Duration"
        raise ValueConversionError(reason, cql_type="duration", value=value)
    return microseconds * 1000 + more


def _encode_duration(value: Any) -> bytes:
    if isinstance(value, timedelta):
        nanoseconds = value // _MICROSECOND * 1000 if type(value) is timedelta else _span(value)
        try:
            value = Duration(0, 0, nanoseconds)
        except ValueError:
            reason = "out of range, 64 bits of nanoseconds fit"
            raise ValueConversionError(reason, cql_type="duration", value=value) from None
    if isinstance(value, Duration):
        return write_vint(value.months) + write_vint(value.days) + write_vint(value.nanoseconds)
    if value is EMPTY:
        return b""
    refuse("duration", value, "a Duration or a timedelta")


def _decode_duration(data: bytes) -> Any:
    if not data:
        return EMPTY
    try:
        months, pos = read_unsigned_vint(data, 0)
        days, pos = read_unsigned_vint(data, pos)
        nanoseconds, pos = read_unsigned_vint(data, pos)
        if pos != len(data):
            raise ValueError(f"{len(data) - pos} bytes are left after it")
        # The lowest bit is the sign's.
        if not (months | days | nanoseconds) & 1 and (months | days) >> 32 == 0:
            return duration_of(months >> 1, days >> 1, nanoseconds >> 1)
        return Duration(*[part >> 1 ^ -(part & 1) for part in (months, days, nanoseconds)])
    except ValueError as exc:
        malformed("duration", str(exc))


# --- numbers of any size --------------------------------------------------------------------------


def _encode_varint(value: Any) -> bytes:
    return b"" if value is EMPTY else write_varint(_integer("varint", value))


def _decode_varint(data: bytes) -> Any:
    return int.from_bytes(data, signed=True) if data else EMPTY


def _encode_decimal(value: Any) -> bytes:
    if value is EMPTY:
        return b""
    if not isinstance(value, Decimal):
        hint = ", not a float (its digits are a guess: use Decimal(str(x))),"
        what = f"a Decimal or an int{hint if isinstance(value, float) else ''}"
        return _decimal_cell(0, _integer("decimal", value, what), value)
    try:
        if not value.is_finite():
            reason = "NaN and infinity do not exist"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        digits, exponent = digits_of(value)
        if digits > MOST_DIGITS:
            reason = f"{digits:,} digits, at most {MOST_DIGITS:,} are sent"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        if not -(1 << 31) <= -exponent < 1 << 31:
            reason = "the scale is out of range, 32 bits fit"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        unscaled = to_integer(EXACT.scaleb(value, Decimal(-exponent)))
    except ValueConversionError:
        raise
    except Exception as exc:
        raise failed("decimal", value, exc) from exc
    return _decimal_cell(-exponent, unscaled, value)


def _decimal_cell(scale: int, unscaled: int, value: Any) -> bytes:
    cell = write_varint(unscaled)
    if len(cell) > MOST_BYTES:
        reason = f"{len(cell):,} bytes, at most {MOST_BYTES:,} are sent"
        raise ValueConversionError(reason, cql_type="decimal", value=value)
    return scale.to_bytes(4, "big", signed=True) + cell


def _decode_decimal(data: bytes) -> Any:
    if len(data) < 5:
        return _wrong_size("decimal", data, "at least 5")
    if len(data) > MOST_BYTES + 4:
        hint = "select it as a text (CAST) or as a blob"
        malformed("decimal", f"{len(data):,} bytes, at most {MOST_BYTES + 4:,} are read: {hint}")
    unscaled = int.from_bytes(data[4:], signed=True)
    exponent = EXPONENTS[data[:4]]
    try:
        number = Decimal(unscaled) if len(data) < SHORT else to_decimal(unscaled)
        return EXACT.scaleb(number, exponent)
    except (DecimalException, MemoryError) as exc:
        malformed("decimal", f"scale {-exponent} is out of range here: {exc!r}")


# --- identifiers and addresses --------------------------------------------------------------------


def _uuid(cql_type: str, version: int | None) -> Scalar:
    def encode(value: Any) -> bytes:
        if isinstance(value, UUID):
            try:
                data = value.bytes
            except Exception as exc:
                raise failed(cql_type, value, exc) from exc
        elif isinstance(value, str):
            try:
                data = UUID(value).bytes
            except ValueError:
                reason = "no UUID in hexadecimal"
                raise ValueConversionError(reason, cql_type=cql_type, value=value) from None
        elif value is EMPTY:
            return b""
        else:
            refuse(cql_type, value, "a UUID or a str")
        # Not UUID.version, which is None for a variant that the server doesn't ask for.
        if version is not None and data[6] >> 4 != version:
            reason = f"a UUID of version {version} is needed, this has {data[6] >> 4}"
            raise ValueConversionError(reason, cql_type=cql_type, value=value)
        return data

    def decode(data: bytes) -> Any:
        if len(data) != 16:
            return _wrong_size(cql_type, data, "16")
        return uuid_of(data)

    return Scalar(encode, decode, 16)


def _encode_inet(value: Any) -> bytes:
    address = value
    if isinstance(value, str):
        try:
            address = ip_address(value)
        except ValueError:
            reason = "no IP address"
            raise ValueConversionError(reason, cql_type="inet", value=value) from None
    if isinstance(address, IPv4Interface | IPv6Interface):
        reason = "the network of an interface cannot be kept; take its .ip"
        raise ValueConversionError(reason, cql_type="inet", value=value)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        reason = "an address with a zone cannot be kept"
        raise ValueConversionError(reason, cql_type="inet", value=value)
    if isinstance(address, IPv4Address | IPv6Address):
        try:
            return address.packed
        except Exception as exc:
            raise failed("inet", value, exc) from exc
    if value is EMPTY:
        return b""
    refuse("inet", value, "an IPv4Address, an IPv6Address or a str")


def _decode_inet(data: bytes) -> Any:
    if len(data) == 4:
        return ipv4_of(data)
    if len(data) == 16:
        return IPv6Address(data)
    return _wrong_size("inet", data, "4 or 16")


SCALARS: Mapping[str, Scalar] = {
    "ascii": Scalar(_encode_ascii, _decode_ascii),
    "bigint": _fixed_integer("bigint", "q", 8),
    "blob": Scalar(_encode_blob, bytes),
    "boolean": Scalar(_encode_boolean, _decode_boolean, 1),
    "counter": _fixed_integer("counter", "q", 8),
    "date": Scalar(_encode_date, _decode_date),
    "decimal": Scalar(_encode_decimal, _decode_decimal),
    "double": _floating("double", "d"),
    "duration": Scalar(_encode_duration, _decode_duration),
    "float": _floating("float", "f"),
    "inet": Scalar(_encode_inet, _decode_inet),
    "int": _fixed_integer("int", "i", 4),
    "smallint": _fixed_integer("smallint", "h", None),
    "text": Scalar(_encode_text, _decode_text),
    "time": Scalar(_encode_time, _decode_time),
    "timestamp": Scalar(_encode_timestamp, _decode_timestamp, 8),
    "timeuuid": _uuid("timeuuid", 1),
    "tinyint": _fixed_integer("tinyint", "b", None),
    "uuid": _uuid("uuid", None),
    "varint": Scalar(_encode_varint, _decode_varint),
}


def vector_width(cql_type: CQLType) -> int | None:
    """Return the size in bytes of an element of a vector, or None where each is written with its
    own."""
    if isinstance(cql_type, NativeType):
        return SCALARS[cql_type.name].width
    if isinstance(cql_type, VectorType):
        width = vector_width(cql_type.element)
        return None if width is None else width * cql_type.dimension
    return None
