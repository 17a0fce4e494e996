"""Rates as pure functions: whether one more cost fits, and what counts then.

Times are whole microseconds. Entries are (the time from which a cost counts, the cost), the oldest
first. Both functions take the entries, those that are kept elsewhere, the cost and the time.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple, TypeAlias

__all__ = ["Entries", "Rated", "token_bucket", "window"]

Entries: TypeAlias = tuple[tuple[int, int], ...]

_EXACT = 100  # the most entries of a window


class Rated(NamedTuple):
    """What a rate says of a cost.

    Attributes:
        allowed: whether it fits.
        remaining: how much cost fits afterwards.
        wait: after how long it may fit, if it doesn't.
        entries: what counts afterwards, oldest first.
    """

    allowed: bool
    remaining: int
    wait: int
    entries: Entries


def window(
    entries: Entries, others: Entries, cost: int, now: int, *, limit: int, per: int
) -> Rated:
    """Rate a cost by a sliding window: a cost counts for ``per``.

    Windows of more than 100 entries count the costs of a hundredth of ``per`` from its end.
    """
    # a bucket's debt, from before the algorithm was changed, counts as tokens
    entries = tuple((at, -(each // per) if each < 0 else each) for at, each in entries)
    entries = tuple(each for each in entries if each[0] > now - per)
    counted = sorted([*entries, *(each for each in others if each[0] > now - per)])
    left = limit - sum(each for _, each in counted)
    if cost > left:
        freed = accumulate(each for _, each in counted)
        at = next(at for (at, _), much in zip(counted, freed, strict=True) if much >= cost - left)
        return Rated(False, max(left, 0), at + per - now, entries)
    grain = 1 if limit <= _EXACT else -(-per // _EXACT)
    at = -(-now // grain) * grain
    if entries and entries[-1][0] >= at:  # or another program's clock is ahead
        at, before = entries[-1]
        return Rated(True, left - cost, 0, (*entries[:-1], (at, before + cost)))
    return Rated(True, left - cost, 0, (*entries, (at, cost)))


def token_bucket(
    entries: Entries, others: Entries, cost: int, now: int, *, limit: int, per: int
) -> Rated:
    """Rate a cost by a bucket of ``limit`` tokens, which fills in ``per``.

    Its one entry is the time of the latest cost, and the debt then, as a negative number of the
    unit token / ``per``.
    """
    at, debt = entries[-1] if entries else (now, 0)
    # the costs of a window, from before the algorithm was changed, are debts
    debt = -debt if debt < 0 else sum(each for _, each in entries) * per
    debt = max(0, debt - max(0, now - at) * limit)
    at = max(at, now)
    left = limit * per - debt - cost * per
    if left < 0:
        wait = at - now - left // limit
        return Rated(False, max((left + cost * per) // per, 0), wait, entries)
    return Rated(True, left // per, 0, ((at, -debt - cost * per),))
