"""What each scalar type takes and refuses, and what its cells may be."""

from __future__ import annotations

import enum
import struct
import time as clock
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Context, Decimal, InvalidOperation, Overflow
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any
from uuid import UUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    UNSET,
    Date,
    Duration,
    Time,
    Timestamp,
    decoder,
    encoder,
    parse_type,
    scalars,
)
from cqlproto.cqltypes.exact import MOST_BYTES, MOST_DIGITS
from cqlproto.cqltypes.scalars import vector_width
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError

INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64, "counter": 64}


def encode(name: str, value: object) -> bytes:
    return encoder(NATIVE_TYPES[name])(value)


def decode(name: str, cell: bytes) -> Any:
    return decoder(NATIVE_TYPES[name])(cell)


# The least and the greatest of each, and what is odd about it.
CELLS: dict[str, list[Any]] = {
    "ascii": ["", "az"],
    "blob": [b"", b"\xff"],
    "boolean": [True, False],
    "date": [date(1, 1, 1), date(9999, 12, 31), Date(-(1 << 31)), Date((1 << 31) - 1)],
    "decimal": [Decimal("-1.50"), Decimal("1E+9"), Decimal(1 << 9000)],
    "double": [1.5, float("inf")],
    "duration": [Duration(1, 2, 3), Duration(-1, -2, -3)],
    "float": [1.5, float("-inf")],
    "inet": [IPv4Address("10.1.2.3"), IPv6Address("::1")],
    "text": ["", "Größe"],
    "time": [time(23, 59, 59, 999_999), Time(1), Time(-1), Time(86_400_000_000_000)],
    "timestamp": [datetime(2024, 2, 29, tzinfo=UTC), Timestamp(1 << 62), Timestamp(-(1 << 63))],
    "timeuuid": [uuid1()],
    "uuid": [UUID(int=0), UUID(int=(1 << 128) - 1)],
    "varint": [0, -129, 1 << 9000],
    **{name: [0, -1, 1] for name in INTEGERS},
}


class Index:
    """An integer that is no int, as the integers of NumPy are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Number(enum.IntEnum):
    FIVE = 5


def numpy_bool(value: bool) -> object:
    """Return what looks like a boolean of NumPy."""
    cls = type("bool_", (), {"__module__": "numpy", "__bool__": lambda _: value, "__index__": int})
    return cls()


class NoOffset(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


@pytest.mark.parametrize("name", [*INTEGERS, "varint"])
@pytest.mark.parametrize("value", [5, Index(5), Number.FIVE])
def test_integers_take_whatever_is_one(name: str, value: object) -> None:
    assert int.from_bytes(encode(name, value), "big") == 5


@pytest.mark.parametrize(("name", "bits"), INTEGERS.items())
def test_integers_have_a_range(name: str, bits: int) -> None:
    limit = 1 << bits - 1
    for value in (-limit, limit - 1):
        assert decode(name, encode(name, value)) == value
        assert encode(name, Index(value)) == encode(name, value)
    for value in (-limit - 1, limit, 1 << 99):
        with pytest.raises(ValueConversionError, match=f"out of range, {-limit} to {limit - 1}"):
            encode(name, value)


@pytest.mark.parametrize("name", sorted(NATIVE_TYPES))
def test_a_cell_is_read_as_it_was_written(name: str) -> None:
    for value in CELLS[name]:
        again = decode(name, encode(name, value))
        assert again == value
        assert type(again) is type(value)
    if name not in ("ascii", "blob", "text"):
        assert decode(name, encode(name, EMPTY)) is EMPTY


def test_a_scale_beyond_what_decimals_have_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decimal of 32 bits on a machine of 32 bits, where exponents have less."""
    narrow = Context(Emax=425_000_000, Emin=-425_000_000, traps=[Overflow, InvalidOperation])
    monkeypatch.setattr(scalars, "EXACT", narrow)
    assert decode("decimal", b"\0\0\0\1\x05") == Decimal("0.5")
    with pytest.raises(RemoteProtocolError, match="scale -2147483648 is out of range here"):
        decode("decimal", b"\x80\0\0\0\x05")


