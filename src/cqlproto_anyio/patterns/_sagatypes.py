"""What sagas are made of, and what is known about one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cqlproto_anyio.patterns._arguments import integer, text
from cqlproto_anyio.patterns._errors import InvalidInput

__all__ = ["Saga", "SagaContext", "SagaRecord", "SagaStatus", "Step"]


@dataclass(frozen=True, slots=True)
class SagaContext:
    """What an action and its undo are told.

    Attributes:
        data: what ``run`` was called with, as the codec decodes it.
        results: what the steps before this one have returned, by name; in an undo also what the
            step itself has returned, if that is known.
        operation: the same for the action and the undo of a step, however often they run, and for
            nothing else: pass it on as an idempotency key.
        fence: the fencing token of the worker's lease.
    """

    saga: str
    id: str
    step: str
    data: Any
    results: Mapping[str, Any]
    operation: str
    fence: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a saga, whose name has no ``/``.

    Attributes:
        action: an async function; the codec encodes what it returns. It may run again after a
            crash.
        undo: an async function that undoes the action. It may run again, and also when the action
            has had no effect.
        attempts: how often the action is tried.
    """

    name: str
    action: Callable[[SagaContext], Awaitable[Any]]
    undo: Callable[[SagaContext], Awaitable[Any]] | None = field(default=None, kw_only=True)
    attempts: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        _name(self.name)
        integer("attempts", self.attempts, least=1)
        for name, function in (("action", self.action), ("undo", self.undo)):
            called = getattr(function, "__call__", None)  # noqa: B004  # the method, which may be async
            known = map(inspect.iscoroutinefunction, (function, called))
            if not any(known) and (function is not None or name == "action"):
                raise InvalidInput(name, "an async function", function)


@dataclass(frozen=True, slots=True)
class Saga:
    """Steps, with different names, that are done one after the other, or undone in reverse."""

    name: str
    steps: Sequence[Step]

    def __post_init__(self) -> None:
        _name(self.name)
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps or not all(isinstance(each, Step) for each in self.steps):
            raise InvalidInput("steps", "at least one Step", self.steps)
        names = [each.name for each in self.steps]
        if len({*names}) < len(names):
            raise InvalidInput("steps", "steps with different names", names)


class SagaStatus(StrEnum):
    """Where a saga is."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    NEEDS_ATTENTION = "needs_attention"


@dataclass(frozen=True, slots=True)
class SagaRecord:
    """What the log says about a saga.

    Attributes:
        step: the current step, or the one that has failed; None if all are done.
        results: what its steps have returned, by name and in order.
        error: why the step has failed: ``ValueError: no funds``.
        compensated: the steps that were undone, in this order.
        updated_at: when the log was written last, by the clock of the program that did, in UTC.
        undo_error: why an undo has failed, if the saga needs attention.
    """

    saga: str
    id: str
    status: SagaStatus
    step: str | None
    data: Any
    results: Mapping[str, Any]
    error: str | None
    compensated: tuple[str, ...]
    updated_at: datetime
    undo_error: str | None = None


def _name(name: str) -> None:
    if "/" in text("name", name):
        raise InvalidInput("name", "a name without '/'", name)
