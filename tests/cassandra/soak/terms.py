"""The messages between the parent and the processes under load, and the checks of the figures.

Each message is a line of JSON.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

__all__ = ["IDEMPOTENT", "ONCE", "Figures", "Group", "Phase", "Resources"]

# The kinds of requests; load.py has a method for each.
IDEMPOTENT = ("write", "batch", "read", "text", "pages")
ONCE = ("once", "counter", "lwt")

# How late a busy machine may wake a process, in seconds.
SLACK = 3.0
# Within how many seconds the session must use a node that serves CQL again.
RECOVERY = 5.0
# How much the resident memory may grow, in MiB. The allocator gives little back to the system, so
# objects are counted as well.
GROWTH = 24.0
# By how many blocks memory may grow, for imported modules and cached statements. The number of
# requests does not matter.
BLOCKS = 10_000


@dataclass(frozen=True)
class Group:
    """Workers that make the same requests.

    Attributes:
        name: its name in the report.
        workers: the number of workers.
        kinds: the kinds of requests that each worker makes in turn.
        timeout: the timeout of each request, in seconds.
        speculation: after how many seconds a request is also sent to another node, or None.
        pause: how long a worker waits between two requests, in seconds.
        excused: errors that may reach the user although the request is idempotent: the name of a
            class, or a kind and the name (``batch WriteTimeout``).
    """

    name: str = "usual"
    workers: int = 8
    kinds: tuple[str, ...] = (*IDEMPOTENT, *ONCE)
    timeout: float = 15.0
    speculation: float | None = None
    pause: float = 0.05
    excused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Phase:
    """The time before, during and after a fault.

    Attributes:
        name: the name of the fault in the report.
        number: the number of the phase; the keys that it writes are derived from it.
        groups: the load.
        config: fields of ``Config`` that differ from the usual ones; the phase then has a session
            of its own.
        contact_points: where to connect, if not to the nodes themselves.
        translation: the address to connect to, by a node's own address.
        unanswered: how many replies may never come, so that their stream ids stay in use.
    """

    name: str
    number: int
    groups: tuple[Group, ...] = (Group(),)
    config: dict[str, Any] = field(default_factory=dict)
    contact_points: tuple[str, ...] = ()
    translation: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def own_session(self) -> bool:
        return bool(self.config or self.contact_points)

    @classmethod
    def read(cls, told: dict[str, Any]) -> Phase:
        groups = tuple(
            Group(**{**each, "kinds": tuple(each["kinds"]), "excused": tuple(each["excused"])})
            for each in told["groups"]
        )
        points = tuple(told["contact_points"])
        return cls(**{**told, "groups": groups, "contact_points": points})


@dataclass
class Resources:
    """The resources of a process while no request is in flight.

    Attributes:
        sockets: the number of open sockets.
        descriptors: the number of open descriptors of all kinds.
        tasks: the number of tasks of the event loop.
        requests: the number of request objects, of any class.
        connections: the number of connection objects.
        blocks: the number of blocks of Python's allocator.
        rss: resident memory, in MiB.
    """

    sockets: int = 0
    descriptors: int = 0
    tasks: int = 0
    requests: int = 0
    connections: int = 0
    blocks: int = 0
    rss: float = 0.0

    def more_than(self, before: Resources) -> list[str]:
        """Return which resources are more than before, one line each."""
        found = []
        for name in ("sockets", "descriptors", "tasks", "requests", "connections"):
            had, has = getattr(before, name), getattr(self, name)
            if has > had:
                found.append(f"{has} {name}, {had} before")
        if self.blocks > before.blocks + BLOCKS:
            found.append(f"{self.blocks} blocks of memory, {before.blocks} before")
        if self.rss > before.rss + GROWTH:
            found.append(f"{self.rss:.1f} MiB, {before.rss:.1f} before")
        return found


@dataclass
class Figures:
    """What one process has seen of a phase.

    Attributes:
        fault: the phase's name.
        backend: the event loop.
        seconds: how long it took.
        requests: how many succeeded, by kind.
        errors: how many failed, by group, kind and class.
        unexcused: errors that should not have reached the user (this and the following lists have
            the first few).
        late: requests that took longer than their timeout.
        wrong: rows that differ from what was written.
        lost: acknowledged writes that were not found.
        ghosts: writes that were found, although their error says that they were not applied.
        twice: counters and conditional statements which show that a request was applied twice.
        untyped: errors that are not a CQLError or name no host, and leaks of the phase's session.
        found: how many acknowledged writes were looked for and found.
        longest: the longest request, in seconds.
        recovery: by node, how long it took until it served again, in seconds.
        retries: how many requests were sent again.
        speculative: how many were sent to a second node before the first had answered.
        before: the resources before the load.
        after: the resources after the last check.
    """

    fault: str
    backend: str
    seconds: float = 0.0
    requests: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    unexcused: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    untyped: list[str] = field(default_factory=list)
    found: int = 0
    longest: float = 0.0
    recovery: dict[str, float] = field(default_factory=dict)
    retries: int = 0
    speculative: int = 0
    before: Resources = field(default_factory=Resources)
    after: Resources = field(default_factory=Resources)

    @classmethod
    def read(cls, told: dict[str, Any]) -> Figures:
        before, after = Resources(**told["before"]), Resources(**told["after"])
        return cls(**{**told, "before": before, "after": after})

    @property
    def total(self) -> int:
        """How many requests succeeded."""
        return sum(self.requests.values())

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(self.errors.values())

    def brief(self) -> str:
        """Return one line for the terminal."""
        problems = self.problems()
        verdict = f"{len(problems)} problems: {problems[0]}" if problems else "well"
        return (
            f"{self.fault:18} {self.backend:8} {self.seconds:5.1f} s {self.total:6} requests"
            f" {self.failed:5} failed, {verdict}"
        )

    def problems(self) -> list[str]:
        """Return all violations, one line each."""
        found = [
            f"{name}: {each}"
            for name in ("unexcused", "late", "wrong", "lost", "ghosts", "twice", "untyped")
            for each in getattr(self, name)
        ]
        found += [
            f"{node} was used again {seconds:.1f} s after it was back"
            for node, seconds in self.recovery.items()
            if seconds > RECOVERY
        ]
        found += [f"left behind: {each}" for each in self.after.more_than(self.before)]
        if not self.total or not self.found:
            found.append("there was no load")
        return [f"{self.fault}, {self.backend}: {each}" for each in found]


def told(value: Any) -> dict[str, Any]:
    """Return a dataclass of this module as a message."""
    return dataclasses.asdict(value)
