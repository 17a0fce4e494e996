"""Log records of the control connection, which has no caller to raise errors to."""

from __future__ import annotations

import logging
from contextlib import suppress

from cqlproto_anyio.exceptions import CQLError

__all__ = ["log"]

logger = logging.getLogger("cqlproto_anyio")


def log(level: int, text: str, error: BaseException | None = None) -> None:
    """Log a text and an error; never raises.

    Arguments:
        level: the level of the record. An error that is no :class:`CQLError` is a bug in cqlproto
            or in a function of the user's: it is logged as a warning, with its traceback.
        text: the message.
        error: what has failed, or None.
    """
    with suppress(BaseException):  # a filter or handler of the program may raise
        if error is None:
            logger.log(level, "%s", text)
        elif isinstance(error, CQLError):
            logger.log(level, "%s: %s", text, error)
        else:
            logger.warning("%s", text, exc_info=error)
