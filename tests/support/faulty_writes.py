"""Conditional writes behind a network that loses, delays or refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.scripted import lost

if TYPE_CHECKING:
    from tests.support.scripted import Request

__all__ = ["FaultyWrites"]


class FaultyWrites:
    """A table that executes writes in :meth:`apply`, each with the next fault.

    Attributes:
        faults: one for each write in turn: ``reply`` (executed, but not told), ``request`` (never
            arrives), ``late`` (arrives with :meth:`deliver`), an exception (not executed), or None.
        late: the writes that are under way.
    """

    def __init__(self, *faults: Any) -> None:
        self.faults: list[Any] = list(faults)
        self.late: list[Request] = []

    def apply(self, request: Request) -> Any:
        """Execute a write, and return the reply."""
        raise NotImplementedError

    def attempt(self, request: Request) -> Any:
        """Let a write meet the next fault."""
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            return fault
        if fault == "late":
            self.late.append(request)
        elif fault != "request":
            answer = self.apply(request)
            if fault is None:
                return answer
        return lost()

    def deliver(self) -> None:
        """Let the writes that are under way arrive."""
        while self.late:
            self.apply(self.late.pop(0))
