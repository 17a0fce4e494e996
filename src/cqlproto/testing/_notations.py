"""The small things that messages are made of (v4 section 3), as strategies.

Texts and bytes are short: what is long in a message is a matter of counts and lengths, which other
tests go through one by one, while Hypothesis finds more among many short examples. Texts hold any
character, so that one which takes several bytes is never far.
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
    """None, or what the strategy gives."""
    return st.none() | strategy


def some(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """A short list, which may be empty."""
    return st.lists(strategy, max_size=_MOST)


string_lists: st.SearchStrategy[list[str]] = some(texts)
payloads: st.SearchStrategy[dict[str, bytes | None]] = st.dictionaries(
    texts, maybe(blobs), max_size=_MOST
)
