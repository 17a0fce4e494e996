"""The kinds of ERROR that the tests provoke from a real server, and the reasons for the others.

A test names the kinds that it provokes with :func:`provokes`. test_protocol_errors.py checks that
every code is provoked or in :data:`NOT_PROVOKED`; only vectors cover the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cqlproto import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOT_PROVOKED", "PROVOKED", "provokes"]

F = TypeVar("F", bound="Callable[..., None]")

PROVOKED: dict[ErrorCode, list[str]] = {}

# What has no code of its own, and was not provoked either:
# - AUTH_CHALLENGE: PasswordAuthenticator accepts or refuses at once.
# - Write type VIEW: a table with a view, whose other replica hangs, times out as SIMPLE.
# - Write type CDC: a table with CDC fails as SIMPLE, BATCH or UNLOGGED_BATCH.
# - Write type BATCH in a timeout: the batch log waits for the same node first, so BATCH_LOG comes.
# - A custom payload in a response: Cassandra answers none to those that it is sent.
# - Rows whose columns don't share a table: one statement of Cassandra's reads one table.
NOT_PROVOKED: dict[ErrorCode, str] = {
    ErrorCode.CDC_WRITE_FAILURE: (
        "the coordinator makes WRITE_FAILURE of it where CDC has no room, on a single node too:"
        " tried with plain writes, conditions and batches of both kinds; a counter times out"
    ),
}


def provokes(*codes: ErrorCode) -> Callable[[F], F]:
    """Register that the decorated test provokes these kinds."""

    def note(test: F) -> F:
        for code in codes:
            PROVOKED.setdefault(code, []).append(test.__qualname__)
        return test

    return note
