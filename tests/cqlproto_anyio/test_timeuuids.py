"""New timeuuids: unique and in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio import timeuuids


def test_they_are_in_order_and_of_now() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = [cql.timeuuid() for _ in range(1000)]
    assert made == sorted(made, key=lambda each: each.time)
    assert len({each.time for each in made}) == len(made)
    assert before < cql.timeuuid_datetime(made[0]) < datetime.now(UTC) + timedelta(seconds=1)
    assert len({each.node for each in made}) > 990
    assert all(each.node >> 40 & 1 and each.version == 1 for each in made)


def test_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [2_000_000_000_000_000_000, 1_000_000_000_000_000_000, 0]
    monkeypatch.setattr(timeuuids, "_last", 0)
    monkeypatch.setattr("time.time_ns", lambda: clock.pop(0))
    first, second, third = (cql.timeuuid() for _ in range(3))
    assert first.time < second.time < third.time
    assert cql.timeuuid_datetime(first) == datetime(2033, 5, 18, 3, 33, 20, tzinfo=UTC)


def test_one_of_a_given_moment() -> None:
    moment = datetime(2024, 2, 29, 12, 30, 0, 123_456, tzinfo=UTC)
    one, other = cql.timeuuid(moment), cql.timeuuid(moment)
    assert one != other
    assert cql.timeuuid_datetime(one) == cql.timeuuid_datetime(other) == moment
    assert cql.min_timeuuid(moment).time <= one.time <= cql.max_timeuuid(moment).time
    with pytest.raises(ValueError, match="must have a time zone"):
        cql.timeuuid(datetime(2024, 2, 29))
