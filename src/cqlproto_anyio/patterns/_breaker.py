"""A circuit breaker: after some failures in a row, calls fail at once for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import Seconds, integer, seconds
from cqlproto_anyio.patterns._retry import may_retry
from cqlproto_anyio.patterns._writeerrors import CircuitOpen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["CircuitBreaker"]

P = ParamSpec("P")
T = TypeVar("T")


class CircuitBreaker:
    """Calls a function, unless it has failed too often: ``await breaker.call(function, ..)``.

    Guarantee: the circuit opens with failure number ``failures`` in a row. While it is open, no
    call is made. After ``recovery`` it is half open: one call at a time goes through, and
    ``successes`` of them in a row close it. A failure opens it again. A call that began before the
    circuit has changed doesn't change it again. A cancelled call counts as nothing.

    Failures are errors that say that the cluster is unwell (timeouts, no host, overload), and all
    errors that are not of this client. An error in the statement is none.

    Not guaranteed: that calls are few. Programs don't share a breaker, nor do threads.

    Cost: nothing is sent.

    Arguments:
        failures: how many failures in a row open the circuit.
        recovery: how long it stays open: a timedelta or seconds.
        successes: how many successes in a row close it again.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(self, *, failures: int = 5, recovery: Seconds = 60.0, successes: int = 2) -> None:
        self._most = integer("failures", failures, least=1)
        self._recovery = seconds("recovery", recovery, least=0.001)
        self._needed = integer("successes", successes, least=1)
        self._failures = self._successes = 0
        self._until: float | None = None  # when the circuit is half open; None while it is closed
        self._changes = 0  # how often the circuit was opened or closed
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """The state of the circuit."""
        if self._until is None:
            return "closed"
        return "open" if anyio.current_time() < self._until else "half_open"

    @property
    def failure_count(self) -> int:
        """How many calls have failed in a row."""
        return self._failures

    async def call(
        self, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function and return its result.

        Raises:
            CircuitOpen: the circuit is open, or half open while another call is on its way.
        """
        probe = self._until is not None
        if self._until is not None:
            left = max(0.0, self._until - anyio.current_time())
            if left or self._probing:
                raise CircuitOpen(left, self._failures)
            self._probing = True
        changes = self._changes
        try:
            result = await function(*args, **kwargs)
        except Exception as exc:
            if changes == self._changes and _is_failure(exc):
                self._fail(probe)
            raise
        else:
            if changes == self._changes:
                self._succeed(probe)
            return result
        finally:
            if probe:
                self._probing = False

    def _fail(self, probe: bool) -> None:
        self._failures += 1
        if probe or self._failures >= self._most:
            self._until = anyio.current_time() + self._recovery
            self._changes += 1
            self._successes = 0

    def _succeed(self, probe: bool) -> None:
        if probe:
            self._successes += 1
            if self._successes < self._needed:
                return
            self._until = None
            self._changes += 1
        self._failures = self._successes = 0


def _is_failure(error: Exception) -> bool:
    return not isinstance(error, CQLError) or may_retry(error, idempotent=True)
