"""The tables of a stock, as a server keeps them, behind a faulty network."""

from __future__ import annotations

from typing import Any

from tests.support.faulty_writes import FaultyWrites
from tests.support.scripted import Request, Scripted, refusal

__all__ = ["StockTable"]


class StockTable(FaultyWrites):
    """The rows of items and of operations.

    Attributes:
        rows: the rows of ``stock``, by item and operation.
        items: the item of each operation: the rows of ``stock_operations``.
        faults: see :class:`FaultyWrites`.
        stale: how many reads at the usual consistency see no row yet.
    """

    def __init__(self, *faults: str | None) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.items: dict[str, str] = {}
        super().__init__(*faults)
        self.stale = 0
        self.executor = Scripted(self.answer)

    def answer(self, request: Request) -> Any:
        if not request.conditional:
            return self.read(request)
        return self.attempt(request)

    def read(self, request: Request) -> list[dict[str, Any]]:
        values = request.values
        if "stock_operations" in request.text:
            item = self.items.get(values["operation"])
            return [] if item is None else [{"item": item}]
        if self.stale and "consistency" not in request.options:
            self.stale -= 1
            return []
        names = dict.fromkeys(["", values["operation"]])
        return [self.rows[key] for name in names if (key := (values["item"], name)) in self.rows]

    def apply(self, request: Request) -> Any:
        """Execute a conditional request."""
        values = request.values
        operation, item = values["operation"], values["item"]
        if "stock_operations" in request.text:
            if operation in self.items:
                return refusal([{"operation": operation, "item": self.items[operation]}])
            self.items[operation] = item
            return True
        (_, level), (_, own) = request.statements
        found = self.rows.get((item, ""))
        if level["before"] != (found["version"] if found else None):
            return refusal([{"version": found["version"]}] if found else [])
        columns = dict.fromkeys(
            ("operation", "quantity", "reserved", "version", "amount", "state", "writer")
        )
        numbers = {name: level[name] for name in ("quantity", "reserved", "version")}
        assert 0 <= numbers["reserved"] <= numbers["quantity"], numbers
        self.rows[item, ""] = {**columns, **numbers, "operation": ""}
        about = {name: own[name] for name in ("operation", "amount", "state", "writer")}
        self.rows[item, operation] = {**columns, **about}
        return True
