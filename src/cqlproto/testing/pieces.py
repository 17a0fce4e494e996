"""Strategies that split bytes into pieces, and that corrupt them.

A stream has no boundaries: bytes that are written at once may arrive in any pieces. :func:`splits`
splits bytes as a network may, :func:`every_split` yields all splits in two.

A peer may be broken or hostile. :func:`corrupted` changes valid bytes, which reaches deeper into a
reader than the arbitrary bytes of :func:`noise`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["corrupted", "every_split", "noise", "offsets", "splits"]

_MOST_CUTS = 8

# Extreme lengths, counts and flags: limits of 8, 16 and 32 bits, and null.
_EXTREMES = [
    bytes.fromhex(text)
    for text in (
        *("00", "01", "7f", "80", "fe", "ff"),
        *("7fff", "8000", "ffff"),
        *("00000000", "7fffffff", "80000000", "ffffffff", "fffffffe", "fffffffd", "0fffffff"),
    )
]

# The first bytes of other protocols, and of frames of any version.
_BEGINNINGS = [
    b"",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    bytes.fromhex("15030100020228"),
    *(bytes((version, 0, 0, 0)) for version in (2, 3, 4, 5, 6, 0x42)),
    *(bytes((0x80 | version, 0, 0, 0)) for version in (2, 3, 4, 5, 6, 0x42)),
]


@st.composite
def _offsets(draw: st.DrawFn, size: int) -> list[int]:
    inside = st.integers(1, size - 1)
    cuts = draw(st.lists(inside, max_size=_MOST_CUTS, unique=True))
    step = draw(st.none() | st.integers(1, size))
    if step is not None:
        cuts += range(step, size, step)
    return sorted(set(cuts))


def offsets(size: int) -> st.SearchStrategy[list[int]]:
    """Return a strategy for the offsets of a split.

    The offsets increase and exclude 0 and ``size``; an empty list means no split. Some examples are
    a few arbitrary offsets, others are regular, such as every byte.

    Arguments:
        size: the number of bytes to split.

    For example, as the ``split`` of a :class:`LinkedPair`:

        >>> from hypothesis import given
        >>> from cqlproto.testing import linked_pair
        >>> @given(offsets(64))
        ... def test_a_handshake_does_not_depend_on_pieces(cuts):
        ...     assert linked_pair(split=cuts).in_transit == (0, 0)
        >>> test_a_handshake_does_not_depend_on_pieces()
    """
    return _offsets(size) if size > 1 else st.just([])


def splits(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Return a strategy for the pieces of ``data``, as they may arrive from a network.

    No piece is empty, since an empty read of a socket means the end of the stream.

    Arguments:
        data: the bytes to split.

        >>> from hypothesis import given
        >>> @given(splits(b"in pieces"))
        ... def test_nothing_is_lost(pieces):
        ...     assert b"".join(pieces) == b"in pieces"
        ...     assert all(pieces)
        >>> test_nothing_is_lost()
    """

    def cut(bounds: list[int]) -> list[bytes]:
        return [data[start:stop] for start, stop in pairwise([0, *bounds, len(data)])]

    return offsets(len(data)).map(cut) if data else st.just([])


def every_split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield ``data`` in two pieces, split at every offset from 0 to its end.

    Arguments:
        data: the bytes to split.

        >>> list(every_split(b"ab"))
        [(b'', b'ab'), (b'a', b'b'), (b'ab', b'')]
    """
    for offset in range(len(data) + 1):
        yield data[:offset], data[offset:]


@st.composite
def _spoiled(draw: st.DrawFn, data: bytes) -> bytes:
    spoiled = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(spoiled)))
        stop = draw(st.integers(start, min(start + 8, len(spoiled))))
        kind = draw(st.sampled_from(["bit", "extreme", "replace", "double", "end"]))
        if kind == "bit" and start < len(spoiled):
            spoiled[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "extreme":
            extreme = draw(st.sampled_from(_EXTREMES))
            spoiled[start : start + len(extreme)] = extreme
        elif kind == "double":
            spoiled[start:start] = spoiled[start:stop]
        elif kind == "end":
            del spoiled[start:]
        else:
            spoiled[start:stop] = draw(st.binary(max_size=8))
    return bytes(spoiled)


def corrupted(data: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy for ``data`` with one to three changes.

    A change flips a bit, overwrites bytes with an extreme number, replaces, removes, inserts or
    duplicates a few bytes, or removes the end. The result is never equal to ``data``, but it may
    still be valid.

    Arguments:
        data: valid bytes, drawn from another strategy or recorded.

    For example, a test that a reader either reads or refuses them:

        >>> from contextlib import suppress
        >>> from hypothesis import given
        >>> from cqlproto import ProtocolVersion, RemoteProtocolError
        >>> from cqlproto.messages import read_response
        >>> from cqlproto.testing import response_frames
        >>> bodies = response_frames(ProtocolVersion.V4).flatmap(lambda f: corrupted(f.frame.body))
        >>> @given(bodies)
        ... def test_it_is_read_or_refused(body):
        ...     with suppress(RemoteProtocolError):
        ...         read_response(8, body, 0, ProtocolVersion.V4)
        >>> test_it_is_read_or_refused()
    """
    return _spoiled(data).filter(lambda spoiled: spoiled != data)


def noise() -> st.SearchStrategy[bytes]:
    """Return a strategy for arbitrary bytes, as an open port may receive them.

    Some begin like another protocol or like a frame; none are empty.

        >>> from contextlib import suppress
        >>> from hypothesis import given
        >>> from cqlproto import RemoteProtocolError, ServerConnection
        >>> @given(noise())
        ... def test_a_server_survives(data):
        ...     server = ServerConnection()
        ...     server.receive_data(data)
        ...     with suppress(RemoteProtocolError):
        ...         while server.next_event() is not None:
        ...             pass
        >>> test_a_server_survives()
    """
    parts = st.tuples(st.sampled_from(_BEGINNINGS), st.binary())
    return parts.map(b"".join).filter(bool)
