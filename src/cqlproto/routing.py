"""Which token a partition key has: what a client needs to send a request where its data is.

A cluster orders partitions by their *token*, a hash of the partition key, and gives each node
ranges of tokens. A client that knows the ranges computes the token and asks a replica at once. The
parts are here: the bytes of a partition key out of the values of a statement, their token under
Murmur3Partitioner (every cluster's default since Cassandra 1.2), and for Scylla, which divides the
tokens of a node among its cores, the core ("shard").

Murmur3 is computed per request, so keys of up to 16 bytes, which is what integers, timestamps and
UUIDs are, are written out in full: in pure Python such a token costs some 2 us. Cassandra's variant
is not the usual one: it takes the bytes after the last whole block of 16 as signed. XORing in a
negative byte flips all bits above it, so what comes of a word is its bytes, each flipped if an odd
number of those below it is negative; one multiplication counts them for all eight.

Tokens of other partitioners (RandomPartitioner, ByteOrderedPartitioner) are not computed; they
share no range with these.
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
    """Return the XOR of a word's bytes as if each were signed: see the essay above."""
    negative = (word >> 7) & 0x0101010101010101
    return word ^ ((negative * 0x0101010101010100) & 0x0101010101010101) * 0xFF


def murmur3_token(key: bytes) -> int:
    """Return the token of a partition key under Murmur3Partitioner.

    Arguments:
        key: the bytes of the partition key: a cell, or what :func:`composite_key` returns.

    Returns:
        the token, above ``MIN_TOKEN`` and up to ``MAX_TOKEN``; ``MIN_TOKEN`` itself for no bytes,
        as for the server.
    """
    size = len(key)
    # Multiplying discards what is above 64 bits, so what is rotated is masked only after it.
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
    # The lowest token is no key's: it stands for the start of the ring.
    return token - 0x10000000000000000 if token != 0x8000000000000000 else MAX_TOKEN


def _blocks(key: bytes, size: int) -> tuple[int, int]:
    """Return the two words of state before they are mixed for the last time."""
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

    Each cell follows its length as a [short], and a zero byte follows each. The cell of one column
    is its own key.

    Arguments:
        parts: the cells, in the order of the partition key's columns.

    Raises:
        LocalProtocolError: there is none, or one is longer than 65,535 bytes, which no key may be.
    """
    if not parts:
        raise LocalProtocolError("a partition key has at least one column")
    longest = max(map(len, parts))
    if longest > MAX_SHORT:
        raise LocalProtocolError(
            f"a part of a partition key has {longest:,} bytes, at most {MAX_SHORT:,} fit"
        )
    if len(parts) == 1:
        return parts[0]
    return b"".join([_pack_length(len(part)) + part + b"\0" for part in parts])


def key_function(
    columns: Sequence[Column], indexes: Sequence[int]
) -> Callable[[Sequence[Any]], bytes | None]:
    """Return what finds the partition key in the values of a statement.

    It takes the values, as bound, and returns the key's bytes; None where there is no key, so that
    there is no token: a part of it is null, unset, missing, too long, or no value of its column.
    It never raises: the request meets the same value and says what is wrong. None is returned, too,
    where looking would use a value up: an iterator for a collection.

    Arguments:
        columns: the bind markers, of PREPARED's metadata.
        indexes: which of them are the partition key's columns, in the key's order
            (``pk_index`` of v4 section 4.2.5.4).

    Raises:
        LocalProtocolError: there is no index, or one without a bind marker.
    """
    if not indexes:
        raise LocalProtocolError("a partition key has at least one column")
    if not all(0 <= index < len(columns) for index in indexes):
        raise LocalProtocolError(
            f"partition key at bind markers {list(indexes)}, but there are {len(columns)}"
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
        except Exception:  # whatever a user's value raises; StructError: a part is too long
            return None

    return composite


def _part(column: Column) -> Callable[[Any], bytes]:
    """Return what encodes a value of a column, and raises rather than use it up."""
    encode = encoder(column.type)
    if isinstance(column.type, NativeType):
        return encode

    def encode_kept(value: Any) -> bytes:
        _refuse_iterators(value)
        return encode(value)

    return encode_kept


def _refuse_iterators(value: Any) -> None:
    """Raise TypeError for an iterator, also for one in a list, a set or a mapping."""
    if hasattr(value, "__next__"):
        raise TypeError("an iterator can be read only once")
    if isinstance(value, Mapping):
        for each in value.values():
            _refuse_iterators(each)
    elif isinstance(value, list | tuple | Set):
        for each in value:
            _refuse_iterators(each)


def _single(column: Column, index: int) -> Callable[[Sequence[Any]], bytes | None]:
    """Return the key function of a single column; numbers of the usual class are packed at once."""
    encode = _part(column)
    scalar = SCALARS.get(str(column.type))

    def key(values: Sequence[Any]) -> bytes | None:
        try:
            cell = encode(values[index])
        except Exception:  # whatever a user's value raises
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
        shards: how many the node has, SCYLLA_NR_SHARDS.
        ignored_bits: how many of the token's highest bits don't count, SCYLLA_SHARDING_IGNORE_MSB.

    Returns:
        the number of the shard, from 0.
    """
    return ((((token + 0x8000000000000000) << ignored_bits) & _WORD) * shards) >> 64


@dataclass(frozen=True, slots=True)
class Sharding:
    """How a Scylla node divides its tokens among its shards, and which one serves a connection.

    Attributes:
        shards: how many there are.
        ignored_bits: how many of a token's highest bits don't count.
        shard: the one that serves the connection.
        port: the port that serves the shard ``source port % shards``, or None.
        tls_port: the same with TLS.
    """

    shards: int
    ignored_bits: int
    shard: int
    port: int | None = None
    tls_port: int | None = None

    @classmethod
    def from_supported(cls, options: Mapping[str, Sequence[str]]) -> Sharding | None:
        """Read what SUPPORTED says.

        Arguments:
            options: of SUPPORTED (v4 section 4.2.4).

        Returns:
            None if the node is none of Scylla's, or shards in a way that isn't known.
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
    # Digits alone: int() would take signs, spaces and the digits of all scripts too.
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    number = int(text)
    return number if number <= largest else None
