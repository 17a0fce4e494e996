"""Retry policies: whether a request that failed is tried again, and where.

A policy is a pure function of the error: it has no state, no clock and no random numbers. So one
policy serves every session, and can be compared, hashed and tested as a table.

A policy decides whether another attempt would *help*. Whether it would be *safe* is settled before:
a request that may have been applied is sent again only if it is idempotent. A policy can't lower
the consistency either, since an answer at a lower level than requested is a wrong answer.
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

# Why a replica failed (v5 section 8, <reasonmap>): its schema differs from the coordinator's, until
# an ALTER has spread through the cluster.
INCOMPATIBLE_SCHEMA = 0x0003
_TRANSIENT = frozenset({0x0000, INCOMPATIBLE_SCHEMA})  # Cassandra 5.0 sends 0, "unknown"
# Reasons that are the same on every replica: too many tombstones, too large a read, too many
# indexes read.
_SAME_EVERYWHERE = frozenset({0x0001, 0x0004, 0x0007})


# After so many attempts the delay stays the same.
_MAX_DOUBLINGS = 17


@dataclass(frozen=True, slots=True)
class Retry:
    """The decision to try again.

    Attributes:
        next_host: whether to try the next host of the query plan, or the same one again.
        delay: the longest pause before the attempt, in seconds.
    """

    next_host: bool
    delay: float = 0.0

    def wait(self, fraction: float) -> float:
        """Return the pause in seconds, from half the delay to all of it, so that requests that
        failed together aren't sent again together.

        Arguments:
            fraction: a random number in [0, 1).
        """
        return self.delay * (0.5 + 0.5 * fraction)


class RetryPolicy(Protocol):
    """Decides whether a failed request is tried again. It must be hashable and compare by value."""

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        """Return how to try again, or None to raise the error.

        It is called only if another attempt is safe and the deadline has not passed.

        Arguments:
            error: the failure.
            attempt: how many attempts have failed so far; 1 for the first.
            idempotent: whether the statement is marked as idempotent.
            reads: whether the statement only reads.
        """
        ...


@dataclass(frozen=True, slots=True)
class NoRetry:
    """Raises the first failure."""

    def decide(
        self, error: CQLError, *, attempt: int, idempotent: bool, reads: bool
    ) -> Retry | None:
        """Return None for every error."""
        return None


_SAME_HOST = Retry(next_host=False)
_NEXT_HOST = Retry(next_host=True)


@dataclass(frozen=True, slots=True)
class DefaultRetry:
    """Tries again if that is likely to help, a few times at most.

    =================================  ===========================================================
    error                              decision
    =================================  ===========================================================
    ``ConnectionLost`` and other       the next host: this one can't be reached.
    ``ConnectionFailed``
    ``IsBootstrapping``                the next host: this one joins the cluster and can't read.
    ``ServerOverloaded``               the next host, after a delay that doubles each time: without
                                       a delay the load would only move on.
    ``ServerError``                    the next host: the cause is on this node alone, such as a
                                       table that it has not heard of yet.
    ``RemoteProtocolError``            the next host, as the first failure only: this one's reply
                                       can't be read.
    ``Unprepared``                     the next host: this one evicts statements faster than they
                                       are prepared.
    ``Unavailable``                    the next host, as the first or second failure: another
                                       coordinator may see replicas that this one doesn't.
    ``ReadTimeout``                    the same host, as the first failure only, if enough replicas
                                       answered but not the one that was to send the data: the
                                       coordinator has noticed and will ask another one. Otherwise
                                       never: replicas that are too slow stay too slow.
    ``ReadFailure``                    of a read, the next host, after a delay that doubles each
                                       time: while a table is altered nodes disagree on the schema
                                       for a second. Never if the replicas give a reason (v5) that
                                       is the same everywhere, such as too many tombstones.
    ``WriteTimeout``                   the same host, as the first failure only, if the batch log
                                       was not written in time (``BATCH_LOG``) and the statement is
                                       idempotent: the batch was not sent to its replicas, but the
                                       log may still be found and replayed. Otherwise never.
    ``WriteFailure``                   the next host, after a delay that doubles each time, if the
                                       statement is idempotent and all reasons that the replicas
                                       give (v5) are a schema that they don't know yet. Otherwise
                                       never.
    ``RequestTimeout``                 never: the call's timeout has passed.
    ``Overloaded``                     never: the client itself has too many requests.
    ``TruncateError``                  never: TRUNCATE needs all nodes to be up.
    ``ResponseTooLarge``               never, whatever a policy says: each node would send as much.
    all others                         never: they would fail again (``InvalidQuery``,
                                       ``Unauthorized``, ``RequestTooLarge``, ..), or their effect
                                       is unknown (``CASWriteUnknown``, ..).
    =================================  ===========================================================

    Attributes:
        max_attempts: how many times a request is sent at most, the first time included. It bounds
            the load on a cluster in trouble.
        overload_delay: the longest pause after the first ``ServerOverloaded``, in seconds; it
            doubles each time.
        schema_delay: the longest pause after replicas failed that may not have heard of a change
            of the schema, in seconds; it doubles each time.

    Raises:
        ConfigError: an attribute is invalid.
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
        """Return the decision of the table above."""
        if attempt >= self.max_attempts or isinstance(error, NoHostAvailable):
            return None
        if isinstance(error, (ConnectionFailed, IsBootstrapping, ServerError, Unprepared)):
            return _NEXT_HOST
        if isinstance(error, ServerOverloaded):
            return _later(self.overload_delay, attempt)
        if isinstance(error, ReadFailure):
            hopeless = not _SAME_EVERYWHERE.isdisjoint(_reasons(error).values())
            return _later(self.schema_delay, attempt) if reads and not hopeless else None
        if isinstance(error, WriteFailure):
            transient = _TRANSIENT.issuperset(_reasons(error).values())
            return _later(self.schema_delay, attempt) if idempotent and transient else None
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


def _later(delay: float, attempt: int) -> Retry:
    """Try the next host after a delay that doubles with each attempt."""
    return Retry(next_host=True, delay=backoff(delay, min(attempt, _MAX_DOUBLINGS)))


def _reasons(error: ReadFailure | WriteFailure) -> Mapping[object, int]:
    """Return why each replica failed, by its address; empty before v5."""
    reasons: Mapping[object, int] = error.details.get("reasons", {})
    return reasons
