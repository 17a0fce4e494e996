"""Fast constructors make the same objects as the normal ones."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import Date, Duration, Time, Timestamp, constructors
from cqlproto.cqltypes.constructors import (
    BLANK_UUID,
    blank_class,
    date_of,
    duration_of,
    ipv4_maker,
    ipv4_of,
    time_of,
    timestamp_of,
    uuid_maker,
    uuid_of,
)


class Bare(UUID):
    """Without slots of its own."""

    __slots__ = ()


class Own(UUID):
    """With slots that hide those of the base."""

    __slots__ = ("int", "is_safe")


class Dictionary(UUID):
    """Without any slots."""


class Shy(UUID):
    """With slots that can't be read as they are set."""

    __slots__ = ("int", "is_safe")

    def __getattribute__(self, name: str) -> Any:
        if name == "int":
            raise AttributeError(name)
        return super().__getattribute__(name)


def same(made: Any, wanted: Any) -> None:
    assert type(made) is type(wanted)
    assert made == wanted
    assert hash(made) == hash(wanted)
    assert repr(made) == repr(wanted)
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == wanted


@given(st.binary(min_size=16, max_size=16))
def test_uuids_are_made_as_the_constructor_makes_them(data: bytes) -> None:
    """Also for classes without these slots or with others."""
    for cls in (UUID, Bare, Own, Dictionary):
        made = uuid_maker(cls)(data)
        assert type(made) is cls
        assert made == UUID(bytes=data)
        assert repr(made) == repr(cls(bytes=data))
        assert made.is_safe is cls(bytes=data).is_safe
        assert made.bytes == data
    same(uuid_of(data), UUID(bytes=data))
    with pytest.raises(TypeError, match="immutable"):
        uuid_of(data).int = 1  # type: ignore[misc]  # which is the point


class Counted(UUID):
    """A value that equals only itself."""

    __slots__ = ("int", "is_safe")

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = UUID.__hash__


def test_there_is_no_short_way_where_it_leads_elsewhere() -> None:
    one = UUID(int=1)
    assert blank_class(UUID, one, "int", "is_safe") is not None
    assert blank_class(UUID, one, "int") is None
    assert blank_class(Bare, Bare(int=1), "int", "is_safe") is None
    assert blank_class(Counted, Counted(int=1), "int", "is_safe") is None
    assert blank_class(dict, {}) is None
    assert blank_class(Shy, Shy.__new__(Shy), "int", "is_safe") is None
    assert blank_class(bool, True) is None
    assert BLANK_UUID is not None, "known to be there in every CPython up to 3.14"


@given(st.binary(min_size=4, max_size=4))
def test_addresses(data: bytes) -> None:
    class Other(IPv4Address):
        __slots__ = ()

    same(ipv4_of(data), IPv4Address(data))
    assert ipv4_of(data).packed == data
    assert type(ipv4_maker(Other)(data)) is Other
    assert ipv4_maker(Other)(data) == IPv4Address(data)


@given(st.integers(0, (1 << 32) - 1))
def test_dates(value: int) -> None:
    days = value - (1 << 31)
    made = date_of[value]
    if -719_162 <= days <= 2_932_896:
        same(made, date(1970, 1, 1) + timedelta(days))
    else:
        same(made, Date(days))
    assert date_of[value] is made


def test_dates_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constructors, "DATES_KEPT", 8)
    kept: Any = date_of
    kept.clear()
    for value in range(1 << 31, (1 << 31) + 100):
        assert date_of[value] == date(1970, 1, 1) + timedelta(value - (1 << 31))
        assert len(kept) <= 8


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
FIRST, LAST = -62_135_596_800_000, 253_402_300_799_999


@pytest.mark.parametrize("value", [FIRST - 1, FIRST, -1, 0, LAST, LAST + 1])
def test_timestamps_at_the_ends_of_time(value: int) -> None:
    assert type(timestamp_of(value)) is (datetime if FIRST <= value <= LAST else Timestamp)


@given(LONGS | st.integers(FIRST, LAST))
def test_timestamps(value: int) -> None:
    if FIRST <= value <= LAST:
        same(timestamp_of(value), EPOCH + timedelta(milliseconds=1) * value)
    else:
        same(timestamp_of(value), Timestamp(value))


DAY = 86_400_000_000_000


@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, DAY // 1000).map((1000).__mul__))
def test_times(value: int) -> None:
    made = time_of(value)
    if value % 1000 or not 0 <= value < DAY:
        same(made, Time(value))
    else:
        same(made, (EPOCH + timedelta(microseconds=value // 1000)).time())


@pytest.mark.parametrize("value", [-1000, DAY, DAY - 1000, -(1 << 63) // 1000 * 1000 + 1000])
def test_times_at_the_ends_of_the_day(value: int) -> None:
    assert type(time_of(value)) is (time if value == DAY - 1000 else Time)


@given(st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 31) - 1), st.integers(0, (1 << 63) - 1))
def test_durations(months: int, days: int, nanoseconds: int) -> None:
    made = duration_of(months, days, nanoseconds)
    same(made, Duration(months, days, nanoseconds))
    with pytest.raises(AttributeError):
        made.days = 1  # type: ignore[misc]  # which is the point


@dataclass(frozen=True, slots=True)
class Pair:
    left: int
    right: int


def test_any_class_with_slots_can_be_filled() -> None:
    blank = blank_class(Pair, Pair(1, 2), "left", "right")
    assert blank is not None
    made = blank()
    made.left, made.right = 3, 4
    made.__class__ = Pair
    assert made == Pair(3, 4)