@pytest.mark.parametrize(
    "data", [b"", bytes(4), bytes(5), bytes(12), bytes(16), b"\x80" + bytes(15)]
)
def test_an_address_is_one_of_either_version(data: bytes) -> None:
    if len(data) in (0, 4, 16):
        wanted = {0: EMPTY, 4: IPv4Address(0), 16: data and IPv6Address(data.ljust(16))}[len(data)]
        assert decode("inet", data) == wanted
    else:
        with pytest.raises(RemoteProtocolError, match="4 or 16 expected"):
            decode("inet", data)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("int", 4),
        ("smallint", None),
        ("uuid", 16),
        ("text", None),
        ("vector<int, 3>", 12),
        ("vector<vector<double, 2>, 3>", 48),
        ("vector<text, 3>", None),
        ("list<int>", None),
    ],
)
def test_what_an_element_of_a_vector_takes(text: str, width: int | None) -> None:
    assert vector_width(parse_type(text)) == width


@given(st.integers())
def test_a_varint_takes_as_few_bytes_as_hold_its_sign(value: int) -> None:
    cell = encode("varint", value)
    assert int.from_bytes(cell, "big", signed=True) == value
    if len(cell) == 1:
        assert -128 <= value <= 127
    else:
        with pytest.raises(OverflowError):
            value.to_bytes(len(cell) - 1, "big", signed=True)
    assert decode("varint", cell) == value
    assert decode("varint", (b"\xff" if value < 0 else b"\x00") + cell) == value


WRONG: dict[str, list[Any]] = {
    "ascii": [b"a", 1, "é", "\ud800", None],
    "bigint": [1.0, "1", Decimal(1), None, True, numpy_bool(True)],
    "blob": ["a", 1, [1], None],
    "boolean": [0, 1, "true", b"\x01", None],
    "counter": [1.5, False],
    "date": [datetime(2024, 1, 1), 1, "2024-02-30", "", None, Timestamp(1)],
    "decimal": [1.5, "1.5", True, Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), None]
    + [Decimal("1E-2147483648"), Decimal("1E+2147483649")],
    "double": ["1.5", Decimal("1.5"), True, 1j, None, 1 << 1024, numpy_bool(True)],
    "duration": [1, "1d", (1, 2, 3), None, timedelta.max],
    "float": ["1.5", Decimal("1.5"), False, 1e39, -1e39, 1 << 1024, 1 << 200, None],
    "inet": [1, b"\x7f\x00\x00\x01", "localhost", "1.2.3", IPv6Address("fe80::1%eth0"), None],
    "int": [1.0, "1", Decimal(1), b"\0\0\0\1", None, UNSET, True],
    "smallint": [1.0, True],
    "text": [b"a", 1, "\ud800", "a\udfff", None, UNSET],
    "time": [time(tzinfo=UTC), "12:00", -1, 86_400_000_000_000, 1.5, timedelta(1), True, None],
    "timestamp": [datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=NoOffset()), 1.5, "2024-01-01"]
    + [1 << 63, True, None],
    "timeuuid": [UUID(int=0), "c037aeb0-9a2f-4bc7-8a3e-3a1f7d3c5e21", "x", 1, bytes(16), None],
    "tinyint": [1.0, True],
    "uuid": ["x", 1, bytes(16), "", None],
    "varint": [1.0, "1", True, None],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{value!r:.30}")
        for name in WRONG
        for value in WRONG[name]
    ],
)
def test_what_a_type_does_not_take(name: str, value: object) -> None:
    with pytest.raises(ValueConversionError) as caught:
        encode(name, value)
    assert caught.value.cql_type == name
    assert caught.value.value is value
    assert caught.value.reason
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", ["int", "double", "time", "timestamp", "text"])
def test_a_value_that_cannot_be_shown_is_refused_all_the_same(name: str) -> None:
    with pytest.raises(ValueConversionError) as caught:
        encode(name, 10**5000)
    assert str(caught.value).startswith(f"{name}: {caught.value.reason}, got int of 16,610 bits")


