"""Checkers of histories: what concurrent workers have seen, against what a recipe guarantees.

Each returns what is wrong, as sentences; none if the history is right. Times are of
``time.monotonic()``, which the processes of one machine share.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Admission", "Section", "dense", "exclusive", "none_lost", "oversold", "within_limit"]


class Section(NamedTuple):
    """A critical section: its fencing token, and when it was entered and left."""

    fence: int
    entered: float
    left: float


class Admission(NamedTuple):
    """A request that was admitted: when it asked, when it was told, and its cost."""

    asked: float
    told: float
    cost: int = 1


def within_limit(admissions: Iterable[Admission], limit: int, per: float) -> list[str]:
    """Check that no window of ``per`` seconds has more cost than the limit.

    A request counts at some moment between asking and being told; it is in a window for certain if
    both are.
    """
    found = sorted(map(Admission._make, admissions))
    wrong = []
    for first in found:
        inside = [each for each in found if each.asked >= first.asked]
        cost = sum(each.cost for each in inside if each.told < first.asked + per)
        if cost > limit:
            wrong.append(f"a cost of {cost} was admitted from {first.asked} on")
    return wrong


def exclusive(sections: Iterable[Section]) -> list[str]:
    """Check that each section was left before one with a higher fence was entered."""
    found = sorted(map(Section._make, sections))
    wrong = [
        f"fence {fence} was given {times} times"
        for fence, times in Counter(each.fence for each in found).items()
        if times > 1
    ]
    latest = found[0] if found else None
    for section in found[1:]:
        assert latest is not None
        if section.entered < latest.left:
            wrong.append(f"fence {section.fence} entered before fence {latest.fence} had left")
        if section.left > latest.left:
            latest = section
    return wrong


def dense(versions: Sequence[int]) -> list[str]:
    """Check that the versions are 1, 2, .. in this order."""
    return [
        f"version {version} came in place {place}"
        for place, version in enumerate(versions, 1)
        if version != place
    ]


def oversold(levels: Iterable[tuple[int, int]]) -> list[str]:
    """Check that ``0 <= reserved <= quantity`` in each level, as (quantity, reserved)."""
    return [
        f"{reserved} of {quantity} are reserved"
        for quantity, reserved in levels
        if not 0 <= reserved <= quantity
    ]


def none_lost(acknowledged: Mapping[str, int], stored: Mapping[str, int]) -> list[str]:
    """Check that everything that was acknowledged is stored, at the version that was told."""
    return [
        f"{item} was acknowledged at {version}, and is at {stored.get(item)}"
        for item, version in acknowledged.items()
        if stored.get(item) != version
    ]
