"""Reading the server's trace of a request that was made with ``trace=True``.

A node writes the trace to ``system_traces`` while it works, and answers before the trace is
complete: the duration in the session's row is written last. So the trace is read repeatedly until
the duration is there. Other replicas may add events later; nothing tells how many.

A trace is written at the lowest consistency, to few replicas (two by default, in any datacenter).
So it is read at ONE.
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

# All columns, since they differ: 2.1 has no `client`, and newer servers have further ones.
SESSION = "SELECT * FROM system_traces.sessions WHERE session_id = ?"
EVENTS = "SELECT * FROM system_traces.events WHERE session_id = ?"

# All options are given, so that the session's own don't matter: they may trace, or limit the rows.
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
    """The trace of this id isn't there, or isn't complete.

    The node may still be writing it, its replicas may be down, or it may have expired: a trace is
    kept for a day.

    Attributes:
        trace: the incomplete trace, without a duration; None if there is none.
    """

    trace: Trace | None = None


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One step of a traced request.

    Attributes:
        at: when it was taken, by the clock of the node that took it.
        activity: what the node did.
        source: the node.
        elapsed: seconds since that node started on the request, or None.
        thread: the name of the server's thread.
    """

    at: datetime
    activity: str
    source: IPv4Address | IPv6Address | None
    elapsed: float | None
    thread: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """The server's trace of a request; ``print`` shows it as a table.

    Attributes:
        id: the trace's id.
        command: the kind of the request, such as ``QUERY``.
        client: the client's address as the server sees it.
        coordinator: the node that received the request.
        duration: how long the server took, in seconds; None while it is still working.
        started_at: when the request came, by the coordinator's clock.
        parameters: the request's parameters: consistency, text, bound values.
        request: a description of the request.
        events: the steps, in order.
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
        session: any session on the same cluster.
        tracing_id: the ``tracing_id`` of a result or a page.
        timeout: how long to wait for the trace, in seconds.

    Raises:
        TraceNotFound: the trace isn't there or isn't complete in time; ``error.trace`` is the part
            that is there.
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
                # read after the session's row: if that is complete, so are the events
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
