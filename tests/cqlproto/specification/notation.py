"""The notations of section 3, implemented again with ``int.to_bytes`` only.

The tests here use them to build the bytes that the specifications describe and compare the library
with these, so this module does not use the library.
"""

from __future__ import annotations

__all__ = [
    "byte",
    "bytes_",
    "int_",
    "long",
    "long_string",
    "short",
    "short_bytes",
    "string",
    "string_list",
    "string_map",
]


def byte(value: int) -> bytes:
    return value.to_bytes(1, "big")


def short(value: int) -> bytes:
    return value.to_bytes(2, "big")


def int_(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)


def long(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def string(text: str) -> bytes:
    return short(len(text.encode())) + text.encode()


def long_string(text: str) -> bytes:
    return int_(len(text.encode())) + text.encode()


def short_bytes(data: bytes) -> bytes:
    return short(len(data)) + data


def bytes_(data: bytes | None) -> bytes:
    return int_(-1) if data is None else int_(len(data)) + data


def string_list(texts: list[str]) -> bytes:
    return short(len(texts)) + b"".join(map(string, texts))


def string_map(texts: dict[str, str]) -> bytes:
    pairs = [string(key) + string(value) for key, value in texts.items()]
    return short(len(texts)) + b"".join(pairs)
