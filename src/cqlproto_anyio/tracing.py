"""What the server did for a request: reading the trace that ``trace=True`` asked for.

A node writes a trace to ``system_traces`` while it works and answers before it has finished
writing: the row of the session gets its duration last. So the trace is read until it is complete.
What other replicas add may come later still; nothing says how much is to come.

A trace is written at the lowest consistency there is, to few replicas (two, by default, wherever
they are): it is read at ONE, from any data centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio

from cqlproto.enums import Consistency
from cqlproto_anyio._checks.values import seconds
from cqlproto_anyio._settings.profile import DEFAULTS, overlaid
from cqlproto_anyio.exceptions import ResultError, UsageError
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from cqlproto_anyio.executor import Executor

__all__ = ["Trace", "TraceEvent", "TraceNotFound", "fetch_trace"]

# All columns, whatever they are: 2.1 has no `client`, and newer servers have more than are read.
SESSION = "SELECT * FROM system_traces.sessions WHERE session_id = ?"
EVENTS = "SELECT * FROM system_traces.events WHERE session_id = ?"

# All options are given, and always the same: the session's may trace, or take few rows.
PROFILE = overlaid(
    DEFAULTS,
    {
        "timeout": None,
        "consistency": Consistency.ONE,
        "idempotent": True,
        "max_rows": 1_000_000,
        "page_size": 5000,
    },
)
_FIRST_PAUSE = 0.003
_LONGEST_PAUSE = 0.25
# A timeuuid counts 100 ns since the Gregorian calendar began; this is 1970.
_UNIX_EPOCH = 0x01B21DD213814000


class TraceNotFound(ResultError):
    """There is no complete trace of this id.

    It may be that the node is busy writing it, that its replicas are down, or that it has expired:
    traces are kept for a day.

    Attributes:
        trace: what there is of it, its duration unknown; None if there is nothing.
    """

    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """A step on the way.

    Attributes:
        at: when, by the clock of the node that took it.
        activity: what was done.
        source: the node.
        elapsed: seconds since that node began with the request, or None.
        thread: the name of the server's thread.
    """

    at: datetime
    activity: str
    source: IPv4Address | IPv6Address | None
    elapsed: float | None
    thread: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """What the server did for a request; ``print`` shows it as a table.

    Attributes:
        id: the trace's id.
        command: what kind of request it was, such as ``QUERY``.
        client: the client, as the server sees it.
        coordinator: the node that took the request.
        duration: how long the server took, in seconds; None while it is at work.
        started_at: when the request came, by the coordinator's clock.
        parameters: what it came with: consistency, text, bound values.
        request: what was done with it, in words.
        events: the steps, in their order.
    """

    id: UUID
    command: str | None
    client: IPv4Address | IPv6Address | None
    coordinator: IPv4Address | IPv6Address | None
    duration: float | None
    started_at: datetime | None
    parameters: Mapping[str, str]
    request: str | None
    events: tuple[TraceEvent, ...]

    def __str__(self) -> str:
        took = "unfinished" if self.duration is None else f"{self.duration * 1000:.3f} ms"
        lines = [f"{self.request} at {self.coordinator}, {took} ({self.id})"]
        for event in self.events:
            elapsed = "" if event.elapsed is None else f"{event.elapsed * 1000:.3f} ms"
            lines.append(f"{elapsed:>14}  {event.source}  {event.activity}")
        return "\n".join(lines)


async def fetch_trace(
    session: Executor, tracing_id: UUID | None, /, *, timeout: float = 5.0
) -> Trace:
    """Return the trace of a request, as soon as it is complete.

    Arguments:
        session: reads it; any session on the cluster will do.
        tracing_id: the ``tracing_id`` of a result or a page.
        timeout: how long to wait for it, in seconds.

    Raises:
        TraceNotFound: there is none, or it isn't complete yet; what there is of it is
            ``error.trace``.
        UsageError: ``tracing_id`` is None: the request was not traced.
        ConfigError: ``timeout`` is not a positive number.
        and what ``session.execute`` raises.
    """
    if tracing_id is None:
        raise UsageError("the request was not traced: pass trace=True to it")
    if not isinstance(tracing_id, UUID):
        raise TypeError(f"tracing_id is a {type(tracing_id).__name__}, not a UUID")
    timeout = seconds("timeout", timeout)
    trace: Trace | None = None
    with anyio.move_on_after(timeout):
        for reading in count(1):
            key = (tracing_id,)
            found = (await session.execute(SESSION, key, row=dict, profile=PROFILE)).first()
            if found is not None:
                # after the row of the session: when that is complete, so are these
                events = (await session.execute(EVENTS, key, row=dict, profile=PROFILE)).rows
                trace = _trace(tracing_id, found, events)
                if trace.duration is not None:
                    return trace
            await anyio.sleep(backoff(_FIRST_PAUSE, reading, _LONGEST_PAUSE))
    state = "isn't there" if trace is None else "isn't complete"
    error = TraceNotFound(f"the trace {tracing_id} {state} after {timeout:g} s")
    error.trace = trace
    raise error


def _trace(tracing_id: UUID, found: dict[str, Any], events: list[dict[str, Any]]) -> Trace:
    return Trace(
        tracing_id,
        found.get("command"),
        found.get("client"),
        found.get("coordinator"),
        _seconds(found.get("duration")),
        found.get("started_at"),
        found.get("parameters") or {},
        found.get("request"),
        tuple(map(_event, events)),
    )


def _event(row: dict[str, Any]) -> TraceEvent:
    return TraceEvent(
        datetime(1970, 1, 1, tzinfo=UTC)
        + timedelta(microseconds=(row["event_id"].time - _UNIX_EPOCH) // 10),
        row.get("activity") or "",
        row.get("source"),
        _seconds(row.get("source_elapsed")),
        row.get("thread"),
    )


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1e6
