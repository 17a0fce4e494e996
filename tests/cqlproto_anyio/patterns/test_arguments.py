"""What users pass: times, points in time, numbers and text."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cqlproto_anyio.patterns._arguments import (
    MAX_TTL,
    aware,
    integer,
    micros,
    moment,
    now,
    one_of,
    seconds,
    text,
    ttl_seconds,
    utc_now,
)
from cqlproto_anyio.patterns._errors import InvalidInput


def test_points_in_time_are_aware() -> None:
    east = datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=2)))
    assert aware("start", east) == datetime(2024, 2, 28, 23, tzinfo=UTC)
    assert aware("start", east).tzinfo is UTC
    first = datetime.min.replace(tzinfo=timezone(timedelta(hours=2)))
    wrong: list[Any] = [datetime(2024, 2, 29), None, 0, "2024-02-29", first]
    for value in wrong:
        with pytest.raises(InvalidInput, match="start must be an aware datetime"):
            aware("start", value)


def test_clocks() -> None:
    assert now(utc_now).tzinfo is UTC
    with pytest.raises(InvalidInput, match=r"clock\(\) must be an aware datetime"):
        now(lambda: datetime(2024, 1, 1))


def test_lengths_of_time() -> None:
    assert seconds("ttl", timedelta(minutes=1)) == 60.0
    assert seconds("ttl", 1) == 1.0
    wrong: list[Any] = [-1, math.nan, "1", None, True, timedelta(seconds=-1), 10**400]
    for value in wrong:
        with pytest.raises(InvalidInput, match="ttl must be a timedelta or a number of seconds"):
            seconds("ttl", value)
    with pytest.raises(InvalidInput, match="0.5 to 2, got 3"):
        seconds("ttl", 3, least=0.5, most=2)


def test_ttls() -> None:
    assert ttl_seconds("ttl", 0.5) == 1
    assert ttl_seconds("ttl", timedelta(days=1)) == 86_400
    assert ttl_seconds("ttl", MAX_TTL) == MAX_TTL
    wrong: list[Any] = [0, -1, MAX_TTL + 1, math.inf, None]
    for value in wrong:
        with pytest.raises(InvalidInput, match="ttl must be"):
            ttl_seconds("ttl", value)


def test_numbers() -> None:
    assert integer("limit", 1, least=1) == 1
    wrong: list[Any] = [0, 11, True, 1.0, "1", None]
    for value in wrong:
        with pytest.raises(InvalidInput, match="limit must be an int from 1 to 10"):
            integer("limit", value, least=1, most=10)
    with pytest.raises(InvalidInput, match="of at least 0"):
        integer("limit", -1)


def test_texts() -> None:
    assert text("name", "a") == "a"
    wrong: list[Any] = ["", "ä" * 513, "\ud800", b"a", None, 1]
    for value in wrong:
        with pytest.raises(InvalidInput, match="name must be a text of 1 to 1024 bytes"):
            text("name", value)


def test_choices() -> None:
    assert one_of("mode", "a", "a", "b") == "a"
    wrong: list[Any] = ["c", "", None, 1, ["a"]]
    for value in wrong:
        with pytest.raises(InvalidInput, match="mode must be 'a', 'b' or 'd', got"):
            one_of("mode", value, "a", "b", "d")


def test_microseconds() -> None:
    for time in (datetime(2024, 2, 29, 1, 2, 3, 456_789, UTC), datetime(1901, 1, 1, tzinfo=UTC)):
        assert moment(micros(lambda time=time: time)) == time  # type: ignore[misc]  # bound here
    assert micros(lambda: datetime(1970, 1, 1, 0, 0, 1, 5, UTC)) == 1_000_005
