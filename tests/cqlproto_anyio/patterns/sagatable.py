"""The tables of sagas, as a server keeps them, behind a faulty network, and what sagas do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from cqlproto_anyio.patterns import Saga, SagaContext, Sagas, Step
from tests.cqlproto_anyio.patterns.leasetable import LeaseTable
from tests.support.scripted import Request, Scripted, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SagaTable", "World"]


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
            return [{"saga": saga, "id": id} for saga, id in rows if self.open[saga, id][1]]
        key = values["saga"], values["id"]
        write = values["moment"], text.startswith("INSERT")
        self.open[key] = max(write, self.open.get(key, (0, False)), key=lambda each: each[0])
        return None

    def row(self, key: Any) -> list[dict[str, Any]]:
        names = (
            *("status", "step", "results", "error", "undo_error", "compensated"),
            *("updated_at", "data", "version", "writer"),
        )
        columns = {"saga": key[0], "id": key[1], **dict.fromkeys(names), **self.log.get(key, {})}
        return [{**columns, **row} for row in super().row(key)]

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


class World:
    """What the steps a, b, c of a saga have done, and how they fail.

    Attributes:
        calls: the calls, in order: ``a`` for an action, ``-a`` for an undo.
        effects: the operations that have taken effect and are not undone.
        failing: how often each of them fails yet, after it has taken effect.
    """

    def __init__(self, **failing: int) -> None:
        self.calls: list[str] = []
        self.effects: set[str] = set()
        self.failing = failing
        self.contexts: list[SagaContext] = []
        self.moment: Callable[[], None] = lambda: None  # called before and after each effect

    async def do(self, name: str, context: SagaContext) -> Any:
        self.calls.append(name)
        self.contexts.append(context)
        await anyio.sleep(0.01)
        self.moment()
        if name.startswith("-"):
            self.effects.discard(context.operation)
        else:
            self.effects.add(context.operation)
        self.moment()
        key = name.replace("-", "undo_")
        if self.failing.get(key, 0) > 0:
            self.failing[key] -= 1
            raise ValueError(f"{name} fails")
        return {"from": name}

    def steps(self, *, attempts: int = 1) -> list[Step]:
        def step(name: str) -> Step:
            action, undo = partial(self.do, name), partial(self.do, f"-{name}")
            return Step(name, action, undo=undo, attempts=attempts)

        return [step("a"), step("b"), Step("c", partial(self.do, "c"))]

    def sagas(self, executor: Scripted, **options: Any) -> Sagas:
        saga = Saga("s", self.steps(attempts=options.pop("attempts", 1)))
        options = {"ttl": 5, "undo_attempts": 2, "undo_delay": 0.1, **options}
        return Sagas(executor, keyspace="shop", sagas=[saga], **options)
