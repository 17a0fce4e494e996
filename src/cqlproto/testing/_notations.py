"""Strategies for the notations that messages consist of (v4 section 3).

Texts and bytes are short: Hypothesis finds more with many short examples, and other tests cover
long lengths and large counts. Texts contain any characters, those of several bytes included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hypothesis import strategies as st

from cqlproto.enums import Consistency

if TYPE_CHECKING:
    from cqlproto.wire import IPAddress

__all__ = [
    "addresses",
    "blobs",
    "consistencies",
    "endpoints",
    "flags",
    "ints",
    "longs",
    "maybe",
    "payloads",
    "serial_consistencies",
    "shorts",
    "some",
    "string_lists",
    "texts",
]

T = TypeVar("T")

_MOST = 3
_MOST_CHARACTERS = 8

texts: st.SearchStrategy[str] = st.text(max_size=_MOST_CHARACTERS)
blobs: st.SearchStrategy[bytes] = st.binary(max_size=_MOST_CHARACTERS)
flags: st.SearchStrategy[bool] = st.booleans()
shorts: st.SearchStrategy[int] = st.integers(0, (1 << 16) - 1)
ints: st.SearchStrategy[int] = st.integers(-(1 << 31), (1 << 31) - 1)
longs: st.SearchStrategy[int] = st.integers(-(1 << 63), (1 << 63) - 1)
consistencies: st.SearchStrategy[Consistency] = st.sampled_from(Consistency)
serial_consistencies: st.SearchStrategy[Consistency] = st.sampled_from(
    [level for level in Consistency if level.is_serial]
)
addresses: st.SearchStrategy[IPAddress] = st.ip_addresses()
endpoints: st.SearchStrategy[tuple[IPAddress, int]] = st.tuples(addresses, ints)


def maybe(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """Return a strategy for None or an example of ``strategy``."""
    return st.none() | strategy


def some(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Return a strategy for a short list, which may be empty."""
    return st.lists(strategy, max_size=_MOST)


string_lists: st.SearchStrategy[list[str]] = some(texts)
payloads: st.SearchStrategy[dict[str, bytes | None]] = st.dictionaries(
    texts, maybe(blobs), max_size=_MOST
)
