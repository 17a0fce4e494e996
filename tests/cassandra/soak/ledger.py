"""Records the writes, to check afterwards which rows exist.

Every write has a unique key, and its value is derived from the key. So each row can be checked by
itself, and the ``maybe_applied`` of each error can be checked against one row. The ledger uses one
byte per write.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

__all__ = ["Ledger", "value_of"]

_UNDER_WAY, _ACKNOWLEDGED, _REFUSED, _UNKNOWN = range(4)


def value_of(number: int) -> str:
    """Return the text for a key: 32 to 2,048 characters."""
    digest = hashlib.md5(number.to_bytes(8, "big"), usedforsecurity=False).hexdigest()
    return digest * (1 + int(digest[:2], 16) // 4)


class Ledger:
    """The writes of a phase.

    Arguments:
        first: the first key.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._states = bytearray()

    def begin(self) -> int:
        """Return the key of a new write."""
        self._states.append(_UNDER_WAY)
        return self._first + len(self._states) - 1

    def acknowledged(self, number: int) -> None:
        """Record that the server has acknowledged a write."""
        self._states[number - self._first] = _ACKNOWLEDGED

    def failed(self, number: int, maybe_applied: bool) -> None:
        """Record that a write has failed, and whether it may have been applied."""
        self._states[number - self._first] = _UNKNOWN if maybe_applied else _REFUSED

    def some(self, random: Random) -> int | None:
        """Return the key of a random acknowledged write, more likely a recent one, or None."""
        states = self._states
        for _ in range(8):
            if states:
                index = len(states) - 1 - int(len(states) * random.random() ** 4)
                if states[index] == _ACKNOWLEDGED:
                    return self._first + index
        return None

    def must_be(self) -> Iterator[int]:
        """Return the keys of acknowledged writes."""
        return self._of(_ACKNOWLEDGED)

    def must_not_be(self) -> Iterator[int]:
        """Return the keys of writes that were not applied, as their errors say."""
        return self._of(_REFUSED)

    def _of(self, state: int) -> Iterator[int]:
        return (self._first + index for index, each in enumerate(self._states) if each == state)
