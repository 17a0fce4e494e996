"""The outcome of a bulk execution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from cqlproto_anyio.exceptions._failure import Failure

__all__ = ["BulkResult"]

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class BulkResult(Generic[P]):
    """The outcome of ``execute_many``.

    Attributes:
        count: the number of rows that have succeeded.
        failures: the rows that have failed, in the order in which they did.
    """

    count: int
    failures: tuple[Failure[P], ...]
