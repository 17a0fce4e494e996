"""Which kinds of ERROR the tests provoke from a real server, and why some can't be.

A test names what it provokes by :func:`provokes`; test_protocol_errors.py checks that every code
is either provoked or in :data:`NOT_PROVOKED`, whose kinds rest on the vectors alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cqlproto import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOT_PROVOKED", "PROVOKED", "provokes"]

F = TypeVar("F", bound="Callable[..., None]")

PROVOKED: dict[ErrorCode, list[str]] = {}

# Also not provoked, as no code of their own: AUTH_CHALLENGE, which no authenticator of Cassandra's
# sends; write types VIEW (the base replica raises it where it has the view's lock, and its
# coordinator reports SIMPLE), CDC (defined, never used) and BATCH in a timeout (the batch log waits
# for the same nodes first, so it says BATCH_LOG; a WRITE_FAILURE says BATCH); a custom payload in a
# response (the handler that Cassandra comes with ignores payloads).
NOT_PROVOKED: dict[ErrorCode, str] = {
    ErrorCode.CDC_WRITE_FAILURE: (
        "a replica without room for CDC fails the write, and its coordinator makes WRITE_FAILURE"
        " of it, on one node too: tried with plain writes, conditions, batches of both kinds;"
        " a counter times out"
    ),
}


def provokes(*codes: ErrorCode) -> Callable[[F], F]:
    """Note that a test provokes these kinds."""

    def note(test: F) -> F:
        for code in codes:
            PROVOKED.setdefault(code, []).append(test.__qualname__)
        return test

    return note
