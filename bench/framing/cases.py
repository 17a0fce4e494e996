"""The cases of framing: what a worker of ours and one of a peer have to agree on.

A case's ``work`` is one of

- ``frames``: cut a stream of v4 in chunks of 64 KiB into frames;
- ``write``, ``read``: v5, frames into segments, and segments in chunks of 64 KiB into frames; 128
  short ones travel in segments that they share, a long one in as many as it takes;
- ``encode``, ``decode``: one segment from and to its payload, without a connection around it;
- ``receive``: a connection with ``frames`` requests in flight takes the responses, ``chunk`` of
  them at once.

``size`` is that of a frame, header included. Its body is of words, so that LZ4 finds about as much
in it as in rows of texts.
"""

from __future__ import annotations

import random
from struct import Struct

__all__ = ["CHUNK", "SHARED", "chunks", "frame_of", "response", "row_body"]

CHUNK = 65_536
"""What a connection of ours receives at once, at most."""
SHARED = 128

_HEADER = Struct(">BBhBi")
_RESULT = 8
_WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "kappa", "lambda", "omega")


def frame_of(version: int, stream: int, size: int) -> bytes:
    """Return a response of so many bytes, with words for a body."""
    return response(version, stream, _text(size - _HEADER.size))


def _text(length: int) -> bytes:
    roll = random.Random(length)
    words = " ".join(
        f"{roll.choice(_WORDS)}-{roll.randrange(10_000)}"
        for _ in range(min(length, CHUNK) // 8 + 1)
    ).encode()
    return (words * (length // len(words) + 1))[:length]


def row_body(size: int) -> bytes:
    """Return the body of a RESULT of one row, without metadata: an int, and a text that fills it.

    Arguments:
        size: of the whole frame.
    """
    text = size - _HEADER.size - 16 - 4 - 8 - 4
    head = Struct(">iiiiiii").pack(2, 4, 2, 1, 4, 12_345, text)
    return head + _text(text)


def response(version: int, stream: int, body: bytes) -> bytes:
    """Return the frame of a RESULT."""
    return _HEADER.pack(version | 0x80, 0, stream, _RESULT, len(body)) + body


def chunks(data: bytes) -> list[bytes]:
    """Cut bytes as a socket would hand them out."""
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
