"""Tables as servers keep them: cells with timestamps, of which the latest wins."""

from __future__ import annotations

import re
from typing import Any

import anyio

from cqlproto.cqltypes import UNSET
from cqlproto_anyio.exceptions import UsageError
from tests.support.scripted import Request, Scripted, lost, refusal

__all__ = ["Cells"]

_NEVER = -(2**63)


class Cells(Scripted):
    """An executor on tables that are made on first use.

    Statements have ``:name`` markers and the plain forms that recipes send.

    Attributes:
        keys: the primary key of each table.
        tables: the rows of each table by key: the time of deletion, the time of the row marker, and
            the cells, each with its time.
        clock: the time of the latest write, in microseconds.
        delay: how long each request takes, in seconds.
        faults: one for each conditional request and batch in turn: ``reply`` (executed, but not
            told), ``request`` (never arrives), ``late`` (arrives with :meth:`deliver`), or None.
        late: the requests that are under way.
    """

    def __init__(self, **keys: tuple[str, ...]) -> None:
        super().__init__(self._reply)
        self.keys = keys
        self.tables: dict[str, dict[Any, list[Any]]] = {name: {} for name in keys}
        self.clock = 1_700_000_000_000_000
        self.delay = 0.0
        self.faults: list[str | None] = []
        self.late: list[tuple[Request, int | None]] = []

    async def _reply(self, request: Request) -> Any:
        await anyio.sleep(self.delay)
        batch = "kind" in request.options or len(request.statements) > 1
        timestamp = request.options.get("timestamp")
        fault = self.faults.pop(0) if (batch or request.conditional) and self.faults else None
        if fault == "late":
            self.late.append((request, timestamp))
            return lost()
        if fault == "request":
            return lost()
        answer = self.run(request, timestamp)
        return answer if fault is None else lost()

    def deliver(self) -> None:
        """Let the requests that are under way arrive."""
        while self.late:
            self.run(*self.late.pop(0))

    def run(self, request: Request, timestamp: int | None) -> Any:
        """Execute the statements of a request."""
        if timestamp is None:
            self.clock += 1
            timestamp = self.clock
        answer: Any = None
        for text, values in request.statements:
            answer = self._statement(text, dict(values or {}), timestamp)
        return answer

    def hand(self, text: str, **values: Any) -> Any:
        """Execute a statement of another program."""
        return self.run(Request([(text, values)]), None)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table, by column name."""
        return [found for key in self.tables[table] if (found := self.row(table, key)) is not None]

    def row(self, table: str, key: Any) -> dict[str, Any] | None:
        dead, marker, cells = self.tables[table].get(key) or (_NEVER, _NEVER, {})
        live = {name: value for name, (at, value) in cells.items() if at > dead}
        if marker <= dead and all(value is None for value in live.values()):
            return None
        return {**dict(zip(self.keys[table], key, strict=True)), **live}

    def _statement(self, text: str, values: dict[str, Any], at: int) -> Any:
        plain, _, condition = text.replace('"', "").partition(" IF ")
        found = re.search(r"(?:INTO|UPDATE|FROM) (?:\w+\.)?(\w+)", plain)
        assert found is not None, text
        table = found[1]
        verb, key = plain.split()[0], self._key(table, plain, values)
        if verb == "SELECT":
            return self._select(table, plain, key)
        row = self.row(table, key)
        if condition == "NOT EXISTS" and row is not None:
            return refusal([row])
        if condition and condition != "NOT EXISTS":
            pairs = re.findall(r"(\w+) = :(\w+)", condition)
            actual = {name: (row or {}).get(name) for name, _ in pairs}
            if any(actual[name] != values[marker] for name, marker in pairs):
                return refusal([actual] if row is not None else [])
        slot = self.tables[table].setdefault(key, [_NEVER, _NEVER, {}])
        if verb == "DELETE":
            slot[0] = max(slot[0], at)
        else:
            self._write(slot, self._cells(table, plain, values), at)
            if verb == "INSERT":
                slot[1] = max(slot[1], at)
        return True if condition else None

    def _key(self, table: str, text: str, values: dict[str, Any]) -> Any:
        if text.startswith("INSERT"):
            named = dict(self._inserted(text))
        else:
            named = dict(re.findall(r"(\w+) = :(\w+)", text.partition(" WHERE ")[2]))
        if not named:
            return None
        key = tuple(values[named[name]] for name in self.keys[table])
        if None in key:
            raise UsageError(f"null in the key of {table}")
        return key

    def _inserted(self, text: str) -> list[tuple[str, str]]:
        columns, markers = re.findall(r"\(([^()]*)\)", text)[:2]
        return list(zip(columns.split(", "), markers.replace(":", "").split(", "), strict=True))

    def _cells(self, table: str, text: str, values: dict[str, Any]) -> dict[str, Any]:
        if text.startswith("INSERT"):
            pairs = self._inserted(text)
        else:
            pairs = re.findall(r"(\w+) = :(\w+)", re.split(" SET | WHERE ", text)[1])
        return {
            name: values[marker]
            for name, marker in pairs
            if name not in self.keys[table] and values[marker] is not UNSET
        }

    def _write(self, slot: list[Any], cells: dict[str, Any], at: int) -> None:
        for name, value in cells.items():
            before, _ = slot[2].get(name, (_NEVER, None))
            if at > before or (at == before and value is None):
                slot[2][name] = at, value

    def _select(self, table: str, text: str, key: Any) -> Any:
        keys = list(self.tables[table]) if key is None else [key]
        columns = re.split(r" FROM ", text.removeprefix("SELECT "))[0].split(", ")
        answer = []
        for each in keys:
            row = self.row(table, each)
            if row is not None:
                cells = self.tables[table][each][2]
                answer.append(
                    {
                        column.partition(" AS ")[2] or column: self._value(column, row, cells)
                        for column in columns
                    }
                )
        return answer

    def _value(self, column: str, row: dict[str, Any], cells: dict[str, Any]) -> Any:
        found = re.match(r"WRITETIME\((\w+)\)", column)
        if found is None:
            value = row.get(column)
            return None if value == set() else value  # of a set that isn't frozen
        return cells[found[1]][0] if row.get(found[1]) is not None else None
