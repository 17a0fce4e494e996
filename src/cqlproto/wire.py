"""The notations of the specification, read and written side by side (v4 section 3).

``read_x`` reads from a :class:`Reader` and advances it; ``write_x`` appends to a ``bytearray``. A
read past the end, a negative count or text that is not UTF-8 raises :class:`RemoteProtocolError`; a
value that does not fit its notation raises :class:`LocalProtocolError`. A length is compared with
the bytes that are left before anything is allocated for it.
"""

from __future__ import annotations

import ipaddress
from struct import Struct
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "UNSET",
    "Reader",
    "Unset",
    "read_byte",
    "read_bytes",
    "read_bytes_map",
    "read_inet",
    "read_inetaddr",
    "read_int",
    "read_list",
    "read_long",
    "read_long_string",
    "read_short",
    "read_short_bytes",
    "read_string",
    "read_string_list",
    "read_string_map",
    "read_string_multimap",
    "read_uuid",
    "read_value",
    "write_byte",
    "write_bytes",
    "write_bytes_map",
    "write_inet",
    "write_inetaddr",
    "write_int",
    "write_list",
    "write_long",
    "write_long_string",
    "write_short",
    "write_short_bytes",
    "write_string",
    "write_string_list",
    "write_string_map",
    "write_string_multimap",
    "write_uuid",
    "write_value",
]

T = TypeVar("T")

_INT = Struct(">i")
_LONG = Struct(">q")
_SHORT = Struct(">H")
MAX_SHORT = 0xFFFF
MAX_INT = 0x7FFFFFFF

# The lengths that stand for null and for UNSET ([value], v4 section 3), as they are written.
NULL_LENGTH = b"\xff\xff\xff\xff"
UNSET_LENGTH = b"\xff\xff\xff\xfe"


