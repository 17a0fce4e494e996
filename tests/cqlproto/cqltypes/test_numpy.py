"""NumPy's scalars and arrays are bound like the Python values that they stand for."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto import ValueConversionError
from cqlproto.cqltypes import decoder, encoder, parse_type

BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64, "counter": 64}
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]

# No double is equal to them, where the platform has longer ones.
LONG = [
    numpy.longdouble(text)
    for text in ("0.1", "1e4000")
    if numpy.finfo(numpy.longdouble).nmant > numpy.finfo(numpy.float64).nmant
]


def bound(name: str, value: Any) -> Any:
    """Return a value after encoding and decoding it."""
    cql_type = parse_type(name)
    return decoder(cql_type)(encoder(cql_type)(value))


@given(st.sampled_from(sorted(BITS)), st.sampled_from(INTEGERS), st.data())
def test_integers_of_any_width_go_into_any_type_that_holds_them(
    name: str, kind: str, data: st.DataObject
) -> None:
    limits = numpy.iinfo(kind)
    number = data.draw(st.integers(int(limits.min), int(limits.max)))
    value = numpy.dtype(kind).type(number)
    limit = 1 << BITS[name] - 1
    if -limit <= number < limit:
        assert bound(name, value) == number
        assert bound(f"list<{name}>", numpy.array([number], kind)) == [number]
    else:
        with pytest.raises(ValueConversionError, match=rf"{name}: out of range.*{kind}"):
            bound(name, value)
    assert bound("varint", value) == number
    assert bound("decimal", value) == number


@given(st.floats(width=32, allow_nan=False))
def test_floats(number: float) -> None:
    for kind in ("float32", "float64"):
        value = numpy.dtype(kind).type(number)
        for name in ("float", "double"):
            assert bound(name, value) == number
        assert bound("vector<float, 2>", numpy.array([number, 0], kind)) == [number, 0]


def test_other_scalars() -> None:
    assert bound("double", numpy.longdouble(0.1)) == 0.1
    assert repr(bound("double", numpy.longdouble("nan"))) == "nan"
    assert bound("boolean", numpy.True_) is True
    assert bound("text", numpy.str_("Größe")) == "Größe"
    assert bound("blob", numpy.bytes_(b"\0")) == b"\0"
    assert bound("set<text>", numpy.array(["a", "b"])) == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("int", numpy.float64(5)),
        ("int", numpy.True_),
        ("boolean", numpy.int8(1)),
        ("decimal", numpy.float64(1.5)),
        # it bears no time zone, as a naive datetime does not
        ("timestamp", numpy.datetime64("2020-01-01T00:00:00")),
        ("date", numpy.datetime64("2020-01-01")),
        ("time", numpy.timedelta64(5, "s")),
        ("duration", numpy.timedelta64(5, "s")),
        *[("double", value) for value in LONG],
        *[("float", value) for value in LONG],
    ],
)
def test_what_would_be_a_guess_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueConversionError, match=name):
        bound(name, value)
