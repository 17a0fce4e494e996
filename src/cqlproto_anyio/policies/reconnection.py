"""Reconnection policies: how long to wait before the next attempt to connect to a host.

A policy is a pure function of the number of failures and of a random number, which is an argument.
:mod:`cqlproto_anyio._network.host_state` decides when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cqlproto_anyio._checks.values import number
from cqlproto_anyio.policies.backoff import backoff

__all__ = ["ConstantReconnection", "ExponentialReconnection", "Reconnection"]

# A year; a longer wait is a mistake.
_LONGEST = 366 * 86_400.0


class Reconnection(Protocol):
    """Decides how long to wait between attempts to connect to a host."""

    def delay(self, failures: int, fraction: float) -> float:
        """Return how long to wait after the last failure, in seconds.

        Arguments:
            failures: how many attempts have failed in a row; at least 1.
            fraction: a random number in [0, 1); 0 gives the longest wait.
        """
        ...


def _check(name: str, value: float, least: float, most: float) -> None:
    number(name, value, least, most, f"a number from {least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class ExponentialReconnection:
    """Waits twice as long after each failure.

    Attributes:
        base: the wait after the first failure, in seconds.
        maximum: the longest wait, in seconds.
        jitter: the random part of a wait, from 0 to 1: with 0.25 a wait is between three quarters
            of it and all of it, so that clients that lost a node together don't reconnect together.

    Raises:
        ConfigError: an attribute is invalid.
    """

    base: float = 0.25
    maximum: float = 60.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        _check("base", self.base, 0.001, _LONGEST)
        _check("maximum", self.maximum, self.base, _LONGEST)
        _check("jitter", self.jitter, 0.0, 1.0)

    def delay(self, failures: int, fraction: float) -> float:
        """Return how long to wait after so many failures in a row, in seconds."""
        return backoff(self.base, failures, self.maximum) * (1.0 - self.jitter * fraction)


@dataclass(frozen=True, slots=True)
class ConstantReconnection:
    """Waits the same time after each failure.

    Attributes:
        seconds: the wait, in seconds.
        jitter: the random part of the wait, from 0 to 1.

    Raises:
        ConfigError: an attribute is invalid.
    """

    seconds: float = 1.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        _check("seconds", self.seconds, 0.001, _LONGEST)
        _check("jitter", self.jitter, 0.0, 1.0)

    def delay(self, failures: int, fraction: float) -> float:
        """Return how long to wait, in seconds, however many attempts have failed."""
        return self.seconds * (1.0 - self.jitter * fraction)