class Unset:
    """The type of :data:`UNSET`: a bound value that leaves the column as it is (v4 section 3)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET = Unset()


class Reader:
    """A position in received bytes.

    Arguments:
        data: the bytes, usually a frame body.
        pos: the offset of the first byte to read.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.end = len(data)

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self.end - self.pos

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes; raises RemoteProtocolError if there are fewer."""
        pos = self.pos
        if count < 0 or count > self.end - pos:
            raise RemoteProtocolError(
                f"{count} bytes are announced at offset {pos}, {self.end - pos} are left"
            )
        self.pos = pos + count
        return self.data[pos : pos + count]

    def check_count(self, count: int, size: int) -> int:
        """Return ``count`` if that many items of at least ``size`` bytes can still follow."""
        if count < 0 or count * size > self.end - self.pos:
            raise RemoteProtocolError(
                f"{count} items are announced at offset {self.pos}, {self.remaining} bytes are left"
            )
        return count

    def expect_end(self, what: str) -> None:
        """Raise RemoteProtocolError if bytes are left after ``what``."""
        if self.pos != self.end:
            raise RemoteProtocolError(f"{self.end - self.pos} bytes are left after {what}")


def read_byte(reader: Reader) -> int:
    """[byte]: unsigned, 8 bits."""
    return reader.take(1)[0]


def write_byte(out: bytearray, value: int) -> None:
    if not 0 <= value <= 0xFF:
        raise LocalProtocolError(f"a [byte] must be 0 to 255, got {value}")
    out.append(value)


def read_short(reader: Reader) -> int:
    """[short]: unsigned, 16 bits."""
    value: int = _SHORT.unpack(reader.take(2))[0]
    return value


def write_short(out: bytearray, value: int) -> None:
    if not 0 <= value <= MAX_SHORT:
        raise LocalProtocolError(f"a [short] must be 0 to {MAX_SHORT}, got {value}")
    out += _SHORT.pack(value)


def read_int(reader: Reader) -> int:
    """[int]: signed, 32 bits."""
    value: int = _INT.unpack(reader.take(4))[0]
    return value


def write_int(out: bytearray, value: int) -> None:
    if not -MAX_INT - 1 <= value <= MAX_INT:
        raise LocalProtocolError(f"an [int] must fit 32 bits, got {value}")
    out += _INT.pack(value)


def read_long(reader: Reader) -> int:
    """[long]: signed, 64 bits."""
    value: int = _LONG.unpack(reader.take(8))[0]
    return value


def write_long(out: bytearray, value: int) -> None:
    if not -(1 << 63) <= value < 1 << 63:
        raise LocalProtocolError(f"a [long] must fit 64 bits, got {value}")
    out += _LONG.pack(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise RemoteProtocolError(f"text must be UTF-8: {exc}") from exc


def _utf8(value: str, what: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"{what} cannot be encoded as UTF-8: {exc}") from exc


def read_string(reader: Reader) -> str:
    """[string]: a [short] n and n bytes of UTF-8."""
    return _text(reader.take(read_short(reader)))


def write_string(out: bytearray, value: str) -> None:
    data = _utf8(value, "a [string]")
    if len(data) > MAX_SHORT:
        raise LocalProtocolError(f"a [string] must be at most {MAX_SHORT} bytes, got {len(data)}")
    out += _SHORT.pack(len(data))
    out += data


def read_long_string(reader: Reader) -> str:
    """[long string]: an [int] n and n bytes of UTF-8."""
    return _text(reader.take(read_int(reader)))


def write_long_string(out: bytearray, value: str) -> None:
    data = _utf8(value, "a [long string]")
    write_int(out, len(data))
    out += data


def read_uuid(reader: Reader) -> UUID:
    """[uuid]: 16 bytes."""
    return UUID(bytes=reader.take(16))


def write_uuid(out: bytearray, value: UUID) -> None:
    out += value.bytes


def read_bytes(reader: Reader) -> bytes | None:
    """[bytes]: an [int] n and n bytes; None if n is negative."""
    length = read_int(reader)
    return None if length < 0 else reader.take(length)


def write_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out += NULL_LENGTH
    else:
        write_int(out, len(value))
        out += value


def read_value(reader: Reader) -> bytes | None | Unset:
    """[value]: as [bytes], with -1 for null and -2 for :data:`UNSET`; no other negative length."""
    length = read_int(reader)
    if length >= 0:
        return reader.take(length)
    if length == -1:
        return None
    if length == -2:
        return UNSET
    raise RemoteProtocolError(f"the length of a [value] must be at least -2, got {length}")


def write_value(out: bytearray, value: bytes | None | Unset) -> None:
    if isinstance(value, Unset):
        out += UNSET_LENGTH
    else:
        write_bytes(out, value)


def read_short_bytes(reader: Reader) -> bytes:
    """[short bytes]: a [short] n and n bytes."""
    return reader.take(read_short(reader))


def write_short_bytes(out: bytearray, value: bytes) -> None:
    if len(value) > MAX_SHORT:
        raise LocalProtocolError(
            f"[short bytes] must be at most {MAX_SHORT} bytes, got {len(value)}"
        )
    out += _SHORT.pack(len(value))
    out += value


IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_inetaddr(reader: Reader) -> IPAddress:
    """[inetaddr]: a [byte] n, 4 or 16, and n bytes."""
    size = read_byte(reader)
    if size == 4:
        return ipaddress.IPv4Address(reader.take(4))
    if size == 16:
        return ipaddress.IPv6Address(reader.take(16))
    raise RemoteProtocolError(f"an address must be 4 or 16 bytes, got {size}")


def write_inetaddr(out: bytearray, value: IPAddress) -> None:
    packed = value.packed
    out.append(len(packed))
    out += packed


def read_inet(reader: Reader) -> tuple[IPAddress, int]:
    """[inet]: an [inetaddr] and an [int] port."""
    return read_inetaddr(reader), read_int(reader)


def write_inet(out: bytearray, value: tuple[IPAddress, int]) -> None:
    address, port = value
    write_inetaddr(out, address)
    write_int(out, port)


def read_list(reader: Reader, read: Callable[[Reader], T], *, size: int) -> list[T]:
    """A [short] n and n items of at least ``size`` bytes, each read by ``read``."""
    count = reader.check_count(read_short(reader), size)
    return [read(reader) for _ in range(count)]


def write_list(out: bytearray, values: Sequence[T], write: Callable[[bytearray, T], None]) -> None:
    write_short(out, len(values))
    for value in values:
        write(out, value)


def read_string_list(reader: Reader) -> list[str]:
    """[string list]: a [short] n and n [string]."""
    return read_list(reader, read_string, size=2)


def write_string_list(out: bytearray, values: Sequence[str]) -> None:
    write_list(out, values, write_string)


def read_string_map(reader: Reader) -> dict[str, str]:
    """[string map]: a [short] n and n pairs of [string]."""
    count = reader.check_count(read_short(reader), 4)
    return {read_string(reader): read_string(reader) for _ in range(count)}


def write_string_map(out: bytearray, values: Mapping[str, str]) -> None:
    write_short(out, len(values))
    for key, value in values.items():
        write_string(out, key)
        write_string(out, value)


def read_string_multimap(reader: Reader) -> dict[str, list[str]]:
    """[string multimap]: a [short] n and n pairs of [string] and [string list]."""
    count = reader.check_count(read_short(reader), 4)
    return {read_string(reader): read_string_list(reader) for _ in range(count)}


def write_string_multimap(out: bytearray, values: Mapping[str, Sequence[str]]) -> None:
    write_short(out, len(values))
    for key, value in values.items():
        write_string(out, key)
        write_string_list(out, value)


def read_bytes_map(reader: Reader) -> dict[str, bytes | None]:
    """[bytes map]: a [short] n and n pairs of [string] and [bytes]."""
    count = reader.check_count(read_short(reader), 6)
    return {read_string(reader): read_bytes(reader) for _ in range(count)}


def write_bytes_map(out: bytearray, values: Mapping[str, bytes | None]) -> None:
    write_short(out, len(values))
    for key, value in values.items():
        write_string(out, key)
        write_bytes(out, value)
