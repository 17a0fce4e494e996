"""Whether a failed request may have been applied, and so whether it may be sent again.

A write counts as not applied only if the server refuses it before it writes anything. After any
other error it may have been applied. This is when Cassandra (its classes ``StorageProxy``,
``ReplicaPlans`` and ``Paxos``) sends the codes that are not obvious:

``UNAVAILABLE``
    is decided for each partition, before anything is sent for it. A statement that writes to
    several partitions (an unlogged or counter batch, ``WHERE key IN ..``) may have written to
    others. A conditional statement checks twice: before its Paxos round, at the serial consistency,
    and before the commit, at the other consistency.
``OVERLOADED``
    is mostly sent before anything is done (a rate limit), but also if there are too many hints:
    between two partitions, or during the commit of a Paxos round.
``IS_BOOTSTRAPPING``
    answers reads, also the read before a Paxos round.
``FUNCTION_FAILURE``
    comes from a function whose value was to be written, or from a read.
``WRITE_TIMEOUT``, ``WRITE_FAILURE``
    replicas that didn't answer may have written. So may the others if one has no space left for
    change data (``CDC_WRITE_FAILURE``). If the log of a batch timed out (``BATCH_LOG``), a node may
    have stored it and may replay it later.
``CAS_WRITE_UNKNOWN``
    some replicas have accepted the proposal: the next request completes or replaces it.
``READ_TIMEOUT``, ``READ_FAILURE``
    come from writes that read first, such as conditional ones. Cassandra reads before it writes,
    but doesn't guarantee it.
``TRUNCATE_ERROR``
    some nodes may have truncated.
``SERVER_ERROR``, and unknown codes
    say nothing about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import Consistency, ErrorCode
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    IsBootstrapping,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    RequestTimeout,
    ServerError,
    ServerOverloaded,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto_anyio._text import StatementText
    from cqlproto_anyio.exceptions import CQLError

__all__ = ["TRANSIENT", "may_have_applied", "may_repeat"]

TRANSIENT = (
    ConnectionFailed,
    IsBootstrapping,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    RequestTimeout,
    ServerError,
    ServerOverloaded,
    Unavailable,
)
"""Errors of connecting and reading that may be gone a moment later, whatever the user does."""

_REFUSED_BEFORE_WRITING = frozenset(
    {
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.BAD_CREDENTIALS,
        ErrorCode.IS_BOOTSTRAPPING,
        ErrorCode.FUNCTION_FAILURE,
        ErrorCode.SYNTAX_ERROR,
        ErrorCode.UNAUTHORIZED,
        ErrorCode.INVALID,
        ErrorCode.CONFIG_ERROR,
        ErrorCode.ALREADY_EXISTS,
        ErrorCode.UNPREPARED,
    }
)
_SERIAL = (Consistency.SERIAL, Consistency.LOCAL_SERIAL)


def may_have_applied(
    code: int, text: StatementText, fields: Mapping[str, object] | None = None
) -> bool:
    """Return whether a statement that the server answered with this error may have been applied.

    Arguments:
        code: the ERROR's code.
        text: what the statement's text says.
        fields: the ERROR's fields by name; without them the statement may have been applied.
    """
    if text.reads or code in _REFUSED_BEFORE_WRITING:
        return False
    if code != ErrorCode.UNAVAILABLE:
        return True
    before_paxos = fields is not None and fields.get("consistency") in _SERIAL
    return not before_paxos and (text.several or text.conditional)


def may_repeat(error: CQLError, *, idempotent: bool, conditional: bool) -> bool:
    """Return whether a failed request may be sent again without harm if it was applied.

    Whether it helps to send it again is for the retry policy to decide.

    Arguments:
        error: the failure.
        idempotent: whether the caller says that repeating the statement does no harm.
        conditional: whether the statement has an IF. A conditional statement is never idempotent:
            the first execution may change whether the condition of the second one holds.
    """
    return not error.maybe_applied or (idempotent and not conditional)
