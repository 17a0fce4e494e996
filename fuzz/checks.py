"""Helpers of the targets: a failed check, cutting a stream into pieces, equality of decoded values.

A target does not catch exceptions that the library does not document for the call, and raises
:class:`Finding` if a result is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import LosslessMap

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Finding", "pieces", "require", "same_value"]


class Finding(Exception):
    """A check of a target failed."""


def require(holds: object, claim: str, *shown: object) -> None:
    """Raise :class:`Finding` with ``claim`` and the values ``shown`` unless ``holds`` is true."""
    if not holds:
        raise Finding(": ".join([claim, *[f"{value!r:.300}" for value in shown]]))


def pieces(data: bytes, first: int, second: int) -> Iterator[bytes]:
    """Cut ``data`` into pieces of alternately ``first`` and ``second`` bytes; 0 counts as 1."""
    sizes = (first or 1, second or 1)
    position = turn = 0
    while position < len(data):
        size = sizes[turn]
        yield data[position : position + size]
        position += size
        turn ^= 1


def same_value(one: Any, other: Any) -> bool:
    """Whether two decoded values are equal, where NaN equals NaN.

    Sets and maps that contain NaN are compared by their size alone, because hashes of NaN differ.
    """
    if type(one) is not type(other):
        return False
    if one == other:
        return True
    if isinstance(one, float):
        return one != one and other != other
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, set | frozenset | Mapping | LosslessMap):
        return len(one) == len(other) and "nan" in repr(one) and "nan" in repr(other)
    return "nan" in repr(one) and repr(one) == repr(other)  # a LosslessSet
