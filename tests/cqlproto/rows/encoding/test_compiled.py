"""Compiled packers against the plain loop."""

from __future__ import annotations

import gc
import sys
from array import array
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from struct import error as StructError
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid1

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import (
    EMPTY,
    UNSET,
    LocalProtocolError,
    ProtocolVersion,
    ValueConversionError,
)
from cqlproto.cqltypes import NATIVE_TYPES, Date, Duration, ListType, Time, Timestamp
from cqlproto.rows import Binder
from cqlproto.rows.encoding.binder import FRAMES_BEFORE_COMPILING
from cqlproto.rows.encoding.compiled import (
    FRAMES_BEFORE_CELL_BY_CELL,
    FRAMES_WHEN_KNOWN,
    MAX_SHAPES,
    is_known,
)
from cqlproto.testing import cql_types, values_of
from tests.cqlproto.rows.encoding.test_binder import ONE, V4, options, prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
LIST = ListType(INT)


def compiled(binder: Binder, values: Sequence[Any]) -> Binder:
    """Use a binder until it has compiled both packers."""
    early = binder.frame
    for _ in range(FRAMES_BEFORE_COMPILING + 1):
        binder.frame(1, values)
    assert binder.frame is not early
    if any(value is None for value in values):
        for _ in range(FRAMES_BEFORE_CELL_BY_CELL + 1):
            binder.frame(1, values)
    return binder


def compiled_with_nulls(*types: Any) -> Binder:
    return compiled(Binder(prepared(*types), ONE, V4), [None] * len(types))


def outcome(frame: Callable[[int, Sequence[Any]], bytes], values: Sequence[Any]) -> object:
    try:
        return frame(7, values)
    except (ValueConversionError, LocalProtocolError) as error:
        return type(error), str(error)


class Text(str):
    """A str of an unusual class."""


class NoZone(tzinfo):
    """A time zone without an offset: a datetime with it is naive."""

    def utcoffset(self, when: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 999_999)
# Values of all classes that are taken somewhere, and some that are not.
ODD = (
    [None, UNSET, EMPTY, True, 0, -1, 1 << 31, 1 << 70, -(1 << 1100), 1.5, float("inf"), 1e300, "",
     "x", "\ud800", "\xff", Text("x"), b"", b"x", bytearray(b"x"), memoryview(b"xyz")[::2],
     memoryview(array("i", [1, 2])), Decimal("NaN"), Decimal("-Infinity"), Decimal("-0.00"),
     Decimal("1E+3"), Decimal("1.5E-9"), Decimal(1 << 200), UUID(int=1), uuid1(), str(UUID(int=2)),
     [1], object, MOMENT, MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=NoZone()),
     MOMENT.replace(tzinfo=timezone(timedelta(hours=5))), datetime.max.replace(tzinfo=UTC),
     datetime.min.replace(tzinfo=UTC), date.min, date.max, time.max, time(1, tzinfo=UTC),
     timedelta(days=-1, microseconds=1), Timestamp(-(1 << 63)), Date(-(1 << 31)), Time(1),
     Duration(1, 2, 3), IPv4Address("10.0.0.1"), IPv6Address("::1"), IPv6Address("fe80::1%eth0"),
     "10.0.0.1", "2026-02-28", (1, "x"), {1: "x"}, {1}]
)  # fmt: skip
odd = st.sampled_from(range(len(ODD))).map(ODD.__getitem__)  # not all can be hashed


