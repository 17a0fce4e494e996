"""The keyspaces of tenants, as a server keeps them."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import Mock

import anyio

from cqlproto_anyio.exceptions import AlreadyExists, InvalidQuery
from tests.cqlproto_anyio.patterns.leasetable import LeaseTable
from tests.support.scripted import Request, Scripted

__all__ = ["Keyspaces", "Scoped"]

LOG = (
    ("name", "text", "partition_key", 0),
    ("fence", "bigint", "regular", -1),
    ("holder", "uuid", "regular", -1),
    ("owner", "text", "regular", -1),
    ("before", "text", "regular", -1),
    ("applied_at", "timestamp", "regular", -1),
)


class Keyspaces(Scripted):
    """A session, and what its requests have made.

    Attributes:
        schemas: the statements that were executed in each keyspace, in order.
        logs: the rows of each keyspace's ``tenant_migrations``.
        leases: their leases.
        slow: how long each statement of a schema takes, in seconds.
        broken: for each statement, an exception that is raised instead of an answer, and whether
            the statement is executed all the same.
    """

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.schemas: dict[str, list[str]] = {}
        self.logs: dict[str, dict[str, dict[str, Any]]] = {}
        self.leases: dict[str, LeaseTable] = {}
        self.slow = 0.0
        self.broken: dict[str, tuple[Exception, bool]] = {}
        self.made = 0  # sessions

    def using(self, *, keyspace: str) -> Scoped:
        self.made += 1
        return Scoped(self, keyspace)

    @property
    def changes(self) -> list[str]:
        """The statements that have changed a schema, in order."""
        return [each.text for each in self.asked if re.match("CREATE|DROP|ALTER", each.text)]

    def _reply(self, request: Request) -> Any:
        text, values = request.text, request.values
        if "system_schema.keyspaces" in text:
            wanted = values.get("name")
            return [{"keyspace_name": n} for n in self.schemas if wanted in (None, n)]
        if "system_schema.columns" in text:
            names = ("column_name", "type", "kind", "position", "clustering_order")
            made = values["in_keyspace"] in self.logs
            return [dict(zip(names, (*row, "none"), strict=True)) for row in LOG if made]
        if "schema_version" in text:
            return [{"schema_version": "1"}]
        quoted = re.search(r'"(\w+)"', text)
        assert quoted is not None, text
        name = quoted[1]
        if text.startswith("CREATE KEYSPACE"):
            self.schemas.setdefault(name, [])
        elif text.startswith("DROP KEYSPACE"):
            self.schemas.pop(name, None)
            self.logs.pop(name, None)
        elif text.startswith("DESCRIBE"):
            return [{"create_statement": each} for each in self.schemas[name]]
        elif name not in self.schemas:
            return InvalidQuery(0x2200, f"Keyspace {name} doesn't exist", {}, host="h", query=text)
        elif text.startswith("CREATE TABLE"):
            self.logs.setdefault(name, {})
        elif "fence" in text or "holder" in text:
            return self.leases.setdefault(name, LeaseTable()).answer(request)
        else:
            return self._log(name, text, values)
        return None

    def _log(self, name: str, text: str, values: dict[str, Any]) -> Any:
        rows = self.logs[name]
        if text.startswith("SELECT"):
            none = {"before": None, "applied_at": None}
            return [{"name": n, **none, **rows[n]} for n in values["names"] if n in rows]
        key = values["name"]
        if text.startswith("DELETE"):
            rows.pop(key, None)
        else:
            rows.setdefault(key, {}).update({k: v for k, v in values.items() if k != "name"})
        return None

    async def change(self, keyspace: str, statement: str) -> Any:
        """Execute a statement of a schema."""
        self.asked.append(Request([(statement, None)]))
        await anyio.sleep(self.slow)
        schema = self.schemas[keyspace]
        error, executed = self.broken.get(statement, (None, True))
        if statement in schema:
            kind = AlreadyExists if statement.startswith("CREATE TABLE") else InvalidQuery
            code = 0x2400 if kind is AlreadyExists else 0x2200
            details = {"keyspace": keyspace, "table": "t"} if kind is AlreadyExists else {}
            raise kind(code, "already exists", details, host="h", query=statement)
        if executed:
            schema.append(statement)
        if error is not None:
            raise error
        return Mock(schema_agreed=True)


class Scoped(Scripted):
    """A session in a keyspace."""

    def __init__(self, keyspaces: Keyspaces, name: str) -> None:
        super().__init__(lambda request: None)
        self._keyspaces = keyspaces
        self.name = name

    async def execute(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        return await self._keyspaces.change(self.name, query)
