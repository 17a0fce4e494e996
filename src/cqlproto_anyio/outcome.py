"""Whether a failed request may have changed something, and so whether it may be sent again.

A write is only called "not applied" where the server says so by refusing it before anything is
written. Everything else may have happened: a timeout, a lost connection, a failure on one replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import ErrorCode

if TYPE_CHECKING:
    from cqlproto_anyio.cqltext import StatementText
    from cqlproto_anyio.exceptions import CQLError

__all__ = ["may_have_applied", "may_repeat"]

_REFUSED_BEFORE_WRITING = frozenset(
    {
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.BAD_CREDENTIALS,
        ErrorCode.UNAVAILABLE,
        ErrorCode.IS_BOOTSTRAPPING,
        ErrorCode.SYNTAX_ERROR,
        ErrorCode.UNAUTHORIZED,
        ErrorCode.INVALID,
        ErrorCode.CONFIG_ERROR,
        ErrorCode.ALREADY_EXISTS,
        ErrorCode.UNPREPARED,
    }
)


def may_have_applied(code: int, text: StatementText) -> bool:
    """Return whether a statement that was answered by this error may have taken effect.

    Arguments:
        code: the ERROR's code.
        text: what the statement's text says.
    """
    return not text.reads and code not in _REFUSED_BEFORE_WRITING


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
