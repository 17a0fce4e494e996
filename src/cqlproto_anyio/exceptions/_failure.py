"""A row of a bulk execution that has failed. Imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Failure"]

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Failure(Generic[P]):
    """A row of ``execute_many`` that has failed.

    Attributes:
        index: the row's place in the source, from 0.
        row: the row, the object that the source gave.
        error: what ``execute`` would have raised. ``error.maybe_applied`` tells whether the row may
            have been written all the same.
    """

    index: int
    row: P
    error: Exception
