"""Reading traces with a scripted session; tests/cassandra reads real ones."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.tracing import TraceEvent, TraceNotFound, fetch_trace

ID = uuid.UUID("36b0a3e0-e5c5-11f1-862f-41340b5282c6")
NODE = IPv4Address("10.0.0.1")
BEGUN = datetime(2026, 11, 21, 16, 4, 21, 406000, tzinfo=UTC)


def session_row(duration: int | None) -> dict[str, Any]:
    return {
        "command": "QUERY",
        "client": IPv4Address("127.0.0.1"),
        "coordinator": NODE,
        "duration": duration,
        "parameters": None if duration is None else {"consistency_level": "ONE"},
        "request": "Execute CQL3 query",
        "started_at": BEGUN,
    }


def event_row(activity: str | None, elapsed: int | None) -> dict[str, Any]:
    return {
        "event_id": ID,
        "activity": activity,
        "source": NODE,
        "source_elapsed": elapsed,
        "thread": "main",
    }


class Scripted:
    """A session whose traces grow: each reading of the sessions' table takes the next row."""

    def __init__(self, *sessions: Any, events: Any = ()) -> None:
        self.sessions = list(sessions)
        self.events = list(events)
        self.asked: list[tuple[str, Any, Any]] = []

    async def execute(self, query: str, parameters: Any, /, **options: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        self.asked.append((query, parameters, options))
        if "system_traces.events" in query:
            return SimpleNamespace(rows=self.events)
        row = self.sessions.pop(0) if len(self.sessions) > 1 else self.sessions[0]
        if isinstance(row, Exception):
            raise row
        return SimpleNamespace(first=lambda: row)


async def fetch(scripted: Scripted, **options: Any) -> Any:
    session: Any = scripted
    return await fetch_trace(session, ID, **options)


async def test_it_is_read_until_it_is_complete() -> None:
    events = [event_row("Parsing", 1376), event_row(None, None)]
    scripted = Scripted(None, None, session_row(None), session_row(14041), events=events)
    trace = await fetch(scripted)
    assert trace.id == ID
    assert trace.duration == 0.014041
    assert trace.command == "QUERY"
    assert trace.client == IPv4Address("127.0.0.1")
    assert trace.coordinator == NODE
    assert trace.started_at == BEGUN
    assert trace.request == "Execute CQL3 query"
    assert trace.parameters == {"consistency_level": "ONE"}
    at = datetime(2026, 11, 21, 16, 4, 21, 406000, tzinfo=UTC)
    assert trace.events[0].at == at.replace(microsecond=trace.events[0].at.microsecond)
    assert trace.events == (
        TraceEvent(trace.events[0].at, "Parsing", NODE, 0.001376, "main"),
        TraceEvent(trace.events[0].at, "", NODE, None, "main"),
    )
    assert [query.split("system_traces.")[1].split()[0] for query, _, _ in scripted.asked] == [
        *("sessions", "sessions", "sessions", "events", "sessions", "events")
    ]


async def test_the_sessions_own_defaults_do_not_matter() -> None:
    scripted = Scripted(session_row(1))
    await fetch(scripted)
    for query, parameters, options in scripted.asked:
        assert parameters == (ID,)
        assert query.count("?") == 1
        assert options.keys() == {"profile", "row"}
        profile = options["profile"]
        assert profile.consistency is cql.Consistency.ONE
        assert profile.idempotent
        assert not profile.trace


async def test_events_carry_the_time_of_their_id() -> None:
    made = uuid.uuid1()
    row = event_row("step", 1)
    row["event_id"] = made
    trace = await fetch(Scripted(session_row(1), events=[row]))
    microseconds = (made.time - 0x01B21DD213814000) // 10
    difference = trace.events[0].at - datetime(1970, 1, 1, tzinfo=UTC)
    assert (difference.days * 86400 + difference.seconds) * 1_000_000 + (
        difference.microseconds
    ) == microseconds
    assert abs((trace.events[0].at - datetime.now(UTC)).total_seconds()) < 60


async def test_a_server_without_some_columns() -> None:
    """2.1 has no ``client`` column; the attribute is None."""
    row = session_row(1)
    del row["client"], row["parameters"]
    trace = await fetch(Scripted(row, events=[{"event_id": ID}]))
    assert (trace.client, trace.parameters, trace.duration) == (None, {}, 1e-6)
    assert (trace.events[0].activity, trace.events[0].source) == ("", None)


async def test_none_is_there() -> None:
    scripted = Scripted(None)
    with pytest.raises(TraceNotFound, match=rf"{ID} isn't there after 0.05 s") as info:
        await fetch(scripted, timeout=0.05)
    assert info.value.trace is None
    assert isinstance(info.value, cql.ResultError)
    assert 2 <= len(scripted.asked) < 20  # the pauses grow


async def test_it_stays_incomplete() -> None:
    scripted = Scripted(session_row(None), events=[event_row("Parsing", 1)])
    with pytest.raises(TraceNotFound, match=r"isn't complete after 0.05 s") as info:
        await fetch(scripted, timeout=0.05)
    assert info.value.trace is not None
    assert info.value.trace.duration is None
    assert info.value.trace.parameters == {}
    assert [event.activity for event in info.value.trace.events] == ["Parsing"]
    assert "unfinished" in str(info.value.trace)


async def test_a_session_that_hangs() -> None:
    class Hanging:
        async def execute(self, *args: Any, **options: Any) -> None:
            await anyio.sleep_forever()

    session: Any = Hanging()
    with anyio.fail_after(5), pytest.raises(TraceNotFound):
        await fetch_trace(session, ID, timeout=0.05)


async def test_what_the_reading_raises_arrives() -> None:
    error = cql.ConnectionFailed("gone", host="h", stage="request", elapsed=0.0)
    with pytest.raises(cql.ConnectionFailed) as info:
        await fetch(Scripted(None, error))
    assert info.value is error


async def test_cancelling_ends_it() -> None:
    with anyio.move_on_after(0.05) as scope:
        await fetch(Scripted(None), timeout=60)
    assert scope.cancelled_caught


async def test_mistakes() -> None:
    scripted: Any = Scripted(None)
    with pytest.raises(cql.UsageError, match="pass trace=True"):
        await fetch_trace(scripted, None)
    with pytest.raises(TypeError, match="a str, not a UUID"):
        await fetch_trace(scripted, str(ID))  # type: ignore[arg-type]  # the mistake under test
    wrong: Any
    for wrong in (0, -1, "1", None, True, float("nan")):
        with pytest.raises(cql.ConfigError, match="timeout must be a positive number of seconds"):
            await fetch_trace(scripted, ID, timeout=wrong)
    assert scripted.asked == []


async def test_it_prints_as_a_table() -> None:
    events = [event_row("Parsing SELECT", 1376), event_row("Done", None)]
    trace = await fetch(Scripted(session_row(14041), events=events))
    assert str(trace).splitlines() == [
        f"Execute CQL3 query at 10.0.0.1, 14.041 ms ({ID})",
        "      1.376 ms  10.0.0.1  Parsing SELECT",
        "                10.0.0.1  Done",
    ]
