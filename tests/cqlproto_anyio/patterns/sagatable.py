"""The tables of sagas, as a server keeps them, behind a faulty network."""

from __future__ import annotations

from typing import Any

from tests.cqlproto_anyio.patterns.leasetable import LeaseTable
from tests.support.scripted import Request, refusal

__all__ = ["SagaTable"]


class SagaTable(LeaseTable):
    """The rows of sagas, with their leases, and the list of open ones.

    Attributes:
        log: the columns of each row besides those of the lease, by saga and id.
        open: the moment of the latest write for each id of the list, and whether it was added.
    """

    def __init__(self, *faults: Any) -> None:
        super().__init__(*faults)
        self.log: dict[Any, dict[str, Any]] = {}
        self.open: dict[Any, tuple[int, bool]] = {}

    def listed(self) -> list[str]:
        """Return the ids in the list of open sagas."""
        return sorted(id for (_, id), (_, added) in self.open.items() if added)

    async def answer(self, request: Request) -> Any:
        if "sagas_open" in request.text:
            return self.index(request.text, request.values)
        return await super().answer(named(request))

    def index(self, text: str, values: Any) -> Any:
        if text.startswith("SELECT"):
            assert values["shards"] == list(range(16))
            rows = sorted(each for each in self.open if each[0] == values["saga"])
            return [{"id": id} for saga, id in rows if self.open[saga, id][1]]
        key = values["saga"], values["id"]
        write = values["moment"], text.startswith("INSERT")
        self.open[key] = max(write, self.open.get(key, (0, False)), key=lambda each: each[0])
        return None

    def row(self, key: Any) -> list[dict[str, Any]]:
        names = (
            *("status", "step", "results", "error", "undo_error", "compensated"),
            *("updated_at", "data", "version", "writer"),
        )
        return [
            {**dict.fromkeys(names), **self.log.get(key, {}), **row} for row in super().row(key)
        ]

    def apply(self, request: Request) -> Any:
        request = named(request)
        if "SET status" not in request.text:
            return super().apply(request)
        values = request.values
        key = values.pop("name")
        found = self.log.get(key, {})
        if (self.fences.get(key), found.get("version")) != (values["fence"], values["before"]):
            return refusal(self.row(key))
        other = ("saga", "id", "fence", "before")
        self.log[key] = {name: value for name, value in values.items() if name not in other}
        return True


def named(request: Request) -> Request:
    """Return the request with the name of the lease that it is about."""
    statements = [
        (text, {**values, "name": (values["saga"], values["id"])})
        for text, values in request.statements
    ]
    return Request(statements, request.options)
