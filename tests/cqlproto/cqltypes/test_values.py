"""Python classes for CQL values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from cqlproto.cqltypes import (
    EMPTY,
    UNSET,
    Date,
    Duration,
    Empty,
    FrozenMap,
    LosslessMap,
    LosslessSet,
    Time,
    Timestamp,
    UserType,
    user_value_class,
)
from cqlproto.cqltypes.model import NATIVE_TYPES

ADDRESS = UserType(
    "shop", "address", (("street", NATIVE_TYPES["text"]), ("a b", NATIVE_TYPES["int"]))
)

VALUES = [
    EMPTY,
    UNSET,
    Duration(1, 2, 3),
    Timestamp(1 << 62),
    Date(-1 << 31),
    Time(1),
    FrozenMap({"a": (1, 2)}),
    LosslessSet([-0.0, 0.0]),
    LosslessMap([(-0.0, "a"), (0.0, "b")]),
    user_value_class(ADDRESS)(["Main St", 3]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_can_be_copied_pickled_and_hashed(value: Any, protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(value, protocol)), copy.deepcopy(value)):
        assert again == value
        assert type(again) is type(value)
        assert hash(again) == hash(value)
        assert repr(again) == repr(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_cannot_be_given_attributes(value: Any) -> None:
    with pytest.raises((AttributeError, TypeError)):
        value.anything = 1


def test_there_is_one_empty_and_it_is_false() -> None:
    assert Empty() is EMPTY
    assert pickle.loads(pickle.dumps(EMPTY)) is EMPTY
    assert not EMPTY
    assert EMPTY != b""
    assert EMPTY is not UNSET


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (Duration(1, 2, 3), "1mo2d3ns"),
        (Duration(-14, 0, -3), "-14mo3ns"),
        (Duration(days=5), "5d"),
        (Duration(), "0ns"),
    ],
)
def test_a_duration_prints_as_in_cql(duration: Duration, text: str) -> None:
    assert str(duration) == text


@pytest.mark.parametrize(
    "parts", [(1, -1, 0), (0, 1, -1), (-1, 0, 1), (1 << 31, 0, 0), (0, 1 << 31, 0), (0, 0, 1 << 63)]
)
def test_a_duration_has_one_sign_and_fits(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Duration(*parts)


def test_a_duration_takes_whole_numbers_only() -> None:
    with pytest.raises(TypeError, match="days must be an int"):
        Duration(0, 1.5, 0)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="months must be an int"):
        Duration(True)


def test_durations_have_no_order() -> None:
    with pytest.raises(TypeError):
        _ = Duration(1) < Duration(2)  # type: ignore[operator]  # what is tested


@pytest.mark.parametrize(("kind", "bits"), [(Timestamp, 64), (Date, 32), (Time, 64)])
def test_fallbacks_have_an_order_and_a_range(kind: Any, bits: int) -> None:
    limit = 1 << bits - 1
    assert kind(-limit) < kind(0) < kind(limit - 1)
    for outside in (-limit - 1, limit):
        with pytest.raises(ValueError, match=f"{bits} bits"):
            kind(outside)


def test_a_frozen_map_is_a_mapping() -> None:
    value = FrozenMap({"a": 1, "b": 2})
    assert value == {"b": 2, "a": 1} == value
    assert value == FrozenMap([("b", 2), ("a", 1)])
    assert hash(value) == hash(FrozenMap({"b": 2, "a": 1}))
    assert value != {"a": 1}
    assert value != 1
    assert list(value) == ["a", "b"]
    assert list(value.items()) == [("a", 1), ("b", 2)]
    assert value["b"] == 2
    assert "b" in value
    assert "c" not in value


def test_a_lossless_set_keeps_what_python_holds_equal() -> None:
    value = LosslessSet([-0.0, 0.0, 1.5])
    assert str(list(value)) == "[-0.0, 0.0, 1.5]"
    assert len(value) == 3
    assert 1.5 in value
    assert 2.5 not in value
    assert value == LosslessSet([-0.0, 0.0, 1.5])
    assert value != LosslessSet([0.0, 1.5])


def test_a_lossless_map_tells_where_a_key_is_not_one() -> None:
    value = LosslessMap([(-0.0, "minus"), (0.0, "plus"), (1.5, "more")])
    assert value[1.5] == "more"
    assert 0.0 in value
    assert len(value) == 3
    assert str(list(value)) == str(list(value.keys())) == "[-0.0, 0.0, 1.5]"
    assert value.values() == ("minus", "plus", "more")
    assert value.items()[1] == (0.0, "plus")
    with pytest.raises(KeyError, match="equals 2 keys"):
        _ = value[0.0]
    with pytest.raises(KeyError, match="7"):
        _ = value[7]


def test_lossless_containers_equal_their_likes_only() -> None:
    members, items = [0.0, -0.0], [(0.0, 1), (-0.0, 2)]
    for value, same, other in (
        (LosslessSet(members), LosslessSet(members), {0.0}),
        (LosslessMap(items), LosslessMap(items), {0.0: 1}),
    ):
        assert value == same
        assert value != other
        assert value != 5