def test_every_type_was_tried() -> None:
    assert WRONG.keys() == NATIVE_TYPES.keys()


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("decimal", 0.1, r"use Decimal\(str\(x\)\)"),
        ("date", datetime(2024, 1, 1), r"take its \.date\(\)"),
        ("timestamp", datetime(2024, 1, 1), "give it a tzinfo"),
        ("int", UNSET, "a whole bound value"),
        ("int", True, "not a boolean"),
    ],
)
def test_a_common_mistake_gets_a_hint(name: str, value: object, hint: str) -> None:
    with pytest.raises(ValueConversionError, match=hint):
        encode(name, value)


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("ascii", "plain", "plain"),
        ("blob", bytearray(b"\x00\xff"), b"\x00\xff"),
        ("blob", memoryview(b"abcdef")[::2], b"ace"),
        ("boolean", numpy_bool(True), True),
        ("boolean", numpy_bool(False), False),
        ("date", "2024-02-29", date(2024, 2, 29)),
        ("date", Date(0), date(1970, 1, 1)),
        ("decimal", 7, Decimal(7)),
        ("decimal", Index(-7), Decimal(-7)),
        ("double", 3, 3.0),
        ("double", Index(3), 3.0),
        ("double", Fraction(1, 4), 0.25),
        ("float", 0.1, struct.unpack(">f", struct.pack(">f", 0.1))[0]),
        ("float", 3, 3.0),
        ("duration", timedelta(days=-1, microseconds=1), Duration(0, 0, -86_399_999_999_000)),
        ("inet", "::ffff:1.2.3.4", IPv6Address("::ffff:1.2.3.4")),
        ("inet", "127.0.0.1", IPv4Address("127.0.0.1")),
        ("time", 1_000, time(microsecond=1)),
        ("time", 1_001, Time(1_001)),
        ("time", Time(1_000), time(microsecond=1)),
        ("time", Time(-1), Time(-1)),
        ("time", Time(86_400_000_000_000), Time(86_400_000_000_000)),
        ("timestamp", 0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("timestamp", Timestamp(-1), datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)),
        ("timestamp", date(2024, 2, 29), datetime(2024, 2, 29, tzinfo=UTC)),
        ("timestamp", date.min, datetime.min.replace(tzinfo=UTC)),
        ("timeuuid", "00000000-0000-1000-0000-000000000000", UUID(int=1 << 76)),
        (
            "uuid",
            "{C037AEB0-9A2F-4BC7-8A3E-3A1F7D3C5E21}",
            UUID(hex="c037aeb09a2f4bc78a3e3a1f7d3c5e21"),
        ),
    ],
)
def test_what_a_type_takes_besides(name: str, value: object, same: object) -> None:
    again = decode(name, encode(name, value))
    assert again == same
    assert type(again) is type(same)


def test_a_fresh_timeuuid_is_one() -> None:
    value = uuid1()
    assert decode("timeuuid", encode("timeuuid", value)) == value


@given(
    st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-23, minutes=-59))))
)
def test_a_timestamp_is_cut_off_at_its_millisecond(moment: datetime) -> None:
    milliseconds = int.from_bytes(encode("timestamp", moment), "big", signed=True)
    rest = moment - datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1) * milliseconds
    assert timedelta(0) <= rest < timedelta(milliseconds=1)


