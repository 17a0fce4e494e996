"""Timestamps, dates, times and durations: accepted and refused values, and cells."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    Date,
    Duration,
    Time,
    Timestamp,
)
from cqlproto.exceptions import ValueConversionError
from tests.cqlproto.cqltypes.cells import (
    Odd,
    cases,
    check_cause_is_kept,
    check_malformed,
    check_read_as_written,
    check_refused,
    check_taken_as,
    encode,
)


class NoOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


class OddDatetime(datetime):
    """Like pandas.NaT: a datetime without a time."""

    @property
    def year(self) -> int:
        raise ZeroDivisionError("odd")

    @property
    def hour(self) -> int:
        raise ZeroDivisionError("odd")

    def utcoffset(self) -> Any:
        raise ZeroDivisionError("odd")


class OddDate(date):
    def toordinal(self) -> int:
        raise ZeroDivisionError("odd")


class OddTime(time):
    @property
    def hour(self) -> int:
        raise ZeroDivisionError("odd")


class OddSpan(timedelta):
    @property
    def nanoseconds(self) -> int:
        raise ZeroDivisionError("odd")


class OddZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> Any:
        raise ZeroDivisionError("odd")

    dst = tzname = utcoffset


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 999_999)


# The least and the greatest of each, and what is odd about it.
CELLS: dict[str, list[Any]] = {
    "date": [date(1, 1, 1), date(9999, 12, 31), Date(-(1 << 31)), Date((1 << 31) - 1)],
    "duration": [Duration(1, 2, 3), Duration(-1, -2, -3)],
    "time": [time(23, 59, 59, 999_999), Time(1), Time(-1), Time(86_400_000_000_000)],
    "timestamp": [datetime(2024, 2, 29, tzinfo=UTC), Timestamp(1 << 62), Timestamp(-(1 << 63))],
}
WRONG: dict[str, list[Any]] = {
    "date": [datetime(2024, 1, 1), 1, "2024-02-30", "", None, Timestamp(1)],
    "duration": [1, "1d", (1, 2, 3), None, timedelta.max],
    "time": [time(tzinfo=UTC), "12:00", -1, 86_400_000_000_000, 1.5, timedelta(1), True, None],
    "timestamp": [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=NoOffset()), 1.5, "2024-01-01"]
    + [1 << 63, True, None],
}
ODD: dict[str, list[Any]] = {
    "date": [OddDate(2026, 1, 1)],
    "duration": [OddSpan(1)],
    "time": [OddTime(1), Odd()],
    "timestamp": [OddDatetime(2026, 1, 1), MOMENT.replace(tzinfo=OddZone()), OddDate(2026, 1, 1)],
}
BROKEN: dict[str, list[bytes]] = {
    "date": [bytes(3), bytes(5)],
    "duration": [b"\x00", b"\x00\x00", bytes(4), b"\x02\x01\x00", b"\x00\x00\xff\x00"]
    + [b"\xf0\xff\xff\xff\xff\x00\x00" + b"\x00", b"\xf1\x00\x00\x00\x00\x00\x00"],
    "time": [bytes(7)],
    "timestamp": [bytes(4), bytes(9)],
}


def test_every_type_was_tried() -> None:
    assert CELLS.keys() == WRONG.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_read_as_it_was_written(name: str) -> None:
    check_read_as_written(name, CELLS[name])


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_what_a_type_does_not_take(name: str, value: object) -> None:
    check_refused(name, value)


@pytest.mark.parametrize(("name", "cell"), cases(BROKEN))
def test_a_malformed_cell_names_its_type(name: str, cell: bytes) -> None:
    check_malformed(name, cell)


@pytest.mark.parametrize("name", ODD)
def test_what_the_methods_of_a_value_raise_is_the_cause(name: str) -> None:
    check_cause_is_kept(name, ODD[name])


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("date", "2024-02-29", date(2024, 2, 29)),
        ("date", Date(0), date(1970, 1, 1)),
        ("duration", timedelta(days=-1, microseconds=1), Duration(0, 0, -86_399_999_999_000)),
        ("time", 1_000, time(microsecond=1)),
        ("time", 1_001, Time(1_001)),
        ("time", Time(1_000), time(microsecond=1)),
        ("time", Time(-1), Time(-1)),
        ("time", Time(86_400_000_000_000), Time(86_400_000_000_000)),
        ("timestamp", 0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("timestamp", Timestamp(-1), datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)),
        ("timestamp", date(2024, 2, 29), datetime(2024, 2, 29, tzinfo=UTC)),
        ("timestamp", date.min, datetime.min.replace(tzinfo=UTC)),
    ],
)
def test_what_a_type_takes_besides(name: str, value: object, same: object) -> None:
    check_taken_as(name, value, same)


@given(
    st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-23, minutes=-59))))
)
def test_a_timestamp_is_cut_off_at_its_millisecond(moment: datetime) -> None:
    milliseconds = int.from_bytes(encode("timestamp", moment), "big", signed=True)
    rest = moment - datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1) * milliseconds
    assert timedelta(0) <= rest < timedelta(milliseconds=1)


class Nano(datetime):
    """Like pandas.Timestamp: has nanoseconds, and years that datetime cannot hold."""

    nanosecond = 999
    far = 0

    @property
    def year(self) -> int:
        return super().year + self.far


class Reversed(datetime):
    """Like pendulum's: redefines subtraction."""

    def __sub__(self, other: Any) -> Any:
        return timedelta(12345)


class NanoSpan(timedelta):
    nanoseconds = 7


class MonthSpan(timedelta):
    months = 1


def test_subclasses_are_converted_exactly() -> None:
    aware = MOMENT.replace(tzinfo=UTC)
    cell = encode("timestamp", aware)
    for kind in (Nano, Reversed):
        assert encode("timestamp", kind.fromisoformat(aware.isoformat())) == cell
    zone = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        hour = (2026, 10, 25, 2, 30)
        assert encode("timestamp", Nano(*hour, tzinfo=zone, fold=fold)) == encode(
            "timestamp", datetime(*hour, tzinfo=zone, fold=fold)
        )
    assert encode("duration", NanoSpan(days=-1)) == encode(
        "duration", Duration(nanoseconds=-86_400 * 10**9 + 7)
    )


def test_subclasses_that_hold_more_are_refused() -> None:
    far = Nano(2026, 1, 1, tzinfo=UTC)
    far.far = 30_000
    for name, value, told in (
        ("timestamp", far, "own methods raise ValueError.*year"),
        ("timestamp", Nano(2026, 1, 1), "without a time zone"),
        ("duration", MonthSpan(1), "months have no fixed length: bind a Duration"),
    ):
        with pytest.raises(ValueConversionError, match=told):
            encode(name, value)


@pytest.mark.parametrize(
    ("name", "hint"), [("date", r"take its \.date\(\)"), ("timestamp", "give it a tzinfo")]
)
def test_a_common_mistake_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueConversionError, match=hint):
        encode(name, datetime(2024, 1, 1))
