"""Ways to cut bytes, and to spoil them.

A stream has no boundaries: what one side writes at once comes in any pieces at the other, and a
reader that is right only for whole frames is wrong. :func:`splits` cuts as a network may,
:func:`every_split` goes through all cuts in two.

A peer may be broken or hostile. :func:`corrupted` spoils bytes that were right, which gets further
into a reader than :func:`noise` does, bytes that never were.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["corrupted", "every_split", "noise", "offsets", "splits"]

_MOST_CUTS = 8

# What lengths, counts and flags must not be taken for: limits of 8, 16 and 32 bits, and null.
_EXTREMES = [
    bytes.fromhex(text)
    for text in (
        *("00", "01", "7f", "80", "fe", "ff"),
        *("7fff", "8000", "ffff"),
        *("00000000", "7fffffff", "80000000", "ffffffff", "fffffffe", "fffffffd", "0fffffff"),
    )
]

# How other protocols begin, and frames of versions that nobody speaks here.
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
    """Return a strategy for offsets at which to cut so many bytes.

    They rise, none of them is 0 or ``size``, and there may be none: the bytes stay whole. Besides a
    few cuts anywhere there are even ones, byte by byte among them.

    Arguments:
        size: how many bytes there are.

    They suit :class:`LinkedPair`, which cuts every load of bytes at them:

        >>> from hypothesis import given
        >>> from cqlproto.testing import linked_pair
        >>> @given(offsets(64))
        ... def test_a_handshake_does_not_depend_on_pieces(cuts):
        ...     assert linked_pair(split=cuts).in_transit == (0, 0)
        >>> test_a_handshake_does_not_depend_on_pieces()
    """
    return _offsets(size) if size > 1 else st.just([])


def splits(data: bytes) -> st.SearchStrategy[list[bytes]]:
    """Return a strategy for pieces that make up ``data``: as they may come from a network.

    None of them is empty, since that is how a socket says that nothing more will come.

    Arguments:
        data: what is cut.

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
    """Yield ``data`` in two pieces, cut at every offset from 0 to its end.

    Arguments:
        data: what is cut.

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
    """Return a strategy for ``data`` with something wrong in one to three places.

    A bit is flipped, a length or a count becomes an extreme one, a few bytes are replaced, left
    out, put in or doubled, or the end is missing. What comes is never equal to ``data``, though it
    may mean something too.

    Arguments:
        data: bytes that are right; draw them from another strategy, or take what was recorded.

    The whole claim of a reader is that it reads or refuses:

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
    """Return a strategy for bytes that are no conversation: what else may reach an open port.

    Some begin as another protocol does, or as a frame; none of them is empty.

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
