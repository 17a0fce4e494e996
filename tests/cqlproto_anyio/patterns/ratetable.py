"""The table of a rate limiter, as a server keeps it: with TTLs, and behind a faulty network."""

from __future__ import annotations

from typing import Any

import anyio

from tests.support.faulty_writes import FaultyWrites
from tests.support.scripted import Request, Scripted, refusal

__all__ = ["RateTable"]


class RateTable(FaultyWrites):
    """The partitions of keys.

    Attributes:
        states: the state of each key with its expiry.
        shares: the rows of each key, by slot and writer, with their expiry.
        faults: see :class:`FaultyWrites`.
        outage: what every request raises.
    """

    def __init__(self, *faults: Any) -> None:
        self.states: dict[str, tuple[Any, float]] = {}
        self.shares: dict[str, dict[tuple[int, Any], tuple[int, float]]] = {}
        super().__init__(*faults)
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
            return self.attempt(request)
        return None

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
