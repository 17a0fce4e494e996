"""Whether a request that failed is tried again, and where.

A policy is a pure function of the error: it keeps nothing between calls, asks no clock and rolls no
dice, so that one serves every session and can be compared, hashed and tested as a table.

What it decides is whether another try *helps*. Whether one is *safe* isn't left to it: a request
that may have been applied is sent again only if it is idempotent, and that is settled before a
policy is asked. Nor can a policy lower the consistency: an answer at a level that nobody asked for
is a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cqlproto_anyio._checks.values import integer, number
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    IsBootstrapping,
    NoHostAvailable,
    ReadFailure,
    ReadTimeout,
    RemoteProtocolError,
    ResponseTooLarge,
    ServerError,
    ServerOverloaded,
    Unavailable,
    Unprepared,
    WriteFailure,
    WriteTimeout,
)
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto_anyio.exceptions import CQLError

__all__ = ["DefaultRetry", "NoRetry", "Retry", "RetryPolicy"]

# Why a replica failed (v5 section 8, <reasonmap>): it doesn't know the table as the coordinator
# does, which passes while an ALTER spreads through the cluster.
INCOMPATIBLE_SCHEMA = 0x0003
_PASSING = frozenset({0x0000, INCOMPATIBLE_SCHEMA})  # a node of 5.0 says "unknown" (0)
# .. and what every replica would say again, after as much work: too many tombstones, a read too
# large, too many indexes read.
_SAME_EVERYWHERE = frozenset({0x0001, 0x0004, 0x0007})


@dataclass(frozen=True, slots=True)
class Retry:
    """A decision: try again.

    Attributes:
        next_host: whether to try the next host of the plan, or the same one once more.
        delay: the longest wait before, in seconds.
    """

    next_host: bool
    delay: float = 0.0

    def wait(self, fraction: float) -> float:
        """Return how long to wait, in seconds: from half the delay to all of it, so that requests
        that failed together don't come back together.

        Arguments:
            fraction: a random number in [0, 1).
        """
        return self.delay * (0.5 + 0.5 * fraction)


class RetryPolicy(Protocol):
    """Decides whether a failed request is tried again. Must be hashable, and compare by value."""

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        """Return what to do about a failure; None gives up and raises it.

        Only asked where another try is safe, and only while the call's deadline hasn't passed.

        Arguments:
            error: what failed.
            attempt: how many attempts have failed by now; 1 for the first.
            idempotent: whether the caller says that repeating the statement does no harm.
            reads: whether the statement changes nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoRetry:
    """Gives up at the first failure."""

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        """Return None, whatever happened."""
        return None


_SAME_HOST = Retry(next_host=False)
_NEXT_HOST = Retry(next_host=True)


@dataclass(frozen=True, slots=True)
class DefaultRetry:
    """Tries again where that is likely to help, and at most a few times.

    =================================  ===========================================================
    error                              decision
    =================================  ===========================================================
    ``ConnectionLost`` and other       the next host: this one is gone.
    ``ConnectionFailed``
    ``IsBootstrapping``                the next host: this one joins the cluster and can't read.
    ``ServerOverloaded``               the next host, after a delay that doubles each time: without
                                       one the load would only move on.
    ``ServerError``                    the next host: what went wrong is this node's own matter,
                                       such as a table that it hasn't heard of yet.
    ``RemoteProtocolError``            the next host, as the first failure only: this one's reply
                                       can't be read.
    ``Unprepared``                     the next host: this one forgets statements faster than they
                                       are prepared.
    ``Unavailable``                    the next host, as the first or second failure: another
                                       coordinator may see replicas that this one doesn't. If it
                                       sees as few there are as few.
    ``ReadTimeout``                    the same host, as the first failure only, if enough replicas
                                       answered but the one that was to send the data didn't: the
                                       coordinator has noticed and will ask another. Otherwise
                                       never: replicas that are too slow get no faster by it.
    ``ReadFailure``                    of a read, the next host, after a delay that doubles each
                                       time, unless the replicas say (v5) that they would fail
                                       everywhere, such as for too many tombstones: nodes disagree
                                       on the schema for a second while a table is altered.
    ``WriteTimeout``                   the same host, as the first failure only, if it was the
                                       batch log that wasn't written (``BATCH_LOG``) and the
                                       statement is idempotent: none of the batch was sent to its
                                       replicas, but the log may be found and played. Otherwise
                                       never.
    ``WriteFailure``                   the next host, after a delay that doubles each time, if the
                                       statement is idempotent and all that failed did so, as far
                                       as they say (v5), for a schema that they don't know yet.
                                       Otherwise never.
    ``RequestTimeout``                 never: the time that the call had is over.
    ``Overloaded``                     never: it is the client that has too much to do.
    ``TruncateError``                  never: TRUNCATE needs all nodes; a person has to look.
    ``ResponseTooLarge``               never, whatever a policy says: each node would send as much.
    all others                         never: they would fail again (``InvalidQuery``,
                                       ``Unauthorized``, ``RequestTooLarge``, ..), or nobody knows
                                       what they did (``CASWriteUnknown``, ..).
    =================================  ===========================================================

    Attributes:
        max_attempts: how many times a request is sent at most, the first one included, so that a
            cluster in trouble gets no more than so many times its load.
        overload_delay: the longest wait after the first ``ServerOverloaded``, in seconds; twice as
            long after the next.
        schema_delay: the same after a failure of replicas that may not have heard of a change of
            the schema yet.

    Raises:
        ConfigError: an attribute has no such value.
    """

    max_attempts: int = 4
    overload_delay: float = 0.1
    schema_delay: float = 0.2

    def __post_init__(self) -> None:
        integer("max_attempts", self.max_attempts, 1, None, "an int of at least 1")
        for name in ("overload_delay", "schema_delay"):
            number(name, getattr(self, name), 0, 3600, "a number of seconds from 0 to 3600")

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        """Return what the table above says."""
        if attempt >= self.max_attempts or isinstance(error, NoHostAvailable):
            return None
        if isinstance(error, (ConnectionFailed, IsBootstrapping, ServerError, Unprepared)):
            return _NEXT_HOST
        if isinstance(error, ServerOverloaded):
            return Retry(next_host=True, delay=backoff(self.overload_delay, attempt))
        if isinstance(error, ReadFailure):
            hopeless = not _SAME_EVERYWHERE.isdisjoint(_reasons(error).values())
            return self._later(attempt) if reads and not hopeless else None
        if isinstance(error, WriteFailure):
            passing = _PASSING.issuperset(_reasons(error).values())
            return self._later(attempt) if idempotent and passing else None
        if isinstance(error, Unavailable):
            return _NEXT_HOST if attempt <= 2 else None
        if attempt > 1:
            return None
        if isinstance(error, RemoteProtocolError):
            return None if isinstance(error, ResponseTooLarge) else _NEXT_HOST
        if isinstance(error, ReadTimeout):
            enough = error.received >= error.required and not error.data_present
            return _SAME_HOST if enough else None
        if isinstance(error, WriteTimeout):
            return _SAME_HOST if idempotent and error.write_type == "BATCH_LOG" else None
        return None

    def _later(self, attempt: int) -> Retry:
        """Try another host in a while: what is wrong passes when the nodes have heard of it."""
        return Retry(next_host=True, delay=backoff(self.schema_delay, attempt))


def _reasons(error: ReadFailure | WriteFailure) -> Mapping[object, int]:
    """Return why each replica failed, by its address; before v5 there are only their numbers."""
    reasons: Mapping[object, int] = error.details.get("reasons", {})
    return reasons
