"""A bounded memory of what was seen last, by key."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

__all__ = ["Known"]


class Known(Generic[K, V]):
    """The latest value of each key; the least recently used keys are forgotten first.

    Arguments:
        most: how many keys are remembered.
    """

    __slots__ = ("_most", "_values")

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """Return the value of a key; None if it isn't known."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def set(self, key: K, value: V | None) -> None:
        """Remember a value; with None forget the key."""
        if value is None:
            self._values.pop(key, None)
            return
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)
