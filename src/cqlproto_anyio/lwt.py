"""Deciding an ambiguous compare-and-set: was it applied, when nobody has said so?

A conditional statement (``IF``) that ends in a timeout or with a lost connection may have been
applied or not, and must not be sent again: the second one would find what the first one wrote, and
say "not applied". :func:`settle` asks the database instead, by a reading at SERIAL::

    try:
        mine = (await session.execute(ACQUIRE, (name, me))).applied  # INSERT .. IF NOT EXISTS
    except cql.CQLError as error:
        mine = await settle(
            session, error, "SELECT holder FROM locks WHERE name = ?", (name,),
            applied=lambda row: row is not None and row.holder == me,
        )

Such a reading completes a Paxos round that was left half done, or makes sure that it never will be:
what it finds is final, once the coordinator has given up. If it has answered, by an error, it has.
If no answer came (RequestTimeout, ConnectionLost), it may still be trying, with one ballot after
the other, after a reading that found nothing. So "no" is believed only when a reading finds nothing
that began ``grace`` seconds later; "yes" is believed at once.

What only the caller can see to:

- The row must say who wrote it: a value that no other writer uses, such as an id made for this
  operation. ``status = 'taken'`` tells that somebody won, not who.
- Another writer may have written since. If that replaces the mark, a "no" may be wrong: keep the
  mark in a column that nobody else touches, or compare a version that only grows.
- A node that is stopped for longer than ``grace`` may carry out later what it has in its queue.
"""

from __future__ import annotations

import inspect
import math
import random
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio

from cqlproto.enums import Consistency
from cqlproto_anyio._checks.values import number
from cqlproto_anyio._settings.profile import DEFAULTS, Profile, overlaid
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.exceptions import (
    CASWriteUnknown,
    ConnectionFailed,
    CQLError,
    DatabaseError,
    IsBootstrapping,
    MultipleRows,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    RequestTimeout,
    ServerError,
    ServerOverloaded,
    Unavailable,
    UsageError,
    WriteFailure,
    WriteTimeout,
)
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from cqlproto.rows import Row
    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio._statements.parameters import Parameters
    from cqlproto_anyio.executor import Executor, Target

__all__ = ["settle"]

R = TypeVar("R")

# How long a coordinator goes on with a request whose client is gone: its time limits for contended
# Paxos rounds (cas_contention_timeout, 1.8 s by default) and for the write (2 s), and some.
GRACE = 5.0

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
# Within the time for the whole there is room for so many readings that hang.
_READINGS = 3

# What may be better a moment later; anything else is a mistake in the reading.
_PASSING = (
    CASWriteUnknown,
    ConnectionFailed,
    IsBootstrapping,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    RequestTimeout,
    ServerError,
    ServerOverloaded,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)


@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: str | Prepared[Any],
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[R | None], object],
    row: Target[R],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...
@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: Prepared[R],
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[R | None], object],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...
@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: str,
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[Row | None], object],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...


