"""A table with versions, as a server keeps it, behind a network that loses what it is told to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.support.faulty_writes import FaultyWrites
from tests.support.scripted import Request, Scripted, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Accounts"]

_TEXT = re.compile(r'(UPDATE|INSERT INTO|SELECT) .*?"ks"\."accounts"')


class Accounts(FaultyWrites):
    """The rows of ``ks.accounts (id int PRIMARY KEY, name, balance, tags, version, writer)``.

    Attributes:
        shape: the type of each column.
        rows: the rows, by id.
        faults: see :class:`FaultyWrites`.
        before_write, before_read: called before each.
    """

    def __init__(self, *faults: str | None) -> None:
        self.shape = {
            "id": "int",
            "name": "text",
            "balance": "bigint",
            "tags": "list<text>",
            "version": "bigint",
            "writer": "uuid",
        }
        self.rows: dict[Any, dict[str, Any]] = {}
        super().__init__(*faults)
        self.before_write: Callable[[], None] = lambda: None
        self.before_read: Callable[[], None] = lambda: None
        self.executor = Scripted(self.answer)

    def add(self, id: int, **values: Any) -> dict[str, Any]:
        """Add a row past the recipe, and return it."""
        row = {**dict.fromkeys(self.shape), "version": 1, **values, "id": id}
        self.rows[id] = row
        return row

    @property
    def reads(self) -> int:
        return sum(each.text.startswith("SELECT * FROM") for each in self.executor.asked)

    def answer(self, request: Request) -> Any:
        if "system_schema" in request.text:
            return [
                {
                    "column_name": name,
                    "type": kind,
                    "kind": "partition_key" if name == "id" else "regular",
                    "position": 0 if name == "id" else -1,
                    "clustering_order": "none",
                }
                for name, kind in self.shape.items()
            ]
        if request.text.startswith("ALTER"):
            for name, kind in re.findall(r'ADD IF NOT EXISTS "(\w+)" (\w+)', request.text):
                self.shape.setdefault(name, kind)
            return None
        if "schema_version" in request.text:
            return [{"schema_version": 1}]
        if not request.conditional:
            self.before_read()
            row = self.rows.get(request.values["k0"])
            return [] if row is None else [dict(row)]
        self.before_write()
        return self.attempt(request)

    def apply(self, request: Request) -> Any:
        """Execute a conditional statement, or the conditional batch of one partition."""
        changes: list[tuple[Any, dict[str, Any]]] = []
        for text, values in request.statements:
            assert _TEXT.match(text), text
            if text.startswith("INSERT"):
                names = re.findall(r'"(\w+)"', text.split("(")[1])
                row = dict(zip(names, values.values(), strict=True))
                if row["id"] in self.rows:
                    return refusal([self.rows[row["id"]]])
                changes.append((row["id"], dict.fromkeys(self.shape) | row))
                continue
            head, _, condition = text.partition(" IF ")
            key = values["k0"]
            if condition and not self.holds(key, condition, values):
                row = self.rows.get(key, {})
                return refusal([{"version": row["version"]}] if row else [])
            sets = head.partition(" SET ")[2].partition(" WHERE ")[0]
            changes.append((key, {n: values[m] for n, m in re.findall(r'"(\w+)" = :(\w+)', sets)}))
        for key, change in changes:
            self.rows[key] = self.rows.get(key, {"id": key}) | change
        return True

    def holds(self, key: Any, condition: str, values: dict[str, Any]) -> bool:
        row = self.rows.get(key) or {}
        for each in condition.split(" AND "):
            found = re.fullmatch(r'"(\w+)" (!?=) (null|:expected)', each)
            assert found, each
            wanted = None if found[3] == "null" else values["expected"]
            if (row.get(found[1]) == wanted) is (found[2] == "!="):
                return False
        return True
