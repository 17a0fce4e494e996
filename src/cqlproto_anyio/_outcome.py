"""Whether a failed request may have changed something, and so whether it may be sent again.

A write is only called "not applied" where the server says so by refusing it before anything is
written. Everything else may have happened. What the codes stand for in Cassandra (its classes
``StorageProxy``, ``ReplicaPlans`` and ``Paxos``), where it isn't plain:

``UNAVAILABLE``
    is found out per partition, before anything is sent for that partition. What writes to several
    (an unlogged or counter batch, ``WHERE key IN ..``) may have begun with others. A conditional
    statement looks twice: before its Paxos round, at its serial consistency, and again when the
    round is won and is to be committed, at the other one.
``OVERLOADED``
    is mostly said before anything is done (a rate limit), but also when there are too many hints,
    between two partitions, or while a Paxos round is committed.
``IS_BOOTSTRAPPING``
    is the answer to reading, also to that before a Paxos round.
``FUNCTION_FAILURE``
    comes of a function whose value was to be written, or of reading.
``WRITE_TIMEOUT``, ``WRITE_FAILURE``
    replicas that didn't answer may have written, and so has one whose space for change data is
    full (``CDC_WRITE_FAILURE``) on the others. If it was the log of a batch (``BATCH_LOG``), one
    of the nodes that keep it may have it, and play it later.
``CAS_WRITE_UNKNOWN``
    some replicas have accepted the proposal: whoever comes next completes it, or replaces it.
``READ_TIMEOUT``, ``READ_FAILURE``
    come of a write that has to read first, such as a conditional one. Cassandra reads before it
    writes, but promises nothing.
``TRUNCATE_ERROR``
    some nodes may have truncated.
``SERVER_ERROR``, and codes that aren't known
    anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import Consistency, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cqlproto_anyio._text import StatementText
    from cqlproto_anyio.exceptions import CQLError

__all__ = ["may_have_applied", "may_repeat"]

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
    """Return whether a statement that was answered by this error may have taken effect.

    Arguments:
        code: the ERROR's code.
        text: what the statement's text says.
        fields: the ERROR's fields, by name; where they aren't given the worst is assumed.
    """
    if text.reads or code in _REFUSED_BEFORE_WRITING:
        return False
    if code != ErrorCode.UNAVAILABLE:
        return True
    before_paxos = fields is not None and fields.get("consistency") in _SERIAL
    return not before_paxos and (text.several or text.conditional)


def may_repeat(error: CQLError, *, idempotent: bool, conditional: bool) -> bool:
    """Return whether a request that failed may be sent again without being applied twice.

    Whether that would help is another question, and a retry policy's to answer.

    Arguments:
        error: what failed.
        idempotent: whether the caller says that repeating the statement does no harm.
        conditional: whether the statement has an IF. Such a one is never idempotent: the second
            time its condition is met, or not, because of the first.
    """
    return not error.maybe_applied or (idempotent and not conditional)
