"""Cassandra's Murmur3 in its simplest form, and its inverse: the tests compare tokens with it."""

from __future__ import annotations

from cqlproto.routing import MAX_TOKEN, MIN_TOKEN

__all__ = ["key_of", "slow_token"]

WORD = 1 << 64
C1, C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
F1, F2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53


def rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) % WORD


def mixed(word: int) -> int:
    for factor in (F1, F2):
        word = (word ^ word >> 33) * factor % WORD
    return word ^ word >> 33


def scrambled_low(word: int) -> int:
    return rotated(word * C1 % WORD, 31) * C2 % WORD


def scrambled_high(word: int) -> int:
    return rotated(word * C2 % WORD, 33) * C1 % WORD


def slow_token(key: bytes) -> int:
    """Cassandra's Murmur3 by its definition: x64, 128 bits, signed bytes at the end."""
    a = b = 0
    whole = len(key) // 16 * 16
    for at in range(0, whole, 16):
        a ^= scrambled_low(int.from_bytes(key[at : at + 8], "little"))
        a = ((rotated(a, 27) + b) * 5 + 0x52DCE729) % WORD
        b ^= scrambled_high(int.from_bytes(key[at + 8 : at + 16], "little"))
        b = ((rotated(b, 31) + a) * 5 + 0x38495AB5) % WORD
    low = high = 0
    for place, byte in enumerate(key[whole:]):
        signed = byte - 256 if byte >= 128 else byte
        if place < 8:
            low ^= signed << 8 * place
        else:
            high ^= signed << 8 * (place - 8)
    b ^= scrambled_high(high % WORD)
    a ^= scrambled_low(low % WORD)
    a ^= len(key)
    b ^= len(key)
    a = (a + b) % WORD
    b = (b + a) % WORD
    found = (mixed(a) + mixed(b)) % WORD
    token = found - WORD if found >= WORD // 2 else found
    return MAX_TOKEN if token == MIN_TOKEN else token


def unshifted(word: int) -> int:
    """Undo ``word ^ word >> 33``."""
    return word ^ word >> 33


def key_of(token: int) -> bytes:
    """Return one of the keys of 16 bytes that have a token."""
    # Any two halves with this sum would do.
    a = token % WORD
    for factor in (F2, F1):
        a = unshifted(a) * pow(factor, -1, WORD) % WORD
    a, b = 2 * unshifted(a) % WORD, -unshifted(a) % WORD  # mixed(0) is 0
    a ^= 16
    b ^= 16
    fifth = pow(5, -1, WORD)
    b = rotated(((b - 0x38495AB5) * fifth - a) % WORD, 33)
    a = rotated((a - 0x52DCE729) * fifth % WORD, 37)
    low = rotated(a * pow(C2, -1, WORD) % WORD, 33) * pow(C1, -1, WORD) % WORD
    high = rotated(b * pow(C1, -1, WORD) % WORD, 31) * pow(C2, -1, WORD) % WORD
    return low.to_bytes(8, "little") + high.to_bytes(8, "little")
