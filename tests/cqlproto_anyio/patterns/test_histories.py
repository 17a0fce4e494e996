"""The checkers of histories find what is wrong."""

from __future__ import annotations

from tests.support.histories import Section, dense, exclusive, none_lost, oversold


def test_mutual_exclusion() -> None:
    assert exclusive([]) == []
    assert exclusive([Section(2, 1.5, 2.0), Section(1, 0.0, 1.0), Section(9, 2.0, 3.0)]) == []
    assert exclusive([Section(1, 0.0, 1.0), Section(2, 0.9, 2.0)]) == [
        "fence 2 entered before fence 1 had left"
    ]
    assert exclusive([Section(1, 5.0, 6.0), Section(2, 1.0, 2.0)]) != []
    assert exclusive([Section(1, 0.0, 9.0), Section(2, 1.0, 2.0), Section(3, 3.0, 4.0)]) == [
        "fence 2 entered before fence 1 had left",
        "fence 3 entered before fence 1 had left",
    ]
    assert exclusive([Section(1, 0.0, 1.0), Section(1, 2.0, 3.0)]) == ["fence 1 was given 2 times"]


def test_dense_versions() -> None:
    assert dense([]) == []
    assert dense([1, 2, 3]) == []
    assert dense([1, 3]) == ["version 3 came in place 2"]
    assert dense([1, 1]) != []
    assert dense([2]) != []


def test_levels_of_a_stock() -> None:
    assert oversold([(0, 0), (5, 0), (5, 5), (3, 1)]) == []
    assert oversold([(5, 6), (5, 5), (0, -1)]) == ["6 of 5 are reserved", "-1 of 0 are reserved"]


def test_nothing_lost() -> None:
    assert none_lost({}, {"a": 1}) == []
    assert none_lost({"a": 1}, {"a": 1}) == []
    assert none_lost({"a": 1, "b": 2}, {"a": 3}) == [
        "a was acknowledged at 1, and is at 3",
        "b was acknowledged at 2, and is at None",
    ]
