"""The table of a cache, as a server keeps it, with TTLs on the test's clock."""

from __future__ import annotations

import math
from typing import Any

import anyio

from tests.support.faulty_writes import FaultyWrites
from tests.support.scripted import Request, Scripted, refusal

__all__ = ["CacheTable"]


class CacheTable(FaultyWrites):
    """The rows of a cache.

    Attributes:
        cells: the value of each cell and when it expires, by namespace, key and column.
        faults: see :class:`FaultyWrites`.
        out: what every request raises.
    """

    def __init__(self, *faults: Any) -> None:
        self.cells: dict[tuple[str, str, str], tuple[Any, float]] = {}
        super().__init__(*faults)
        self.out: Exception | None = None
        self.executor = Scripted(self.answer)

    @property
    def reads(self) -> int:
        return sum(each.text.startswith("SELECT") for each in self.executor.asked)

    def answer(self, request: Request) -> Any:
        if self.out is not None:
            return self.out
        if request.text.startswith("SELECT"):
            return self.read(request.values)
        return self.attempt(request)

    def cell(self, namespace: str, key: str, column: str) -> Any:
        value, until = self.cells.get((namespace, key, column), (None, 0))
        return value if anyio.current_time() < until else None

    def read(self, values: Any) -> list[dict[str, Any]]:
        namespace = values["namespace"]
        rows = [
            {"key": key, **{each: self.cell(namespace, key, each) for each in ("version", "value")}}
            for key in dict.fromkeys(values.get("keys") or [values["key"]])
        ]
        return [row for row in rows if (row["version"], row["value"]) != (None, None)]

    def apply(self, request: Request) -> Any:
        values = request.values
        version = self.cell(values["namespace"], values["key"], "version")
        if "IF version = :before" in request.text and version != values["before"]:
            return refusal([{"version": version}] if version else [])
        if "IF version != :version" in request.text and version == values["version"]:
            return refusal([{"version": version}])
        for text, each in request.statements:
            place = each["namespace"], each["key"]
            if "version = :version" in text.partition(" IF ")[0]:
                self._set((*place, "version"), each["version"], each["keep"])
            if "value = :value" in text:
                self._set((*place, "value"), each["value"], each["ttl"])
            elif "value = null" in text:
                self._set((*place, "value"), None, 0)
        return True

    def _set(self, place: tuple[str, str, str], value: Any, ttl: int) -> None:
        self.cells[place] = value, anyio.current_time() + ttl if ttl else math.inf
