"""The cases of framing, shared by cqlproto's worker and the peers' workers.

A case's ``work`` is one of

- ``frames``: read frames from a v4 stream in chunks of 64 KiB;
- ``write``, ``read``: on v5, write frames as segments, and read frames from segments in chunks of
  64 KiB; 128 short frames share segments, a long frame takes several;
- ``encode``, ``decode``: one segment from and to its payload, without a connection;
- ``receive``: a connection with ``frames`` requests in flight receives the responses, ``chunk`` of
  them at once.

``size`` is the size of a frame, including the header. The body consists of words, so that LZ4
compresses it about as well as rows of texts.
"""

from __future__ import annotations

import random
from struct import Struct

__all__ = ["CHUNK", "SHARED", "chunks", "frame_of", "response", "row_body"]

CHUNK = 65_536
"""The maximum number of bytes that a connection of cqlproto receives at once."""
SHARED = 128

_HEADER = Struct(">BBhBi")
_RESULT = 8
_WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "kappa", "lambda", "omega")


def frame_of(version: int, stream: int, size: int) -> bytes:
    """Return a response of ``size`` bytes, with a body of words."""
    return response(version, stream, _text(size - _HEADER.size))


def _text(length: int) -> bytes:
    roll = random.Random(length)
    words = " ".join(
        f"{roll.choice(_WORDS)}-{roll.randrange(10_000)}"
        for _ in range(min(length, CHUNK) // 8 + 1)
    ).encode()
    return (words * (length // len(words) + 1))[:length]


def row_body(size: int) -> bytes:
    """Return the body of a RESULT of one row, without metadata: an int, and a text as filler.

    Arguments:
        size: the size of the complete frame, in bytes.
    """
    text = size - _HEADER.size - 16 - 4 - 8 - 4
    head = Struct(">iiiiiii").pack(2, 4, 2, 1, 4, 12_345, text)
    return head + _text(text)


def response(version: int, stream: int, body: bytes) -> bytes:
    """Return the frame of a RESULT."""
    return _HEADER.pack(version | 0x80, 0, stream, _RESULT, len(body)) + body


def chunks(data: bytes) -> list[bytes]:
    """Cut bytes into chunks as a socket would return them."""
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
