"""Checks of values: they are converted if nothing is lost by that, or refused."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._checks import values as checking

HUGE = 10**5000  # repr raises


class Number:
    """A number of another package, such as numpy."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __repr__(self) -> str:
        return f"Number({self.value})"


class RealNumber(Number): ...


class IntegralNumber(Number): ...


Real.register(RealNumber)
Integral.register(IntegralNumber)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Mute(Exception):
    """An exception whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Unreadable(Mapping[str, str]):
    """A mapping whose items can't be read."""

    def __init__(self, kind: type[Exception] = RuntimeError) -> None:
        self._kind = kind

    def __getitem__(self, key: str) -> str:
        raise self._kind("unreadable")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (1, 1),
        (0.5, 0.5),
        (math.inf, math.inf),
        (5e-324, 5e-324),
        (Fraction(1, 4), 0.25),
        (RealNumber(2.5), 2.5),
        (IntegralNumber(3), 3.0),
        (10**308, 10**308),
    ],
)
def test_seconds(given: Any, found: float) -> None:
    result = checking.seconds("timeout", given)
    assert (result, type(result)) == (found, int if type(given) is int else float)


@pytest.mark.parametrize(
    "given",
    [0, -0.0, -1, math.nan, -math.inf, True, "1", None, Number(1), 10**309, HUGE],
    ids=checking.shown,
)
def test_no_seconds(given: Any) -> None:
    with pytest.raises(cql.ConfigError, match="^timeout must be a positive number of seconds, got"):
        checking.seconds("timeout", given)


class Faulty(RealNumber):
    def __float__(self) -> float:
        raise RuntimeError("not now")


Real.register(Faulty)


def test_a_number_that_cannot_be_converted() -> None:
    with pytest.raises(cql.ConfigError, match=r"timeout must be .*, got Number\(1\)"):
        checking.seconds("timeout", Faulty(1))


@pytest.mark.parametrize("given", [7, IntegralNumber(7)])
def test_integers(given: Any) -> None:
    result = checking.integer("page_size", given, 1, 7, "a number")
    assert (result, type(result)) == (7, int)


@pytest.mark.parametrize(
    "given", [0, 8, True, 7.0, "7", None, cql.Consistency.ALL, RealNumber(7), IntegralNumber(8)]
)
def test_no_integers(given: Any) -> None:
    with pytest.raises(cql.ConfigError, match="^page_size must be a number, got"):
        checking.integer("page_size", given, 1, 7, "a number")
    assert checking.integer("page_size", 8, 1, None, "a number") == 8


class FaultyInteger(IntegralNumber):
    def __int__(self) -> int:
        raise RuntimeError("not now")


class FaultyText(str):
    __slots__ = ()

    def upper(self) -> str:
        raise RuntimeError("not now")

    encode = upper  # type: ignore[assignment]  # raises like upper


def test_what_raises_when_it_is_converted_is_refused_or_read_as_what_it_is() -> None:
    Integral.register(FaultyInteger)
    with pytest.raises(cql.ConfigError, match="^page_size must be a number, got"):
        checking.integer("page_size", FaultyInteger(7), 1, 7, "a number")
    assert checking.level("consistency", FaultyText("one")) is cql.Consistency.ONE
    assert cql.Consistency(FaultyText("one")) is cql.Consistency.ONE  # type: ignore[arg-type]
    assert checking.string_map("payload", {FaultyText("a"): b"1"}, bytes) == {"a": b"1"}


@pytest.mark.parametrize("name", ["\u017ferial", "local_\u017ferial", "one\n", " one", ""])
def test_names_that_are_only_like_a_level(name: str) -> None:
    """The upper case of the long s is S."""
    with pytest.raises(cql.ConfigError, match="^c must be SERIAL or LOCAL_SERIAL, as a"):
        checking.level("c", name, serial=True)
    with pytest.raises(ValueError, match="a consistency level must be one of"):
        cql.Consistency(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [each.name for each in cql.Consistency])
def test_levels_by_name(name: str) -> None:
    given: Any
    for given in (name, name.lower(), name.title(), Text(name), cql.Consistency[name]):
        assert checking.level("consistency", given) is cql.Consistency[name]
        assert cql.Consistency(given) is cql.Consistency[name]
        if name in ("SERIAL", "LOCAL_SERIAL"):
            assert checking.level("c", given, serial=True) is cql.Consistency[name]
        else:
            with pytest.raises(cql.ConfigError, match="c must be SERIAL or LOCAL_SERIAL, as a"):
                checking.level("c", given, serial=True)


def test_an_unknown_level() -> None:
    with pytest.raises(cql.ConfigError) as caught:
        checking.level("consistency", "quorom")
    assert str(caught.value) == (
        "consistency must be ANY, ONE, TWO, THREE, QUORUM, ALL, LOCAL_QUORUM, EACH_QUORUM, SERIAL,"
        " LOCAL_SERIAL or LOCAL_ONE, as a Consistency or its name, got 'quorom'"
    )


def test_names_and_maps_are_copied() -> None:
    name = checking.keyspace_name("keyspace", Text("ks"))
    assert (name, type(name)) == ("ks", str)
    given = {"a": b"1"}
    copy = checking.string_map("payload", given, bytes)
    given["a"] = b"2"
    assert copy == {"a": b"1"}
    with pytest.raises(cql.ConfigError, match="reading it raised RuntimeError") as caught:
        checking.string_map("payload", Unreadable(), bytes)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(cql.ConfigError, match="reading it raised a Mute"):
        checking.string_map("payload", Unreadable(Mute), bytes)
    checking.string_map("payload", {str(n): b"" for n in range(65_535)}, bytes)
    with pytest.raises(cql.ConfigError, match="at most 65535 keys, got 65536"):
        checking.string_map("payload", {str(n): b"" for n in range(65_536)}, bytes)


def test_a_payload_is_not_shown() -> None:
    with pytest.raises(cql.ConfigError) as caught:
        cql.Profile(payload={"token": "secret"})  # type: ignore[dict-item]
    assert str(caught.value) == "payload must be a mapping of str to bytes, got 'token' to a str"


def test_what_errors_show() -> None:
    assert checking.shown("a") == "'a'"
    assert checking.shown(HUGE) == "a int"
    assert checking.shown(Unprintable()) == "a Unprintable"
    assert checking.shown("x" * 100) == f"a str ('{'x' * 39}...)"
    told = "the class DefaultRetry: pass an instance, DefaultRetry(..)"
    assert checking.described(cql.DefaultRetry) == told
    assert checking.described(5) == "a int"
