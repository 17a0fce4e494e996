"""Exponential backoff: pauses that double with each failure."""

from __future__ import annotations

import math

__all__ = ["backoff"]

# 2.0 ** 64 exceeds every limit in use; a bounded exponent never overflows.
_MAX_EXPONENT = 64


def backoff(first: float, failures: int, longest: float = math.inf) -> float:
    """Return how long to pause after a number of failures in a row, in seconds.

    Arguments:
        first: the pause after the first failure, in seconds.
        failures: the number of failures in a row; the pause doubles with each after the first.
        longest: the longest pause, in seconds.
    """
    pause = first * 2.0 ** min(max(failures - 1, 0), _MAX_EXPONENT)
    return min(pause, longest)
