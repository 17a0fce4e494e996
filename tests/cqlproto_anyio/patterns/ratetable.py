"""The table of a rate limiter, as a server keeps it: with TTLs, and behind a faulty network."""

from __future__ import annotations

from typing import Any

import anyio

from tests.support.scripted import Request, Scripted, lost, refusal

__all__ = ["RateTable"]


class RateTable:
    """The partitions of keys.

    Attributes:
        states: the state of each key with its expiry.
        shares: the rows of each key, by slot and writer, with their expiry.
        faults: one for each conditional request in turn: ``reply`` (executed, but not told),
            ``request`` (never arrives), ``late`` (arrives with :meth:`deliver`), an exception (not
            executed), or None.
        outage: what every request raises.
    """

    def __init__(self, *faults: Any) -> None:
        self.states: dict[str, tuple[Any, float]] = {}
        self.shares: dict[str, dict[tuple[int, Any], tuple[int, float]]] = {}
        self.faults: list[Any] = list(faults)
        self.late: list[Request] = []
        self.outage: Exception | None = None
        self.executor = Scripted(self.answer)

    @property
    def reads(self) -> int:
        return sum(each.text.startswith("SELECT") for each in self.executor.asked)

    def answer(self, request: Request) -> Any:
        if self.outage is not None:
            return self.outage
        text, values = request.text, request.values
        if text.startswith("SELECT"):
            return self.rows(values["key"])
        until = anyio.current_time() + values.get("ttl", 0)
        if text.startswith("DELETE"):
            self.shares.pop(values["key"], None)
        elif text.startswith("INSERT"):
            place = values["slot"], values["writer"]
            self.shares.setdefault(values["key"], {})[place] = values["spent"], until
        else:
            return self.conditional(request)
        return None

    def conditional(self, request: Request) -> Any:
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
        """Let the requests that are under way arrive."""
        while self.late:
            self.apply(self.late.pop(0))

    def state(self, key: str) -> Any:
        state, until = self.states.get(key, (None, 0.0))
        return state if until > anyio.current_time() else None

    def apply(self, request: Request) -> Any:
        values = request.values
        state = self.state(values["key"])
        if state != values["before"]:
            return refusal([{"state": state}])
        self.states[values["key"]] = values["state"], anyio.current_time() + values["ttl"]
        return True

    def rows(self, key: str) -> list[dict[str, Any]]:
        state, at = self.state(key), anyio.current_time()
        rows: list[dict[str, Any]] = [
            {"state": state, "slot": slot, "writer": writer, "spent": spent}
            for (slot, writer), (spent, until) in self.shares.get(key, {}).items()
            if until > at
        ]
        if not rows and state is not None:
            rows = [{"state": state, "slot": None, "writer": None, "spent": None}]
        return rows
