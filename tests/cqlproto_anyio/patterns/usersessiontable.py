"""The table of user sessions, as a server keeps it: with a TTL for each column, and faults."""

from __future__ import annotations

import re
from typing import Any

import anyio

from tests.support.scripted import Request, Scripted, lost, refusal

__all__ = ["UserSessionTable"]

COLUMNS = ("user_id", "ip", "data", "created_at", "expires_at")


class UserSessionTable:
    """The rows, by owner and id; each column with its expiry.

    Attributes:
        faults: one for each conditional request in turn: ``reply`` (executed, but not told),
            ``request`` (never arrives), ``late`` (arrives with :meth:`deliver`), a function, which
            is called before the request is executed, or None.
    """

    def __init__(self, *faults: Any) -> None:
        self.cells: dict[tuple[bytes, str], dict[str, tuple[Any, float]]] = {}
        self.faults: list[Any] = list(faults)
        self.late: list[Request] = []
        self.executor = Scripted(self.answer)

    def row(self, key: tuple[bytes, str]) -> dict[str, Any]:
        """Return a row; empty if no column is left."""
        at = anyio.current_time()
        cells = self.cells.get(key, {})
        live = {name: value for name, (value, until) in cells.items() if until > at}
        if not any(value is not None for value in live.values()):
            return {}
        return {"owner": key[0], "id": key[1]} | {name: live.get(name) for name in COLUMNS}

    def rows(self, owner: bytes) -> list[dict[str, Any]]:
        found = [self.row(key) for key in self.cells if key[0] == owner]
        return [each for each in found if each]

    async def answer(self, request: Request) -> Any:
        values = request.values
        if request.text.startswith("SELECT"):
            if "id" not in values:
                return self.rows(values["owner"])
            row = self.row((values["owner"], values["id"]))
            return [row] if row else []
        fault = self.faults.pop(0) if self.faults else None
        if fault == "late":
            self.late.append(request)
        elif fault != "request":
            if callable(fault):
                await fault()
            answer = self.apply(request)
            if fault != "reply":
                return answer
        return lost()

    def deliver(self) -> None:
        """Let the requests that are under way arrive."""
        while self.late:
            self.apply(self.late.pop(0))

    def apply(self, request: Request) -> Any:
        text, values = request.statements[0]
        key = values["owner"], values["id"]
        row = self.row(key)
        until = anyio.current_time() + values.get("ttl", 0)
        if text.startswith("INSERT"):
            assert text.endswith("IF NOT EXISTS USING TTL :ttl")
            if row:
                return refusal([row])
            self.cells[key] = {name: (values[name], until) for name in COLUMNS}
        elif text.startswith("UPDATE"):
            assert text.endswith("IF expires_at < :expires_at")
            if not row:
                return refusal()
            if not row["expires_at"] < values["expires_at"]:
                return refusal([{"expires_at": row["expires_at"]}])
            for name in re.findall(r"(\w+) = :\1", text.partition("WHERE")[0]):
                self.cells[key][name] = values[name], until
        else:
            assert text.endswith("IF EXISTS")
            if not row:
                return refusal()
            for statement, each in request.statements:
                assert statement.startswith("DELETE")
                self.cells.pop((each["owner"], each["id"]), None)
        return True
