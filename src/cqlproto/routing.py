"""The token of a partition key, with which a client sends a request to a replica of its data.

A cluster orders partitions by their *token*, a hash of the partition key, and assigns ranges of
tokens to each node. A client that knows the ranges computes the token and sends the request to a
replica. This module extracts the partition key from the values of a statement, computes its token
under Murmur3Partitioner (the default since Cassandra 1.2), and for Scylla, which divides the tokens
of a node among its cores, the core ("shard").

The token is computed per request, so the hash is unrolled for keys of up to 16 bytes, such as
integers, timestamps and UUIDs: in pure Python it takes about 2 us. Cassandra's variant of Murmur3
treats the bytes after the last whole block of 16 as signed. XOR with a negative byte flips all bits
above it, so a byte of the result is flipped if an odd number of the bytes below it is negative; one
multiplication counts these for all eight bytes.

Tokens of other partitioners (RandomPartitioner, ByteOrderedPartitioner) are not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import NativeType, encoder
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.exceptions import LocalProtocolError
from cqlproto.wire import MAX_SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.messages.metadata import Column

__all__ = [
    "MAX_TOKEN",
    "MIN_TOKEN",
    "Sharding",
    "composite_key",
    "key_function",
    "murmur3_token",
    "shard_of",
]

MIN_TOKEN = -(1 << 63)
MAX_TOKEN = (1 << 63) - 1

_WORD = (1 << 64) - 1
_pack_length = Struct(">H").pack
_two_words = Struct("<QQ").unpack_from


def _signed(word: int) -> int:
    """Return the XOR of a word's bytes as if each were signed: see the module's docstring."""
    negative = (word >> 7) & 0x0101010101010101
    return word ^ ((negative * 0x0101010101010100) & 0x0101010101010101) * 0xFF


def murmur3_token(key: bytes) -> int:
    """Return the token of a partition key under Murmur3Partitioner.

    Arguments:
        key: the bytes of the partition key: a cell, or what :func:`composite_key` returns.

    Returns:
        the token, above ``MIN_TOKEN`` and up to ``MAX_TOKEN``; ``MIN_TOKEN`` for an empty key, as
        on the server.
    """
    size = len(key)
    # The multiplication after a rotation is masked to 64 bits, so the rotation itself need not be.
    if size <= 8:
        if not size:
            return MIN_TOKEN
        low = int.from_bytes(key, "little")
        if low & 0x8080808080808080:
            negative = (low >> 7) & 0x0101010101010101
            low ^= ((negative * 0x0101010101010100) & 0x0101010101010101) * 0xFF
        low = (low * 0x87C37B91114253D5) & 0xFFFFFFFFFFFFFFFF
        a = (((low << 31 | low >> 33) * 0x4CF5AD432745937F) & 0xFFFFFFFFFFFFFFFF) ^ size
        b = size
    elif size < 16:
        low = int.from_bytes(key[:8], "little")
        if low & 0x8080808080808080:
            low = _signed(low)
        low = (low * 0x87C37B91114253D5) & 0xFFFFFFFFFFFFFFFF
        a = (((low << 31 | low >> 33) * 0x4CF5AD432745937F) & 0xFFFFFFFFFFFFFFFF) ^ size
        high = int.from_bytes(key[8:], "little")
        if high & 0x8080808080808080:
            high = _signed(high)
        high = (high * 0x4CF5AD432745937F) & 0xFFFFFFFFFFFFFFFF
        b = (((high << 33 | high >> 31) * 0x87C37B91114253D5) & 0xFFFFFFFFFFFFFFFF) ^ size
    elif size == 16:
        low, high = _two_words(key)
        low = (low * 0x87C37B91114253D5) & 0xFFFFFFFFFFFFFFFF
        a = ((low << 31 | low >> 33) * 0x4CF5AD432745937F) & 0xFFFFFFFFFFFFFFFF
        a = ((a << 27 | a >> 37) * 5 + 0x52DCE729) & 0xFFFFFFFFFFFFFFFF
        high = (high * 0x4CF5AD432745937F) & 0xFFFFFFFFFFFFFFFF
        b = ((high << 33 | high >> 31) * 0x87C37B91114253D5) & 0xFFFFFFFFFFFFFFFF
        b = ((((b << 31 | b >> 33) + a) * 5 + 0x38495AB5) & 0xFFFFFFFFFFFFFFFF) ^ 16
        a ^= 16
    else:
        a, b = _blocks(key, size)
    a += b
    b = (a + b) & 0xFFFFFFFFFFFFFFFF
    a &= 0xFFFFFFFFFFFFFFFF
    a = ((a ^ a >> 33) * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    a = ((a ^ a >> 33) * 0xC4CEB9FE1A85EC53) & 0xFFFFFFFFFFFFFFFF
    b = ((b ^ b >> 33) * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    b = ((b ^ b >> 33) * 0xC4CEB9FE1A85EC53) & 0xFFFFFFFFFFFFFFFF
    token = ((a ^ a >> 33) + (b ^ b >> 33)) & 0xFFFFFFFFFFFFFFFF
    if token < 0x8000000000000000:
        return token
    # No key has the lowest token: it is the start of the ring.
    return token - 0x10000000000000000 if token != 0x8000000000000000 else MAX_TOKEN


def _blocks(key: bytes, size: int) -> tuple[int, int]:
    """Return the two words of state before the final mix."""
    a = b = 0
    whole = size & ~15
    for at in range(0, whole, 16):
        low, high = _two_words(key, at)
        low = (low * 0x87C37B91114253D5) & _WORD
        a ^= ((low << 31 | low >> 33) * 0x4CF5AD432745937F) & _WORD
        a = (((a << 27 | a >> 37) + b) * 5 + 0x52DCE729) & _WORD
        high = (high * 0x4CF5AD432745937F) & _WORD
        b ^= ((high << 33 | high >> 31) * 0x87C37B91114253D5) & _WORD
        b = (((b << 31 | b >> 33) + a) * 5 + 0x38495AB5) & _WORD
    if size > whole + 8:
        high = (_signed(int.from_bytes(key[whole + 8 :], "little")) * 0x4CF5AD432745937F) & _WORD
        b ^= ((high << 33 | high >> 31) * 0x87C37B91114253D5) & _WORD
    low = (_signed(int.from_bytes(key[whole : whole + 8], "little")) * 0x87C37B91114253D5) & _WORD
    a ^= ((low << 31 | low >> 33) * 0x4CF5AD432745937F) & _WORD
    return a ^ size, b ^ size


def composite_key(parts: Sequence[bytes]) -> bytes:
    """Return the bytes of a partition key of several columns.

    Each cell is preceded by its length, a [short], and followed by a zero byte. The key of a single
    column is its cell.

    Arguments:
        parts: the cells, in the order of the partition key's columns.

    Raises:
        LocalProtocolError: there is no cell, or one is longer than 65,535 bytes.
    """
    if not parts:
        raise LocalProtocolError("a partition key must have at least one column")
    longest = max(map(len, parts))
    if longest > MAX_SHORT:
        raise LocalProtocolError(
            f"a part of a partition key must be at most {MAX_SHORT:,} bytes, got {longest:,}"
        )
    if len(parts) == 1:
        return parts[0]
    return b"".join([_pack_length(len(part)) + part + b"\0" for part in parts])


def key_function(
    columns: Sequence[Column], indexes: Sequence[int]
) -> Callable[[Sequence[Any]], bytes | None]:
    """Return a function that extracts the partition key from the values of a statement.

    It takes the bound values and returns the bytes of the key, or None if there is no key: a part
    is null, unset, missing, too long, or not a value of its column. It never raises, since sending
    the request raises the error. It also returns None instead of consuming an iterator that is
    bound to a collection.

    Arguments:
        columns: the bind markers, from PREPARED's metadata.
        indexes: the indexes of the partition key's columns, in the key's order (``pk_index`` of v4
            section 4.2.5.4).

    Raises:
        LocalProtocolError: ``indexes`` is empty or has an index without a bind marker.
    """
    if not indexes:
        raise LocalProtocolError("a partition key must have at least one column")
    if not all(0 <= index < len(columns) for index in indexes):
        raise LocalProtocolError(
            f"partition key indexes must be 0 to {len(columns) - 1}, got {list(indexes)}"
        )
    if len(indexes) == 1:
        return _single(columns[indexes[0]], indexes[0])
    parts = [(index, _part(columns[index])) for index in indexes]

    def composite(values: Sequence[Any]) -> bytes | None:
        try:
            key = bytearray()
            for index, encode in parts:
                cell = encode(values[index])
                key += _pack_length(len(cell))
                key += cell
                key.append(0)
            return bytes(key)
        except Exception:  # a user's value may raise anything; StructError: a part is too long
            return None

    return composite


def _part(column: Column) -> Callable[[Any], bytes]:
    """Return the encoder of a column that raises instead of consuming an iterator."""
    encode = encoder(column.type)
    if isinstance(column.type, NativeType):
        return encode

    def encode_kept(value: Any) -> bytes:
        _refuse_iterators(value)
        return encode(value)

    return encode_kept


def _refuse_iterators(value: Any) -> None:
    """Raise TypeError for an iterator, also within a list, a set or a mapping."""
    if hasattr(value, "__next__"):
        raise TypeError("an iterator can be read only once")
    if isinstance(value, Mapping):
        for each in value.values():
            _refuse_iterators(each)
    elif isinstance(value, list | tuple | Set):
        for each in value:
            _refuse_iterators(each)


def _single(column: Column, index: int) -> Callable[[Sequence[Any]], bytes | None]:
    """Return the key function of a single column; it packs numbers of the usual class directly."""
    encode = _part(column)
    scalar = SCALARS.get(str(column.type))

    def key(values: Sequence[Any]) -> bytes | None:
        try:
            cell = encode(values[index])
        except Exception:  # a user's value may raise anything
            return None
        return cell if len(cell) <= MAX_SHORT else None

    if scalar is None or not scalar.code:
        return key
    pack = Struct(f">{scalar.code}").pack
    plain = scalar.plain

    def key_of_number(values: Sequence[Any]) -> bytes | None:
        try:
            value = values[index]
            if value.__class__ is plain:
                return pack(value)
        except (IndexError, StructError, OverflowError):
            return None
        return key(values)

    return key_of_number


def shard_of(token: int, shards: int, ignored_bits: int) -> int:
    """Return the shard of a Scylla node that owns a token.

    Arguments:
        token: a Murmur3 token.
        shards: the number of shards of the node, SCYLLA_NR_SHARDS.
        ignored_bits: how many of the token's highest bits are ignored, SCYLLA_SHARDING_IGNORE_MSB.

    Returns:
        the number of the shard, from 0.
    """
    return ((((token + 0x8000000000000000) << ignored_bits) & _WORD) * shards) >> 64


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a Scylla node divides its tokens among its shards, and the shard of a connection.

    Attributes:
        shards: the number of shards.
        ignored_bits: how many of a token's highest bits are ignored.
        shard: the shard that serves the connection.
        port: the port on which the shard ``source port % shards`` serves a connection, or None.
        tls_port: the same for TLS.
    """

    shards: int
    ignored_bits: int
    shard: int
    port: int | None = None
    tls_port: int | None = None

    @classmethod
    def from_supported(cls, options: Mapping[str, Sequence[str]]) -> Sharding | None:
        """Read the sharding options of SUPPORTED.

        Arguments:
            options: the options of SUPPORTED (v4 section 4.2.4).

        Returns:
            the sharding, or None if the node is not Scylla or uses an unknown algorithm.
        """
        if (
            _first(options, "SCYLLA_SHARDING_ALGORITHM") != "biased-token-round-robin"
            or _first(options, "SCYLLA_PARTITIONER").rpartition(".")[2] != "Murmur3Partitioner"
        ):
            return None
        shards = _number(options, "SCYLLA_NR_SHARDS", MAX_SHORT)
        ignored_bits = _number(options, "SCYLLA_SHARDING_IGNORE_MSB", 63)
        shard = _number(options, "SCYLLA_SHARD", MAX_SHORT)
        if not shards or ignored_bits is None or shard is None or shard >= shards:
            return None
        return cls(
            shards,
            ignored_bits,
            shard,
            _number(options, "SCYLLA_SHARD_AWARE_PORT", MAX_SHORT) or None,
            _number(options, "SCYLLA_SHARD_AWARE_PORT_SSL", MAX_SHORT) or None,
        )

    def shard_of(self, token: int) -> int:
        """Return the shard that owns a token; see :func:`shard_of`."""
        return shard_of(token, self.shards, self.ignored_bits)


def _first(options: Mapping[str, Sequence[str]], name: str) -> str:
    values = options.get(name)
    return values[0] if values else ""


def _number(options: Mapping[str, Sequence[str]], name: str, largest: int) -> int | None:
    text = _first(options, name)
    # Only ASCII digits: int() also accepts signs, spaces and the digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    number = int(text)
    return number if number <= largest else None