async def settle(
    session: Executor,
    error: CQLError,
    query: Any,
    parameters: Any = None,
    /,
    *,
    applied: Callable[[Any], object],
    row: Any = None,
    grace: float = GRACE,
    **options: Any,
) -> bool:
    """Return whether a conditional statement was applied that ended in an error.

    An error that says that nothing was done (a mistake in the statement, a refusal, a request that
    was never sent) gives False without I/O.

    Arguments:
        session: reads; the one that executed the statement, or another on the same cluster.
        error: what the statement raised.
        query: a SELECT of the row that the statement would have changed; one row at most.
        parameters: its parameters.
        applied: takes that row, or None if there is none; returns whether it bears the caller's
            mark. Not a coroutine function.
        row: what the row becomes, as for ``session.execute``.
        grace: for how long a request that got no answer may still be carried out, in seconds from
            now. While no mark is found the row is read again until then. 0 believes the first
            reading.
        options: those that the statement had. Its serial consistency is the consistency of the
            reading (LOCAL_SERIAL settles LOCAL_SERIAL, and nothing else does), unless
            ``consistency`` is SERIAL or LOCAL_SERIAL itself. ``timeout`` is how long readings may
            fail before they are given up, in seconds, after the grace.

    Raises:
        CQLError: the very ``error`` that was given, still ambiguous, because no reading succeeded;
            a note on it says why. Or what the reading raises if it is wrong: InvalidQuery, ..
        UsageError: the statement has no condition, so that no reading can settle it; or ``query``
            is no SELECT.
        MultipleRows: the reading found several rows.
        TypeError, ConfigError: an argument is wrong.
    """
    grace = _check(error, query, applied, grace)
    given = overlaid(Profile(), options)
    profile = _profile(session, given)
    if not error.maybe_applied:
        return False
    timeout = profile.timeout
    reading: dict[str, Any] = dict(options)
    reading.pop("serial_consistency", None)
    reading["consistency"] = _level(error, profile, given)
    reading["idempotent"] = True
    if row is not None:
        reading["row"] = row
    if timeout is not None:
        reading["timeout"] = timeout / _READINGS
    if isinstance(error, DatabaseError):
        grace = 0.0
    final = anyio.current_time() + grace  # a reading that begins later than this decides
    failure: CQLError | None = None
    with anyio.move_on_after(None if timeout is None else grace + timeout):
        for attempt in count(1):
            began = anyio.current_time()
            try:
                result = await session.execute(query, parameters, **reading)
            except _PASSING as exc:
                failure = exc
            else:
                if _bears_mark(result.rows, applied):
                    return True
                if began >= final:
                    return False
            # readers that ask at the same time keep each other from an answer
            pause = backoff(_FIRST_PAUSE, attempt, _LONGEST_PAUSE)
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
    said = "no answer came" if failure is None else f"{type(failure).__name__}: {failure}"
    error.add_note(f"it could not be settled by a reading either: {said}")
    raise error from error.__cause__ or failure


def _check(error: object, query: object, applied: object, grace: object) -> float:
    """Find the mistakes that would else show on a bad day only."""
    if not isinstance(error, CQLError):
        raise TypeError(f"error is a {type(error).__name__}, not a CQLError")
    if not callable(applied) or inspect.iscoroutinefunction(applied):
        raise TypeError("applied is no plain function of the row")
    seconds = number("grace", grace, 0.0, math.inf, "a number of seconds of at least 0")
    text = query.query if isinstance(query, Prepared) else query
    if not isinstance(text, str):
        raise TypeError(f"a query is a str or what prepare() returned, not a {type(text).__name__}")
    if read_statement(text).verb != "SELECT":
        raise UsageError("settle() reads: its query is the SELECT that finds the row, not the CAS")
    failed = getattr(error, "query", None)
    if isinstance(failed, str) and failed:
        said = read_statement(failed)
        # a batch of several statements has no text that would tell
        if not said.conditional and said.verb != "BEGIN":
            raise UsageError(
                f"the statement that failed has no condition (IF), and what a {said.verb} without"
                " one wrote can't be told from what others did"
            )
    return seconds


def _profile(session: Executor, given: Profile) -> Profile:
    own = getattr(session, "profile", None)
    return overlaid(own if isinstance(own, Profile) else DEFAULTS, {"profile": given})


def _level(error: CQLError, profile: Profile, given: Profile) -> Consistency:
    """Return the level of the Paxos round: as the caller, the server, or the options say."""
    for level in (
        vars(given).get("consistency"),
        getattr(error, "consistency", None),
        profile.serial_consistency,
    ):
        if isinstance(level, Consistency) and level.is_serial:
            return level
    return Consistency.SERIAL


def _bears_mark(rows: list[Any], applied: Callable[[Any], object]) -> bool:
    if len(rows) > 1:
        raise MultipleRows(f"the row that tells was asked for, there are {len(rows)}")
    verdict = applied(rows[0] if rows else None)
    if inspect.isawaitable(verdict):
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise TypeError("applied returned an awaitable, which is always true")
    return bool(verdict)