@settings(max_examples=80)
@given(st.data())
def test_equal_for_every_type_option_and_value(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = data.draw(st.lists(cql_types(max_leaves=2), max_size=4))
    metadata_id = b"m" if version.has_result_metadata_id else None
    statement = prepared(*types, metadata_id=metadata_id)
    binder = Binder(statement, data.draw(options(version)), version)
    compiled(binder, [None] * len(types))
    for _ in range(4):
        values = [data.draw(values_of(cql_type) | odd) for cql_type in types]
        assert outcome(binder.frame, values) == outcome(binder.plain_frame, values)
        assert outcome(binder.frame, tuple(values)) == outcome(binder.plain_frame, values)


KINDS = st.lists(st.sampled_from(list(NATIVE_TYPES)), max_size=8)


@settings(max_examples=300)
@given(st.data())
def test_equal_for_scalars_side_by_side(data: st.DataObject) -> None:
    """Runs of fixed size between cells of variable size, which are packed together."""
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = [NATIVE_TYPES[name] for name in data.draw(KINDS)]
    binder = Binder(prepared(*types, metadata_id=b"m"), ONE, version)
    compiled(binder, [None] * len(types))
    usual = [data.draw(values_of(cql_type)) for cql_type in types]
    assert outcome(binder.frame, usual) == outcome(binder.plain_frame, usual)
    for _ in usual:
        usual[data.draw(st.integers(0, len(usual) - 1))] = data.draw(odd)
        assert outcome(binder.frame, usual) == outcome(binder.plain_frame, usual)


@settings(max_examples=200)
@given(st.data())
def test_equal_for_every_class_of_every_scalar(data: st.DataObject) -> None:
    """One odd value in a marker of each type, between a number and a text."""
    value = data.draw(odd)
    for name in NATIVE_TYPES:
        binder = known(INT, NATIVE_TYPES[name], TEXT)
        for values in ([1, value, "x"], [None, value, "x"], [1, value, None]):
            assert outcome(binder.frame, values) == outcome(binder.plain_frame, values)


@cache
def known(*types: Any) -> Binder:
    return compiled_with_nulls(*types)


DECIMALS = st.decimals() | st.decimals(allow_nan=False, places=3)


@settings(max_examples=300)
@given(DECIMALS, st.integers(), st.datetimes(timezones=st.just(UTC)), st.times(), st.dates())
def test_equal_for_what_is_computed(
    number: Decimal, whole: int, moment: datetime, clock: time, day: date
) -> None:
    """For values that the packers encode without an encoder."""
    names = ["decimal", "varint", "timestamp", "time", "date"]
    binder = known(*(NATIVE_TYPES[name] for name in names))
    for values in ([number, whole, moment, clock, day], [number, whole, moment, clock, None]):
        assert outcome(binder.frame, values) == outcome(binder.plain_frame, values)


def test_lengths_of_every_size() -> None:
    """Short lengths are looked up, long ones packed; the first is packed with the head."""
    blob = NATIVE_TYPES["blob"]
    binder = compiled_with_nulls(blob, blob, INT)
    for size in (0, 1, 254, 255, 256, 257, 70_000):
        for last in (1, None):
            values = [bytes(size), bytearray(size), last]
            assert binder.frame(1, values) == binder.plain_frame(1, values)


@settings(max_examples=150)
@given(st.data())
def test_equal_with_a_timestamp_for_each_frame(data: st.DataObject) -> None:
    """In every version, with all options before and after it."""
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = data.draw(st.lists(st.sampled_from([INT, TEXT, UUID_, LIST]), max_size=4))
    clock = [0]
    binder = Binder(
        prepared(*types, metadata_id=b"m"),
        data.draw(options(version)),
        version,
        timestamps=lambda: clock[0],
    )
    compiled(binder, [None] * len(types))
    for _ in range(4):
        clock[0] = data.draw(TIMESTAMPS)
        values = [data.draw(values_of(cql_type) | odd) for cql_type in types]
        assert outcome(binder.frame, values) == outcome(binder.plain_frame, values)


UUID_ = NATIVE_TYPES["uuid"]
TIMESTAMPS = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("types", [[], [INT], [INT, UUID_], [TEXT], [INT, TEXT, INT], [TEXT, LIST]])
def test_a_timestamp_is_asked_for_once_per_frame(types: list[Any]) -> None:
    asked = iter(range(10_000))
    binder = Binder(prepared(*types), ONE, V4, timestamps=lambda: next(asked))
    compiled(binder, [None] * len(types))
    usual = [{INT: 1, UUID_: UUID(int=1), TEXT: "x", LIST: [1]}[cql_type] for cql_type in types]
    for values in ([None] * len(types), usual):
        for frame in (binder.frame, binder.plain_frame):
            before = next(asked)
            assert frame(1, values)[-8:] == (before + 1).to_bytes(8, "big")
            assert next(asked) == before + 2


def test_code_with_a_timestamp_is_apart_from_code_without() -> None:
    """Both are cached and not mixed up."""
    types = [UUID_, TEXT, UUID_]
    values = [UUID(int=1), "x", UUID(int=2)]
    with_one = compiled(Binder(prepared(*types), ONE, V4, timestamps=lambda: 1), values)
    assert is_known(types, stamped=True)
    without = compiled(Binder(prepared(*types), ONE, V4), values)
    assert is_known(types)
    assert len(with_one.frame(1, values)) == len(without.frame(1, values)) + 8


@pytest.mark.parametrize("values", [(1, "x"), (None, "x")])
def test_a_timestamp_that_is_none_comes_out(values: tuple[Any, ...]) -> None:
    """The clock may raise, or return more than 64 bits."""
    answers: list[Any] = [0]

    def clock() -> Any:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    binder = Binder(prepared(INT, TEXT), ONE, V4, timestamps=clock)
    compiled(binder, [None, None])
    for answer in (1 << 63, "x", OverflowError("mine"), KeyError("mine")):
        answers[0] = answer
        kind = type(answer) if isinstance(answer, Exception) else StructError
        for frame in (binder.frame, binder.plain_frame):
            with pytest.raises(kind):
                frame(1, values)


def test_unset_is_a_local_error_on_v3() -> None:
    """In any position, and with any other error."""
    blob, listed = NATIVE_TYPES["blob"], ListType(INT)
    binder = compiled(Binder(prepared(INT, blob, listed), ONE, ProtocolVersion.V3), [None] * 3)
    for first in (1, None, UNSET, "x"):
        for values in ([first, UNSET, [1]], [first, b"", UNSET], [UNSET, b"", first]):
            with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
                binder.frame(1, values)
    assert binder.frame(1, [None, None, None]) == binder.plain_frame(1, [None, None, None])


def test_decimals_of_any_length() -> None:
    binder = known(NATIVE_TYPES["decimal"])
    for text in ("0", "-0.0", "1." + "2" * 37, "1." + "2" * 39, "-" + "9" * 5000, "1E-400", "1E+9"):
        values = [Decimal(text)]
        assert binder.frame(1, values) == binder.plain_frame(1, values)


@pytest.mark.parametrize("values", [(), (1,), (1, "a", 2)])
def test_a_wrong_number_of_values(values: tuple[Any, ...]) -> None:
    binder = compiled_with_nulls(INT, TEXT)
    with pytest.raises(LocalProtocolError, match=f"as many as bind markers .2., got {len(values)}"):
        binder.frame(1, values)


def test_what_was_refused_is_not_tried_again() -> None:
    """An iterator that was partly read would silently give fewer elements."""
    binder = compiled_with_nulls(LIST)
    with pytest.raises(ValueConversionError):
        binder.frame(1, (iter([1, "x", 3]),))
    binder = compiled_with_nulls(LIST, INT)
    with pytest.raises(ValueConversionError, match="column 'c1'"):
        binder.frame(1, (iter([1, 2, 3]), 1 << 40))
    assert binder.frame(1, (iter([1, 2]), 3)) == binder.plain_frame(1, ([1, 2], 3))


@pytest.mark.parametrize("raised", [OverflowError, StructError, ValueError, TypeError])
@pytest.mark.parametrize("last", [3, None])
def test_what_an_iterator_raises_is_the_cause(raised: type[Exception], last: int | None) -> None:
    """The iterator is not read again: it would be empty."""

    def elements() -> Iterator[int]:
        yield 1
        raise raised("mine")

    binder = compiled_with_nulls(LIST, INT)
    with pytest.raises(ValueConversionError, match="column 'c0' .*element 1: .*mine") as info:
        binder.frame(1, (elements(), last))
    assert isinstance(info.value.__cause__, raised)


@pytest.mark.parametrize("types", [(INT,), (INT, TEXT)])
def test_a_timestamp_that_does_not_fit_is_no_value(types: tuple[Any, ...]) -> None:
    binder = Binder(prepared(*types), ONE, V4, lambda: 1 << 70)
    for _ in range(FRAMES_BEFORE_COMPILING + 2):
        with pytest.raises(StructError):
            binder.frame(1, (1, "a")[: len(types)])


def test_code_is_shared_by_statements_with_the_same_types() -> None:
    """Another packer is then cheap and made early."""
    types = [TEXT, INT, LIST]
    compiled_with_nulls(*types)
    assert is_known(types)
    binder = Binder(prepared(*types), ONE, V4)
    early = binder.frame
    for _ in range(FRAMES_WHEN_KNOWN):
        assert binder.frame == early
        binder.frame(1, ["x", None, [1]])
    binder.frame(1, ["x", None, [1]])
    assert binder.frame != early
    for _ in range(FRAMES_WHEN_KNOWN + 2):
        frame = binder.frame(1, ["x", None, [1]])
    assert frame == binder.plain_frame(1, ["x", None, [1]])


def test_many_marker_lists_take_no_more_memory() -> None:
    """The caches are bounded."""
    kinds = [NATIVE_TYPES[name] for name in ("int", "text", "uuid", "double", "blob", "date")]
    nothing = [None] * 5

    def types_of(number: int) -> list[Any]:
        return [kinds[number // 6**place % 6] for place in range(5)]

    def use(start: int, stop: int) -> int:
        for number in range(start, stop):
            types = types_of(number)
            binder = Binder(prepared(*types), ONE, V4)
            for _ in range(FRAMES_BEFORE_COMPILING + 1):
                binder.frame(1, nothing)
            assert is_known(types)
        del binder
        gc.collect()
        return sys.getallocatedblocks()

    few = use(0, 500)
    assert use(500, 2000) < few + 1500
    assert sum(map(is_known, map(types_of, range(2000)))) == MAX_SHAPES


@pytest.mark.parametrize("width", [0, 1, 250, 251, 400])
def test_any_number_of_markers(width: int) -> None:
    kinds = [INT, TEXT, NATIVE_TYPES["double"], NATIVE_TYPES["uuid"]]
    types = [kinds[n % 4] for n in range(width)]
    values = [[n, str(n), n / 2, UUID(int=n)][n % 4] for n in range(width)]
    early = Binder(prepared(*types), ONE, V4)
    for _ in range(FRAMES_BEFORE_COMPILING + 3):
        assert early.frame(3, values) == early.plain_frame(3, values)