@pytest.mark.parametrize(("name", "code"), [("float", "f"), ("double", "d")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_special_numbers_keep_their_bits(name: str, code: str, value: float) -> None:
    cell = struct.pack(f">{code}", value)
    assert encode(name, value) == cell
    assert encode(name, decode(name, cell)) == cell


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_decimal_is_exact_for_any_scale(unscaled: int, scale: int) -> None:
    cell = scale.to_bytes(4, "big", signed=True) + encode("varint", unscaled)
    value = decode("decimal", cell)
    sign, digits, exponent = value.as_tuple()
    assert (exponent, int("".join(map(str, digits)))) == (-scale, abs(unscaled))
    assert sign == (unscaled < 0)
    assert encode("decimal", value) == cell


def test_a_large_number_is_exact_and_does_not_take_quadratic_time() -> None:
    started = clock.process_time()
    cell = b"\x00\x00\x00\x05" + b"\x7f" * MOST_BYTES
    value = decode("decimal", cell)
    # The constructor of Decimal takes some seconds for this one.
    assert clock.process_time() - started < 1
    unscaled = int.from_bytes(cell[4:], "big")
    assert value.as_tuple().exponent == -5
    assert int(str(value)[-10:].replace(".", "")) == unscaled % 10**9
    started = clock.process_time()
    assert encode("decimal", value) == cell
    negative = value.copy_negate()
    assert decode("decimal", encode("decimal", negative)) == negative
    # So does int() for each of these.
    assert clock.process_time() - started < 2


def test_longer_decimals_are_refused_at_once() -> None:
    """Both ways, as a value and within others; a varint of any length takes no time."""
    started = clock.process_time()
    with pytest.raises(RemoteProtocolError, match="decimal: 16,000,004 bytes, at most 65,540 are"):
        decode("decimal", bytes(4) + b"\x7f" * 16_000_000)
    for value, told in (
        (Decimal("1" * 10_000_000), "10,000,000 digits, at most 157,827 are sent"),
        (Decimal("1" * 10_000_000 + ".5"), "10,000,001 digits"),
        (1 << 100_000_000, "12,500,001 bytes, at most 65,536 are sent"),
    ):
        with pytest.raises(ValueConversionError, match=told) as info:
            encode("decimal", value)
        assert len(str(info.value)) < 250
        assert encode("varint", 1 << 100_000_000)[0] == 1
    assert decode("varint", b"\x7f" * 1_000_000).bit_length() == 7_999_999
    assert clock.process_time() - started < 5
    longest = Decimal("9" * (MOST_DIGITS - 1))
    assert decode("decimal", encode("decimal", longest)) == longest


class Odd:
    """What its methods raise is the cause of the error."""

    def __index__(self) -> int:
        raise ZeroDivisionError("odd")


class OddDatetime(datetime):
    """As pandas.NaT: a datetime that is none."""

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


class OddUUID(UUID):
    @property
    def bytes(self) -> bytes:
        raise ZeroDivisionError("odd")


class OddAddress(IPv4Address):
    @property
    def packed(self) -> bytes:
        raise ZeroDivisionError("odd")


class OddDecimal(Decimal):
    def is_finite(self) -> bool:
        raise ZeroDivisionError("odd")


class OddFloat(float):
    def __float__(self) -> float:
        raise ZeroDivisionError("odd")


class OddBytes(bytes):
    def __bytes__(self) -> bytes:
        raise ZeroDivisionError("odd")


class OddZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> Any:
        raise ZeroDivisionError("odd")

    dst = tzname = utcoffset


MOMENT = datetime(2026, 2, 28, 23, 59, 59, 999_999)
ODD: dict[str, list[Any]] = {
    "bigint": [Odd()],
    "blob": [OddBytes(b"x")],
    "date": [OddDate(2026, 1, 1)],
    "decimal": [OddDecimal(1), Odd()],
    "double": [OddFloat(1), Odd()],
    "duration": [OddSpan(1)],
    "float": [OddFloat(1)],
    "inet": [OddAddress("10.0.0.1")],
    "int": [Odd()],
    "time": [OddTime(1), Odd()],
    "timestamp": [OddDatetime(2026, 1, 1), MOMENT.replace(tzinfo=OddZone()), OddDate(2026, 1, 1)],
    "timeuuid": [OddUUID(int=1)],
    "uuid": [OddUUID(int=1)],
    "varint": [Odd()],
}


@pytest.mark.parametrize("name", ODD)
def test_what_the_methods_of_a_value_raise_is_the_cause(name: str) -> None:
    for value in ODD[name]:
        with pytest.raises(ValueConversionError, match=f"{name}: .*methods raise .*odd") as info:
            encode(name, value)
        assert info.value.value is value
        assert info.value.cql_type == name
        assert isinstance(info.value.__cause__, ZeroDivisionError)
    released = memoryview(b"x")
    released.release()
    with pytest.raises(ValueConversionError, match="blob: .*own methods raise ValueError"):
        encode("blob", released)


class Nano(datetime):
    """As pandas.Timestamp: counts nanoseconds, and years that a datetime cannot hold."""

    nanosecond = 999
    far = 0

    @property
    def year(self) -> int:
        return super().year + self.far


class Reversed(datetime):
    """As pendulum's: has a subtraction of its own."""

    def __sub__(self, other: Any) -> Any:
        return timedelta(12345)


class NanoSpan(timedelta):
    nanoseconds = 7


class MonthSpan(timedelta):
    months = 1


class Word(enum.StrEnum):
    A = "a"

    def __str__(self) -> str:
        return "not a"


class Level(enum.IntEnum):
    LOW = 7


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
    assert encode("text", Word.A) == b"a"
    assert encode("int", Level.LOW) == encode("int", 7)
    assert encode("double", Level.LOW) == encode("double", 7.0)


def test_subclasses_that_hold_more_are_refused() -> None:
    far = Nano(2026, 1, 1, tzinfo=UTC)
    far.far = 30_000
    for name, value, told in (
        ("timestamp", far, "own methods raise ValueError.*year"),
        ("timestamp", Nano(2026, 1, 1), "without a time zone"),
        ("duration", MonthSpan(1), "months have no fixed length: bind a Duration"),
        ("inet", ip_interface("10.0.0.1/24"), r"the network .* take its \.ip"),
        ("inet", ip_interface("::1/64"), r"the network .* take its \.ip"),
    ):
        with pytest.raises(ValueConversionError, match=told):
            encode(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("double", (1 << 53) + 1),
        ("double", -(1 << 60) - 1),
        ("double", Fraction(1, 3)),
        ("float", (1 << 24) + 1),
        ("float", 123_456_789),
        ("float", Fraction(1, 10)),
    ],
)
def test_whole_numbers_and_fractions_are_floats_only_if_exact(name: str, value: Any) -> None:
    with pytest.raises(ValueConversionError, match=rf"no {name} is equal to it: pass float\(x\)"):
        encode(name, value)
    assert encode(name, float(value))
    for exact in (1 << 24, -(1 << 100), Fraction(-3, 4)):
        assert decode(name, encode(name, exact)) == exact


@given(st.integers(1_000, 12_000), st.integers(-(1 << 31), (1 << 31) - 1), st.booleans())
def test_a_long_decimal_comes_back(zeros: int, scale: int, negative: bool) -> None:
    number = 10**zeros + 7
    unscaled = encode("varint", -number if negative else number)
    cell = scale.to_bytes(4, "big", signed=True) + unscaled
    assert encode("decimal", decode("decimal", cell)) == cell


@pytest.mark.parametrize("cell", [b"\x02", b"\xff", b"\x80"])
def test_any_byte_but_zero_is_true(cell: bytes) -> None:
    assert decode("boolean", cell) is True


BROKEN = {
    "ascii": [b"\x80"],
    "bigint": [bytes(7), bytes(9)],
    "boolean": [bytes(2)],
    "counter": [bytes(4)],
    "date": [bytes(3), bytes(5)],
    "decimal": [bytes(1), bytes(4)],
    "double": [bytes(4), bytes(9)],
    "duration": [b"\x00", b"\x00\x00", bytes(4), b"\x02\x01\x00", b"\x00\x00\xff\x00"]
    + [b"\xf0\xff\xff\xff\xff\x00\x00" + b"\x00", b"\xf1\x00\x00\x00\x00\x00\x00"],
    "float": [bytes(8), bytes(3)],
    "inet": [bytes(3), bytes(5), bytes(15), bytes(17)],
    "int": [bytes(3), bytes(5)],
    "smallint": [bytes(1), bytes(3)],
    "text": [b"\xff", b"a\xed\xa0\x80", b"\xc3"],
    "time": [bytes(7)],
    "timestamp": [bytes(4), bytes(9)],
    "timeuuid": [bytes(15)],
    "tinyint": [bytes(2)],
    "uuid": [bytes(15), bytes(17)],
}


@pytest.mark.parametrize(
    ("name", "cell"), [(name, cell) for name, cells in BROKEN.items() for cell in cells]
)
def test_a_malformed_cell_names_its_type(name: str, cell: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"malformed cell of type {name}: "):
        decode(name, cell)


def test_only_blobs_and_varints_have_no_malformed_cells() -> None:
    assert NATIVE_TYPES.keys() - BROKEN.keys() == {"blob", "varint"}


@pytest.mark.parametrize("name", NATIVE_TYPES)
def test_empty_binds_to_every_type(name: str) -> None:
    assert encode(name, EMPTY) == b""


class NoNumber:
    """As numpy.timedelta64: has __index__, which it refuses."""

    def __index__(self) -> int:
        raise TypeError("a span of time is no number")


@pytest.mark.parametrize("name", ["double", "float", "int", "decimal", "varint", "timestamp"])
def test_what_refuses_to_be_a_number(name: str) -> None:
    with pytest.raises(ValueConversionError, match="is needed, got NoNumber"):
        encode(name, NoNumber())


class Longer(float):
    """A number that no double is equal to, though one comes near."""

    def __float__(self) -> float:
        return float.__add__(self, 0.5)


@pytest.mark.parametrize("name", ["double", "float"])
def test_real_numbers_are_not_rounded(name: str) -> None:
    with pytest.raises(ValueConversionError, match=f"no {name} is equal to it"):
        encoder(NATIVE_TYPES[name])(Longer(1.5))
    assert encoder(NATIVE_TYPES[name])(Longer("nan")) == encoder(NATIVE_TYPES[name])(float("nan"))
