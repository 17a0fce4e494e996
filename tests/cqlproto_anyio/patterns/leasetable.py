"""A row with a lease, as a server keeps it: with TTLs on the test's clock, and a faulty network."""

from __future__ import annotations

from typing import Any

import anyio

from tests.support.scripted import Request, Scripted, lost, refusal

__all__ = ["LeaseTable"]


class LeaseTable:
    """The rows of a table with leases, by key.

    Attributes:
        fences, holders: the fence of each key; the holder with its expiry.
        faults: one for each conditional request in turn: ``reply`` (executed, but not told),
            ``request`` (never arrives), ``late`` (arrives with :meth:`deliver`), ``hang``
            (executed, and never answered), a number (answered after so many seconds), an exception
            (not executed), or None.
        late: the requests that are under way.
        history: the fences of the leases that were acquired, by key and in order.
    """

    def __init__(self, *faults: Any) -> None:
        self.fences: dict[Any, int] = {}
        self.holders: dict[Any, tuple[Any, str, float]] = {}
        self.faults: list[Any] = list(faults)
        self.late: list[Request] = []
        self.history: list[tuple[Any, int]] = []
        self.executor = Scripted(self.answer)

    async def answer(self, request: Request) -> Any:
        if not request.conditional:
            return self.row(request.values["name"])
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BaseException):
            return fault
        if fault == "late":
            self.late.append(request)
            return lost()
        if fault == "request":
            return lost()
        answer = self.apply(request)
        if fault == "reply":
            return lost()
        if fault == "hang":
            await anyio.sleep_forever()
        elif fault is not None:
            await anyio.sleep(fault)
        return answer

    def deliver(self) -> None:
        """Let the requests that are under way arrive."""
        while self.late:
            self.apply(self.late.pop(0))

    def holder(self, key: Any) -> Any:
        """Return the operation that holds a lease; None if it is free or has expired."""
        found = self.holders.get(key)
        return found[0] if found is not None and found[2] > anyio.current_time() else None

    def row(self, key: Any) -> list[dict[str, Any]]:
        if key not in self.fences:
            return []
        row: dict[str, Any] = {"fence": self.fences[key], "holder": self.holder(key)}
        row |= {"owner": None, "expires": None}
        if row["holder"] is not None:
            _, owner, until = self.holders[key]
            row |= {"owner": owner, "expires": int(until - anyio.current_time())}
        return [row]

    def apply(self, request: Request) -> Any:
        """Execute a conditional request."""
        text, values = request.text, request.values
        key = values["name"]
        holder, fence = self.holder(key), self.fences.get(key)
        frees = "holder = null" in " ".join(each for each, _ in request.statements)
        if frees and holder is not None:
            return refusal(self.row(key))
        if "IF fence = :before" in text and values["before"] != fence:
            return refusal(self.row(key))
        if "holder = :operation" in text.rpartition("IF")[2] and values["operation"] != holder:
            return refusal([{"holder": holder}] if key in self.fences else [])
        if text.startswith("DELETE"):
            del self.holders[key]
        if "SET fence = :fence" in text:
            assert values["fence"] > (fence or 0)
            self.fences[key] = values["fence"]
        if "ttl" in values:
            until = anyio.current_time() + values["ttl"]
            if holder is None:
                self.history.append((key, values["fence"]))
            self.holders[key] = values["operation"], values["owner"], until
        return True
