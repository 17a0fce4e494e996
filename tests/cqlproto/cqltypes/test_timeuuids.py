"""Timeuuids from and to datetimes."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    encoder,
    max_timeuuid,
    min_timeuuid,
    timeuuid_datetime,
    timeuuid_of,
)
from cqlproto.cqltypes.ordering import sort_key

moments = st.datetimes(datetime(1583, 1, 1), datetime(5236, 1, 1), timezones=st.just(UTC))
sequences, nodes = st.integers(0, (1 << 14) - 1), st.integers(0, (1 << 48) - 1)
encode, order = encoder(NATIVE_TYPES["timeuuid"]), sort_key(NATIVE_TYPES["timeuuid"])


@given(moments, sequences, nodes)
def test_there_and_back(moment: datetime, sequence: int, node: int) -> None:
    made = timeuuid_of(moment, clock_sequence=sequence, node=node)
    assert (made.version, made.variant) == (1, uuid.RFC_4122)
    assert (made.clock_seq, made.node) == (sequence, node)
    assert timeuuid_datetime(made) == moment
    assert timeuuid_datetime(made).tzinfo is UTC


@given(moments, sequences, nodes)
def test_those_of_a_millisecond_lie_between_the_least_and_the_greatest(
    moment: datetime, sequence: int, node: int
) -> None:
    def place(value: uuid.UUID) -> Any:
        return order(encode(value))

    made = timeuuid_of(moment, clock_sequence=sequence, node=node)
    least, most = min_timeuuid(moment), max_timeuuid(moment)
    assert place(least) <= place(made) <= place(most)
    assert place(max_timeuuid(moment - timedelta(milliseconds=1))) < place(least)
    assert timeuuid_datetime(least) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_the_time_that_others_read() -> None:
    made = uuid.UUID("2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d")
    assert timeuuid_datetime(made) == datetime(2019, 3, 6, 23, 25, 48, 172_000, tzinfo=UTC)
    again = timeuuid_of(
        timeuuid_datetime(made).astimezone(timezone(timedelta(hours=-5))),
        clock_sequence=made.clock_seq,
        node=made.node,
    )
    assert again == made


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: min_timeuuid(datetime(2024, 1, 1)), ValueError, "must have a time zone"),
        (lambda: max_timeuuid(datetime(1500, 1, 1, tzinfo=UTC)), ValueError, "1582 to 5236"),
        (lambda: min_timeuuid(datetime(5237, 1, 1, tzinfo=UTC)), ValueError, "1582 to 5236"),
        (lambda: min_timeuuid(date(2024, 1, 1)), TypeError, "must be a datetime, got date"),  # type: ignore[arg-type]
        (lambda: timeuuid_datetime(uuid.uuid4()), ValueError, "version 1, got .* of version 4"),
        (lambda: timeuuid_datetime("2c5e"), TypeError, "must be a UUID, got str"),  # type: ignore[arg-type]
        (
            lambda: timeuuid_of(datetime.now(UTC), clock_sequence=1 << 14, node=0),
            ValueError,
            "clock_sequence must be 0 to 16383, got 16384",
        ),
        (
            lambda: timeuuid_of(datetime.now(UTC), clock_sequence=0, node=-1),
            ValueError,
            "node must be 0 to 281474976710655, got -1",
        ),
    ],
)
def test_what_is_no_timeuuid(make: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make()
